// Attention in bf16: the flash form (Dao 2023, "FlashAttention-2"), all sums in
// float32. One block of four warps takes 64 rows over their keys, 64 at a time
// (32 where heads are wider than 128). With s the scores of a row times log2(e)/√dim,
//
//	m' = max(m, s),  p = 2^(s−m'),  l = l·2^(m−m') + Σ p,  acc = acc·2^(m−m') + p·v
//
// and in the end out = acc/l, lse = (m + log2 l)·ln 2.
//
// Decoding uses the same kernel. Its items are chunks of at most 256 keys, whose
// m, l and acc go to the workspace for attention_combine; Seqs that share a chunk
// (chains of one prompt) share the item. Memory limits it: 256 keys of 128 are
// 128 KiB read once; the partial sums are 3% of that for a group of four.
//
// What limits the blocks of a multiprocessor (ptxas 11.8; nothing is spilled):
//
//	heads up to   shared memory   registers sm_80, sm_90   blocks A100, H100
//	32            20 KiB          120, 128                 4, 4
//	64            36 KiB          132, 133                 3, 3
//	128           68 KiB          221, 228                 2, 2
//	256           99 KiB          243, 244                 1, 2
#include "attention_bf16.h"

template <int D, int N>
DEVICE void forward(bf16* out, float* lse, float* sums, float* partial, const bf16* q, const bf16* k, const bf16* v,
                    const int* items, const int* pieces, const int* table, const Heads& h) {
	constexpr int P = pitch(D), ROWS = 64, THREADS = 128;
	constexpr bool KEEP = D <= 128; // the queries stay in registers
	DYNAMIC_SHARED(bf16, tiles);
	// Stage s is N keys and N values. Queries that stay in registers come by way
	// of stage 1.
	bf16* queries = tiles + (KEEP ? 2 : 4) * N * P;
	const Item item = item_at(items, block_x());
	if (item.rows == 0) return;

	load_rows<bf16, D, P, ROWS, THREADS>(queries, nullptr, q, nullptr, item, table, h);
	cp_async_commit();
	Keys keys = keys_of(item, pieces);
	load_keys<bf16, D, P, N, THREADS>(tiles, tiles + N * P, k, v, keys, item.from, h);
	cp_async_commit();

	const int first = warp() * 16 + lane() / 4;
	const Row r0 = row_of(item, table, first, h), r1 = row_of(item, table, first + 8, h);
	const Sight see = sight_of(least(r0.from, r1.from), most(r0.from, r1.from), least(r0.to, r1.to), most(r0.to, r1.to));

	queries += warp() * 16 * P;
	unsigned kept[KEEP ? D / 16 : 1][4];
	if constexpr (KEEP) {
		cp_async_wait<1>();
		sync();
		UNROLL for (int kk = 0; kk < D / 16; kk++) row_fragment<D>(kept[kk], queries, kk);
		sync();
	}

	float acc[D / 8][4];
	UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = 0; e < 4; e++) acc[j][e] = 0;
	float top[2] = {minus_infinity(), minus_infinity()}, sum[2] = {0, 0};
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
			float s[N / 8][4];
			scores<D, N>(s, ks, [&](unsigned a[4], int kk) {
				if constexpr (KEEP) UNROLL for (int e = 0; e < 4; e++) a[e] = kept[kk][e];
				else row_fragment<D>(a, queries, kk);
			});
			if (k0 < see.all || k0 + N > see.any) {
				UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = 0; e < 4; e++) {
					int p = k0 + j * 8 + lane() % 4 * 2 + (e & 1);
					if (p < (e < 2 ? r0.from : r1.from) || p >= (e < 2 ? r0.to : r1.to)) s[j][e] = minus_infinity();
				}
			}
			UNROLL for (int r = 0; r < 2; r++) {
				float high = minus_infinity();
				UNROLL for (int j = 0; j < N / 8; j++) high = f_max(high, f_max(s[j][2 * r], s[j][2 * r + 1]));
				high = f_max(high, shfl_xor(high, 1));
				high = f_max(high, shfl_xor(high, 2));
				high = f_max(top[r], high * scale);
				// Where nothing has been seen yet, −∞ − −∞ must not become NaN.
				float base = high == minus_infinity() ? 0.0f : high;
				float shrink = f_exp2(top[r] - base);
				top[r] = high;
				sum[r] *= shrink;
				UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = 2 * r; e < 2 * r + 2; e++) {
					s[j][e] = f_exp2(f_fma(s[j][e], scale, -base));
					sum[r] += s[j][e];
				}
				UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = 2 * r; e < 2 * r + 2; e++) acc[j][e] *= shrink;
			}
			mix<D, N>(acc, s, ks + N * P);
		}
		sync();
	}

	UNROLL for (int r = 0; r < 2; r++) {
		const Row& row = r == 0 ? r0 : r1;
		float total = sum[r] + shfl_xor(sum[r], 1);
		total += shfl_xor(total, 2);
		if (row.at < 0) continue;
		if (item.table >= 0) {
			if (lane() % 4 == 0) sums[2 * row.slot] = top[r], sums[2 * row.slot + 1] = total;
			UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = 0; e < 2; e++) {
				int c = j * 8 + lane() % 4 * 2 + e;
				if (c < h.dim) partial[row.slot * h.dim + c] = acc[j][2 * r + e];
			}
			continue;
		}
		if (lane() % 4 == 0) lse[row.at] = (top[r] + f_log2(total)) * ln_2;
		float whole = 1 / total;
		UNROLL for (int j = 0; j < D / 8; j++)
			store_pair(out + row.at * h.dim, j * 8 + lane() % 4 * 2, h.dim, acc[j][2 * r] * whole, acc[j][2 * r + 1] * whole, h.wide);
	}
}

#define FORWARD(D, N)                                                                                               \
	KERNEL_OF(128, attention_forward_bf16_##D,                                                                      \
	          (bf16* out, float* lse, float* sums, float* partial, const bf16* q, const bf16* k, const bf16* v,     \
	           const int* items, const int* pieces, const int* table, int query, int dim, int window, int wide, float scale)) { \
		forward<D, N>(out, lse, sums, partial, q, k, v, items, pieces, table, {query, dim, window, wide, scale});   \
	}

FORWARD(32, 64)
FORWARD(64, 64)
FORWARD(128, 64)
FORWARD(256, 32)
