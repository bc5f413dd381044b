package cpu

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

// panels are the right operand of a matrix product, bᵀ for weights b (n, k),
// packed for the micro-kernel: panel j holds columns j·nr … as (k, nr), the last
// one filled up with zeros. One of the slices is set, by format.
//
// A product widens what it reads to T and then does what it would do with the
// widened matrix, so a format costs no accuracy but its rounding, every row of a
// batch is the same bits as alone, and AVX2 and AVX-512 agree. (Quantised
// activations, for VPDPBUSD, would round more.)
//
// On a device of type BFloat16 see bf16.go.
type panels[T real] struct {
	format device.Format
	n, k   int
	full   []T      // F32
	half   []uint16 // BF16
	bytes  []byte   // Q8: per 32 deep, nr scales (bfloat16), then (32, nr) int8
	rounds bool     // the left operand is rounded to bfloat16
	pairs  bool     // an element of full, of which k count, is a pair of bfloat16
}

// weights are panels that stand for a buffer of rows of so many cols.
type weights[T real] struct {
	p      panels[T]
	cols   int
	nr     int
	format device.Format // as asked for
}

func (w *weights[T]) Len() int              { return w.p.n * w.cols }
func (w *weights[T]) Rows() int             { return w.p.n }
func (w *weights[T]) Cols() int             { return w.cols }
func (w *weights[T]) Format() device.Format { return w.format }

func (w *weights[T]) View(offset, n int) device.Buffer {
	panic("cpu: View of read-only Weights")
}

const q8Block = device.Q8Block

// panelSize is how many elements of its slice a panel takes.
func panelSize(f device.Format, k, nr int) int {
	if f == device.Q8 {
		return (k + q8Block - 1) / q8Block * (2 + q8Block) * nr
	}
	return k * nr
}

func (d *dev[T]) NewWeights(f device.Format, rows, cols int, read func(first int, dst []float32) error) (device.Weights, error) {
	positive("NewWeights", rows, cols)
	if f > device.Q8 {
		panic(fmt.Sprintf("cpu: NewWeights: format is %v", f))
	}
	nr := d.k.nr
	w := &weights[T]{p: d.panels(f, rows, cols), cols: cols, nr: nr, format: f}
	size := (rows + nr - 1) / nr * panelSize(w.p.format, w.p.k, nr)
	d.mu.Lock()
	switch w.p.format {
	case device.F32:
		w.p.full = take[T](&d.slab, size)
	case device.BF16:
		w.p.half = take[uint16](&d.slab, size)
	case device.Q8:
		w.p.bytes = take[byte](&d.slab, size)
	}
	d.mu.Unlock()
	const atOnce = 1 << 20 // floats
	step := min(max(1, atOnce/cols/nr), (rows+nr-1)/nr) * nr
	buf := make([]float32, min(step, rows)*cols)
	for i := 0; i < rows; i += step {
		n := min(step, rows-i)
		part := buf[:n*cols]
		if err := read(i, part); err != nil {
			return nil, err
		}
		d.pack(w, i, part)
	}
	return w, nil
}

// pack stores rows of numbers, from row first on, which begins a panel.
func (d *dev[T]) pack(w *weights[T], first int, part []float32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	cols, nr := w.cols, w.nr
	rows := len(part) / cols
	d.pool.each((rows+nr-1)/nr, 8*nr*cols, func(worker, lo, hi int) {
		for t := lo; t < hi; t++ {
			s := &d.scratch[worker]
			panel, h := grow(&s.b, nr*cols), min(nr, rows-t*nr)
			if h < nr {
				clear(panel)
			}
			from := part[t*nr*cols : (t*nr+h)*cols]
			x, same := any(from).([]T)
			if !same {
				x = grow(&s.a, len(from))
				convert(x, from)
			}
			d.k.transpose(panel, nr, x, cols, h, cols)
			w.p.set(first/nr+t, nr, panel)
		}
	})
}

// set stores panel t, given as (k, nr) of numbers.
func (p *panels[T]) set(t, nr int, panel []T) {
	size := panelSize(p.format, p.k, nr)
	if p.pairs {
		to := any(p.full).([]float32)[t*size : (t+1)*size]
		for i := range to {
			at, second := i/nr*2*nr+i%nr, uint16(0)
			if at+nr < len(panel) {
				second = toBF16(float32(panel[at+nr]))
			}
			to[i] = pairOf(toBF16(float32(panel[at])), second)
		}
		return
	}
	switch p.format {
	case device.F32:
		copy(p.full[t*size:], panel)
	case device.BF16:
		to := p.half[t*size:][:len(panel)]
		for i, x := range panel {
			to[i] = toBF16(float32(x))
		}
	case device.Q8:
		to := p.bytes[t*size : (t+1)*size]
		for q := 0; q < p.k; q += q8Block {
			h := min(q8Block, p.k-q)
			for j := range nr {
				quantise(to, panel[q*nr+j:], h, nr, j)
			}
			to = to[(2+q8Block)*nr:]
		}
	}
}

// quantise stores column j of a block, h deep, of numbers nr apart.
func quantise[T real](to []byte, x []T, h, nr, j int) {
	var top float32
	for i := range h {
		v := float32(math.Abs(float64(x[i*nr])))
		if !(v <= math.MaxFloat32) { // not a number that a scale could reach
			top = float32(math.NaN())
			break
		}
		top = max(top, v)
	}
	bits := toBF16(top / 127)
	to[2*j], to[2*j+1] = byte(bits), byte(bits>>8)
	scale := float64(fromBF16(bits))
	to = to[2*nr+j:]
	for i := range h {
		if scale > 0 {
			// Only a scale too small for its eight bits makes the limits matter.
			q := math.RoundToEven(float64(x[i*nr]) / scale)
			to[i*nr] = byte(int8(max(-127, min(127, q))))
		}
	}
}

// toBF16 rounds to nearest even; NaN stays NaN.
func toBF16(x float32) uint16 {
	bits := math.Float32bits(x)
	if x != x {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

func fromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// widen sets dst to rows [p, p+h) of panel t as (h, nr). p is a multiple of 32.
func (d *dev[T]) widen(dst []T, b *panels[T], t, p, h int) {
	nr := d.k.nr
	size := panelSize(b.format, b.k, nr)
	switch b.format {
	case device.F32:
		copy(dst[:h*nr], b.full[t*size+p*nr:])
	case device.BF16:
		d.k.widenBF16(dst[:h*nr], b.half[t*size+p*nr:][:h*nr])
	case device.Q8:
		from := b.bytes[t*size+p/q8Block*(2+q8Block)*nr : (t+1)*size]
		for q := 0; q < h; q += q8Block {
			d.k.widenQ8(dst[q*nr:], from[:(2+q8Block)*nr], nr, min(q8Block, h-q))
			from = from[(2+q8Block)*nr:]
		}
	}
}

// row sets dst to row i.
func (w *weights[T]) row(dst []T, i int) {
	b, nr, c := &w.p, w.nr, i%w.nr
	panel := i / nr * panelSize(b.format, b.k, nr)
	for p := range dst {
		switch {
		case b.pairs:
			pair := math.Float32bits(any(b.full).([]float32)[panel+p/2*nr+c])
			dst[p] = T(fromBF16(uint16(pair >> (p % 2 * 16))))
		case b.format == device.F32:
			dst[p] = b.full[panel+p*nr+c]
		case b.format == device.BF16:
			dst[p] = T(fromBF16(b.half[panel+p*nr+c]))
		default:
			block := b.bytes[panel+p/q8Block*(2+q8Block)*nr:]
			scale := fromBF16(uint16(block[2*c]) | uint16(block[2*c+1])<<8)
			dst[p] = T(scale) * T(int8(block[(2+p%q8Block)*nr+c]))
		}
	}
}

// part is the panels of columns [j, j+n); j is a multiple of nr.
func (p *panels[T]) part(j, n, nr int) panels[T] {
	at := j / nr * panelSize(p.format, p.k, nr)
	q := *p
	q.n = n
	switch p.format {
	case device.F32:
		q.full = p.full[at:]
	case device.BF16:
		q.half = p.half[at:]
	case device.Q8:
		q.bytes = p.bytes[at:]
	}
	return q
}

// weights tells whether b is Weights of this device with the given shape; another
// shape panics.
func (d *dev[T]) weights(op, name string, b device.Buffer, rows, cols int) *weights[T] {
	w, ok := b.(*weights[T])
	if ok && (w.p.n != rows || w.cols != cols) {
		panic(fmt.Sprintf("cpu: %s: %s is (%d, %d), want (%d, %d)", op, name, w.p.n, w.cols, rows, cols))
	}
	return w
}
