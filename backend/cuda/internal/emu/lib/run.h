// What the parts of the emulator know of each other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#define NRT_EMULATOR
#include "../../../kernels/kernel.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define EMU_POISON(p, n) __asan_poison_memory_region(p, n)
#define EMU_UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define EMU_POISON(p, n) ((void)0)
#define EMU_UNPOISON(p, n) ((void)0)
#endif

namespace emu {

// Launch is one kernel launch, ready to run.
struct Launch {
	const Kernel* kernel;
	int grid[3];
	int threads;
	int shared;   // bytes of dynamic shared memory
	bool asked;   // the function was allowed more than shared_default in all
	void** args;
};

// Fault is what went wrong in a kernel or an operation; code is a CUresult.
struct Fault {
	int code = 0;
	std::string text;
};

// run runs all blocks of a launch, in an order that the seed chooses, until one
// of them fails.
Fault run(const Launch& l);

// fail ends the kernel that runs, from any of its threads.
EMU_NORETURN void fail(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));

enum { illegal_address = 700, misaligned_address = 716, launch_failed = 719, invalid_value = 1, out_of_resources = 701 };

const Kernel* find_kernel(const std::string& name);

extern uint64_t seed;

// garbage fills memory whose content is undefined: by the seed with bytes that
// are NaN in every float format, or a large number in every one.
void garbage(void* p, size_t n);

// The limits of shared memory: of a block, and of a kernel that asked for more.
enum { shared_default = 48 << 10, shared_most = 99 << 10 };

// Allocation is a piece of device memory.
struct Allocation {
	uintptr_t base;
	size_t size;
	void* pool;
	void* shadow;     // of the race checker
};

// find_allocation has the live one that holds an address (its end included), or null.
Allocation* find_allocation(uintptr_t p);

#ifdef NRT_EMU_RACES
// The race checker, of races.cc. touch is one access by a thread.
void races_launch();
void races_block(unsigned char* arena, size_t size);
void races_barrier();
void races_array(const void* p, size_t n);   // a shared array of the block
void races_stacks(const void* from, const void* to);
void touch(const void* p, int size, bool write, const Thread* t);
#else
inline void races_launch() {}
inline void races_block(unsigned char*, size_t) {}
inline void races_barrier() {}
inline void races_array(const void*, size_t) {}
inline void races_stacks(const void*, const void*) {}
inline void touch(const void*, int, bool, const Thread*) {}
#endif

} // namespace emu
