/* Identity and placement of a GPU: name, ids, memory, PCI, topology, NVLink, fabric. */
#define _GNU_SOURCE
#include "double.h"

#define EVERY (A_GPU | A_MIG)

static int device_text(const char *fn, struct handle *h, int allowed, const char *key, char *out,
                       unsigned size) {
    struct call c;
    int code = enter(fn, h, allowed, &c);
    if (code) return code;
    if (out && lie_text(fn, c.gpu, out, size)) return leave(OK);
    const char *value = text(c.record, key);
    if (!value) value = strcmp(key, "name") ? NULL : text(c.gpu_record, key);
    if (!value) return leave(NOT_SUPPORTED);
    if (!out || strlen(value) >= size) return leave(out ? INSUFFICIENT_SIZE : INVALID_ARGUMENT);
    copy_text(out, size, value);
    return leave(OK);
}

API int nvmlDeviceGetName(struct handle *h, char *out, unsigned size) {
    return device_text(__func__, h, EVERY, "name", out, size);
}
API int nvmlDeviceGetUUID(struct handle *h, char *out, unsigned size) {
    return device_text(__func__, h, EVERY, "uuid", out, size);
}
API int nvmlDeviceGetSerial(struct handle *h, char *out, unsigned size) {
    return device_text(__func__, h, A_GPU, "serial", out, size);
}

API int nvmlDeviceGetIndex(struct handle *h, unsigned *out) {
    struct call c;
    int code = enter(__func__, h, EVERY, &c);
    if (code) return code;
    if (!out) return leave(INVALID_ARGUMENT);
    *out = h->what == A_MIG ? (unsigned)must(c.record, "slot") : (unsigned)index_of_gpu(c.gpu);
    return leave(OK);
}

API int nvmlDeviceGetCudaComputeCapability(struct handle *h, int *major, int *minor) {
    struct call c;
    u64 a, b;
    int code = enter(__func__, h, EVERY, &c);
    if (code) return code;
    if (!number(c.gpu_record, "compute_major", &a) || !number(c.gpu_record, "compute_minor", &b))
        return leave(NOT_SUPPORTED);
    *major = (int)a;
    *minor = (int)b;
    return leave(OK);
}

struct memory { u64 total, reserved, free, used; };

static int memory(const char *fn, struct handle *h, struct memory *out) {
    struct call c;
    int code = enter(fn, h, EVERY, &c);
    if (code) return code;
    *out = (struct memory){0};
    if (h->what == A_MIG) out->total = must(c.record, "memory_mb") << 20;
    else if (!number(c.record, "memory_total_bytes", &out->total)) return leave(NOT_SUPPORTED);
    if (!number(c.record, "memory_used_bytes", &out->used)) return leave(NOT_SUPPORTED);
    if (h->what == A_GPU) number(c.record, "memory_reserved_bytes", &out->reserved);
    out->free = out->total - out->used - out->reserved;
    return leave(OK);
}

API int nvmlDeviceGetMemoryInfo(struct handle *h, u64 out[3]) {
    struct memory m;
    if (!out) return INVALID_ARGUMENT;
    int code = memory(__func__, h, &m);
    if (code) return code;
    out[0] = m.total;
    out[1] = m.free;
    out[2] = m.used + m.reserved; /* the first form counts the reserved part as used */
    return OK;
}

struct memory_v2 { u32 version; struct memory m; };
API int nvmlDeviceGetMemoryInfo_v2(struct handle *h, struct memory_v2 *out) {
    if (!out) return INVALID_ARGUMENT;
    if (out->version != 0x02000028) return VERSION_MISMATCH;
    return memory(__func__, h, &out->m);
}

/* ---- PCI ---- */
struct pci {
    char legacy[16];
    u32 domain, bus, device, device_id, subsystem_id;
    char id[32];
};

static void fill_pci(struct pci *out, unsigned domain, unsigned bus, unsigned device) {
    *out = (struct pci){.domain = domain, .bus = bus, .device = device};
    snprintf(out->id, sizeof out->id, "%08X:%02X:%02X.0", domain, bus & 0xff, device & 0xff);
    snprintf(out->legacy, sizeof out->legacy, "%04X:%02X:%02X.0", domain & 0xffff, bus & 0xff,
             device & 0xff);
}

static int pci_info(const char *fn, struct handle *h, struct pci *out) {
    struct call c;
    u64 id;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    if (!out) return leave(INVALID_ARGUMENT);
    if (!text(c.record, "pci_bus")) return leave(NOT_SUPPORTED);
    fill_pci(out, (unsigned)must(c.record, "pci_domain"), (unsigned)must(c.record, "pci_bus"),
             (unsigned)must(c.record, "pci_device"));
    out->bus = (u32)lie_number(fn, c.gpu, out->bus);
    if (number(c.record, "pci_device_id", &id)) out->device_id = (u32)id;
    if (number(c.record, "pci_subsystem_id", &id)) out->subsystem_id = (u32)id;
    return leave(OK);
}
API int nvmlDeviceGetPciInfo_v3(struct handle *h, struct pci *out) {
    return pci_info(__func__, h, out);
}
API int nvmlDeviceGetPciInfo_v2(struct handle *h, struct pci *out) {
    return pci_info(__func__, h, out);
}
API int nvmlDeviceGetPciInfo(struct handle *h, struct pci *out) {
    return pci_info(__func__, h, out);
}

/* ---- topology and NVLink ---- */
static const struct record *topology(int a, int b) {
    for (const struct record *r = NULL; (r = next_record(r, TOPOLOGY, a));)
        if ((int)must(r, "peer") == b) return r;
    return NULL;
}

API int nvmlDeviceGetTopologyCommonAncestor(struct handle *a, struct handle *b, int *out) {
    struct call first, second;
    int code = enter(__func__, b, A_GPU, &second);
    if (code) return code;
    leave(OK);
    if ((code = enter(__func__, a, A_GPU, &first))) return code;
    if (!out || a == b) return leave(INVALID_ARGUMENT);
    const struct record *r = topology(first.gpu, second.gpu);
    if (!r) r = topology(second.gpu, first.gpu);
    if (!r) return leave(NOT_SUPPORTED);
    *out = (int)must(r, "level");
    return leave(OK);
}

/* Lock held on success: that link's line. */
static int enter_link(const char *fn, struct handle *h, unsigned link, const struct record **out) {
    struct call c;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    if (link >= 36) return leave(INVALID_ARGUMENT);
    *out = NULL;
    while ((*out = next_record(*out, NVLINK, c.gpu)))
        if (must(*out, "link") == link) return OK;
    return leave(NOT_SUPPORTED);
}

static int link_number(const char *fn, struct handle *h, unsigned link, const char *key, u32 *out) {
    const struct record *r;
    u64 value;
    int code = enter_link(fn, h, link, &r);
    if (code) return code;
    if (!out) return leave(INVALID_ARGUMENT);
    if (!number(r, key, &value)) return leave(NOT_SUPPORTED);
    *out = (u32)value;
    return leave(OK);
}
API int nvmlDeviceGetNvLinkState(struct handle *h, unsigned link, u32 *out) {
    return link_number(__func__, h, link, "state", out);
}
API int nvmlDeviceGetNvLinkVersion(struct handle *h, unsigned link, u32 *out) {
    return link_number(__func__, h, link, "version", out);
}
API int nvmlDeviceGetNvLinkRemoteDeviceType(struct handle *h, unsigned link, u32 *out) {
    return link_number(__func__, h, link, "remote_type", out);
}

static int remote_pci(const char *fn, struct handle *h, unsigned link, struct pci *out) {
    unsigned domain, bus, device;
    const struct record *r;
    int code = enter_link(fn, h, link, &r);
    if (code) return code;
    const char *remote = text(r, "remote");
    if (!out || !remote) return leave(out ? NOT_SUPPORTED : INVALID_ARGUMENT);
    if (sscanf(remote, "%x:%x:%x.", &domain, &bus, &device) != 3) broken("not a PCI address", remote);
    fill_pci(out, domain, bus, device);
    return leave(OK);
}
API int nvmlDeviceGetNvLinkRemotePciInfo(struct handle *h, unsigned link, struct pci *out) {
    return remote_pci(__func__, h, link, out);
}
API int nvmlDeviceGetNvLinkRemotePciInfo_v2(struct handle *h, unsigned link, struct pci *out) {
    return remote_pci(__func__, h, link, out);
}

/* ---- fabric ---- */
struct fabric { uint8_t cluster[16]; u32 status, clique, state, health_mask; uint8_t summary; };

static void parse_cluster(uint8_t out[16], const char *hex) {
    unsigned byte;
    if (strlen(hex) != 32) broken("cluster is not 32 hex digits", hex);
    for (int i = 0; i < 16; i++) {
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1) broken("cluster is not hex", hex);
        out[i] = (uint8_t)byte;
    }
}

static int fabric(const char *fn, struct handle *h, struct fabric *out) {
    struct call c;
    int code = enter(fn, h, A_GPU, &c);
    if (code) return code;
    const struct record *r = next_record(NULL, FABRIC, c.gpu);
    if (!r) return leave(NOT_SUPPORTED);
    parse_cluster(out->cluster, text(r, "cluster"));
    out->status = (u32)must(r, "status");
    out->clique = (u32)must(r, "clique");
    out->state = (u32)must(r, "state");
    out->health_mask = (u32)must(r, "health_mask");
    out->summary = (uint8_t)must(r, "health_summary");
    return leave(OK);
}

API int nvmlDeviceGetGpuFabricInfo(struct handle *h, void *out) {
    struct fabric f;
    int code = fabric(__func__, h, &f);
    if (!code) memcpy(out, &f, offsetof(struct fabric, health_mask));
    return code;
}

API int nvmlDeviceGetGpuFabricInfoV(struct handle *h, void *out) {
    struct fabric f;
    u32 version;
    memcpy(&version, out, sizeof version);
    if (version != 0x02000024 && version != 0x03000028) return VERSION_MISMATCH;
    size_t size = version >> 24 == 2 ? offsetof(struct fabric, summary)
                                     : offsetof(struct fabric, summary) + 1;
    int code = fabric(__func__, h, &f);
    if (!code) memcpy((char *)out + sizeof version, &f, size);
    return code;
}
