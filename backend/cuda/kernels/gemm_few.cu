// Products of few rows, C = A·Bᵀ for A (m ≤ 16, k) and weights B (n, k): what
// decoding does. They wait for memory, so all there is to do is to read B once,
// evenly, with enough of it under way. The sums are those of gemm.h, bit for bit.
//
// How much is enough: a GPU with 4.8 TB/s and 0.8 µs from request to data has
// 4 MB under way, 30 KiB on each of its 132 multiprocessors. So a block takes one
// slice of k and 64 columns of C (rows of B), starts to copy all of it at once,
// 64 KiB in bfloat16, and computes on the first quarter while the rest arrives;
// two blocks fit a multiprocessor (three and more in Q8), so one's start hides
// behind the other's work. There are n/64 · k/512 blocks, 128 of them at n = k =
// 2048: one wave that keeps everything busy, and slices need not be a choice
// between few blocks and another order of summation. What it costs: A is read
// n/64 times from the second-level cache, m/64 of B's bytes, and the sums of
// slices take m/128 of B's bytes there and back. A warp has 16 columns, two mma
// in turn, so that their latency (33 cycles on 512 bytes) is no limit either: four
// warps and two blocks take 120 bytes per cycle where memory gives 21.
#include "gemm.h"
#include "weights.h"

constexpr int THREADS = 128, PARTS = 4, PART = SLICE / PARTS;

// fetch_weights starts to copy part q of a slice: rows are columns of C.
template <typename T, int BN, int PITCH> DEVICE void fetch_weights(unsigned char* to, const Product& p, const Work& w, int q) {
	constexpr int CHUNKS = PART * int(sizeof(T)) / 16;
	fetch<T, BN, CHUNKS, PITCH, THREADS>(to + q * CHUNKS * 16, static_cast<const T*>(p.b), p.ldb, w.col, p.n, w.from + q * PART, w.to, p.flags & PLAIN_B);
}

// wait returns when part q has arrived.
DEVICE void wait(int q) {
	if (q == 0) cp_async_wait<PARTS - 1>();
	if (q == 1) cp_async_wait<PARTS - 2>();
	if (q == 2) cp_async_wait<PARTS - 3>();
	if (q == 3) cp_async_wait<0>();
	sync();
}

// share is work for blocks that do one slice each, whether or not there are others.
template <int BM, int BN> DEVICE Work share(const Product& p) {
	Work w = work<BM, BN>(p);
	w.to = w.from + SLICE < p.k ? w.from + SLICE : p.k;
	return w;
}

// few_bf16: A, C in bfloat16 (C float32 as well), B in bfloat16 or Q8.
template <bool Q8> struct Few {
	static constexpr int BN = 64, PITCH_A = 2 * SLICE + 16, SIZE_A = 16 * PITCH_A, PITCH_C = BN + 4;
	static constexpr int PITCH_B = (Q8 ? 1 : 2) * SLICE + 16, SIZE_B = BN * PITCH_B, PITCH_S = 48;

	DEVICE void run(const Product& p, const bf16* scales) {
		DYNAMIC_SHARED(unsigned char, smem);
		const Work w = share<16, BN>(p);
		unsigned char *b = smem + SIZE_A, *s = b + SIZE_B;
		for (int q = 0; q < PARTS; q++) {
			if (Q8 && q == 0) fetch<bf16, BN, 2, PITCH_S, THREADS>(s, scales, scale_pitch(p.ldb), w.col, p.n, w.from / 32, scale_pitch(p.ldb), true);
			fetch<bf16, 16, PART / 8, PITCH_A, THREADS>(smem + q * PART * 2, static_cast<const bf16*>(p.a), p.lda, 0, p.m, w.from + q * PART, w.to, p.flags & PLAIN_A);
			if (Q8)
				fetch_weights<unsigned char, BN, PITCH_B>(b, p, w, q);
			else
				fetch_weights<bf16, BN, PITCH_B>(b, p, w, q);
			cp_async_commit();
		}
		float acc[2][4] = {};
		const int l = lane() % 8, low = lane() / 8 % 2, high = lane() / 16, col = warp() * 16;
		const unsigned char* at_a = smem + (low * 8 + l) * PITCH_A + high * 16;
		const unsigned char* at_b = Q8 ? b + (col + l) * PITCH_B + lane() / 8 * 16 : b + (col + high * 8 + l) * PITCH_B + low * 16;
		UNROLL for (int q = 0; q < PARTS; q++) {
			wait(q);
			if (w.from + q * PART >= w.to) continue;
			for (int k = q * PART; k < (q + 1) * PART; k += 64) {
				unsigned words[2][4];
				if (Q8) UNROLL for (int j = 0; j < 2; j++) ldmatrix_x4(words[j], at_b + j * 8 * PITCH_B + k);
				float scale[2];
				UNROLL for (int i = 0; i < 4; i++) {
					unsigned a[4], both[4];
					ldmatrix_x4(a, at_a + (k + 16 * i) * 2);
					if (!Q8) ldmatrix_x4(both, at_b + (k + 16 * i) * 2);
					if (Q8) UNROLL for (int j = 0; j < 2; j++) {
						if (i % 2 == 0) scale[j] = to_float(*reinterpret_cast<const bf16*>(s + (col + j * 8 + lane() / 4) * PITCH_S + (k / 32 + i / 2) * 2));
						UNROLL for (int e = 0; e < 2; e++)
							both[2 * j + e] = pack_bf16(q8_number(words[j][i], 2 * e) * scale[j], q8_number(words[j][i], 2 * e + 1) * scale[j]);
					}
					UNROLL for (int j = 0; j < 2; j++) mma_bf16(acc[j], a, both + 2 * j);
				}
			}
		}
		sync();
		float* tile = reinterpret_cast<float*>(smem);
		UNROLL for (int j = 0; j < 2; j++)
			UNROLL for (int e = 0; e < 4; e++)
				tile[(lane() / 4 + e / 2 * 8) * PITCH_C + col + j * 8 + lane() % 4 * 2 + e % 2] = 0.0f + acc[j][e];
		finish<bf16, 16, BN, PITCH_C, THREADS>(tile, p, w);
	}
};

// FewF32: A and C in float32, B in any format. A block has 32 columns, so that
// its slices of float32 fit; a warp has four rows and a lane a column, which it
// reads 16 bytes at a time.
template <typename T, Format FORMAT> struct FewF32 {
	static constexpr int BN = 32, PITCH_A = 4 * SLICE + 16, PITCH_B = int(sizeof(T)) * SLICE + 16, PITCH_S = 48, PITCH_C = BN + 4;
	static constexpr int N = 16 / int(sizeof(T)); // numbers in 16 bytes

	// expand makes numbers of 16 bytes.
	DEVICE void expand(float x[N], vec16 v, float scale) {
		unsigned words[4] = {v.x, v.y, v.z, v.w};
		if (FORMAT == F32_WEIGHTS) UNROLL for (int i = 0; i < N; i++) x[i] = bits_float(words[i % 4]);
		if (FORMAT == BF16_WEIGHTS) UNROLL for (int i = 0; i < N; i++) x[i] = i % 2 ? high_float(words[i / 2 % 4]) : low_float(words[i / 2 % 4]);
		if (FORMAT == Q8_WEIGHTS) UNROLL for (int i = 0; i < N; i++) x[group_number(i) % N] = q8_number(words[i / 4 % 4], i % 4) * scale;
	}

	DEVICE void run(const Product& p, const bf16* scales) {
		DYNAMIC_SHARED(unsigned char, smem);
		const Work w = share<16, BN>(p);
		unsigned char *b = smem, *s = b + BN * PITCH_B, *a = s + (FORMAT == Q8_WEIGHTS ? BN * PITCH_S : 0);
		for (int q = 0; q < PARTS; q++) {
			if (FORMAT == Q8_WEIGHTS && q == 0)
				fetch<bf16, BN, 2, PITCH_S, THREADS>(s, scales, scale_pitch(p.ldb), w.col, p.n, w.from / 32, scale_pitch(p.ldb), true);
			fetch_weights<T, BN, PITCH_B>(b, p, w, q);
			// Of A four rows at a time, which is all that shared memory may have room for.
			for (int r = 0; r < p.m; r += 4)
				fetch<float, 4, PART / 4, PITCH_A, THREADS>(a + r * PITCH_A + q * PART * 4, static_cast<const float*>(p.a), p.lda, r, p.m, w.from + q * PART, w.to, p.flags & PLAIN_A);
			cp_async_commit();
		}
		float acc[4] = {0, 0, 0, 0};
		const bool idle = 4 * warp() >= p.m;
		a += 4 * warp() * PITCH_A;
		b += lane() * PITCH_B;
		UNROLL for (int q = 0; q < PARTS; q++) {
			wait(q);
			if (idle || w.from + q * PART >= w.to) continue;
			for (int k = q * PART; k < (q + 1) * PART; k += N) {
				float x[N];
				expand(x, load16(b + k * int(sizeof(T))), FORMAT == Q8_WEIGHTS ? to_float(*reinterpret_cast<const bf16*>(s + lane() * PITCH_S + k / 32 * 2)) : 1.0f);
				UNROLL for (int i = 0; i < 4; i++)
					UNROLL for (int e = 0; e < N; e += 4) {
						vec16 v = load16(a + i * PITCH_A + (k + e) * 4);
						acc[i] = f_fma(bits_float(v.x), x[e], acc[i]);
						acc[i] = f_fma(bits_float(v.y), x[e + 1], acc[i]);
						acc[i] = f_fma(bits_float(v.z), x[e + 2], acc[i]);
						acc[i] = f_fma(bits_float(v.w), x[e + 3], acc[i]);
					}
			}
		}
		sync();
		float* tile = reinterpret_cast<float*>(smem);
		if (!idle) UNROLL for (int i = 0; i < 4; i++) tile[(4 * warp() + i) * PITCH_C + lane()] = 0.0f + acc[i];
		finish<float, 16, BN, PITCH_C, THREADS>(tile, p, w);
	}
};

// FEW is GEMM with the scales of weights in Q8.
#define FEW(name, body)                                                                                           \
	KERNEL_OF(THREADS, name, (const void* a, const void* b, void* c, float* parts, int* tickets, int m, int n,    \
	                          int k, int lda, int ldb, int ldc, int flags, const bf16* scales)) {                 \
		body(Product{a, b, c, parts, tickets, m, n, k, lda, ldb, ldc, flags}, scales);                            \
	}

FEW(few_bf16_bf16, (Few<false>::run))
FEW(few_bf16_q8, (Few<true>::run))
FEW(few_f32_f32, (FewF32<float, F32_WEIGHTS>::run))
FEW(few_f32_bf16, (FewF32<bf16, BF16_WEIGHTS>::run))
FEW(few_f32_q8, (FewF32<unsigned char, Q8_WEIGHTS>::run))
