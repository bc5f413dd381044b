// Matrix products in float32, true float32: fused multiply-adds, no TF32. gemm.h
// has the order of their sums.
//
// A block computes a tile of C, 128×128 with 256 threads of 8×8 sums each, or
// 64×64 with 128 of 4×8. It walks down k in steps of 16 through a ring of four
// stages, as the products in bfloat16 do. Operands are staged as they lie. A
// thread reads four neighbours at a time, along k or across it as they lie, and
// takes its rows and columns so that the threads of a warp read one address or
// different banks.
#include "gemm.h"

constexpr int BK = 16, STAGES = 4;

template <bool TA, bool TB, int BM, int BN, int TM, int TN> struct F32 {
	static constexpr int X = BN / TN, Y = BM / TM, THREADS = X * Y;
	static constexpr int PITCH_A = TA ? 4 * BM + 16 : 4 * BK + 16, SIZE_A = PITCH_A * (TA ? BK : BM);
	static constexpr int PITCH_B = TB ? 4 * BK + 16 : 4 * BN + 16, SIZE_B = PITCH_B * (TB ? BN : BK);
	static constexpr int STAGE = SIZE_A + SIZE_B, PITCH_C = BN + 4;
	static_assert(STAGES * STAGE >= BM * PITCH_C * 4, "the tile of sums takes the ring's place");

	// fill starts to copy step k of both operands to a stage.
	DEVICE void fill(unsigned char* stage, const Product& p, const Work& w, int k) {
		load<float, TA, TB, BM, BN, BK, PITCH_A, SIZE_A, PITCH_B, THREADS>(stage, p, w, k);
	}

	// line is where thread t of LANES has its i-th row or column: across k in fours,
	// along k one apart.
	template <bool ACROSS, int LANES> DEVICE int line(int t, int i) {
		return ACROSS ? i / 4 * (4 * LANES) + t * 4 + i % 4 : i * LANES + t;
	}

	// read gets x[i][k] for lines q … q+3 of thread t and four k.
	template <bool ACROSS, int LANES, int PITCH>
	DEVICE void read(float x[][4], const unsigned char* from, int t, int q, int k) {
		UNROLL for (int e = 0; e < 4; e++) {
			vec16 v = load16(ACROSS ? from + (k + e) * PITCH + line<ACROSS, LANES>(t, q) * 4
			                        : from + line<ACROSS, LANES>(t, q + e) * PITCH + k * 4);
			float f[4] = {bits_float(v.x), bits_float(v.y), bits_float(v.z), bits_float(v.w)};
			UNROLL for (int i = 0; i < 4; i++) (ACROSS ? x[i][e] : x[e][i]) = f[i];
		}
	}

	DEVICE void run(const Product& p) {
		DYNAMIC_SHARED(unsigned char, ring);
		const Work w = work<BM, BN>(p);
		const int steps = ceil_div(w.to - w.from, BK), x = thread() % X, y = thread() / X;
		for (int s = 0; s < STAGES - 1; s++) {
			if (s < steps) fill(ring + s * STAGE, p, w, w.from + s * BK);
			cp_async_commit();
		}
		float sum[TM][TN], acc[TM][TN];
		UNROLL for (int i = 0; i < TM; i++)
			UNROLL for (int j = 0; j < TN; j++) sum[i][j] = acc[i][j] = 0;
		for (int t = 0; t < steps;) {
			const int end = t + SLICE / BK < steps ? t + SLICE / BK : steps;
			for (; t < end; t++) {
				cp_async_wait<STAGES - 2>();
				sync();
				if (t + STAGES - 1 < steps) fill(ring + (t + STAGES - 1) % STAGES * STAGE, p, w, w.from + (t + STAGES - 1) * BK);
				cp_async_commit();
				const unsigned char* stage = ring + t % STAGES * STAGE;
				for (int k = 0; k < BK; k += 4) {
					float b[TN][4];
					UNROLL for (int q = 0; q < TN; q += 4) read<!TB, X, PITCH_B>(b + q, stage + SIZE_A, x, q, k);
					UNROLL for (int q = 0; q < TM; q += 4) {
						float a[4][4];
						read<TA, Y, PITCH_A>(a, stage, y, q, k);
						UNROLL for (int e = 0; e < 4; e++)
							UNROLL for (int i = 0; i < 4; i++)
								UNROLL for (int j = 0; j < TN; j++) acc[q + i][j] = f_fma(a[i][e], b[j][e], acc[q + i][j]);
					}
				}
			}
			UNROLL for (int i = 0; i < TM; i++)
				UNROLL for (int j = 0; j < TN; j++) {
					sum[i][j] += acc[i][j];
					acc[i][j] = 0;
				}
		}
		cp_async_wait<0>();
		sync();
		float* tile = reinterpret_cast<float*>(ring);
		UNROLL for (int i = 0; i < TM; i++)
			UNROLL for (int j = 0; j < TN; j++)
				tile[line<TA, Y>(y, i) * PITCH_C + line<!TB, X>(x, j)] = sum[i][j];
		finish<float, BM, BN, PITCH_C, THREADS>(tile, p, w);
	}
};

GEMM(256, gemm_f32_nn_128, (F32<false, false, 128, 128, 8, 8>::run))
GEMM(256, gemm_f32_nt_128, (F32<false, true, 128, 128, 8, 8>::run))
GEMM(256, gemm_f32_tn_128, (F32<true, false, 128, 128, 8, 8>::run))
GEMM(256, gemm_f32_tt_128, (F32<true, true, 128, 128, 8, 8>::run))
GEMM(128, gemm_f32_nn_64, (F32<false, false, 64, 64, 4, 8>::run))
GEMM(128, gemm_f32_nt_64, (F32<false, true, 64, 64, 4, 8>::run))
GEMM(128, gemm_f32_tn_64, (F32<true, false, 64, 64, 4, 8>::run))
GEMM(128, gemm_f32_tt_64, (F32<true, true, 64, 64, 4, 8>::run))
