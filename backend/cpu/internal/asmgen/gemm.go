package main

import (
	"fmt"
	"slices"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// gemm writes the micro-kernel for every number of rows, for one and two
// vectors of columns, whole and cut. All variants do the same arithmetic for
// an element of C: one fused multiply-add per k, in order.
func (g *gen) gemm() {
	columns := fmt.Sprintf("<= %d", 2*g.lanes)
	if !g.wide() {
		columns = fmt.Sprintf("<= %d or n = %d", g.lanes, 2*g.lanes)
	}
	g.text("gemm", "func(c *float32, ldc int, a *float32, rs, cs int, b *float32, ldb int, m, n, k, accumulate int)",
		fmt.Sprintf("sets c = c·accumulate + a·b for 0 < m <= %d, 0 < n %s, k > 0; strides are in floats.", g.rows, columns))
	c, a, b := Load(Param("c"), GP64()), Load(Param("a"), GP64()), Load(Param("b"), GP64())
	ldc, rs, cs, ldb := Load(Param("ldc"), GP64()), Load(Param("rs"), GP64()), Load(Param("cs"), GP64()), Load(Param("ldb"), GP64())
	m, n, k, acc := Load(Param("m"), GP64()), Load(Param("n"), GP64()), Load(Param("k"), GP64()), Load(Param("accumulate"), GP64())
	for _, s := range []Register{ldc, rs, cs, ldb} {
		SHLQ(U8(2), s)
	}
	t := tile{c: c, a: a, b: b, ldc: ldc, rs: rs, cs: cs, ldb: ldb, k: k, acc: acc}
	CMPQ(n, U8(2*g.lanes))
	JEQ(LabelRef("two"))
	CMPQ(n, U8(g.lanes))
	JEQ(LabelRef("one"))
	if g.wide() {
		JLT(LabelRef("less"))
		g.lanesLeft(n)
		g.byRows("between", m, t, 2, true)
		Label("less")
	}
	// With AVX2 a cut second vector would need one register more than there
	// are: n is one or two whole vectors there, or less than one.
	g.cut(n)
	g.byRows("cut", m, t, 1, true)
	Label("two")
	g.byRows("full2", m, t, 2, false)
	Label("one")
	g.byRows("full1", m, t, 1, false)
}

// lanesLeft makes the mask of a second vector from n, the columns of both.
func (g *gen) lanesLeft(n Register) {
	left := GP64()
	MOVQ(n, left)
	SUBQ(U8(g.lanes), left)
	g.cut(left)
}

type tile struct{ c, a, b, ldc, rs, cs, ldb, k, acc Register }

// byRows jumps to the tile of m rows.
func (g *gen) byRows(name string, m Register, t tile, vecs int, cut bool) {
	for r := g.rows; r >= 1; r-- {
		next := fmt.Sprintf("%s_not%d", name, r)
		if r > 1 {
			CMPQ(m, U8(r))
			JNE(LabelRef(next))
		}
		g.tile(fmt.Sprintf("%s_%d", name, r), t, r, vecs, cut)
		if r > 1 {
			Label(next)
		}
	}
}

// tile computes rows × vecs vectors of C in registers.
func (g *gen) tile(name string, t tile, rows, vecs int, cut bool) {
	acc := g.accumulators(rows, vecs)
	TESTQ(t.acc, t.acc)
	JZ(LabelRef(name + "_clear"))
	g.eachOfC(acc, t.c, t.ldc, cut, func(v VecVirtual, m Mem) { g.loadTo(m, v) })
	if rows == g.rows && vecs == 2 {
		g.prefetch(t, rows, vecs) // the next, where there is one
	}
	JMP(LabelRef(name + "_start"))
	Label(name + "_clear")
	if rows == g.rows && vecs == 2 {
		g.prefetch(t, rows, 0)
	}
	for _, v := range slices.Concat(acc...) {
		g.clear(v)
	}
	Label(name + "_start")
	rs3 := GP64()
	LEAQ(Mem{Base: t.rs, Index: t.rs, Scale: 2}, rs3)
	bases := rowBases(t.a, t.rs, rows)
	element := func(i int) Mem { return strided(Mem{Base: bases[i/4]}, i%4, t.rs, rs3) }
	step := func(row func(v int) Mem, element func(i int) Mem) {
		b := make([]VecVirtual, vecs)
		for v := range vecs {
			g.tail = cut && v == vecs-1
			b[v] = g.load(row(v))
			g.tail = false
		}
		for i := range acc {
			x := g.vec()
			VBROADCASTSS(element(i), x)
			for v := range vecs {
				g.mulAdd(b[v], x, acc[i][v])
			}
		}
	}
	if !cut && vecs == 2 {
		g.fourSteps(name, t, rows, bases, element, step)
	}
	Label(name + "_loop")
	step(func(v int) Mem { return Mem{Base: t.b, Disp: 4 * g.lanes * v} }, element)
	for _, p := range bases {
		ADDQ(t.cs, p)
	}
	ADDQ(t.ldb, t.b)
	DECQ(t.k)
	JNZ(LabelRef(name + "_loop"))
	Label(name + "_done")
	g.eachOfC(acc, t.c, t.ldc, cut, func(v VecVirtual, m Mem) { g.store(v, m) })
	end()
}

// accumulators takes the registers of a tile of C.
func (g *gen) accumulators(rows, vecs int) [][]VecVirtual {
	acc := make([][]VecVirtual, rows)
	for i := range acc {
		for range vecs {
			acc[i] = append(acc[i], g.vec())
		}
	}
	return acc
}

// eachOfC calls f with the accumulators and their places in C; cut says that the last
// vector of each row is.
func (g *gen) eachOfC(acc [][]VecVirtual, c, ldc Register, cut bool, f func(v VecVirtual, m Mem)) {
	p := GP64()
	MOVQ(c, p)
	for i, row := range acc {
		for v := range row {
			g.tail = cut && v == len(row)-1
			f(row[v], Mem{Base: p, Disp: 4 * g.lanes * v})
			g.tail = false
		}
		if i < len(acc)-1 {
			ADDQ(ldc, p)
		}
	}
}

// rowBases are the addresses of every fourth row of A: rows are 0 to 3 strides from one.
func rowBases(a, rs Register, rows int) []Register {
	bases := []Register{a}
	for i := 4; i < rows; i += 4 {
		p := GP64()
		LEAQ(Mem{Base: bases[len(bases)-1], Index: rs, Scale: 4}, p)
		bases = append(bases, p)
	}
	return bases
}

// fourSteps takes four steps of k at a time while there are as many, where rows
// or columns of A are contiguous, which they are in a product. The 12
// multiply-adds of a step of AVX2 take six cycles; a thread that shares its core
// with another begins three instructions in a cycle, and 25 of them took eight and
// a half. Pointers that move once in four steps leave 21. With AVX-512, whose steps
// have 24 multiply-adds and take 12 cycles, they brought up to 8 %. Its rows of B
// are asked for 32 steps ahead; without that large products lost a tenth. For
// AVX2's narrower ones the processor foresees them by itself.
func (g *gen) fourSteps(name string, t tile, rows int, bases []Register, element func(i int) Mem, step func(row func(v int) Mem, element func(i int) Mem)) {
	ldb3, cs3, ahead := GP64(), GP64(), GP64()
	if g.wide() {
		MOVQ(t.ldb, ahead)
		SHLQ(U8(5), ahead)
		ADDQ(t.b, ahead)
	}
	CMPQ(t.k, U8(4))
	JLT(LabelRef(name + "_loop"))
	LEAQ(Mem{Base: t.ldb, Index: t.ldb, Scale: 2}, ldb3)
	four := func(label string, element func(i, p int) Mem, advance func()) {
		Label(label)
		for p := range 4 {
			row := func(v int) Mem { return strided(Mem{Base: t.b, Disp: 4 * g.lanes * v}, p, t.ldb, ldb3) }
			if g.wide() {
				for v := 0; v < 2*g.lanes; v += 16 {
					PREFETCHT0(strided(Mem{Base: ahead, Disp: 4 * v}, p, t.ldb, ldb3))
				}
			}
			step(row, func(i int) Mem { return element(i, p) })
		}
		advance()
		LEAQ(Mem{Base: t.b, Index: t.ldb, Scale: 4}, t.b)
		if g.wide() {
			LEAQ(Mem{Base: ahead, Index: t.ldb, Scale: 4}, ahead)
		}
		SUBQ(U8(4), t.k)
		CMPQ(t.k, U8(4))
		JGE(LabelRef(label))
		TESTQ(t.k, t.k)
		JZ(LabelRef(name + "_done"))
		JMP(LabelRef(name + "_loop"))
	}
	CMPQ(t.cs, U8(4))
	JNE(LabelRef(name + "_columns"))
	four(name+"_rows4", func(i, p int) Mem {
		m := element(i)
		m.Disp += 4 * p
		return m
	}, func() {
		for _, p := range bases {
			ADDQ(U8(16), p)
		}
	})
	Label(name + "_columns")
	if rows > 1 {
		CMPQ(t.rs, U8(4))
		JNE(LabelRef(name + "_loop"))
	}
	LEAQ(Mem{Base: t.cs, Index: t.cs, Scale: 2}, cs3)
	four(name+"_columns4", func(i, p int) Mem { return strided(Mem{Base: t.a, Disp: 4 * i}, p, t.cs, cs3) }, func() {
		for _, p := range bases {
			LEAQ(Mem{Base: p, Index: t.cs, Scale: 4}, p)
		}
	})
}

// prefetch asks for a tile of C, vectors of columns to the right of t: its first
// use is at the head of a chain of sums, or a store of many lines at once, where
// a cache miss would be waited for. What lies beyond the end of C does not fault.
func (g *gen) prefetch(t tile, rows, vectors int) {
	p := GP64()
	LEAQ(Mem{Base: t.c, Disp: 4 * g.lanes * vectors}, p)
	for i := range rows {
		PREFETCHT0(Mem{Base: p})
		PREFETCHT0(Mem{Base: p, Disp: 4*2*g.lanes - 4})
		if i < rows-1 {
			ADDQ(t.ldc, p)
		}
	}
}

// transpose writes the 8 by 8 and the 4 by 8 block; edges are left to Go.
func (g *gen) transpose() {
	if g.wide() {
		return // the AVX2 blocks serve both
	}
	TEXT("transpose8AVX2", NOSPLIT, "func(dst *float32, ldd int, src *float32, lds, blocks int)")
	Doc("transpose8AVX2 sets dst[p·ldd+j] = src[j·lds+p] for j < 8, p < 8·blocks.")
	dst, ldd := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64())
	src, lds := Load(Param("src"), GP64()), Load(Param("lds"), GP64())
	blocks := Load(Param("blocks"), GP64())
	SHLQ(U8(2), ldd)
	SHLQ(U8(2), lds)
	Label("loop")
	in := make([]VecVirtual, 8)
	p := GP64()
	MOVQ(src, p)
	for j := range in {
		in[j] = YMM()
		VMOVUPS(Mem{Base: p}, in[j])
		if j < 7 {
			ADDQ(lds, p)
		}
	}
	mid := make([]VecVirtual, 8)
	for i := 0; i < 8; i += 4 {
		columns(in[i:], YMM, func(p int, v VecVirtual) { mid[i+p] = v })
	}
	q := GP64()
	MOVQ(dst, q)
	for _, imm := range []uint8{0x20, 0x31} {
		for i := range 4 {
			o := YMM()
			VPERM2F128(U8(imm), mid[i+4], mid[i], o)
			VMOVUPS(o, Mem{Base: q})
			ADDQ(ldd, q)
		}
	}
	MOVQ(q, dst)
	ADDQ(U8(32), src)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()

	TEXT("transpose4AVX2", NOSPLIT, "func(dst *float32, ldd int, src *float32, lds, blocks int)")
	Doc("transpose4AVX2 sets dst[p·ldd+j] = src[j·lds+p] for j < 4, p < 4·blocks.")
	dst, ldd = Load(Param("dst"), GP64()), Load(Param("ldd"), GP64())
	src, lds = Load(Param("src"), GP64()), Load(Param("lds"), GP64())
	blocks = Load(Param("blocks"), GP64())
	SHLQ(U8(2), ldd)
	SHLQ(U8(2), lds)
	Label("loop4")
	x := make([]VecVirtual, 4)
	p = GP64()
	MOVQ(src, p)
	for j := range x {
		x[j] = XMM()
		VMOVUPS(Mem{Base: p}, x[j])
		if j < 3 {
			ADDQ(lds, p)
		}
	}
	columns(x, XMM, func(_ int, v VecVirtual) {
		VMOVUPS(v, Mem{Base: dst})
		ADDQ(ldd, dst)
	})
	ADDQ(U8(16), src)
	DECQ(blocks)
	JNZ(LabelRef("loop4"))
	VZEROUPPER()
	RET()
}

// columns calls f with the columns of four rows, of 4 by 4 numbers in each 128 bits.
func columns(rows []VecVirtual, vec func() VecVirtual, f func(p int, column VecVirtual)) {
	t := [4]VecVirtual{vec(), vec(), vec(), vec()}
	VUNPCKLPS(rows[1], rows[0], t[0])
	VUNPCKHPS(rows[1], rows[0], t[1])
	VUNPCKLPS(rows[3], rows[2], t[2])
	VUNPCKHPS(rows[3], rows[2], t[3])
	for p, imm := range []uint8{0x44, 0xEE, 0x44, 0xEE} {
		v := vec()
		VSHUFPS(U8(imm), t[p/2+2], t[p/2], v)
		f(p, v)
	}
}
