//go:build cuda

package driver

// #include "shim.h"
import "C"

import (
	"math"
	"strings"
	"unsafe"

	"gorgonia.org/cu"
)

// The handles of cu are structs of one pointer that it keeps to itself.
var (
	_ [8]byte = [unsafe.Sizeof(cu.Stream{})]byte{}
	_ [8]byte = [unsafe.Sizeof(cu.Module{})]byte{}
	_ [8]byte = [unsafe.Sizeof(cu.Function{})]byte{}
)

func stream(s cu.Stream) C.CUstream { return *(*C.CUstream)(unsafe.Pointer(&s)) }

// StreamHandle is the address that other libraries know s by.
func StreamHandle(s cu.Stream) uintptr { return uintptr(unsafe.Pointer(stream(s))) }

// FunctionHandle is what Launch knows f by.
func FunctionHandle(f cu.Function) uint64 { return *(*uint64)(unsafe.Pointer(&f)) }

// Attributes of a card that cu does not name: the bytes of shared memory that a
// block may have if it asks (AllowShared), and whether there are pools.
const (
	SharedOptIn cu.DeviceAttribute = C.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
	MemoryPools cu.DeviceAttribute = C.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
)

// HostAlloc returns n bytes of pinned host memory, which the card reads and
// writes while the processor goes on. Free them with HostFree.
func HostAlloc(n int) ([]byte, error) {
	var p unsafe.Pointer
	if err := fail("cuMemHostAlloc", C.cuMemHostAlloc(&p, C.size_t(n), 0)); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), n), nil
}

// HostFree gives memory of HostAlloc back.
func HostFree(b []byte) error {
	return fail("cuMemFreeHost", C.cuMemFreeHost(unsafe.Pointer(unsafe.SliceData(b))))
}

// Pool is memory of a card from which a stream allocates in its own order.
type Pool struct{ p C.CUmemoryPool }

// NewPool makes a pool that keeps what is freed until it is destroyed.
func NewPool(dev cu.Device) (Pool, error) {
	props := C.CUmemPoolProps{allocType: C.CU_MEM_ALLOCATION_TYPE_PINNED}
	props.location._type = C.CU_MEM_LOCATION_TYPE_DEVICE
	props.location.id = C.int(dev)
	var pool Pool
	if err := fail("cuMemPoolCreate", C.cuMemPoolCreate(&pool.p, &props)); err != nil {
		return Pool{}, err
	}
	keep := C.cuuint64_t(math.MaxUint64)
	err := fail("cuMemPoolSetAttribute", C.cuMemPoolSetAttribute(pool.p, C.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, unsafe.Pointer(&keep)))
	if err != nil {
		pool.Destroy()
		return Pool{}, err
	}
	return pool, nil
}

// Alloc returns n bytes that may be used in s from here on.
func (p Pool) Alloc(n int, s cu.Stream) (cu.DevicePtr, error) {
	var at C.CUdeviceptr
	err := fail("cuMemAllocFromPoolAsync", C.cuMemAllocFromPoolAsync(&at, C.size_t(n), p.p, stream(s)))
	return cu.DevicePtr(at), err
}

// Free gives memory of Alloc back once s has come this far.
func (p Pool) Free(at cu.DevicePtr, s cu.Stream) error {
	return fail("cuMemFreeAsync", C.cuMemFreeAsync(C.CUdeviceptr(at), stream(s)))
}

// Kept is how many bytes the pool has that were given back and can be given again.
func (p Pool) Kept() (int64, error) {
	var all, given C.cuuint64_t
	for attr, to := range map[C.CUmemPool_attribute]*C.cuuint64_t{
		C.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: &all, C.CU_MEMPOOL_ATTR_USED_MEM_CURRENT: &given,
	} {
		if err := fail("cuMemPoolGetAttribute", C.cuMemPoolGetAttribute(p.p, attr, unsafe.Pointer(to))); err != nil {
			return 0, err
		}
	}
	return int64(all) - int64(given), nil
}

// Trim returns to the driver what is free in the pool.
func (p Pool) Trim() error { return fail("cuMemPoolTrimTo", C.cuMemPoolTrimTo(p.p, 0)) }

// Destroy gives the pool's memory back.
func (p Pool) Destroy() error { return fail("cuMemPoolDestroy", C.cuMemPoolDestroy(p.p)) }

// LoadModule compiles PTX for the card of the current context. An error has the
// compiler's message.
func LoadModule(ptx string) (cu.Module, error) {
	const size = 8192
	text, log := C.CString(ptx), (*C.char)(C.calloc(1, size))
	defer C.free(unsafe.Pointer(text))
	defer C.free(unsafe.Pointer(log))
	// The values are passed as pointers or as numbers in their place, in memory
	// that is C's, so that nothing of Go is referred to.
	options := (*[2]C.CUjit_option)(C.calloc(2, C.size_t(unsafe.Sizeof(C.CUjit_option(0)))))
	values := (*[2]uintptr)(C.calloc(2, 8))
	defer C.free(unsafe.Pointer(options))
	defer C.free(unsafe.Pointer(values))
	options[0], values[0] = C.CU_JIT_ERROR_LOG_BUFFER, uintptr(unsafe.Pointer(log))
	options[1], values[1] = C.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, size-1
	var m C.CUmodule
	err := fail("cuModuleLoadDataEx", C.cuModuleLoadDataEx(&m, unsafe.Pointer(text), 2, &options[0], (*unsafe.Pointer)(unsafe.Pointer(values))))
	if e, ok := err.(*Error); ok {
		if said := strings.TrimSpace(C.GoString(log)); said != "" {
			e.Text += ": " + said
		}
	}
	return *(*cu.Module)(unsafe.Pointer(&m)), err
}

// AllowShared lets launches of f ask for n bytes of dynamic shared memory, which
// above 48 KiB must be allowed first.
func AllowShared(f cu.Function, n int) error {
	return fail("cuFuncSetAttribute", C.cuFuncSetAttribute(*(*C.CUfunction)(unsafe.Pointer(&f)), C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(n)))
}

// Grid is how a kernel is laid out: blocks (x, y, z), threads a block (x, y, z),
// bytes of dynamic shared memory.
type Grid [7]uint32

// Launch is one launch of a kernel: the function (FunctionHandle), where its
// parameters stand among those of all launches and their bytes, packed as C would
// a struct of them. It has no pointers and no padding.
type Launch struct {
	Fn    uint64
	Off   uint64
	Bytes uint32
	Grid  Grid
}

var _ [48]byte = [unsafe.Sizeof(Launch{})]byte{}

// LaunchAll enqueues launches in s, in order, with one call from Go to C. It
// allocates nothing.
func LaunchAll(l []Launch, params []byte, s cu.Stream) error {
	if len(l) == 0 {
		return nil
	}
	r := C.nrt_cuda_launch((*C.nrt_launch)(unsafe.Pointer(unsafe.SliceData(l))), C.size_t(len(l)),
		(*C.uchar)(unsafe.SliceData(params)), stream(s))
	if r == C.CUDA_SUCCESS {
		return nil
	}
	return fail("cuLaunchKernel", r)
}

// Profile begins or ends what a profiler of NVIDIA's looks at, where it was told to
// wait for that; without a profiler nothing happens.
func Profile(on bool) error {
	if on {
		return fail("cuProfilerStart", C.cuProfilerStart())
	}
	return fail("cuProfilerStop", C.cuProfilerStop())
}

// Graph is work of a stream, recorded to be enqueued again by one call.
type Graph struct{ exec C.CUgraphExec }

// Capture records what run enqueues in s; nothing of it is executed, also where
// there is an error.
func Capture(s cu.Stream, run func() error) (Graph, error) {
	if err := fail("cuStreamBeginCapture", C.cuStreamBeginCapture(stream(s), C.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)); err != nil {
		return Graph{}, err
	}
	failed := run()
	var g C.CUgraph
	err := fail("cuStreamEndCapture", C.cuStreamEndCapture(stream(s), &g))
	if err != nil {
		C.cuStreamEndCapture(stream(s), &g) // it may have left the stream recording
	}
	if g != nil {
		defer C.cuGraphDestroy(g)
	}
	if failed != nil {
		return Graph{}, failed
	}
	if err != nil {
		return Graph{}, err
	}
	var out Graph
	err = fail("cuGraphInstantiateWithFlags", C.cuGraphInstantiateWithFlags(&out.exec, g, 0))
	return out, err
}

// Launch enqueues the graph in s.
func (g Graph) Launch(s cu.Stream) error {
	return fail("cuGraphLaunch", C.cuGraphLaunch(g.exec, stream(s)))
}

// Destroy forgets the graph.
func (g Graph) Destroy() error { return fail("cuGraphExecDestroy", C.cuGraphExecDestroy(g.exec)) }
