/* A double of libcuda.so.1 with the GPUs that FAKE_CUDA_GPUS names by PCI address, separated by commas.
 *
 * Memory is the process's own. A kernel is known by its name and does what our PTX says; how long
 * it takes is computed from what it does, so that a test measures the same on every machine.
 * FAKE_CUDA is a word for what is wrong: `wrong-memory` (one word reads back otherwise), `wrong-sums`, `wrong-tensors`,
 * `hang` (a launch never ends), `slow` (a third of the speed), `no-device`, `broken` (a launch fails as by
 * an uncorrectable error), `crash`. FAKE_CUDA_COUNT names a file that gets a line for each launch. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 8, PROCESSORS = 4, CLOCK_KHZ = 1000000, MEMORY_CLOCK_KHZ = 1000000, BUS_BITS = 512 };
enum { NO_DEVICE = 100, INVALID = 1, UNCORRECTABLE = 214 };
/* 128 GB/s and 1.024 TFLOPS are the roofs; 0.9 of them is reached. */
static const double BANDWIDTH = 0.9 * 128e9, FLOPS = 0.9 * 2.0 * PROCESSORS * 128 * 1e9;
static const size_t TOTAL = 8 << 20;

static char addresses[MOST][32];
static int gpus;
static size_t used;
static double now_ms;
static char kernel_names[4][64];
static int kernels;

static int wrong(const char *what) {
  const char *found = getenv("FAKE_CUDA");
  return found != NULL && strcmp(found, what) == 0;
}

int cuInit(unsigned flags) {
  (void)flags;
  const char *named = getenv("FAKE_CUDA_GPUS");
  if (wrong("no-device") || named == NULL || *named == '\0') return NO_DEVICE;
  while (gpus < MOST && *named != '\0') {
    size_t length = strcspn(named, ",");
    if (length >= sizeof addresses[0]) return INVALID;
    memcpy(addresses[gpus], named, length);
    addresses[gpus++][length] = '\0';
    named += length + (named[length] == ',');
  }
  return 0;
}

int cuDeviceGetCount(int *count) { *count = gpus; return 0; }

int cuDeviceGetName(char *name, int length, int gpu) {
  (void)gpu;
  snprintf(name, (size_t)length, "Double 8M");
  return 0;
}

int cuDeviceGetPCIBusId(char *address, int length, int gpu) {
  snprintf(address, (size_t)length, "%s", addresses[gpu]);
  return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int gpu) {
  (void)gpu;
  switch (attribute) {
  case 13: *value = CLOCK_KHZ; return 0;
  case 16: *value = PROCESSORS; return 0;
  case 36: *value = MEMORY_CLOCK_KHZ; return 0;
  case 37: *value = BUS_BITS; return 0;
  case 75: *value = 9; return 0;
  case 76: *value = 0; return 0;
  default: return INVALID;
  }
}

int cuDevicePrimaryCtxRetain(void **context, int gpu) { (void)gpu; *context = addresses; return 0; }
int cuDevicePrimaryCtxRelease_v2(int gpu) { (void)gpu; return 0; }
int cuCtxSetCurrent(void *context) { (void)context; return 0; }

int cuModuleLoadData(void **module, const char *text) {
  *module = kernel_names;
  return strncmp(text, ".version", 8) == 0 ? 0 : 218;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
  (void)module;
  snprintf(kernel_names[kernels], sizeof kernel_names[0], "%s", name);
  *function = kernel_names[kernels++];
  return 0;
}

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { *free_bytes = TOTAL - used; *total = TOTAL; return 0; }

int cuMemAlloc_v2(uint64_t *address, size_t size) {
  void *found = used + size <= TOTAL ? aligned_alloc(16, (size + 15) / 16 * 16) : NULL;
  if (found == NULL) return 2;
  used += size;
  *address = (uint64_t)(uintptr_t)found;
  return 0;
}

int cuMemsetD32_v2(uint64_t address, unsigned value, size_t count) {
  for (size_t n = 0; n < count; n++) ((uint32_t *)(uintptr_t)address)[n] = value;
  return 0;
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { memcpy(to, (void *)(uintptr_t)from, size); return 0; }

static void note(const char *name) {
  const char *path = getenv("FAKE_CUDA_COUNT");
  FILE *file = path != NULL ? fopen(path, "a") : NULL;
  if (file == NULL) return;
  fprintf(file, "%s\n", name);
  fclose(file);
}

static void fill(void **given) {
  uint32_t *start = (uint32_t *)(uintptr_t)*(uint64_t *)given[0];
  uint64_t words = 4 * *(uint64_t *)given[1];
  uint32_t seed = *(uint32_t *)given[2], factor = *(uint32_t *)given[3];
  for (uint64_t n = 0; n < words; n++) start[n] = (uint32_t)n * factor + seed;
  now_ms += words * 4 / BANDWIDTH * 1e3;
}

static void check(void **given) {
  uint32_t *start = (uint32_t *)(uintptr_t)*(uint64_t *)given[0];
  uint64_t words = 4 * *(uint64_t *)given[1];
  uint32_t seed = *(uint32_t *)given[2], factor = *(uint32_t *)given[3];
  uint32_t *count = (uint32_t *)(uintptr_t)*(uint64_t *)given[4];
  if (wrong("wrong-memory") && words > 7) start[7] ^= 1u << 3;
  for (uint64_t n = 0; n < words; n++) *count += start[n] != (uint32_t)n * factor + seed;
  now_ms += words * 4 / BANDWIDTH * 1e3;
}

static void burn(void **given, double threads) {
  double rounds = *(uint32_t *)given[0];
  if (wrong("wrong-sums")) *(uint32_t *)(uintptr_t)*(uint64_t *)given[5] += 3;
  now_ms += threads * rounds * 2 * 128 / FLOPS * 1e3;
}

/* Tensor cores, eight times as fast. */
static void tensor(void **given, double threads) {
  if (wrong("wrong-tensors")) *(uint32_t *)(uintptr_t)*(uint64_t *)given[1] += 2;
  now_ms += threads / 32 * *(uint32_t *)given[0] * 2 * 32768 / (8 * FLOPS) * 1e3;
}

int cuLaunchKernel(void *function, unsigned blocks, unsigned y, unsigned z, unsigned threads, unsigned ty,
                   unsigned tz, unsigned shared, void *stream, void **given, void **extra) {
  (void)y, (void)z, (void)ty, (void)tz, (void)shared, (void)stream, (void)extra;
  double before = now_ms;
  note(function);
  if (wrong("hang")) for (;;) pause();
  if (wrong("crash")) abort();
  if (wrong("broken")) return UNCORRECTABLE;
  if (strstr(function, "_fill")) fill(given);
  else if (strstr(function, "_check")) check(given);
  else if (strstr(function, "_tensor")) tensor(given, (double)blocks * threads);
  else burn(given, (double)blocks * threads);
  if (wrong("slow")) now_ms += 2 * (now_ms - before);
  return 0;
}

int cuEventCreate(void **event, unsigned flags) { (void)flags; *event = calloc(1, sizeof(double)); return 0; }
int cuEventRecord(void *event, void *stream) { (void)stream; *(double *)event = now_ms; return 0; }
int cuEventSynchronize(void *event) { (void)event; usleep(1000); return 0; }
int cuEventDestroy_v2(void *event) { free(event); return 0; }

int cuEventElapsedTime(float *took_ms, void *from, void *to) {
  *took_ms = (float)(*(double *)to - *(double *)from);
  return 0;
}

int cuGetErrorName(int code, const char **name) {
  *name = code == UNCORRECTABLE ? "CUDA_ERROR_ECC_UNCORRECTABLE" : code == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR";
  return 0;
}
