// The gradient of attention in float32: the method of attention_backward_bf16.cu
// without tensor cores. A block of attention_keys owns 64 keys, or, where heads
// are wider than 128, 16 keys of the 64 for one of dk and dv (block_z). Shared
// memory at 128: 88 KiB for the queries' kernel, 93 KiB for the keys'.
#include "attention_f32.h"

template <int D, int N, int WARPS>
DEVICE void query_gradient(float* dq, const float* dout, const float* q, const float* k, const float* v, const float* lse,
                           const float* delta, const int* items, const int* pieces, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 16 * WARPS, THREADS = 32 * WARPS;
	DYNAMIC_SHARED(float, queries); // ROWS of D, their dout, N keys, N values, ROWS of N gradients of scores
	float *grads = queries + ROWS * P, *ks = grads + ROWS * P, *vs = ks + N * P, *ps = vs + N * P;
	const Item item = item_at(items, work_index());
	if (item.rows == 0) return;
	load_rows<float, D, P, ROWS, THREADS>(queries, grads, q, dout, item, nullptr, h);
	Keys keys = keys_of(item, pieces);

	const int first = warp() * 16 + lane() / 8 * 4;
	const float scale = h.scale * log2_e;
	Row rows[4];
	float acc[4][D / 8], minus[4], less[4];
	UNROLL for (int i = 0; i < 4; i++) {
		rows[i] = row_of(item, nullptr, first + i, h);
		minus[i] = rows[i].at < 0 ? 0.0f : -lse[rows[i].at] * log2_e;
		less[i] = rows[i].at < 0 ? 0.0f : delta[rows[i].at];
		UNROLL for (int j = 0; j < D / 8; j++) acc[i][j] = 0;
	}
	float* mine = ps + first * pitch(N);
	for (int k0 = item.from; k0 < item.to; k0 += N) {
		sync();
		load_keys<float, D, P, N, THREADS>(ks, vs, k, v, keys, k0, h);
		cp_async_commit();
		cp_async_wait<0>();
		sync();
		float s[4][N / 8], ds[4][N / 8];
		scores<D, N>(s, queries + first * P, ks);
		scores<D, N>(ds, grads + first * P, vs);
		UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < N / 8; j++) {
			int p = k0 + lane() % 8 + 8 * j;
			ds[i][j] = f_exp2(f_fma(s[i][j], scale, minus[i])) * (ds[i][j] - less[i]);
			if (p < rows[i].from || p >= rows[i].to) ds[i][j] = 0;
		}
		put<N>(mine, ds);
		sync_warp();
		mix<D, N>(acc, mine, ks);
	}
	UNROLL for (int i = 0; i < 4; i++) {
		if (rows[i].at < 0) continue;
		UNROLL for (int j = 0; j < D / 8; j++)
			if (column(j) < h.dim) dq[rows[i].at * h.dim + column(j)] = acc[i][j] * h.scale;
	}
}

// add_keys adds a thread's sums onto its four rows of dk or dv, or stores them as
// partial; sub is the block's first key in the tile.
template <int D>
DEVICE void add_keys(float* dx, float* partial, const float (&acc)[4][D / 8], const KeyTile& t, int sub, int which, float by, const Heads& h) {
	UNROLL for (int i = 0; i < 4; i++) {
		const int key = sub + warp() * 16 + lane() / 8 * 4 + i;
		if (key >= t.n) continue;
		float* to = t.slot >= 0 ? partial + ((((long long)t.slot * key_heads() + key_head()) * 2 + which) * 64 + key) * h.dim
		                        : dx + ((long long)(t.row + key) * key_heads() + key_head()) * h.dim;
		UNROLL for (int j = 0; j < D / 8; j++) {
			const int c = column(j);
			if (c < h.dim) to[c] = acc[i][j] * by + (t.slot >= 0 ? 0.0f : to[c]);
		}
	}
}

template <int D, int TILE, int WARPS, bool SPLIT>
DEVICE void key_gradient(float* dk, float* dv, float* partial, const float* dout, const float* q, const float* k, const float* v,
                         const float* lse, const float* delta, const int* list, const int* entries, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 16 * WARPS, THREADS = 32 * WARPS;
	DYNAMIC_SHARED(float, ks); // ROWS keys, values, TILE queries, their dout, ROWS of TILE p, ds
	float *vs = ks + ROWS * P, *queries = vs + ROWS * P, *grads = queries + TILE * P;
	float *ps = grads + TILE * P, *dss = ps + ROWS * pitch(TILE);
	SHARED(Query, of, TILE);
	const KeyTile t = key_tile_at(list, work_index());
	const int sub = SPLIT ? block_z() / 2 * ROWS : 0;
	if (sub >= t.n) return;
	const bool want_dk = !SPLIT || block_z() % 2 == 0, want_dv = !SPLIT || block_z() % 2 == 1;
	load_tile<float, D, P, ROWS, THREADS>(ks, vs, k, v, t.row + sub, t.n - sub, h);

	float acc_k[4][D / 8], acc_v[4][SPLIT ? 1 : D / 8];
	UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < D / 8; j++) {
		acc_k[i][j] = 0;
		if constexpr (!SPLIT) acc_v[i][j] = 0;
	}
	const int first = warp() * 16 + lane() / 8 * 4;
	const float scale = h.scale * log2_e;
	float *my_ps = ps + first * pitch(TILE), *my_dss = dss + first * pitch(TILE);
	for (Queries walk = queries_of<TILE>(t, entries, h); walk.left > 0; next_queries<TILE>(walk, h)) {
		sync();
		load_queries<float, D, P, TILE, THREADS>(queries, grads, q, dout, walk, h);
		if (thread() < TILE) of[thread()] = query_of(walk, thread(), lse, delta, h);
		cp_async_commit();
		cp_async_wait<0>();
		sync();
		float s[4][TILE / 8], ds[4][TILE / 8];
		scores<D, TILE>(s, ks + first * P, queries);
		scores<D, TILE>(ds, vs + first * P, grads);
		UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < TILE / 8; j++) {
			const Query& row = of[lane() % 8 + 8 * j];
			const int key = sub + first + i, p = t.row + key + walk.shift;
			s[i][j] = f_exp2(f_fma(s[i][j], scale, -row.lse * log2_e));
			ds[i][j] = s[i][j] * (ds[i][j] - row.delta);
			if (p > row.pos || key >= t.n || (h.window > 0 && p <= row.pos - h.window)) s[i][j] = ds[i][j] = 0;
		}
		put<TILE>(my_ps, s);
		put<TILE>(my_dss, ds);
		sync_warp();
		if constexpr (SPLIT) {
			mix<D, TILE>(acc_k, want_dk ? my_dss : my_ps, want_dk ? queries : grads);
		} else {
			mix<D, TILE>(acc_v, my_ps, grads);
			mix<D, TILE>(acc_k, my_dss, queries);
		}
	}
	if constexpr (SPLIT) {
		add_keys<D>(want_dk ? dk : dv, partial, acc_k, t, sub, want_dv, want_dk ? h.scale : 1.0f, h);
	} else {
		add_keys<D>(dk, partial, acc_k, t, sub, 0, h.scale, h);
		add_keys<D>(dv, partial, acc_v, t, sub, 1, 1, h);
	}
}

#define BACKWARD(D, N, TILE, WARPS, SPLIT)                                                                           \
	KERNEL_OF(32 * WARPS, attention_queries_f32_##D,                                                                 \
	          (float* dq, const float* dout, const float* q, const float* k, const float* v, const float* lse, const float* delta, \
	           const int* items, const int* pieces, int query, int dim, int window, int wide, float scale)) {        \
		query_gradient<D, N, WARPS>(dq, dout, q, k, v, lse, delta, items, pieces, heads_of(query, dim, window, wide, scale)); \
	}                                                                                                                \
	KERNEL_OF(32 * WARPS, attention_keys_f32_##D,                                                                    \
	          (float* dk, float* dv, float* partial, const float* dout, const float* q, const float* k, const float* v, \
	           const float* lse, const float* delta, const int* list, const int* entries, int query, int dim,        \
	           int window, int wide, float scale)) {                                                                 \
		key_gradient<D, TILE, WARPS, SPLIT>(dk, dv, partial, dout, q, k, v, lse, delta, list, entries, heads_of(query, dim, window, wide, scale)); \
	}

BACKWARD(32, 32, 16, 4, false)
BACKWARD(64, 32, 16, 4, false)
BACKWARD(128, 16, 16, 4, false)
BACKWARD(256, 16, 16, 1, true)
