package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// reductions writes the kernels that sum up a slice.
func (g *gen) reductions() {
	g.product("dot", "a", "b")
	g.product("dot3", "a", "b", "c")
	g.sumSquares()
	g.above()

	g.text("softmax", "func(x *float32, n int, scale float32) (top, sum float32)",
		"sets x = exp(scale·(x−top)), top = max x, and returns the sum.")
	s := g.param("scale")
	top, x := g.maximum()
	ret(top, 0)
	n := Load(Param("n"), GP64())
	g.expSetup()
	sum := g.zero()
	g.over("exp", n, []Register{x}, func(at []Mem) {
		v := g.load(at[0])
		VSUBPS(top, v, v)
		VMULPS(s, v, v)
		g.clamp(v)
		e := g.exp(v)
		g.store(e, at[0])
		g.keep(e)
		VADDPS(e, sum, sum)
	})
	ret(g.sum(sum), 1)
	end()

	g.text("stats", "func(x *float32, n int, scale float32) (top, sum, weighted float32)",
		"returns max x and, with y = scale·(x−top), Σ exp(y) and Σ exp(y)·y.")
	s = g.param("scale")
	top, x = g.maximum()
	ret(top, 0)
	n = Load(Param("n"), GP64())
	g.expSetup()
	sum = g.zero()
	weighted := g.zero()
	g.over("exp", n, []Register{x}, func(at []Mem) {
		v := g.load(at[0])
		VSUBPS(top, v, v)
		VMULPS(s, v, v)
		g.clamp(v)
		e := g.exp(v)
		g.keep(e)
		VADDPS(e, sum, sum)
		VFMADD231PS(e, v, weighted)
	})
	ret(g.sum(sum), 1)
	ret(g.sum(weighted), 2)
	end()
}

// maximum finds the largest element of x, in all lanes, and loads x anew.
func (g *gen) maximum() (VecVirtual, Register) {
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	low := g.constant(float32(math.Inf(-1)))
	m := g.vec()
	VMOVAPS(low, m)
	g.over("max", n, []Register{x}, func(at []Mem) {
		v := g.load(at[0])
		switch {
		case !g.tail:
		case g.wide():
			VBLENDMPS(v, low, K1, v)
		default:
			VBLENDVPS(g.mask, v, low, v)
		}
		VMAXPS(v, m, m)
	})
	one := g.fold(m, func(a, b, to Op) { VMAXPS(a, b, to) })
	top := g.vec()
	VBROADCASTSS(one.AsX(), top)
	return top, Load(Param("x"), GP64())
}

// product writes Σ a·b(·c) with four accumulators while that many vectors are
// left.
func (g *gen) product(name string, names ...string) {
	list := names[0]
	for _, s := range names[1:] {
		list += ", " + s
	}
	g.text(name, fmt.Sprintf("func(%s *float32, n int) float32", list), "is the sum of the products.")
	p, n := pointers(names...), Load(Param("n"), GP64())
	acc := [4]VecVirtual{g.zero(), g.zero(), g.zero(), g.zero()}
	step := func(at []Mem, to VecVirtual) {
		v := g.load(at[0])
		for _, m := range at[1 : len(at)-1] {
			VMULPS(g.load(m), v, v)
		}
		VFMADD231PS(g.load(at[len(at)-1]), v, to)
	}
	CMPQ(n, U8(4*g.lanes))
	JLT(LabelRef("rest"))
	Label("four")
	for i := range acc {
		var at []Mem
		for _, r := range p {
			at = append(at, Mem{Base: r, Disp: 4 * g.lanes * i})
		}
		step(at, acc[i])
	}
	for _, r := range p {
		ADDQ(I32(16*g.lanes), r)
	}
	SUBQ(U8(4*g.lanes), n)
	CMPQ(n, U8(4*g.lanes))
	JGE(LabelRef("four"))
	Label("rest")
	g.over("one", n, p, func(at []Mem) { step(at, acc[0]) })
	VADDPS(acc[1], acc[0], acc[0])
	VADDPS(acc[3], acc[2], acc[2])
	VADDPS(acc[2], acc[0], acc[0])
	ret(g.sum(acc[0]), 0)
	end()
}

// sumSquares adds squares in float64.
func (g *gen) sumSquares() {
	g.text("sumSquares", "func(x *float32, n int) float64", "is Σ x², added in float64.")
	x, n := pointers("x"), Load(Param("n"), GP64())
	lo, hi := g.zero(), g.zero()
	g.over("sq", n, x, func(at []Mem) {
		v := g.load(at[0])
		a, b := g.vec(), g.vec()
		if g.wide() {
			h := YMM()
			VEXTRACTF64X4(U8(1), v, h)
			VCVTPS2PD(v.AsY(), a)
			VCVTPS2PD(h, b)
		} else {
			h := XMM()
			VEXTRACTF128(U8(1), v, h)
			VCVTPS2PD(v.AsX(), a)
			VCVTPS2PD(h, b)
		}
		VFMADD231PD(a, a, lo)
		VFMADD231PD(b, b, hi)
	})
	ret(g.sumPD(lo, hi), 0)
	end()
}

// above adds in float64, as sumSquares does.
func (g *gen) above() {
	g.text("above", "func(x, p *float32, n int, limit float32) (count int, mass float64)",
		"counts the x > limit and adds up the p beside them, in float64.")
	at, n := pointers("x", "p"), Load(Param("n"), GP64())
	limit := g.param("limit")
	count, bits := GP64(), GP64()
	XORQ(count, count)
	lo, hi := g.zero(), g.zero()
	g.over("above", n, at, func(at []Mem) {
		x, p, a, b := g.load(at[0]), g.vec(), g.vec(), g.vec()
		const greater = 0x1e // ordered, quiet
		if g.wide() {
			if g.tail {
				VCMPPS(U8(greater), limit, x, K1, K2)
			} else {
				VCMPPS(U8(greater), limit, x, K2)
			}
			KMOVW(K2, bits.As32())
			VMOVUPS_Z(at[1], K2, p)
			h := YMM()
			VEXTRACTF64X4(U8(1), p, h)
			VCVTPS2PD(p.AsY(), a)
			VCVTPS2PD(h, b)
		} else {
			m := YMM()
			VCMPPS(U8(greater), limit, x, m)
			g.keep(m)
			VMOVMSKPS(m, bits.As32())
			VANDPS(g.load(at[1]), m, p)
			h := XMM()
			VEXTRACTF128(U8(1), p, h)
			VCVTPS2PD(p.AsX(), a)
			VCVTPS2PD(h, b)
		}
		POPCNTQ(bits, bits)
		ADDQ(bits, count)
		VADDPD(a, lo, lo)
		VADDPD(b, hi, hi)
	})
	Store(count, ReturnIndex(0))
	ret(g.sumPD(lo, hi), 1)
	end()
}

// sumPD is the sum of all lanes of two vectors of float64, in lane 0.
func (g *gen) sumPD(lo, hi VecVirtual) VecVirtual {
	VADDPD(hi, lo, lo)
	y := YMM()
	if g.wide() {
		VEXTRACTF64X4(U8(1), lo, y)
		VADDPD(lo.AsY(), y, y)
	} else {
		VMOVAPS(lo, y)
	}
	h, t := XMM(), XMM()
	VEXTRACTF128(U8(1), y, h)
	VADDPD(y.AsX(), h, h)
	VPERMILPD(U8(1), h, t)
	VADDPD(t, h, h)
	return h
}
