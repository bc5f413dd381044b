// cuBLAS by dlopen: finding its functions and calling them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "shim.h"

static int look_up(nrt_cublas *l, void *slot, const char *name, const char *file, char *why, size_t len) {
  void *f = dlsym(l->lib, name);
  memcpy(slot, &f, sizeof f);
  if (f == NULL) snprintf(why, len, "%s has no function %s", file, name);
  return f != NULL;
}

int nrt_cublas_open(nrt_cublas *l, const char *file, const char *lt, char *why, size_t len) {
  memset(l, 0, sizeof *l);
  if (lt[0]) l->lt = dlopen(lt, RTLD_NOW | RTLD_LOCAL); // a failure shows in the next line
  l->lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (l->lib == NULL) {
    const char *text = dlerror();
    snprintf(why, len, "%s", text ? text : "unknown error");
    nrt_cublas_close(l);
    return 0;
  }
#define LOOK_UP(slot, name) look_up(l, &l->slot, name, file, why, len)
  int ok = LOOK_UP(create, "cublasCreate_v2") && LOOK_UP(destroy, "cublasDestroy_v2") &&
           LOOK_UP(set_stream, "cublasSetStream_v2") && LOOK_UP(set_workspace, "cublasSetWorkspace_v2") &&
           LOOK_UP(set_math_mode, "cublasSetMathMode") && LOOK_UP(get_version, "cublasGetVersion_v2") &&
           LOOK_UP(gemm_ex, "cublasGemmEx") && LOOK_UP(gemm_strided, "cublasGemmStridedBatchedEx");
  if (!ok) nrt_cublas_close(l);
  return ok;
}

void nrt_cublas_close(nrt_cublas *l) {
  if (l->lib) dlclose(l->lib);
  if (l->lt) dlclose(l->lt);
  memset(l, 0, sizeof *l);
}

int nrt_cublas_create(const nrt_cublas *l, void **handle, uintptr_t stream, uint64_t workspace, size_t bytes,
                      int *version, const char **op) {
  *op = "cublasCreate";
  int r = l->create(handle);
  if (r) return r;
  *op = "cublasSetStream";
  r = l->set_stream(*handle, (void *)stream);
  if (r == 0) {
    *op = "cublasSetWorkspace"; // after the stream, which takes the library's own
    r = l->set_workspace(*handle, (void *)(uintptr_t)workspace, bytes);
  }
  if (r == 0) {
    *op = "cublasSetMathMode";
    r = l->set_math_mode(*handle, NRT_FLOAT32_SUMS);
  }
  if (r == 0) {
    *op = "cublasGetVersion";
    r = l->get_version(*handle, version);
  }
  if (r) l->destroy(*handle);
  return r;
}

int nrt_cublas_destroy(const nrt_cublas *l, void *handle) { return l->destroy(handle); }

int nrt_cublas_gemm(const nrt_cublas *l, void *handle, const uint64_t x[16]) {
  const float alpha = 1, beta = (float)x[13];
  const void *a = (const void *)(uintptr_t)x[5], *b = (const void *)(uintptr_t)x[7];
  void *c = (void *)(uintptr_t)x[9];
  if (x[14] == 0)
    return l->gemm_ex(handle, (int)x[0], (int)x[1], (int)x[2], (int)x[3], (int)x[4], &alpha, a, (int)x[11], (int)x[6],
                      b, (int)x[11], (int)x[8], &beta, c, (int)x[12], (int)x[10], NRT_COMPUTE_32F, NRT_GEMM_DEFAULT);
  return l->gemm_strided(handle, (int)x[0], (int)x[1], (int)x[2], (int)x[3], (int)x[4], &alpha, a, (int)x[11],
                         (int)x[6], (long long)x[14], b, (int)x[11], (int)x[8], 0, &beta, c, (int)x[12], (int)x[10],
                         (long long)x[15], 2, NRT_COMPUTE_32F, NRT_GEMM_DEFAULT);
}
