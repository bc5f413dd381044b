// Package cpu is the device.Device that runs on the host's processor, in
// float32, if asked for with products in bfloat16, or float64, with no cgo.
//
// # How it is built
//
// Every operation is written once, over a table of a dozen row kernels
// (kernels.go): one matrix micro-kernel and a few vector functions. The table
// in plain Go is the oracle and runs everywhere; generated kernels take its place
// for float32: AVX2 and AVX-512 on amd64, NEON on arm64. Read kernels.go, then
// matmul.go and weights.go, bf16.go (products that round), then attention.go.
//
// # Reproducibility
//
// Each element of a matrix product is one chain of multiply-adds in the order
// of k, starting from what C held, and no operation divides a sum by the number
// of threads. Results therefore do not depend on the number of threads, on
// blocking, or on which rows share a call: a row decoded alone from a cache
// equals, bit for bit, the same row of a training batch. AVX2 and AVX-512 agree, too; a
// processor that multiplies pairs of bfloat16 adds two products at a time, so devices of
// type BFloat16 agree with each other to float32's last bits.
//
// # NaN and infinity
//
// NaN and infinity propagate: a NaN in a row reaches what that row computes. In
// Attention a non-finite value row (v) may also reach earlier queries of the
// same Seq, which multiply it by a probability of exactly zero.
//
// A Device may be shared by goroutines: operations exclude each other.
package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"nrt/backend/device"
)

// Type is the float type a device computes in.
type Type int

const (
	// Float32 is the type to train and sample in.
	Float32 Type = iota
	// Float64 is for gradient checks; it always runs the generic kernels.
	Float64
	// BFloat16 is Float32 but for matrix products, which round what they multiply to
	// bfloat16, and Weights, which are kept in it; sums are float32, as on cards.
	// Processors that multiply pairs of bfloat16 (AMD's from Zen 4 on) do it twice as
	// fast; others compute the same, and gain nothing but the memory of Weights.
	BFloat16
)

// Options says what kind of CPU device to make. The zero value is float32, the
// fastest kernels of this machine, and GOMAXPROCS threads.
type Options struct {
	Type Type
	// Threads is how many threads compute, the caller's included; 0 means
	// GOMAXPROCS.
	Threads int
}

// New makes a CPU device. Close it to stop its threads.
//
// The environment variable NRT_CPU (generic, avx2, avx512 or neon) overrides the
// choice of float32 kernels; New fails if this machine cannot run them.
func New(o Options) (device.Device, error) {
	if o.Threads < 0 {
		return nil, fmt.Errorf("cpu: threads: want >= 0, have %d", o.Threads)
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	switch o.Type {
	case Float32, BFloat16:
		k, err := kernels32()
		if err != nil {
			return nil, err
		}
		d := newDev(k, o.Threads)
		d.bf16 = o.Type == BFloat16
		return d, nil
	case Float64:
		return newDev(genericKernels[float64]("float64"), o.Threads), nil
	}
	return nil, fmt.Errorf("cpu: type: want Float32, Float64 or BFloat16, have %d", o.Type)
}

// dev is a CPU device of one float type.
type dev[T real] struct {
	mu      sync.Mutex
	k       *kernels[T]
	bf16    bool // see BFloat16
	pool    *pool
	packs   packCache[T]
	slab    slab         // memory of Weights
	scratch []scratch[T] // one per worker
	shared  []T          // packed right operand of the matrix product in progress
	tiles   []T          // and its left one
	rounded rounded[T]   // operands in bfloat16
	logits  []T          // gradient of the logits in ClassifierBackward
	jobs    jobs[T]
}

func newDev[T real](k *kernels[T], threads int) *dev[T] {
	return &dev[T]{k: k, pool: newPool(threads), scratch: make([]scratch[T], threads)}
}

// jobs are those of the operations, one of each, since operations exclude each
// other. They keep what they point to until another operation of their kind, or
// until anything is freed; see Free.
type jobs[T real] struct {
	product    product[T]
	few        few[T]
	packing    packing[T]
	round      roundJob[T]
	flat       flatJob[T]
	move       moveJob[T]
	sum        sumJob[T]
	embed      embedJob[T]
	attn       attn[T]
	attnBack   attnBack[T]
	class      class[T]
	norm       normJob[T]
	normBack   normBackJob[T]
	rope       ropeJob[T]
	swiglu     swigluJob[T]
	swigluBack swigluBackJob[T]
	adamw      adamwJob[T]
	adamw8     adamw8Job[T]
	squares    squaresJob[T]
	sample     sampleJob[T]
}

// scratch is memory that one worker reuses from task to task.
type scratch[T real] struct {
	a, b, c, d []T
	sampler    sampler[T]
	blocks     []block // of the keys that a decoding task reads
	at         []int   // of mixRows
}

// grow returns *s with at least n elements, of unspecified content.
func grow[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n+n/4)
	}
	*s = (*s)[:cap(*s)]
	return (*s)[:n]
}

func (d *dev[T]) Name() string {
	name := d.k.name
	switch {
	case d.pairs():
		name += "_bf16"
	case d.bf16:
		name += " bf16"
	}
	return fmt.Sprintf("cpu %s ×%d", name, d.pool.threads)
}

func (d *dev[T]) Sync() error { return nil }

func (d *dev[T]) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pool.close()
	d.packs.clear()
	d.scratch, d.shared, d.tiles, d.rounded, d.logits = make([]scratch[T], d.pool.threads), nil, nil, rounded[T]{}, nil
	d.jobs = jobs[T]{}
	return nil
}

// memory is one allocation. Its version counts the operations that wrote to
// it, so that derived data (packed weights) can tell when they are stale. Views keep
// memory that was freed, so that it is known who uses it.
type memory[T real] struct {
	data    []T
	version uint64
	freed   bool
}

// buffer is a run of an allocation.
type buffer[T real] struct {
	mem  *memory[T]
	off  int
	data []T
}

func (b *buffer[T]) Len() int { return len(b.data) }

func (b *buffer[T]) View(offset, n int) device.Buffer {
	if offset < 0 || n < 0 || offset+n > len(b.data) {
		panic(fmt.Sprintf("cpu: View(%d, %d) of a buffer of %d", offset, n, len(b.data)))
	}
	return &buffer[T]{mem: b.mem, off: b.off + offset, data: b.data[offset : offset+n : offset+n]}
}

func (d *dev[T]) Alloc(n int) device.Buffer { return d.AllocAs(device.Compute, n) }

// AllocAs keeps Compute, Master and Wide alike.
func (d *dev[T]) AllocAs(k device.Kind, n int) device.Buffer {
	if n < 0 || k > device.Variance8 {
		panic(fmt.Sprintf("cpu: AllocAs(%v, %d)", k, n))
	}
	if k == device.Moment8 || k == device.Variance8 {
		return newMoments(k, n)
	}
	m := &memory[T]{data: zeroed[T](n)}
	return &buffer[T]{mem: m, data: m.data}
}

func (d *dev[T]) Lazy() bool { return true }

func (d *dev[T]) Reserve(k device.Kind, n int) (device.Buffer, error) { return d.AllocAs(k, n), nil }

func (d *dev[T]) Bytes(k device.Kind, n int64) int64 {
	if k == device.Moment8 || k == device.Variance8 {
		return n + 4*((n+device.Block8-1)/device.Block8)
	}
	return n * int64(unsafe.Sizeof(*new(T)))
}

func (d *dev[T]) Free(b device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.jobs = jobs[T]{}
	switch b := b.(type) {
	case *weights[T]:
		if b.p.n == 0 {
			panic("cpu: Free: b was freed")
		}
		b.p = panels[T]{}
	case *moments:
		b.codes, b.scales = nil, nil
	default:
		buf := d.own("Free", "b", b)
		if len(buf.data) != len(buf.mem.data) {
			panic("cpu: Free of a view")
		}
		d.packs.drop(buf.mem)
		buf.mem.data, buf.data, buf.mem.freed = nil, nil, true
	}
}

// own converts a Buffer that must be of this kind of device and alive.
func (d *dev[T]) own(op, name string, b device.Buffer) *buffer[T] {
	buf, ok := b.(*buffer[T])
	if !ok {
		panic(fmt.Sprintf("cpu: %s: %s is %T, not a buffer of this device", op, name, b))
	}
	if buf.mem.freed {
		panic(fmt.Sprintf("cpu: %s: %s was freed", op, name))
	}
	return buf
}

// in is the data of an input of exactly n floats.
func (d *dev[T]) in(op, name string, b device.Buffer, n int) []T {
	buf := d.own(op, name, b)
	if len(buf.data) != n {
		panic(fmt.Sprintf("cpu: %s: %s has %d floats, want %d", op, name, len(buf.data), n))
	}
	return buf.data
}

// out is the data of an output of exactly n floats; it counts as written.
func (d *dev[T]) out(op, name string, b device.Buffer, n int) []T {
	data := d.in(op, name, b, n)
	b.(*buffer[T]).mem.version++
	return data
}

// rowsOf is the number of rows of width floats in b.
func (d *dev[T]) rowsOf(op, name string, b device.Buffer, width int) int {
	n := d.own(op, name, b).Len()
	if width <= 0 || n%width != 0 {
		panic(fmt.Sprintf("cpu: %s: %s has %d floats, not rows of %d", op, name, n, width))
	}
	return n / width
}

func positive(op string, dims ...int) {
	for _, n := range dims {
		if n <= 0 {
			// The clone lets dims itself stay on the stack.
			panic(fmt.Sprintf("cpu: %s: dimensions %v must be positive", op, slices.Clone(dims)))
		}
	}
}

// checkIDs panics unless every id is in [0, n).
func checkIDs(op, name string, ids []int32, n int) {
	for i, id := range ids {
		if id < 0 || int(id) >= n {
			panic(fmt.Sprintf("cpu: %s: %s[%d] is %d, want 0 <= id < %d", op, name, i, id, n))
		}
	}
}
