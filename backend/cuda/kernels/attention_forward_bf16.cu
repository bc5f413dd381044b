// Attention in bf16: the flash form (Dao 2023, "FlashAttention-2"), all sums in
// float32. One block of four warps takes 64 or 128 rows over their keys, 64 at a time
// (32 where heads are wider than 128). With s the scores of a row times log2(e)/√dim,
//
//	m' = max(m, s),  p = 2^(s−m'),  l = l·2^(m−m') + Σ p,  acc = acc·2^(m−m') + p·v
//
// and in the end out = acc/l, lse = (m + log2 l)·ln 2.
//
// attention_forward decodes, and does the rest where heads are wider than 64. Its
// items are chunks of at most 256 keys, whose m, l and acc go to the workspace for
// attention_combine; Seqs that share a chunk (chains of one prompt) share the item.
// Memory limits it: 256 keys of 128 are 128 KiB read once; the partial sums are 3%
// of that for a group of four.
//
// attention_long is the same for the long Seqs of training and of prompts: 32 rows a
// warp, for which each ldmatrix of keys or values feeds four products. Its queries
// stay in shared memory, so that there is room for a third block.
//
// What limits the blocks of a multiprocessor (ptxas 11.8; only attention_long_bf16_64
// spills, 64 bytes on sm_80 and 40 on sm_90, of which a tile of keys costs six loads):
//
//	          heads up to   shared memory   registers sm_80, sm_90   blocks A100, H100
//	forward   32            20 KiB          122, 128                 4, 4
//	          64            36 KiB          161, 164                 3, 3
//	          128           68 KiB          219, 224                 2, 2
//	          256           99 KiB          242, 241                 1, 2
//	long      32            30 KiB          168, 166                 3, 3
//	          64            54 KiB          168, 168                 2, 3
#include "attention_bf16.h"

template <int D, int N, int M>
DEVICE void forward(bf16* out, float* lse, float* sums, float* partial, const bf16* q, const bf16* k, const bf16* v,
                    const int* items, const int* pieces, const int* table, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 64 * M, THREADS = 128;
	constexpr bool KEEP = D <= 128 && M == 1; // the queries stay in registers
	static_assert(!KEEP || ROWS <= 2 * N);
	DYNAMIC_SHARED(bf16, tiles);
	// Stage s is N keys and N values. Queries that stay in registers come by way
	// of stage 1.
	bf16* queries = tiles + (KEEP ? 2 : 4) * N * P;
	const Item item = item_at(items, work_index());
	if (item.rows == 0) return;

	load_rows<bf16, D, P, ROWS, THREADS>(queries, nullptr, q, nullptr, item, table, h);
	cp_async_commit();
	Keys keys = keys_of(item, pieces);
	load_keys<bf16, D, P, N, THREADS>(tiles, tiles + N * P, k, v, keys, item.from, h);
	cp_async_commit();

	const int first = warp() * 16 * M + lane() / 4;
	int pos[2 * M];
	Sight see = none_seen();
	UNROLL for (int r = 0; r < 2 * M; r++) {
		const Row row = row_of(item, table, first + 8 * r, h);
		pos[r] = row.pos;
		see = and_row(see, row);
	}
	see = sight_of(see);

	queries += warp() * 16 * M * P;
	unsigned kept[M][KEEP ? D / 16 : 1][4];
	if constexpr (KEEP) {
		cp_async_wait<1>();
		sync();
		UNROLL for (int i = 0; i < M; i++) UNROLL for (int kk = 0; kk < D / 16; kk++) row_fragment<D>(kept[i][kk], queries + i * 16 * P, kk);
		sync();
	}

	float acc[M][D / 8][4], top[2 * M], sum[2 * M];
	clear(acc);
	UNROLL for (int r = 0; r < 2 * M; r++) top[r] = minus_infinity(), sum[r] = 0;
	const float scale = h.scale * log2_e;

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
			float s[M][N / 8][4];
			scores<D, N>(s, ks, [&](unsigned a[4], int i, int kk) {
				if constexpr (KEEP) UNROLL for (int e = 0; e < 4; e++) a[e] = kept[i][kk][e];
				else row_fragment<D>(a, queries + i * 16 * P, kk);
			});
			if (k0 < see.all || k0 + N > see.any) {
				seldom();
				hide<N>(s, pos, k0, item.to, minus_infinity(), h);
			}
			UNROLL for (int r = 0; r < 2 * M; r++) {
				const int i = r / 2, e0 = r % 2 * 2;
				float high = minus_infinity();
				UNROLL for (int j = 0; j < N / 8; j++) high = f_max(high, f_max(s[i][j][e0], s[i][j][e0 + 1]));
				high = f_max(high, shfl_xor(high, 1));
				high = f_max(high, shfl_xor(high, 2));
				high = f_max(top[r], high * scale);
				// Where nothing has been seen yet, −∞ − −∞ must not become NaN.
				float base = high == minus_infinity() ? 0.0f : high;
				float shrink = f_exp2(top[r] - base);
				top[r] = high;
				sum[r] *= shrink;
				UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = e0; e < e0 + 2; e++) {
					s[i][j][e] = f_exp2(f_fma(s[i][j][e], scale, -base));
					sum[r] += s[i][j][e];
				}
				UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = e0; e < e0 + 2; e++) acc[i][j][e] *= shrink;
			}
			mix<D, N>(acc, s, ks + N * P);
		}
		sync();
	}

	const Item done = item_at(items, work_index()); // read again: it would take registers
	UNROLL for (int r = 0; r < 2 * M; r++) {
		const int i = r / 2, e0 = r % 2 * 2;
		const Row row = row_of(done, table, first + 8 * r, h);
		float total = sum[r] + shfl_xor(sum[r], 1);
		total += shfl_xor(total, 2);
		if (row.at < 0) continue;
		if (done.table >= 0) {
			if (lane() % 4 == 0) sums[2 * row.slot] = top[r], sums[2 * row.slot + 1] = total;
			UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = 0; e < 2; e++) {
				int c = j * 8 + lane() % 4 * 2 + e;
				if (c < h.dim) partial[row.slot * h.dim + c] = acc[i][j][e0 + e];
			}
			continue;
		}
		if (lane() % 4 == 0) lse[row.at] = (top[r] + f_log2(total)) * ln_2;
		float whole = 1 / total;
		UNROLL for (int j = 0; j < D / 8; j++)
			store_pair(out + row.at * h.dim, j * 8 + lane() % 4 * 2, h.dim, acc[i][j][e0] * whole, acc[i][j][e0 + 1] * whole, h.wide);
	}
}

#define FORWARD(NAME, D, N, M, TOGETHER)                                                                            \
	KERNEL_TOGETHER(128, TOGETHER, NAME##_bf16_##D,                                                                 \
	          (bf16* out, float* lse, float* sums, float* partial, const bf16* q, const bf16* k, const bf16* v,     \
	           const int* items, const int* pieces, const int* table, int query, int dim, int window, int wide, float scale)) { \
		forward<D, N, M>(out, lse, sums, partial, q, k, v, items, pieces, table, heads_of(query, dim, window, wide, scale)); \
	}

FORWARD(attention_forward, 32, 64, 1, 3)
FORWARD(attention_forward, 64, 64, 1, 3)
FORWARD(attention_forward, 128, 64, 1, 2)
FORWARD(attention_forward, 256, 32, 1, 2)
FORWARD(attention_long, 32, 64, 2, 3)
FORWARD(attention_long, 64, 64, 2, 3)
