package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Of AVX512_BF16's instructions VFMADD231PD and VPACKUSDW are written: see package
// spell.

// mulAdd adds b·x to acc.
func (g *gen) mulAdd(b Op, x, acc VecVirtual) {
	if g.pairs {
		VFMADD231PD(b, x, acc)
		return
	}
	VFMADD231PS(b, x, acc)
}

// round writes what rounds a row of A.
func (g *gen) round() {
	g.text("round", "func(dst, src *float32, blocks int)", "rounds 32 floats at a time to 16 pairs of bfloat16; blocks > 0.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("blocks"), GP64())
	Label("loop")
	lo, hi, v := ZMM(), ZMM(), ZMM()
	VMOVUPS(Mem{Base: src}, lo)
	VMOVUPS(Mem{Base: src, Disp: 64}, hi)
	VPACKUSDW(lo, hi, v)
	VMOVUPS(v, Mem{Base: dst})
	ADDQ(U8(64), dst)
	ADDQ(U32(128), src)
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

// weave writes what rounds two rows of an operand that is summed over downwards.
func (g *gen) weave() {
	g.text("weave", "func(dst, first, second *float32, blocks int)", "sets 16 floats at a time to pairs of bfloat16, one number of each row; blocks > 0.")
	order := GLOBL("weaveOrder", RODATA|NOPTR)
	for i := range 32 {
		DATA(2*i, U16(uint16(i/2+i%2*16)))
	}
	dst, first, second, n := Load(Param("dst"), GP64()), Load(Param("first"), GP64()), Load(Param("second"), GP64()), Load(Param("blocks"), GP64())
	at := ZMM()
	VMOVDQU16(order, at)
	Label("loop")
	lo, hi, v := ZMM(), ZMM(), ZMM()
	VMOVUPS(Mem{Base: first}, lo)
	VMOVUPS(Mem{Base: second}, hi)
	VPACKUSDW(lo, hi, v)
	VPERMW(v, at, v)
	VMOVUPS(v, Mem{Base: dst})
	for _, p := range []Register{dst, first, second} {
		ADDQ(U8(64), p)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

// cpuid writes what tells who made the processor.
func cpuid() {
	TEXT("vendor", NOSPLIT, "func() uint32")
	Doc("vendor is the first four letters of the processor's maker, as CPUID has them: Auth, of AuthenticAMD.")
	XORL(EAX, EAX)
	XORL(ECX, ECX)
	CPUID()
	Store(EBX, ReturnIndex(0))
	RET()
}
