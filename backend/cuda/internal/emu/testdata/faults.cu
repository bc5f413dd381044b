// Pairs of kernels: one with a fault, and after it the same without.
#include "kernel.h"

// x reversed within each block, through shared memory.
DEVICE void reverse(float* x, bool barrier) {
	SHARED(float, tile, 128);
	x += block_x() * threads();
	tile[thread()] = x[thread()];
	if (barrier) sync();
	x[thread()] = tile[threads() - 1 - thread()];
}
KERNEL(missing_barrier, (float* x)) { reverse(x, false); }
KERNEL(missing_barrier_not, (float* x)) { reverse(x, true); }

// Two rounds through one tile: the second may overwrite what is still to be read.
DEVICE void rounds(float* x, bool barrier) {
	SHARED(float, tile, 128);
	for (int i = 0; i < 2; i++) {
		tile[thread()] = x[i * threads() + thread()];
		sync();
		x[i * threads() + thread()] = tile[threads() - 1 - thread()];
		if (barrier) sync();
	}
}
KERNEL(missing_second_barrier, (float* x)) { rounds(x, false); }
KERNEL(missing_second_barrier_not, (float* x)) { rounds(x, true); }

// Within a warp it is sync_warp that orders memory.
DEVICE void reverse_warp(float* x, bool barrier) {
	SHARED(float, tile, 128);
	tile[thread()] = x[thread()];
	if (barrier) sync_warp();
	x[thread()] = tile[thread() ^ 31];
}
KERNEL(missing_warp_barrier, (float* x)) { reverse_warp(x, false); }
KERNEL(missing_warp_barrier_not, (float* x)) { reverse_warp(x, true); }

KERNEL(global_read_out_of_bounds, (float* out, const float* x, int n)) {
	int i = block_x() * threads() + thread();
	if (i < n) out[i] = x[i + 1];
}
KERNEL(global_read_out_of_bounds_not, (float* out, const float* x, int n)) {
	int i = block_x() * threads() + thread();
	if (i + 1 < n) out[i] = x[i + 1];
}

KERNEL(global_write_out_of_bounds, (float* out, int n)) {
	int i = block_x() * threads() + thread();
	if (i <= n) out[i] = i;
}
KERNEL(global_write_out_of_bounds_not, (float* out, int n)) {
	int i = block_x() * threads() + thread();
	if (i < n) out[i] = i;
}

KERNEL(shared_read_out_of_bounds, (float* out)) {
	SHARED(float, tile, 33);
	tile[thread()] = thread();
	if (thread() == 0) tile[32] = 32;
	sync();
	out[thread()] = tile[thread() + 2];
}
KERNEL(shared_read_out_of_bounds_not, (float* out)) {
	SHARED(float, tile, 33);
	tile[thread()] = thread();
	if (thread() == 0) tile[32] = 32;
	sync();
	out[thread()] = tile[thread() + 1];
}

KERNEL(shared_write_out_of_bounds, (float* out, int n)) {
	DYNAMIC_SHARED(float, tile);
	tile[thread() * n] = thread();
	sync();
	out[thread()] = tile[(31 - thread()) * n];
}
KERNEL(shared_write_out_of_bounds_not, (float* out, int n)) {
	DYNAMIC_SHARED(float, tile);
	if (thread() * n < 32) tile[thread() * n] = thread();
	sync();
	out[thread()] = (31 - thread()) * n < 32 ? tile[(31 - thread()) * n] : 0;
}

// The sum over the lanes: a wrong mask leaves some of them out.
DEVICE void lanes(float* out, const float* x, int first) {
	float v = x[thread()];
	for (int m = first; m; m >>= 1) v += shfl_xor(v, m);
	out[thread()] = v;
}
KERNEL(wrong_lane, (float* out, const float* x)) { lanes(out, x, 8); }
KERNEL(wrong_lane_not, (float* out, const float* x)) { lanes(out, x, 16); }

DEVICE void fetch(unsigned* out, const unsigned* x, bool wait) {
	SHARED(unsigned, tile, 128);
	cp_async16(tile + 4 * thread(), x + 4 * thread(), true);
	cp_async_commit();
	if (wait) cp_async_wait<0>();
	sync();
	store16(out + 4 * thread(), load16(tile + 4 * (31 - thread())));
}
KERNEL(missing_copy_wait, (unsigned* out, const unsigned* x)) { fetch(out, x, false); }
KERNEL(missing_copy_wait_not, (unsigned* out, const unsigned* x)) { fetch(out, x, true); }

DEVICE void count(float* out, const float* x, bool clear) {
	SHARED(float, sum, 32);
	if (clear) sum[lane()] = 0;
	sync();
	sum[lane()] += x[thread()];
	sync();
	out[thread()] = sum[lane() ^ 1];
}
KERNEL(uninitialised_shared, (float* out, const float* x)) { count(out, x, false); }
KERNEL(uninitialised_shared_not, (float* out, const float* x)) { count(out, x, true); }

KERNEL(divergent_barrier, (float* out, int n)) {
	if (thread() < n) {
		out[thread()] = 1;
		sync();
	}
}
KERNEL(divergent_barrier_not, (float* out, int n)) {
	if (thread() < n) out[thread()] = 1;
	sync();
}

KERNEL(two_barriers, (float* out, int n)) {
	if (thread() < n) {
		out[thread()] = 1;
		sync();
	} else {
		out[thread()] = 2;
		sync();
	}
}
KERNEL(two_barriers_not, (float* out, int n)) {
	out[thread()] = thread() < n ? 1 : 2;
	sync();
}

KERNEL(divergent_shuffle, (float* out, int n)) {
	float v = thread();
	if (thread() < n) v += shfl_xor(v, 1);
	out[thread()] = v;
}
KERNEL(divergent_shuffle_not, (float* out, int n)) {
	float v = thread(), w = shfl_xor(v, 1);
	out[thread()] = thread() < n ? v + w : v;
}

// A sum of floats over threads and blocks: without an atomic, terms get lost on a
// GPU; here no thread is ever interrupted, and only the race checker can tell.
KERNEL(float_race, (float* sum, const float* x)) { *sum += x[block_x() * threads() + thread()]; }
KERNEL(float_race_not, (float* sum, const float* x)) { atomic_add(sum, x[block_x() * threads() + thread()]); }

// The last to write wins, whoever that is.
KERNEL(write_race, (int* last)) { *last = block_x(); }
KERNEL(write_race_not, (int* last)) {
	if (block_x() == grid_x() - 1 && thread() == 0) *last = block_x();
}

KERNEL(misaligned_vector, (float* out, const float* x)) { store16(out, load16(x + 1)); }
KERNEL(misaligned_vector_not, (float* out, const float* x)) { if (thread() == 0) store16(out, load16(x + 4)); }

KERNEL(matrix_not_shared, (unsigned* out, const unsigned* x)) {
	unsigned r[4];
	ldmatrix_x4(r, x + 4 * thread());
	out[thread()] = r[0];
}
KERNEL(matrix_not_shared_not, (unsigned* out, const unsigned* x)) {
	SHARED(unsigned, tile, 128);
	store16(tile + 4 * thread(), load16(x + 4 * thread()));
	sync();
	unsigned r[4];
	ldmatrix_x4(r, tile + 4 * thread());
	out[thread()] = r[0];
}

KERNEL(too_much_static, (float* out)) {
	SHARED(float, tile, 12 * 1024 + 1);
	tile[thread()] = thread();
	out[thread()] = tile[thread()];
}
KERNEL(too_much_static_not, (float* out)) {
	SHARED(float, tile, 12 * 1024);
	tile[thread()] = thread();
	out[thread()] = tile[thread()];
}

// Each block leaves a number; the one that comes last adds them up.
DEVICE void hand_on(int* parts, int* ticket, bool barrier) {
	SHARED(int, last, 1);
	if (thread() == 32) parts[block_x()] = block_x();
	fence();
	if (barrier) sync();
	if (thread() == 0) {
		*last = atomic_add(ticket, 1) == grid_x() - 1;
		fence();
	}
	sync();
	if (!*last || thread()) return;
	int sum = 0;
	for (int i = 0; i < grid_x(); i++) sum += parts[i];
	parts[grid_x()] = sum;
}
KERNEL(handed_on_too_early, (int* parts, int* ticket)) { hand_on(parts, ticket, false); }
KERNEL(handed_on_too_early_not, (int* parts, int* ticket)) { hand_on(parts, ticket, true); }
