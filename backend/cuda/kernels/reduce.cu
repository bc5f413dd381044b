// Sums of squares, in float64 and in an order that depends on the length alone.
#include "kernel.h"

// block_total is the sum of v over the 256 threads of the block, for thread 0.
DEVICE double block_total(double v, double* sums) {
	sums[thread()] = v;
	sync();
	for (int half = 128; half; half >>= 1) {
		if (thread() < half) sums[thread()] += sums[thread() + half];
		sync();
	}
	return sums[0];
}

// sum_squares: block i adds up piece i of x, 16384 numbers.
template <typename T> DEVICE void sum_squares(double* parts, const T* x, long long n, double* sums) {
	constexpr int N = run_of<T>, piece = 16384;
	bool aligned = aligned16(x);
	long long begin = (long long)block_x() * piece;
	double sum = 0;
	for (int j = thread() * N; j < piece && begin + j < n; j += 256 * N) {
		float v[N];
		load_run<N>(v, x + begin + j, n - begin - j, aligned);
		UNROLL for (int i = 0; i < N; i++) sum += double(v[i]) * double(v[i]);
	}
	sum = block_total(sum, sums);
	if (thread() == 0) parts[block_x()] = sum;
}

KERNEL(sum_squares_f32, (double* parts, const float* x, long long n)) {
	SHARED(double, sums, 256);
	sum_squares(parts, x, n, sums);
}
KERNEL(sum_squares_bf16, (double* parts, const bf16* x, long long n)) {
	SHARED(double, sums, 256);
	sum_squares(parts, x, n, sums);
}

// sum_parts is one block: total = Σ parts.
KERNEL(sum_parts, (double* total, const double* parts, int n)) {
	SHARED(double, sums, 256);
	double sum = 0;
	for (int i = thread(); i < n; i += 256) sum += parts[i];
	sum = block_total(sum, sums);
	if (thread() == 0) *total = sum;
}
