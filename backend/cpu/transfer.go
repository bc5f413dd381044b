package cpu

import (
	"fmt"

	"nrt/backend/device"
)

func (d *dev[T]) Write(dst device.Buffer, src []float32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b, ok := dst.(*moments); ok {
		writeMoments(d, "Write", b, src)
		return
	}
	convert(d.out("Write", "dst", dst, len(src)), src)
}

func (d *dev[T]) Read(dst []float32, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := src.(*weights[T]); ok {
		readWeights(d, "Read", dst, w)
		return
	}
	if b, ok := src.(*moments); ok {
		readMoments(d, "Read", dst, b)
		return
	}
	convert(dst, d.in("Read", "src", src, len(dst)))
}

func (d *dev[T]) Write64(dst device.Buffer, src []float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b, ok := dst.(*moments); ok {
		writeMoments(d, "Write64", b, src)
		return
	}
	convert(d.out("Write64", "dst", dst, len(src)), src)
}

func (d *dev[T]) Read64(dst []float64, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := src.(*weights[T]); ok {
		readWeights(d, "Read64", dst, w)
		return
	}
	if b, ok := src.(*moments); ok {
		readMoments(d, "Read64", dst, b)
		return
	}
	convert(dst, d.in("Read64", "src", src, len(dst)))
}

// readWeights sets dst to the numbers that the weights' format kept.
func readWeights[D, T real](d *dev[T], op string, dst []D, w *weights[T]) {
	if len(dst) != w.Len() {
		panic(fmt.Sprintf("cpu: %s: src has %d floats, want %d", op, w.Len(), len(dst)))
	}
	k := w.cols
	d.pool.each(w.p.n, 8*k, func(_, lo, hi int) {
		for j := lo; j < hi; j++ {
			for p := range k {
				dst[j*k+p] = D(w.p.at(w.nr, j, p))
			}
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

func (d *dev[T]) GatherRows(dst, src device.Buffer, rows []int32, width int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	checkIDs("GatherRows", "rows", rows, d.rowsOf("GatherRows", "src", src, width))
	j := &d.jobs.move
	*j = moveJob[T]{rows: rows, width: width, parts: append(j.parts[:0], moved[T]{
		src: d.in("GatherRows", "src", src, src.Len()), dst: d.out("GatherRows", "dst", dst, len(rows)*width)})}
	d.pool.divide(len(rows), width, j)
}

func (d *dev[T]) ScatterRows(out []device.Scatter, rows []int32, width int) {
	const op = "ScatterRows"
	d.mu.Lock()
	defer d.mu.Unlock()
	j := &d.jobs.move
	*j = moveJob[T]{scatter: true, rows: rows, width: width, parts: j.parts[:0]}
	for _, p := range out {
		checkIDs(op, "rows", rows, d.rowsOf(op, "dst", p.Dst, width))
		j.parts = append(j.parts, moved[T]{src: d.in(op, "src", p.Src, len(rows)*width), dst: d.out(op, "dst", p.Dst, p.Dst.Len())})
	}
	d.pool.divide(len(rows), len(out)*width, j)
}

// moveJob gathers or scatters rows; an item is one of them in all parts.
type moveJob[T real] struct {
	scatter bool
	rows    []int32
	width   int
	parts   []moved[T]
}

type moved[T real] struct{ dst, src []T }

func (j *moveJob[T]) do(_, lo, hi int) {
	for i := lo; i < hi; i++ {
		to, from := i, int(j.rows[i])
		if j.scatter {
			to, from = from, to
		}
		for _, p := range j.parts {
			copy(row(p.dst, to, j.width), row(p.src, from, j.width))
		}
	}
}

// ScatterAddRows adds in the order of rows. Threads share out the columns, in
// whole cache lines, since rows repeat.
func (d *dev[T]) ScatterAddRows(dst, src device.Buffer, rows []int32, width int) {
	const op = "ScatterAddRows"
	d.mu.Lock()
	defer d.mu.Unlock()
	checkIDs(op, "rows", rows, d.rowsOf(op, "dst", dst, width))
	j := &d.jobs.sum
	*j = sumJob[T]{k: d.k, rows: rows, width: width, src: d.in(op, "src", src, len(rows)*width), dst: d.out(op, "dst", dst, dst.Len())}
	d.pool.divide((width+line-1)/line, len(rows)*line, j)
}

// line is the floats of a cache line.
const line = 16

type sumJob[T real] struct {
	k        *kernels[T]
	rows     []int32
	width    int
	dst, src []T
}

func (j *sumJob[T]) do(_, lo, hi int) {
	lo, hi = lo*line, min(hi*line, j.width)
	for i, r := range j.rows {
		j.k.add(row(j.dst, int(r), j.width)[lo:hi], row(j.src, i, j.width)[lo:hi])
	}
}

// row is row i of a matrix of the given width.
func row[T any](x []T, i, width int) []T { return x[i*width : (i+1)*width : (i+1)*width] }

func (d *dev[T]) Embed(out, table device.Buffer, ids []int32, dim int) {
	if w, ok := table.(*weights[T]); ok {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.weights("Embed", "table", table, w.p.n, dim)
		checkIDs("Embed", "ids", ids, w.p.n)
		d.embed = embed[T]{w: w, out: d.out("Embed", "out", out, len(ids)*dim), ids: ids}
		d.pool.divide(len(ids), 16*dim, &d.embed)
		d.embed = embed[T]{}
		return
	}
	d.GatherRows(out, table, ids, dim)
}

func (d *dev[T]) EmbedBackward(dtable, dout device.Buffer, ids []int32, dim int) {
	d.ScatterAddRows(dtable, dout, ids, dim)
}
