// Command peak writes the two loops of package peak as Go assembly: multiply-adds
// on registers alone, and reads that are only combined with exclusive or.
package main

import (
	"flag"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"

	"nrt/backend/cpu/internal/asmgen/spell"
)

func main() {
	ConstraintExpr("amd64")
	for _, wide := range []bool{false, true} {
		fma("fma"+suffix(wide), wide, false)
		read(wide)
	}
	fma("fmaBF16", true, true)
	Generate()
	spell.File(flag.Lookup("out").Value.String())
}

func suffix(wide bool) string {
	if wide {
		return "AVX512"
	}
	return "AVX2"
}

// begin starts a function and tells its vector registers.
func begin(name string, wide bool, signature, doc string) (vec func() VecVirtual, bytes int) {
	vec, bytes = func() VecVirtual { return YMM() }, 32
	if wide {
		vec, bytes = func() VecVirtual { return ZMM() }, 64
	}
	TEXT(name, NOSPLIT, signature)
	Doc(name + " " + doc)
	return vec, bytes
}

// chains is how many multiply-adds are in flight: latency 4 on two ports needs 8,
// and 12 leave room in AVX2's sixteen registers.
const chains = 12

// fma writes the multiply-adds, of float32 or of pairs of bfloat16.
func fma(name string, wide, pairs bool) {
	what, bits32, mulAdd := "1·1", uint32(0x3f800000), VFMADD231PS // 1
	if pairs {
		what, bits32, mulAdd = "1·1 + 1·1", 0x3f803f80, VFMADD231PD // see package spell
	}
	vec, _ := begin(name, wide, "func(n int) float32",
		"adds "+what+" to each lane of twelve registers n times and returns the sum of their first lanes.")
	n := Load(Param("n"), GP64())
	bits := GP32()
	MOVL(U32(bits32), bits)
	first, one := XMM(), vec()
	MOVD(bits, first)
	VBROADCASTSS(first, one)
	var acc [chains]VecVirtual
	for i := range acc {
		acc[i] = vec()
		clear(wide, acc[i])
	}
	Label("next")
	for _, a := range acc {
		mulAdd(one, one, a)
	}
	DECQ(n)
	JNZ(LabelRef("next"))
	for _, a := range acc[1:] {
		VADDPS(a, acc[0], acc[0])
	}
	Store(acc[0].AsX(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func clear(wide bool, v VecVirtual) {
	if wide {
		VPXORQ(v, v, v)
	} else {
		VPXOR(v, v, v)
	}
}

// block is how many vectors a turn of the loop reads.
const block = 8

func read(wide bool) {
	vec, size := begin("read"+suffix(wide), wide, "func(p *uint64, blocks int) uint64",
		"is the exclusive or of blocks times eight vectors of 64-bit words from p on; blocks > 0.")
	p, n := Load(Param("p"), GP64()), Load(Param("blocks"), GP64())
	var acc [4]VecVirtual
	for i := range acc {
		acc[i] = vec()
		clear(wide, acc[i])
	}
	xor := func(m Op, v VecVirtual) {
		if wide {
			VPXORQ(m, v, v)
		} else {
			VPXOR(m, v, v)
		}
	}
	Label("next")
	for i := range block {
		xor(Mem{Base: p, Disp: i * size}, acc[i%len(acc)])
	}
	ADDQ(U32(block*size), p)
	DECQ(n)
	JNZ(LabelRef("next"))
	for _, a := range acc[1:] {
		xor(a, acc[0])
	}
	half := YMM()
	if wide {
		VEXTRACTI64X4(U8(1), acc[0], half)
		VPXOR(half, acc[0].AsY(), half)
	} else {
		VMOVDQA(acc[0], half)
	}
	quarter, word := XMM(), GP64()
	VEXTRACTI128(U8(1), half, quarter)
	VPXOR(quarter, half.AsX(), quarter)
	low := XMM()
	VPSRLDQ(U8(8), quarter, low)
	VPXOR(low, quarter, quarter)
	VMOVQ(quarter, word)
	Store(word, ReturnIndex(0))
	VZEROUPPER()
	RET()
}
