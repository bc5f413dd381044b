// gemm.h is what all matrix products share: C = op(A)·op(B), float32 sums.
//
// One order of summation. k is cut into slices of SLICE. Within a slice a sum
// starts at zero and takes k in ascending order (bf16: one mma per 16, float32:
// one fused multiply-add each); the slices' sums are added to zero in ascending
// order; what C held is added last. Tiles, the number of rows, the number of
// blocks that share the slices and the way the operands are stored change none
// of it, so a row of C has the same bits in every product that it is part of.
// (Slices also keep the sums short, and the tensor core truncates in each step.)
//
// Padding is zeros in both operands: zero times what a neighbour's row holds
// would be NaN where that is infinite.
#pragma once
#include "kernel.h"

constexpr int SLICE = 512;

// What a product's flags say. An operand is plain if it can be read 16 bytes at
// a time: its address and its rows' distance are multiples of 16 bytes, and so is
// the length of its rows, or they are padded with zeros up to there.
enum {
	PLAIN_A = 1,
	PLAIN_B = 2,
	PLAIN_C = 4,      // address and rows' distance, multiples of 16 bytes
	FLOAT_C = 8,      // C is float32 though the operands are not
	ACCUMULATE = 16,  // C +=
};

// Product is one launch of a matrix product: the parameters of its kernels.
struct Product {
	const void *a, *b;
	void* c;
	float* parts;     // (tiles, slices, tile): sums of slices that blocks share, or null
	int* tickets;     // (tiles): zero before and after
	int m, n, k;
	int lda, ldb, ldc; // from row to row as stored, elements
	int flags;
};

DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Work is a block's share: its tile of C and its range of k.
struct Work {
	int tile, slice, slices; // slices is 1 where the block does all of k
	int row, col;            // of C
	int from, to;            // of k
};

// work finds a block's share. Blocks that share a tile are neighbours; tiles run
// down columns of eight, so that blocks at work at a time read few different
// rows of A and columns of B.
template <int BM, int BN> DEVICE Work work(const Product& p) {
	Work w;
	w.slices = p.parts ? ceil_div(p.k, SLICE) : 1;
	w.tile = block_x() / w.slices;
	w.slice = block_x() % w.slices;
	int down = ceil_div(p.m, BM), across = ceil_div(p.n, BN);
	int group = w.tile / (8 * across), in = w.tile % (8 * across);
	int high = down - 8 * group < 8 ? down - 8 * group : 8;
	w.row = (8 * group + in % high) * BM;
	w.col = in / high * BN;
	w.from = p.parts ? w.slice * SLICE : 0;
	w.to = p.parts && w.from + SLICE < p.k ? w.from + SLICE : p.k;
	return w;
}

// fetch starts to copy a tile of ROWS rows of CHUNKS·16 bytes, rows pitch bytes
// apart in shared memory, from row and col of a matrix that ends before rows and
// cols. Outside are zeros.
template <typename T, int ROWS, int CHUNKS, int PITCH, int THREADS>
DEVICE void fetch(unsigned char* to, const T* from, int ld, int row, int rows, int col, int cols, bool plain) {
	constexpr int N = 16 / sizeof(T);
	if (plain) {
		// A thread's rows are STEP apart and its place in them is one: little to
		// compute for a copy, which in the products' inner loops counts.
		constexpr int STEP = THREADS / CHUNKS;
		static_assert(THREADS % CHUNKS == 0, "whole rows of chunks at a time");
		const int r = thread() / CHUNKS, c = col + thread() % CHUNKS * N;
		const T* get = from + (long long)(row + r) * ld + c;
		to += r * PITCH + thread() % CHUNKS * 16;
		UNROLL for (int i = 0; i < (ROWS + STEP - 1) / STEP; i++) {
			if (ROWS % STEP && r + i * STEP >= ROWS) continue;
			cp_async16(to + i * STEP * PITCH, get + (long long)i * STEP * ld, c < cols && row + r + i * STEP < rows);
		}
		return;
	}
	for (int id = thread(); id < ROWS * CHUNKS; id += THREADS) {
		int r = id / CHUNKS, q = id % CHUNKS;
		T* put = reinterpret_cast<T*>(to + r * PITCH + q * 16);
		const T* get = from + (long long)(row + r) * ld + col + q * N;
		for (int e = 0; e < N; e++) put[e] = row + r < rows && col + q * N + e < cols ? get[e] : T{};
	}
}

// load starts to copy step k of both operands, BK deep, to a stage in shared memory:
// A as it lies, and behind its SIZE_A bytes B as it lies.
template <typename T, bool TA, bool TB, int BM, int BN, int BK, int PITCH_A, int SIZE_A, int PITCH_B, int THREADS>
DEVICE void load(unsigned char* stage, const Product& p, const Work& w, int k) {
	constexpr int N = 16 / sizeof(T);
	const T *a = static_cast<const T*>(p.a), *b = static_cast<const T*>(p.b);
	if (TA)
		fetch<T, BK, BM / N, PITCH_A, THREADS>(stage, a, p.lda, k, w.to, w.row, p.m, p.flags & PLAIN_A);
	else
		fetch<T, BM, BK / N, PITCH_A, THREADS>(stage, a, p.lda, w.row, p.m, k, w.to, p.flags & PLAIN_A);
	if (TB)
		fetch<T, BN, BK / N, PITCH_B, THREADS>(stage + SIZE_A, b, p.ldb, w.col, p.n, k, w.to, p.flags & PLAIN_B);
	else
		fetch<T, BK, BN / N, PITCH_B, THREADS>(stage + SIZE_A, b, p.ldb, k, w.to, w.col, p.n, p.flags & PLAIN_B);
}

// put writes a tile of sums, rows PITCH floats apart in shared memory, to C.
template <typename T, int BM, int BN, int PITCH, int THREADS>
DEVICE void put(const float* tile, T* c, const Product& p, const Work& w) {
	constexpr int N = 16 / sizeof(T);
	for (int id = thread(); id < BM * BN / N; id += THREADS) {
		int r = id / (BN / N), q = id % (BN / N) * N;
		if (w.row + r >= p.m || w.col + q >= p.n) continue;
		const float* sum = tile + r * PITCH + q;
		T* to = c + (long long)(w.row + r) * p.ldc + w.col + q;
		union {
			vec16 all;
			T each[N];
		} v;
		if (p.flags & PLAIN_C && w.col + q + N <= p.n) {
			if (p.flags & ACCUMULATE) v.all = load16(to);
			UNROLL for (int e = 0; e < N; e++) v.each[e] = from_float<T>(p.flags & ACCUMULATE ? to_float(v.each[e]) + sum[e] : sum[e]);
			store16(to, v.all);
			continue;
		}
		for (int e = 0; e < N && w.col + q + e < p.n; e++)
			to[e] = from_float<T>(p.flags & ACCUMULATE ? to_float(to[e]) + sum[e] : sum[e]);
	}
}

// finish brings a block's tile of sums from shared memory to C. Where blocks
// share a tile each leaves its slice's sums in parts, and the one that comes last
// adds them up. Which one that is changes nothing.
template <typename T, int BM, int BN, int PITCH, int THREADS>
DEVICE void finish(float* tile, const Product& p, const Work& w) {
	sync();
	if (w.slices > 1) {
		SHARED(int, last, 1);
		constexpr int AREA = BM * BN / 4;
		vec16* parts = reinterpret_cast<vec16*>(p.parts) + (long long)w.tile * w.slices * AREA;
		int area = p.m - w.row < BM ? (p.m - w.row) * (BN / 4) : AREA; // rows that there are
		for (int i = thread(); i < area; i += THREADS)
			store16(parts + w.slice * AREA + i, load16(tile + i / (BN / 4) * PITCH + i % (BN / 4) * 4));
		fence();
		sync();
		if (thread() == 0) {
			*last = atomic_add(p.tickets + w.tile, 1) == w.slices - 1;
			if (*last) p.tickets[w.tile] = 0;
			fence();
		}
		sync();
		if (!*last) return;
		for (int i = thread(); i < area; i += THREADS) {
			float sum[4] = {0, 0, 0, 0};
			for (int s = 0; s < w.slices; s++) {
				vec16 v = load16(parts + s * AREA + i);
				sum[0] += bits_float(v.x);
				sum[1] += bits_float(v.y);
				sum[2] += bits_float(v.z);
				sum[3] += bits_float(v.w);
			}
			UNROLL for (int e = 0; e < 4; e++) tile[i / (BN / 4) * PITCH + i % (BN / 4) * 4 + e] = sum[e];
		}
		sync();
	}
	if (sizeof(T) == 2 && !(p.flags & FLOAT_C))
		put<bf16, BM, BN, PITCH, THREADS>(tile, static_cast<bf16*>(p.c), p, w);
	else
		put<float, BM, BN, PITCH, THREADS>(tile, static_cast<float*>(p.c), p, w);
}

// GEMM defines a kernel that is one call of body(Product).
#define GEMM(threads, name, body)                                                                              \
	KERNEL_OF(threads, name, (const void* a, const void* b, void* c, float* parts, int* tickets, int m, int n, \
	                          int k, int lda, int ldb, int ldc, int flags)) {                                  \
		body(Product{a, b, c, parts, tickets, m, n, k, lda, ldb, ldc, flags});                                 \
	}
