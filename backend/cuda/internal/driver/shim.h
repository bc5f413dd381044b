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

// nrt_cuda_launch starts fn on a grid of dims[0..2] blocks of dims[3..5] threads
// with dims[6] bytes of dynamic shared memory; params are packed as the kernel
// declares them.
CUresult nrt_cuda_launch(uint64_t fn, const uint32_t dims[7], uint64_t stream, const void *params, size_t bytes);

#endif
