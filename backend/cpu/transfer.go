package cpu

import (
	"fmt"

	"nrt/backend/device"
)

func (d *dev[T]) Write(dst device.Buffer, src []float32)   { write(d, "Write", dst, src) }
func (d *dev[T]) Write64(dst device.Buffer, src []float64) { write(d, "Write64", dst, src) }
func (d *dev[T]) Read(dst []float32, src device.Buffer)    { read(d, "Read", dst, src) }
func (d *dev[T]) Read64(dst []float64, src device.Buffer)  { read(d, "Read64", dst, src) }

func write[T, S real](d *dev[T], op string, dst device.Buffer, src []S) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b, ok := dst.(*moments); ok {
		writeMoments(d, op, b, src)
		return
	}
	convert(d.out(op, "dst", dst, len(src)), src)
}

func read[T, D real](d *dev[T], op string, dst []D, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch b := src.(type) {
	case *weights[T]:
		readWeights(d, op, dst, b)
	case *moments:
		readMoments(d, op, dst, b)
	default:
		convert(dst, d.in(op, "src", src, len(dst)))
	}
}

// readWeights sets dst to the numbers that the weights' format kept.
func readWeights[D, T real](d *dev[T], op string, dst []D, w *weights[T]) {
	if len(dst) != w.Len() {
		panic(fmt.Sprintf("cpu: %s: src has %d floats, want %d", op, w.Len(), len(dst)))
	}
	d.pool.each(w.p.n, 8*w.cols, func(worker, lo, hi int) {
		x := grow(&d.scratch[worker].a, w.cols)
		for i := lo; i < hi; i++ {
			w.row(x, i)
			convert(row(dst, i, w.cols), x)
		}
	})
}

// convert sets dst = src in dst's type.
func convert[D, S real](dst []D, src []S) {
	if same, ok := any(src).([]D); ok {
		copy(dst, same)
		return
	}
	for i, x := range src {
		dst[i] = D(x)
	}
}

func (d *dev[T]) Zero(b device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m, ok := b.(*moments); ok {
		m.zero()
		return
	}
	d.flat(zeroing, d.out("Zero", "b", b, b.Len()), nil, 0)
}

func (d *dev[T]) Copy(dst, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.in("Copy", "src", src, src.Len())
	d.flat(copying, d.out("Copy", "dst", dst, len(s)), s, 0)
}

func (d *dev[T]) Add(dst, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.in("Add", "src", src, src.Len())
	d.flat(adding, d.out("Add", "dst", dst, len(s)), s, 0)
}

func (d *dev[T]) Scale(b device.Buffer, s float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flat(scaling, d.out("Scale", "b", b, b.Len()), nil, T(s))
}

// flat runs one of the operations below on all of dst.
func (d *dev[T]) flat(what flatOp, dst, src []T, s T) {
	j := &d.jobs.flat
	*j = flatJob[T]{k: d.k, what: what, dst: dst, src: src, s: s}
	d.pool.divide(len(dst), 1, j)
}

type flatOp int

const (
	zeroing flatOp = iota
	copying
	adding
	scaling
)

type flatJob[T real] struct {
	k        *kernels[T]
	what     flatOp
	dst, src []T
	s        T
}

func (j *flatJob[T]) do(_, lo, hi int) {
	switch j.what {
	case zeroing:
		clear(j.dst[lo:hi])
	case copying:
		copy(j.dst[lo:hi], j.src[lo:hi])
	case adding:
		j.k.add(j.dst[lo:hi], j.src[lo:hi])
	case scaling:
		j.k.scale(j.dst[lo:hi], j.s)
	}
}
