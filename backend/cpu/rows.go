package cpu

import "nrt/backend/device"

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
		j := &d.jobs.embed
		*j = embedJob[T]{w: w, ids: ids, out: d.out("Embed", "out", out, len(ids)*dim)}
		d.pool.divide(len(ids), 16*dim, j)
		return
	}
	d.GatherRows(out, table, ids, dim)
}

func (d *dev[T]) EmbedBackward(dtable, dout device.Buffer, ids []int32, dim int) {
	d.ScatterAddRows(dtable, dout, ids, dim)
}

// embedJob looks rows of Weights up; its items are ids.
type embedJob[T real] struct {
	w   *weights[T]
	ids []int32
	out []T
}

func (j *embedJob[T]) do(_, lo, hi int) {
	for i := lo; i < hi; i++ {
		j.w.row(row(j.out, i, j.w.cols), int(j.ids[i]))
	}
}
