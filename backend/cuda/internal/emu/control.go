//go:build cuda

package emu

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

typedef uintptr_t (*fn)(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t);

// Integers and pointers alone are passed; a function ignores those that it does
// not have, by the calling conventions of amd64 and arm64.
static uintptr_t call(void *f, uintptr_t *a) {
  return ((fn)f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10]);
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Control steers a library of this package from a test. The library may be in use
// through the driver at the same time.
type Control struct{ handle unsafe.Pointer }

// Open loads a file that Library or Build returned; loading it again is free.
func Open(file string) (*Control, error) {
	name := C.CString(file)
	defer C.free(unsafe.Pointer(name))
	h := C.dlopen(name, C.RTLD_NOW|C.RTLD_LOCAL)
	if h == nil {
		return nil, fmt.Errorf("load %s: %s", file, C.GoString(C.dlerror()))
	}
	return &Control{h}, nil
}

// Call calls a function of the library with up to eleven integers or pointers as
// C has them, and returns an int, as those of the driver API are. It panics where
// the library has no such function. Contexts belong to threads: lock the goroutine
// to one.
func (c *Control) Call(name string, args ...uintptr) int {
	return int(C.int(c.call(name, args...)))
}

func (c *Control) call(name string, args ...uintptr) C.uintptr_t {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	f := C.dlsym(c.handle, s)
	if f == nil {
		panic("emu: no function " + name)
	}
	a := (*[11]C.uintptr_t)(C.calloc(11, C.size_t(unsafe.Sizeof(C.uintptr_t(0)))))
	defer C.free(unsafe.Pointer(a))
	for i, x := range args {
		a[i] = C.uintptr_t(x)
	}
	return C.call(f, &a[0])
}

func (c *Control) text(name, s string, more ...uintptr) C.uintptr_t {
	p := C.CString(s)
	defer C.free(unsafe.Pointer(p))
	return c.call(name, append([]uintptr{uintptr(unsafe.Pointer(p))}, more...)...)
}

// Seed chooses the order of threads and blocks, and what undefined memory holds.
func (c *Control) Seed(seed uint64) { c.call("emu_seed", uintptr(seed)) }

// Fail makes the nth call from now (1 is the next) of a driver function return an
// error code. The name is the exported one, as cuMemAlloc_v2.
func (c *Control) Fail(name string, nth, code int) {
	c.text("emu_fail", name, uintptr(nth), uintptr(code))
}

// Calls is how often a driver function was called.
func (c *Control) Calls(name string) int { return int(c.text("emu_calls", name)) }

// Live is how many objects of a kind there are: device (allocations), host,
// stream, event, module, graph, exec, pool, context; "" for all of them, and
// "bytes" for the bytes of device memory, "kept" for those that pools have beside them.
func (c *Control) Live(kind string) int { return int(c.text("emu_live", kind)) }

// Memory sets how many bytes of memory the device has, 8 GiB at first.
func (c *Control) Memory(bytes int) { c.call("emu_memory", uintptr(bytes)) }

// Fault is what the last failure of the device was: kernel, block, thread, reason.
func (c *Control) Fault() string {
	const n = 2048
	p := C.calloc(n, 1)
	defer C.free(p)
	c.call("emu_fault", uintptr(p), n)
	return C.GoString((*C.char)(p))
}

// Reset takes failures back, which the real driver never does.
func (c *Control) Reset() { c.call("emu_reset") }
