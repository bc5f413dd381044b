//go:build cuda

package cuda

import (
	"fmt"
	"slices"

	"nrt/backend/device"
)

// result is d.out for numbers that a kernel writes in the type they are kept in,
// which would leave the float32 copy of a Master behind.
func (d *dev) result(op, name string, b device.Buffer, n int, types ...dtype) *buffer {
	buf := d.out(op, name, b, n, types...)
	if buf.master() != 0 {
		panic(fmt.Sprintf("cuda: %s: %s is a Master, which AdamW and Write alone change", op, name))
	}
	return buf
}

// runOf is how many numbers of 16 bytes a thread moves at a time (run_of in
// kernels/kernel.h).
func runOf(t dtype) int { return 16 / t.size() }

// threadsFor is how many threads a block has whose threads take runs of n
// numbers, at most so many. It depends on n alone, so what is summed does too.
func threadsFor(n int, t dtype, most int) int {
	runs := (n + runOf(t) - 1) / runOf(t)
	return min(max((runs+31)/32*32, 32), most)
}

// rowsGrid has a block for each of n rows of width numbers, or more for wide ones.
func rowsGrid(n, width int, t dtype) (dim3, int) {
	threads := threadsFor(width, t, 256)
	part := threads * runOf(t)
	return grid(n, min((width+part-1)/part, 8)), threads
}

func (d *dev) GatherRows(dst, src device.Buffer, rows []int32, width int) {
	const op = "GatherRows"
	d.lock()
	defer d.unlock()
	checkIDs(op, "rows", rows, d.rowsOf(op, "src", src, width))
	from := d.in(op, "src", src, src.Len(), dtF32, dtBF16)
	d.gather(d.result(op, "dst", dst, len(rows)*width, from.dt()), from, rows, width)
}

// gather enqueues dst[i] = src[rows[i]].
func (d *dev) gather(dst, src *buffer, rows []int32, width int) {
	if len(rows) == 0 {
		return
	}
	g, threads := rowsGrid(len(rows), width, dst.dt())
	d.launch("gather_rows_"+dst.dt().suffix(), g, threads, 0, p(dst), p(src), at(d.upload32(rows)), i32(width))
}

// ScatterRows has two pairs to a launch, the keys and values of a cache.
func (d *dev) ScatterRows(out []device.Scatter, rows []int32, width int) {
	const op = "ScatterRows"
	d.lock()
	defer d.unlock()
	if len(out) == 0 {
		return
	}
	t := d.in(op, "src", out[0].Src, len(rows)*width, dtF32, dtBF16).dt()
	for _, o := range out {
		checkIDs(op, "rows", rows, d.rowsOf(op, "dst", o.Dst, width))
		d.in(op, "src", o.Src, len(rows)*width, t)
		d.result(op, "dst", o.Dst, o.Dst.Len(), t)
	}
	if len(rows) == 0 {
		return
	}
	g, threads := rowsGrid(len(rows), width, t)
	list := at(d.upload32(rows))
	for i := 0; i < len(out); i += 2 {
		pair := out[i:min(i+2, len(out))]
		first, last := pair[0], pair[len(pair)-1]
		g.z = len(pair)
		d.launch("scatter_rows_"+t.suffix(), g, threads, 0, ptr(first.Dst), ptr(first.Src), ptr(last.Dst), ptr(last.Src), list, i32(width))
	}
}

func (d *dev) ScatterAddRows(dst, src device.Buffer, rows []int32, width int) {
	const op = "ScatterAddRows"
	d.lock()
	defer d.unlock()
	checkIDs(op, "rows", rows, d.rowsOf(op, "dst", dst, width))
	from := d.in(op, "src", src, len(rows)*width, dtF32, dtBF16)
	to := d.result(op, "dst", dst, dst.Len(), from.dt())
	d.addRows("scatter_add_rows_"+to.dt().suffix(), to, from, rows, width)
}

// addRows adds src[i] to dst[rows[i]], those of one row in their order: the rows
// of a block are told apart here, since a kernel could only guess or collide.
func (d *dev) addRows(kernel string, dst, src *buffer, rows []int32, width int) {
	if len(rows) == 0 {
		return
	}
	keys := make([]uint64, len(rows))
	for i, r := range rows {
		keys[i] = uint64(r)<<32 | uint64(i)
	}
	slices.Sort(keys)
	to, first, from := make([]int32, 0, len(rows)), make([]int32, 0, len(rows)+1), make([]int32, len(rows))
	for i, k := range keys {
		from[i] = int32(uint32(k))
		if row := int32(k >> 32); i == 0 || row != to[len(to)-1] {
			to, first = append(to, row), append(first, int32(i))
		}
	}
	first = append(first, int32(len(rows)))
	g, threads := rowsGrid(len(to), width, dst.dt())
	d.launch(kernel, g, threads, 0, p(dst), p(src), at(d.upload32(to)), at(d.upload32(first)), at(d.upload32(from)), i32(width))
}
