// attention_bf16.h is how the bf16 attention kernels use the tensor cores. A
// warp multiplies its 16 rows; lane l has rows l/4 and l/4+8 of them, and of
// each 8 columns those at 2(l%4) and 2(l%4)+1.
#pragma once
#include "attention.h"

// pitch is how far apart rows of D elements lie in shared memory.
static constexpr int pitch(int d) { return d + 8; }

// row_fragment is A = rows [0, 16), columns [16·kk, …) of a tile.
template <int D> DEVICE void row_fragment(unsigned a[4], const bf16* tile, int kk) {
	ldmatrix_x4(a, tile + (lane() & 15) * pitch(D) + kk * 16 + (lane() >> 4) * 8);
}

// scores is s = A·tileᵀ, 16 × N: a's KK-th fragment is rows·columns [16·KK, …),
// the tile is N rows of D.
template <int D, int N, typename Fragment>
DEVICE void scores(float (&s)[N / 8][4], const bf16* tile, Fragment fragment) {
	UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = 0; e < 4; e++) s[j][e] = 0;
	const bf16* at = tile + ((lane() >> 4) * 8 + (lane() & 7)) * pitch(D) + ((lane() >> 3) & 1) * 8;
	UNROLL for (int kk = 0; kk < D / 16; kk++) {
		unsigned a[4];
		fragment(a, kk);
		UNROLL for (int j = 0; j < N / 16; j++) {
			unsigned b[4];
			ldmatrix_x4(b, at + j * 16 * pitch(D) + kk * 16);
			mma_bf16(s[2 * j], a, b);
			mma_bf16(s[2 * j + 1], a, b + 2);
		}
	}
}

// mix is acc += P·tile, 16 × D: P (16 × N) as scores has it, rounded to bf16; the
// tile is N rows of D.
template <int D, int N> DEVICE void mix(float (&acc)[D / 8][4], const float (&p)[N / 8][4], const bf16* tile) {
	const bf16* at = tile + (lane() & 15) * pitch(D) + (lane() >> 4) * 8;
	UNROLL for (int kk = 0; kk < N / 16; kk++) {
		const unsigned a[4] = {pack_bf16(p[2 * kk][0], p[2 * kk][1]), pack_bf16(p[2 * kk][2], p[2 * kk][3]),
		                       pack_bf16(p[2 * kk + 1][0], p[2 * kk + 1][1]), pack_bf16(p[2 * kk + 1][2], p[2 * kk + 1][3])};
		UNROLL for (int j = 0; j < D / 16; j++) {
			unsigned b[4];
			ldmatrix_x4_trans(b, at + kk * 16 * pitch(D) + j * 16);
			mma_bf16(acc[2 * j], a, b);
			mma_bf16(acc[2 * j + 1], a, b + 2);
		}
	}
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
