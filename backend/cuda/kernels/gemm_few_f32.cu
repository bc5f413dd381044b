// Products of few rows in float32, C = A·Bᵀ for A (m ≤ 16, k) and weights B (n, k)
// in any format: gemm_few.cu says what such products wait for. The sums are those
// of gemm.h, bit for bit.
//
// A block takes one slice of k and 32 columns of C (rows of B), starts to copy all
// of it at once, 64 KiB in float32, and computes on the first quarter while the
// rest arrives. There are n/32 · k/512 blocks, so that slices need not be a choice
// between few blocks and another order of summation; their sums go through memory,
// m/256 of B's bytes there and back.
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

// FewF32: a warp has four rows and a lane a column, which it reads 16 bytes at a
// time.
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

FEW(few_f32_f32, (FewF32<float, F32_WEIGHTS>::run))
FEW(few_f32_bf16, (FewF32<bf16, BF16_WEIGHTS>::run))
FEW(few_f32_q8, (FewF32<unsigned char, Q8_WEIGHTS>::run))
