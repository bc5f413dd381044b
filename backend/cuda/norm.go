//go:build cuda

package cuda

import "nrt/backend/device"

func (d *dev) RMSNorm(out, rstd, x, w device.Buffer, rows, dim int, eps float64) {
	const op = "RMSNorm"
	positive(op, dim)
	d.lock()
	defer d.unlock()
	from, scale := d.in(op, "x", x, rows*dim, d.dt), d.in(op, "w", w, dim, d.dt)
	to, r := d.result(op, "out", out, rows*dim, d.dt), d.out(op, "rstd", rstd, rows, dtF32)
	d.launch("rmsnorm_"+d.dt.suffix(), grid(rows), threadsFor(dim, d.dt, 512), 0,
		p(to), p(r), p(from), p(scale), i32(dim), f32(eps))
}

// RMSNormBackward adds up dw in two steps: parts over runs of rows, then the
// parts. Both orders depend on the numbers of rows and columns alone.
func (d *dev) RMSNormBackward(dx, dw, dout, x, w, rstd device.Buffer, rows, dim int) {
	const op = "RMSNormBackward"
	positive(op, dim)
	d.lock()
	defer d.unlock()
	dy, from := d.in(op, "dout", dout, rows*dim, d.dt), d.in(op, "x", x, rows*dim, d.dt)
	scale, r := d.in(op, "w", w, dim, d.dt), d.in(op, "rstd", rstd, rows, dtF32)
	to, sum := d.result(op, "dx", dx, rows*dim, d.dt), (*buffer)(nil)
	if dw != nil {
		sum = d.out(op, "dw", dw, dim, dtF32)
	}
	if rows == 0 {
		return
	}
	each := min(max(rows/512, 4), 64)
	blocks := (rows + each - 1) / each
	parts := d.workspace("rmsnorm", 4*blocks*dim)
	// Shared memory for whole runs: the kernel touches the last one beyond dim too.
	d.launch("rmsnorm_backward_"+d.dt.suffix(), grid(blocks), threadsFor(dim, d.dt, 512), 4*roundUp(dim, runOf(d.dt)),
		p(to), at(parts), p(dy), p(from), p(scale), p(r), i32(rows), i32(dim), i32(each))
	if sum == nil { // the parts cost next to nothing beside what is read for dx
		return
	}
	d.launch("rmsnorm_columns", grid((dim+31)/32), 256, 0, p(sum), at(parts), i32(blocks), i32(dim))
}
