// What driver.go calls beside the driver's own functions; see shim.c.
#ifndef NRT_SHIM_H
#define NRT_SHIM_H

#include "cuda.h"

// nrt_cuda_open is dlopen; why receives the reason of a failure.
void *nrt_cuda_open(const char *file, char *why, size_t len);
// nrt_cuda_load fills the slots from lib and calls its cuInit. It is 0 if lib has
// no cuInit and so is no driver.
int nrt_cuda_load(void *lib, CUresult *status);
// nrt_cuda_missing_name is the function last called that the driver lacks.
const char *nrt_cuda_missing_name(void);

// nrt_launch is the type Launch of calls.go.
typedef struct {
  uint64_t fn, off;
  uint32_t bytes, grid[7];
} nrt_launch;

// nrt_cuda_launch enqueues n launches in order, up to the first that fails.
CUresult nrt_cuda_launch(const nrt_launch *launches, size_t n, unsigned char *params, CUstream stream);

#endif
