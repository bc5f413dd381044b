// What cublas.go calls; see shim.c. The declarations of cuBLAS are written from
// its public documentation.
#ifndef NRT_CUBLAS_SHIM_H
#define NRT_CUBLAS_SHIM_H

#include <stddef.h>
#include <stdint.h>

// Values of cuBLAS that are used here.
enum {
  NRT_OP_N = 0,              // CUBLAS_OP_N
  NRT_OP_T = 1,              // CUBLAS_OP_T
  NRT_R_32F = 0,             // CUDA_R_32F
  NRT_R_16BF = 14,           // CUDA_R_16BF
  NRT_COMPUTE_32F = 68,      // CUBLAS_COMPUTE_32F
  NRT_GEMM_DEFAULT = -1,     // CUBLAS_GEMM_DEFAULT
  NRT_FLOAT32_SUMS = 16,     // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
};

// nrt_cublas is a library that was loaded: its functions.
typedef struct {
  void *lib, *lt;
  int (*create)(void **handle);
  int (*destroy)(void *handle);
  int (*set_stream)(void *handle, void *stream);
  int (*set_workspace)(void *handle, void *workspace, size_t bytes);
  int (*set_math_mode)(void *handle, int mode);
  int (*get_version)(void *handle, int *version);
  int (*gemm_ex)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                 int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc,
                 int compute, int algo);
  int (*gemm_strided)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a,
                      int type_a, int lda, long long stride_a, const void *b, int type_b, int ldb, long long stride_b,
                      const void *beta, void *c, int type_c, int ldc, long long stride_c, int count, int compute,
                      int algo);
} nrt_cublas;

// nrt_cublas_open loads file, after lt if that is not empty (file needs it and
// may lie where the loader does not look). It is 0 and why receives the reason if
// that fails or a function is missing.
int nrt_cublas_open(nrt_cublas *l, const char *file, const char *lt, char *why, size_t len);
void nrt_cublas_close(nrt_cublas *l);

int nrt_cublas_create(const nrt_cublas *l, void **handle, uintptr_t stream, uint64_t workspace, size_t bytes,
                      int *version, const char **op);
int nrt_cublas_destroy(const nrt_cublas *l, void *handle);

// nrt_cublas_gemm: x is op_a, op_b, m, n, k, a, lda, b, ldb, c, ldc, type of a and
// b, type of c, beta (0 or 1), and of a second product with the same b how far its
// a and c are from the first's, in numbers, or 0; see Gemm.
int nrt_cublas_gemm(const nrt_cublas *l, void *handle, const uint64_t x[16]);

#endif
