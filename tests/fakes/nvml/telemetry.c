/* Readings of a GPU: each is a number of its `gpu` line, or a line of its own. */
#define _GNU_SOURCE
#include "double.h"

#include <time.h>

static int reading(const char *fn, struct handle *h, const char *key, u64 *out) {
    struct call c;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    return leave(key && number(c.record, key, out) ? OK : NOT_SUPPORTED);
}

static int narrow(const char *fn, struct handle *h, const char *key, u32 *out) {
    u64 value;
    if (!out) return INVALID_ARGUMENT;
    int code = reading(fn, h, key, &value);
    if (!code) *out = (u32)value;
    return code;
}

static int wide(const char *fn, struct handle *h, const char *key, u64 *out) {
    return out ? reading(fn, h, key, out) : INVALID_ARGUMENT;
}

static int two(const char *fn, struct handle *h, const char *a, const char *b, u32 *x, u32 *y) {
    int code = narrow(fn, h, a, x);
    return code ? code : narrow(fn, h, b, y);
}

#define NARROW(name, key) \
    API int name(struct handle *h, u32 *out) { return narrow(__func__, h, key, out); }
#define WIDE(name, key) \
    API int name(struct handle *h, u64 *out) { return wide(__func__, h, key, out); }
#define TWO(name, a, b) \
    API int name(struct handle *h, u32 *x, u32 *y) { return two(__func__, h, a, b, x, y); }

NARROW(nvmlDeviceGetMinorNumber, "minor")
NARROW(nvmlDeviceGetBoardId, "board_id")
NARROW(nvmlDeviceGetMemoryBusWidth, "memory_bus_bits")
NARROW(nvmlDeviceGetArchitecture, "architecture")
NARROW(nvmlDeviceGetPowerUsage, "power_usage_mw")
NARROW(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
NARROW(nvmlDeviceGetPowerManagementLimit, "power_limit_mw")
NARROW(nvmlDeviceGetFanSpeed, "fan_speed_percent")
NARROW(nvmlDeviceGetPcieReplayCounter, "pcie_replays")
NARROW(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_gen")
NARROW(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
NARROW(nvmlDeviceGetMaxPcieLinkGeneration, "max_pcie_gen")
NARROW(nvmlDeviceGetMaxPcieLinkWidth, "max_pcie_width")
NARROW(nvmlDeviceGetVirtualizationMode, "virtualization")
NARROW(nvmlDeviceGetPersistenceMode, "persistence")
NARROW(nvmlDeviceGetComputeMode, "compute_mode")
NARROW(nvmlDeviceGetPerformanceState, "pstate")
NARROW(nvmlDeviceGetRetiredPagesPendingStatus, "retired_pending")
WIDE(nvmlDeviceGetTotalEnergyConsumption, "energy_mj")
WIDE(nvmlDeviceGetCurrentClocksEventReasons, "clocks_event_reasons")
WIDE(nvmlDeviceGetCurrentClocksThrottleReasons, "clocks_event_reasons")
WIDE(nvmlDeviceGetSupportedEventTypes, "event_types")
TWO(nvmlDeviceGetEccMode, "ecc_current", "ecc_pending")
TWO(nvmlDeviceGetMigMode, "mig_current", "mig_pending")

API int nvmlDeviceGetUtilizationRates(struct handle *h, u32 out[2]) {
    if (!out) return INVALID_ARGUMENT;
    return two(__func__, h, "utilization_gpu_percent", "utilization_memory_percent", &out[0], &out[1]);
}

API int nvmlDeviceGetTemperature(struct handle *h, unsigned sensor, u32 *out) {
    return narrow(__func__, h, sensor ? NULL : "temperature_c", out);
}

struct temperature { u32 version, sensor; int celsius; };
API int nvmlDeviceGetTemperatureV(struct handle *h, struct temperature *out) {
    if (!out || out->version != 0x0100000C) return out ? VERSION_MISMATCH : INVALID_ARGUMENT;
    return narrow(__func__, h, out->sensor ? NULL : "temperature_c", (u32 *)&out->celsius);
}

static const char *const clocks[] = {"clock_graphics_mhz", "clock_sm_mhz", "clock_mem_mhz",
                                     "clock_video_mhz"};
static const char *const limits[] = {"max_clock_graphics_mhz", "max_clock_sm_mhz",
                                     "max_clock_mem_mhz", "max_clock_video_mhz"};
API int nvmlDeviceGetClockInfo(struct handle *h, unsigned clock, u32 *out) {
    return clock > 3 ? INVALID_ARGUMENT : narrow(__func__, h, clocks[clock], out);
}
API int nvmlDeviceGetMaxClockInfo(struct handle *h, unsigned clock, u32 *out) {
    return clock > 3 ? INVALID_ARGUMENT : narrow(__func__, h, limits[clock], out);
}

/* A vGPU's licence: one feature, licensed or not. */
struct licence {
    int supported;
    u32 count;
    struct { u32 code, state; char info[128], product[128]; u32 enabled, year; uint16_t date[5];
             uint8_t status; } feature[3];
};
API int nvmlDeviceGetGridLicensableFeatures_v4(struct handle *h, struct licence *out) {
    u32 licensed;
    if (!out) return INVALID_ARGUMENT;
    int code = narrow(__func__, h, "licensed", &licensed);
    if (code) return code;
    memset(out, 0, sizeof *out);
    out->supported = out->count = 1;
    out->feature[0].code = 1;
    out->feature[0].state = out->feature[0].enabled = licensed;
    return OK;
}

/* ---- memory errors ---- */
static int ecc(const char *fn, struct handle *h, unsigned type, unsigned counter, int where,
               u64 *out) {
    struct call c;
    u64 location;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    for (const struct record *r = NULL; (r = next_record(r, ECC, c.gpu));) {
        int at = number(r, "location", &location) ? (int)location : -1;
        if (must(r, "type") != type || must(r, "counter") != counter || at != where) continue;
        *out = must(r, "value");
        return leave(OK);
    }
    return leave(NOT_SUPPORTED);
}
API int nvmlDeviceGetTotalEccErrors(struct handle *h, unsigned type, unsigned counter, u64 *out) {
    return ecc(__func__, h, type, counter, -1, out);
}
API int nvmlDeviceGetMemoryErrorCounter(struct handle *h, unsigned type, unsigned counter,
                                        unsigned location, u64 *out) {
    return ecc(__func__, h, type, counter, (int)location, out);
}

/* Lock held on success: the GPU's only line of that kind. */
static int enter_line(const char *fn, struct handle *h, enum kind kind, const struct record **out) {
    struct call c;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    *out = next_record(NULL, kind, c.gpu);
    return *out ? OK : leave(NOT_SUPPORTED);
}

API int nvmlDeviceGetRemappedRows(struct handle *h, u32 *corrected, u32 *uncorrected,
                                  u32 *pending, u32 *failure) {
    const struct record *r;
    int code = enter_line(__func__, h, REMAPPED, &r);
    if (code) return code;
    *corrected = (u32)must(r, "corrected");
    *uncorrected = (u32)must(r, "uncorrected");
    *pending = (u32)must(r, "pending");
    *failure = (u32)must(r, "failure");
    return leave(OK);
}

API int nvmlDeviceGetRowRemapperHistogram(struct handle *h, u32 out[5]) {
    static const char *const keys[] = {"max", "high", "partial", "low", "none"};
    const struct record *r;
    int code = enter_line(__func__, h, HISTOGRAM, &r);
    if (code) return code;
    for (int i = 0; i < 5; i++) out[i] = (u32)must(r, keys[i]);
    return leave(OK);
}

struct sram {
    u32 version;
    u64 aggregate_parity, aggregate_secded, aggregate_corrected;
    u64 volatile_parity, volatile_secded, volatile_corrected;
    u64 l2, sm, pcie, mcu, other;
    u32 exceeded;
};
API int nvmlDeviceGetSramEccErrorStatus(struct handle *h, struct sram *out) {
    const struct record *r;
    if (!out || out->version != 0x01000068) return out ? VERSION_MISMATCH : INVALID_ARGUMENT;
    int code = enter_line(__func__, h, SRAM, &r);
    if (code) return code;
    *out = (struct sram){.version = out->version};
    out->aggregate_parity = out->sm = must(r, "aggregate_uncorrected");
    out->aggregate_corrected = must(r, "aggregate_corrected");
    out->volatile_parity = must(r, "volatile_uncorrected");
    out->volatile_corrected = must(r, "volatile_corrected");
    out->exceeded = (u32)must(r, "threshold_exceeded");
    return leave(OK);
}

/* The scenario counts the pages; their addresses and times are made up from their number. */
static int retired(const char *fn, struct handle *h, unsigned cause, u32 *count, u64 *pages,
                   u64 *times) {
    u64 held;
    if (!count || cause > 1) return INVALID_ARGUMENT;
    int code = reading(fn, h, cause ? "retired_double" : "retired_single", &held);
    if (code) return code;
    u32 room = *count;
    *count = (u32)held;
    if (room < held || (held && !pages)) return INSUFFICIENT_SIZE;
    for (u64 i = 0; pages && i < held; i++) pages[i] = (i + 1) << 12;
    for (u64 i = 0; times && i < held; i++) times[i] = i + 1;
    return OK;
}
API int nvmlDeviceGetRetiredPages(struct handle *h, unsigned cause, u32 *count, u64 *pages) {
    return retired(__func__, h, cause, count, pages, NULL);
}
API int nvmlDeviceGetRetiredPages_v2(struct handle *h, unsigned cause, u32 *count, u64 *pages,
                                     u64 *times) {
    return retired(__func__, h, cause, count, pages, times);
}

/* ---- field values ---- */
struct field {
    u32 id, scope;
    int64_t timestamp, latency;
    u32 type, code;
    union { u64 wide; u32 narrow; double real; } value;
};

static void fill_field(int gpu, struct field *out) {
    const struct record *r = NULL;
    u64 scope, type = 1, code = OK;
    do {
        if (!(r = next_record(r, FIELD, gpu))) { out->code = NOT_SUPPORTED; return; }
        if (!number(r, "scope", &scope)) scope = out->scope;
    } while (must(r, "id") != out->id || scope != out->scope);
    number(r, "type", &type);
    number(r, "code", &code);
    out->code = (u32)code;
    out->type = (u32)type;
    out->timestamp = (int64_t)time(NULL) * 1000000;
    out->value.wide = code ? 0 : must(r, "value");
    if (!type) out->value.real = (double)out->value.wide;
}

API int nvmlDeviceGetFieldValues(struct handle *h, int count, struct field *fields) {
    struct call c;
    int code = enter(__func__, h, A_GPU | A_MIG, &c);
    if (code) return code;
    if (count < 0 || !fields) return leave(INVALID_ARGUMENT);
    for (int i = 0; i < count; i++) fill_field(c.gpu, &fields[i]);
    return leave(OK);
}

/* ---- processes ---- */
struct process { u32 pid; u64 memory; u32 gi, ci; };

static void fill_process(struct process *out, const struct record *r) {
    u64 gi = 0xffffffff, ci = 0xffffffff;
    number(r, "gi", &gi);
    number(r, "ci", &ci);
    *out = (struct process){(u32)must(r, "pid"), must(r, "memory"), (u32)gi, (u32)ci};
}

static int processes(const char *fn, struct handle *h, u32 *count, struct process *out,
                     u64 graphics) {
    struct call c;
    int code = enter(fn, h, graphics ? A_GPU | A_MIG : A_GPU, &c);
    if (code) return code;
    if (!count) return leave(INVALID_ARGUMENT);
    u32 room = out ? *count : 0, found = 0;
    for (const struct record *r = NULL; (r = next_record(r, PROCESS, c.gpu));) {
        u64 draws = 0;
        number(r, "graphics", &draws);
        if (draws != graphics) continue;
        if (found < room) fill_process(&out[found], r);
        found++;
    }
    *count = found;
    return leave(found > room ? INSUFFICIENT_SIZE : OK);
}
#define PROCESSES(name, graphics) \
    API int name(struct handle *h, u32 *n, struct process *out) { \
        return processes(__func__, h, n, out, graphics); \
    }
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 0)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 0)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, 1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 1)
