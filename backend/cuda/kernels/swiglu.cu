// SwiGLU: out = silu(gate)·up with silu(g) = g·σ(g).
#include "kernel.h"

DEVICE float sigmoid(float g) { return f_rcp(1.0f + f_exp(-g)); }

template <typename T> DEVICE void swiglu(T* out, const T* gate, const T* up, long long n) {
	constexpr int N = run_of<T>;
	each_run<N, 2>(n, aligned16(out) && aligned16(gate) && aligned16(up),
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			load_run<N>(x[0], gate + j, left, aligned);
			load_run<N>(x[1], up + j, left, aligned);
		},
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			float *g = x[0], *u = x[1];
			UNROLL for (int i = 0; i < N; i++) u[i] = g[i] * sigmoid(g[i]) * u[i];
			store_run<N>(out + j, u, left, aligned);
		});
}

KERNEL(swiglu_f32, (float* out, const float* gate, const float* up, long long n)) { swiglu(out, gate, up, n); }
KERNEL(swiglu_bf16, (bf16* out, const bf16* gate, const bf16* up, long long n)) { swiglu(out, gate, up, n); }

// silu'(g) = σ(g)·(1 + g·(1−σ(g))), so dgate = dout·up·silu'(gate) and
// dup = dout·silu(gate).
template <typename T>
DEVICE void swiglu_backward(T* dgate, T* dup, const T* dout, const T* gate, const T* up, long long n) {
	constexpr int N = run_of<T>;
	each_run<N, 3>(n, aligned16(dgate) && aligned16(dup) && aligned16(dout) && aligned16(gate) && aligned16(up),
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			load_run<N>(x[0], dout + j, left, aligned);
			load_run<N>(x[1], gate + j, left, aligned);
			load_run<N>(x[2], up + j, left, aligned);
		},
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			float *d = x[0], *g = x[1], *u = x[2];
			UNROLL for (int i = 0; i < N; i++) {
				float s = sigmoid(g[i]);
				u[i] = d[i] * u[i] * s * f_fma(g[i], 1.0f - s, 1.0f);
				d[i] = d[i] * g[i] * s;
			}
			store_run<N>(dgate + j, u, left, aligned);
			store_run<N>(dup + j, d, left, aligned);
		});
}

KERNEL(swiglu_backward_f32, (float* dgate, float* dup, const float* dout, const float* gate, const float* up, long long n)) {
	swiglu_backward(dgate, dup, dout, gate, up, n);
}
KERNEL(swiglu_backward_bf16, (bf16* dgate, bf16* dup, const bf16* dout, const bf16* gate, const bf16* up, long long n)) {
	swiglu_backward(dgate, dup, dout, gate, up, n);
}
