//go:build cuda

package cuda

import "nrt/backend/device"

func (d *dev) RoPE(x, cos, sin device.Buffer, pos []int32, heads, dim int, inverse bool) {
	const op = "RoPE"
	positive(op, heads, dim)
	if dim%2 != 0 {
		panic("cuda: RoPE: odd head dimension")
	}
	half := dim / 2
	d.lock()
	defer d.unlock()
	checkIDs(op, "pos", pos, d.rowsOf(op, "cos", cos, half))
	c, s := d.in(op, "cos", cos, cos.Len(), dtF32), d.in(op, "sin", sin, cos.Len(), dtF32)
	to := d.result(op, "x", x, len(pos)*heads*dim, d.dt)
	if len(pos) == 0 {
		return
	}
	sign := 1.0
	if inverse {
		sign = -1
	}
	d.launch("rope_"+d.dt.suffix(), grid(len(pos)), threadsFor(heads*half, d.dt, 256), 0,
		p(to), p(c), p(s), at(d.upload32(pos)), i32(heads), i32(half), f32(sign))
}
