// Products of few rows in bfloat16, C = A·Bᵀ for A (m ≤ 16, k) and weights B (n, k)
// in bfloat16 or Q8: what decoding does. They wait for memory, so all there is to
// do is to read B once, evenly, with enough of it under way from the first moment to
// the last. The sums are those of gemm.h, bit for bit, and none goes through memory.
//
// One launch takes up to four weights that read the same A, tile after tile. A block
// has a tile of columns of C (rows of B) for all of k, and its warps, with 16 columns
// each at a time, stand in one of four ways:
//
//	64 columns: four warps side by side, slice after slice
//	32 columns: two side by side, each pair with every other slice
//	16 columns: four warps, each with every fourth slice
//	16 columns: eight warps, each with every eighth slice, where k is long
//
// so that there are tiles for a whole GPU at n = 2048 as at 16,384. A step is 128 of
// k for every warp, 4 KiB of B (2.1 in Q8), and 256·m bytes of A for each slice at
// work. Steps come through a ring in shared memory, of which all stages but the one
// at work are under way; matmul_few.go gives a block as many, 2 to 8, as fit the
// multiprocessor, or half of it where there are more blocks than multiprocessors.
// After a round of slices the warps leave their sums in shared memory, and threads
// that own a sum of C each add them in order, while copies go on.
//
// How much is enough: a GPU with 4.8 TB/s and 0.8 µs from request to data has 4 MB
// under way, 30 KiB on each of its 132 multiprocessors. With 227 KiB of shared memory
// that is, in KiB of B under way on a multiprocessor, in bfloat16:
//
//	           n      k   columns  blocks  m = 1         m = 16
//	q, k, v    3072   2048     16     192  64 or 128     32 or 64
//	o          2048   2048     16     128  64            64
//	gate, up  16384   2048     64     256  160           128
//	down       2048   8192     16     128  160           64
//
// all of them one wave. 99 KiB leave no less than 16. A comes from the second-level
// cache once for each tile: m/columns of B's bytes in bfloat16, twice that in Q8. A
// warp's two chains of mma take 512 bytes in 33 cycles, four warps 62 bytes a cycle,
// where memory gives 21. Q8 has as much to compute for half the bytes, and therefore
// wants eight on a multiprocessor.
#include "gemm.h"
#include "weights.h"

constexpr int STEP = 128, PARTS = SLICE / STEP;

// Input is what the products of a launch share.
struct Input {
	const bf16* a;
	int m, k, lda, stages;
};

// Output is one of them.
struct Output {
	const void* b;
	const bf16* scales; // of Q8
	void* c;
	int n, ldb, ldc, flags;
};

// Tile is a block's work: columns of an output from col on.
struct Tile {
	Output o;
	int col;
};

// find makes the block's tile one of o's if it is, whose blocks follow those before.
template <int BN> DEVICE void find(Tile& t, int& before, const Output& o) {
	const int tiles = ceil_div(o.n, BN), i = block_x() - before;
	if (i >= 0 && i < tiles) t = {o, i * BN};
	before += tiles;
}

// fetch_rows starts to copy count ≤ 16 rows of STEP numbers, from column col of a
// matrix that ends before rows and cols; outside are zeros. BY threads do it, of
// which this one is number first. Shared memory has the rows' 16-byte chunks one
// after another, that of number q in row r in place q ^ r%8: the eight rows of a
// matrix that ldmatrix reads lie in eight different groups of banks.
template <typename T, int BY>
DEVICE void fetch_rows(unsigned char* to, const T* from, int ld, int count, int rows, int col, int cols, bool plain, int first) {
	constexpr int N = 16 / int(sizeof(T)), CHUNKS = STEP / N;
	static_assert(BY % CHUNKS == 0, "whole rows of chunks at a time");
	if (plain) {
		const int q = first % CHUNKS, c = col + q * N;
		const T* get = from + (long long)(first / CHUNKS) * ld + c;
		UNROLL for (int i = 0; i < 16 * CHUNKS / BY; i++) {
			const int r = first / CHUNKS + i * (BY / CHUNKS);
			if (r < count) cp_async16(to + r * (CHUNKS * 16) + (q ^ r % 8) * 16, get + (long long)i * (BY / CHUNKS) * ld, r < rows && c < cols);
		}
		return;
	}
	for (int id = first; id < count * CHUNKS; id += BY) {
		const int r = id / CHUNKS, q = id % CHUNKS, c = col + q * N;
		T* put = reinterpret_cast<T*>(to + r * (CHUNKS * 16) + (q ^ r % 8) * 16);
		const T* get = from + (long long)r * ld + c;
		for (int e = 0; e < N; e++) put[e] = r < rows && c + e < cols ? get[e] : T{};
	}
}

// arrived returns when all but this thread's left newest steps are there.
DEVICE void arrived(int left) {
	switch (left) {
	case 0: return cp_async_wait<0>();
	case 1: return cp_async_wait<1>();
	case 2: return cp_async_wait<2>();
	case 3: return cp_async_wait<3>();
	case 4: return cp_async_wait<4>();
	case 5: return cp_async_wait<5>();
	default: return cp_async_wait<6>();
	}
}

template <bool Q8, int ACROSS, int WARPS> struct Few {
	static constexpr int DEEP = WARPS / ACROSS, BN = 16 * ACROSS; // slices and columns at a time
	static constexpr int ROW_A = 2 * STEP, ROW_B = (Q8 ? 1 : 2) * STEP;
	static constexpr int SIZE_B = 16 * (ROW_B + (Q8 ? 16 : 0)); // a warp's, with 8 scales for each column
	static constexpr int EACH = BN * 16 / (WARPS * 32);         // sums of C for each thread
	static constexpr int SIZE_SUMS = WARPS * 16 * 16 * 4;       // bytes before the ring

	// depth is where the warp is in k at step t.
	DEVICE int depth(int t) { return (t / PARTS * DEEP + warp() / ACROSS) * SLICE + t % PARTS * STEP; }

	// together waits for those who share a stage.
	DEVICE void together() {
		if (ACROSS == 1)
			sync_warp();
		else
			sync();
	}

	// fill starts to copy step t: the slices' parts of A, and behind them the warps' of B.
	DEVICE void fill(unsigned char* stage, const Input& in, const Output& o, int col, int t) {
		const int k = depth(t), across = warp() % ACROSS, deep = warp() / ACROSS;
		if (k >= in.k) return;
		unsigned char* b = stage + DEEP * in.m * ROW_A + warp() * SIZE_B;
		col += across * 16;
		if (Q8) {
			fetch_rows<unsigned char, 32>(b, static_cast<const unsigned char*>(o.b) + (long long)col * o.ldb, o.ldb, 16, o.n - col, k, in.k, o.flags & PLAIN_B, lane());
			// 16 bytes are the scales of two steps.
			const int pitch = scale_pitch(o.ldb), at = k / 256 * 8;
			if (lane() < 16) cp_async16(b + 16 * ROW_B + lane() * 16, o.scales + (long long)(col + lane()) * pitch + at, col + lane() < o.n && at < pitch);
		} else {
			fetch_rows<bf16, 32>(b, static_cast<const bf16*>(o.b) + (long long)col * o.ldb, o.ldb, 16, o.n - col, k, in.k, o.flags & PLAIN_B, lane());
		}
		fetch_rows<bf16, 32 * ACROSS>(stage + deep * in.m * ROW_A, in.a, in.lda, in.m, in.m, k, in.k, o.flags & PLAIN_A, across * 32 + lane());
	}

	// multiply adds a step to the sums of the warp's slice. Rows that A does not have
	// are another's: no row of C depends on them.
	DEVICE void multiply(float acc[2][4], const unsigned char* stage, int m, int t) {
		const int l = lane() % 8, low = lane() / 8 % 2, high = lane() / 16;
		const int row = low * 8 + l < m ? low * 8 + l : 0;
		const unsigned char* a = stage + warp() / ACROSS * m * ROW_A + row * ROW_A;
		const unsigned char* b = stage + DEEP * m * ROW_A + warp() * SIZE_B;
		const int at_a = (high ^ row % 8) * 16;
		if (!Q8) {
			const int at_b = (low ^ l) * 16;
			UNROLL for (int i = 0; i < STEP / 16; i++) {
				unsigned x[4], y[4];
				ldmatrix_x4(x, a + (at_a ^ 32 * i));
				ldmatrix_x4(y, b + (high * 8 + l) * ROW_B + (at_b ^ 32 * i));
				UNROLL for (int j = 0; j < 2; j++) mma_bf16(acc[j], x, y + 2 * j);
			}
			return;
		}
		const unsigned char* s = b + 16 * ROW_B + lane() / 4 * 16 + depth(t) / STEP % 2 * 8;
		UNROLL for (int h = 0; h < STEP / 64; h++) {
			unsigned words[2][4];
			UNROLL for (int j = 0; j < 2; j++) ldmatrix_x4(words[j], b + (j * 8 + l) * ROW_B + ((lane() / 8 + 4 * h) ^ l) * 16);
			float scale[2];
			UNROLL for (int i = 0; i < 4; i++) {
				unsigned x[4], y[4];
				ldmatrix_x4(x, a + (at_a ^ 32 * (4 * h + i)));
				UNROLL for (int j = 0; j < 2; j++) {
					if (i % 2 == 0) scale[j] = to_float(*reinterpret_cast<const bf16*>(s + j * 8 * 16 + (2 * h + i / 2) * 2));
					UNROLL for (int e = 0; e < 2; e++)
						y[2 * j + e] = pack_bf16(q8_number(words[j][i], 2 * e) * scale[j], q8_number(words[j][i], 2 * e + 1) * scale[j]);
					mma_bf16(acc[j], x, y + 2 * j);
				}
			}
		}
	}

	DEVICE void run(const Input& in, const Output& o0, const Output& o1, const Output& o2, const Output& o3) {
		DYNAMIC_SHARED(unsigned char, smem);
		float* sums = reinterpret_cast<float*>(smem); // (DEEP, ACROSS, 16, 16)
		unsigned char* ring = smem + SIZE_SUMS;
		const int size = DEEP * in.m * ROW_A + WARPS * SIZE_B;

		Tile tile{};
		int before = 0;
		find<BN>(tile, before, o0);
		find<BN>(tile, before, o1);
		find<BN>(tile, before, o2);
		find<BN>(tile, before, o3);
		const Output& o = tile.o;
		const int col = tile.col;
		const int slices = ceil_div(in.k, SLICE), rounds = ceil_div(slices, DEEP), left = in.k - (rounds - 1) * DEEP * SLICE;
		const int steps = (rounds - 1) * PARTS + (left < SLICE ? ceil_div(left, STEP) : PARTS);
		for (int t = 0; t < in.stages - 1; t++) {
			if (t < steps) fill(ring + t * size, in, o, col, t);
			cp_async_commit();
		}
		// What C held is read while the first steps are on their way.
		float sum[EACH], was[EACH];
		UNROLL for (int i = 0; i < EACH; i++) {
			const int id = thread() + i * WARPS * 32, r = id / BN, c = col + id % BN;
			sum[i] = was[i] = 0;
			if (!(o.flags & ACCUMULATE) || r >= in.m || c >= o.n) continue;
			const long long at = (long long)r * o.ldc + c;
			was[i] = o.flags & FLOAT_C ? static_cast<const float*>(o.c)[at] : to_float(static_cast<const bf16*>(o.c)[at]);
		}
		float acc[2][4] = {};
		for (int t = 0, slot = 0; t < steps; t++) {
			arrived(in.stages - 2);
			together();
			if (t + in.stages - 1 < steps) fill(ring + (slot ? slot - 1 : in.stages - 1) * size, in, o, col, t + in.stages - 1);
			cp_async_commit();
			if (depth(t) < in.k) multiply(acc, ring + slot * size, in.m, t);
			slot = slot + 1 < in.stages ? slot + 1 : 0;
			if (t % PARTS < PARTS - 1 && t < steps - 1) continue;

			// The end of a round.
			UNROLL for (int j = 0; j < 2; j++)
				UNROLL for (int e = 0; e < 4; e++) {
					sums[warp() * 256 + (lane() / 4 + e / 2 * 8) * 16 + j * 8 + lane() % 4 * 2 + e % 2] = acc[j][e];
					acc[j][e] = 0;
				}
			sync();
			UNROLL for (int i = 0; i < EACH; i++) {
				const int id = thread() + i * WARPS * 32, r = id / BN, c = id % BN;
				if (r >= in.m) continue;
				UNROLL for (int d = 0; d < DEEP; d++)
					if (t / PARTS * DEEP + d < slices) sum[i] += sums[(d * ACROSS + c / 16) * 256 + r * 16 + c % 16];
			}
			sync();
		}
		UNROLL for (int i = 0; i < EACH; i++) {
			const int id = thread() + i * WARPS * 32, r = id / BN, c = col + id % BN;
			if (r >= in.m || c >= o.n) continue;
			const long long at = (long long)r * o.ldc + c;
			const float x = o.flags & ACCUMULATE ? was[i] + sum[i] : sum[i];
			if (o.flags & FLOAT_C)
				static_cast<float*>(o.c)[at] = x;
			else
				static_cast<bf16*>(o.c)[at] = to_bf16(x);
		}
	}
};

#define OUTPUT(i) const void *b##i, const bf16 *scales##i, void *c##i, int n##i, int ldb##i, int ldc##i, int flags##i
#define OUTPUT_OF(i) Output{b##i, scales##i, c##i, n##i, ldb##i, ldc##i, flags##i}

// FEW defines a kernel. An output that is not there has n = 0.
#define FEW(warps, name, body)                                                                          \
	KERNEL_OF(warps * 32, name, (const bf16* a, int m, int k, int lda, int stages,                      \
	                             OUTPUT(0), OUTPUT(1), OUTPUT(2), OUTPUT(3))) {                         \
		body(Input{a, m, k, lda, stages}, OUTPUT_OF(0), OUTPUT_OF(1), OUTPUT_OF(2), OUTPUT_OF(3));      \
	}

FEW(8, few_bf16_bf16_16_long, (Few<false, 1, 8>::run))
FEW(4, few_bf16_bf16_16, (Few<false, 1, 4>::run))
FEW(4, few_bf16_bf16_32, (Few<false, 2, 4>::run))
FEW(4, few_bf16_bf16_64, (Few<false, 4, 4>::run))
FEW(8, few_bf16_q8_16_long, (Few<true, 1, 8>::run))
FEW(4, few_bf16_q8_16, (Few<true, 1, 4>::run))
FEW(4, few_bf16_q8_32, (Few<true, 2, 4>::run))
FEW(4, few_bf16_q8_64, (Few<true, 4, 4>::run))
