// Switching between stacks.
#pragma once

namespace emu {

// switch_to stores where this stack stands in *save and goes on at another.
// prepare makes a stack, whose highest address is top, start with entry, which
// never returns; what it gives is for switch_to.
#ifdef __x86_64__
extern "C" void emu_switch(void** save, void* to);
inline void switch_to(void** save, void* to) { emu_switch(save, to); }
#else
void switch_to(void** save, void* to);
#endif
void* prepare(char* bottom, char* top, void (*entry)());

} // namespace emu
