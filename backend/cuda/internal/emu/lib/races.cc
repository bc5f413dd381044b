// The race checker: kernels compiled with -fsanitize=thread call a function here
// before every access to memory. Not the sanitizer's own library answers, which
// knows the CPU's threads, but this file, which knows the GPU's.
//
// For every byte it is kept who wrote it last and who read it last. An access and
// an earlier one by another thread, one of them a write, are a race unless a
// barrier lies between them: sync() for threads of a block, any operation of the
// warp for its lanes, the end of the kernel for threads of different blocks. One
// block may also hand on to another: what it did before a barrier, and then an
// atomic, comes before what the other does after an atomic at the same address
// and a barrier. (That a fence() stands there too is not checked.) An
// access must be to an allocation, to a shared array of the block that is running,
// or to the thread's own variables, and a shared array is written before it is
// read.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "run.h"

namespace emu {

// One access: when, by whom. Epochs count barriers, of all blocks ever run.
struct Access {
	uint32_t epoch;
	uint16_t syncs;  // of the thread's warp, so far
	uint16_t tid : 10;
	uint16_t spread : 2; // 0: one thread, 1: several of its warp, 2: of several warps
};
struct Cell {
	Access write, read;
};

static uint32_t epoch, launch_first, block_first;
static unsigned char* arena_first;
static size_t arena_bytes;
static std::vector<Cell> arena_cells;
static std::vector<std::pair<const unsigned char*, size_t>> arrays;
static const unsigned char *stacks_first, *stacks_end;

// What the blocks of this launch have done with atomics: their last one at each
// address. The blocks come one after another, so this one's are the last.
struct Atomic {
	uint32_t block_first, epoch;
	const void* address;
};
static std::vector<Atomic> atomics;

void races_launch() {
	launch_first = ++epoch;
	atomics.clear();
}

// handed_on tells whether an access by an earlier block comes before one of this.
static bool handed_on(const Access& a) {
	auto gave = std::upper_bound(atomics.begin(), atomics.end(), a.epoch, [](uint32_t e, const Atomic& x) { return e < x.block_first; });
	if (gave == atomics.begin()) return false;
	for (uint32_t its = (gave - 1)->block_first; gave != atomics.begin() && (gave - 1)->block_first == its;)
		if ((--gave)->epoch > a.epoch)
			for (size_t j = atomics.size(); j-- > 0 && atomics[j].block_first == block_first;)
				if (atomics[j].address == gave->address && atomics[j].epoch < epoch) return true;
	return false;
}

void races_block(unsigned char* arena, size_t size) {
	arena_first = arena;
	arena_bytes = size;
	arena_cells.resize(size);
	arrays.clear();
	block_first = ++epoch;
}

void races_barrier() { ++epoch; }

void races_array(const void* p, size_t n) { arrays.push_back({static_cast<const unsigned char*>(p), n}); }

void races_stacks(const void* from, const void* to) {
	stacks_first = static_cast<const unsigned char*>(from);
	stacks_end = static_cast<const unsigned char*>(to);
}

static bool ordered(const Access& a, const Thread* t, bool shared) {
	if (a.epoch < launch_first) return true;
	if (a.epoch < block_first) return shared || handed_on(a); // another block, which had other shared memory
	if (a.epoch < epoch) return true;
	if (a.spread == 0 && a.tid == t->tid) return true;
	return a.spread < 2 && a.tid / 32 == t->tid / 32 && a.syncs != uint16_t(t->warp->syncs);
}

[[noreturn]] static void report(const Access& a, const char* before, const char* now, const char* where, size_t offset, size_t size) {
	const char* who = a.spread ? "several threads" : "another thread";
	if (a.epoch < block_first) who = "another block";
	fail(launch_failed, "race: %s %s byte %zu of %s of %zu bytes, which %s %s with nothing between them", now, now[0] == 'r' ? "of" : "to", offset, where, size, who, before);
}

// check looks at size bytes from byte offset of an array or allocation of so many
// bytes, whose first cell is c.
static void check(Cell* c, int size, bool write, const Thread* t, bool shared, size_t offset, size_t bytes) {
	const char* where = shared ? "a shared array" : "an allocation";
	const Access mine = {epoch, uint16_t(t->warp->syncs), uint16_t(t->tid), 0};
	Cell before, after;
	for (size_t i = offset; i < offset + size; i++) {
		if (i > offset && !memcmp(&c[i], &before, sizeof before)) {
			c[i] = after; // as nearly always, its bytes have one history
			continue;
		}
		before = c[i];
		Access &w = c[i].write, &r = c[i].read;
		if (!write && shared && w.epoch < block_first)
			fail(launch_failed, "read of byte %zu of a shared array of %zu bytes, which nothing has written", i, bytes);
		if (!ordered(w, t, shared)) report(w, "wrote", write ? "write" : "read", where, i, bytes);
		if (write) {
			if (!ordered(r, t, shared)) report(r, "read", "write", where, i, bytes);
			w = mine;
		} else if (r.epoch < epoch || r.tid == t->tid)
			r = {mine.epoch, mine.syncs, mine.tid, uint16_t(r.epoch < epoch ? 0 : r.spread)};
		else if (r.tid / 32 == t->tid / 32 && r.spread < 2)
			r = {mine.epoch, mine.syncs, mine.tid, 1};
		else
			r.spread = 2;
		after = c[i];
	}
}

// allocation_at is find_allocation, quick for the few that a kernel works on.
static Allocation* allocation_at(uintptr_t p) {
	static Allocation* recent[4];
	static uint32_t launch;
	static unsigned next;
	if (launch != launch_first) {
		launch = launch_first;
		for (auto& a : recent) a = nullptr;
	}
	for (Allocation* a : recent)
		if (a && p - a->base < a->size) return a;
	return recent[next++ % 4] = find_allocation(p);
}

extern "C" const char __ehdr_start[] __attribute__((visibility("hidden"))), _end[] __attribute__((visibility("hidden")));

// touch_at does what touch does; recorded is false for atomics, which do not race
// with one another.
static void touch_at(const void* address, int size, bool write, const Thread* t, bool recorded) {
	auto p = static_cast<const unsigned char*>(address);
	if (p >= stacks_first && p < stacks_end) return;
	if (p >= arena_first && p < arena_first + arena_bytes) {
		for (auto& [q, n] : arrays)
			if (p >= q && p < q + n) {
				if (p + size > q + n) fail(illegal_address, "%s of %d bytes at byte %zu of a shared array of %zu", write ? "write" : "read", size, size_t(p - q), n);
				if (recorded) check(&arena_cells[q - arena_first], size, write, t, true, p - q, n);
				return;
			}
		const unsigned char* near = nullptr;
		size_t bytes = 0;
		for (auto& [q, n] : arrays)
			if (q <= p && q >= near) near = q, bytes = n;
		fail(illegal_address, "%s of %d bytes at byte %zu of a shared array of %zu", write ? "write" : "read", size, size_t(p - near), bytes);
	}
	if (p >= reinterpret_cast<const unsigned char*>(__ehdr_start) && p < reinterpret_cast<const unsigned char*>(_end)) {
		if (write) fail(illegal_address, "write of %d bytes to constant memory", size);
		return;
	}
	uintptr_t u = reinterpret_cast<uintptr_t>(p);
	Allocation* a = allocation_at(u);
	if (!a) fail(illegal_address, "%s of %d bytes at %p, where no memory is allocated", write ? "write" : "read", size, address);
	if (u + size > a->base + a->size)
		fail(illegal_address, "%s of %d bytes at byte %zu of an allocation of %zu", write ? "write" : "read", size, size_t(u - a->base), a->size);
	if (!recorded) return;
	if (!a->shadow) a->shadow = calloc(a->size, sizeof(Cell));
	check(static_cast<Cell*>(a->shadow), size, write, t, false, u - a->base, a->size);
}

void touch(const void* p, int size, bool write, const Thread* t) { touch_at(p, size, write, t, true); }

void touch_atomic(const void* p, int size) {
	touch_at(p, size, true, self, false);
	for (size_t i = atomics.size(); i-- > 0 && atomics[i].block_first == block_first;)
		if (atomics[i].address == p) {
			atomics[i].epoch = epoch;
			return;
		}
	if (p < arena_first || p >= arena_first + arena_bytes) atomics.push_back({block_first, epoch, p});
}

} // namespace emu

using emu::self;

// As a library is loaded its kernels register themselves, before any thread runs.
static void touch(void* p, int size, bool write) {
	if (self) emu::touch(p, size, write, self);
}

#define EMU_HOOKS(n)                                                            \
	extern "C" void __tsan_read##n(void* p) { touch(p, n, false); }       \
	extern "C" void __tsan_write##n(void* p) { touch(p, n, true); }       \
	extern "C" void __tsan_unaligned_read##n(void* p) { touch(p, n, false); } \
	extern "C" void __tsan_unaligned_write##n(void* p) { touch(p, n, true); }
EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)
extern "C" void __tsan_read_range(void* p, size_t n) { touch(p, int(n), false); }
extern "C" void __tsan_write_range(void* p, size_t n) { touch(p, int(n), true); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
