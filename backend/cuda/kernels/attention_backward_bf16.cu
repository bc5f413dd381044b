// The gradient of attention in bf16, sums in float32. With s the scaled scores,
// p = exp(s − lse) computed again and delta = dout·out,
//
//	dv_j += Σ_i p_ij·dout_i,  ds_ij = p_ij·(dout_i·v_j − delta_i),
//	dq_i = Σ_j ds_ij·k_j/√dim,  dk_j += Σ_i ds_ij·q_i/√dim
//
// There are two kernels, one that owns queries and one that owns keys. That is
// seven matrix products instead of five, but no sum is ever shared: adding dq
// up with atomics from the kernel of the keys would change bits from run to run.
//
// attention_keys holds 64 keys and walks through the queries of all Seqs that see
// them: the transposed products (keys × queries) leave p and ds in the registers
// where the next product wants them. dk and dv of wide heads do not fit the
// registers together, so two blocks share the work (block_z).
//
// What limits the blocks of a multiprocessor (ptxas 11.8; only the queries of heads
// wider than 128 spill, 76 bytes on sm_80):
//
//	heads up to   shared memory      registers sm_80, sm_90
//	              queries, keys      queries    keys
//	32            30, 31 KiB         120, 125   168, 181
//	64            54, 56 KiB         174, 157   225, 223
//	128           68, 69 KiB         182, 158   249, 244
//	256           99, 83 KiB         255, 206   240, 238
//
// So two or three blocks run at a time, one or two where heads are wider than 128.
#include "attention_bf16.h"

template <int D, int N>
DEVICE void query_gradient(bf16* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v, const float* lse,
                           const float* delta, const int* items, const int* pieces, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 64, THREADS = 128;
	DYNAMIC_SHARED(bf16, tiles); // two stages of N keys and N values, then queries, then their dout
	bf16 *queries = tiles + 4 * N * P, *grads = queries + ROWS * P;
	const Item item = item_at(items, block_x());
	if (item.rows == 0) return;
	load_rows<bf16, D, P, ROWS, THREADS>(queries, grads, q, dout, item, nullptr, h);
	Keys keys = keys_of(item, pieces);
	load_keys<bf16, D, P, N, THREADS>(tiles, tiles + N * P, k, v, keys, item.from, h);
	cp_async_commit();

	const int first = warp() * 16 + lane() / 4;
	const Row r0 = row_of(item, nullptr, first, h), r1 = row_of(item, nullptr, first + 8, h);
	const Sight see = sight_of(least(r0.from, r1.from), most(r0.from, r1.from), least(r0.to, r1.to), most(r0.to, r1.to));
	const float minus[2] = {r0.at < 0 ? 0.0f : -lse[r0.at] * log2_e, r1.at < 0 ? 0.0f : -lse[r1.at] * log2_e};
	const float less[2] = {r0.at < 0 ? 0.0f : delta[r0.at], r1.at < 0 ? 0.0f : delta[r1.at]};
	const float scale = h.scale * log2_e;
	queries += warp() * 16 * P, grads += warp() * 16 * P;

	float acc[D / 8][4];
	UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = 0; e < 4; e++) acc[j][e] = 0;
	for (int k0 = item.from, stage = 0; k0 < item.to; k0 += N, stage ^= 1) {
		if (k0 + N < item.to) {
			bf16* next = tiles + (stage ^ 1) * 2 * N * P;
			load_keys<bf16, D, P, N, THREADS>(next, next + N * P, k, v, keys, k0 + N, h);
			cp_async_commit();
			cp_async_wait<1>();
		} else {
			cp_async_wait<0>();
		}
		sync();
		if (k0 < see.last && k0 + N > see.first) {
			const bf16* ks = tiles + stage * 2 * N * P;
			const bool check = k0 < see.all || k0 + N > see.any;
			float s[N / 8][4], ds[N / 8][4];
			scores<D, N>(s, ks, [&](unsigned a[4], int kk) { row_fragment<D>(a, queries, kk); });
			scores<D, N>(ds, ks + N * P, [&](unsigned a[4], int kk) { row_fragment<D>(a, grads, kk); });
			UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = 0; e < 4; e++) {
				ds[j][e] = f_exp2(f_fma(s[j][e], scale, minus[e / 2])) * (ds[j][e] - less[e / 2]);
				int p = k0 + j * 8 + lane() % 4 * 2 + (e & 1);
				if (check && (p < (e < 2 ? r0.from : r1.from) || p >= (e < 2 ? r0.to : r1.to))) ds[j][e] = 0;
			}
			mix<D, N>(acc, ds, ks);
		}
		sync();
	}
	UNROLL for (int r = 0; r < 2; r++) {
		const Row& row = r == 0 ? r0 : r1;
		if (row.at < 0) continue;
		UNROLL for (int j = 0; j < D / 8; j++)
			store_pair(dq + row.at * h.dim, j * 8 + lane() % 4 * 2, h.dim, acc[j][2 * r] * h.scale, acc[j][2 * r + 1] * h.scale, h.wide);
	}
}

// add_keys adds a warp's sums onto rows of dk or dv, or stores them as partial.
template <int D>
DEVICE void add_keys(bf16* dx, float* partial, const float (&acc)[D / 8][4], const KeyTile& t, int which, float by, const Heads& h) {
	UNROLL for (int r = 0; r < 2; r++) {
		const int key = warp() * 16 + lane() / 4 + 8 * r;
		if (key >= t.n) continue;
		const long long at = ((long long)(t.row + key) * grid_y() + block_y()) * h.dim;
		float* to = partial + ((((long long)t.slot * grid_y() + block_y()) * 2 + which) * 64 + key) * h.dim;
		UNROLL for (int j = 0; j < D / 8; j++) {
			const int c = j * 8 + lane() % 4 * 2;
			const float x = acc[j][2 * r] * by, y = acc[j][2 * r + 1] * by;
			if (t.slot >= 0) {
				if (c < h.dim) to[c] = x;
				if (c + 1 < h.dim) to[c + 1] = y;
			} else {
				float before[2] = {c < h.dim ? to_float(dx[at + c]) : 0.0f, c + 1 < h.dim ? to_float(dx[at + c + 1]) : 0.0f};
				store_pair(dx + at, c, h.dim, before[0] + x, before[1] + y, h.wide);
			}
		}
	}
}

template <int D, int TILE, int STAGES, bool SPLIT>
DEVICE void key_gradient(bf16* dk, bf16* dv, float* partial, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,
                         const float* lse, const float* delta, const int* list, const int* entries, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 64, THREADS = 128;
	DYNAMIC_SHARED(bf16, ks); // 64 keys, 64 values, then STAGES of TILE queries and their dout
	bf16 *vs = ks + ROWS * P, *tiles = vs + ROWS * P;
	SHARED(Query, rows, STAGES * TILE);
	const KeyTile t = key_tile_at(list, block_x());
	if (t.n == 0) return;
	const bool want_dk = !SPLIT || block_z() == 0, want_dv = !SPLIT || block_z() == 1;
	Queries walk = queries_of<TILE>(t, entries, h);

	float acc_k[D / 8][4], acc_v[SPLIT ? 1 : D / 8][4];
	UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = 0; e < 4; e++) {
		acc_k[j][e] = 0;
		if constexpr (!SPLIT) acc_v[j][e] = 0;
	}
	load_tile<bf16, D, P, ROWS, THREADS>(ks, vs, k, v, t.row, t.n, h);
	Query ahead;
	if (STAGES == 2 && walk.left > 0) {
		load_queries<bf16, D, P, TILE, THREADS>(tiles, tiles + TILE * P, q, dout, walk, h);
		if (thread() < TILE) rows[thread()] = query_of(walk, thread(), lse, delta, h);
	}
	cp_async_commit();

	const int first = warp() * 16 + lane() / 4;
	const bf16 *my_keys = ks + warp() * 16 * P, *my_values = vs + warp() * 16 * P;
	const float scale = h.scale * log2_e;
	for (int stage = 0; walk.left > 0; stage ^= STAGES - 1) {
		const Queries now = walk;
		next_queries<TILE>(walk, h);
		if constexpr (STAGES == 2) {
			if (walk.left > 0) {
				bf16* next = tiles + (stage ^ 1) * 2 * TILE * P;
				load_queries<bf16, D, P, TILE, THREADS>(next, next + TILE * P, q, dout, walk, h);
				if (thread() < TILE) ahead = query_of(walk, thread(), lse, delta, h);
			}
			cp_async_commit();
			cp_async_wait<1>();
		} else {
			load_queries<bf16, D, P, TILE, THREADS>(tiles, tiles + TILE * P, q, dout, now, h);
			if (thread() < TILE) rows[thread()] = query_of(now, thread(), lse, delta, h);
			cp_async_commit();
			cp_async_wait<0>();
		}
		sync();
		if (warp() * 16 < t.n) {
			const bf16* qs = tiles + stage * 2 * TILE * P;
			const Query* of = rows + stage * TILE;
			// Whether some row of the tile does not see some key of the block.
			const int group = h.query / grid_y(), low = now.pos + now.m / group, high = now.pos + (now.m + TILE - 1) / group;
			const bool check = now.m + TILE > now.end || low < now.last + now.shift || t.n < ROWS ||
			                   (h.window > 0 && now.first + now.shift <= high - h.window);
			const int key = t.row + first + now.shift; // position of the lane's first key
			float s[TILE / 8][4], ds[TILE / 8][4];
			scores<D, TILE>(s, qs, [&](unsigned a[4], int kk) { row_fragment<D>(a, my_keys, kk); });
			if (want_dk) scores<D, TILE>(ds, qs + TILE * P, [&](unsigned a[4], int kk) { row_fragment<D>(a, my_values, kk); });
			UNROLL for (int j = 0; j < TILE / 8; j++) UNROLL for (int e = 0; e < 4; e++) {
				const Query& row = of[j * 8 + lane() % 4 * 2 + (e & 1)];
				const int p = key + e / 2 * 8;
				s[j][e] = f_exp2(f_fma(s[j][e], scale, -row.lse));
				if (want_dk) ds[j][e] = s[j][e] * (ds[j][e] - row.delta);
				if (check && (p > row.pos || first + e / 2 * 8 >= t.n || (h.window > 0 && p <= row.pos - h.window))) {
					s[j][e] = 0;
					if (want_dk) ds[j][e] = 0;
				}
			}
			if constexpr (SPLIT) {
				if (want_dk) mix<D, TILE>(acc_k, ds, qs);
				else mix<D, TILE>(acc_k, s, qs + TILE * P);
			} else {
				mix<D, TILE>(acc_v, s, qs + TILE * P);
				mix<D, TILE>(acc_k, ds, qs);
			}
		}
		if (STAGES == 2 && walk.left > 0 && thread() < TILE) rows[(stage ^ 1) * TILE + thread()] = ahead;
		sync();
	}
	if constexpr (SPLIT) {
		add_keys<D>(want_dk ? dk : dv, partial, acc_k, t, want_dv, want_dk ? h.scale : 1.0f, h);
	} else {
		add_keys<D>(dk, partial, acc_k, t, 0, h.scale, h);
		add_keys<D>(dv, partial, acc_v, t, 1, 1, h);
	}
}

#define BACKWARD(D, N, TILE, STAGES, SPLIT)                                                                          \
	KERNEL_OF(128, attention_queries_bf16_##D,                                                                       \
	          (bf16* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v, const float* lse, const float* delta, \
	           const int* items, const int* pieces, int query, int dim, int window, int wide, float scale)) {        \
		query_gradient<D, N>(dq, dout, q, k, v, lse, delta, items, pieces, {query, dim, window, wide, scale});       \
	}                                                                                                                \
	KERNEL_OF(128, attention_keys_bf16_##D,                                                                          \
	          (bf16* dk, bf16* dv, float* partial, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,    \
	           const float* lse, const float* delta, const int* list, const int* entries, int query, int dim,        \
	           int window, int wide, float scale)) {                                                                 \
		key_gradient<D, TILE, STAGES, SPLIT>(dk, dv, partial, dout, q, k, v, lse, delta, list, entries, {query, dim, window, wide, scale}); \
	}

BACKWARD(32, 64, 64, 2, false)
BACKWARD(64, 64, 64, 2, false)
BACKWARD(128, 32, 32, 2, false)
BACKWARD(256, 16, 16, 1, true)
