package cpu

import "nrt/backend/device"

// SwiGLU: out = silu(gate)·up, silu(g) = g·σ(g).
func (d *dev[T]) SwiGLU(out, gate, up device.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := out.Len()
	G, U := d.in("SwiGLU", "gate", gate, n), d.in("SwiGLU", "up", up, n)
	O := d.out("SwiGLU", "out", out, n)
	d.pool.each(n, 8, func(_, lo, hi int) { d.k.swiglu(O[lo:hi], G[lo:hi], U[lo:hi]) })
}

// SwiGLUBackward. silu'(g) = σ(g)·(1 + g·(1−σ(g))), so
//
//	dgate = dout·up·silu'(gate),  dup = dout·silu(gate)
func (d *dev[T]) SwiGLUBackward(dgate, dup, dout, gate, up device.Buffer) {
	const op = "SwiGLUBackward"
	d.mu.Lock()
	defer d.mu.Unlock()
	n := dout.Len()
	DO, G, U := d.in(op, "dout", dout, n), d.in(op, "gate", gate, n), d.in(op, "up", up, n)
	DG, DU := d.out(op, "dgate", dgate, n), d.out(op, "dup", dup, n)
	d.pool.each(n, 10, func(_, lo, hi int) {
		d.k.swigluBack(DG[lo:hi], DU[lo:hi], DO[lo:hi], G[lo:hi], U[lo:hi])
	})
}
