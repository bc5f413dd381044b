//go:build cuda

package emu

import (
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

// machine is a device of the emulator, spoken to through the driver API.
type machine struct {
	t *testing.T
	*Control
	functions map[string]uintptr
	bytes     map[uintptr]int
}

// start returns a device whose library has the kernels of files in testdata.
func start(t *testing.T, check Check, files ...string) *machine {
	t.Helper()
	for i, f := range files {
		files[i] = filepath.Join("testdata", f)
		if filepath.IsAbs(f) {
			files[i] = f
		}
	}
	c, err := Open(Build(t, Options{Check: check, Kernels: files}))
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	m := &machine{t: t, Control: c, functions: map[string]uintptr{}, bytes: map[uintptr]int{}}
	m.Reset()
	m.Seed(1)
	m.must("cuInit", 0)
	context := make([]uintptr, 1)
	m.must("cuDevicePrimaryCtxRetain", address(context), 0)
	m.must("cuCtxSetCurrent", context[0])
	t.Cleanup(func() {
		m.Reset()
		for p := range m.bytes {
			m.must("cuMemFree_v2", p)
		}
		m.must("cuDevicePrimaryCtxRelease_v2", 0)
		runtime.UnlockOSThread()
	})
	for _, f := range files {
		m.load(f)
	}
	return m
}

// pinned is what C was told the address of, until the tests end.
var pinned struct {
	sync.Mutex
	runtime.Pinner
}

// address returns where x lies. A number does not hold its memory: a slice that
// no pointer leads to could be freed, and one on a stack moves as the stack grows,
// so x is pinned, which also puts it on the heap.
func address[T any](x []T) uintptr {
	p := unsafe.SliceData(x)
	pinned.Lock()
	defer pinned.Unlock()
	pinned.Pin(p)
	return uintptr(unsafe.Pointer(p))
}

func (m *machine) must(name string, args ...uintptr) {
	m.t.Helper()
	if e := m.Call(name, args...); e != 0 {
		m.t.Fatalf("%s: error %d; last fault: %s", name, e, m.Fault())
	}
}

var kernelLine = regexp.MustCompile(`(?m)^KERNEL(?:_OF\(\d+, |\()(\w+), \((.*)\)\) \{`)

// ptxOf writes what the driver needs to see of a module: its kernels and their
// parameters.
func ptxOf(source string) string {
	var b strings.Builder
	b.WriteString("//\n.version 7.8\n.target sm_80\n.address_size 64\n")
	for _, k := range kernelLine.FindAllStringSubmatch(source, -1) {
		fmt.Fprintf(&b, ".visible .entry %s(\n", k[1])
		for i, p := range strings.Split(k[2], ", ") {
			kind := map[string]string{"int": "u32", "unsigned": "u32", "float": "f32", "long": "u64"}[strings.Fields(p)[0]]
			if strings.Contains(p, "*") {
				kind = "u64"
			}
			fmt.Fprintf(&b, "\t.param .%s %s_param_%d,\n", kind, k[1], i)
		}
		b.WriteString(")\n{\n\tret;\n}\n")
	}
	return b.String()
}

func (m *machine) load(file string) {
	m.t.Helper()
	source := read(m.t, file)
	text := append([]byte(ptxOf(source)), 0)
	module := make([]uintptr, 1)
	m.must("cuModuleLoadData", address(module), address(text))
	m.t.Cleanup(func() { m.Call("cuModuleUnload", module[0]) })
	for _, k := range kernelLine.FindAllStringSubmatch(source, -1) {
		f := make([]uintptr, 1)
		name := append([]byte(k[1]), 0)
		m.must("cuModuleGetFunction", address(f), module[0], address(name))
		m.functions[k[1]] = f[0]
	}
}

// buffer returns device memory that holds x.
func buffer[T any](m *machine, x []T) uintptr {
	m.t.Helper()
	n := len(x) * int(unsafe.Sizeof(x[0]))
	p := make([]uintptr, 1)
	m.must("cuMemAlloc_v2", address(p), uintptr(n))
	m.bytes[p[0]] = n
	m.must("cuMemcpyHtoD_v2", p[0], address(x), uintptr(n))
	return p[0]
}

// back copies device memory to x.
func back[T any](m *machine, x []T, p uintptr) []T {
	m.t.Helper()
	m.must("cuMemcpyDtoH_v2", address(x), p, uintptr(len(x)*int(unsafe.Sizeof(x[0]))))
	return x
}

// launch puts a kernel on the default stream; parameters are uintptr, int, int64,
// uint32 and float32.
func (m *machine) launch(kernel string, grid [3]int, threads, shared int, params ...any) int {
	m.t.Helper()
	values := make([]uint64, len(params))
	pointers := make([]uintptr, len(params)+1)
	for i, p := range params {
		switch p := p.(type) {
		case uintptr:
			values[i] = uint64(p)
		case int:
			values[i] = uint64(uint32(p))
		case int64:
			values[i] = uint64(p)
		case uint32:
			values[i] = uint64(p)
		case float32:
			values[i] = uint64(math.Float32bits(p))
		default:
			m.t.Fatalf("parameter %d is a %T", i, p)
		}
		pointers[i] = address(values[i:])
	}
	f, ok := m.functions[kernel]
	if !ok {
		m.t.Fatalf("no kernel %s", kernel)
	}
	return m.Call("cuLaunchKernel", f, uintptr(grid[0]), uintptr(grid[1]), uintptr(grid[2]), uintptr(threads), 1, 1, uintptr(shared), 0, address(pointers), 0)
}

// run is launch and wait; it returns the error that the device has then.
func (m *machine) run(kernel string, blocks, threads, shared int, params ...any) int {
	m.t.Helper()
	if e := m.launch(kernel, [3]int{blocks, 1, 1}, threads, shared, params...); e != 0 {
		return e
	}
	return m.Call("cuCtxSynchronize")
}

func (m *machine) runs(kernel string, blocks, threads, shared int, params ...any) {
	m.t.Helper()
	if e := m.run(kernel, blocks, threads, shared, params...); e != 0 {
		m.t.Fatalf("%s: error %d: %s", kernel, e, m.Fault())
	}
}
