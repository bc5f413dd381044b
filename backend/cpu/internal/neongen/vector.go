package main

import (
	"fmt"
	"math"
)

// elementwise writes the kernels that treat every element alone.
func (g *gen) elementwise() {
	g.begin("addNEON", "dst, src []float32", "", "sets dst += src.")
	g.over("add", 2, func() {
		d, s := g.load("R1"), g.load("R2")
		g.op3("fadd.4s", d, d, s)
		g.store(d, "R1")
	})
	g.end()

	g.begin("scaleNEON", "x []float32, s float32", "", "sets x *= s.")
	s := g.param("s")
	g.over("scale", 1, func() {
		x := g.load("R1")
		g.op3("fmul.4s", x, x, s)
		g.store(x, "R1")
	})
	g.end()

	g.begin("mulAddNEON", "dst, a, b []float32, s float32", "", "sets dst += a·b·s.")
	s = g.param("s")
	g.over("mulAdd", 3, func() {
		d, a, b := g.load("R1"), g.load("R2"), g.load("R3")
		g.op3("fmul.4s", b, b, s)
		g.fmla(d, a, b)
		g.store(d, "R1")
	})
	g.end()

	g.begin("expNEON", "dst, x []float32, scale, shift float32", "", "sets dst = exp(scale·x−shift).")
	s = g.param("scale")
	minus := g.negative("shift")
	g.expSetup()
	g.over("exp", 2, func() {
		x, y := g.load("R2"), g.v()
		g.move(y, minus)
		g.fmla(y, x, s)
		g.clamp(y)
		g.store(g.exp(y), "R1")
	})
	g.end()

	g.begin("softmaxBackNEON", "dp, p []float32, delta, scale float32", "", "sets dp = p·(dp−delta)·scale.")
	delta, s := g.param("delta"), g.param("scale")
	g.over("softmaxBack", 2, func() {
		d, p := g.load("R1"), g.load("R2")
		g.op3("fsub.4s", d, d, delta)
		g.op3("fmul.4s", d, d, p)
		g.op3("fmul.4s", d, d, s)
		g.store(d, "R1")
	})
	g.end()

	g.begin("classBackNEON", "x []float32, scale, lse, entropy, wl, we float32", "",
		"sets x = p·(wl+we·(log p+entropy)), log p = scale·x−lse.")
	s, minus = g.param("scale"), g.negative("lse")
	entropy, wl, we := g.param("entropy"), g.param("wl"), g.param("we")
	g.expSetup()
	g.over("classBack", 1, func() {
		x, lp := g.load("R1"), g.v()
		g.move(lp, minus)
		g.fmla(lp, x, s)
		g.clamp(lp)
		p := g.exp(lp)
		g.op3("fadd.4s", lp, lp, entropy)
		g.move(x, wl)
		g.fmla(x, lp, we)
		g.op3("fmul.4s", x, x, p)
		g.store(x, "R1")
	})
	g.end()

	g.begin("rmsScaleNEON", "out, x, w []float32, s float32", "", "sets out = x·s·w.")
	s = g.param("s")
	g.over("rmsScale", 3, func() {
		x, w := g.load("R2"), g.load("R3")
		g.op3("fmul.4s", x, x, s)
		g.op3("fmul.4s", x, x, w)
		g.store(x, "R1")
	})
	g.end()

	g.begin("rmsBackNEON", "dx, dout, x, w []float32, s, t float32", "", "sets dx += dout·w·s − x·t.")
	s, t := g.param("s"), g.param("t")
	g.over("rmsBack", 4, func() {
		dx, d, x, w := g.load("R1"), g.load("R2"), g.load("R3"), g.load("R4")
		g.op3("fmul.4s", w, w, s)
		g.fmla(dx, d, w)
		g.fmls(dx, x, t)
		g.store(dx, "R1")
	})
	g.end()

	g.begin("ropeNEON", "x, y, cos, sin []float32, sign float32", "", "rotates (x, y) by (cos, sign·sin).")
	sign := g.param("sign")
	g.over("rope", 4, func() {
		x, y, c, s := g.load("R1"), g.load("R2"), g.load("R3"), g.load("R4")
		g.op3("fmul.4s", s, s, sign)
		xc, yc := g.v(), g.v()
		g.op3("fmul.4s", xc, x, c)
		g.fmls(xc, y, s)
		g.op3("fmul.4s", yc, y, c)
		g.fmla(yc, x, s)
		g.store(xc, "R1")
		g.store(yc, "R2")
	})
	g.end()

	g.begin("swigluNEON", "out, gate, up []float32", "", "sets out = gate·σ(gate)·up.")
	g.expSetup()
	g.over("swiglu", 3, func() {
		x, u := g.load("R2"), g.load("R3")
		d := g.onePlusExpMinus(x)
		g.op3("fmul.4s", x, x, u)
		g.op3("fdiv.4s", x, x, d)
		g.store(x, "R1")
	})
	g.end()

	g.begin("swigluBackNEON", "dgate, dup, dout, gate, up []float32", "",
		"sets dgate = dout·up·silu'(gate), dup = dout·silu(gate).")
	g.expSetup()
	one := g.constant(1)
	g.over("swigluBack", 5, func() {
		d, x, u := g.load("R3"), g.load("R4"), g.load("R5")
		s := g.onePlusExpMinus(x)
		g.op3("fdiv.4s", s, one, s) // σ
		g.op3("fmul.4s", d, d, s)   // dout·σ
		silu, y := g.v(), g.v()
		g.op3("fmul.4s", silu, d, x)
		g.store(silu, "R2")
		g.op3("fsub.4s", s, one, s)
		g.move(y, one)
		g.fmla(y, x, s) // 1 + g·(1−σ)
		g.op3("fmul.4s", y, y, d)
		g.op3("fmul.4s", y, y, u)
		g.store(y, "R1")
	})
	g.end()

	g.begin("adamwNEON", "p, g, m, v []float32, c adamConst[float32]", "", "is one AdamW update; see adamConst.")
	for _, f := range adamFields {
		g.param("c_" + f)
	}
	g.over("adamw", 4, func() {
		w, x, m, v := g.load("R1"), g.load("R2"), g.load("R3"), g.load("R4")
		g.op3("fmul.4s", x, x, g.param("c_scale"))
		g.op3("fmul.4s", m, m, g.param("c_b1"))
		g.fmla(m, x, g.param("c_c1"))
		g.op3("fmul.4s", x, x, x)
		g.op3("fmul.4s", v, v, g.param("c_b2"))
		g.fmla(v, x, g.param("c_c2"))
		g.store(m, "R3")
		g.store(v, "R4")
		d, step := g.v(), g.v()
		g.op2("fsqrt.4s", v, v)
		g.move(d, g.param("c_eps"))
		g.fmla(d, v, g.param("c_root"))
		g.op3("fmul.4s", step, m, g.param("c_step"))
		g.op3("fdiv.4s", step, step, d)
		g.op2("fneg.4s", step, step)
		g.fmla(step, w, g.param("c_keep"))
		g.store(step, "R1")
	})
	g.end()
}

// negative is minus a parameter, in all lanes.
func (g *gen) negative(name string) vec {
	v := g.param(name)
	g.op2("fneg.4s", v, v)
	delete(g.kept, name)
	return v
}

// onePlusExpMinus is 1 + exp(−x), at most infinity: σ's denominator.
func (g *gen) onePlusExpMinus(x vec) vec {
	y := g.v()
	g.op2("fneg.4s", y, x)
	g.clamp(y)
	d := g.exp(y)
	g.op3("fadd.4s", d, d, g.constant(1))
	return d
}

// constant is a number in all lanes, words a 32-bit integer.
func (g *gen) constant(x float32) vec { return g.words(math.Float32bits(x)) }

func (g *gen) words(bits uint32) vec {
	name := fmt.Sprintf("$0x%08x", bits)
	v, ok := g.kept[name]
	if !ok {
		v = g.v()
		g.ins("MOVW", name, "R19")
		g.ins("VDUP", "R19", v.s4())
		g.kept[name] = v
	}
	return v
}

// The ends of exp's range: below, the result is 0; above, infinity.
const expLow, expHigh = -104, 89

// expCoefficients interpolate (exp(r)−1−r)/r² at the Chebyshev nodes of
// |r| ≤ 1.002·ln2/2, lowest power first, as in the kernels of other
// processors; exp is then within 1.03e-8, relative, before rounding.
var expCoefficients = []float32{0.5, 0.16666576305560618, 0.041666553762575075, 0.008363292753036496, 0.0013926325617571486}

const (
	ln2Hi = 0.693147182464599609375 // ln 2 as a float32
	ln2Lo = -1.904654323148236e-09  // what it lacks
	bias  = 127
)

// expSetup loads the constants of clamp and exp; call it before the loop.
func (g *gen) expSetup() {
	for _, x := range append([]float32{expLow, expHigh, math.Log2E, ln2Hi, ln2Lo, 1}, expCoefficients...) {
		g.constant(x)
	}
	g.words(bias)
}

// clamp limits x to where exp is neither 0 nor infinite by much; NaN stays.
func (g *gen) clamp(x vec) {
	g.op3("fmax.4s", x, x, g.constant(expLow))
	g.op3("fmin.4s", x, x, g.constant(expHigh))
}

// exp returns exp(x) for x already clamped, and leaves x: n = round(x·log₂e),
// r = x − n·ln 2 in two pieces, exp = 2ⁿ·(1 + r + r²·P(r)).
func (g *gen) exp(x vec) vec {
	n, i, r := g.v(), g.v(), g.v()
	g.op3("fmul.4s", n, x, g.constant(math.Log2E))
	g.op2("fcvtns.4s", i, n)
	g.op2("frintn.4s", n, n)
	g.move(r, x)
	g.fmls(r, n, g.constant(ln2Hi))
	g.fmls(r, n, g.constant(ln2Lo))
	last := len(expCoefficients) - 1
	p := g.constant(expCoefficients[last])
	spare := [2]vec{g.v(), g.v()}
	for j := last - 1; j >= -2; j-- {
		c := float32(1)
		if j >= 0 {
			c = expCoefficients[j]
		}
		next := spare[(j+2)%2]
		g.move(next, g.constant(c))
		g.fmla(next, p, r)
		p = next
	}
	// 2ⁿ in two factors, so that the ends of the range come out right.
	half := g.v()
	g.word(encodeShift(half, i, 1), fmt.Sprintf("sshr v%d.4s, v%d.4s, #1", half, i))
	g.ins("VSUB", half.s4(), i.s4(), i.s4())
	for _, e := range []vec{half, i} {
		g.ins("VADD", g.words(bias).s4(), e.s4(), e.s4())
		g.ins("VSHL", "$23", e.s4(), e.s4())
		g.op3("fmul.4s", p, p, e)
	}
	return p
}
