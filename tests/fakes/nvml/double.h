/* What the files of the NVML double share: the scenario's records, handles and the way into a call. */
#ifndef NVML_DOUBLE_H
#define NVML_DOUBLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#pragma GCC visibility push(hidden) /* two doubles in one process must not share these */

typedef uint64_t u64;
typedef uint32_t u32;

enum code {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    TIMEOUT = 10,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    RESET_REQUIRED = 16,
    IN_USE = 19,
    INSUFFICIENT_RESOURCES = 23,
    VERSION_MISMATCH = 25,
    UNKNOWN = 999,
};

/* ---- scenario.c: the parsed file; call with the lock held ---- */
enum kind {
    SYSTEM, GPU, NVLINK, TOPOLOGY, FIELD, ECC, REMAPPED, HISTOGRAM, SRAM, FABRIC, PROCESS, GPM,
    GI_PROFILE, CI_PROFILE, MIG, INSTANCE, FAULT_ERROR, FAULT_HANG, FAULT_SLOW, FAULT_CRASH, LIE,
    KINDS
};
#define ANY_GPU (-1)

struct record {
    enum kind kind;
    int gpu; /* the scenario's number of the GPU, ANY_GPU for `*` or none */
    int pairs, capacity;
    const char **pair; /* key, value, key, value, ... */
};

void scenario_refresh(void);
const char *scenario_folder(void);
/* The record after `previous` (NULL: the first) of that kind and GPU, or NULL at the end. */
const struct record *next_record(const struct record *previous, enum kind kind, int gpu);
const struct record *gpu_at(unsigned index);
int index_of_gpu(int gpu);
/* A value of a record: NULL when absent. */
const char *text(const struct record *r, const char *key);
/* 1 and *out when the key is there, 0 when not. */
int number(const struct record *r, const char *key, u64 *out);
/* A value that must be there: its absence is a mistake in the scenario. */
u64 must(const struct record *r, const char *key);
void copy_text(char *out, size_t size, const char *value);
_Noreturn void broken(const char *why, const char *what);

/* ---- calls.c: handles, faults and the lock ---- */
enum what { A_GPU = 1, A_MIG = 2, AN_INSTANCE = 4, A_COMPUTE_INSTANCE = 8 };

struct handle {
    enum what what;
    char uuid[96]; /* GPU: its UUID; MIG: its own; instances: their GPU's */
    int gpu;       /* scenario number when last seen */
    unsigned gi, ci;
    struct handle *next;
};

struct call {
    int gpu;
    const struct record *record; /* the GPU's record, or the MIG record of a MIG handle */
    const struct record *gpu_record;
};

/* Start a call on a handle of one of the `allowed` kinds. 0: the lock is held, end with leave().
 * Otherwise: the code to answer, lock not held. */
int enter(const char *function, const struct handle *h, int allowed, struct call *call);
int enter_system(const char *function); /* the same for calls without a handle */
int leave(int code);
/* Lock held throughout, but for the waiting that hang and slow lines ask for: after it every
 * record pointer is stale. Answers UNINITIALIZED, the code of an error line, or 0. */
int admit(const char *function, int gpu);
/* Lock held: does an error line answer this call? 0 if none. */
int fault_of(const char *function, int gpu);
/* Lock held: the line that says what this call answers instead of the truth, or NULL. */
const struct record *lie_of(const char *function, int gpu);
/* Lock held: the text of a lie, not ended where it fills `out`. 1 if there is one. */
int lie_text(const char *function, int gpu, char *out, size_t size);
/* Lock held: the number of a lie, or `truth`. */
u64 lie_number(const char *function, int gpu, u64 truth);
int require_init(int change); /* lock held: adjust the reference count, answer what it was */
struct handle *handle_for(enum what what, const char *uuid, int gpu, unsigned gi, unsigned ci);
const struct record *mig_record(const struct handle *h);
/* The GPU instance, from its own line or from that of a MIG device in it; NULL if none. */
const struct record *instance_record(int gpu, u64 gi);
void lock(void);
void unlock(void);
void pause_ms(unsigned ms);
#pragma GCC visibility pop

#endif
