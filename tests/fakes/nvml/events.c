/* Event sets: lines appended to `nvml-events` beside this library, from registration on. */
#define _GNU_SOURCE
#include "double.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

struct registration { struct handle *device; int gpu; u64 types; long from; };
struct event_set {
    int freed; /* the memory stays, so that a wait in another thread ends in peace */
    long cursor;
    int count;
    struct registration *registrations;
    struct event_set *next;
};
struct event { struct handle *device; u64 type, data; u32 gi, ci; };

static struct event_set *sets;

static FILE *open_events(void) {
    char path[4200];
    snprintf(path, sizeof path, "%s/nvml-events", scenario_folder());
    return fopen(path, "re");
}

static long end_of_events(void) {
    FILE *file = open_events();
    if (!file) return 0;
    fseek(file, 0, SEEK_END);
    long end = ftell(file);
    fclose(file);
    return end;
}

static int alive(const struct event_set *set) {
    for (const struct event_set *each = sets; each; each = each->next)
        if (each == set) return !set->freed;
    return 0;
}

API int nvmlEventSetCreate(struct event_set **out) {
    int code = enter_system(__func__);
    if (code) return code;
    if (!out) return leave(INVALID_ARGUMENT);
    struct event_set *set = calloc(1, sizeof *set);
    set->cursor = end_of_events();
    set->next = sets;
    *out = sets = set;
    return leave(OK);
}

API int nvmlEventSetFree(struct event_set *set) {
    int code = enter_system(__func__);
    if (code) return code;
    if (!alive(set)) return leave(INVALID_ARGUMENT);
    set->freed = 1;
    return leave(OK);
}

API int nvmlDeviceRegisterEvents(struct handle *h, u64 types, struct event_set *set) {
    struct call c;
    u64 supported;
    int code = enter(__func__, h, A_GPU, &c);
    if (code) return code;
    if (!alive(set)) return leave(INVALID_ARGUMENT);
    if (!number(c.record, "event_types", &supported)) return leave(NOT_SUPPORTED);
    if (types & ~supported) return leave(NOT_SUPPORTED);
    size_t size = sizeof *set->registrations * (size_t)(set->count + 1);
    set->registrations = realloc(set->registrations, size);
    set->registrations[set->count++] = (struct registration){h, c.gpu, types, end_of_events()};
    return leave(OK);
}

/* `<seq> gpu=3 type=0x8 data=79 gi=1 ci=0`; 0 while the line is still being written. */
static int parse_event(const char *line, int *gpu, struct event *out) {
    char type[32], gi[32], ci[32];
    unsigned long long seq, data;
    if (!strchr(line, '\n')) return 0;
    if (sscanf(line, "%llu gpu=%d type=%31s data=%llu gi=%31s ci=%31s", &seq, gpu, type, &data, gi,
               ci) != 6)
        broken("malformed event", line);
    *out = (struct event){NULL, strtoull(type, NULL, 0), data, (u32)strtoul(gi, NULL, 0),
                          (u32)strtoul(ci, NULL, 0)};
    return 1;
}

static struct handle *interested(const struct event_set *set, int gpu, u64 type, long at) {
    for (int i = 0; i < set->count; i++) {
        const struct registration *r = &set->registrations[i];
        if (r->gpu == gpu && (r->types & type) && at >= r->from) return r->device;
    }
    return NULL;
}

/* Lock held. 1 and *out: the next event that this set asked for. */
static int next_event(struct event_set *set, struct event *out) {
    char line[256];
    int gpu;
    FILE *file = open_events();
    if (!file) return 0;
    fseek(file, set->cursor, SEEK_SET);
    while (fgets(line, sizeof line, file) && parse_event(line, &gpu, out)) {
        long at = set->cursor;
        set->cursor = ftell(file);
        if ((out->device = interested(set, gpu, out->type, at))) break;
    }
    fclose(file);
    return out->device != NULL;
}

static u64 now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static int wait_event(const char *fn, struct event_set *set, struct event *out, unsigned timeout) {
    u64 deadline = now_ms() + timeout;
    for (;;) {
        int code = enter_system(fn);
        if (code) return code;
        if (!alive(set)) return leave(INVALID_ARGUMENT);
        *out = (struct event){0};
        if (lie_of(fn, ANY_GPU) && set->count) { /* an event at once, of no GPU that was registered */
            *out = (struct event){(struct handle *)lie_number(fn, ANY_GPU, 0), 0x8, 79, 0, 0};
            return leave(OK);
        }
        if (next_event(set, out)) return leave(OK);
        unlock();
        if (now_ms() >= deadline) return TIMEOUT;
        pause_ms(10);
    }
}

API int nvmlEventSetWait_v2(struct event_set *set, struct event *out, unsigned timeout) {
    struct event event;
    if (!out) return INVALID_ARGUMENT;
    int code = wait_event(__func__, set, &event, timeout);
    if (!code) *out = event;
    return code;
}

/* The first form knows no instances: it writes device, type and data. */
API int nvmlEventSetWait(struct event_set *set, void *out, unsigned timeout) {
    struct event event;
    if (!out) return INVALID_ARGUMENT;
    int code = wait_event(__func__, set, &event, timeout);
    if (!code) memcpy(out, &event, offsetof(struct event, gi));
    return code;
}

/* Driver bind and unbind events: as on drivers that lack them. */
static int unsupported(const char *fn) {
    int code = enter_system(fn);
    return code ? code : leave(NOT_SUPPORTED);
}
API int nvmlSystemEventSetCreate(void *request) { return (void)request, unsupported(__func__); }
API int nvmlSystemEventSetFree(void *request) { return (void)request, unsupported(__func__); }
API int nvmlSystemRegisterEvents(void *request) { return (void)request, unsupported(__func__); }
API int nvmlSystemEventSetWait(void *request) { return (void)request, unsupported(__func__); }
