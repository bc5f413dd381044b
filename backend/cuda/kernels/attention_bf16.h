// attention_bf16.h is how the bf16 attention kernels use the tensor cores. A
// warp multiplies M times 16 rows; of each 16, lane l has rows l/4 and l/4+8, and
// of each 8 columns those at 2(l%4) and 2(l%4)+1.
//
// What an ldmatrix brings of the other matrix, 512 bytes, feeds 2·M products. A
// multiprocessor reads 128 bytes a clock, so with M = 1 shared memory takes longer
// than the tensor cores. M is 2 where the registers suffice.
#pragma once
#include "attention.h"

// pitch is how far apart rows of D elements lie in shared memory.
static constexpr int pitch(int d) { return d + 8; }

// row_fragment is A = rows [0, 16), columns [16·kk, …) of a tile.
template <int D> DEVICE void row_fragment(unsigned a[4], const bf16* tile, int kk) {
	ldmatrix_x4(a, tile + (lane() & 15) * pitch(D) + kk * 16 + (lane() >> 4) * 8);
}

// clear makes sums zero.
template <int M, int J> DEVICE void clear(float (&acc)[M][J][4]) {
	UNROLL for (int i = 0; i < M; i++) UNROLL for (int j = 0; j < J; j++) UNROLL for (int e = 0; e < 4; e++) acc[i][j][e] = 0;
}

// scores is s = A·tileᵀ, 16·M × N: fragment(a, i, kk) gives columns [16·kk, …) of
// A's ith 16 rows, the tile is N rows of D.
template <int D, int N, int M, typename Fragment>
DEVICE void scores(float (&s)[M][N / 8][4], const bf16* tile, Fragment fragment) {
	clear(s);
	const bf16* at = tile + ((lane() >> 4) * 8 + (lane() & 7)) * pitch(D) + ((lane() >> 3) & 1) * 8;
	UNROLL for (int kk = 0; kk < D / 16; kk++) {
		unsigned a[M][4];
		UNROLL for (int i = 0; i < M; i++) fragment(a[i], i, kk);
		UNROLL for (int j = 0; j < N / 16; j++) {
			unsigned b[4];
			ldmatrix_x4(b, at + j * 16 * pitch(D) + kk * 16);
			UNROLL for (int i = 0; i < M; i++) {
				mma_bf16(s[i][2 * j], a[i], b);
				mma_bf16(s[i][2 * j + 1], a[i], b + 2);
			}
		}
	}
}

// mix is acc += P·tile, 16·M × D: P (16·M × N) as scores has it, rounded to bf16;
// the tile is N rows of D.
template <int D, int N, int M>
DEVICE void mix(float (&acc)[M][D / 8][4], const float (&p)[M][N / 8][4], const bf16* tile) {
	const bf16* at = tile + (lane() & 15) * pitch(D) + (lane() >> 4) * 8;
	UNROLL for (int kk = 0; kk < N / 16; kk++) {
		unsigned a[M][4];
		UNROLL for (int i = 0; i < M; i++) UNROLL for (int e = 0; e < 4; e++)
			a[i][e] = pack_bf16(p[i][2 * kk + e / 2][2 * (e % 2)], p[i][2 * kk + e / 2][2 * (e % 2) + 1]);
		UNROLL for (int j = 0; j < D / 16; j++) {
			unsigned b[4];
			ldmatrix_x4_trans(b, at + kk * 16 * pitch(D) + j * 16);
			UNROLL for (int i = 0; i < M; i++) {
				mma_bf16(acc[i][2 * j], a[i], b);
				mma_bf16(acc[i][2 * j + 1], a[i], b + 2);
			}
		}
	}
}

// hide sets the scores of the keys [k0, k0+N) that a row does not see: those after
// its position, before its window, and from end on. A lane's row r is the warp's
// row lane()/4 + 8·r; element e of its ith 16 rows belongs to r = 2·i + e/2. Rows
// that are not there are at −1 and see nothing.
template <int N, int M>
DEVICE void hide(float (&s)[M][N / 8][4], const int (&pos)[2 * M], int k0, int end, float by, const Heads& h) {
	const unsigned window = h.window > 0 ? h.window : 0x7fffffff;
	UNROLL for (int i = 0; i < M; i++) UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = 0; e < 4; e++) {
		const int p = k0 + j * 8 + lane() % 4 * 2 + e % 2;
		if (unsigned(pos[2 * i + e / 2] - p) >= window || p >= end) s[i][j][e] = by;
	}
}

// load_pair loads two neighbours of a row of n, at column c; zeros past its end.
DEVICE unsigned load_pair(const bf16* row, int c, int n, bool wide) {
	if (wide) return c < n ? *reinterpret_cast<const unsigned*>(row + c) : 0;
	return (c < n ? row[c].bits : 0u) | (c + 1 < n ? unsigned(row[c + 1].bits) << 16 : 0u);
}

// store_pair stores two neighbours of a row of n, at column c.
DEVICE void store_pair(bf16* row, int c, int n, float x, float y, bool wide) {
	if (wide) {
		if (c < n) *reinterpret_cast<unsigned*>(row + c) = pack_bf16(x, y);
		return;
	}
	if (c < n) row[c] = to_bf16(x);
	if (c + 1 < n) row[c + 1] = to_bf16(y);
}
