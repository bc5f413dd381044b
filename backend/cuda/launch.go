//go:build cuda

package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"gorgonia.org/cu"
	"nrt/backend/cuda/internal/driver"
	"nrt/backend/device"
)

// Work is collected in a list and handed to the executor (exec.go) by flush. An
// operation takes the lock, checks its arguments, uploads what its kernels need
// of the host's arrays and launches them:
//
//	d.lock()
//	defer d.unlock()
//	x := d.in("Scale", "b", b, b.Len(), dtF32, dtBF16)
//	d.launch("scale_"+x.dt().suffix(), grid(blocks), 256, 0, p(x), i64(x.n), f32(s))
//
// In the steady state this allocates nothing. A list that comes again is
// replayed as a graph (graph.go), so what changes from step to step belongs in
// uploaded arrays, not in parameters and grids.

// dim3 is the blocks of a grid.
type dim3 struct{ x, y, z int }

// grid is x blocks, or x·y, or x·y·z.
func grid(x int, yz ...int) dim3 {
	g := dim3{x, 1, 1}
	if len(yz) > 0 {
		g.y = yz[0]
	}
	if len(yz) > 1 {
		g.z = yz[1]
	}
	return g
}

// param is one parameter of a kernel, of 4 or 8 bytes.
type param struct {
	bits uint64
	size int
}

// p passes the address of b, ptr that of one that was checked, at any address, i32 an
// int, i64 a long long, f32 a float.
func p(b *buffer) param         { return at(b.ptr()) }
func ptr(b device.Buffer) param { return p(b.(*buffer)) }
func at(a devptr) param         { return param{uint64(a), 8} }
func i64(n int) param           { return param{uint64(n), 8} }
func f32(x float64) param       { return param{uint64(math.Float32bits(float32(x))), 4} }
func i32(n int) param {
	if n != int(int32(n)) {
		panic(fmt.Sprintf("cuda: %d does not fit a kernel's int", n))
	}
	return param{uint64(uint32(n)), 4}
}

// item is one launch of a list, or, where Fn is 0, the call of a library whose
// place in calls is Grid[0]. Lists are compared byte by byte.
type item = driver.Launch

// list is work that was not handed over yet.
type list struct {
	items  []item
	params []byte
	calls  []*libraryCall
	args   []segment // what upload took; the last one is being filled
	frees  []devptr  // to give back after all of it
	host   []byte    // what args[0].host is to grow in
}

// segment is memory of the card that receives host when the list starts.
type segment struct {
	base  devptr
	bytes int // of the memory
	host  []byte
}

// libraryCall is work of a library, such as a matrix product of cuBLAS. run
// enqueues it in s with the arguments that call was given; it must do the same
// whenever the arguments are the same, since what it enqueues is replayed.
type libraryCall struct {
	name string
	run  func(s cu.Stream, args []uint64) error
}

// kernel is a function of a loaded module.
type kernel struct {
	fn     cu.Function
	handle uint64
	shared int // dynamic shared memory it may use without asking
}

// freeShared is the dynamic shared memory that every launch may have: of 48 KiB,
// which hold the arrays that a kernel has of its own as well, at most 8 of them.
const freeShared = 40 << 10

// launch enqueues a kernel on a grid of blocks of threads, with shared bytes of
// dynamic shared memory. An empty grid is no work.
func (d *dev) launch(name string, g dim3, threads, shared int, ps ...param) {
	if g.x <= 0 || g.y <= 0 || g.z <= 0 || d.failed() {
		return
	}
	if g.x > math.MaxInt32 || g.y > 65535 || g.z > 65535 || threads <= 0 || threads > 1024 {
		panic(fmt.Sprintf("cuda: %s: grid %v of %d threads is more than a launch may have", name, g, threads))
	}
	k := d.kernels[name]
	if k == nil || shared > k.shared {
		if k = d.load(name, shared); k == nil {
			return
		}
	}
	l := d.cur
	off := (len(l.params) + 15) &^ 15
	l.params = appendZeros(l.params, off-len(l.params))
	for _, p := range ps {
		if p.size == 8 {
			if len(l.params)&4 != 0 {
				l.params = appendZeros(l.params, 4)
			}
			l.params = binary.LittleEndian.AppendUint64(l.params, p.bits)
		} else {
			l.params = binary.LittleEndian.AppendUint32(l.params, uint32(p.bits))
		}
	}
	l.items = append(l.items, item{Fn: k.handle, Off: uint64(off), Bytes: uint32(len(l.params) - off),
		Grid: driver.Grid{uint32(g.x), uint32(g.y), uint32(g.z), uint32(threads), 1, 1, uint32(shared)}})
}

// call enqueues c with args.
func (d *dev) call(c *libraryCall, args ...uint64) {
	if d.failed() {
		return
	}
	l := d.cur
	off := (len(l.params) + 15) &^ 15
	l.params = appendZeros(l.params, off-len(l.params))
	for _, a := range args {
		l.params = binary.LittleEndian.AppendUint64(l.params, a)
	}
	l.items = append(l.items, item{Off: uint64(off), Bytes: uint32(8 * len(args)), Grid: driver.Grid{uint32(len(l.calls))}})
	l.calls = append(l.calls, c)
}

var zeros [16]byte

func appendZeros(b []byte, n int) []byte { return append(b, zeros[:n]...) }

// load makes a kernel ready for launches with shared bytes. It is nil when the
// driver fails.
func (d *dev) load(name string, shared int) *kernel {
	k := d.kernels[name]
	if k == nil {
		file, ok := d.entries[name]
		if !ok {
			panic(fmt.Sprintf("cuda: no kernel %s", name))
		}
		k = &kernel{shared: freeShared}
		if d.do(func() error { return d.ex.load(k, file, name) }) != nil {
			return nil
		}
		d.kernels[name] = k
	}
	if shared > k.shared {
		if shared > d.card.shared {
			panic(fmt.Sprintf("cuda: %s: %d bytes of shared memory, the card has %d", name, shared, d.card.shared))
		}
		if d.do(func() error { return driver.AllowShared(k.fn, shared) }) != nil {
			return nil
		}
		k.shared = shared
	}
	return k
}

// upload copies x to the card and returns its address there, a multiple of 16,
// good for kernels launched before the next flush, which an operation causes by
// download alone.
func (d *dev) upload(x []byte) devptr {
	l := d.cur
	if len(l.args) == 0 {
		l.args = append(l.args, segment{base: d.arena.base, bytes: d.arena.bytes, host: l.host})
	}
	s := &l.args[len(l.args)-1]
	off := (len(s.host) + 15) &^ 15
	if off+len(x) > s.bytes {
		// The memory at hand is full: go on in a larger one, which later lists
		// then have from the start.
		n := max(2*s.bytes, 2*len(x), 64<<10)
		l.args = append(l.args, segment{base: d.allocate(n), bytes: n})
		d.release(d.arena.base)
		s = &l.args[len(l.args)-1]
		d.arena = segment{base: s.base, bytes: n}
		off = 0
	}
	s.host = appendZeros(s.host, off-len(s.host))
	s.host = append(s.host, x...)
	return s.base + devptr(off)
}

// upload32 is upload of int32s.
func (d *dev) upload32(x []int32) devptr { return d.upload(bytesOf(x)) }

// bytesOf is x as the card, little-endian as all hosts it is for, sees it.
func bytesOf[T int32 | uint16 | float32 | float64](x []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(zero)))
}

// workspace is scratch of at least so many bytes, of undefined content. All that
// name the slot share it, and it lives until Close.
func (d *dev) workspace(slot string, bytes int) devptr {
	s := d.spaces[slot]
	if bytes > s.bytes {
		d.release(s.base)
		s = segment{base: d.allocate(bytes + bytes/4), bytes: bytes + bytes/4}
		d.spaces[slot] = s
	}
	return s.base
}
