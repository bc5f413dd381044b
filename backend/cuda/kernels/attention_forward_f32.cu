// Attention in float32, the same method as attention_forward_bf16.cu without
// tensor cores: four rows a thread, four keys at a time (two where heads are
// wider than 128). The compute units limit it, so the tiles are not double
// buffered. Shared memory 75 KiB at 128.
#include "attention_f32.h"

template <int D, int N, int WARPS>
DEVICE void forward(float* out, float* lse, float* sums, float* partial, const float* q, const float* k, const float* v,
                    const int* items, const int* pieces, const int* table, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 16 * WARPS, THREADS = 32 * WARPS;
	DYNAMIC_SHARED(float, queries); // ROWS of D, then N keys, N values, ROWS of N probabilities
	float *ks = queries + ROWS * P, *vs = ks + N * P, *ps = vs + N * P;
	const Item item = item_at(items, work_index());
	if (item.rows == 0) return;
	load_rows<float, D, P, ROWS, THREADS>(queries, nullptr, q, nullptr, item, table, h);
	Keys keys = keys_of(item, pieces);

	const int first = warp() * 16 + lane() / 8 * 4;
	Row rows[4];
	Sight see = none_seen();
	UNROLL for (int i = 0; i < 4; i++) {
		rows[i] = row_of(item, table, first + i, h);
		see = and_row(see, rows[i]);
	}
	see = sight_of(see);

	float acc[4][D / 8], top[4], sum[4];
	UNROLL for (int i = 0; i < 4; i++) {
		top[i] = minus_infinity(), sum[i] = 0;
		UNROLL for (int j = 0; j < D / 8; j++) acc[i][j] = 0;
	}
	const float scale = h.scale * log2_e;
	float* mine = ps + first * pitch(N);

	for (int k0 = item.from; k0 < item.to; k0 += N) {
		sync();
		load_keys<float, D, P, N, THREADS>(ks, vs, k, v, keys, k0, h);
		cp_async_commit();
		cp_async_wait<0>();
		sync();
		if (k0 >= see.last || k0 + N <= see.first) continue;
		float s[4][N / 8];
		scores<D, N>(s, queries + first * P, ks);
		UNROLL for (int i = 0; i < 4; i++) {
			float high = minus_infinity();
			UNROLL for (int j = 0; j < N / 8; j++) {
				int p = k0 + lane() % 8 + 8 * j;
				if (p < rows[i].from || p >= rows[i].to) s[i][j] = minus_infinity();
				high = f_max(high, s[i][j]);
			}
			UNROLL for (int m = 1; m < 8; m *= 2) high = f_max(high, shfl_xor(high, m));
			high = f_max(top[i], high * scale);
			// Where nothing has been seen yet, −∞ − −∞ must not become NaN.
			float base = high == minus_infinity() ? 0.0f : high;
			float shrink = f_exp2(top[i] - base);
			top[i] = high;
			sum[i] *= shrink;
			UNROLL for (int j = 0; j < N / 8; j++) {
				s[i][j] = f_exp2(f_fma(s[i][j], scale, -base));
				sum[i] += s[i][j];
			}
			UNROLL for (int j = 0; j < D / 8; j++) acc[i][j] *= shrink;
		}
		put<N>(mine, s);
		sync_warp();
		mix<D, N>(acc, mine, vs);
	}

	UNROLL for (int i = 0; i < 4; i++) {
		UNROLL for (int m = 1; m < 8; m *= 2) sum[i] += shfl_xor(sum[i], m);
		const Row& row = rows[i];
		if (row.at < 0) continue;
		const bool whole = item.table < 0;
		float* to = whole ? out + row.at * h.dim : partial + row.slot * h.dim;
		float by = whole ? 1 / sum[i] : 1.0f;
		UNROLL for (int j = 0; j < D / 8; j++)
			if (column(j) < h.dim) to[column(j)] = acc[i][j] * by;
		if (lane() % 8 != 0) continue;
		if (whole) {
			lse[row.at] = (top[i] + f_log2(sum[i])) * ln_2;
		} else {
			sums[2 * row.slot] = top[i], sums[2 * row.slot + 1] = sum[i];
		}
	}
}

#define FORWARD(D, N, WARPS)                                                                                        \
	KERNEL_OF(32 * WARPS, attention_forward_f32_##D,                                                                \
	          (float* out, float* lse, float* sums, float* partial, const float* q, const float* k, const float* v, \
	           const int* items, const int* pieces, const int* table, int query, int dim, int window, int wide, float scale)) { \
		forward<D, N, WARPS>(out, lse, sums, partial, q, k, v, items, pieces, table, heads_of(query, dim, window, wide, scale)); \
	}

FORWARD(32, 32, 4)
FORWARD(64, 32, 4)
FORWARD(128, 32, 4)
FORWARD(256, 16, 1)
