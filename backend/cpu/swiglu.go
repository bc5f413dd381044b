package cpu

import "nrt/backend/device"

// SwiGLU: out = silu(gate)·up, silu(g) = g·σ(g).
func (d *dev[T]) SwiGLU(out, gate, up device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := out.Len()
	j := &d.jobs.swiglu
	*j = swigluJob[T]{k: d.k, gate: d.in("SwiGLU", "gate", gate, n), up: d.in("SwiGLU", "up", up, n), out: d.out("SwiGLU", "out", out, n)}
	d.pool.divide(n, 8, j)
}

type swigluJob[T real] struct {
	k             *kernels[T]
	out, gate, up []T
}

func (j *swigluJob[T]) do(_, lo, hi int) { j.k.swiglu(j.out[lo:hi], j.gate[lo:hi], j.up[lo:hi]) }

// SwiGLUBackward. silu'(g) = σ(g)·(1 + g·(1−σ(g))), so
//
//	dgate = dout·up·silu'(gate),  dup = dout·silu(gate)
func (d *dev[T]) SwiGLUBackward(dgate, dup, dout, gate, up device.Buffer) {
	const op = "SwiGLUBackward"
	d.mu.Lock()
	defer d.mu.Unlock()
	n := dout.Len()
	j := &d.jobs.swigluBack
	*j = swigluBackJob[T]{k: d.k, dout: d.in(op, "dout", dout, n), gate: d.in(op, "gate", gate, n), up: d.in(op, "up", up, n),
		dgate: d.out(op, "dgate", dgate, n), dup: d.out(op, "dup", dup, n)}
	d.pool.divide(n, 10, j)
}

type swigluBackJob[T real] struct {
	k                          *kernels[T]
	dgate, dup, dout, gate, up []T
}

func (j *swigluBackJob[T]) do(_, lo, hi int) {
	j.k.swigluBack(j.dgate[lo:hi], j.dup[lo:hi], j.dout[lo:hi], j.gate[lo:hi], j.up[lo:hi])
}
