package cpu

import "nrt/backend/device"

// RoPE rotates, in each head of x (len(pos), heads·dim), the pair (x_i,
// x_{i+dim/2}) by the angle of its position:
//
//	x_i' = x_i·cos − x_j·sin,  x_j' = x_j·cos + x_i·sin
//
// A rotation is orthogonal, so its backward is the rotation by the negative
// angle (inverse).
func (d *dev[T]) RoPE(x, cos, sin device.Buffer, pos []int32, heads, dim int, inverse bool) {
	const op = "RoPE"
	positive(op, heads, dim)
	if dim%2 != 0 {
		panic("cpu: RoPE: odd head dimension")
	}
	half := dim / 2
	d.mu.Lock()
	defer d.mu.Unlock()
	checkIDs(op, "pos", pos, d.rowsOf(op, "cos", cos, half))
	C := d.in(op, "cos", cos, cos.Len())
	S := d.in(op, "sin", sin, cos.Len())
	X := d.out(op, "x", x, len(pos)*heads*dim)
	sign := T(1)
	if inverse {
		sign = -1
	}
	d.pool.each(len(pos), 2*heads*dim, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			c, s := row(C, int(pos[i]), half), row(S, int(pos[i]), half)
			for h := range heads {
				head := row(X, i*heads+h, dim)
				d.k.rope(head[:half], head[half:], c, s, sign)
			}
		}
	})
}
