package cpu

import "nrt/backend/device"

// RoPE rotates, in each head of the buffers of out, the pair (x_i, x_{i+dim/2})
// by the angle of its position:
//
//	x_i' = x_i·cos − x_j·sin,  x_j' = x_j·cos + x_i·sin
//
// A rotation is orthogonal, so its backward is the rotation by the negative
// angle (inverse).
func (d *dev[T]) RoPE(out []device.Rotation, cos, sin device.Buffer, pos []int32, dim int, inverse bool) {
	const op = "RoPE"
	positive(op, dim)
	if dim%2 != 0 {
		panic("cpu: RoPE: odd head dimension")
	}
	half := dim / 2
	d.mu.Lock()
	defer d.mu.Unlock()
	checkIDs(op, "pos", pos, d.rowsOf(op, "cos", cos, half))
	j := &d.jobs.rope
	*j = ropeJob[T]{k: d.k, dim: dim, pos: pos, sign: 1, parts: j.parts[:0],
		cos: d.in(op, "cos", cos, cos.Len()), sin: d.in(op, "sin", sin, cos.Len())}
	if inverse {
		j.sign = -1
	}
	heads := 0
	for _, r := range out {
		positive(op, r.Heads)
		j.parts = append(j.parts, turned[T]{d.out(op, "x", r.X, len(pos)*r.Heads*dim), r.Heads})
		heads += r.Heads
	}
	d.pool.divide(len(pos), 2*heads*dim, j)
}

// ropeJob has a row of all buffers to the item.
type ropeJob[T real] struct {
	k        *kernels[T]
	dim      int
	pos      []int32
	parts    []turned[T]
	cos, sin []T
	sign     T
}

type turned[T real] struct {
	x     []T // (len(pos), heads·dim)
	heads int
}

func (j *ropeJob[T]) do(_, lo, hi int) {
	half := j.dim / 2
	for i := lo; i < hi; i++ {
		c, s := row(j.cos, int(j.pos[i]), half), row(j.sin, int(j.pos[i]), half)
		for _, p := range j.parts {
			for h := range p.heads {
				head := row(p.x, i*p.heads+h, j.dim)
				j.k.rope(head[:half], head[half:], c, s, j.sign)
			}
		}
	}
}
