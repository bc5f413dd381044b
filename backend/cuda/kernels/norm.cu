// RMSNorm: out = x·r·w with r = 1/sqrt(mean x² + eps), one r a row.
//
// Thread t of a block has the runs t, t+threads, … of a row, whether or not they
// can be loaded at once, and how many threads there are depends on dim alone. So
// the sums have the same order wherever a row lies.
#include "kernel.h"

template <typename T>
DEVICE void rmsnorm(T* out, float* rstd, const T* x, const T* w, int dim, float eps, float* scratch) {
	constexpr int N = run_of<T>;
	x += (long long)block_x() * dim;
	out += (long long)block_x() * dim;
	bool aligned = aligned16(x) && aligned16(out) && aligned16(w);
	float v[N], g[N], sum = 0;
	for (int j = thread() * N; j < dim; j += threads() * N) {
		load_run<N>(v, x + j, dim - j, aligned);
		UNROLL for (int i = 0; i < N; i++) sum = f_fma(v[i], v[i], sum);
	}
	float r = 1.0f / f_sqrt(block_sum(sum, scratch) / float(dim) + eps);
	if (thread() == 0) rstd[block_x()] = r;
	// The row is read again: it is still in the cache.
	for (int j = thread() * N; j < dim; j += threads() * N) {
		load_run<N>(v, x + j, dim - j, aligned);
		load_run<N>(g, w + j, dim - j, aligned);
		UNROLL for (int i = 0; i < N; i++) v[i] = v[i] * r * g[i];
		store_run<N>(out + j, v, dim - j, aligned);
	}
}

KERNEL(rmsnorm_f32, (float* out, float* rstd, const float* x, const float* w, int dim, float eps)) {
	SHARED(float, scratch, 32);
	rmsnorm(out, rstd, x, w, dim, eps, scratch);
}
KERNEL(rmsnorm_bf16, (bf16* out, float* rstd, const bf16* x, const bf16* w, int dim, float eps)) {
	SHARED(float, scratch, 32);
	rmsnorm(out, rstd, x, w, dim, eps, scratch);
}

// rmsnorm_backward takes each rows to the block:
//
//	dx_j += dout_j·w_j·r − x_j·r³/dim·Σ_i dout_i·w_i·x_i
//	part_j = Σ_rows dout_j·x_j·r        (one row of part a block)
//
// part is summed up in shared memory, where every thread has its own columns, and
// added to dw by rmsnorm_columns. The shared memory has room for whole runs and
// they are read and written as such, with zeros in the last one past dim: a guard
// for each number would not do, as the driver's compiler takes neighbours in
// shared memory together and before it looks at the guards.
template <typename T>
DEVICE void rmsnorm_backward(T* dx, float* part, const T* dout, const T* x, const T* w, const float* rstd,
                             int rows, int dim, int each, float* scratch, float* sums) {
	constexpr int N = run_of<T>;
	float d[N], v[N], g[N], a[N];
	for (int j = thread() * N; j < dim; j += threads() * N) {
		UNROLL for (int i = 0; i < N; i++) sums[j + i] = 0;
	}
	int end = (block_x() + 1) * each;
	for (int row = block_x() * each; row < rows && row < end; row++) {
		long long at = (long long)row * dim;
		const T *dr = dout + at, *xr = x + at;
		T* ar = dx + at;
		bool aligned = aligned16(dr) && aligned16(xr) && aligned16(ar) && aligned16(w);
		float r = rstd[row], t = 0;
		for (int j = thread() * N; j < dim; j += threads() * N) {
			load_run<N>(d, dr + j, dim - j, aligned);
			load_run<N>(v, xr + j, dim - j, aligned);
			load_run<N>(g, w + j, dim - j, aligned);
			UNROLL for (int i = 0; i < N; i++) t = f_fma(d[i] * v[i], g[i], t);
		}
		t = block_sum(t, scratch) * r * r * r / float(dim);
		for (int j = thread() * N; j < dim; j += threads() * N) {
			load_run<N>(d, dr + j, dim - j, aligned);
			load_run<N>(v, xr + j, dim - j, aligned);
			load_run<N>(g, w + j, dim - j, aligned);
			load_run<N>(a, ar + j, dim - j, aligned);
			UNROLL for (int i = 0; i < N; i++) {
				a[i] += f_fma(d[i] * g[i], r, -(v[i] * t));
				sums[j + i] = f_fma(d[i] * v[i], r, sums[j + i]);
			}
			store_run<N>(ar + j, a, dim - j, aligned);
		}
	}
	part += (long long)block_x() * dim;
	for (int j = thread() * N; j < dim; j += threads() * N) {
		UNROLL for (int i = 0; i < N; i++) a[i] = sums[j + i];
		store_run<N>(part + j, a, dim - j, aligned16(part));
	}
}

KERNEL(rmsnorm_backward_f32, (float* dx, float* part, const float* dout, const float* x, const float* w,
                              const float* rstd, int rows, int dim, int each)) {
	SHARED(float, scratch, 32);
	DYNAMIC_SHARED(float, sums);
	rmsnorm_backward(dx, part, dout, x, w, rstd, rows, dim, each, scratch, sums);
}
KERNEL(rmsnorm_backward_bf16, (bf16* dx, float* part, const bf16* dout, const bf16* x, const bf16* w,
                               const float* rstd, int rows, int dim, int each)) {
	SHARED(float, scratch, 32);
	DYNAMIC_SHARED(float, sums);
	rmsnorm_backward(dx, part, dout, x, w, rstd, rows, dim, each, scratch, sums);
}

// rmsnorm_columns adds to dw the columns of part (parts, dim), 32 of them a block
// of 256 threads: warp i adds the rows i, i+8, … and warp 0 the eight sums.
KERNEL(rmsnorm_columns, (float* dw, const float* part, int parts, int dim)) {
	SHARED(float, sums, 8 * 32);
	int j = block_x() * 32 + lane();
	float sum = 0;
	if (j < dim) {
#pragma unroll 8
		for (int i = warp(); i < parts; i += 8) sum += part[(long long)i * dim + j];
	}
	sums[warp() * 32 + lane()] = sum;
	sync();
	if (warp() != 0 || j >= dim) return;
	for (int i = 1; i < 8; i++) sum += sums[i * 32 + lane()];
	dw[j] += sum;
}
