package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// dotRows writes the products of one query with keys that stand in rows, as
// decoding needs them: a lane holds a key, so that each product is one chain of
// multiply-adds in the order of the columns, as in gemm, and keys are transposed
// on the way, four columns at a time.
func (g *gen) dotRows() {
	g.text("dotRows", "func(s, q, k *float32, ldk, blocks, dim int)",
		"sets s[j] = Σ q[d]·k[j·ldk+d], in the order of d, for so many blocks of as many j as a vector has lanes; dim is a multiple of 4.")
	s, q, k := Load(Param("s"), GP64()), Load(Param("q"), GP64()), Load(Param("k"), GP64())
	ld, blocks, dim := Load(Param("ldk"), GP64()), Load(Param("blocks"), GP64()), Load(Param("dim"), GP64())
	SHLQ(U8(2), ld)
	SHLQ(U8(2), dim)
	ld3 := GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	Label("block")
	// at[i] is row 4·i of the block: quarter i of register r holds row 4·i+r.
	at := make([]Register, g.lanes/4)
	for i := range at {
		at[i] = GP64()
		if i == 0 {
			MOVQ(k, at[i])
		} else {
			LEAQ(Mem{Base: at[i-1], Index: ld, Scale: 4}, at[i])
		}
	}
	acc := g.zero()
	d := GP64()
	XORQ(d, d)
	Label("columns")
	var x [4]VecVirtual
	for r := range x {
		row := func(i int) Mem {
			return [4]Mem{{Base: at[i]}, {Base: at[i], Index: ld, Scale: 1}, {Base: at[i], Index: ld, Scale: 2}, {Base: at[i], Index: ld3, Scale: 1}}[r]
		}
		x[r] = g.vec()
		VMOVUPS(row(0), x[r].AsX())
		for i := 1; i < len(at); i++ {
			if g.wide() {
				VINSERTF32X4(U8(i), row(i), x[r], x[r])
			} else {
				VINSERTF128(U8(i), row(i), x[r], x[r])
			}
		}
	}
	var t [4]VecVirtual
	for i := range t {
		t[i] = g.vec()
	}
	VUNPCKLPS(x[1], x[0], t[0])
	VUNPCKHPS(x[1], x[0], t[1])
	VUNPCKLPS(x[3], x[2], t[2])
	VUNPCKHPS(x[3], x[2], t[3])
	for i, imm := range []uint8{0x44, 0xEE, 0x44, 0xEE} {
		o := g.vec()
		VSHUFPS(U8(imm), t[i/2+2], t[i/2], o)
		m := Mem{Base: q, Index: d, Scale: 1, Disp: 4 * i}
		if g.wide() {
			VFMADD231PS_BCST(m, o, acc)
		} else {
			b := g.vec()
			VBROADCASTSS(m, b)
			VFMADD231PS(b, o, acc)
		}
	}
	for i := range at {
		ADDQ(U8(16), at[i])
	}
	ADDQ(U8(16), d)
	CMPQ(d, dim)
	JLT(LabelRef("columns"))
	VMOVUPS(acc, Mem{Base: s})
	ADDQ(U8(4*g.lanes), s)
	for range g.lanes / 4 {
		LEAQ(Mem{Base: k, Index: ld, Scale: 4}, k)
	}
	DECQ(blocks)
	JNZ(LabelRef("block"))
	end()
}
