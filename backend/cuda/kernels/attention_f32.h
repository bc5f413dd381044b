// attention_f32.h is the arithmetic of the f32 attention kernels. A warp owns 16
// rows of a tile: four groups of eight lanes with four rows each. Lane l works on
// rows 4(l/8) … 4(l/8)+3, and of N columns on l%8, l%8+8, …; of D dimensions it
// has the four from 4(l%8) on of each 32.
#pragma once
#include "attention.h"

// pitch is how far apart rows of n floats lie in shared memory: a multiple of 16
// bytes, and eight rows' beginnings lie in different banks.
static constexpr int pitch(int n) { return n + 4; }

struct alignas(16) Four {
	float x[4];
};

DEVICE Four four(const float* p) { return *reinterpret_cast<const Four*>(p); }

// scores is s = rows·tileᵀ: rows are the lane's four, the tile is N rows of D.
template <int D, int N> DEVICE void scores(float (&s)[4][N / 8], const float* rows, const float* tile) {
	UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < N / 8; j++) s[i][j] = 0;
	const float* at = tile + lane() % 8 * pitch(D);
	for (int d = 0; d < D; d += 4) {
		Four x[4], y[N / 8];
		UNROLL for (int i = 0; i < 4; i++) x[i] = four(rows + i * pitch(D) + d);
		UNROLL for (int j = 0; j < N / 8; j++) y[j] = four(at + j * 8 * pitch(D) + d);
		UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < N / 8; j++)
			UNROLL for (int e = 0; e < 4; e++) s[i][j] = f_fma(x[i].x[e], y[j].x[e], s[i][j]);
	}
}

// put lays s down as four rows of N for mix; a warp sees only its own.
template <int N> DEVICE void put(float* rows, const float (&s)[4][N / 8]) {
	UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < N / 8; j++)
		rows[i * pitch(N) + lane() % 8 + 8 * j] = s[i][j];
}

// mix is acc += p·tile: p are four rows of N, the tile is N rows of D.
template <int D, int N> DEVICE void mix(float (&acc)[4][D / 8], const float* p, const float* tile) {
	const float* at = tile + lane() % 8 * 4;
	for (int n = 0; n < N; n++) {
		float x[4];
		UNROLL for (int i = 0; i < 4; i++) x[i] = p[i * pitch(N) + n];
		UNROLL for (int j = 0; j < D / 32; j++) {
			Four y = four(at + n * pitch(D) + 32 * j);
			UNROLL for (int i = 0; i < 4; i++) UNROLL for (int e = 0; e < 4; e++)
				acc[i][4 * j + e] = f_fma(x[i], y.x[e], acc[i][4 * j + e]);
		}
	}
}

// column is the dimension of acc's element j.
DEVICE int column(int j) { return j / 4 * 32 + lane() % 8 * 4 + j % 4; }
