//go:build cuda

package emu

import (
	"math"
	"runtime"
	"testing"
	"unsafe"
)

// Error codes of the driver API.
const (
	invalidValue      = 1
	outOfMemory       = 2
	notInitialized    = 3
	noDevice          = 100
	invalidContext    = 201
	invalidPTX        = 218
	invalidHandle     = 400
	notFound          = 500
	notReady          = 600
	illegalAddress    = 700
	captureUnsupport  = 900
	captureInvalid    = 901
	notSupported      = 801
	paramEnd          = 0
	paramPointer      = 1
	paramSize         = 2
	nonBlocking       = 1
	maxDynamicShared  = 8
	releaseThreshold  = 4
	captureThreadMode = 1
)

func (m *machine) want(code int, name string, args ...uintptr) {
	m.t.Helper()
	if e := m.Call(name, args...); e != code {
		m.t.Errorf("%s: have error %d, want %d; last fault: %s", name, e, code, m.Fault())
	}
}

// handle calls a function that returns a handle through its first argument.
func (m *machine) handle(name string, args ...uintptr) uintptr {
	m.t.Helper()
	h := make([]uintptr, 1)
	m.must(name, append([]uintptr{address(h)}, args...)...)
	return h[0]
}

func TestNothingWorksBeforeInitOrWithoutContext(t *testing.T) {
	c, err := Open(Build(t, Options{Kernels: []string{"testdata/language.cu"}, Hide: []string{"cuCtxPushCurrent_v2"}}))
	if err != nil {
		t.Fatal(err)
	}
	n := make([]uintptr, 1)
	if e := c.Call("cuDeviceGetCount", address(n)); e != notInitialized {
		t.Errorf("cuDeviceGetCount before cuInit: %d, want %d", e, notInitialized)
	}
	if e := c.Call("cuInit", 0); e != 0 {
		t.Fatal(e)
	}
	done := make(chan int)
	go func() { // a thread that no context was made current on
		runtime.LockOSThread()
		done <- c.Call("cuMemAlloc_v2", address(n), 16)
	}()
	if e := <-done; e != invalidContext {
		t.Errorf("cuMemAlloc without a context: %d, want %d", e, invalidContext)
	}
	defer func() {
		if recover() == nil {
			t.Error("a hidden function is there")
		}
	}()
	c.Call("cuCtxPushCurrent_v2", 0)
}

func TestModules(t *testing.T) {
	m := start(t, Plain, "language.cu")
	text := func(s string) uintptr { return address(append([]byte(s), 0)) }
	out := make([]uintptr, 1)
	m.want(invalidPTX, "cuModuleLoadData", address(out), text("int main() {}"))
	m.want(invalidPTX, "cuModuleLoadData", address(out), text(".version 7.8\n.target sm_80\n.visible .entry atomics(\n.param .u64 a,\n.param .u64 b\n)\n"))
	module := m.handle("cuModuleLoadData", text(".version 7.8\n.target sm_80\n.visible .entry shuffles(\n.param .u64 a\n)\n{}\n.entry unknown(\n)\n{}"))
	m.must("cuModuleGetFunction", address(out), module, text("shuffles"))
	m.want(notFound, "cuModuleGetFunction", address(out), module, text("unknown"))
	m.want(notFound, "cuModuleGetFunction", address(out), module, text("atomics")) // in the library, not in the module
	m.want(notFound, "cuModuleGetGlobal_v2", address(out), address(out), module, text("x"))
	m.must("cuModuleUnload", module)
	m.want(invalidHandle, "cuModuleGetFunction", address(out), module, text("shuffles"))
}

func TestLaunchChecks(t *testing.T) {
	m := start(t, Plain, "language.cu", "faults.cu")
	out := buffer(m, make([]int64, 64))
	try := func(what string, want int, kernel string, grid [3]int, threads, shared int, params ...any) {
		t.Helper()
		if have := m.launch(kernel, grid, threads, shared, params...); have != want {
			t.Errorf("%s: have %d, want %d: %s", what, have, want, m.Fault())
		}
		m.must("cuCtxSynchronize")
	}
	small := []any{out, int64(0), uint32(0), float32(0), 0}
	try("right", 0, "small", [3]int{1, 1, 1}, 64, 0, small...)
	try("more threads than the kernel says", invalidValue, "small", [3]int{1, 1, 1}, 96, 0, small...)
	try("no thread", invalidValue, "small", [3]int{1, 1, 1}, 0, 0, small...)
	try("half a warp", invalidValue, "small", [3]int{1, 1, 1}, 48, 0, small...)
	try("no block", invalidValue, "small", [3]int{1, 0, 1}, 64, 0, small...)
	try("a high grid", invalidValue, "small", [3]int{1, 65536, 1}, 64, 0, small...)
	try("much shared memory", invalidValue, "shuffles", [3]int{1, 1, 1}, 32, 48<<10+1, out)
	f := m.functions["shuffles"]
	m.must("cuFuncSetAttribute", f, maxDynamicShared, 99<<10)
	m.want(invalidValue, "cuFuncSetAttribute", f, maxDynamicShared, 99<<10+1)
	try("much shared memory, allowed", 0, "shuffles", [3]int{1, 1, 1}, 32, 99<<10, buffer(m, make([]int32, 224)))
	m.want(invalidHandle, "cuLaunchKernel", 0, 1, 1, 1, 32, 1, 1, 0, 0, 0, 0)

	// All parameters in one buffer.
	packed := make([]byte, 32)
	*(*uintptr)(unsafe.Pointer(&packed[0])) = out
	*(*int64)(unsafe.Pointer(&packed[8])) = 40
	*(*uint32)(unsafe.Pointer(&packed[16])) = 1
	*(*uint32)(unsafe.Pointer(&packed[20])) = math.Float32bits(3)
	*(*int32)(unsafe.Pointer(&packed[24])) = -2
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&packed[0])
	for size, want := range map[uintptr]int{28: 0, 27: invalidValue, 32: invalidValue} {
		sizes := []uintptr{size}
		pin.Pin(&sizes[0])
		extra := []uintptr{paramPointer, address(packed), paramSize, address(sizes), paramEnd}
		m.want(want, "cuLaunchKernel", m.functions["small"], 1, 1, 1, 32, 1, 1, 0, 0, 0, address(extra))
	}
	m.must("cuCtxSynchronize")
	if v := back(m, make([]int64, 1), out)[0]; v != 42 {
		t.Errorf("packed parameters: have %d, want 42", v)
	}
}

// Work on a stream is done when somebody waits, and not before.
func TestWorkIsDeferred(t *testing.T) {
	m := start(t, Plain, "language.cu")
	p := buffer(m, []int32{1, 2, 3, 4})
	stream := m.handle("cuStreamCreate", nonBlocking)
	event := m.handle("cuEventCreate", 0)
	pinned := m.handle("cuMemHostAlloc", 16, 0)
	host := unsafe.Slice((*int32)(pointer(pinned)), 4)
	copy(host, []int32{5, 6, 7, 8})
	m.must("cuMemcpyHtoDAsync_v2", p, pinned, 16, stream)
	m.must("cuEventRecord", event, stream)
	if v := back(m, make([]int32, 4), p)[0]; v != 1 {
		t.Errorf("a copy on a stream that nobody waited for is done: %d", v)
	}
	host[0] = 50 // too early, so it is what gets copied
	m.want(notReady, "cuEventQuery", event)
	m.want(0, "cuEventQuery", event) // it was asked again, so time has passed
	if v := back(m, make([]int32, 4), p); v[0] != 50 || v[3] != 8 {
		t.Errorf("after the event: %v, want 50 6 7 8", v)
	}
	// Other memory than pinned is copied at the call.
	plain := []int32{9, 9, 9, 9}
	m.must("cuMemcpyHtoDAsync_v2", p, address(plain), 16, stream)
	plain[0] = 10
	m.must("cuStreamSynchronize", stream)
	if v := back(m, make([]int32, 1), p)[0]; v != 9 {
		t.Errorf("have %d, want 9", v)
	}
	// A wait for an event of another stream.
	other := m.handle("cuStreamCreate", nonBlocking)
	m.must("cuMemsetD32Async", p, 1, 4, stream)
	m.must("cuEventRecord", event, stream)
	m.must("cuStreamWaitEvent", other, event, 0)
	m.must("cuMemcpyDtoHAsync_v2", pinned, p, 16, other)
	m.must("cuStreamSynchronize", other)
	if host[3] != 1 {
		t.Errorf("have %v, want ones", host)
	}
	for _, s := range []uintptr{stream, other} {
		m.must("cuStreamDestroy_v2", s)
	}
	m.must("cuEventDestroy_v2", event)
	m.must("cuMemFreeHost", pinned)
}

func TestGraphs(t *testing.T) {
	m := start(t, Plain, "language.cu")
	count, most, sum := buffer(m, []int32{0}), buffer(m, []int32{0}), buffer(m, []float32{0})
	stream := m.handle("cuStreamCreate", 0)
	m.must("cuStreamBeginCapture_v2", stream, captureThreadMode)
	pinner := []uint64{uint64(count), uint64(most), uint64(sum)}
	params := []uintptr{address(pinner), address(pinner[1:]), address(pinner[2:])}
	m.must("cuLaunchKernel", m.functions["atomics"], 1, 1, 1, 64, 1, 1, 0, stream, address(params), 0)
	graph := m.handle2("cuStreamEndCapture", stream)
	exec := m.handle("cuGraphInstantiateWithFlags", graph, 0)
	runtime.KeepAlive(pinner)
	m.must("cuStreamSynchronize", stream)
	if v := back(m, make([]int32, 1), count)[0]; v != 0 {
		t.Errorf("what was captured was also done: count %d", v)
	}
	for range 3 {
		m.must("cuGraphLaunch", exec, stream)
	}
	m.must("cuStreamSynchronize", stream)
	if v := back(m, make([]int32, 1), count)[0]; v != 3*64 {
		t.Errorf("count %d after three launches, want 192", v)
	}
	// A call that would disturb it ends a capture.
	m.must("cuStreamBeginCapture_v2", stream, 0)
	p := make([]uintptr, 1)
	m.want(captureUnsupport, "cuMemAlloc_v2", address(p), 16)
	m.want(captureInvalid, "cuStreamEndCapture", stream, address(p))
	if n := m.Live("graph"); n != 1 {
		t.Errorf("%d graphs, want 1", n)
	}
	m.must("cuGraphExecDestroy", exec)
	m.must("cuGraphDestroy", graph)
	m.must("cuStreamDestroy_v2", stream)
	for _, kind := range []string{"graph", "exec", "stream", "event"} {
		if n := m.Live(kind); n != 0 {
			t.Errorf("%d live %ss", n, kind)
		}
	}
}

func TestFailuresOfTheDeviceStick(t *testing.T) {
	m := start(t, Plain, "language.cu")
	p := buffer(m, make([]int32, 4))
	x := make([]int32, 8)
	m.want(illegalAddress, "cuMemcpyDtoH_v2", address(x), p, 20)
	if want := "a copy from device memory of 20 bytes at byte 0 of an allocation of 16"; m.Fault() != want {
		t.Errorf("fault %q, want %q", m.Fault(), want)
	}
	m.want(illegalAddress, "cuMemcpyDtoH_v2", address(x), p, 16)
	m.want(illegalAddress, "cuCtxSynchronize")
	m.Reset()
	m.must("cuMemcpyDtoH_v2", address(x), p, 16)

	// A kernel whose parameter points to memory that is free again.
	m.must("cuMemFree_v2", p)
	delete(m.bytes, p)
	if e := m.run("shuffles", 1, 32, 0, p); e != illegalAddress || !match("kernel shuffles: parameter 0 points where no memory is allocated", m.Fault()) {
		t.Errorf("error %d, %q", e, m.Fault())
	}
	m.Reset()
	m.want(invalidValue, "cuMemFree_v2", p) // twice
}

func TestPools(t *testing.T) {
	m := start(t, Plain, "language.cu")
	live, used := m.Live("device"), m.Live("bytes")
	props := make([]int32, 22)
	props[0], props[2] = 1, 1 // pinned to a device
	pool := m.handle("cuMemPoolCreate", address(props))
	stream := m.handle("cuStreamCreate", nonBlocking)
	p := m.handle("cuMemAllocFromPoolAsync", 1000, pool, stream)
	m.must("cuMemsetD8Async", p, 7, 1000, stream)
	in := make([]uint64, 1)
	const threshold, reservedNow, usedNow = 4, 5, 7
	m.must("cuMemPoolGetAttribute", pool, usedNow, address(in))
	if in[0] != 1000 || m.Live("bytes")-used != 1000 {
		t.Errorf("pool uses %d bytes, the device %d; want 1000", in[0], m.Live("bytes")-used)
	}
	m.must("cuMemFreeAsync", p, stream)
	m.must("cuStreamSynchronize", stream)
	if n := m.Live("device") - live; n != 0 {
		t.Errorf("%d allocations are left", n)
	}
	if n := m.Live("kept"); n != 0 {
		t.Errorf("a pool that keeps nothing kept %d bytes", n)
	}
	for i, want := range []int{1000, 400, 1000} { // given back, of them 600 given again, and that too given back
		if i == 0 {
			m.must("cuMemPoolSetAttribute", pool, threshold, address([]uint64{1 << 40}))
		}
		if i < 2 {
			p = m.handle("cuMemAllocFromPoolAsync", uintptr(1000-400*i), pool, stream)
		}
		if i != 1 {
			m.must("cuMemFreeAsync", p, stream)
			m.must("cuStreamSynchronize", stream)
		}
		m.must("cuMemPoolGetAttribute", pool, reservedNow, address(in))
		if n := m.Live("kept"); n != want || in[0] != 1000 {
			t.Errorf("%d: a pool of %d bytes keeps %d, want 1000 and %d", i, in[0], n, want)
		}
	}
	m.must("cuMemPoolTrimTo", pool, 0)
	if n := m.Live("kept"); n != 0 {
		t.Errorf("%d bytes are kept after cuMemPoolTrimTo", n)
	}
	m.must("cuMemPoolDestroy", pool)
	m.must("cuStreamDestroy_v2", stream)

	m.Memory(m.Live("bytes") + 100)
	defer m.Memory(8 << 30)
	m.want(outOfMemory, "cuMemAlloc_v2", address(make([]uintptr, 1)), 101)
	m.must("cuMemFree_v2", m.handle("cuMemAlloc_v2", 100))
}

func TestInjectedFailures(t *testing.T) {
	m := start(t, Plain, "language.cu")
	calls := m.Calls("cuMemAlloc_v2")
	m.Fail("cuMemAlloc_v2", 2, outOfMemory)
	a := m.handle("cuMemAlloc_v2", 16)
	m.want(outOfMemory, "cuMemAlloc_v2", address(make([]uintptr, 1)), 16)
	b := m.handle("cuMemAlloc_v2", 16)
	if n := m.Calls("cuMemAlloc_v2") - calls; n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
	m.must("cuMemFree_v2", a)
	m.must("cuMemFree_v2", b)
	m.want(notSupported, "cuArrayDestroy", 0)
	m.Fail("cuInit", 1, noDevice)
	m.want(noDevice, "cuInit", 0)
}

// pointer makes C memory out of its address.
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// handle2 is handle for a function that returns through its second argument.
func (m *machine) handle2(name string, first uintptr) uintptr {
	m.t.Helper()
	h := make([]uintptr, 1)
	m.must(name, first, address(h))
	return h[0]
}
