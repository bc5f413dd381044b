//go:build cuda

package cuda

import "nrt/backend/device"

// RoPE turns two buffers with one launch, as a model has them.
func (d *dev) RoPE(out []device.Rotation, cos, sin device.Buffer, pos []int32, dim int, inverse bool) {
	const op = "RoPE"
	positive(op, dim)
	if dim%2 != 0 {
		panic("cuda: RoPE: odd head dimension")
	}
	half := dim / 2
	d.lock()
	defer d.unlock()
	checkIDs(op, "pos", pos, d.rowsOf(op, "cos", cos, half))
	c, s := d.in(op, "cos", cos, cos.Len(), dtF32), d.in(op, "sin", sin, cos.Len(), dtF32)
	for _, r := range out {
		positive(op, r.Heads)
		d.result(op, "x", r.X, len(pos)*r.Heads*dim, d.dt)
	}
	if len(pos) == 0 {
		return
	}
	sign := 1.0
	if inverse {
		sign = -1
	}
	rows := d.upload32(pos)
	for i := 0; i < len(out); i += 2 {
		pair := out[i:min(i+2, len(out))]
		first, last := pair[0], pair[len(pair)-1]
		// Runs are those of the tables, float32.
		threads := threadsFor(max(first.Heads, last.Heads)*half, dtF32, 512)
		d.launch("rope_"+d.dt.suffix(), grid(len(pos), len(pair)), threads, 0,
			ptr(first.X), ptr(last.X), p(c), p(s), at(rows), i32(first.Heads), i32(last.Heads), i32(half), f32(sign))
	}
}
