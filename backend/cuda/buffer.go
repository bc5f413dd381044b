//go:build cuda

package cuda

import (
	"fmt"

	"nrt/backend/cuda/internal/driver"
	"nrt/backend/device"
)

// dtype is how the numbers of a buffer are kept.
type dtype uint8

const (
	dtF32 dtype = iota
	dtBF16
	dtM8 // Moment8: a byte a number, then the scales; see memory
	dtV8 // Variance8, likewise
	dtQ8 // Weights in format Q8 alone; see weights.go
)

// size is the bytes of a number, scales aside.
func (t dtype) size() int { return [...]int{4, 2, 1, 1, 1}[t] }

// suffix is how names of kernels end.
func (t dtype) suffix() string { return [...]string{"f32", "bf16", "m8", "v8", "q8"}[t] }

func (t dtype) String() string { return t.suffix() }

// devptr is an address in the card's memory. It never leaves this package.
type devptr uint64

// memory is one allocation and what lies in it:
//
//	f32, bf16       the numbers
//	m8, v8          the codes, whole blocks of device.Block8, then a float32
//	                scale for each block
//	Master of bf16  the numbers in bf16; master holds them in float32
type memory struct {
	d      *dev
	dt     dtype
	kind   device.Kind
	n      int
	base   devptr
	master devptr // of a Master that has a float32 copy, else 0
	freed  bool
}

// buffer is a run of an allocation.
type buffer struct {
	mem    *memory
	off, n int
}

func (b *buffer) Len() int { return b.n }

func (b *buffer) View(offset, n int) device.Buffer {
	if b.mem.dt == dtM8 || b.mem.dt == dtV8 {
		panic(fmt.Sprintf("cuda: View of a buffer of kind %v", b.mem.kind))
	}
	if offset < 0 || n < 0 || offset+n > b.n {
		panic(fmt.Sprintf("cuda: View(%d, %d) of a buffer of %d", offset, n, b.n))
	}
	return &buffer{mem: b.mem, off: b.off + offset, n: n}
}

// ptr is the address of the first number in the compute type.
func (b *buffer) ptr() devptr { return b.mem.base + devptr(b.off*b.mem.dt.size()) }

// dt is the type at ptr.
func (b *buffer) dt() dtype { return b.mem.dt }

func (b *buffer) kind() device.Kind { return b.mem.kind }

// master is the address of the float32 copy that AdamW updates, 0 where the
// numbers at ptr are all there is.
func (b *buffer) master() devptr {
	if b.mem.master == 0 {
		return 0
	}
	return b.mem.master + devptr(4*b.off)
}

// codes and scales are the two parts of a buffer of moments.
func (b *buffer) codes() devptr  { return b.mem.base }
func (b *buffer) scales() devptr { return b.mem.base + devptr(blocks8(b.n)*device.Block8) }

// blocks8 is how many blocks n numbers of moments make.
func blocks8(n int) int { return (n + device.Block8 - 1) / device.Block8 }

// bytes is what the memory at base takes.
func (m *memory) bytes() int {
	if m.dt == dtM8 || m.dt == dtV8 {
		return blocks8(m.n) * (device.Block8 + 4)
	}
	return m.n * m.dt.size()
}

func (d *dev) Alloc(n int) device.Buffer { return d.AllocAs(device.Compute, n) }

func (d *dev) AllocAs(k device.Kind, n int) device.Buffer {
	b, err := d.alloc(k, n)
	d.ex.fail(err)
	return b
}

func (d *dev) Reserve(k device.Kind, n int) (device.Buffer, error) {
	b, err := d.alloc(k, n)
	switch {
	case driver.OutOfMemory(err):
		return nil, fmt.Errorf("%s: %d numbers: %w", d.name, n, noMemory{err})
	case err != nil:
		d.ex.fail(err)
		return nil, err
	}
	return b, nil
}

func (d *dev) Lazy() bool { return false }

func (d *dev) Bytes(k device.Kind, n int64) int64 {
	switch dt := d.typeOf(k); {
	case dt == dtM8 || dt == dtV8:
		return (n + device.Block8 - 1) / device.Block8 * (device.Block8 + 4)
	case d.copies(k):
		return n * int64(dt.size()+4)
	default:
		return n * int64(dt.size())
	}
}

// copies tells whether buffers of a kind have a copy in float32 behind them.
func (d *dev) copies(k device.Kind) bool { return k == device.Master && d.dt != dtF32 }

// alloc takes the memory for a buffer; where the driver fails the buffer has none.
func (d *dev) alloc(k device.Kind, n int) (*buffer, error) {
	if n < 0 {
		panic(fmt.Sprintf("cuda: Alloc(%d)", n))
	}
	m := &memory{d: d, kind: k, n: n, dt: d.typeOf(k)}
	b := &buffer{mem: m, n: n}
	d.lock()
	defer d.unlock()
	var err error
	if m.base, err = d.reserve(m.bytes()); err != nil {
		return b, err
	}
	if d.copies(k) {
		if m.master, err = d.reserve(4 * n); err != nil {
			d.release(m.base)
			m.base = 0
			return b, err
		}
	}
	d.clear(b)
	return b, nil
}

// typeOf is how buffers of a kind keep their numbers.
func (d *dev) typeOf(k device.Kind) dtype {
	switch k {
	case device.Compute, device.Master:
		return d.dt
	case device.Wide:
		return dtF32
	case device.Moment8:
		return dtM8
	case device.Variance8:
		return dtV8
	}
	panic(fmt.Sprintf("cuda: Alloc of kind %v", k))
}

func (d *dev) Free(b device.Buffer) {
	d.lock()
	defer d.unlock()
	if w, ok := b.(*weights); ok {
		d.weights("Free", "b", w, w.rows, w.cols).release()
		return
	}
	buf := d.own("Free", "b", b)
	if buf.n != buf.mem.n {
		panic("cuda: Free of a view")
	}
	buf.mem.freed = true
	d.release(buf.mem.base)
	d.release(buf.mem.master)
}

// own converts a Buffer that must be of this device and alive.
func (d *dev) own(op, name string, b device.Buffer) *buffer {
	buf, ok := b.(*buffer)
	switch {
	case !ok:
		panic(fmt.Sprintf("cuda: %s: %s is %T, not a buffer of this device", op, name, b))
	case buf.mem.d != d:
		panic(fmt.Sprintf("cuda: %s: %s is a buffer of another device", op, name))
	case buf.mem.freed:
		panic(fmt.Sprintf("cuda: %s: %s was freed", op, name))
	}
	return buf
}

// in is an input of exactly n numbers, of one of types (none given: any).
func (d *dev) in(op, name string, b device.Buffer, n int, types ...dtype) *buffer {
	buf := d.own(op, name, b)
	if buf.n != n {
		panic(fmt.Sprintf("cuda: %s: %s has %d floats, want %d", op, name, buf.n, n))
	}
	if len(types) == 0 {
		return buf
	}
	for _, t := range types {
		if buf.mem.dt == t {
			return buf
		}
	}
	panic(fmt.Sprintf("cuda: %s: %s is %v (%v), want %v", op, name, buf.mem.kind, buf.mem.dt, append([]dtype(nil), types...)))
}

// out is an output of exactly n numbers, of one of types (none given: any).
func (d *dev) out(op, name string, b device.Buffer, n int, types ...dtype) *buffer {
	return d.in(op, name, b, n, types...)
}

// rowsOf is the number of rows of width floats in b.
func (d *dev) rowsOf(op, name string, b device.Buffer, width int) int {
	n := b.Len()
	if width <= 0 || n%width != 0 {
		panic(fmt.Sprintf("cuda: %s: %s has %d floats, not rows of %d", op, name, n, width))
	}
	return n / width
}

// positive panics unless all dims are.
func positive(op string, dims ...int) {
	for _, n := range dims {
		if n <= 0 {
			panic(fmt.Sprintf("cuda: %s: dimensions %v must be positive", op, append([]int(nil), dims...)))
		}
	}
}

// checkIDs panics unless every id is in [0, n).
func checkIDs(op, name string, ids []int32, n int) {
	for i, id := range ids {
		if id < 0 || int(id) >= n {
			panic(fmt.Sprintf("cuda: %s: %s[%d] is %d, want 0 <= id < %d", op, name, i, id, n))
		}
	}
}
