/* Reads the file `nvml-scenario` beside this library, again whenever it was replaced. */
#define _GNU_SOURCE
#include "double.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/* Keyword, whether it names one GPU, and the keys it may have; `!` marks those it must have. */
static const struct { const char *word; int per_gpu; const char *keys; } grammar[KINDS] = {
    [SYSTEM] = {"system", 0, " driver nvml cuda init confidential devtools "},
    [GPU] = {"gpu", 1,
             " uuid! name minor pci_domain pci_bus pci_device pci_device_id pci_subsystem_id serial board_id memory_total_bytes"
             " memory_used_bytes memory_reserved_bytes compute_major compute_minor architecture mig_current"
             " mig_pending mig_max event_types ecc_current ecc_pending retired_single"
             " retired_double retired_pending clocks_event_reasons temperature_c power_usage_mw"
             " power_limit_mw energy_mj utilization_gpu_percent utilization_memory_percent"
             " clock_graphics_mhz clock_sm_mhz clock_mem_mhz clock_video_mhz"
             " max_clock_graphics_mhz max_clock_sm_mhz max_clock_mem_mhz max_clock_video_mhz memory_bus_bits"
             " fan_speed_percent pcie_replays pcie_gen pcie_width max_pcie_gen max_pcie_width"
             " virtualization persistence compute_mode pstate licensed encoder_percent decoder_percent"
             " jpeg_percent ofa_percent shutdown_c slowdown_c memory_max_c "},
    [NVLINK] = {"nvlink", 1, " link! state! remote remote_type version "},
    [TOPOLOGY] = {"topology", 1, " peer! level! "},
    [FIELD] = {"field", 1, " id! scope value type code "},
    [ECC] = {"ecc", 1, " type! counter! location value! "},
    [REMAPPED] = {"remapped", 1, " corrected! uncorrected! pending! failure! "},
    [HISTOGRAM] = {"histogram", 1, " max! high! partial! low! none! "},
    [SRAM] = {"sram", 1, " aggregate_uncorrected! aggregate_corrected! volatile_uncorrected!"
                         " volatile_corrected! threshold_exceeded! "},
    [FABRIC] = {"fabric", 1, " cluster! status! clique! state! health_mask! health_summary! "},
    [PROCESS] = {"process", 1, " pid! memory! gi ci sm graphics "},
    [GPM] = {"gpm", 1, " metric! value! gi "},
    [GI_PROFILE] = {"gi_profile", 1, " index! id! p2p! slices! instances! sms! copy! decoder!"
                                     " encoder! jpeg! ofa! memory_mb! name! size starts "},
    [CI_PROFILE] = {"ci_profile", 1, " gi_profile! index! engine! id! slices! instances! sms! copy!"
                                     " decoder! encoder! jpeg! ofa! name! "},
    [MIG] = {"mig", 1, " slot! uuid! name gi! gi_profile! start! size! ci! ci_profile! ci_start!"
                       " ci_size! gi_slices! ci_slices! sms! copy! decoder! encoder! jpeg! ofa!"
                       " memory_mb! memory_used_bytes "},
    [INSTANCE] = {"instance", 1, " gi! gi_profile! start! size! "},
    [FAULT_ERROR] = {"error", 0, " gpu function! except code! "},
    [FAULT_HANG] = {"hang", 0, " gpu function! except "},
    [FAULT_SLOW] = {"slow", 0, " gpu function! except ms! "},
    [FAULT_CRASH] = {"crash", 0, " gpu function! except how! "},
    [LIE] = {"lie", 0, " gpu function! except bytes number "},
};

static struct { char *text; struct record *records; int count, capacity; struct stat stat; } now;
static char folder[4096];

_Noreturn void broken(const char *why, const char *what) {
    fprintf(stderr, "nvml double: %s: %s\n", why, what);
    abort();
}

const char *scenario_folder(void) {
    Dl_info info;
    if (folder[0]) return folder;
    if (!dladdr((void *)&now, &info)) broken("cannot find my own file", "dladdr");
    char *copy = strdup(info.dli_fname);
    char *slash = strrchr(copy, '/');
    if (slash) *slash = 0;
    if (!realpath(slash ? (*copy ? copy : "/") : ".", folder)) broken("no folder", copy);
    free(copy);
    return folder;
}

const char *text(const struct record *r, const char *key) {
    for (int i = 0; i < r->pairs; i++)
        if (!strcmp(r->pair[2 * i], key)) return r->pair[2 * i + 1];
    return NULL;
}

static u64 parse_number(const char *value) {
    char *end;
    errno = 0;
    u64 n = strtoull(value, &end, 0);
    if (errno || end == value || *end) broken("not a number", value);
    return n;
}

int number(const struct record *r, const char *key, u64 *out) {
    const char *value = text(r, key);
    if (!value) return 0;
    *out = parse_number(value);
    return 1;
}

u64 must(const struct record *r, const char *key) {
    u64 n;
    if (!number(r, key, &n)) broken("missing key", key);
    return n;
}

void copy_text(char *out, size_t size, const char *value) {
    if (size) snprintf(out, size, "%s", value);
}

/* Is `key` one of the words of `keys`? A word may end in `!`. */
static int listed(const char *keys, const char *key) {
    size_t n = strlen(key);
    for (const char *at = keys; (at = strstr(at, key)); at += n)
        if (at[-1] == ' ' && (at[n] == ' ' || at[n] == '!')) return 1;
    return 0;
}

static void check_required(const struct record *r, const char *line) {
    char key[64];
    for (const char *at = grammar[r->kind].keys; (at = strchr(at, '!')); at++) {
        const char *start = at;
        while (start[-1] != ' ') start--;
        snprintf(key, sizeof key, "%.*s", (int)(at - start), start);
        if (!text(r, key)) broken("missing key", line);
    }
}

static char *take_value(char **cursor, const char *line) {
    char *value = *cursor, stop = ' ';
    if (*value == '"') { value++; stop = '"'; }
    char *end = strchr(value, stop);
    if (!end && stop == '"') broken("unclosed quote", line);
    if (!end) { *cursor = value + strlen(value); return value; }
    *end = 0;
    *cursor = end + 1;
    return value;
}

static void add_pair(struct record *r, const char *key, const char *value) {
    if (r->pairs == r->capacity) {
        r->capacity = r->capacity ? 2 * r->capacity : 16;
        r->pair = realloc(r->pair, 2 * sizeof *r->pair * (size_t)r->capacity);
    }
    r->pair[2 * r->pairs] = key;
    r->pair[2 * r->pairs++ + 1] = value;
}

static void parse_pairs(struct record *r, char *cursor, const char *line) {
    while (*(cursor += strspn(cursor, " "))) {
        char *key = cursor, *equals = strchr(key, '=');
        if (!equals || equals == key) broken("not key=value", line);
        *equals = 0;
        cursor = equals + 1;
        char *value = take_value(&cursor, line);
        if (!strcmp(key, "gpu")) r->gpu = strcmp(value, "*") ? (int)parse_number(value) : ANY_GPU;
        else if (!listed(grammar[r->kind].keys, key)) broken("unknown key in", line);
        add_pair(r, key, value);
    }
}

static enum kind parse_kind(const char *word, const char *line) {
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(grammar[i].word, word)) return (enum kind)i;
    broken("unknown keyword in", line);
}

static void parse_line(char *line) {
    char *original = strdup(line), *rest = strchr(line, ' ');
    if (now.count == now.capacity) {
        now.capacity = now.capacity ? 2 * now.capacity : 256;
        now.records = realloc(now.records, sizeof *now.records * (size_t)now.capacity);
    }
    struct record *r = &now.records[now.count++];
    *r = (struct record){.gpu = ANY_GPU};
    if (rest) *rest++ = 0;
    r->kind = parse_kind(line, original);
    if (rest) parse_pairs(r, rest, original);
    if (grammar[r->kind].per_gpu && r->gpu == ANY_GPU) broken("needs one gpu=", original);
    check_required(r, original);
    free(original);
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "re");
    char *data = NULL;
    size_t size = 0;
    if (!file || fstat(fileno(file), &now.stat)) broken("cannot read", path);
    if (getdelim(&data, &size, 0, file) < 0) { free(data); data = strdup(""); }
    fclose(file);
    return data;
}

static void forget(void) {
    for (int i = 0; i < now.count; i++) free(now.records[i].pair);
    free(now.text);
    now.text = NULL;
    now.count = 0;
}

static int unchanged(const struct stat *s) {
    return now.text && s->st_ino == now.stat.st_ino && s->st_size == now.stat.st_size &&
           s->st_mtim.tv_sec == now.stat.st_mtim.tv_sec &&
           s->st_mtim.tv_nsec == now.stat.st_mtim.tv_nsec;
}

void scenario_refresh(void) {
    char path[4200], *save = NULL;
    struct stat s;
    snprintf(path, sizeof path, "%s/nvml-scenario", scenario_folder());
    if (stat(path, &s)) broken("no scenario", path);
    if (unchanged(&s)) return;
    forget();
    now.text = read_file(path);
    for (char *line = strtok_r(now.text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (*line != '#') parse_line(line);
}

const struct record *next_record(const struct record *previous, enum kind kind, int gpu) {
    const struct record *end = now.records + now.count;
    for (const struct record *r = previous ? previous + 1 : now.records; r < end; r++)
        if (r->kind == kind && (gpu == ANY_GPU || r->gpu == gpu)) return r;
    return NULL;
}

const struct record *gpu_at(unsigned index) {
    const struct record *r = NULL;
    while ((r = next_record(r, GPU, ANY_GPU)) && index--) continue;
    return r;
}

int index_of_gpu(int gpu) {
    int index = 0;
    for (const struct record *r = NULL; (r = next_record(r, GPU, ANY_GPU)); index++)
        if (r->gpu == gpu) return index;
    return -1;
}
