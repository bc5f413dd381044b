package cpu

import (
	"math"

	"nrt/backend/device"
)

// On a device of type BFloat16 both operands of a product are rounded to bfloat16,
// wherever they come from, and its sums are float32. Only Weights in Q8, and what they
// are multiplied with, stay as they are.
//
// Where the processor multiplies pairs of bfloat16, an operand is made of elements that
// are such pairs, two numbers that follow each other along k, and half as deep; from
// there on a product is one of float32 with another micro-kernel. Elsewhere an operand
// is the float32 of what was rounded.

// FastBF16 tells whether this processor multiplies in bfloat16 faster than in float32,
// with the kernels that New would take.
func FastBF16() bool {
	k, err := kernels32()
	return err == nil && k.pairGemm != nil
}

// rounded is memory of rounded operands: those of the product in progress, and the
// rows that ClassifierBackward multiplies by for each chunk of the vocabulary.
type rounded[T real] struct{ left, right, hidden []T }

// pairs tells whether elements are pairs.
func (d *dev[T]) pairs() bool { return d.bf16 && d.k.pairGemm != nil }

// depth is how many elements k numbers are.
func (d *dev[T]) depth(k int) int {
	if d.pairs() {
		return (k + 1) / 2
	}
	return k
}

// pairOf is an element that is two numbers in bfloat16. It is moved and multiplied, and
// never taken for a float.
func pairOf(first, second uint16) float32 {
	return math.Float32frombits(uint32(first) | uint32(second)<<16)
}

// panels are those in which Weights (n, k) are kept in a format, without memory yet.
func (d *dev[T]) panels(f device.Format, n, k int) panels[T] {
	if !d.bf16 || f == device.Q8 {
		return panels[T]{format: f, n: n, k: k}
	}
	p := panels[T]{format: device.BF16, n: n, k: d.depth(k), rounds: true, pairs: d.pairs()}
	if p.pairs {
		p.format = device.F32
	}
	return p
}

// packed are the panels of a buffer (n, k) that packBuffer wrote.
func (d *dev[T]) packed(full []T, n, k int) panels[T] {
	return panels[T]{full: full, n: n, k: d.depth(k), rounds: d.bf16, pairs: d.pairs()}
}

// packBuffer packs b (n, k) transposed, rounded where products are.
func (d *dev[T]) packBuffer(dst, b []T, n, k int) {
	b = d.along(&d.rounded.right, b, n, k)
	d.packTransposed(dst, b, d.depth(k), n, d.depth(k))
}

// along is x (rows, k) as products sum over k: rounded in the memory to, or x itself.
func (d *dev[T]) along(to *[]T, x []T, rows, k int) []T {
	if !d.bf16 {
		return x
	}
	j := &d.jobs.round
	*j = roundJob[T]{d: d, dst: grow(to, rows*d.depth(k)), x: x, cols: k}
	d.pool.divide(rows, k, j)
	return j.dst
}

// down is x (k, cols) in the same way, as (depth(k), cols).
func (d *dev[T]) down(to *[]T, x []T, k, cols int) []T {
	if !d.bf16 {
		return x
	}
	j := &d.jobs.round
	*j = roundJob[T]{d: d, dst: grow(to, d.depth(k)*cols), x: x[:k*cols], cols: cols, down: true}
	d.pool.divide(d.depth(k), 2*cols, j)
	return j.dst
}

// left is the left operand of products, x (m, k) or transposed (k, m).
type left[T real] struct {
	x, rounded []T // the latter once a product rounds
	m, k       int
	transposed bool
}

// read is what a product reads that rounds or does not, with its strides.
func (l *left[T]) read(d *dev[T], rounds bool) (x []T, rs, cs int) {
	x, k := l.x, l.k
	if rounds && d.bf16 {
		switch {
		case l.rounded != nil:
		case l.transposed:
			l.rounded = d.down(&d.rounded.left, x, l.k, l.m)
		default:
			l.rounded = d.along(&d.rounded.left, x, l.m, l.k)
		}
		x, k = l.rounded, d.depth(k)
	}
	if l.transposed {
		return x, 1, l.m
	}
	return x, k, 1
}

// roundJob is the job of rounding an operand; its items are rows of what comes out.
type roundJob[T real] struct {
	d      *dev[T]
	dst, x []T
	cols   int // of x
	down   bool
}

func (j *roundJob[T]) do(_, lo, hi int) {
	n := j.cols
	if w := j.d.depth(n); !j.down || !j.d.pairs() {
		j.d.round(j.dst[lo*w:hi*w], j.x[lo*n:hi*n], n)
		return
	}
	for i := lo; i < hi; i++ {
		var second []T
		if (2*i+1)*n < len(j.x) {
			second = row(j.x, 2*i+1, n)
		}
		j.d.k.pairRows(row(j.dst, i, n), row(j.x, 2*i, n), second)
	}
}

// round rounds rows of x, which are summed over along them.
func (d *dev[T]) round(dst, x []T, cols int) {
	if !d.pairs() {
		for i, v := range x {
			dst[i] = T(fromBF16(toBF16(float32(v))))
		}
		return
	}
	for i := range len(x) / cols {
		d.k.pair(row(dst, i, d.depth(cols)), row(x, i, cols))
	}
}
