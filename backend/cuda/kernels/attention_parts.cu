// The small kernels of attention: what is left to do by rows.
#include "attention.h"

// attention_combine joins the partial results of a query's chunks, in their
// order: one warp for each query head. list has, for each query, its row, its
// first slot and how many slots; none: nothing to do. With a chunk's m, l, acc,
//
//	M = max m,  out = Σ 2^(m−M)·acc / Σ 2^(m−M)·l,  lse = (M + log2 Σ 2^(m−M)·l)·ln 2
//
// It reads 4·dim bytes of every chunk and head, 1/60 of what the chunk has in
// keys and values for one query of a group of four.
template <typename T>
DEVICE void combine(T* out, float* lse, const float* sums, const float* partial, const int* list, int heads, int dim) {
	const int head = block_y() * 4 + warp();
	const int row = list[4 * block_x()], slot = list[4 * block_x() + 1], n = list[4 * block_x() + 2];
	if (head >= heads || n == 0) return;
	const float* of = sums + 2 * ((long long)slot * heads + head);
	float top = minus_infinity();
	for (int i = 0; i < n; i++) top = f_max(top, of[2LL * i * heads]);
	const float base = top == minus_infinity() ? 0.0f : top;
	const float* from = partial + ((long long)slot * heads + head) * dim;
	float sum = 0, acc[8] = {0, 0, 0, 0, 0, 0, 0, 0};
	for (int i = 0; i < n; i++) {
		float by = f_exp2(of[2LL * i * heads] - base);
		sum = f_fma(by, of[2LL * i * heads + 1], sum);
		UNROLL for (int j = 0; j < 8; j++) {
			int d = lane() + 32 * j;
			if (d < dim) acc[j] = f_fma(by, from[(long long)i * heads * dim + d], acc[j]);
		}
	}
	const long long at = (long long)row * heads + head;
	if (lane() == 0) lse[at] = (top + f_log2(sum)) * ln_2;
	UNROLL for (int j = 0; j < 8; j++) {
		int d = lane() + 32 * j;
		if (d < dim) out[at * dim + d] = from_float<T>(acc[j] / sum);
	}
}

KERNEL_OF(128, attention_combine_f32, (float* out, float* lse, const float* sums, const float* partial, const int* list, int heads, int dim)) {
	combine(out, lse, sums, partial, list, heads, dim);
}
KERNEL_OF(128, attention_combine_bf16, (bf16* out, float* lse, const float* sums, const float* partial, const int* list, int heads, int dim)) {
	combine(out, lse, sums, partial, list, heads, dim);
}

// attention_delta is delta = dout·out for each query head of each row: what the
// softmax's gradient subtracts. lanes of a warp, a power of two, share a row, 16
// bytes each at a time; a row's sum depends on lanes and dim alone. Memory limits it.
template <typename T> DEVICE void row_products(float* delta, const T* dout, const T* out, int rows, int dim, int lanes, int wide) {
	constexpr int N = run_of<T>;
	const long long row = (long long)block_x() * (threads() / lanes) + thread() / lanes;
	float sum = 0;
	for (int d = thread() % lanes * N; row < rows && d < dim; d += lanes * N) {
		float x[N], y[N];
		load_run<N>(x, dout + row * dim + d, dim - d, wide);
		load_run<N>(y, out + row * dim + d, dim - d, wide);
		UNROLL for (int i = 0; i < N; i++) sum = f_fma(x[i], y[i], sum);
	}
	for (int m = lanes / 2; m; m /= 2) sum += shfl_xor(sum, m);
	if (row < rows && thread() % lanes == 0) delta[row] = sum;
}

KERNEL_OF(128, attention_delta_f32, (float* delta, const float* dout, const float* out, int rows, int dim, int lanes, int wide)) {
	row_products(delta, dout, out, rows, dim, lanes, wide);
}
KERNEL_OF(128, attention_delta_bf16, (float* delta, const bf16* dout, const bf16* out, int rows, int dim, int lanes, int wide)) {
	row_products(delta, dout, out, rows, dim, lanes, wide);
}

// attention_reduce adds up the partial dk and dv of key tiles that many Seqs see,
// in the order of their slots, onto dk and dv: block (tile, key head). list has,
// for each tile, its first row, how many rows, the first slot, how many slots.
template <typename T> DEVICE void reduce(T* dk, T* dv, const float* partial, const int* list, int dim) {
	const int row = list[4 * block_x()], rows = list[4 * block_x() + 1], slot = list[4 * block_x() + 2], n = list[4 * block_x() + 3];
	const int heads = grid_y();
	for (int i = thread(); i < rows * dim; i += threads()) {
		const long long at = ((long long)(row + i / dim) * heads + block_y()) * dim + i % dim;
		float k = 0, v = 0;
		for (int s = 0; s < n; s++) {
			const float* from = partial + ((long long)(slot + s) * heads + block_y()) * 2 * 64 * dim + i;
			k += from[0];
			v += from[64LL * dim];
		}
		dk[at] = from_float<T>(to_float(dk[at]) + k);
		dv[at] = from_float<T>(to_float(dv[at]) + v);
	}
}

KERNEL_OF(256, attention_reduce_f32, (float* dk, float* dv, const float* partial, const int* list, int dim)) {
	reduce(dk, dv, partial, list, dim);
}
KERNEL_OF(256, attention_reduce_bf16, (bf16* dk, bf16* dv, const float* partial, const int* list, int dim)) {
	reduce(dk, dv, partial, list, dim);
}
