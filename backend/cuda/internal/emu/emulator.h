// emulator.h is the language of kernels/kernel.h on the CPU. The kernels are
// compiled with it by g++; lib/block.cc runs their threads.
#pragma once
#include <cstddef>
#include <cstring>
#include <utility>

namespace emu {

// Functions that end a kernel's run leave for another stack. AddressSanitizer must
// not know: before a function that does not return it clears what it takes for the
// stack, which here is one of a thousand.
#ifdef __SANITIZE_ADDRESS__
#define EMU_NORETURN
#else
#define EMU_NORETURN [[noreturn]]
#endif

struct Warp;

// Thread is one thread of the block that runs now. Those of a block take turns on
// one thread of the CPU: each runs until it must wait for others.
struct Thread {
	int tid, lane;
	Warp* warp;
	unsigned warp_ops;  // operations of the warp that this lane has taken part in
	void* sp;           // where it stopped; null before it starts
	int stack;
	bool done;
	const char* waits;  // the operation it waits in
	const char* file;   // and from where it was called
	int line;
};

struct Warp {
	int arrived;
	unsigned syncs;           // operations completed; they order memory among the lanes
	const char* op;
	const char* file;
	int line;
	Thread* waiting[32];
	const void* args[32];     // of ldmatrix and mma_bf16
	unsigned value[2][32];    // of shuffles and votes; of two operations, as a lane may be one ahead
};

struct Block {
	int x, y, z;
	int gx, gy, gz;
	int threads;
	unsigned serial;          // a different number for every block ever run
	unsigned char* dynamic;
};

extern Thread* self;
extern Block block;

// Functions whose accesses the race checker must not see: atomics, which are not
// two plain accesses, and those that touch the emulator's own memory.
#ifdef NRT_EMU_RACES
#define EMU_UNSEEN __attribute__((unused, noipa, no_sanitize("thread")))
void touch_atomic(const void* p, int size);
#else
#define EMU_UNSEEN inline __attribute__((unused))
inline void touch_atomic(const void*, int) {}
#endif

// Kernel is one kernel that a source file registers as the library is loaded.
struct Kernel {
	const char* name;
	int max_threads;
	int params;
	const unsigned char* sizes;
	const bool* pointers;
	void (*function)();
	void (*invoke)(void (*)(), void**);
	const Kernel* next;

	template <typename... P>
	Kernel(const char* name, int max_threads, void (*f)(P...)) : name(name), max_threads(max_threads), params(sizeof...(P)) {
		static const unsigned char size[] = {sizeof(P)..., 0};
		static const bool pointer[] = {is_pointer(static_cast<P*>(nullptr))..., false};
		sizes = size;
		pointers = pointer;
		function = reinterpret_cast<void (*)()>(f);
		invoke = [](void (*g)(), void** args) { call(reinterpret_cast<void (*)(P...)>(g), args, std::index_sequence_for<P...>()); };
		add();
	}

private:
	template <typename T> static constexpr bool is_pointer(T**) { return true; }
	template <typename T> static constexpr bool is_pointer(T*) { return false; }
	template <typename... P, size_t... I>
	static EMU_UNSEEN void call(void (*f)(P...), void** args, std::index_sequence<I...>) { f(*static_cast<P*>(args[I])...); }
	void add();
};

// Site is one SHARED array of the source: where it lies for the block of serial.
struct Site {
	unsigned serial;
	void* at;
};

void* place_shared(Site* s, size_t size);

inline void* shared(Site* s, size_t size) { return s->serial == block.serial ? s->at : place_shared(s, size); }

#define EMU_AT int line = __builtin_LINE(), const char* file = __builtin_FILE()
#define EMU_HERE line, file

void barrier(EMU_AT);

// meet waits until all lanes of the warp have come to the same operation. The
// last of them does what the operation does, complete, before any goes on.
void meet(const char* op, void (*complete)(Warp*), int line, const char* file);

EMU_NORETURN void misaligned(const char* op, const void* p);

void load_matrices(unsigned* r, const void* row, bool transposed, int line, const char* file);
void multiply(float* c, const unsigned* a, const unsigned* b, int line, const char* file);
void copy_start(void* to, const void* from, bool copy);
void copy_commit();
void copy_wait(int groups_left);

// exchange gives every lane of the warp its value, and has that of lane from.
static EMU_UNSEEN unsigned exchange(const char* op, unsigned v, int from, int line, const char* file) {
	Thread* t = self;
	unsigned* value = t->warp->value[t->warp_ops++ & 1];
	value[t->lane] = v;
	meet(op, nullptr, line, file);
	return value[from & 31];
}

} // namespace emu

#define DEVICE static inline __attribute__((unused))
#define KERNEL(name, params) KERNEL_OF(1024, name, params)
#define KERNEL_TOGETHER(threads, blocks, name, params) KERNEL_OF(threads, name, params)
#define KERNEL_OF(threads, name, params)                                        \
	static void kernel_##name params;                                           \
	static const emu::Kernel registered_##name(#name, threads, kernel_##name); \
	static void kernel_##name params
#define SHARED(type, name, count)  \
	static emu::Site name##_site; \
	type(&name)[count] = *static_cast<type(*)[count]>(emu::shared(&name##_site, sizeof(type[count])))
#define DYNAMIC_SHARED(type, name) type* const name = reinterpret_cast<type*>(emu::block.dynamic)
#define UNROLL

DEVICE int thread() { return emu::self->tid; }
DEVICE int threads() { return emu::block.threads; }
DEVICE int block_x() { return emu::block.x; }
DEVICE int block_y() { return emu::block.y; }
DEVICE int block_z() { return emu::block.z; }
DEVICE int grid_x() { return emu::block.gx; }
DEVICE int grid_y() { return emu::block.gy; }
DEVICE int grid_z() { return emu::block.gz; }
DEVICE int lane() { return thread() & 31; }
DEVICE int warp() { return thread() >> 5; }

DEVICE void sync(EMU_AT) { emu::barrier(EMU_HERE); }
DEVICE void sync_warp(EMU_AT) { emu::meet("sync_warp", nullptr, EMU_HERE); }
DEVICE void seldom() {}
DEVICE void fence() {}

DEVICE unsigned float_bits(float x) { unsigned u; memcpy(&u, &x, 4); return u; }
DEVICE float bits_float(unsigned u) { float x; memcpy(&x, &u, 4); return x; }

DEVICE unsigned shfl(unsigned v, int from, EMU_AT) { return emu::exchange("shfl", v, from, EMU_HERE); }
DEVICE unsigned shfl_xor(unsigned v, int mask, EMU_AT) { return emu::exchange("shfl_xor", v, lane() ^ mask, EMU_HERE); }
DEVICE unsigned shfl_down(unsigned v, int d, EMU_AT) { return emu::exchange("shfl_down", v, lane() + d < 32 ? lane() + d : lane(), EMU_HERE); }
DEVICE int shfl(int v, int from, EMU_AT) { return int(shfl(unsigned(v), from, EMU_HERE)); }
DEVICE int shfl_xor(int v, int mask, EMU_AT) { return int(shfl_xor(unsigned(v), mask, EMU_HERE)); }
DEVICE int shfl_down(int v, int d, EMU_AT) { return int(shfl_down(unsigned(v), d, EMU_HERE)); }
DEVICE float shfl(float v, int from, EMU_AT) { return bits_float(shfl(float_bits(v), from, EMU_HERE)); }
DEVICE float shfl_xor(float v, int mask, EMU_AT) { return bits_float(shfl_xor(float_bits(v), mask, EMU_HERE)); }
DEVICE float shfl_down(float v, int d, EMU_AT) { return bits_float(shfl_down(float_bits(v), d, EMU_HERE)); }

static EMU_UNSEEN unsigned ballot(bool b, EMU_AT) {
	emu::Thread* t = emu::self;
	unsigned* value = t->warp->value[t->warp_ops++ & 1];
	value[t->lane] = b;
	emu::meet("ballot", nullptr, EMU_HERE);
	unsigned all = 0;
	for (int i = 0; i < 32; i++) all |= value[i] << i;
	return all;
}

static EMU_UNSEEN float atomic_add(float* p, float v) { emu::touch_atomic(p, 4); float old = *p; *p = old + v; return old; }
static EMU_UNSEEN int atomic_add(int* p, int v) { emu::touch_atomic(p, 4); int old = *p; *p = int(unsigned(old) + unsigned(v)); return old; }
static EMU_UNSEEN int atomic_max(int* p, int v) { emu::touch_atomic(p, 4); int old = *p; if (v > old) *p = v; return old; }

DEVICE float f_abs(float x) { return __builtin_fabsf(x); }
DEVICE float f_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float f_max(float a, float b) { return a > b || b != b ? a : b; }
DEVICE float f_min(float a, float b) { return a < b || b != b ? a : b; }
DEVICE float f_sqrt(float x) { return __builtin_sqrtf(x); }
DEVICE float f_rcp(float x) { return 1 / x; }
DEVICE float f_rsqrt(float x) { return 1 / __builtin_sqrtf(x); }
DEVICE float f_round(float x) { return __builtin_rintf(x); }
DEVICE float f_exp2(float x) { return x < -126 ? 0 : __builtin_exp2f(x); }

DEVICE bf16 to_bf16(float x) {
	if (x != x) return {0x7fff};
	unsigned u = float_bits(x);
	return {static_cast<unsigned short>((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
DEVICE unsigned pack_bf16(float low, float high) { return unsigned(to_bf16(low).bits) | unsigned(to_bf16(high).bits) << 16; }

DEVICE vec16 load16(const void* p) {
	if (reinterpret_cast<size_t>(p) & 15) emu::misaligned("load16", p);
	return *static_cast<const vec16*>(p);
}
DEVICE void store16(void* p, vec16 v) {
	if (reinterpret_cast<size_t>(p) & 15) emu::misaligned("store16", p);
	*static_cast<vec16*>(p) = v;
}
DEVICE vec8 load8(const void* p) {
	if (reinterpret_cast<size_t>(p) & 7) emu::misaligned("load8", p);
	return *static_cast<const vec8*>(p);
}
DEVICE void store8(void* p, vec8 v) {
	if (reinterpret_cast<size_t>(p) & 7) emu::misaligned("store8", p);
	*static_cast<vec8*>(p) = v;
}

DEVICE void mma_bf16(float c[4], const unsigned a[4], const unsigned b[2], EMU_AT) { emu::multiply(c, a, b, EMU_HERE); }
DEVICE void ldmatrix_x4(unsigned r[4], const void* row, EMU_AT) { emu::load_matrices(r, row, false, EMU_HERE); }
DEVICE void ldmatrix_x4_trans(unsigned r[4], const void* row, EMU_AT) { emu::load_matrices(r, row, true, EMU_HERE); }
DEVICE void cp_async16(void* to, const void* from, bool copy) { emu::copy_start(to, from, copy); }
DEVICE void cp_async_commit() { emu::copy_commit(); }
template <int N> DEVICE void cp_async_wait() { emu::copy_wait(N); }
