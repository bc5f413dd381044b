// Command asmgen writes the float32 vector kernels of package cpu as Go
// assembly, once for AVX2 with FMA and once for AVX-512, from one description, and
// the products once more for processors that multiply pairs of bfloat16.
//
// It is a module of its own so that avo, a development tool, is not a
// dependency of nrt. Run it through go generate in backend/cpu.
package main

import (
	"flag"
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"

	"nrt/backend/cpu/internal/asmgen/spell"
)

func main() {
	name := flag.String("isa", "avx512", "avx2, avx512 or bf16")
	// avo registers -out, -stubs and -pkg.
	flag.Parse()
	g := &gen{consts: map[uint32]Mem{}, vectors: map[uint32]Mem{}}
	switch *name {
	case "avx512":
		g.suffix, g.lanes, g.rows = "AVX512", 16, 12
	case "bf16":
		g.suffix, g.lanes, g.rows, g.pairs = "BF16", 16, 12, true
	case "avx2":
		g.suffix, g.lanes, g.rows = "AVX2", 8, 6
		g.masks = GLOBL("tailMasks", RODATA|NOPTR)
		for i := range 16 {
			v := uint32(0)
			if i < 8 {
				v = math.MaxUint32
			}
			DATA(4*i, U32(v))
		}
	default:
		panic("isa: want avx2, avx512 or bf16, have " + *name)
	}
	ConstraintExpr("amd64")
	if g.pairs {
		g.gemm()
		g.few()
		g.round()
		g.weave()
		cpuid()
		Generate()
		spell.File(flag.Lookup("out").Value.String())
		return
	}
	g.gemm()
	g.transpose()
	g.strip()
	g.few()
	g.widen()
	g.elementwise()
	g.reductions()
	g.dotRows()
	g.mixRows()
	Generate()
}

// gen is one instruction set.
type gen struct {
	suffix  string
	lanes   int  // floats in a vector
	rows    int  // rows of the largest tile of gemm
	pairs   bool // a float of A and B is two numbers in bfloat16
	masks   Mem  // eight ones, eight zeros (AVX2)
	consts  map[uint32]Mem
	vectors map[uint32]Mem

	tail    bool // the vectors now loaded and stored are cut by mask
	mask    VecVirtual
	scalars map[string]VecVirtual
}

const kmask = 1 // K1 masks the tail with AVX-512

func (g *gen) wide() bool { return g.lanes == 16 }

func (g *gen) vec() VecVirtual {
	if g.wide() {
		return ZMM()
	}
	return YMM()
}

// text starts a function.
func (g *gen) text(name, signature, doc string) {
	TEXT(name+g.suffix, NOSPLIT, signature)
	Doc(name + g.suffix + " " + doc)
	g.tail, g.scalars = false, map[string]VecVirtual{}
}

// value is a constant in memory.
func (g *gen) value(x float32) Mem {
	bits := math.Float32bits(x)
	m, ok := g.consts[bits]
	if !ok {
		m = ConstData(fmt.Sprintf("f%08x", bits), U32(bits))
		g.consts[bits] = m
	}
	return m
}

// constant is a vector of one value.
func (g *gen) constant(x float32) VecVirtual {
	v := g.vec()
	VBROADCASTSS(g.value(x), v)
	return v
}

// param is a vector of a float32 parameter. avo's Load would take MOVSS, which
// costs a hundred cycles on some processors once a wide register is in use (its
// upper part must be kept); so would Store, see ret.
func (g *gen) param(name string) VecVirtual {
	v, ok := g.scalars[name]
	if !ok {
		v = g.vec()
		VBROADCASTSS(frame(name), v)
		g.scalars[name] = v
	}
	return v
}

// frame is where a parameter stands.
func frame(name string) Mem {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// clear sets v to 0, zero takes a vector of zeros.
func (g *gen) clear(v VecVirtual) {
	if g.wide() {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

func (g *gen) zero() VecVirtual {
	v := g.vec()
	g.clear(v)
	return v
}

// strided is m moved on by 0 to 3 strides; stride3 is three of them.
func strided(m Mem, n int, stride, stride3 Register) Mem {
	switch n {
	case 1, 2:
		m.Index, m.Scale = stride, uint8(n)
	case 3:
		m.Index, m.Scale = stride3, 1
	}
	return m
}

// cut makes the mask of the first n lanes, 0 < n < lanes.
func (g *gen) cut(n Register) {
	if g.wide() {
		one := GP32()
		MOVL(U32(1), one)
		SHLXL(n.(GPVirtual).As32(), one, one)
		DECL(one)
		KMOVW(one, K1)
		return
	}
	at, skip := GP64(), GP64()
	LEAQ(g.masks, at)
	MOVQ(U32(8), skip)
	SUBQ(n, skip)
	g.mask = YMM()
	VMOVUPS(Mem{Base: at, Index: skip, Scale: 4}, g.mask)
}

// load reads a vector; in a tail, missing lanes are 0.
func (g *gen) load(m Mem) VecVirtual {
	v := g.vec()
	g.loadTo(m, v)
	return v
}

func (g *gen) loadTo(m Mem, v VecVirtual) {
	switch {
	case !g.tail:
		VMOVUPS(m, v)
	case g.wide():
		VMOVUPS_Z(m, K1, v)
	default:
		VMASKMOVPS(m, g.mask, v)
	}
}

// store writes a vector; in a tail, only the lanes that exist.
func (g *gen) store(v VecVirtual, m Mem) {
	switch {
	case !g.tail:
		VMOVUPS(v, m)
	case g.wide():
		VMOVUPS(v, K1, m)
	default:
		VMASKMOVPS(v, g.mask, m)
	}
}

// keep zeroes the lanes of v beyond the tail.
func (g *gen) keep(v VecVirtual) {
	switch {
	case !g.tail:
	case g.wide():
		VMOVAPS_Z(v, K1, v)
	default:
		VANDPS(v, g.mask, v)
	}
}

// over runs body for every vector of n floats at the given pointers, the last
// one perhaps cut. Pointers advance; n is used up.
func (g *gen) over(label string, n Register, ptrs []Register, body func(at []Mem)) {
	at := make([]Mem, len(ptrs))
	for i, p := range ptrs {
		at[i] = Mem{Base: p}
	}
	CMPQ(n, U8(g.lanes))
	JLT(LabelRef(label + "_tail"))
	Label(label + "_loop")
	body(at)
	for _, p := range ptrs {
		ADDQ(U8(4*g.lanes), p)
	}
	SUBQ(U8(g.lanes), n)
	CMPQ(n, U8(g.lanes))
	JGE(LabelRef(label + "_loop"))
	Label(label + "_tail")
	TESTQ(n, n)
	JZ(LabelRef(label + "_end"))
	g.cut(n)
	g.tail = true
	body(at)
	g.tail = false
	Label(label + "_end")
}

// sum reduces a vector to its lane 0.
func (g *gen) sum(v VecVirtual) VecVirtual {
	return g.fold(v, func(a, b, to Op) { VADDPS(a, b, to) })
}

// fold combines the lanes of v by halves.
func (g *gen) fold(v VecVirtual, f func(a, b, to Op)) VecVirtual {
	y := YMM()
	if g.wide() {
		VEXTRACTF64X4(U8(1), v, y)
		f(v.AsY(), y, y)
	} else {
		VMOVAPS(v, y)
	}
	x, t := XMM(), XMM()
	VEXTRACTF128(U8(1), y, x)
	f(y.AsX(), x, x)
	VMOVHLPS(x, x, t)
	f(t, x, x)
	VMOVSHDUP(x, t)
	f(t, x, x)
	return x
}

// ret stores lane 0 of v as result i, a float32 or float64.
func ret(v VecVirtual, i int) {
	r, err := ReturnIndex(i).Resolve()
	if err != nil {
		panic(err)
	}
	if r.Type.String() == "float64" {
		VMOVSD(v.AsX(), r.Addr)
		return
	}
	VMOVSS(v.AsX(), r.Addr)
}

// clamp limits x to where exp is neither 0 nor infinite by much; NaN stays.
func (g *gen) clamp(x VecVirtual) {
	VMAXPS(x, g.kept(expLow), x)
	VMINPS(x, g.kept(expHigh), x)
}

// The ends of exp's range: below, the result is 0; above, infinity.
const expLow, expHigh = -104, 89

// kept is a constant that lives in a register through the function.
func (g *gen) kept(x float32) VecVirtual {
	name := fmt.Sprint(x)
	v, ok := g.scalars[name]
	if !ok {
		v = g.constant(x)
		g.scalars[name] = v
	}
	return v
}

// expCoefficients interpolate (exp(r)−1−r)/r² at the Chebyshev nodes of
// |r| ≤ 1.002·ln2/2, lowest power first; exp is then within 1.03e-8, relative,
// before rounding.
var expCoefficients = []float32{0.5, 0.16666576305560618, 0.041666553762575075, 0.008363292753036496, 0.0013926325617571486}

// expSetup loads what exp keeps in registers; call it before the loop.
func (g *gen) expSetup() {
	g.kept(expLow)
	g.kept(expHigh)
	if g.wide() {
		g.kept(math.Log2E)
		g.kept(1)
		for _, c := range expCoefficients {
			g.kept(c)
		}
	}
}

// expConstant is one of exp's: a register, where there are enough, or memory.
func (g *gen) expConstant(x float32) Op {
	if g.wide() {
		return g.kept(x)
	}
	return g.memory(x)
}

// exp returns exp(x) for x already clamped: n = round(x·log₂e), r = x − n·ln 2
// in two pieces, exp = 2ⁿ·(1 + r + r²·P(r)).
func (g *gen) exp(x VecVirtual) VecVirtual {
	const ln2Hi = 0.693147182464599609375 // ln 2 as a float32
	const ln2Lo = -1.904654323148236e-09
	n, r := g.vec(), g.vec()
	VMULPS(g.expConstant(math.Log2E), x, n)
	if g.wide() {
		VRNDSCALEPS(U8(0), n, n)
		VMOVAPS(x, r)
		VFNMADD231PS_BCST(g.value(ln2Hi), n, r)
		VFNMADD231PS_BCST(g.value(ln2Lo), n, r)
	} else {
		VROUNDPS(U8(0), n, n)
		VMOVAPS(x, r)
		VFNMADD231PS(g.memory(ln2Hi), n, r)
		VFNMADD231PS(g.memory(ln2Lo), n, r)
	}
	p := g.vec()
	last := len(expCoefficients) - 1
	VMOVAPS(g.expConstant(expCoefficients[last]), p)
	for i := last - 1; i >= 0; i-- {
		VFMADD213PS(g.expConstant(expCoefficients[i]), r, p)
	}
	VFMADD213PS(g.expConstant(1), r, p)
	VFMADD213PS(g.expConstant(1), r, p)
	if g.wide() {
		VSCALEFPS(n, p, p)
		return p
	}
	// 2ⁿ in two factors, so that the ends of the range come out right.
	i, half := YMM(), YMM()
	VCVTPS2DQ(n, i)
	VPSRAD(U8(1), i, half)
	VPSUBD(half, i, i)
	for _, e := range []VecVirtual{half, i} {
		VPADDD(g.words(127), e, e)
		VPSLLD(U8(23), e, e)
		VMULPS(e, p, p)
	}
	return p
}

// memory is a vector constant in memory (AVX2 has no embedded broadcast).
func (g *gen) memory(x float32) Mem { return g.words(math.Float32bits(x)) }

func (g *gen) words(bits uint32) Mem {
	m, ok := g.vectors[bits]
	if !ok {
		m = GLOBL(fmt.Sprintf("v%08x", bits), RODATA|NOPTR)
		for i := range 8 {
			DATA(4*i, U32(bits))
		}
		g.vectors[bits] = m
	}
	return m
}
