// Filling, copying, adding and scaling runs of numbers of either type.
#include "kernel.h"

template <typename T> DEVICE void zero(T* p, long long n) {
	constexpr int N = run_of<T>;
	each_run<N, 1>(n, aligned16(p),
		[&](float (*x)[N], long long, long long, bool) { UNROLL for (int i = 0; i < N; i++) x[0][i] = 0; },
		[&](float (*x)[N], long long j, long long left, bool aligned) { store_run<N>(p + j, x[0], left, aligned); });
}

template <typename D, typename S> DEVICE void copy(D* dst, const S* src, long long n) {
	constexpr int N = run_of_both<D, S>;
	each_run<N, 1>(n, aligned16(src) && aligned16(dst),
		[&](float (*x)[N], long long j, long long left, bool aligned) { load_run<N>(x[0], src + j, left, aligned); },
		[&](float (*x)[N], long long j, long long left, bool aligned) { store_run<N>(dst + j, x[0], left, aligned); });
}

template <typename D, typename S> DEVICE void add(D* dst, const S* src, long long n) {
	constexpr int N = run_of_both<D, S>;
	each_run<N, 2>(n, aligned16(src) && aligned16(dst),
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			load_run<N>(x[0], dst + j, left, aligned);
			load_run<N>(x[1], src + j, left, aligned);
		},
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			UNROLL for (int i = 0; i < N; i++) x[0][i] += x[1][i];
			store_run<N>(dst + j, x[0], left, aligned);
		});
}

template <typename T> DEVICE void scale(T* p, long long n, float by) {
	constexpr int N = run_of<T>;
	each_run<N, 1>(n, aligned16(p),
		[&](float (*x)[N], long long j, long long left, bool aligned) { load_run<N>(x[0], p + j, left, aligned); },
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			UNROLL for (int i = 0; i < N; i++) x[0][i] *= by;
			store_run<N>(p + j, x[0], left, aligned);
		});
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
