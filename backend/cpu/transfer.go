package cpu

import (
	"fmt"

	"nrt/backend/device"
)

func (d *dev[T]) Write(dst device.Buffer, src []float32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	convert(d.out("Write", "dst", dst, len(src)), src)
}

func (d *dev[T]) Read(dst []float32, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := src.(*weights[T]); ok {
		readWeights(d, "Read", dst, w)
		return
	}
	convert(dst, d.in("Read", "src", src, len(dst)))
}

func (d *dev[T]) Write64(dst device.Buffer, src []float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	convert(d.out("Write64", "dst", dst, len(src)), src)
}

func (d *dev[T]) Read64(dst []float64, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := src.(*weights[T]); ok {
		readWeights(d, "Read64", dst, w)
		return
	}
	convert(dst, d.in("Read64", "src", src, len(dst)))
}

// readWeights sets dst to the numbers that the weights' format kept.
func readWeights[D, T real](d *dev[T], op string, dst []D, w *weights[T]) {
	if len(dst) != w.Len() {
		panic(fmt.Sprintf("cpu: %s: src has %d floats, want %d", op, w.Len(), len(dst)))
	}
	k := w.p.k
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
	clear(d.out("Zero", "b", b, b.Len()))
}

func (d *dev[T]) Copy(dst, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.in("Copy", "src", src, src.Len())
	copy(d.out("Copy", "dst", dst, len(s)), s)
}

func (d *dev[T]) Add(dst, src device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.in("Add", "src", src, src.Len())
	t := d.out("Add", "dst", dst, len(s))
	d.pool.each(len(s), 1, func(_, lo, hi int) { d.k.add(t[lo:hi], s[lo:hi]) })
}

func (d *dev[T]) Scale(b device.Buffer, s float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.out("Scale", "b", b, b.Len())
	d.pool.each(len(x), 1, func(_, lo, hi int) { d.k.scale(x[lo:hi], T(s)) })
}

func (d *dev[T]) GatherRows(dst, src device.Buffer, rows []int32, width int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	checkIDs("GatherRows", "rows", rows, d.rowsOf("GatherRows", "src", src, width))
	s := d.in("GatherRows", "src", src, src.Len())
	t := d.out("GatherRows", "dst", dst, len(rows)*width)
	d.pool.each(len(rows), width, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			copy(row(t, i, width), row(s, int(rows[i]), width))
		}
	})
}

func (d *dev[T]) ScatterRows(dst, src device.Buffer, rows []int32, width int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	checkIDs("ScatterRows", "rows", rows, d.rowsOf("ScatterRows", "dst", dst, width))
	s := d.in("ScatterRows", "src", src, len(rows)*width)
	t := d.out("ScatterRows", "dst", dst, dst.Len())
	d.pool.each(len(rows), width, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			copy(row(t, int(rows[i]), width), row(s, i, width))
		}
	})
}

func (d *dev[T]) ScatterAddRows(dst, src device.Buffer, rows []int32, width int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	checkIDs("ScatterAddRows", "rows", rows, d.rowsOf("ScatterAddRows", "dst", dst, width))
	s := d.in("ScatterAddRows", "src", src, len(rows)*width)
	d.scatterAdd(d.out("ScatterAddRows", "dst", dst, dst.Len()), s, rows, width)
}

// scatterAdd sets dst[rows[i]] += src[i] in the order of i. Threads share out
// the columns, not the rows, since rows repeat.
func (d *dev[T]) scatterAdd(dst, src []T, rows []int32, width int) {
	d.columns(width, len(rows), func(_, lo, hi int) {
		for i, r := range rows {
			d.k.add(row(dst, int(r), width)[lo:hi], row(src, i, width)[lo:hi])
		}
	})
}

// columns splits [0, width) into ranges of whole cache lines.
func (d *dev[T]) columns(width, cost int, f func(worker, lo, hi int)) {
	const line = 16
	d.pool.each((width+line-1)/line, cost*line, func(w, lo, hi int) {
		f(w, lo*line, min(hi*line, width))
	})
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
		return
	}
	d.GatherRows(out, table, ids, dim)
}

func (d *dev[T]) EmbedBackward(dtable, dout device.Buffer, ids []int32, dim int) {
	d.ScatterAddRows(dtable, dout, ids, dim)
}
