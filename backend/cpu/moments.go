package cpu

import (
	"fmt"

	"nrt/backend/device"
)

// moments is a buffer of kind Moment8 or Variance8: a byte a number, and a scale
// for every device.Block8 of them.
type moments struct {
	kind   device.Kind
	codes  []byte
	scales []float32
}

func newMoments(k device.Kind, n int) *moments {
	return &moments{kind: k, codes: make([]byte, n), scales: make([]float32, (n+device.Block8-1)/device.Block8)}
}

func (b *moments) Len() int { return len(b.codes) }

func (b *moments) View(offset, n int) device.Buffer {
	panic(fmt.Sprintf("cpu: View of a buffer of kind %v", b.kind))
}

// block is the codes of block i and where its first number stands.
func (b *moments) block(i int) (codes []byte, at int) {
	at = i * device.Block8
	return b.codes[at:min(at+device.Block8, len(b.codes))], at
}

func (b *moments) zero() {
	clear(b.codes)
	clear(b.scales)
}

// load sets x to the numbers of block i, and store stores them.
func load[T real](x []T, b *moments, i int) {
	var f [device.Block8]float32
	codes, _ := b.block(i)
	device.DecodeMoments(b.kind, f[:len(codes)], codes, b.scales[i])
	convert(x, f[:len(codes)])
}

func store[T real](b *moments, i int, x []T) {
	var f [device.Block8]float32
	codes, _ := b.block(i)
	convert(f[:len(codes)], x)
	b.scales[i] = device.EncodeMoments(b.kind, codes, f[:len(codes)])
}

func writeMoments[T, S real](d *dev[T], op string, b *moments, src []S) {
	if len(src) != b.Len() {
		panic(fmt.Sprintf("cpu: %s: dst has %d floats, want %d", op, b.Len(), len(src)))
	}
	d.pool.each(len(b.scales), 16*device.Block8, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			codes, at := b.block(i)
			store(b, i, src[at:at+len(codes)])
		}
	})
}

func readMoments[T, D real](d *dev[T], op string, dst []D, b *moments) {
	if len(dst) != b.Len() {
		panic(fmt.Sprintf("cpu: %s: src has %d floats, want %d", op, b.Len(), len(dst)))
	}
	d.pool.each(len(b.scales), 2*device.Block8, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			codes, at := b.block(i)
			load(dst[at:at+len(codes)], b, i)
		}
	})
}

// moments8 is the moments of an AdamW call, if they are in 8 bits.
func moments8(m, v device.Buffer, n int) (m8, v8 *moments) {
	m8, _ = m.(*moments)
	v8, _ = v.(*moments)
	if m8 == nil && v8 == nil {
		return nil, nil
	}
	if m8 == nil || v8 == nil || m8.kind != device.Moment8 || v8.kind != device.Variance8 {
		panic(fmt.Sprintf("cpu: AdamW: m and v are %s and %s, want moment8 and variance8, or neither", kindOf(m), kindOf(v)))
	}
	if m8.Len() != n || v8.Len() != n {
		panic(fmt.Sprintf("cpu: AdamW: m and v have %d and %d floats, want %d", m8.Len(), v8.Len(), n))
	}
	return m8, v8
}

func kindOf(b device.Buffer) string {
	if b, ok := b.(*moments); ok {
		return b.kind.String()
	}
	return "wide"
}

// adamw8Job updates blocks: it decodes their moments, does what adamwJob does and
// encodes them again.
type adamw8Job[T real] struct {
	d    *dev[T]
	p, g []T
	m, v *moments
	c    adamConst[T]
}

func (j *adamw8Job[T]) do(worker, lo, hi int) {
	s := &j.d.scratch[worker]
	for i := lo; i < hi; i++ {
		codes, at := j.m.block(i)
		n := len(codes)
		m, v := grow(&s.a, n), grow(&s.b, n)
		load(m, j.m, i)
		load(v, j.v, i)
		j.d.k.adamw(j.p[at:at+n], j.g[at:at+n], m, v, j.c)
		store(j.m, i, m)
		store(j.v, i, v)
	}
}
