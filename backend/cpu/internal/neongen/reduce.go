package main

import (
	"fmt"
	"math"
)

// reductions writes the kernels that sum up a slice.
func (g *gen) reductions() {
	g.product("dot", 2, "a, b []float32")
	g.product("dot3", 3, "a, b, c []float32")
	g.sumSquares()

	g.begin("softmaxNEON", "x []float32, scale float32", "top, sum float32",
		"sets x = exp(scale·(x−top)), top = max x, and returns the sum.")
	top := g.maximum()
	scale := g.param("scale")
	g.expSetup()
	sum := g.v()
	g.zero(sum)
	g.over("exp", 1, func() {
		x := g.load("R1")
		e := g.shifted(x, top, scale)
		g.store(e, "R1")
		g.first(e)
		g.op3("fadd.4s", sum, sum, e)
	})
	g.result("sum", g.sum(sum))
	g.end()

	g.begin("statsNEON", "x []float32, scale float32", "top, sum, weighted float32",
		"returns max x and, with y = scale·(x−top), Σ exp(y) and Σ exp(y)·y.")
	top = g.maximum()
	scale = g.param("scale")
	g.expSetup()
	sum, weighted := g.v(), g.v()
	g.zero(sum)
	g.zero(weighted)
	g.over("exp", 1, func() {
		y := g.load("R1")
		e := g.shifted(y, top, scale)
		g.first(e)
		g.op3("fadd.4s", sum, sum, e)
		g.fmla(weighted, e, y)
	})
	g.result("sum", g.sum(sum))
	g.result("weighted", g.sum(weighted))
	g.end()
}

// shifted sets x to y = scale·(x−top), clamped, and returns exp(y).
func (g *gen) shifted(x, top, scale vec) vec {
	g.op3("fsub.4s", x, x, top)
	g.op3("fmul.4s", x, x, scale)
	g.clamp(x)
	return g.exp(x)
}

// first zeroes the lanes that a single element left unused.
func (g *gen) first(v vec) {
	if g.single {
		g.ins("FMOVS", v.float(), v.float()) // clears the rest of the register
	}
}

// result stores lane 0 of v, a float32.
func (g *gen) result(name string, v vec) { g.ins("FMOVS", v.float(), g.fn.at[name]) }

// sum adds up the lanes of v.
func (g *gen) sum(v vec) vec {
	g.op3("faddp.4s", v, v, v)
	g.op3("faddp.4s", v, v, v)
	return v
}

// maximum finds the largest element of x, a slice that must not be empty, in
// all lanes, and stores it as top. NaN wins over everything. R0 and R1 are the
// slice again afterwards.
func (g *gen) maximum() vec {
	g.ins("CBZ", "R0", g.short())
	m := g.v()
	g.move(m, g.constant(float32(math.Inf(-1))))
	g.over("max", 1, func() {
		v := g.v()
		if g.single {
			g.ins("VLD1R", "(R1)", "["+v.s4()+"]") // a zero in the other lanes could win
		} else {
			g.ins("FMOVQ", "(R1)", v.float())
		}
		g.op3("fmax.4s", m, m, v)
	})
	g.op3("fmaxp.4s", m, m, m)
	g.op3("fmaxp.4s", m, m, m)
	g.result("top", m)
	g.ins("MOVD", g.fn.at["x_len"], "R0")
	g.ins("MOVD", g.fn.at["x_base"], "R1")
	return m
}

// product writes Σ a·b(·c) with four accumulators while that many vectors are
// left.
func (g *gen) product(name string, slices int, list string) {
	g.begin(name+"NEON", list, "sum float32", "is the sum of the products.")
	var acc [4]vec
	for i := range acc {
		acc[i] = g.v()
		g.zero(acc[i])
	}
	step := func(to vec, load func(ptr string) vec) {
		v := load("R1")
		for i := 2; i < slices; i++ {
			g.op3("fmul.4s", v, v, load(fmt.Sprintf("R%d", i)))
		}
		g.fmla(to, v, load(fmt.Sprintf("R%d", slices)))
	}
	g.ins("SUBS", "$16", "R0")
	g.ins("BLT", "less")
	g.label("sixteen")
	for i := range acc {
		used := g.used
		step(acc[i], func(ptr string) vec {
			v := g.v()
			g.ins("FMOVQ", fmt.Sprintf("%d(%s)", 16*i, ptr), v.float())
			return v
		})
		g.used = used
	}
	for i := range slices {
		g.ins("ADD", "$64", fmt.Sprintf("R%d", i+1))
	}
	g.ins("SUBS", "$16", "R0")
	g.ins("BGE", "sixteen")
	g.label("less")
	g.ins("ADD", "$16", "R0")
	g.over("rest", slices, func() { step(acc[0], g.load) })
	g.op3("fadd.4s", acc[0], acc[0], acc[1])
	g.op3("fadd.4s", acc[2], acc[2], acc[3])
	g.op3("fadd.4s", acc[0], acc[0], acc[2])
	g.result("sum", g.sum(acc[0]))
	g.end()
}

// sumSquares adds squares in float64, where the square of a float32 is exact.
func (g *gen) sumSquares() {
	g.begin("sumSquaresNEON", "x []float32", "sum float64", "is Σ x², added in float64.")
	lo, hi := g.v(), g.v()
	g.zero(lo)
	g.zero(hi)
	g.over("square", 1, func() {
		x := g.load("R1")
		a, b := g.v(), g.v()
		g.op2("fcvtl.2d", a, x)
		g.op2("fcvtl2.2d", b, x)
		g.ins("VFMLA", a.d2(), a.d2(), lo.d2())
		g.ins("VFMLA", b.d2(), b.d2(), hi.d2())
	})
	g.op3("fadd.2d", lo, lo, hi)
	g.op3("faddp.2d", lo, lo, lo)
	g.ins("FMOVD", lo.float(), g.fn.at["sum"])
	g.end()
}
