// Matrix products in bfloat16 on the tensor cores (mma m16n8k16), with float32
// sums; gemm.h has their order.
//
// A block computes a tile of C, 128×128 with eight warps of 64×32, or 64×64 with
// four of 32×32 where the larger would leave much of the GPU idle. It walks down
// k in steps of 32 through a ring of four stages in shared memory: cp.async fills
// three while ldmatrix reads the fourth, and one barrier per step keeps both
// sides apart. (A stage is 20 KiB; four allow every GPU since sm_80 a block.)
//
// A transposed operand is staged as it lies and transposed by ldmatrix on the
// way to the registers. Rows in shared memory are 16 bytes longer than what they
// hold: an odd number of 16 bytes, so that the eight rows of a matrix that
// ldmatrix reads lie in eight different groups of banks.
#include "gemm.h"

constexpr int BK = 32, STAGES = 4;

template <bool TA, bool TB, int BM, int BN, int WM, int WN> struct Bf16 {
	static constexpr int ACROSS = BN / WN, THREADS = BM / WM * ACROSS * 32;
	static constexpr int PITCH_A = TA ? 2 * BM + 16 : 2 * BK + 16, SIZE_A = PITCH_A * (TA ? BK : BM);
	static constexpr int PITCH_B = TB ? 2 * BK + 16 : 2 * BN + 16, SIZE_B = PITCH_B * (TB ? BN : BK);
	static constexpr int STAGE = SIZE_A + SIZE_B, MT = WM / 16, NT = WN / 8, PITCH_C = BN + 8;
	static_assert(STAGES * STAGE >= BM * PITCH_C * 4, "the tile of sums takes the ring's place");

	// fill starts to copy step k of both operands to a stage.
	DEVICE void fill(unsigned char* stage, const Product& p, const Work& w, int k) {
		load<bf16, TA, TB, BM, BN, BK, PITCH_A, SIZE_A, PITCH_B, THREADS>(stage, p, w, k);
	}

	DEVICE void run(const Product& p) {
		DYNAMIC_SHARED(unsigned char, ring);
		const Work w = work<BM, BN>(p);
		const int steps = ceil_div(w.to - w.from, BK);
		for (int s = 0; s < STAGES - 1; s++) {
			if (s < steps) fill(ring + s * STAGE, p, w, w.from + s * BK);
			cp_async_commit();
		}
		float sum[MT][NT][4], acc[MT][NT][4];
		UNROLL for (int i = 0; i < MT; i++)
			UNROLL for (int j = 0; j < NT; j++)
				UNROLL for (int e = 0; e < 4; e++) sum[i][j][e] = acc[i][j][e] = 0;

		// Where this lane's address is in the four matrices of an ldmatrix: matrix
		// l/8, its row l%8. Those of A are (rows, k), of B (columns, k) or as stored.
		const int l = lane() % 8, low = lane() / 8 % 2, high = lane() / 16;
		const int row = warp() / ACROSS * WM, col = warp() % ACROSS * WN;
		const int at_a = TA ? (high * 8 + l) * PITCH_A + (row + low * 8) * 2 : (row + low * 8 + l) * PITCH_A + high * 16;
		const int at_b = SIZE_A + (TB ? (col + high * 8 + l) * PITCH_B + low * 16 : (low * 8 + l) * PITCH_B + (col + high * 8) * 2);

		for (int t = 0; t < steps;) {
			const int end = t + SLICE / BK < steps ? t + SLICE / BK : steps;
			for (; t < end; t++) {
				cp_async_wait<STAGES - 2>();
				sync();
				if (t + STAGES - 1 < steps) fill(ring + (t + STAGES - 1) % STAGES * STAGE, p, w, w.from + (t + STAGES - 1) * BK);
				cp_async_commit();
				const unsigned char* stage = ring + t % STAGES * STAGE;
				UNROLL for (int k = 0; k < BK; k += 16) {
					unsigned a[MT][4], b[NT / 2][4];
					UNROLL for (int i = 0; i < MT; i++) {
						if (TA)
							ldmatrix_x4_trans(a[i], stage + at_a + k * PITCH_A + i * 32);
						else
							ldmatrix_x4(a[i], stage + at_a + i * 16 * PITCH_A + k * 2);
					}
					UNROLL for (int j = 0; j < NT / 2; j++) {
						if (TB)
							ldmatrix_x4(b[j], stage + at_b + j * 16 * PITCH_B + k * 2);
						else
							ldmatrix_x4_trans(b[j], stage + at_b + k * PITCH_B + j * 32);
					}
					UNROLL for (int i = 0; i < MT; i++)
						UNROLL for (int j = 0; j < NT; j++) mma_bf16(acc[i][j], a[i], b[j / 2] + j % 2 * 2);
				}
			}
			UNROLL for (int i = 0; i < MT; i++)
				UNROLL for (int j = 0; j < NT; j++)
					UNROLL for (int e = 0; e < 4; e++) {
						sum[i][j][e] += acc[i][j][e];
						acc[i][j][e] = 0;
					}
		}
		cp_async_wait<0>();
		sync();
		float* tile = reinterpret_cast<float*>(ring);
		UNROLL for (int i = 0; i < MT; i++)
			UNROLL for (int j = 0; j < NT; j++)
				UNROLL for (int e = 0; e < 4; e++)
					tile[(row + i * 16 + lane() / 4 + e / 2 * 8) * PITCH_C + col + j * 8 + lane() % 4 * 2 + e % 2] = sum[i][j][e];
		finish<bf16, BM, BN, PITCH_C, THREADS>(tile, p, w);
	}
};

GEMM(256, gemm_bf16_nn_128, (Bf16<false, false, 128, 128, 64, 32>::run))
GEMM(256, gemm_bf16_nt_128, (Bf16<false, true, 128, 128, 64, 32>::run))
GEMM(256, gemm_bf16_tn_128, (Bf16<true, false, 128, 128, 64, 32>::run))
GEMM(256, gemm_bf16_tt_128, (Bf16<true, true, 128, 128, 64, 32>::run))
GEMM(128, gemm_bf16_nn_64, (Bf16<false, false, 64, 64, 32, 32>::run))
GEMM(128, gemm_bf16_nt_64, (Bf16<false, true, 64, 64, 32, 32>::run))
GEMM(128, gemm_bf16_tn_64, (Bf16<true, false, 64, 64, 32, 32>::run))
GEMM(128, gemm_bf16_tt_64, (Bf16<true, true, 64, 64, 32, 32>::run))
