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
// Where heads are up to 64 wide a warp has 32 rows, of queries or of keys: each
// ldmatrix then feeds four products. A block is 128 queries on four warps, or 64 keys
// on two.
//
// What limits the blocks of a multiprocessor (ptxas 11.8; at 64 some scalars are
// spilled, 48 bytes on sm_80 and 24 on sm_90 for the queries, 12 on sm_90 for the
// keys, these outside the loop):
//
//	heads up to   shared memory      registers sm_80, sm_90   warps A100, H100
//	              queries, keys      queries    keys          queries   keys
//	32            30, 21 KiB         166, 161   238, 231      12, 12   8, 8
//	64            54, 37 KiB         168, 168   255, 255      8, 12    8, 8
//	128           68, 69 KiB         168, 165   253, 253      8, 12    8, 8
//	256           99, 83 KiB         240, 241   242, 240      4, 8     4, 8
#include "attention_bf16.h"

template <int D, int N, int M>
DEVICE void query_gradient(bf16* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v, const float* lse,
                           const float* delta, const int* items, const int* pieces, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 64 * M, THREADS = 128;
	DYNAMIC_SHARED(bf16, tiles); // two stages of N keys and N values, then queries, then their dout
	bf16 *queries = tiles + 4 * N * P, *grads = queries + ROWS * P;
	const Item item = item_at(items, work_index());
	if (item.rows == 0) return;
	load_rows<bf16, D, P, ROWS, THREADS>(queries, grads, q, dout, item, nullptr, h);
	Keys keys = keys_of(item, pieces);
	load_keys<bf16, D, P, N, THREADS>(tiles, tiles + N * P, k, v, keys, item.from, h);
	cp_async_commit();

	const int first = warp() * 16 * M + lane() / 4;
	int pos[2 * M];
	float minus[2 * M], less[2 * M];
	Sight see = none_seen();
	UNROLL for (int r = 0; r < 2 * M; r++) {
		const Row row = row_of(item, nullptr, first + 8 * r, h);
		pos[r] = row.pos;
		see = and_row(see, row);
		const long long at = row.at < 0 ? 0 : row.at; // so that all loads are under way at once
		minus[r] = -lse[at] * log2_e;
		less[r] = delta[at];
	}
	see = sight_of(see);
	const float scale = h.scale * log2_e;
	queries += warp() * 16 * M * P, grads += warp() * 16 * M * P;

	float acc[M][D / 8][4];
	clear(acc);
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
			float s[M][N / 8][4], ds[M][N / 8][4];
			scores<D, N>(s, ks, [&](unsigned a[4], int i, int kk) { row_fragment<D>(a, queries + i * 16 * P, kk); });
			scores<D, N>(ds, ks + N * P, [&](unsigned a[4], int i, int kk) { row_fragment<D>(a, grads + i * 16 * P, kk); });
			UNROLL for (int i = 0; i < M; i++) UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = 0; e < 4; e++)
				ds[i][j][e] = f_exp2(f_fma(s[i][j][e], scale, minus[2 * i + e / 2])) * (ds[i][j][e] - less[2 * i + e / 2]);
			if (k0 < see.all || k0 + N > see.any) {
				seldom();
				hide<N>(ds, pos, k0, item.to, 0, h);
			}
			mix<D, N>(acc, ds, ks);
		}
		sync();
	}
	const Item done = item_at(items, work_index()); // read again: it would take registers
	UNROLL for (int r = 0; r < 2 * M; r++) {
		const int i = r / 2, e0 = r % 2 * 2;
		const Row row = row_of(done, nullptr, first + 8 * r, h);
		if (row.at < 0) continue;
		UNROLL for (int j = 0; j < D / 8; j++)
			store_pair(dq + row.at * h.dim, j * 8 + lane() % 4 * 2, h.dim, acc[i][j][e0] * h.scale, acc[i][j][e0 + 1] * h.scale, h.wide);
	}
}

// add_keys adds a warp's sums onto rows of dk or dv, or stores them as partial.
template <int D, int M>
DEVICE void add_keys(bf16* dx, float* partial, const float (&acc)[M][D / 8][4], const KeyTile& t, int which, float by, const Heads& h) {
	UNROLL for (int r = 0; r < 2 * M; r++) {
		const int key = warp() * 16 * M + lane() / 4 + 8 * r, i = r / 2, e0 = r % 2 * 2;
		if (key >= t.n) continue;
		const long long at = ((long long)(t.row + key) * key_heads() + key_head()) * h.dim;
		float* to = partial + ((((long long)t.slot * key_heads() + key_head()) * 2 + which) * 64 + key) * h.dim;
		unsigned before[D / 8]; // loaded before anything is stored, or each load would wait for the one before
		if (t.slot < 0) {
			UNROLL for (int j = 0; j < D / 8; j++) before[j] = load_pair(dx + at, j * 8 + lane() % 4 * 2, h.dim, h.wide);
		}
		UNROLL for (int j = 0; j < D / 8; j++) {
			const int c = j * 8 + lane() % 4 * 2;
			const float x = acc[i][j][e0] * by, y = acc[i][j][e0 + 1] * by;
			if (t.slot >= 0) {
				if (c < h.dim) to[c] = x;
				if (c + 1 < h.dim) to[c + 1] = y;
			} else {
				store_pair(dx + at, c, h.dim, low_float(before[j]) + x, high_float(before[j]) + y, h.wide);
			}
		}
	}
}

template <int D, int M, int TILE, int STAGES, bool SPLIT>
DEVICE void key_gradient(bf16* dk, bf16* dv, float* partial, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,
                         const float* lse, const float* delta, const int* list, const int* entries, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 64, THREADS = 128 / M;
	static_assert(TILE <= THREADS);
	DYNAMIC_SHARED(bf16, ks); // 64 keys, 64 values, then STAGES of TILE queries and their dout
	bf16 *vs = ks + ROWS * P, *tiles = vs + ROWS * P;
	SHARED(Query, rows, STAGES * TILE);
	const KeyTile t = key_tile_at(list, work_index());
	if (t.n == 0) return;
	const bool want_dk = !SPLIT || block_z() == 0, want_dv = !SPLIT || block_z() == 1;
	Queries walk = queries_of<TILE>(t, entries, h);

	float acc_k[M][D / 8][4], acc_v[M][SPLIT ? 1 : D / 8][4];
	clear(acc_k);
	clear(acc_v);
	load_tile<bf16, D, P, ROWS, THREADS>(ks, vs, k, v, t.row, t.n, h);
	Query ahead;
	if (STAGES == 2 && walk.left > 0) {
		load_queries<bf16, D, P, TILE, THREADS>(tiles, tiles + TILE * P, q, dout, walk, h);
		if (thread() < TILE) rows[thread()] = query_of(walk, thread(), lse, delta, h);
	}
	cp_async_commit();

	const int first = warp() * 16 * M + lane() / 4;
	const bf16 *my_keys = ks + warp() * 16 * M * P, *my_values = vs + warp() * 16 * M * P;
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
		if (warp() * 16 * M < t.n) {
			const bf16* qs = tiles + stage * 2 * TILE * P;
			const Query* of = rows + stage * TILE + lane() % 4 * 2;
			float s[M][TILE / 8][4], ds[M][TILE / 8][4];
			scores<D, TILE>(s, qs, [&](unsigned a[4], int i, int kk) { row_fragment<D>(a, my_keys + i * 16 * P, kk); });
			if (want_dk) scores<D, TILE>(ds, qs + TILE * P, [&](unsigned a[4], int i, int kk) { row_fragment<D>(a, my_values + i * 16 * P, kk); });
			else clear(ds);
			UNROLL for (int j = 0; j < TILE / 8; j++) UNROLL for (int e = 0; e < 2; e++) {
				const float minus = -of[j * 8 + e].lse * log2_e, less = of[j * 8 + e].delta;
				UNROLL for (int i = 0; i < M; i++) UNROLL for (int x = e; x < 4; x += 2) {
					s[i][j][x] = f_exp2(f_fma(s[i][j][x], scale, minus));
					ds[i][j][x] = s[i][j][x] * (ds[i][j][x] - less);
				}
			}
			// Whether some row of the tile does not see some key of the block.
			const int low = now.pos + place_of(now.m, h).query, high = now.pos + place_of(now.m + TILE - 1, h).query;
			if (now.m + TILE > now.end || low < now.last + now.shift || t.n < ROWS ||
			    (h.window > 0 && now.first + now.shift <= high - h.window)) {
				seldom();
				// A row sees the window's positions up to its own; keys that are not there are at none.
				const unsigned window = h.window > 0 ? h.window : 0x7fffffff;
				UNROLL for (int r = 0; r < 2 * M; r++) {
					const int p = first + 8 * r < t.n ? t.row + first + 8 * r + now.shift : 0x7fffffff;
					UNROLL for (int j = 0; j < TILE / 8; j++) UNROLL for (int e = 0; e < 2; e++)
						if (unsigned(of[j * 8 + e].pos - p) >= window) s[r / 2][j][r % 2 * 2 + e] = ds[r / 2][j][r % 2 * 2 + e] = 0;
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

#define BACKWARD(D, M, N, TILE, STAGES, SPLIT, TOGETHER)                                                                  \
	KERNEL_TOGETHER(128, TOGETHER, attention_queries_bf16_##D,                                                          \
	          (bf16* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v, const float* lse, const float* delta, \
	           const int* items, const int* pieces, int query, int dim, int window, int wide, float scale)) {        \
		query_gradient<D, N, M>(dq, dout, q, k, v, lse, delta, items, pieces, heads_of(query, dim, window, wide, scale)); \
	}                                                                                                                \
	KERNEL_OF(128 / M, attention_keys_bf16_##D,                                                                      \
	          (bf16* dk, bf16* dv, float* partial, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,    \
	           const float* lse, const float* delta, const int* list, const int* entries, int query, int dim,        \
	           int window, int wide, float scale)) {                                                                 \
		key_gradient<D, M, TILE, STAGES, SPLIT>(dk, dv, partial, dout, q, k, v, lse, delta, list, entries,           \
		                                        heads_of(query, dim, window, wide, scale));                          \
	}

BACKWARD(32, 2, 32, 32, 2, false, 3)
BACKWARD(64, 2, 32, 32, 2, false, 3)
BACKWARD(128, 1, 32, 32, 2, false, 3)
BACKWARD(256, 1, 16, 16, 1, true, 2)
