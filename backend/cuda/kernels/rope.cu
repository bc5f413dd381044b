// RoPE: the pair (x_i, x_{i+half}) of every head turns by the angle whose cosine
// and sine stand in the tables' row of the position; sign −1 turns it back.
#include "kernel.h"

// turn has one row of x, (heads, 2·half), to the block, that of the second x and
// its heads in the second row of the grid.
template <typename T>
DEVICE void turn(T* first, T* second, const float* cos, const float* sin, const int* pos, int heads1, int heads2, int half, float sign) {
	constexpr int N = run_of<float>;
	T* x = block_y() ? second : first;
	const int heads = block_y() ? heads2 : heads1;
	x += (long long)block_x() * heads * half * 2;
	long long p = pos[block_x()];
	cos += p * half;
	sin += p * half;
	bool aligned_x = aligned16(x) && half % N == 0;
	bool aligned_table = aligned16(cos) && aligned16(sin);
	int runs = (half + N - 1) / N;
	for (int t = thread(); t < heads * runs; t += threads()) {
		int h = t / runs, j = (t - h * runs) * N;
		T *a = x + (long long)h * half * 2 + j, *b = a + half;
		float va[N], vb[N], c[N], s[N];
		load_run<N>(va, a, half - j, aligned_x);
		load_run<N>(vb, b, half - j, aligned_x);
		load_run<N>(c, cos + j, half - j, aligned_table);
		load_run<N>(s, sin + j, half - j, aligned_table);
		UNROLL for (int i = 0; i < N; i++) {
			float u = va[i], v = vb[i], sn = sign * s[i];
			va[i] = f_fma(u, c[i], -(v * sn));
			vb[i] = f_fma(v, c[i], u * sn);
		}
		store_run<N>(a, va, half - j, aligned_x);
		store_run<N>(b, vb, half - j, aligned_x);
	}
}

KERNEL(rope_f32, (float* first, float* second, const float* cos, const float* sin, const int* pos, int heads1, int heads2, int half, float sign)) {
	turn(first, second, cos, sin, pos, heads1, heads2, half, sign);
}
KERNEL(rope_bf16, (bf16* first, bf16* second, const float* cos, const float* sin, const int* pos, int heads1, int heads2, int half, float sign)) {
	turn(first, second, cos, sin, pos, heads1, heads2, half, sign);
}
