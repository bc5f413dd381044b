// kernel.h is the language in which this folder's kernels are written. One
// source has two compilers: clang turns it into PTX for the GPU, g++ into code
// for the emulator (internal/emu), which the tests run on the CPU. No other
// header is needed and none is allowed, so that no CUDA package is either.
//
//	KERNEL(scale_f32, (float* x, int n, float by)) {
//		int i = block_x() * threads() + thread();
//		if (i < n) x[i] *= by;
//	}
//
// Parameters are pointers, int, unsigned, long long and float. Blocks have one
// dimension and a multiple of 32 threads; grids have up to three dimensions.
// Operations of a warp (shuffles, ballot, mma_bf16, ldmatrix, sums) are called by
// all of its 32 lanes, from one line of the source; sync() by all threads of the
// block. The emulator reports a kernel that does otherwise.
//
// The GPU's side uses clang's builtins where there are any and inline PTX where
// not; what the instructions do is in NVIDIA's "PTX ISA", chapter 9.7.
#pragma once

// bf16 is the upper half of a float32: 8 bits of exponent, 7 of fraction.
struct bf16 {
	unsigned short bits;
};

// vec16 is what one memory instruction can move at most: 16 bytes.
struct alignas(16) vec16 {
	unsigned x, y, z, w;
};

// vec8 is half of that.
struct alignas(8) vec8 {
	unsigned x, y;
};

#ifdef NRT_EMULATOR
#include "../internal/emu/emulator.h"
#else

// DEVICE marks a helper function. They are always inlined: arrays passed to them
// stay in registers.
#define DEVICE static inline __attribute__((device, always_inline))

// KERNEL(name, (parameters)) { … } defines a kernel.
#define KERNEL(name, params) extern "C" __attribute__((global)) void name params

// KERNEL_OF is a KERNEL that is never launched with more threads to the block
// than given: the compiler then knows how many registers a thread may have.
#define KERNEL_OF(threads, name, params) extern "C" __attribute__((global, launch_bounds(threads))) void name params

// KERNEL_TOGETHER is a KERNEL_OF whose registers the compiler limits so that a
// multiprocessor has room for that many blocks at once.
#define KERNEL_TOGETHER(threads, blocks, name, params) \
	extern "C" __attribute__((global, launch_bounds(threads, blocks))) void name params

// SHARED declares an array that the block's threads share, aligned to 16 bytes.
// Its content is undefined at first.
#define SHARED(type, name, count) static __attribute__((shared, aligned(16))) type name[count]

// DYNAMIC_SHARED names the block's shared memory whose size the launch gives,
// aligned to 16 bytes; each use in one kernel names the same memory.
#define DYNAMIC_SHARED(type, name) type* const name = reinterpret_cast<type*>(dynamic_shared_memory)
extern __attribute__((shared, aligned(16))) unsigned char dynamic_shared_memory[];

// UNROLL before a loop of constant length writes it out.
#define UNROLL _Pragma("unroll")

DEVICE int thread() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE int threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
DEVICE int block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE int block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
DEVICE int block_z() { return __nvvm_read_ptx_sreg_ctaid_z(); }
DEVICE int grid_x() { return __nvvm_read_ptx_sreg_nctaid_x(); }
DEVICE int grid_y() { return __nvvm_read_ptx_sreg_nctaid_y(); }
DEVICE int grid_z() { return __nvvm_read_ptx_sreg_nctaid_z(); }
DEVICE int lane() { return thread() & 31; }
DEVICE int warp() { return thread() >> 5; }

// sync waits for all threads of the block; what they wrote before is visible
// after. sync_warp is the same among the 32 lanes of a warp.
DEVICE void sync() { __syncthreads(); }
DEVICE void sync_warp() { __nvvm_bar_warp_sync(0xffffffffu); }

// seldom stands first in a branch that is seldom taken: without it the compiler
// computes a short branch always and then chooses.
DEVICE void seldom() { asm volatile(""); }

// fence makes this thread's writes visible to the whole GPU before its later ones.
DEVICE void fence() { __nvvm_membar_gl(); }

// shfl is lane from's v, shfl_xor that of lane()^mask, shfl_down that of
// lane()+d (the lane's own where there is none).
DEVICE int shfl(int v, int from) { return __nvvm_shfl_sync_idx_i32(0xffffffffu, v, from, 31); }
DEVICE int shfl_xor(int v, int mask) { return __nvvm_shfl_sync_bfly_i32(0xffffffffu, v, mask, 31); }
DEVICE int shfl_down(int v, int d) { return __nvvm_shfl_sync_down_i32(0xffffffffu, v, d, 31); }
DEVICE unsigned shfl(unsigned v, int from) { return shfl(int(v), from); }
DEVICE unsigned shfl_xor(unsigned v, int mask) { return shfl_xor(int(v), mask); }
DEVICE unsigned shfl_down(unsigned v, int d) { return shfl_down(int(v), d); }
DEVICE float shfl(float v, int from) { return __nvvm_shfl_sync_idx_f32(0xffffffffu, v, from, 31); }
DEVICE float shfl_xor(float v, int mask) { return __nvvm_shfl_sync_bfly_f32(0xffffffffu, v, mask, 31); }
DEVICE float shfl_down(float v, int d) { return __nvvm_shfl_sync_down_f32(0xffffffffu, v, d, 31); }

// ballot has bit i set where lane i's b is true.
DEVICE unsigned ballot(bool b) { return __nvvm_vote_ballot_sync(0xffffffffu, b); }

// The atomics return what stood there before. Sums of floats depend on the order
// of the threads, so results that must repeat bit for bit cannot use them.
DEVICE float atomic_add(float* p, float v) { return __nvvm_atom_add_gen_f(p, v); }
DEVICE int atomic_add(int* p, int v) { return __nvvm_atom_add_gen_i(p, v); }
DEVICE int atomic_max(int* p, int v) { return __nvvm_atom_max_gen_i(p, v); }

DEVICE float f_abs(float x) { return __builtin_fabsf(x); }
DEVICE float f_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// f_max and f_min give the other argument where one is NaN.
DEVICE float f_max(float a, float b) { return __nvvm_fmax_f(a, b); }
DEVICE float f_min(float a, float b) { return __nvvm_fmin_f(a, b); }

// f_sqrt is rounded correctly; f_rcp, f_rsqrt and f_exp2 are within two units of
// the last place, and f_rcp and f_exp2 have zero for results under 2^-126.
DEVICE float f_sqrt(float x) { return __nvvm_sqrt_rn_f(x); }
DEVICE float f_rcp(float x) {
	float r;
	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
	return r;
}
DEVICE float f_rsqrt(float x) { return __nvvm_rsqrt_approx_f(x); }
DEVICE float f_exp2(float x) { return __nvvm_ex2_approx_ftz_f(x); }

// f_round is the nearest integer, ties to even.
DEVICE float f_round(float x) { return __builtin_rintf(x); }

DEVICE unsigned float_bits(float x) { return __nvvm_bitcast_f2i(x); }
DEVICE float bits_float(unsigned x) { return __nvvm_bitcast_i2f(x); }

// to_bf16 rounds to the nearest, ties to even; NaN stays NaN.
DEVICE bf16 to_bf16(float x) {
	bf16 r;
	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
	return r;
}

// pack_bf16 has to_bf16(low) in the lower 16 bits and to_bf16(high) above.
DEVICE unsigned pack_bf16(float low, float high) {
	unsigned r;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
}

// load16 and store16 move 16 bytes at an address that is a multiple of 16.
typedef unsigned unsigned4 __attribute__((ext_vector_type(4), may_alias));
DEVICE vec16 load16(const void* p) {
	unsigned4 v = *static_cast<const unsigned4*>(p);
	return {v.x, v.y, v.z, v.w};
}
DEVICE void store16(void* p, vec16 v) { *static_cast<unsigned4*>(p) = unsigned4{v.x, v.y, v.z, v.w}; }

// load8 and store8 move 8 bytes at an address that is a multiple of 8.
typedef unsigned unsigned2 __attribute__((ext_vector_type(2), may_alias));
DEVICE vec8 load8(const void* p) {
	unsigned2 v = *static_cast<const unsigned2*>(p);
	return {v.x, v.y};
}
DEVICE void store8(void* p, vec8 v) { *static_cast<unsigned2*>(p) = unsigned2{v.x, v.y}; }

// mma_bf16 is c += a·b on the tensor cores: a is 16×16, b 16×8, c 16×8. Of lane
// l, with g = l/4 and i = 2(l%4), each register holding two neighbours, the first
// in its lower half:
//
//	a[0] = A[g][i, i+1]      a[1] = A[g+8][i, i+1]
//	a[2] = A[g][i+8, i+9]    a[3] = A[g+8][i+8, i+9]
//	b[0] = B[i, i+1][g]      b[1] = B[i+8, i+9][g]
//	c[0], c[1] = C[g][i, i+1]       c[2], c[3] = C[g+8][i, i+1]
DEVICE void mma_bf16(float c[4], const unsigned a[4], const unsigned b[2]) {
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// shared_address is what PTX calls a shared address of a generic pointer to it.
DEVICE unsigned shared_address(const void* p) {
	return unsigned(reinterpret_cast<unsigned long long>((const __attribute__((address_space(3))) void*)p));
}

// ldmatrix_x4 loads four 8×8 matrices of 16-bit elements: lane l gives the
// address of row l%8 of matrix l/8 (16 bytes, aligned, in shared memory) and gets
// in r[m] the elements [l/4][2(l%4)] and [l/4][2(l%4)+1] of matrix m; with _trans
// those of its transpose.
DEVICE void ldmatrix_x4(unsigned r[4], const void* row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x4_trans(unsigned r[4], const void* row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// cp_async16 starts to copy 16 bytes from global to shared memory, both
// addresses multiples of 16; zeros where copy is false (from is then not read).
// cp_async_commit closes a group of them, cp_async_wait<N> waits until at most
// the N newest groups are under way: then this thread sees its own copies, and
// after a sync() all threads do.
DEVICE void cp_async16(void* to, const void* from, bool copy) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
	             :: "r"(shared_address(to)), "l"((const __attribute__((address_space(1))) void*)from), "r"(copy ? 16 : 0) : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }

#endif

// What follows is the same code on the GPU and in the emulator.

DEVICE bool f_isnan(float x) { return x != x; }

// whole_bits is 1.5·2^23: adding it rounds to an integer, the lower bits of the sum.
constexpr float whole_bits = 12582912.0f;

// f_exp is within two units of the last place; results under 2^-126 are zero. The
// argument's whole powers of two are taken off exactly, which a product with
// log2(e) alone would not.
DEVICE float f_exp(float x) {
	float n = f_min(f_fma(x, 1.44269504f, whole_bits) - whole_bits, 127.0f);
	float r = f_fma(n, -0.693359375f, x);     // the upper digits of ln 2: n times them is exact
	r = f_fma(n, 2.12194440e-4f, r);          // ln 2 = 0.693359375 - 2.12194440e-4
	float y = f_exp2(r * 1.44269504f) * bits_float((float_bits(n + whole_bits) << 23) + 0x3f800000u);
	y = x > 88.7228394f ? bits_float(0x7f800000u) : y;
	return x < -87.3365448f ? 0.0f : y;
}

// f_exp_below is f_exp for x ≤ 0 and a little above, where 2^n is a number of its
// own: three instructions fewer where there is one for each of many logits.
DEVICE float f_exp_below(float x) {
	float t = f_fma(x, 1.44269502f, whole_bits), n = t - whole_bits;
	float r = f_fma(x, 1.92596299e-8f, f_fma(x, 1.44269502f, -n)); // x·log2(e) - n
	float y = f_exp2(r) * bits_float((float_bits(t) << 23) + 0x3f800000u);
	return x < -87.3365448f ? 0.0f : y;
}

// f_log is within two units of the last place, near 1 too: x = m·2^e with m from
// √½ to √2, log m = 2 artanh((m-1)/(m+1)).
DEVICE float f_log(float x) {
	float e = 0;
	if (x < 1.17549435e-38f) { // a subnormal, or zero, or negative
		x *= 16777216.0f;
		e = -24;
	}
	unsigned u = float_bits(x);
	int k = int(u - 0x3f3504f3u) >> 23;       // 0x3f3504f3 is √½
	e += float(k);
	float f = bits_float(u - (unsigned(k) << 23)) - 1.0f;
	float s = f / (f + 2.0f);
	float z = s * s;
	float p = f_fma(z, f_fma(z, f_fma(z, f_fma(z, 0.181818182f, 0.222222222f), 0.285714286f), 0.4f), 0.666666667f);
	// log m = f - s·(f - z·p), which keeps f, the exact leading term, apart.
	float y = f - s * (f - z * p);
	y = f_fma(e, 0.693359375f, f_fma(e, -2.12194440e-4f, y));
	if (!(x > 0)) y = x == 0 ? -bits_float(0x7f800000u) : bits_float(0x7fc00000u);
	return x == bits_float(0x7f800000u) ? x : y;
}

DEVICE float f_log2(float x) { return f_log(x) * 1.44269504f; }

DEVICE float to_float(bf16 x) { return bits_float(unsigned(x.bits) << 16); }
DEVICE float to_float(float x) { return x; }

// low_float and high_float are the two halves of a pack_bf16.
DEVICE float low_float(unsigned packed) { return bits_float(packed << 16); }
DEVICE float high_float(unsigned packed) { return bits_float(packed & 0xffff0000u); }

DEVICE void round_to(float& to, float x) { to = x; }
DEVICE void round_to(bf16& to, float x) { to = to_bf16(x); }
template <typename T> DEVICE T from_float(float x) {
	T r;
	round_to(r, x);
	return r;
}

// warp_sum and warp_max are over the 32 lanes, the same bits in all of them.
DEVICE float warp_sum(float v) {
	UNROLL for (int m = 16; m; m >>= 1) v += shfl_xor(v, m);
	return v;
}
DEVICE float warp_max(float v) {
	UNROLL for (int m = 16; m; m >>= 1) v = f_max(v, shfl_xor(v, m));
	return v;
}

// block_sum and block_max are over the block's threads, in an order that depends
// on their number alone, the same bits in all of them. scratch is shared memory
// for 32 floats, free again at the end.
DEVICE float block_sum(float v, float* scratch) {
	v = warp_sum(v);
	if (lane() == 0) scratch[warp()] = v;
	sync();
	v = warp_sum(lane() < threads() / 32 ? scratch[lane()] : 0.0f);
	sync();
	return v;
}
DEVICE float block_max(float v, float* scratch) {
	v = warp_max(v);
	if (lane() == 0) scratch[warp()] = v;
	sync();
	v = warp_max(scratch[lane() < threads() / 32 ? lane() : 0]);
	sync();
	return v;
}

// A run is N neighbours: 8 bytes, or a multiple of 16. load_run and store_run move
// the first left of them (all, where left is more), at 16 bytes an instruction, or
// 8 where the run has no more, if the caller knows the address to be aligned; what
// is not loaded is 0. The numbers do not depend on which way they went.
//
// Threads that stand beside one another should have runs of 16 bytes at most: the
// second half of a longer one is another instruction, and each would then touch
// every other 16 bytes, half of every sector. run_of_both is for numbers of two
// types in step, where those of the smaller one move at 8 bytes.
template <typename T> constexpr int run_of = 16 / int(sizeof(T));
template <typename D, typename S> constexpr int run_of_both = sizeof(D) > sizeof(S) ? run_of<D> : run_of<S>;

DEVICE bool aligned16(const void* p) { return (reinterpret_cast<unsigned long long>(p) & 15) == 0; }

DEVICE void unpack_run(float* x, const float*, vec16 v) {
	x[0] = bits_float(v.x), x[1] = bits_float(v.y), x[2] = bits_float(v.z), x[3] = bits_float(v.w);
}
DEVICE void unpack_run(float* x, const bf16*, vec8 v) {
	x[0] = low_float(v.x), x[1] = high_float(v.x), x[2] = low_float(v.y), x[3] = high_float(v.y);
}
DEVICE void unpack_run(float* x, const bf16* p, vec16 v) {
	unpack_run(x, p, vec8{v.x, v.y});
	unpack_run(x + 4, p, vec8{v.z, v.w});
}
DEVICE vec16 pack_run(const float* x, const float*) {
	return {float_bits(x[0]), float_bits(x[1]), float_bits(x[2]), float_bits(x[3])};
}
DEVICE vec16 pack_run(const float* x, const bf16*) {
	return {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7])};
}
template <int N, typename T> DEVICE void load_run(float* x, const T* p, long long left, bool aligned) {
	if (!aligned || left < N) {
		UNROLL for (int i = 0; i < N; i++) x[i] = i < left ? to_float(p[i]) : 0.0f;
	} else if constexpr (N * sizeof(T) == 8) {
		unpack_run(x, p, load8(p));
	} else {
		UNROLL for (int i = 0; i < N; i += run_of<T>) unpack_run(x + i, p, load16(p + i));
	}
}
template <int N, typename T> DEVICE void store_run(T* p, const float* x, long long left, bool aligned) {
	if (!aligned || left < N) {
		UNROLL for (int i = 0; i < N; i++) if (i < left) p[i] = from_float<T>(x[i]);
	} else if constexpr (N * sizeof(T) == 8) {
		store8(p, {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3])});
	} else {
		UNROLL for (int i = 0; i < N; i += run_of<T>) store16(p + i, pack_run(x + i, p));
	}
}

// each_run goes over the n numbers of ARRAYS arrays in runs of N, a thread's own
// a grid's width apart. load(x, j, left, aligned) sets x[0] … x[ARRAYS-1] to the
// arrays' runs from number j on, of which left exist, and store writes what comes
// of them: numbers of those runs alone. Four runs are loaded before the first is
// stored where so many are left, so that a thread waits for all of them at once;
// the compiler may not do that itself, as it cannot tell the arrays apart. aligned
// says that every array begins at a multiple of 16 bytes.
template <int N, int ARRAYS, typename L, typename S>
DEVICE void each_run(long long n, bool aligned, L load, S store) {
	constexpr int AHEAD = 4 / ARRAYS;
	const long long step = (long long)grid_x() * threads() * N;
	float x[AHEAD][ARRAYS][N];
	for (long long j = ((long long)block_x() * threads() + thread()) * N; j < n;) {
		if (aligned && j + (AHEAD - 1) * step + N <= n) {
			UNROLL for (int a = 0; a < AHEAD; a++) load(x[a], j + a * step, N, true);
			UNROLL for (int a = 0; a < AHEAD; a++) store(x[a], j + a * step, N, true);
			j += AHEAD * step;
		} else {
			load(x[0], j, n - j, aligned);
			store(x[0], j, n - j, aligned);
			j += step;
		}
	}
}
