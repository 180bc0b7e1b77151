/* Partitioning: MIG mode, instances made and destroyed, as a driver does it. What is made stands in
 * the scenario file, so that it outlives the process, as it does in a GPU. */
#define _GNU_SOURCE
#include "double.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16, HOPPER = 9, TEXT = 8192 };
struct placement { u32 start, size; };

/* ---- the file ---- */
typedef int (*drops)(char *line, void *what);

/* Lock held: write the scenario without the lines that `drop` names, and with `added`. */
static void rewrite(drops drop, void *what, const char *added) {
    char path[4200], aside[4200], *line = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/nvml-scenario", scenario_folder());
    snprintf(aside, sizeof aside, "%s/.nvml-scenario.%d", scenario_folder(), (int)getpid());
    FILE *from = fopen(path, "re"), *to = fopen(aside, "we");
    if (!from || !to) broken("cannot rewrite", path);
    while (getline(&line, &size, from) > 0)
        if (!drop || !drop(line, what)) fputs(line, to);
    fputs(added, to);
    free(line);
    fclose(from);
    if (fclose(to) || rename(aside, path)) broken("cannot rewrite", path);
    scenario_refresh();
}

struct key { const char *word; int gpu; unsigned gi, ci; };

static unsigned in_line(const char *line, const char *key) {
    const char *at = strstr(line, key);
    return at ? (unsigned)strtoul(at + strlen(key), NULL, 0) : ~0u;
}

static int is_line_of(char *line, void *what) {
    const struct key *key = what;
    size_t n = strlen(key->word);
    return !strncmp(line, key->word, n) && line[n] == ' ' &&
           in_line(line, " gpu=") == (unsigned)key->gpu && in_line(line, " gi=") == key->gi &&
           (key->ci == ~0u || in_line(line, " ci=") == key->ci);
}

/* ---- what there is ---- */
static const struct record *with(enum kind kind, int gpu, const char *key, u64 value) {
    for (const struct record *r = NULL; (r = next_record(r, kind, gpu));)
        if (must(r, key) == value) return r;
    return NULL;
}

static const struct record *profile_of(int gpu, unsigned id) {
    return with(GI_PROFILE, gpu, "id", id);
}

static int instances(int gpu, u32 *out) {
    int count = 0;
    const enum kind kinds[] = {INSTANCE, MIG};
    for (int k = 0; k < 2; k++)
        for (const struct record *r = NULL; (r = next_record(r, kinds[k], gpu));) {
            u32 gi = (u32)must(r, "gi");
            int known = 0;
            for (int i = 0; i < count; i++) known |= out[i] == gi;
            if (!known && count < MOST) out[count++] = gi;
        }
    return count;
}

static int overlaps(int gpu, u64 start, u64 size) {
    u32 all[MOST];
    int count = instances(gpu, all);
    for (int i = 0; i < count; i++) {
        const struct record *r = instance_record(gpu, all[i]);
        u64 from = must(r, "start"), to = from + must(r, "size");
        if (from < start + size && start < to) return 1;
    }
    return 0;
}

static int made_of(int gpu, unsigned profile) {
    u32 all[MOST];
    int count = instances(gpu, all), found = 0;
    for (int i = 0; i < count; i++)
        found += must(instance_record(gpu, all[i]), "gi_profile") == profile;
    return found;
}

static int starts_of(const struct record *profile, u32 *out) {
    const char *at = text(profile, "starts");
    int count = 0;
    if (!at) broken("a profile has no starts", text(profile, "name"));
    for (char *end; *at && count < MOST; at = *end ? end + 1 : end)
        out[count++] = (u32)strtoul(at, &end, 10);
    return count;
}

static int is_busy(int gpu, int gi) {
    for (const struct record *r = NULL; (r = next_record(r, PROCESS, gpu));) {
        u64 in;
        if (gi < 0 || (number(r, "gi", &in) && (int)in == gi)) return 1;
    }
    return 0;
}

static int mig_is_on(const struct call *c) {
    u64 current = 0;
    number(c->gpu_record, "mig_current", &current);
    return current == 1;
}

/* ---- mode ---- */
static void replace_digit(char *line, const char *key, int value) {
    char *at = strstr(line, key);
    if (at && value >= 0) at[strlen(key)] = (char)('0' + value);
}

struct mode { int gpu, current, pending; };

/* Changes the GPU's own line on its way, and drops none. */
static int change_mode(char *line, void *what) {
    const struct mode *mode = what;
    if (!strncmp(line, "gpu ", 4) && in_line(line, " gpu=") == (unsigned)mode->gpu) {
        replace_digit(line, " mig_current=", mode->current);
        replace_digit(line, " mig_pending=", mode->pending);
    }
    return 0;
}

static void set_mode(int gpu, int current, int pending) {
    struct mode mode = {gpu, current, pending};
    rewrite(change_mode, &mode, "");
}

API int nvmlDeviceSetMigMode(struct handle *h, unsigned mode, u32 *activation) {
    struct call c;
    u64 current, architecture = 0;
    u32 all[MOST];
    int code = enter(__func__, h, A_GPU, &c);
    if (code) return code;
    if (mode > 1 || !activation) return leave(INVALID_ARGUMENT);
    if (!number(c.record, "mig_current", &current)) return leave(NOT_SUPPORTED);
    number(c.record, "architecture", &architecture);
    int needs_reset = architecture < HOPPER && current != mode;
    int busy = is_busy(c.gpu, -1) || (!mode && instances(c.gpu, all));
    *activation = current == mode ? OK : busy ? IN_USE : needs_reset ? RESET_REQUIRED : OK;
    set_mode(c.gpu, *activation == OK ? (int)mode : -1, (int)mode);
    return leave(OK); /* also where it was not activated: the verdict is `activation` */
}

/* ---- what /proc says of the nodes of instances, where a test has made nvml-capabilities ---- */
static int capability(char *out, size_t size, const struct call *c, u64 gi, int ci) {
    u64 minor = 0;
    char inner[32] = "";
    if (!number(c->gpu_record, "minor", &minor)) return 0;
    if (ci >= 0) snprintf(inner, sizeof inner, "/ci%d", ci);
    int n = snprintf(out, size, "%s/nvml-capabilities/gpu%u/mig/gi%u%s", scenario_folder(),
                     (unsigned)minor, (unsigned)gi, inner);
    return n > 0 && (size_t)n < size;
}

/* The numbers are those of the documented table. */
static void capability_appears(const struct call *c, u64 gi, int ci) {
    char folder[4400], path[4500], modify[4300];
    u64 minor = 0;
    snprintf(modify, sizeof modify, "%s/nvml-capabilities/modify", scenario_folder());
    FILE *said = fopen(modify, "re");
    if (!said) return;
    int may = fgetc(said) == '1';
    fclose(said);
    if (!capability(folder, sizeof folder, c, gi, ci)) return;
    for (char *at = folder + strlen(scenario_folder()); (at = strchr(at + 1, '/'));) {
        *at = 0;
        mkdir(folder, 0755);
        *at = '/';
    }
    mkdir(folder, 0755);
    number(c->gpu_record, "minor", &minor);
    snprintf(path, sizeof path, "%s/access", folder);
    FILE *file = fopen(path, "we");
    if (!file) broken("cannot write", path);
    fprintf(file, "DeviceFileMinor: %u\nDeviceFileMode: 292\nDeviceFileModify: %d\n",
            (unsigned)(3 + 135 * minor + 9 * gi + (u64)(ci + 1)), may);
    fclose(file);
}

static void capability_goes(const struct call *c, u64 gi, int ci) {
    char folder[4400], path[4500];
    if (!capability(folder, sizeof folder, c, gi, ci)) return;
    snprintf(path, sizeof path, "%s/access", folder);
    unlink(path);
    rmdir(folder);
}

/* ---- instances ---- */
API int nvmlDeviceGetGpuInstancePossiblePlacements_v2(struct handle *h, unsigned id,
                                                      struct placement *out, u32 *count) {
    struct call c;
    u32 starts[MOST];
    int code = enter(__func__, h, A_GPU, &c);
    if (code) return code;
    const struct record *profile = profile_of(c.gpu, id);
    if (!profile || !count) return leave(INVALID_ARGUMENT);
    int found = starts_of(profile, starts);
    if (out && *count < (u32)found) return leave(INSUFFICIENT_SIZE);
    for (int i = 0; out && i < found; i++)
        out[i] = (struct placement){starts[i], (u32)must(profile, "size")};
    *count = (u32)found;
    return leave(OK);
}

API int nvmlDeviceGetGpuInstanceRemainingCapacity(struct handle *h, unsigned id, u32 *out) {
    struct call c;
    u32 starts[MOST];
    u64 taken = 0;
    int code = enter(__func__, h, A_GPU, &c);
    if (code) return code;
    const struct record *profile = profile_of(c.gpu, id);
    if (!profile || !out) return leave(INVALID_ARGUMENT);
    if (!mig_is_on(&c)) return leave(NOT_SUPPORTED);
    u64 size = must(profile, "size"), mask = (1u << size) - 1;
    int left = (int)must(profile, "instances") - made_of(c.gpu, id), found = 0;
    int count = starts_of(profile, starts);
    for (int i = 0; i < count; i++)
        if (!overlaps(c.gpu, starts[i], size) && !(taken & (mask << starts[i]))) {
            taken |= mask << starts[i];
            found++;
        }
    *out = (u32)(found < left ? found : left > 0 ? left : 0);
    return leave(OK);
}

API int nvmlDeviceGetGpuInstances(struct handle *h, unsigned id, struct handle **out, u32 *count) {
    struct call c;
    u32 all[MOST];
    int code = enter(__func__, h, A_GPU, &c), found = 0;
    if (code) return code;
    if (!mig_is_on(&c)) return leave(NOT_SUPPORTED);
    if (!profile_of(c.gpu, id) || !out || !count) return leave(INVALID_ARGUMENT);
    int total = instances(c.gpu, all);
    for (int i = 0; i < total; i++)
        if (must(instance_record(c.gpu, all[i]), "gi_profile") == id)
            out[found++] = handle_for(AN_INSTANCE, text(c.record, "uuid"), c.gpu, all[i], 0);
    *count = (u32)found;
    return leave(OK);
}

static u32 free_number(int gpu, u64 slices) {
    static const u32 first[] = {0, 7, 3, 1, 1, 0, 0, 0}; /* by slices, as drivers number them */
    u32 gi = first[slices % 8];
    while (instance_record(gpu, gi)) gi++;
    return gi;
}

static int create(const char *fn, struct handle *h, unsigned id, const struct placement *at,
                  struct handle **out) {
    struct call c;
    char line[256];
    u32 starts[MOST];
    int code = enter(fn, h, A_GPU, &c), valid = 0;
    if (code) return code;
    const struct record *profile = profile_of(c.gpu, id);
    if (!mig_is_on(&c)) return leave(NOT_SUPPORTED);
    if (!profile || !out) return leave(INVALID_ARGUMENT);
    u64 size = must(profile, "size"), start = ~0ull;
    int count = starts_of(profile, starts);
    for (int i = 0; i < count; i++) {
        valid |= at && at->start == starts[i] && at->size == size;
        if (!at && start == ~0ull && !overlaps(c.gpu, starts[i], size)) start = starts[i];
    }
    if (at && !valid) return leave(INVALID_ARGUMENT);
    if (at && !overlaps(c.gpu, at->start, size)) start = at->start;
    if (start == ~0ull || made_of(c.gpu, id) >= (int)must(profile, "instances"))
        return leave(INSUFFICIENT_RESOURCES);
    u32 gi = free_number(c.gpu, must(profile, "slices"));
    snprintf(line, sizeof line, "instance gpu=%d gi=%u gi_profile=%u start=%u size=%u\n", c.gpu, gi,
             id, (u32)start, (u32)size);
    capability_appears(&c, gi, -1);
    rewrite(NULL, NULL, line);
    *out = handle_for(AN_INSTANCE, h->uuid, c.gpu, gi, 0);
    return leave(OK);
}
API int nvmlDeviceCreateGpuInstance(struct handle *h, unsigned id, struct handle **out) {
    return create(__func__, h, id, NULL, out);
}
API int nvmlDeviceCreateGpuInstanceWithPlacement(struct handle *h, unsigned id,
                                                 const struct placement *at, struct handle **out) {
    return at ? create(__func__, h, id, at, out) : INVALID_ARGUMENT;
}

API int nvmlGpuInstanceDestroy(struct handle *h) {
    struct call c;
    int code = enter(__func__, h, AN_INSTANCE, &c);
    if (code) return code;
    if (is_busy(c.gpu, (int)h->gi)) return leave(IN_USE);
    for (const struct record *r = NULL; (r = next_record(r, MIG, c.gpu));)
        if (must(r, "gi") == h->gi) return leave(IN_USE); /* compute instances are left */
    struct key key = {"instance", c.gpu, h->gi, ~0u};
    capability_goes(&c, h->gi, -1);
    rewrite(is_line_of, &key, "");
    return leave(OK);
}

/* ---- compute instances ---- */
API int nvmlGpuInstanceGetComputeInstances(struct handle *h, unsigned id, struct handle **out,
                                           u32 *count) {
    struct call c;
    int code = enter(__func__, h, AN_INSTANCE, &c), found = 0;
    if (code) return code;
    if (!out || !count) return leave(INVALID_ARGUMENT);
    for (const struct record *r = NULL; (r = next_record(r, MIG, c.gpu));)
        if (must(r, "gi") == h->gi && must(r, "ci_profile") == id)
            out[found++] = handle_for(A_COMPUTE_INSTANCE, h->uuid, c.gpu, h->gi,
                                      (unsigned)must(r, "ci"));
    *count = (u32)found;
    return leave(OK);
}

/* The lowest number below the most that no MIG record of the GPU (and instance) has. */
static u32 lowest(int gpu, const char *key, u64 gi) {
    for (u32 n = 0;; n++) {
        int used = 0;
        for (const struct record *r = NULL; (r = next_record(r, MIG, gpu));)
            used |= must(r, key) == n && (gi == ~0ull || must(r, "gi") == gi);
        if (!used) return n;
    }
}

static u64 slices_used(int gpu, u64 gi) {
    u64 used = 0;
    for (const struct record *r = NULL; (r = next_record(r, MIG, gpu));)
        if (must(r, "gi") == gi) used += must(r, "ci_size");
    return used;
}

static const char *const shared[] = {"sms", "copy", "decoder", "encoder", "jpeg", "ofa"};

static void mig_line(char *out, size_t size, const struct call *c, const struct record *profile,
                     const struct handle *h) {
    struct timespec t;
    u32 ci = lowest(c->gpu, "ci", h->gi), slot = lowest(c->gpu, "slot", ~0ull);
    const struct record *gi = profile_of(c->gpu, (unsigned)must(c->record, "gi_profile"));
    u64 slices = must(profile, "slices"), used = slices_used(c->gpu, h->gi);
    clock_gettime(CLOCK_REALTIME, &t); /* a new one at each making, as drivers give it */
    int n = snprintf(out, size,
                     "mig gpu=%d slot=%u uuid=MIG-%x%x000000-0000-4000-8000-%012llx gi=%u gi_profile=%u"
                     " start=%u size=%u ci=%u ci_profile=%u ci_start=%u ci_size=%u gi_slices=%u"
                     " ci_slices=%u memory_mb=%u memory_used_bytes=0 name=\"%s %s\"",
                     c->gpu, slot, c->gpu & 0xf, slot & 0xf,
                     ((unsigned long long)t.tv_sec << 20 ^ (unsigned long long)t.tv_nsec) & 0xffffffffffffull,
                     h->gi, (u32)must(c->record, "gi_profile"), (u32)must(c->record, "start"),
                     (u32)must(c->record, "size"), ci, (u32)must(profile, "id"), (u32)used,
                     (u32)slices, (u32)must(gi, "slices"), (u32)slices, (u32)must(gi, "memory_mb"),
                     text(c->gpu_record, "name") ? text(c->gpu_record, "name") : "", text(profile, "name"));
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        n += snprintf(out + n, size - (size_t)n, " %s=%u", shared[i], (u32)must(profile, shared[i]));
    snprintf(out + n, size - (size_t)n, "\n");
}

API int nvmlGpuInstanceCreateComputeInstance(struct handle *h, unsigned id, struct handle **out) {
    struct call c;
    char line[TEXT];
    const struct record *profile = NULL;
    int code = enter(__func__, h, AN_INSTANCE, &c);
    if (code) return code;
    u64 gi_profile = must(c.record, "gi_profile");
    while ((profile = next_record(profile, CI_PROFILE, c.gpu)))
        if (must(profile, "gi_profile") == gi_profile && must(profile, "id") == id) break;
    if (!profile || !out) return leave(INVALID_ARGUMENT);
    u64 all = must(profile_of(c.gpu, (unsigned)gi_profile), "slices");
    if (slices_used(c.gpu, h->gi) + must(profile, "slices") > all)
        return leave(INSUFFICIENT_RESOURCES);
    u32 ci = lowest(c.gpu, "ci", h->gi);
    mig_line(line, sizeof line, &c, profile, h);
    capability_appears(&c, h->gi, (int)ci);
    rewrite(NULL, NULL, line);
    *out = handle_for(A_COMPUTE_INSTANCE, h->uuid, c.gpu, h->gi, ci);
    return leave(OK);
}

API int nvmlComputeInstanceDestroy(struct handle *h) {
    struct call c;
    char line[256] = "";
    int code = enter(__func__, h, A_COMPUTE_INSTANCE, &c);
    if (code) return code;
    if (is_busy(c.gpu, (int)h->gi)) return leave(IN_USE);
    if (!with(INSTANCE, c.gpu, "gi", h->gi)) /* one that the scenario was written with */
        snprintf(line, sizeof line, "instance gpu=%d gi=%u gi_profile=%u start=%u size=%u\n", c.gpu,
                 h->gi, (u32)must(c.record, "gi_profile"), (u32)must(c.record, "start"),
                 (u32)must(c.record, "size"));
    struct key key = {"mig", c.gpu, h->gi, h->ci};
    capability_goes(&c, h->gi, (int)h->ci);
    rewrite(is_line_of, &key, line);
    return leave(OK);
}
