/* The way into every call: initialisation, stable handles, injected faults, one lock. */
#define _GNU_SOURCE
#include "double.h"

#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct handle *handles; /* never freed: a caller may keep one as long as it likes */
static int references;

void lock(void) { pthread_mutex_lock(&mutex); }
void unlock(void) { pthread_mutex_unlock(&mutex); }

void pause_ms(unsigned ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000L};
    while (nanosleep(&t, &t)) continue;
}

int leave(int code) {
    unlock();
    return code;
}

int require_init(int change) {
    int before = references;
    if (before + change >= 0) references += change;
    return before;
}

/* Does the pattern name the function, with or without its `_v2`? */
static int names(const char *pattern, const char *function) {
    char bare[128];
    if (!pattern) return 0;
    if (!fnmatch(pattern, function, 0)) return 1;
    copy_text(bare, sizeof bare, function);
    char *suffix = strrchr(bare, '_');
    if (!suffix || suffix[1] != 'v') return 0;
    *suffix = 0;
    return !fnmatch(pattern, bare, 0);
}

static const struct record *fault(enum kind kind, const char *function, int gpu) {
    for (const struct record *r = NULL; (r = next_record(r, kind, ANY_GPU));)
        if ((r->gpu == ANY_GPU || r->gpu == gpu) && names(text(r, "function"), function) &&
            !names(text(r, "except"), function))
            return r;
    return NULL;
}

int fault_of(const char *function, int gpu) {
    const struct record *r = fault(FAULT_ERROR, function, gpu);
    return r ? (int)must(r, "code") : OK;
}

/* The process ends here, as it does in a library that is broken. */
static void crash_out(const char *function, int gpu) {
    const struct record *r = fault(FAULT_CRASH, function, gpu);
    if (!r) return;
    if (!strcmp(text(r, "how"), "segv")) raise(SIGSEGV);
    if (!strcmp(text(r, "how"), "abort")) abort();
    if (!strcmp(text(r, "how"), "exit")) _exit(7);
    broken("no such crash", text(r, "how"));
}

const struct record *lie_of(const char *function, int gpu) { return fault(LIE, function, gpu); }

u64 lie_number(const char *function, int gpu, u64 truth) {
    const struct record *r = lie_of(function, gpu);
    if (r) number(r, "number", &truth);
    return truth;
}

int lie_text(const char *function, int gpu, char *out, size_t size) {
    const struct record *r = lie_of(function, gpu);
    const char *hex = r ? text(r, "bytes") : NULL;
    unsigned byte;
    size_t length = 0;
    if (!hex) return 0;
    for (; length < size && sscanf(hex + 2 * length, "%2x", &byte) == 1; length++)
        out[length] = (char)byte;
    if (length < size) out[length] = 0;
    return 1;
}

/* Lock held on return; let go while a hang or slow line keeps the call waiting. */
static void wait_out(const char *function, int gpu) {
    const struct record *slow;
    scenario_refresh();
    crash_out(function, gpu);
    if ((slow = fault(FAULT_SLOW, function, gpu))) {
        unsigned ms = (unsigned)must(slow, "ms");
        unlock();
        pause_ms(ms);
        lock();
        scenario_refresh();
    }
    while (fault(FAULT_HANG, function, gpu)) {
        unlock();
        pause_ms(20);
        lock();
        scenario_refresh();
    }
}

int admit(const char *function, int gpu) {
    wait_out(function, gpu);
    return references ? fault_of(function, gpu) : UNINITIALIZED;
}

int enter_system(const char *function) {
    lock();
    int code = admit(function, ANY_GPU);
    return code ? leave(code) : OK;
}

static int known(const struct handle *h) {
    for (const struct handle *each = handles; each; each = each->next)
        if (each == h) return 1;
    return 0;
}

struct handle *handle_for(enum what what, const char *uuid, int gpu, unsigned gi, unsigned ci) {
    for (struct handle *h = handles; h; h = h->next)
        if (h->what == what && h->gi == gi && h->ci == ci && !strcmp(h->uuid, uuid)) return h;
    struct handle *h = calloc(1, sizeof *h);
    h->what = what;
    h->gpu = gpu;
    h->gi = gi;
    h->ci = ci;
    copy_text(h->uuid, sizeof h->uuid, uuid);
    h->next = handles;
    return handles = h;
}

static const struct record *by_uuid(enum kind kind, const char *uuid) {
    for (const struct record *r = NULL; (r = next_record(r, kind, ANY_GPU));)
        if (!strcmp(text(r, "uuid"), uuid)) return r;
    return NULL;
}

const struct record *mig_record(const struct handle *h) {
    if (h->what == A_MIG) return by_uuid(MIG, h->uuid);
    if (h->what == AN_INSTANCE) return instance_record(h->gpu, h->gi);
    for (const struct record *r = NULL; (r = next_record(r, MIG, h->gpu));)
        if (must(r, "gi") == h->gi && must(r, "ci") == h->ci) return r;
    return NULL;
}

const struct record *instance_record(int gpu, u64 gi) {
    const enum kind kinds[] = {MIG, INSTANCE};
    for (int k = 0; k < 2; k++)
        for (const struct record *r = NULL; (r = next_record(r, kinds[k], gpu));)
            if (must(r, "gi") == gi) return r;
    return NULL;
}

static const struct record *gpu_record(int gpu) { return next_record(NULL, GPU, gpu); }

/* Fill in what the handle stands for now; the GPU may have gone, or the MIG device. */
static int resolve(const struct handle *h, struct call *call) {
    call->record = call->gpu_record = NULL;
    if (h->what == A_MIG) {
        if (!gpu_record(h->gpu)) return GPU_IS_LOST;
        if (!(call->record = mig_record(h))) return NOT_FOUND;
        call->gpu_record = gpu_record(call->record->gpu);
        return call->gpu_record ? OK : GPU_IS_LOST;
    }
    if (!(call->gpu_record = by_uuid(GPU, h->uuid))) return GPU_IS_LOST;
    call->record = h->what == A_GPU ? call->gpu_record : mig_record(h);
    return call->record ? OK : NOT_FOUND;
}

int enter(const char *function, const struct handle *h, int allowed, struct call *call) {
    int code;
    lock();
    if (!references) return leave(UNINITIALIZED);
    if (!known(h)) return leave(INVALID_ARGUMENT);
    if ((code = admit(function, h->gpu))) return leave(code);
    if ((code = resolve(h, call))) return leave(code);
    call->gpu = call->gpu_record->gpu;
    if (h->what & allowed) return OK;
    return leave(h->what == A_MIG ? NOT_SUPPORTED : INVALID_ARGUMENT);
}
