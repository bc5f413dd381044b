// What kernel.h offers, one kernel for each piece.
#include "kernel.h"

KERNEL(identity, (int* out, int n)) {
	int i = ((block_z() * grid_y() + block_y()) * grid_x() + block_x()) * threads() + thread();
	if (i < n) out[i] = i * 10 + lane() % 2 + 2 * (warp() % 2);
}

KERNEL(shuffles, (int* out)) {
	int l = lane();
	out[l] = shfl(l * l, 5);
	out[32 + l] = shfl(l * l, l + 1);
	out[64 + l] = shfl_xor(l, 3);
	out[96 + l] = shfl_down(l, 4);
	out[128 + l] = int(ballot(l % 3 == 0));
	out[160 + l] = int(shfl_xor(float(l) + 0.5f, 16) * 2);
	out[192 + l] = int(shfl_down(unsigned(l), 31));
}

KERNEL(sums, (float* out, const float* x)) {
	SHARED(float, scratch, 32);
	float s = block_sum(x[thread()], scratch);
	float m = block_max(x[thread()], scratch);
	out[2 * thread()] = s;
	out[2 * thread() + 1] = m;
}

KERNEL(functions, (float* out, const float* x, int n)) {
	for (int i = thread(); i < n; i += threads()) {
		out[i] = f_exp(x[i]);
		out[n + i] = f_log(x[i]);
		out[2 * n + i] = f_log2(x[i]);
		out[3 * n + i] = to_float(to_bf16(x[i]));
		out[4 * n + i] = high_float(pack_bf16(1, x[i])) + low_float(pack_bf16(x[i], 2));
		out[5 * n + i] = f_max(x[i], 1) + f_min(x[i], 1);
		out[6 * n + i] = f_exp2(x[i]);
		out[7 * n + i] = f_rsqrt(x[i]);
		out[8 * n + i] = f_exp_below(x[i]);
		out[9 * n + i] = f_rcp(x[i]);
	}
}

// One matrix for each warp: rows of 16 bytes come in by cp.async, are spread by
// ldmatrix, and go out as the registers are.
KERNEL(matrices, (unsigned* out, const bf16* in)) {
	DYNAMIC_SHARED(bf16, tile);
	cp_async16(tile + 8 * thread(), in + 8 * thread(), true);
	cp_async_commit();
	cp_async_wait<0>();
	sync();
	unsigned r[4], t[4];
	ldmatrix_x4(r, tile + 8 * thread());
	ldmatrix_x4_trans(t, tile + 8 * thread());
	for (int m = 0; m < 4; m++) {
		out[thread() * 8 + m] = r[m];
		out[thread() * 8 + 4 + m] = t[m];
	}
}

// The registers come and go as they are, so that the test alone knows the layout.
KERNEL(multiply, (float* c, const unsigned* a, const unsigned* b)) {
	float sum[4] = {c[4 * thread()], c[4 * thread() + 1], c[4 * thread() + 2], c[4 * thread() + 3]};
	mma_bf16(sum, a + 4 * thread(), b + 2 * thread());
	for (int i = 0; i < 4; i++) c[4 * thread() + i] = sum[i];
}

KERNEL(atomics, (int* count, int* most, float* sum)) {
	atomic_add(count, 1);
	atomic_max(most, thread() * 7 % 64);
	atomic_add(sum, 0.5f);
}

// Zeros where nothing is copied, and groups that arrive in their order.
KERNEL(pipeline, (unsigned* out, const unsigned* in, int rows)) {
	DYNAMIC_SHARED(unsigned, ring);
	int t = thread();
	for (int s = 0; s < 2; s++) {
		cp_async16(ring + (s * 32 + t) * 4, in + (s * 32 + t) * 4, s < rows);
		cp_async_commit();
	}
	for (int s = 0; s < 5; s++) {
		cp_async_wait<1>();
		sync();
		vec16 v = load16(ring + (s % 2 * 32 + 31 - t) * 4);
		store16(out + (s * 32 + t) * 4, v);
		sync();
		int next = s + 2;
		cp_async16(ring + (s % 2 * 32 + t) * 4, in + (next * 32 + t) * 4, next < rows);
		cp_async_commit();
	}
}

KERNEL_OF(64, small, (long long* out, long long a, unsigned b, float c, int d)) {
	out[thread()] = a + b + (long long)(c) + d;
}
