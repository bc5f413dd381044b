//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"nrt/backend/cuda/internal/driver"
	"nrt/backend/device"
)

const (
	// groupLen is the multiple of numbers to which rows of weights are padded, q8
	// that of Q8; scales are padded to scaleGroup. See kernels/weights.h.
	groupLen   = 16
	q8Len      = device.Q8Block
	scaleGroup = 8
)

// weights is a matrix that kernels/weights.h describes. A format costs no accuracy
// but its rounding: products expand the numbers to the compute type and then do
// what they do with a Buffer.
type weights struct {
	d            *dev
	format       device.Format
	dt           dtype // how the numbers lie: dtF32, dtBF16 or dtQ8
	rows, cols   int
	pitch        int    // numbers from row to row
	data, scales devptr // scales of dtQ8, bfloat16
	freed        bool
}

func (w *weights) Len() int              { return w.rows * w.cols }
func (w *weights) Rows() int             { return w.rows }
func (w *weights) Cols() int             { return w.cols }
func (w *weights) Format() device.Format { return w.format }

func (w *weights) View(offset, n int) device.Buffer {
	panic("cuda: View of read-only Weights")
}

// matrix is the numbers as they lie; only a kernel for w.dt can read them.
func (w *weights) matrix() matrix {
	return matrix{at: w.data, ld: w.pitch, dt: w.dt, padded: true}
}

// scalePitch is how many scales a row has.
func (w *weights) scalePitch() int { return roundUp(w.pitch/q8Len, scaleGroup) }

// part is the rows [i, i+n).
func (w *weights) part(i, n int) *weights {
	v := *w
	v.rows = n
	v.data += devptr(i * w.pitch * w.dt.size())
	if v.scales != 0 {
		v.scales += devptr(i * w.scalePitch() * 2)
	}
	return &v
}

// code is the format as kernels know it.
func (w *weights) code() param {
	switch w.dt {
	case dtF32:
		return i32(0)
	case dtBF16:
		return i32(1)
	}
	return i32(2)
}

// weights is b as Weights of this device of the given shape; nil if it is a
// Buffer. The caller holds the lock.
func (d *dev) weights(op, name string, b device.Buffer, rows, cols int) *weights {
	w, ok := b.(*weights)
	switch {
	case !ok:
		return nil
	case w.d != d:
		panic(fmt.Sprintf("cuda: %s: %s is of another device", op, name))
	case w.freed:
		panic(fmt.Sprintf("cuda: %s: %s was freed", op, name))
	case w.rows != rows || w.cols != cols:
		panic(fmt.Sprintf("cuda: %s: %s is (%d, %d), want (%d, %d)", op, name, w.rows, w.cols, rows, cols))
	}
	return w
}

// NewWeights packs on the card. While it copies and packs some rows, read already
// makes the next.
func (d *dev) NewWeights(f device.Format, rows, cols int, read func(first int, dst []float32) error) (device.Weights, error) {
	positive("NewWeights", rows, cols)
	if f > device.Q8 {
		panic(fmt.Sprintf("cuda: NewWeights: format is %v", f))
	}
	w := &weights{d: d, format: f, rows: rows, cols: cols}
	switch {
	case f == device.Q8:
		w.dt, w.pitch = dtQ8, roundUp(cols, q8Len)
	case f == device.BF16 || d.dt == dtBF16:
		w.dt, w.pitch = dtBF16, roundUp(cols, groupLen)
	default:
		w.dt, w.pitch = dtF32, roundUp(cols, groupLen)
	}
	if err := d.makeRoom(w); err != nil {
		d.Free(w)
		if driver.OutOfMemory(err) {
			err = noMemory{err}
		}
		return nil, fmt.Errorf("%s: weights of %d × %d numbers: %w", d.name, rows, cols, err)
	}
	step := min(rows, max(1, d.gemm.limits.packed/cols))
	buf := make([]float32, step*cols)
	for i := 0; i < rows; i += step {
		n := min(step, rows-i)
		if err := read(i, buf[:n*cols]); err != nil {
			d.Free(w)
			return nil, err
		}
		d.lock()
		d.pack(w.part(i, n), buf[:n*cols])
		d.flush()
		d.unlock()
	}
	return w, nil
}

// noMemory is a lack of memory as the driver tells it.
type noMemory struct{ error }

func (noMemory) Is(target error) bool { return target == device.ErrNoMemory }

// makeRoom takes the memory of w. That there is none is an error and no failure of
// the device, which goes on with the models that it has.
func (d *dev) makeRoom(w *weights) (err error) {
	d.lock()
	defer d.unlock()
	if w.data, err = d.reserve(w.rows * w.pitch * w.dt.size()); err == nil && w.dt == dtQ8 {
		n := w.rows * w.scalePitch()
		if w.scales, err = d.reserve(2 * n); err == nil {
			d.zero(w.scales, dtBF16, n)
		}
	}
	if !driver.OutOfMemory(err) {
		d.ex.fail(err)
	}
	return err
}

// pack enqueues the packing of x into w.
func (d *dev) pack(w *weights, x []float32) {
	const threads = 256
	from := d.upload(bytesOf(x))
	numbers := w.rows * w.pitch
	switch w.dt {
	case dtQ8:
		d.launch("pack_weights_q8", grid(ceilDiv(numbers, threads)), threads, 0,
			at(w.data), at(w.scales), at(from), i32(w.rows), i32(w.cols), i32(w.pitch))
	default:
		d.launch("pack_weights_"+w.dt.suffix(), grid(ceilDiv(numbers, threads)), threads, 0,
			at(w.data), at(from), i32(w.rows), i32(w.cols), i32(w.pitch))
	}
}

// unpackWeights enqueues the numbers of rows [first, first+n) to memory where rows
// are ld numbers of type dt apart.
func (d *dev) unpackWeights(to devptr, dt dtype, w *weights, first, n, ld int) {
	const threads = 256
	d.launch("unpack_weights_"+dt.suffix(), grid(ceilDiv(n*ld/runOf(dt), threads)), threads, 0,
		at(to), at(w.data), at(w.scales), w.code(), i32(w.pitch), i32(first), i32(n), i32(ld))
}

// read fills dst with the numbers, as the device computes with them. The caller holds
// the lock.
func (w *weights) read(dst []float32) {
	d := w.d
	ld := roundUp(w.cols, groupLen)
	step := min(w.rows, max(1, d.gemm.limits.packed/ld))
	buf := make([]float32, step*ld)
	for i := 0; i < w.rows; i += step {
		n := min(step, w.rows-i)
		from := d.workspace("weights", n*ld*4)
		d.unpackWeights(from, dtF32, w, i, n, ld)
		d.download(bytesOf(buf[:n*ld]), from)
		for r := range n {
			copy(dst[(i+r)*w.cols:(i+r+1)*w.cols], buf[r*ld:])
		}
	}
	if w.dt == dtQ8 && d.dt == dtBF16 {
		for i, x := range dst {
			dst[i] = roundBF16(x)
		}
	}
}

// roundBF16 is the nearest bfloat16, ties to even.
func roundBF16(x float32) float32 {
	if x != x {
		return x
	}
	bits := math.Float32bits(x)
	return math.Float32frombits((bits + 0x7fff + bits>>16&1) &^ 0xffff)
}

// release gives the memory back. The caller holds the lock.
func (w *weights) release() {
	w.freed = true
	w.d.release(w.data)
	w.d.release(w.scales)
}
