// SwiGLU: out = silu(gate)·up with silu(g) = g·σ(g).
#include "kernel.h"

DEVICE float sigmoid(float g) { return 1.0f / (1.0f + f_exp(-g)); }

template <typename T> DEVICE void swiglu(T* out, const T* gate, const T* up, long long n) {
	constexpr int N = run_of<T>;
	bool aligned = aligned16(out) && aligned16(gate) && aligned16(up);
	long long step = (long long)grid_x() * threads() * N;
	for (long long j = ((long long)block_x() * threads() + thread()) * N; j < n; j += step) {
		float g[N], u[N];
		load_run<N>(g, gate + j, n - j, aligned);
		load_run<N>(u, up + j, n - j, aligned);
		UNROLL for (int i = 0; i < N; i++) u[i] = g[i] * sigmoid(g[i]) * u[i];
		store_run<N>(out + j, u, n - j, aligned);
	}
}

KERNEL(swiglu_f32, (float* out, const float* gate, const float* up, long long n)) { swiglu(out, gate, up, n); }
KERNEL(swiglu_bf16, (bf16* out, const bf16* gate, const bf16* up, long long n)) { swiglu(out, gate, up, n); }

// silu'(g) = σ(g)·(1 + g·(1−σ(g))), so dgate = dout·up·silu'(gate) and
// dup = dout·silu(gate).
template <typename T>
DEVICE void swiglu_backward(T* dgate, T* dup, const T* dout, const T* gate, const T* up, long long n) {
	constexpr int N = run_of<T>;
	bool aligned = aligned16(dgate) && aligned16(dup) && aligned16(dout) && aligned16(gate) && aligned16(up);
	long long step = (long long)grid_x() * threads() * N;
	for (long long j = ((long long)block_x() * threads() + thread()) * N; j < n; j += step) {
		float d[N], g[N], u[N];
		load_run<N>(d, dout + j, n - j, aligned);
		load_run<N>(g, gate + j, n - j, aligned);
		load_run<N>(u, up + j, n - j, aligned);
		UNROLL for (int i = 0; i < N; i++) {
			float s = sigmoid(g[i]);
			u[i] = d[i] * u[i] * s * f_fma(g[i], 1.0f - s, 1.0f);
			d[i] = d[i] * g[i] * s;
		}
		store_run<N>(dgate + j, u, n - j, aligned);
		store_run<N>(dup + j, d, n - j, aligned);
	}
}

KERNEL(swiglu_backward_f32, (float* dgate, float* dup, const float* dout, const float* gate, const float* up, long long n)) {
	swiglu_backward(dgate, dup, dout, gate, up, n);
}
KERNEL(swiglu_backward_bf16, (bf16* dgate, bf16* dup, const bf16* dout, const bf16* gate, const bf16* up, long long n)) {
	swiglu_backward(dgate, dup, dout, gate, up, n);
}
