#include "fiber.h"

#include <cstdint>

#ifdef __x86_64__

// The registers that a function must keep, and nothing else: the floating-point
// modes are the same in all fibers, and no signal mask has to change. swapcontext
// would ask the kernel for that each time, which takes thirty times as long.
__asm__(
    ".text\n.balign 16\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch, @function\n"
    "emu_switch:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, (%rdi)\n"
    "  mov %rsi, %rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
    "  ret\n"
    ".size emu_switch, .-emu_switch\n");

namespace emu {

void* prepare(char*, char* top, void (*entry)()) {
	uintptr_t* sp = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
	*--sp = 0; // entry has no caller; a call leaves the stack 8 off a multiple of 16
	*--sp = reinterpret_cast<uintptr_t>(entry);
	for (int i = 0; i < 6; i++) *--sp = 0;
	return sp;
}

} // namespace emu

#else

#include <ucontext.h>

#include <map>

namespace emu {

// One context for each stack, and one for whoever first leaves its own.
static ucontext_t* context(char* bottom) {
	static std::map<char*, ucontext_t> all;
	return &all[bottom];
}

static ucontext_t* current = context(nullptr);

void switch_to(void** save, void* to) {
	ucontext_t* from = current;
	*save = from;
	current = static_cast<ucontext_t*>(to);
	swapcontext(from, current);
}

void* prepare(char* bottom, char* top, void (*entry)()) {
	ucontext_t* c = context(bottom);
	getcontext(c);
	c->uc_stack.ss_sp = bottom;
	c->uc_stack.ss_size = top - bottom;
	c->uc_link = nullptr;
	makecontext(c, entry, 0);
	return c;
}

} // namespace emu

#endif
