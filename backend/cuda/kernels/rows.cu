// Rows by index: gather, scatter, scatter with addition, and rows of Weights. A
// block has one row of the result, or a part of its columns.
#include "weights.h"

// move copies a row; threads take neighbouring runs.
template <typename T> DEVICE void move(T* to, const T* from, int width) {
	constexpr int N = run_of<T>;
	bool aligned = aligned16(to) && aligned16(from);
	for (int j = (block_y() * threads() + thread()) * N; j < width; j += grid_y() * threads() * N) {
		if (aligned && width - j >= N) {
			store16(to + j, load16(from + j));
		} else {
			UNROLL for (int i = 0; i < N; i++) if (j + i < width) to[j + i] = from[j + i];
		}
	}
}

// gather_rows: dst[i] = src[rows[i]]; scatter_rows: dst[rows[i]] = src[i], and the
// same for a second pair in the grid's third dimension. Block i of the first
// dimension has row i, the second shares out its columns.
template <typename T> DEVICE void gather(T* dst, const T* src, const int* rows, int width) {
	long long i = block_x();
	move(dst + i * width, src + (long long)rows[i] * width, width);
}
template <typename T> DEVICE void scatter(T* dst1, const T* src1, T* dst2, const T* src2, const int* rows, int width) {
	T* dst = block_z() ? dst2 : dst1;
	const T* src = block_z() ? src2 : src1;
	long long i = block_x();
	move(dst + (long long)rows[i] * width, src + i * width, width);
}

KERNEL(gather_rows_f32, (float* dst, const float* src, const int* rows, int width)) { gather(dst, src, rows, width); }
KERNEL(gather_rows_bf16, (bf16* dst, const bf16* src, const int* rows, int width)) { gather(dst, src, rows, width); }
KERNEL(scatter_rows_f32, (float* dst1, const float* src1, float* dst2, const float* src2, const int* rows, int width)) {
	scatter(dst1, src1, dst2, src2, rows, width);
}
KERNEL(scatter_rows_bf16, (bf16* dst1, const bf16* src1, bf16* dst2, const bf16* src2, const int* rows, int width)) {
	scatter(dst1, src1, dst2, src2, rows, width);
}

// scatter_add adds rows of src to rows of dst where several may go to one: block
// k has row to[k] and adds to it the rows from[first[k]] … from[first[k+1]-1], in
// that order and in float32, and rounds once.
template <typename D, typename S>
DEVICE void scatter_add(D* dst, const S* src, const int* to, const int* first, const int* from, int width) {
	constexpr int N = run_of_both<D, S>;
	D* out = dst + (long long)to[block_x()] * width;
	int begin = first[block_x()], end = first[block_x() + 1];
	bool aligned_out = aligned16(out);
	bool aligned = aligned16(src) && width % N == 0; // then all rows are
	for (int j = (block_y() * threads() + thread()) * N; j < width; j += grid_y() * threads() * N) {
		float sum[N], x[N];
		load_run<N>(sum, out + j, width - j, aligned_out);
#pragma unroll 4
		for (int s = begin; s < end; s++) {
			load_run<N>(x, src + (long long)from[s] * width + j, width - j, aligned);
			UNROLL for (int i = 0; i < N; i++) sum[i] += x[i];
		}
		store_run<N>(out + j, sum, width - j, aligned_out);
	}
}

#define SCATTER_ADD(name, D, S) \
	KERNEL(name, (D* dst, const S* src, const int* to, const int* first, const int* from, int width)) { \
		scatter_add(dst, src, to, first, from, width); \
	}
SCATTER_ADD(scatter_add_rows_f32, float, float)
SCATTER_ADD(scatter_add_rows_bf16, bf16, bf16)
SCATTER_ADD(scatter_add_rows_f32_bf16, float, bf16)

// embed: out[i] = row ids[i] of Weights, one block or more to the row.
template <typename T>
DEVICE void embed(T* out, const void* data, const bf16* scales, int format, int pitch, const int* ids, int width) {
	int id = ids[block_x()];
	out += (long long)block_x() * width;
	for (int j = block_y() * threads() + thread(); j < width; j += grid_y() * threads()) {
		out[j] = from_float<T>(weight(data, scales, format, pitch, id, j));
	}
}
KERNEL(embed_f32, (float* out, const void* data, const bf16* scales, int format, int pitch, const int* ids, int width)) {
	embed(out, data, scales, format, pitch, ids, width);
}
KERNEL(embed_bf16, (bf16* out, const void* data, const bf16* scales, int format, int pitch, const int* ids, int width)) {
	embed(out, data, scales, format, pitch, ids, width);
}
