// The driver's functions, found at run time.
//
// gorgonia.org/cu refers to the functions of libcuda as any C program would. This
// file defines each of them as a jump through a slot, so that the program links
// without libcuda and starts where there is none. nrt_cuda_load fills the slots
// from a library. A slot that is still empty leads to nrt_cuda_missing, which
// remembers the function's name and returns an error code: never a crash.
//
// The tempting other way, dlsym at the first call of each function, would need
// the type of every function; a jump forwards any arguments untouched.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include "shim.h"

static _Atomic(const char *) missing_name;

__attribute__((used, visibility("hidden"))) CUresult nrt_cuda_missing(const char *name) {
  missing_name = name;
  return CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND;
}

const char *nrt_cuda_missing_name(void) { return missing_name; }

// Registers of a jump must not hold arguments: x16 on arm64 and none at all on
// amd64. The stub that stands in an empty slot may spoil the first argument.
#if defined(__x86_64__)
#define JUMP(name)                                  \
  ".globl " #name "\n.type " #name ", @function\n"  \
  #name ": endbr64\n jmp *nrt_slot_" #name "(%rip)\n" \
  "nrt_stub_" #name ": endbr64\n lea nrt_name_" #name "(%rip), %rdi\n jmp nrt_cuda_missing\n"
#elif defined(__aarch64__)
#define JUMP(name)                                  \
  ".globl " #name "\n.type " #name ", @function\n"  \
  #name ": hint 34\n adrp x16, nrt_slot_" #name "\n ldr x16, [x16, :lo12:nrt_slot_" #name "]\n br x16\n" \
  "nrt_stub_" #name ": hint 36\n adrp x0, nrt_name_" #name "\n add x0, x0, :lo12:nrt_name_" #name "\n b nrt_cuda_missing\n"
#else
#error "the CUDA backend is for amd64 and arm64"
#endif

#define X(name)                                                            \
  __asm__(".text\n.balign 16\n" JUMP(name)                                 \
          ".section .rodata\nnrt_name_" #name ": .string \"" #name "\"\n"  \
          ".section .data.rel.local,\"aw\"\n.balign 8\n"                   \
          "nrt_slot_" #name ": .quad nrt_stub_" #name "\n.text\n");
#include "symbols.h"
#undef X

#define X(name) extern __attribute__((visibility("hidden"))) void *nrt_slot_##name;
#include "symbols.h"
#undef X

static const struct {
  const char *name;
  void **slot;
} slots[] = {
#define X(name) {#name, &nrt_slot_##name},
#include "symbols.h"
#undef X
};

// cu calls cuInit as the program starts and ends the process when it fails.
// So this one succeeds, and nrt_cuda_load calls the driver's.
CUresult cuInit(unsigned int flags) { return CUDA_SUCCESS; }

void *nrt_cuda_open(const char *file, char *why, size_t len) {
  void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (lib == NULL) {
    const char *text = dlerror();
    strncpy(why, text ? text : "unknown error", len - 1);
  }
  return lib;
}

int nrt_cuda_load(void *lib, CUresult *status) {
  CUresult (*init)(unsigned int) = (CUresult(*)(unsigned int))dlsym(lib, "cuInit");
  if (init == NULL) return 0;
  for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
    void *f = dlsym(lib, slots[i].name);
    if (f != NULL) *slots[i].slot = f;
  }
  *status = init(0);
  return 1;
}

CUresult nrt_cuda_launch(const nrt_launch *launches, size_t n, unsigned char *params, CUstream stream) {
  for (const nrt_launch *l = launches; l < launches + n; l++) {
    size_t bytes = l->bytes;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, params + l->off, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    const uint32_t *g = l->grid;
    CUresult r = cuLaunchKernel((CUfunction)l->fn, g[0], g[1], g[2], g[3], g[4], g[5], g[6], stream, NULL, bytes ? extra : NULL);
    if (r != CUDA_SUCCESS) return r;
  }
  return CUDA_SUCCESS;
}
