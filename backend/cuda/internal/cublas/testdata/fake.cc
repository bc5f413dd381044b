// A cuBLAS for tests: the functions that the package uses, with cuBLAS's checks of
// its arguments, and a product in float64 by columns. Addresses are the host's.
// Where a driver is named by NRT_CUDA_LIBRARY, work is enqueued in the handle's
// stream, so that it comes in order and can be recorded; else it is done at once.
//
// NRT_FAKE_CUBLAS_FAIL names a function that fails. WITHOUT_GEMM leaves one out.
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

enum { success = 0, not_initialized = 1, invalid_value = 7, internal_error = 14, not_supported = 15 };
enum { real32 = 0, bfloat16 = 14 };

struct Handle {
	void* stream = nullptr;
	void* workspace = nullptr;
	int math = 0;
};

bool fails(const char* name) {
	const char* s = getenv("NRT_FAKE_CUBLAS_FAIL");
	return s && !strcmp(s, name);
}

struct Product {
	int op_a, op_b, m, n, k;
	float alpha, beta;
	const void *a, *b;
	void* c;
	int type_a, type_b, type_c, lda, ldb, ldc;
};

double get(const void* p, int type, int64_t at) {
	float f;
	uint32_t bits = type == real32 ? static_cast<const uint32_t*>(p)[at] : uint32_t(static_cast<const uint16_t*>(p)[at]) << 16;
	memcpy(&f, &bits, 4);
	return f;
}

void set(void* p, int type, int64_t at, float f) {
	uint32_t bits;
	memcpy(&bits, &f, 4);
	if (type == real32)
		static_cast<uint32_t*>(p)[at] = bits;
	else
		static_cast<uint16_t*>(p)[at] = uint16_t(f != f ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void run(void* data) {
	const Product& x = *static_cast<Product*>(data);
	for (int64_t j = 0; j < x.n; j++)
		for (int64_t i = 0; i < x.m; i++) {
			double sum = 0;
			for (int64_t p = 0; p < x.k; p++)
				sum += get(x.a, x.type_a, x.op_a ? i * x.lda + p : p * x.lda + i) * get(x.b, x.type_b, x.op_b ? p * x.ldb + j : j * x.ldb + p);
			int64_t at = j * x.ldc + i;
			double old = x.beta == 0 ? 0 : x.beta * get(x.c, x.type_c, at);
			set(x.c, x.type_c, at, float(x.alpha * sum + old));
		}
}

} // namespace

// How often GemmEx was called, for tests.
EXPORT int nrt_fake_gemms;
int nrt_fake_gemms = 0;

EXPORT int cublasCreate_v2(void** h) {
	if (fails("cublasCreate")) return not_initialized;
	*h = new Handle;
	return success;
}

EXPORT int cublasDestroy_v2(void* h) {
	delete static_cast<Handle*>(h);
	return success;
}

EXPORT int cublasSetStream_v2(void* h, void* stream) {
	*static_cast<Handle*>(h) = Handle{stream}; // which resets the workspace, as the real one does
	return fails("cublasSetStream") ? internal_error : success;
}

EXPORT int cublasSetWorkspace_v2(void* h, void* p, size_t bytes) {
	if (uintptr_t(p) % 256 || bytes < 1) return invalid_value;
	static_cast<Handle*>(h)->workspace = p;
	return success;
}

EXPORT int cublasSetMathMode(void* h, int mode) {
	static_cast<Handle*>(h)->math = mode;
	return success;
}

EXPORT int cublasGetVersion_v2(void*, int* v) {
	*v = 130400;
	return success;
}

static int gemm(void* handle, const Product& x, int compute, int algo) {
	Handle* h = static_cast<Handle*>(handle);
	if (x.op_a < 0 || x.op_a > 1 || x.op_b < 0 || x.op_b > 1 || x.m < 0 || x.n < 0 || x.k < 0) return invalid_value;
	if (x.lda < (x.op_a ? x.k : x.m) || x.lda < 1 || x.ldb < (x.op_b ? x.n : x.k) || x.ldb < 1 || x.ldc < x.m || x.ldc < 1) return invalid_value;
	bool types = (x.type_a == real32 && x.type_b == real32 && x.type_c == real32) ||
	             (x.type_a == bfloat16 && x.type_b == bfloat16 && (x.type_c == bfloat16 || x.type_c == real32));
	if (!types || compute != 68 || algo != -1 || h->math != 16) return not_supported;
	if (!h->workspace) return internal_error; // the library would allocate, which cannot be recorded
	const char* driver = getenv("NRT_CUDA_LIBRARY");
	if (!driver) {
		Product once = x;
		run(&once);
		return success;
	}
	typedef int (*Launch)(void* stream, void (*f)(void*), void* data);
	void* lib = dlopen(driver, RTLD_NOW | RTLD_LOCAL);
	Launch launch = lib ? reinterpret_cast<Launch>(dlsym(lib, "cuLaunchHostFunc")) : nullptr;
	if (!launch) return internal_error;
	return launch(h->stream, run, new Product(x)) ? internal_error : success; // a recorded product may run again: it is never deleted
}

#ifndef WITHOUT_GEMM
EXPORT int cublasGemmEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda, const void* b,
                        int type_b, int ldb, const void* beta, void* c, int type_c, int ldc, int compute, int algo) {
	nrt_fake_gemms++;
	if (fails("cublasGemmEx")) return internal_error;
	return gemm(handle, Product{op_a, op_b, m, n, k, *static_cast<const float*>(alpha), *static_cast<const float*>(beta), a, b, c, type_a, type_b, type_c, lda, ldb, ldc}, compute, algo);
}
#endif

static const void* at(const void* p, int type, int64_t n) { return static_cast<const char*>(p) + n * (type == real32 ? 4 : 2); }

EXPORT int cublasGemmStridedBatchedEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda,
                                      long long stride_a, const void* b, int type_b, int ldb, long long stride_b, const void* beta, void* c, int type_c,
                                      int ldc, long long stride_c, int count, int compute, int algo) {
	nrt_fake_gemms++;
	if (fails("cublasGemmStridedBatchedEx")) return internal_error;
	if (count < 0) return invalid_value;
	for (int i = 0; i < count; i++) {
		int r = gemm(handle, Product{op_a, op_b, m, n, k, *static_cast<const float*>(alpha), *static_cast<const float*>(beta), at(a, type_a, i * stride_a),
		                             at(b, type_b, i * stride_b), const_cast<void*>(at(c, type_c, i * stride_c)), type_a, type_b, type_c, lda, ldb, ldc}, compute, algo);
		if (r) return r;
	}
	return success;
}
