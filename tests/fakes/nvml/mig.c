/* MIG: the devices of a GPU, their instances, and the profiles a GPU offers. */
#define _GNU_SOURCE
#include "double.h"

static int mig_is_on(const struct call *c) {
    u64 current = 0;
    number(c->gpu_record, "mig_current", &current);
    return current == 1;
}

API int nvmlDeviceIsMigDeviceHandle(struct handle *h, u32 *out) {
    struct call c;
    int code = enter(__func__, h, A_GPU | A_MIG, &c);
    if (code) return code;
    *out = h->what == A_MIG;
    return leave(OK);
}

API int nvmlDeviceGetMaxMigDeviceCount(struct handle *h, u32 *out) {
    struct call c;
    u64 most;
    int code = enter(__func__, h, A_GPU, &c);
    if (code) return code;
    if (!number(c.record, "mig_max", &most)) return leave(NOT_SUPPORTED);
    *out = mig_is_on(&c) ? (u32)lie_number(__func__, c.gpu, most) : 0; /* nvml.h: zero where MIG is not enabled */
    return leave(OK);
}

API int nvmlDeviceGetMigDeviceHandleByIndex(struct handle *h, unsigned slot, struct handle **out) {
    struct call c;
    u64 most;
    int code = enter(__func__, h, A_GPU, &c);
    if (code) return code;
    if (!number(c.record, "mig_max", &most) || !mig_is_on(&c)) return leave(NOT_SUPPORTED);
    if (slot >= most || !out) return leave(INVALID_ARGUMENT);
    for (const struct record *r = NULL; (r = next_record(r, MIG, c.gpu));)
        if (must(r, "slot") == slot) {
            *out = handle_for(A_MIG, text(r, "uuid"), c.gpu, 0, 0);
            return leave(OK);
        }
    return leave(NOT_FOUND);
}

static int mig_number(const char *fn, struct handle *h, const char *key, u32 *out) {
    struct call c;
    int code = enter(fn, h, A_GPU | A_MIG, &c);
    if (code) return code;
    if (h->what != A_MIG || !out) return leave(INVALID_ARGUMENT);
    *out = (u32)must(c.record, key);
    return leave(OK);
}
API int nvmlDeviceGetGpuInstanceId(struct handle *h, u32 *out) {
    return mig_number(__func__, h, "gi", out);
}
API int nvmlDeviceGetComputeInstanceId(struct handle *h, u32 *out) {
    return mig_number(__func__, h, "ci", out);
}

API int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(struct handle *h, struct handle **out) {
    struct call c;
    int code = enter(__func__, h, A_GPU | A_MIG, &c);
    if (code) return code;
    if (h->what != A_MIG || !out) return leave(INVALID_ARGUMENT);
    *out = handle_for(A_GPU, text(c.gpu_record, "uuid"), c.gpu, 0, 0);
    return leave(OK);
}

static void numbers(const struct record *r, const char *const *keys, u32 *out) {
    while (*keys) *out++ = (u32)must(r, *keys++);
}

struct attributes { u32 number[8]; u64 memory_mb; };
API int nvmlDeviceGetAttributes_v2(struct handle *h, struct attributes *out) {
    static const char *const keys[] = {"sms", "copy", "decoder", "encoder", "jpeg", "ofa",
                                       "gi_slices", "ci_slices", NULL};
    struct call c;
    int code = enter(__func__, h, A_GPU | A_MIG, &c);
    if (code) return code;
    if (h->what != A_MIG || !out) return leave(out ? NOT_SUPPORTED : INVALID_ARGUMENT);
    numbers(c.record, keys, out->number);
    out->memory_mb = lie_number(__func__, c.gpu, must(c.record, "memory_mb"));
    return leave(OK);
}

/* ---- instances ---- */
API int nvmlDeviceGetGpuInstanceById(struct handle *h, unsigned id, struct handle **out) {
    struct call c;
    int code = enter(__func__, h, A_GPU, &c);
    if (code) return code;
    if (!mig_is_on(&c)) return leave(NOT_SUPPORTED);
    if (!instance_record(c.gpu, id)) return leave(NOT_FOUND);
    *out = handle_for(AN_INSTANCE, text(c.record, "uuid"), c.gpu, id, 0);
    return leave(OK);
}

struct placement { u32 start, size; };
struct gi_info { struct handle *device; u32 id, profile; struct placement placement; };
API int nvmlGpuInstanceGetInfo(struct handle *h, struct gi_info *out) {
    struct call c;
    int code = enter(__func__, h, AN_INSTANCE, &c);
    if (code) return code;
    *out = (struct gi_info){handle_for(A_GPU, h->uuid, c.gpu, 0, 0), h->gi,
                            (u32)must(c.record, "gi_profile"),
                            {(u32)must(c.record, "start"), (u32)must(c.record, "size")}};
    return leave(OK);
}

API int nvmlGpuInstanceGetComputeInstanceById(struct handle *h, unsigned id, struct handle **out) {
    struct call c;
    int code = enter(__func__, h, AN_INSTANCE, &c);
    if (code) return code;
    for (const struct record *r = NULL; (r = next_record(r, MIG, c.gpu));)
        if (must(r, "gi") == h->gi && must(r, "ci") == id) {
            *out = handle_for(A_COMPUTE_INSTANCE, h->uuid, c.gpu, h->gi, id);
            return leave(OK);
        }
    return leave(NOT_FOUND);
}

struct ci_info { struct handle *device, *instance; u32 id, profile; struct placement placement; };
API int nvmlComputeInstanceGetInfo_v2(struct handle *h, struct ci_info *out) {
    struct call c;
    int code = enter(__func__, h, A_COMPUTE_INSTANCE, &c);
    if (code) return code;
    *out = (struct ci_info){handle_for(A_GPU, h->uuid, c.gpu, 0, 0),
                            handle_for(AN_INSTANCE, h->uuid, c.gpu, h->gi, 0), h->ci,
                            (u32)must(c.record, "ci_profile"),
                            {(u32)must(c.record, "ci_start"), (u32)must(c.record, "ci_size")}};
    return leave(OK);
}

/* ---- profiles ---- */
static const char *const gi_keys[] = {"id", "p2p", "slices", "instances", "sms", "copy", "decoder",
                                      "encoder", "jpeg", "ofa", NULL};
static const char *const gi_keys_v3[] = {"id", "slices", "instances", "sms", "copy", "decoder",
                                         "encoder", "jpeg", "ofa", NULL};
static const char *const ci_keys[] = {"id", "slices", "instances", "sms", "copy", "decoder",
                                      "encoder", "jpeg", "ofa", NULL};
struct gi_profile { u32 number[10]; u64 memory_mb; };
struct gi_profile_v2 { u32 version, number[10]; u64 memory_mb; char name[96]; };
struct gi_profile_v3 { u32 version, number[9]; u64 memory_mb; char name[96]; u32 capabilities; };

/* Lock held on success: the GPU's instance profile whose `key` has that value. */
static int enter_profile(const char *fn, struct handle *h, const char *key, unsigned value,
                         const struct record **out) {
    struct call c;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    *out = NULL;
    while ((*out = next_record(*out, GI_PROFILE, c.gpu)))
        if (must(*out, key) == value) return OK;
    return leave(value < 18 ? NOT_SUPPORTED : INVALID_ARGUMENT);
}

API int nvmlDeviceGetGpuInstanceProfileInfo(struct handle *h, unsigned index,
                                            struct gi_profile *out) {
    const struct record *r;
    int code = enter_profile(__func__, h, "index", index, &r);
    if (code) return code;
    numbers(r, gi_keys, out->number);
    out->memory_mb = must(r, "memory_mb");
    return leave(OK);
}

static int versioned_profile(const char *fn, struct handle *h, const char *key, unsigned value,
                             void *out) {
    struct gi_profile_v2 *v2 = out;
    struct gi_profile_v3 *v3 = out;
    const struct record *r;
    if (v2->version != 0x02000098 && v2->version != 0x03000098) return VERSION_MISMATCH;
    int code = enter_profile(fn, h, key, value, &r);
    if (code) return code;
    if (v2->version >> 24 == 2) {
        numbers(r, gi_keys, v2->number);
        v2->memory_mb = must(r, "memory_mb");
        copy_text(v2->name, sizeof v2->name, text(r, "name"));
        return leave(OK);
    }
    numbers(r, gi_keys_v3, v3->number);
    v3->memory_mb = must(r, "memory_mb");
    v3->capabilities = (u32)must(r, "p2p");
    copy_text(v3->name, sizeof v3->name, text(r, "name"));
    return leave(OK);
}
API int nvmlDeviceGetGpuInstanceProfileInfoV(struct handle *h, unsigned index, void *out) {
    return out ? versioned_profile(__func__, h, "index", index, out) : INVALID_ARGUMENT;
}
API int nvmlDeviceGetGpuInstanceProfileInfoByIdV(struct handle *h, unsigned id, void *out) {
    return out ? versioned_profile(__func__, h, "id", id, out) : INVALID_ARGUMENT;
}

/* Lock held on success: the compute profile `index` of the instance's own profile. */
static int enter_ci_profile(const char *fn, struct handle *h, unsigned index, unsigned engine,
                            const struct record **out) {
    struct call c;
    int code = enter(fn, h, AN_INSTANCE, &c);
    if (code) return code;
    u64 gi_profile = must(c.record, "gi_profile");
    *out = NULL;
    while ((*out = next_record(*out, CI_PROFILE, c.gpu)))
        if (must(*out, "gi_profile") == gi_profile && must(*out, "index") == index &&
            must(*out, "engine") == engine)
            return OK;
    return leave(index < 9 && !engine ? NOT_SUPPORTED : INVALID_ARGUMENT);
}

API int nvmlGpuInstanceGetComputeInstanceProfileInfo(struct handle *h, unsigned index,
                                                     unsigned engine, u32 out[9]) {
    const struct record *r;
    int code = enter_ci_profile(__func__, h, index, engine, &r);
    if (code) return code;
    numbers(r, ci_keys, out);
    return leave(OK);
}

struct ci_profile { u32 version, number[9]; char name[96]; u32 capabilities_v3; };
API int nvmlGpuInstanceGetComputeInstanceProfileInfoV(struct handle *h, unsigned index,
                                                      unsigned engine, struct ci_profile *out) {
    const struct record *r;
    if (!out) return INVALID_ARGUMENT;
    if (out->version != 0x02000088 && out->version != 0x0300008C) return VERSION_MISMATCH;
    int code = enter_ci_profile(__func__, h, index, engine, &r);
    if (code) return code;
    numbers(r, ci_keys, out->number);
    copy_text(out->name, sizeof out->name, text(r, "name"));
    if (out->version >> 24 == 3) out->capabilities_v3 = 0;
    return leave(OK);
}
