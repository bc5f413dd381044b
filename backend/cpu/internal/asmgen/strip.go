package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// strip writes the copy of a narrow run of columns, with which operands are
// packed.
func (g *gen) strip() {
	g.text("strip", "func(dst *float32, ldd int, src *float32, lds, width, rows int)",
		"sets dst[i·ldd+j] = src[i·lds+j] for i < rows, j < width; rows > 0, 0 < width <= two vectors.")
	dst, ldd := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64())
	src, lds := Load(Param("src"), GP64()), Load(Param("lds"), GP64())
	width, rows := Load(Param("width"), GP64()), Load(Param("rows"), GP64())
	SHLQ(U8(2), ldd)
	SHLQ(U8(2), lds)
	loop := func(name string, vecs int, cut bool) {
		Label(name)
		v := make([]VecVirtual, vecs)
		for i := range v {
			g.tail = cut && i == vecs-1
			v[i] = g.load(Mem{Base: src, Disp: 4 * g.lanes * i})
		}
		for i := range v {
			g.tail = cut && i == vecs-1
			g.store(v[i], Mem{Base: dst, Disp: 4 * g.lanes * i})
		}
		g.tail = false
		ADDQ(lds, src)
		ADDQ(ldd, dst)
		DECQ(rows)
		JNZ(LabelRef(name))
		end()
	}
	if !g.wide() {
		// The six rows of a tile of A, without a mask: some processors take forty
		// cycles to store with one of AVX2's.
		CMPQ(width, U8(6))
		JNE(LabelRef("any"))
		Label("six")
		four, two := XMM(), GP64()
		VMOVUPS(Mem{Base: src}, four)
		MOVQ(Mem{Base: src, Disp: 16}, two)
		VMOVUPS(four, Mem{Base: dst})
		MOVQ(two, Mem{Base: dst, Disp: 16})
		ADDQ(lds, src)
		ADDQ(ldd, dst)
		DECQ(rows)
		JNZ(LabelRef("six"))
		end()
		Label("any")
	}
	CMPQ(width, U8(2*g.lanes))
	JEQ(LabelRef("two"))
	CMPQ(width, U8(g.lanes))
	JGT(LabelRef("between"))
	g.cut(width)
	loop("cut", 1, true)
	Label("between")
	g.lanesLeft(width)
	loop("more", 2, true)
	Label("two")
	loop("full", 2, false)
}
