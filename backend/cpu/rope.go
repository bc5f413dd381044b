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
	j := &d.jobs.rope
	*j = ropeJob[T]{k: d.k, heads: heads, dim: dim, pos: pos, sign: 1,
		cos: d.in(op, "cos", cos, cos.Len()), sin: d.in(op, "sin", sin, cos.Len()),
		x: d.out(op, "x", x, len(pos)*heads*dim)}
	if inverse {
		j.sign = -1
	}
	d.pool.divide(len(pos), 2*heads*dim, j)
}

type ropeJob[T real] struct {
	k           *kernels[T]
	heads, dim  int
	pos         []int32
	x, cos, sin []T
	sign        T
}

func (j *ropeJob[T]) do(_, lo, hi int) {
	half := j.dim / 2
	for i := lo; i < hi; i++ {
		c, s := row(j.cos, int(j.pos[i]), half), row(j.sin, int(j.pos[i]), half)
		for h := range j.heads {
			head := row(j.x, i*j.heads+h, j.dim)
			j.k.rope(head[:half], head[half:], c, s, j.sign)
		}
	}
}
