/* Library life cycle, versions, counting GPUs and handing out their handles. */
#define _GNU_SOURCE
#include "double.h"

#include <stdlib.h>
#include <strings.h>

static int init(const char *function) {
    u64 code = OK;
    lock();
    int fault = admit(function, ANY_GPU);
    if (fault == UNINITIALIZED) fault = fault_of(function, ANY_GPU);
    const struct record *system = next_record(NULL, SYSTEM, ANY_GPU);
    if (!system) broken("missing line", "system");
    if (fault) return leave(fault);
    number(system, "init", &code);
    if (!code) require_init(+1);
    return leave((int)code);
}

API int nvmlInit(void) { return init(__func__); }
API int nvmlInit_v2(void) { return init(__func__); }
API int nvmlInitWithFlags(unsigned flags) { return (void)flags, init(__func__); }

API int nvmlShutdown(void) {
    lock();
    int fault = admit(__func__, ANY_GPU);
    if (!fault) require_init(-1);
    return leave(fault);
}

static int system_text(const char *function, const char *key, char *out, unsigned size) {
    int code = enter_system(function);
    if (code) return code;
    if (out && lie_text(function, ANY_GPU, out, size)) return leave(OK);
    const char *value = text(next_record(NULL, SYSTEM, ANY_GPU), key);
    if (!value) return leave(NOT_SUPPORTED);
    if (!out || strlen(value) >= size) return leave(out ? INSUFFICIENT_SIZE : INVALID_ARGUMENT);
    copy_text(out, size, value);
    return leave(OK);
}

API int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    return system_text(__func__, "driver", out, size);
}
API int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    return system_text(__func__, "nvml", out, size);
}

static int cuda_version(const char *function, int *out) {
    u64 value;
    int code = enter_system(function);
    if (code) return code;
    if (!out) return leave(INVALID_ARGUMENT);
    if (!number(next_record(NULL, SYSTEM, ANY_GPU), "cuda", &value)) return leave(NOT_SUPPORTED);
    *out = (int)value;
    return leave(OK);
}
struct confidential { u32 environment, feature, devtools; };
API int nvmlSystemGetConfComputeState(struct confidential *out) {
    u64 on = 0, devtools = 0;
    int code = enter_system(__func__);
    if (code) return code;
    if (!out) return leave(INVALID_ARGUMENT);
    const struct record *system = next_record(NULL, SYSTEM, ANY_GPU);
    if (!number(system, "confidential", &on)) return leave(NOT_SUPPORTED);
    number(system, "devtools", &devtools);
    *out = (struct confidential){on ? 2 : 0, (u32)on, (u32)devtools};
    return leave(OK);
}

API int nvmlSystemGetCudaDriverVersion(int *out) { return cuda_version(__func__, out); }
API int nvmlSystemGetCudaDriverVersion_v2(int *out) { return cuda_version(__func__, out); }

API const char *nvmlErrorString(int code) {
    static char invented[64];
    lock();
    int lied = lie_text(__func__, ANY_GPU, invented, sizeof invented - 1);
    unlock();
    if (lied) return invented;
    static const char *const texts[] = {
        "Success", "Uninitialized", "Invalid Argument", "Not Supported",
        "Insufficient Permissions", "Already Initialized", "Not Found", "Insufficient Size",
        "Insufficient External Power", "Driver Not Loaded", "Timeout",
        "Interrupt Request Issue", "NVML Shared Library Not Found", "Function Not Found",
        "Corrupted infoROM", "GPU is lost", "GPU requires reset",
        "The operating system has blocked the request", "RM has detected an NVML/RM version mismatch",
        "GPU currently in use by another client", "Insufficient Memory", "No data"};
    if (code >= 0 && code < (int)(sizeof texts / sizeof *texts)) return texts[code];
    return "Unknown Error";
}

static int count(const char *function, unsigned *out) {
    int code = enter_system(function);
    if (code) return code;
    if (!out) return leave(INVALID_ARGUMENT);
    *out = 0;
    for (const struct record *r = NULL; (r = next_record(r, GPU, ANY_GPU));) ++*out;
    *out = (unsigned)lie_number(function, ANY_GPU, *out);
    return leave(OK);
}
API int nvmlDeviceGetCount(unsigned *out) { return count(__func__, out); }
API int nvmlDeviceGetCount_v2(unsigned *out) { return count(__func__, out); }

/* Lock held, and let go at the end: the handle of GPU number `gpu`, after that GPU's faults. */
static int hand_out(const char *function, int gpu, int missing, struct handle **out) {
    int code = admit(function, gpu);
    if (code) return leave(code);
    const struct record *r = gpu == ANY_GPU ? NULL : next_record(NULL, GPU, gpu);
    if (!r || !out) return leave(out ? missing : INVALID_ARGUMENT);
    *out = handle_for(A_GPU, text(r, "uuid"), gpu, 0, 0);
    return leave(OK);
}

static int by_index(const char *function, unsigned index, struct handle **out) {
    lock();
    scenario_refresh();
    const struct record *r = gpu_at(index);
    return hand_out(function, r ? r->gpu : ANY_GPU, INVALID_ARGUMENT, out);
}
API int nvmlDeviceGetHandleByIndex(unsigned i, struct handle **out) {
    return by_index(__func__, i, out);
}
API int nvmlDeviceGetHandleByIndex_v2(unsigned i, struct handle **out) {
    return by_index(__func__, i, out);
}

/* The record that carries this UUID: a GPU's or a MIG device's. */
static const struct record *find_uuid(enum kind kind, const char *uuid) {
    for (const struct record *r = NULL; (r = next_record(r, kind, ANY_GPU));)
        if (!strcmp(text(r, "uuid"), uuid)) return r;
    return NULL;
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, struct handle **out) {
    if (!uuid || !out) return INVALID_ARGUMENT;
    lock();
    scenario_refresh();
    const struct record *r = find_uuid(GPU, uuid), *mig = find_uuid(MIG, uuid);
    if (r || !mig) return hand_out(__func__, r ? r->gpu : ANY_GPU, NOT_FOUND, out);
    int code = admit(__func__, mig->gpu);
    if (code) return leave(code);
    if (!(mig = find_uuid(MIG, uuid))) return leave(NOT_FOUND);
    *out = handle_for(A_MIG, uuid, mig->gpu, 0, 0);
    return leave(OK);
}

/* `87:00.0`, `0000:87:00.0` and `00000000:87:00.0` name the same function. */
static int parse_bus_id(const char *id, unsigned *domain, unsigned *bus, unsigned *device) {
    unsigned function;
    if (sscanf(id, "%x:%x:%x.%x", domain, bus, device, &function) == 4) return 1;
    *domain = 0;
    return sscanf(id, "%x:%x.%x", bus, device, &function) == 3;
}

static int by_bus_id(const char *function, const char *id, struct handle **out) {
    unsigned domain, bus, device;
    if (!id || !parse_bus_id(id, &domain, &bus, &device)) return INVALID_ARGUMENT;
    lock();
    scenario_refresh();
    const struct record *r = NULL;
    while ((r = next_record(r, GPU, ANY_GPU)))
        if (must(r, "pci_domain") == domain && must(r, "pci_bus") == bus &&
            must(r, "pci_device") == device)
            break;
    return hand_out(function, r ? r->gpu : ANY_GPU, NOT_FOUND, out);
}
API int nvmlDeviceGetHandleByPciBusId(const char *id, struct handle **out) {
    return by_bus_id(__func__, id, out);
}
API int nvmlDeviceGetHandleByPciBusId_v2(const char *id, struct handle **out) {
    return by_bus_id(__func__, id, out);
}
