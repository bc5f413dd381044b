// Running a kernel: one fiber for each thread of a block, the blocks one after
// another.
//
// A thread runs until it has to wait: for the lanes of its warp, or at a barrier.
// What it may do without waiting it does before any other thread moves, so a
// missing barrier shows as a read of what is not there yet. The seed chooses the
// order of the blocks, the order of the threads, and which of those that may go
// on does so first: a warp that runs far ahead of the others, or all in step.
#include <sys/mman.h>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "fiber.h"
#include "run.h"

namespace emu {

Thread* self;
Block block;
uint64_t seed = 1;

enum { max_threads = 1024, max_warps = 32 };

#if defined(__SANITIZE_ADDRESS__) || defined(NRT_EMU_RACES)
enum { stack_size = 256 << 10 }; // instrumented code keeps more on its stack
#else
enum { stack_size = 64 << 10 };
#endif

static Thread thread_of[max_threads];
static Warp warp_of[max_warps];
static int order[max_threads];  // the threads, permuted
static bool run_ahead;
static int finished;            // threads of the block that have returned
static const Launch* running;
static void* scheduler;         // where run stopped
static Fault fault;
static bool spoilt;               // a kernel failed, and left as it was what it had on its stacks and in shared memory

// The random numbers of the permutations: splitmix64.
static uint64_t random_state;
static uint64_t random_number() {
	uint64_t z = random_state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

void garbage(void* p, size_t n) { memset(p, seed & 1 ? 0xff : 0x7f, n); }

static Kernel const* kernels;

void Kernel::add() {
	next = kernels;
	kernels = this;
}

const Kernel* find_kernel(const std::string& name) {
	for (const Kernel* k = kernels; k; k = k->next)
		if (name == k->name) return k;
	return nullptr;
}

// Threads that may run, in the order in which they will.
static Thread* ready[2 * max_threads];
static unsigned ready_first, ready_end;
static void push_back(Thread* t) { ready[ready_end++ % (2 * max_threads)] = t; }
static void push_front(Thread* t) { ready[--ready_first % (2 * max_threads)] = t; }
static Thread* pop() { return ready_first == ready_end ? nullptr : ready[ready_first++ % (2 * max_threads)]; }

// Stacks are taken when a thread starts and free when it returns, so that threads
// which never wait use one of them, one after another.
static char* stacks;
static int free_stack[max_threads], free_stacks;

static void make_stacks() {
	if (!stacks) {
		void* p = mmap(nullptr, size_t(max_threads) * stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED) {
			fprintf(stderr, "emulator: no memory for the stacks of %d threads\n", int(max_threads));
			abort();
		}
		stacks = static_cast<char*>(p);
		for (int i = 0; i < max_threads; i++) mprotect(stacks + size_t(i) * stack_size, 4096, PROT_NONE); // overflow faults
		races_stacks(stacks, stacks + size_t(max_threads) * stack_size);
	}
	// A kernel that failed has left the variables of its functions behind.
	if (spoilt) EMU_UNPOISON(stacks, size_t(max_threads) * stack_size);
	for (int i = 0; i < max_threads; i++) free_stack[i] = max_threads - 1 - i;
	free_stacks = max_threads;
}

static void fiber_main();

static void resume(Thread* t, void** save) {
	self = t;
	if (!t->sp) {
		t->stack = free_stack[--free_stacks];
		char* bottom = stacks + size_t(t->stack) * stack_size;
		// Tops at different offsets, or all stacks would meet in the same sets of the cache.
		t->sp = prepare(bottom, bottom + stack_size - (t->stack & 63) * 64 * 5 % 4096, fiber_main);
	}
	switch_to(save, t->sp);
}

// Its frame stays behind on a stack that is used again: AddressSanitizer must not
// mark it.
__attribute__((no_sanitize("address")))
__attribute__((no_sanitize("address"))) EMU_NORETURN static void abandon() {
	void* nowhere;
	switch_to(&nowhere, scheduler);
#ifndef __SANITIZE_ADDRESS__
	__builtin_unreachable();
#endif
}

static const char* base(const char* file) {
	const char* slash = strrchr(file, '/');
	return slash ? slash + 1 : file;
}

void fail(int code, const char* format, ...) {
	char what[512], where[256];
	va_list list;
	va_start(list, format);
	vsnprintf(what, sizeof what, format, list);
	va_end(list);
	snprintf(where, sizeof where, "kernel %s, block (%d,%d,%d) of (%d,%d,%d), thread %d of %d: ", running->kernel->name, block.x, block.y, block.z,
	         block.gx, block.gy, block.gz, self->tid, block.threads);
	if (!fault.code) fault = {code, std::string(where) + what};
	abandon();
}

void misaligned(const char* op, const void* p) { fail(misaligned_address, "%s at %p, which is not a multiple of 16", op, p); }

// stuck reports that no thread can go on though some have not returned.
EMU_NORETURN static void stuck() {
	const Thread* one = nullptr;
	for (int i = 0; i < block.threads; i++) {
		const Thread& t = thread_of[i];
		if (t.done) continue;
		if (!one || (!strcmp(one->waits, "sync") && strcmp(t.waits, "sync"))) one = &t;
	}
	int with = 0, returned = 0, others = 0;
	bool all = !strcmp(one->waits, "sync");
	int from = all ? 0 : one->tid & ~31, to = all ? block.threads : from + 32;
	for (int i = from; i < to; i++) {
		const Thread& t = thread_of[i];
		if (t.done) returned++;
		else if (t.line == one->line && !strcmp(t.waits, one->waits)) with++;
		else others++;
	}
	self = &thread_of[one->tid];
	fail(launch_failed, "divergence: %d of %d threads wait at %s in %s:%d, %d have returned, %d wait elsewhere", with, to - from, one->waits,
	     base(one->file), one->line, returned, others);
}

// wait lets others run until somebody makes this thread ready again.
static void wait(const char* what, int line, const char* file) {
	Thread* me = self;
	me->waits = what;
	me->line = line;
	me->file = file;
	Thread* t = pop();
	if (!t) stuck();
	resume(t, &me->sp);
}

static int barrier_arrived, barrier_line;
static const char* barrier_file;

void barrier(int line, const char* file) {
	if (barrier_arrived && (line != barrier_line || strcmp(file, barrier_file)))
		fail(launch_failed, "divergence: sync in %s:%d while other threads wait at sync in %s:%d", base(file), line, base(barrier_file), barrier_line);
	barrier_line = line;
	barrier_file = file;
	if (++barrier_arrived < block.threads) {
		wait("sync", line, file);
		return;
	}
	barrier_arrived = 0;
	races_barrier();
	int skip = random_number() % block.threads;
	for (int i = 0; i < block.threads; i++) {
		Thread* t = &thread_of[order[(i + skip) % block.threads]];
		if (t != self) push_back(t);
	}
}

void meet(const char* op, void (*complete)(Warp*), int line, const char* file) {
	Thread* me = self;
	Warp* w = me->warp;
	if (w->arrived == 0) {
		w->op = op;
		w->line = line;
		w->file = file;
	} else if (w->line != line || w->op != op)
		fail(launch_failed, "divergence: lane %d at %s in %s:%d while other lanes wait at %s in %s:%d", me->lane, op, base(file), line, w->op,
		     base(w->file), w->line);
	w->waiting[w->arrived++] = me;
	if (w->arrived < 32) {
		wait(op, line, file);
		return;
	}
	w->arrived = 0;
	w->syncs++;
	if (complete) complete(w);
	if (run_ahead)
		for (int i = 0; i < 31; i++) push_front(w->waiting[i]);
	else
		for (int i = 0; i < 31; i++) push_back(w->waiting[i]);
}

// Shared memory: the arrays of a block lie in an arena with gaps between them.
enum { arena_size = 256 << 10, gap = 64, filler = 0xc3 };
alignas(256) static unsigned char arena[arena_size]; // filler, where no array is
static size_t arena_used, shared_used;
static std::vector<std::pair<unsigned char*, size_t>> arrays;

static unsigned char* place(size_t size) {
	shared_used += size;
	unsigned char* p = arena + arena_used;
	size_t room = (size + 15) & ~size_t(15);
	if (shared_used > shared_most || arena_used + room + gap > arena_size)
		fail(out_of_resources, "%zu bytes of shared memory are more than %d", shared_used, int(shared_most));
	arena_used += room + gap;
	EMU_UNPOISON(p, size);
	garbage(p, size);
	races_array(p, size);
	arrays.push_back({p, size});
	return p;
}

void* place_shared(Site* s, size_t size) {
	s->at = place(size);
	s->serial = block.serial;
	if (shared_used - running->shared > shared_default)
		fail(out_of_resources, "%zu bytes of static shared memory are more than %d", shared_used - running->shared, int(shared_default));
	if (shared_used > shared_default && !running->asked) // a driver knows it at the launch
		fail(out_of_resources, "%zu bytes of shared memory, of which %d are dynamic, are more than %d", shared_used, running->shared, int(shared_default));
	return s->at;
}

#ifndef __SANITIZE_ADDRESS__
// check_gaps finds writes beside shared arrays, which AddressSanitizer sees as
// they happen.
static void check_gaps() {
	for (auto& [p, size] : arrays)
		for (const unsigned char* q = p + size; q < p + ((size + 15) & ~size_t(15)) + gap; q++)
			if (*q != filler) fail(illegal_address, "a write past the end of a shared array of %zu bytes, at its byte %zu", size, size_t(q - p));
}
#endif

static unsigned char* in_shared(const char* op, const void* p, size_t size) {
	auto at = static_cast<unsigned char*>(const_cast<void*>(p));
	if (reinterpret_cast<size_t>(at) & 15) misaligned(op, p);
	for (auto& [q, n] : arrays)
		if (at >= q && at + size <= q + n) return at;
	fail(illegal_address, "%s at %p, which is not in shared memory", op, p);
	return nullptr;
}

// ldmatrix: lane l brings the row l%8 of matrix l/8, and takes of every matrix the
// elements [l/4][2(l%4)] and the next, or those of the transpose.
struct Matrices {
	unsigned* r;
	const unsigned char* row;
	bool transposed;
};

static void complete_load(Warp* w) {
	const Matrices* of[32];
	for (int l = 0; l < 32; l++) of[l] = static_cast<const Matrices*>(w->args[l]);
	for (int m = 0; m < 4; m++) {
		unsigned short e[8][8];
		for (int i = 0; i < 8; i++) {
			memcpy(e[i], of[8 * m + i]->row, 16);
			touch(of[8 * m + i]->row, 16, false, &thread_of[(w - warp_of) * 32 + 8 * m + i]);
		}
		for (int l = 0; l < 32; l++) {
			int g = l / 4, i = 2 * (l % 4);
			of[l]->r[m] = of[l]->transposed ? e[i][g] | unsigned(e[i + 1][g]) << 16 : e[g][i] | unsigned(e[g][i + 1]) << 16;
		}
	}
}

void load_matrices(unsigned* r, const void* row, bool transposed, int line, const char* file) {
	const char* op = transposed ? "ldmatrix_x4_trans" : "ldmatrix_x4";
	Matrices m = {r, in_shared(op, row, 16), transposed};
	self->warp->args[self->lane] = &m;
	meet(op, complete_load, line, file);
}

// mma_bf16, with the fragments of kernel.h. The sums are in the order of k.
struct Product {
	float* c;
	const unsigned *a, *b;
};

static float low(unsigned x) { return bits_float(x << 16); }
static float high(unsigned x) { return bits_float(x & 0xffff0000u); }

static void complete_product(Warp* w) {
	float a[16][16], b[16][8], c[16][8];
	for (int l = 0; l < 32; l++) {
		const Product* p = static_cast<const Product*>(w->args[l]);
		int g = l / 4, i = 2 * (l % 4);
		for (int r = 0; r < 4; r++) {
			a[g + r % 2 * 8][i + r / 2 * 8] = low(p->a[r]);
			a[g + r % 2 * 8][i + r / 2 * 8 + 1] = high(p->a[r]);
			c[g + r / 2 * 8][i + r % 2] = p->c[r];
		}
		for (int r = 0; r < 2; r++) {
			b[i + r * 8][g] = low(p->b[r]);
			b[i + r * 8 + 1][g] = high(p->b[r]);
		}
	}
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 16; k++)
			for (int j = 0; j < 8; j++) c[i][j] += a[i][k] * b[k][j];
	for (int l = 0; l < 32; l++) {
		const Product* p = static_cast<const Product*>(w->args[l]);
		int g = l / 4, i = 2 * (l % 4);
		for (int r = 0; r < 4; r++) p->c[r] = c[g + r / 2 * 8][i + r % 2];
	}
}

void multiply(float* c, const unsigned* a, const unsigned* b, int line, const char* file) {
	Product p = {c, a, b};
	self->warp->args[self->lane] = &p;
	meet("mma_bf16", complete_product, line, file);
}

// cp.async: between its start and the wait for it the target may hold anything,
// so it holds garbage, and the source is read as late as possible.
struct Copy {
	unsigned char* to;
	const void* from;
	bool copy;
};
struct Copies {
	std::vector<Copy> list;
	std::vector<size_t> ends;   // of the groups
	size_t done = 0, groups = 0; // finished copies and groups
};
static Copies copies_of[max_threads];

void copy_start(void* to, const void* from, bool copy) {
	Copy c = {in_shared("cp_async16", to, 16), from, copy};
	if (copy && reinterpret_cast<size_t>(from) & 15) misaligned("cp_async16 from", from);
	garbage(to, 16);
	touch(to, 16, true, self);
	copies_of[self->tid].list.push_back(c);
}

void copy_commit() {
	Copies& c = copies_of[self->tid];
	c.ends.push_back(c.list.size());
}

void copy_wait(int groups_left) {
	Copies& all = copies_of[self->tid];
	for (; all.ends.size() - all.groups > size_t(groups_left); all.groups++)
		for (; all.done < all.ends[all.groups]; all.done++) {
			const Copy& c = all.list[all.done];
			if (c.copy) {
				touch(c.from, 16, false, self);
				memcpy(c.to, c.from, 16);
			} else
				memset(c.to, 0, 16);
			touch(c.to, 16, true, self);
		}
}

// fiber_main runs threads on one stack as long as they have not begun elsewhere.
// It leaves its stack behind at the end of a block; AddressSanitizer would look for
// the end of that stack in vain.
__attribute__((no_sanitize("address")))
static void fiber_main() {
	for (;;) {
		Thread* me = self;
		running->kernel->invoke(running->kernel->function, running->args);
		me->done = true;
		Copies& c = copies_of[me->tid];
		if (!c.list.empty()) c = Copies();
		free_stack[free_stacks++] = me->stack;
		if (++finished == block.threads) {
#ifndef __SANITIZE_ADDRESS__
			check_gaps();
#endif
			abandon();
		}
		Thread* t = pop();
		if (!t) stuck();
		if (!t->sp) {
			t->stack = free_stack[--free_stacks];
			t->sp = stacks; // it has begun
			self = t;
			continue;
		}
		resume(t, &me->sp);
	}
}

// make_arena fills all of it: a launch that failed leaves what it wrote.
static void make_arena() {
	static bool made;
	if (made && !spoilt) return;
	EMU_UNPOISON(arena, arena_size);
	memset(arena, filler, arena_size);
	EMU_POISON(arena, arena_size);
	made = true;
	spoilt = false;
}

static void run_block(const Launch& l) {
	static unsigned serial;
	block.serial = ++serial;
	block.threads = l.threads;
	EMU_UNPOISON(arena, arena_used);
	for (auto& [p, size] : arrays) memset(p, filler, size);
	EMU_POISON(arena, arena_used);
	arrays.clear();
	shared_used = 0;
	arena_used = gap;
	races_block(arena, arena_size);
	self = &thread_of[0];
	finished = barrier_arrived = 0;
	ready_first = ready_end = 0;
	for (int i = 0; i < l.threads; i++) {
		Thread* t = &thread_of[i];
		*t = {i, i & 31, &warp_of[i / 32], 0, nullptr, 0, false, nullptr, nullptr, 0};
		push_back(&thread_of[order[i]]);
	}
	for (int i = 0; i < l.threads / 32; i++) warp_of[i].arrived = 0;
	block.dynamic = nullptr;
	if (l.shared) block.dynamic = place(l.shared);
	resume(pop(), &scheduler);
}

static uint64_t gcd(uint64_t a, uint64_t b) { return b ? gcd(b, a % b) : a; }

Fault run(const Launch& l) {
	running = &l;
	fault = {};
	static uint64_t launches;
	random_state = seed * 0x2545f4914f6cdd1d + launches++;
	races_launch();
	for (int i = 0; i < l.threads; i++) order[i] = i;
	for (int i = l.threads - 1; i > 0; i--) std::swap(order[i], order[random_number() % (i + 1)]);
	run_ahead = random_number() % 4; // in step in one of four seeds
	block.gx = l.grid[0];
	block.gy = l.grid[1];
	block.gz = l.grid[2];
	uint64_t n = uint64_t(block.gx) * block.gy * block.gz, at = random_number() % n, step = random_number() % n;
	while (gcd(step, n) != 1) step = (step + 1) % n;
	make_stacks();
	make_arena();
	for (uint64_t i = 0; i < n && !fault.code; i++, at = (at + step) % n) {
		block.x = at % block.gx;
		block.y = at / block.gx % block.gy;
		block.z = at / block.gx / block.gy;
		run_block(l);
	}
	if (fault.code) {
		spoilt = true;
		for (Copies& c : copies_of) c = Copies();
	}
	return fault;
}

} // namespace emu
