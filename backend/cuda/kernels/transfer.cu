// Filling, copying, adding and scaling runs of numbers of either type. Each
// thread takes runs of eight, a grid's width apart.
#include "kernel.h"

constexpr int N = 8;

DEVICE long long first_run() { return ((long long)block_x() * threads() + thread()) * N; }
DEVICE long long all_runs() { return (long long)grid_x() * threads() * N; }

template <typename T> DEVICE void zero(T* p, long long n) {
	float x[N] = {};
	bool aligned = aligned16(p);
	for (long long j = first_run(); j < n; j += all_runs()) store_run<N>(p + j, x, n - j, aligned);
}

template <typename D, typename S> DEVICE void copy(D* dst, const S* src, long long n) {
	bool in = aligned16(src), out = aligned16(dst);
	for (long long j = first_run(); j < n; j += all_runs()) {
		float x[N];
		load_run<N>(x, src + j, n - j, in);
		store_run<N>(dst + j, x, n - j, out);
	}
}

template <typename D, typename S> DEVICE void add(D* dst, const S* src, long long n) {
	bool in = aligned16(src), out = aligned16(dst);
	for (long long j = first_run(); j < n; j += all_runs()) {
		float x[N], y[N];
		load_run<N>(x, src + j, n - j, in);
		load_run<N>(y, dst + j, n - j, out);
		UNROLL for (int i = 0; i < N; i++) y[i] += x[i];
		store_run<N>(dst + j, y, n - j, out);
	}
}

template <typename T> DEVICE void scale(T* p, long long n, float by) {
	bool aligned = aligned16(p);
	for (long long j = first_run(); j < n; j += all_runs()) {
		float x[N];
		load_run<N>(x, p + j, n - j, aligned);
		UNROLL for (int i = 0; i < N; i++) x[i] *= by;
		store_run<N>(p + j, x, n - j, aligned);
	}
}

KERNEL(zero_f32, (float* p, long long n)) { zero(p, n); }
KERNEL(zero_bf16, (bf16* p, long long n)) { zero(p, n); }

// The type of dst comes first.
KERNEL(copy_f32_f32, (float* dst, const float* src, long long n)) { copy(dst, src, n); }
KERNEL(copy_f32_bf16, (float* dst, const bf16* src, long long n)) { copy(dst, src, n); }
KERNEL(copy_bf16_f32, (bf16* dst, const float* src, long long n)) { copy(dst, src, n); }
KERNEL(copy_bf16_bf16, (bf16* dst, const bf16* src, long long n)) { copy(dst, src, n); }

KERNEL(add_f32_f32, (float* dst, const float* src, long long n)) { add(dst, src, n); }
KERNEL(add_f32_bf16, (float* dst, const bf16* src, long long n)) { add(dst, src, n); }
KERNEL(add_bf16_f32, (bf16* dst, const float* src, long long n)) { add(dst, src, n); }
KERNEL(add_bf16_bf16, (bf16* dst, const bf16* src, long long n)) { add(dst, src, n); }

KERNEL(scale_f32, (float* p, long long n, float by)) { scale(p, n, by); }
KERNEL(scale_bf16, (bf16* p, long long n, float by)) { scale(p, n, by); }
