package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// pointers loads pointer parameters.
func pointers(names ...string) []Register {
	var p []Register
	for _, n := range names {
		p = append(p, Load(Param(n), GP64()))
	}
	return p
}

// end returns from a function that used vectors.
func end() {
	VZEROUPPER()
	RET()
}

// elementwise writes the kernels that treat every element alone.
func (g *gen) elementwise() {
	g.text("add", "func(dst, src *float32, n int)", "sets dst += src.")
	p, n := pointers("dst", "src"), Load(Param("n"), GP64())
	g.over("add", n, p, func(at []Mem) {
		x, y := g.load(at[0]), g.load(at[1])
		VADDPS(y, x, x)
		g.store(x, at[0])
	})
	end()

	g.text("scale", "func(x *float32, n int, s float32)", "sets x *= s.")
	p, n = pointers("x"), Load(Param("n"), GP64())
	s := g.param("s")
	g.over("scale", n, p, func(at []Mem) {
		x := g.load(at[0])
		VMULPS(s, x, x)
		g.store(x, at[0])
	})
	end()

	g.text("mulAdd", "func(dst, a, b *float32, n int, s float32)", "sets dst += a·b·s.")
	p, n = pointers("dst", "a", "b"), Load(Param("n"), GP64())
	s = g.param("s")
	g.over("mulAdd", n, p, func(at []Mem) {
		d, a, b := g.load(at[0]), g.load(at[1]), g.load(at[2])
		VMULPS(s, b, b)
		VFMADD231PS(a, b, d)
		g.store(d, at[0])
	})
	end()

	g.text("exp", "func(dst, x *float32, n int, scale, shift float32)", "sets dst = exp(scale·x−shift).")
	p, n = pointers("dst", "x"), Load(Param("n"), GP64())
	s = g.param("scale")
	shift := g.param("shift")
	g.expSetup()
	g.over("exp", n, p, func(at []Mem) {
		x := g.load(at[1])
		VFMSUB213PS(shift, s, x)
		g.clamp(x)
		g.store(g.exp(x), at[0])
	})
	end()

	g.text("softmaxBack", "func(dp, p *float32, n int, delta, scale float32)", "sets dp = p·(dp−delta)·scale.")
	p, n = pointers("dp", "p"), Load(Param("n"), GP64())
	delta := g.param("delta")
	s = g.param("scale")
	g.over("softmaxBack", n, p, func(at []Mem) {
		d, q := g.load(at[0]), g.load(at[1])
		VSUBPS(delta, d, d)
		VMULPS(q, d, d)
		VMULPS(s, d, d)
		g.store(d, at[0])
	})
	end()

	g.text("classBack", "func(x *float32, n int, scale, lse, entropy, wl, we float32)",
		"sets x = p·(wl+we·(log p+entropy)), log p = scale·x−lse.")
	p, n = pointers("x"), Load(Param("n"), GP64())
	s = g.param("scale")
	lse, ent, wl, we := g.param("lse"), g.param("entropy"), g.param("wl"), g.param("we")
	g.expSetup()
	g.over("classBack", n, p, func(at []Mem) {
		x := g.load(at[0])
		VFMSUB213PS(lse, s, x)
		g.clamp(x)
		q := g.exp(x)
		VADDPS(ent, x, x)
		VFMADD213PS(wl, we, x)
		VMULPS(q, x, x)
		g.store(x, at[0])
	})
	end()

	g.text("rmsScale", "func(out, x, w *float32, n int, s float32)", "sets out = x·s·w.")
	p, n = pointers("out", "x", "w"), Load(Param("n"), GP64())
	s = g.param("s")
	g.over("rmsScale", n, p, func(at []Mem) {
		x, w := g.load(at[1]), g.load(at[2])
		VMULPS(s, x, x)
		VMULPS(w, x, x)
		g.store(x, at[0])
	})
	end()

	g.text("rmsBack", "func(dx, dout, x, w *float32, n int, s, t float32)", "sets dx += dout·w·s − x·t.")
	p, n = pointers("dx", "dout", "x", "w"), Load(Param("n"), GP64())
	s = g.param("s")
	t := g.param("t")
	g.over("rmsBack", n, p, func(at []Mem) {
		dx, d, x, w := g.load(at[0]), g.load(at[1]), g.load(at[2]), g.load(at[3])
		VMULPS(s, w, w)
		VFMADD231PS(d, w, dx)
		VFNMADD231PS(x, t, dx)
		g.store(dx, at[0])
	})
	end()

	g.text("rope", "func(x, y, cos, sin *float32, n int, sign float32)", "rotates (x, y) by (cos, sign·sin).")
	p, n = pointers("x", "y", "cos", "sin"), Load(Param("n"), GP64())
	sign := g.param("sign")
	g.over("rope", n, p, func(at []Mem) {
		x, y, c, s := g.load(at[0]), g.load(at[1]), g.load(at[2]), g.load(at[3])
		VMULPS(sign, s, s)
		xc, yc := g.vec(), g.vec()
		VMULPS(c, x, xc)
		VFNMADD231PS(s, y, xc)
		VMULPS(c, y, yc)
		VFMADD231PS(s, x, yc)
		g.store(xc, at[0])
		g.store(yc, at[1])
	})
	end()

	g.text("swiglu", "func(out, gate, up *float32, n int)", "sets out = gate·σ(gate)·up.")
	p, n = pointers("out", "gate", "up"), Load(Param("n"), GP64())
	g.expSetup()
	one := g.kept(1)
	g.over("swiglu", n, p, func(at []Mem) {
		x := g.load(at[1])
		d := g.onePlusExpMinus(x, one)
		VMULPS(g.load(at[2]), x, x)
		VDIVPS(d, x, x)
		g.store(x, at[0])
	})
	end()

	g.text("swigluBack", "func(dgate, dup, dout, gate, up *float32, n int)", "sets dgate = dout·up·silu'(gate), dup = dout·silu(gate).")
	p, n = pointers("dgate", "dup", "dout", "gate", "up"), Load(Param("n"), GP64())
	g.expSetup()
	one = g.kept(1)
	g.over("swigluBack", n, p, func(at []Mem) {
		x := g.load(at[3])
		d := g.onePlusExpMinus(x, one)
		q := g.vec()
		VDIVPS(d, one, q) // σ
		do := g.load(at[2])
		VMULPS(q, do, do) // dout·σ
		silu := g.vec()
		VMULPS(x, do, silu)
		g.store(silu, at[1])
		VSUBPS(q, one, q)
		VFMADD213PS(one, q, x) // 1 + g·(1−σ)
		VMULPS(do, x, x)
		VMULPS(g.load(at[4]), x, x)
		g.store(x, at[0])
	})
	end()

	g.text("adamw", "func(p, grad, m, v *float32, n int, scale, b1, b2, c1, c2, keep, step, root, eps float32)",
		"is one AdamW update; see adamConst.")
	p, n = pointers("p", "grad", "m", "v"), Load(Param("n"), GP64())
	for _, name := range []string{"scale", "b1", "b2", "c1", "c2", "keep", "step", "root", "eps"} {
		g.param(name)
	}
	g.over("adamw", n, p, func(at []Mem) {
		x, m, v := g.load(at[1]), g.load(at[2]), g.load(at[3])
		VMULPS(g.param("scale"), x, x)
		VMULPS(g.param("b1"), m, m)
		VFMADD231PS(g.param("c1"), x, m)
		VMULPS(x, x, x)
		VMULPS(g.param("b2"), v, v)
		VFMADD231PS(g.param("c2"), x, v)
		g.store(m, at[2])
		g.store(v, at[3])
		VSQRTPS(v, v)
		VFMADD213PS(g.param("eps"), g.param("root"), v)
		VMULPS(g.param("step"), m, m)
		VDIVPS(v, m, m)
		w := g.load(at[0])
		VFMSUB132PS(g.param("keep"), m, w)
		g.store(w, at[0])
	})
	end()
}

// onePlusExpMinus is 1 + exp(−x), at most about 2^128: σ's denominator.
func (g *gen) onePlusExpMinus(x, one VecVirtual) VecVirtual {
	y := g.zero()
	VSUBPS(x, y, y)
	g.clamp(y)
	d := g.exp(y)
	VADDPS(one, d, d)
	return d
}
