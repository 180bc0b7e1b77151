/* What GPUs do: engines, limits of temperature, GPM samples, the use by processes. */
#define _GNU_SOURCE
#include "double.h"

#include <stdlib.h>

static int value_of(const char *fn, struct handle *h, const char *key, u32 *out) {
    struct call c;
    u64 value;
    if (!out) return INVALID_ARGUMENT;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    int known = key && number(c.record, key, &value);
    if (known) *out = (u32)value;
    return leave(known ? OK : NOT_SUPPORTED);
}

#define ENGINE(name, key) \
    API int name(struct handle *h, u32 *percent, u32 *period_us) { \
        if (period_us) *period_us = 100000; \
        return value_of(__func__, h, key, percent); \
    }
ENGINE(nvmlDeviceGetEncoderUtilization, "encoder_percent")
ENGINE(nvmlDeviceGetDecoderUtilization, "decoder_percent")
ENGINE(nvmlDeviceGetJpgUtilization, "jpeg_percent")
ENGINE(nvmlDeviceGetOfaUtilization, "ofa_percent")

static const char *const thresholds[] = {"shutdown_c", "slowdown_c", "memory_max_c"};
API int nvmlDeviceGetTemperatureThreshold(struct handle *h, unsigned which, u32 *out) {
    return value_of(__func__, h, which < 3 ? thresholds[which] : NULL, out);
}

/* ---- GPM: a sample remembers where it was taken; values stand in the scenario in thousandths ---- */
#define WHOLE 0xffffffffu
struct sample { int gpu; u32 gi; };

API int nvmlGpmSampleAlloc(struct sample **out) {
    *out = calloc(1, sizeof **out);
    return OK;
}
API int nvmlGpmSampleFree(struct sample *sample) {
    free(sample);
    return OK;
}

static int take(const char *fn, struct handle *h, u32 gi, struct sample *sample) {
    struct call c;
    if (!sample) return INVALID_ARGUMENT;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    *sample = (struct sample){c.gpu, gi};
    return leave(next_record(NULL, GPM, c.gpu) ? OK : NOT_SUPPORTED);
}
API int nvmlGpmSampleGet(struct handle *h, struct sample *sample) {
    return take(__func__, h, WHOLE, sample);
}
API int nvmlGpmMigSampleGet(struct handle *h, u32 gi, struct sample *sample) {
    return take(__func__, h, gi, sample);
}

struct metric { u32 id; int code; double value; const char *names[3]; };
struct question { u32 version, count; struct sample *before, *now; struct metric metrics[]; };

static void fill_metric(const struct sample *sample, struct metric *out) {
    u64 gi;
    out->code = NOT_SUPPORTED;
    for (const struct record *r = NULL; (r = next_record(r, GPM, sample->gpu));) {
        if (must(r, "metric") != out->id) continue;
        if ((number(r, "gi", &gi) ? (u32)gi : WHOLE) != sample->gi) continue;
        out->code = OK;
        out->value = (double)must(r, "value") / 1000;
    }
}

API int nvmlGpmMetricsGet(struct question *q) {
    if (!q || q->version != 1) return q ? VERSION_MISMATCH : INVALID_ARGUMENT;
    if (!q->before || !q->now || q->before->gpu != q->now->gpu || q->before->gi != q->now->gi)
        return INVALID_ARGUMENT;
    int code = enter_system(__func__);
    if (code) return code;
    for (u32 i = 0; i < q->count; i++) fill_metric(q->now, &q->metrics[i]);
    return leave(OK);
}

/* ---- the use by processes: one sample each, whose time is its number ---- */
struct use { u32 pid; u64 time; u32 sm, memory, encoder, decoder; };
API int nvmlDeviceGetProcessUtilization(struct handle *h, struct use *out, u32 *count, u64 since) {
    struct call c;
    u64 sm;
    int code = enter(__func__, h, A_GPU, &c);
    if (code) return code;
    u32 room = out ? *count : 0, found = 0;
    for (const struct record *r = NULL; (r = next_record(r, PROCESS, c.gpu));) {
        if (!number(r, "sm", &sm)) continue;
        if (found < room) out[found] = (struct use){(u32)must(r, "pid"), since + 1, (u32)sm, 0, 0, 0};
        found++;
    }
    *count = found;
    return leave(!found ? NOT_FOUND : found > room ? INSUFFICIENT_SIZE : OK);
}
