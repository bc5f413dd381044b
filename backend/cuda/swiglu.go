//go:build cuda

package cuda

import "nrt/backend/device"

func (d *dev) SwiGLU(out, gate, up device.Buffer) {
	const op = "SwiGLU"
	d.lock()
	defer d.unlock()
	n := out.Len()
	g, u, to := d.in(op, "gate", gate, n, d.dt), d.in(op, "up", up, n, d.dt), d.result(op, "out", out, n, d.dt)
	d.launch("swiglu_"+d.dt.suffix(), flat(n, d.dt), flatThreads, 0, p(to), p(g), p(u), i64(n))
}

func (d *dev) SwiGLUBackward(dgate, dup, dout, gate, up device.Buffer) {
	const op = "SwiGLUBackward"
	d.lock()
	defer d.unlock()
	n := dout.Len()
	dy, g, u := d.in(op, "dout", dout, n, d.dt), d.in(op, "gate", gate, n, d.dt), d.in(op, "up", up, n, d.dt)
	dg, du := d.result(op, "dgate", dgate, n, d.dt), d.result(op, "dup", dup, n, d.dt)
	d.launch("swiglu_backward_"+d.dt.suffix(), flat(n, d.dt), flatThreads, 0, p(dg), p(du), p(dy), p(g), p(u), i64(n))
}
