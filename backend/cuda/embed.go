//go:build cuda

package cuda

import "nrt/backend/device"

func (d *dev) Embed(out, table device.Buffer, ids []int32, dim int) {
	const op = "Embed"
	d.lock()
	defer d.unlock()
	n := d.rowsOf(op, "table", table, dim)
	if w := d.weights(op, "table", table, n, dim); w != nil {
		checkIDs(op, "ids", ids, n)
		to := d.result(op, "out", out, len(ids)*dim, d.dt)
		g, threads := rowsGrid(len(ids), dim, dtF32)
		if len(ids) > 0 {
			d.launch("embed_"+to.dt().suffix(), g, threads, 0, p(to), at(w.data), at(w.scales), w.code(), i32(w.pitch), at(d.upload32(ids)), i32(dim))
		}
		return
	}
	checkIDs(op, "ids", ids, n)
	from := d.in(op, "table", table, n*dim, d.dt)
	d.gather(d.result(op, "out", out, len(ids)*dim, d.dt), from, ids, dim)
}

// EmbedBackward sums in float32 what is in the compute type.
func (d *dev) EmbedBackward(dtable, dout device.Buffer, ids []int32, dim int) {
	const op = "EmbedBackward"
	d.lock()
	defer d.unlock()
	checkIDs(op, "ids", ids, d.rowsOf(op, "dtable", dtable, dim))
	from := d.in(op, "dout", dout, len(ids)*dim, d.dt)
	to := d.out(op, "dtable", dtable, dtable.Len(), dtF32)
	kernel := "scatter_add_rows_f32"
	if from.dt() == dtBF16 {
		kernel = "scatter_add_rows_f32_bf16"
	}
	d.addRows(kernel, to, from, ids, dim)
}
