package main

import (
	"fmt"
	"slices"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// q8Block is how deep a block of Q8 numbers is that share a scale.
const q8Block = 32

// groups are the tiles of the kernels for few rows: for 1, 2, 3 … rows at once so
// many panels, and every number below. One row needs many panels, or its sums
// would wait for each other: a fused multiply-add takes four cycles, and two
// start in each. The scales of Q8 take registers too. Package cpu knows these
// numbers (fewGroup).
func (g *gen) groups(format string) []int {
	switch {
	case g.wide():
		return []int{4, 4, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1}
	case format == "Q8":
		return []int{2, 2, 1, 1}
	}
	return []int{4, 2, 1, 1, 1, 1}
}

// few writes the products of few rows with packed weights of each format, whose
// time is that of reading the weights. An element of C is the same chain of
// fused multiply-adds as in gemm; weights are widened on the way.
func (g *gen) few() {
	type format struct{ name, of, elem string }
	formats := []format{{"F32", "float32", "float32"}, {"BF16", "bfloat16", "uint16"}, {"Q8", "int8", "byte"}}
	if g.pairs {
		formats = []format{{"", "pairs of bfloat16", "float32"}}
	}
	for _, f := range formats {
		g.text("few"+f.name, "func(c *float32, ldc int, a *float32, rs int, b *"+f.elem+", stride int, m, panels, k, accumulate, ahead, turn int)",
			"sets c = c·accumulate + a·b for m rows of A and so many panels of "+f.of+", stride bytes apart, and asks for what lies ahead bytes further, in the last turn rows so many panels further; see groups.")
		w := weightTile{format: f.name,
			c: Load(Param("c"), GP64()), ldc: Load(Param("ldc"), GP64()), a: Load(Param("a"), GP64()), rs: Load(Param("rs"), GP64()),
			b: Load(Param("b"), GP64()), stride: Load(Param("stride"), GP64()), k: Load(Param("k"), GP64()), acc: Load(Param("accumulate"), GP64()), ahead: Load(Param("ahead"), GP64())}
		m, panels := Load(Param("m"), GP64()), Load(Param("panels"), GP64())
		SHLQ(U8(2), w.ldc)
		SHLQ(U8(2), w.rs)
		SHLQ(U8(3), m)
		ADDQ(panels, m)
		for rows, most := range g.groups(f.name) {
			for n := 1; n <= most; n++ {
				name := fmt.Sprintf("m%dp%d", rows+1, n)
				CMPQ(m, U8(8*(rows+1)+n))
				JNE(LabelRef(name + "_not"))
				g.fewTile(name, w, rows+1, n)
				Label(name + "_not")
			}
		}
		end()
	}
}

type weightTile struct {
	format                                  string
	c, ldc, a, rs, b, stride, k, acc, ahead Register
}

// fewAt is a tile of rows × panels of C that is being written.
type fewAt struct {
	weightTile
	rows, panels int
	sums         [][]VecVirtual
	bases        []Register // of every fourth row of A
	soon         Register   // what is asked for
	three, rs3   Register   // strides, where so many panels or rows need them
}

// fewTile computes rows × panels of C in registers.
func (g *gen) fewTile(name string, w weightTile, rows, panels int) {
	t := fewAt{weightTile: w, rows: rows, panels: panels, sums: g.accumulators(rows, 2*panels)}
	TESTQ(w.acc, w.acc)
	JZ(LabelRef(name + "_clear"))
	g.eachOfC(t.sums, w.c, w.ldc, false, func(v VecVirtual, m Mem) { VMOVUPS(m, v) })
	JMP(LabelRef(name + "_start"))
	Label(name + "_clear")
	for _, v := range slices.Concat(t.sums...) {
		g.clear(v)
	}
	Label(name + "_start")
	if panels > 3 {
		t.three = GP64()
		LEAQ(Mem{Base: w.stride, Index: w.stride, Scale: 2}, t.three)
	}
	if rows >= 4 {
		t.rs3 = GP64()
		LEAQ(Mem{Base: w.rs, Index: w.rs, Scale: 2}, t.rs3)
	}
	t.bases = rowBases(w.a, w.rs, rows)
	t.soon = GP64()
	LEAQ(Mem{Base: w.b, Index: w.ahead, Scale: 1}, t.soon)
	loop := name + "_loop"
	turnAt := func() {
		CMPQ(w.k, frame("turn"))
		JNE(LabelRef(loop + "_on"))
		t.turn()
		Label(loop + "_on")
	}
	switch w.format {
	case "F32", "":
		g.fewRun(&t, loop, w.k, 4, func(m Mem, _ int) Op {
			if rows == 1 && !g.pairs {
				return m
			}
			b := g.vec()
			VMOVUPS(m, b)
			return b
		}, turnAt)
	case "BF16":
		g.fewRun(&t, loop, w.k, 2, func(m Mem, _ int) Op { return g.fromBF16(m) }, turnAt)
	case "Q8":
		Label(name + "_block")
		CMPQ(w.k, frame("turn"))
		JGT(LabelRef(loop + "_on"))
		t.turn()
		Label(loop + "_on")
		scale := make([]VecVirtual, 2*panels)
		for v := range scale {
			scale[v] = g.fromBF16(g.place(&t, w.b, 0, v, 2))
		}
		t.next(4 * g.lanes)
		n := g.blockDepth(name, w.k)
		g.fewRun(&t, loop, n, 1, func(m Mem, v int) Op { return g.fromQ8(m, scale[v]) }, func() {})
		TESTQ(w.k, w.k)
		JNZ(LabelRef(name + "_block"))
	}
	g.eachOfC(t.sums, w.c, w.ldc, false, func(v VecVirtual, m Mem) { VMOVUPS(v, m) })
	end()
}

// turn leads soon from the panels after these, which stand beside them and have been
// read, to those that are next.
func (t *fewAt) turn() {
	for range t.panels - 1 {
		ADDQ(t.stride, t.soon)
	}
}

// next moves on in the panels.
func (t *fewAt) next(bytes int) {
	ADDQ(U32(uint32(bytes)), t.b)
	ADDQ(U32(uint32(bytes)), t.soon)
}

// place is where vector v of row p stands, elements of so many bytes, in the panels
// from base on.
func (g *gen) place(t *fewAt, base Register, p, v, size int) Mem {
	return strided(Mem{Base: base, Disp: (2*p + v%2) * g.lanes * size}, v/2, t.stride, t.three)
}

// fewRun takes n rows of the panels one by one; with AVX2 those beyond a multiple of
// four, and then four at a time, as in fourSteps. Elements have so many bytes; load
// gives vector v of a row, which stands at m; turn is part of each turn of the loop.
func (g *gen) fewRun(t *fewAt, loop string, n Register, size int, load func(m Mem, v int) Op, turn func()) {
	steps := func(rows int) {
		for p := range rows {
			g.fewStep(t, p, size, load)
		}
		for _, p := range t.bases {
			ADDQ(U8(uint8(4*rows)), p)
		}
		t.next(rows * 2 * g.lanes * size)
	}
	if g.wide() {
		Label(loop)
		steps(1)
		turn()
		DECQ(n)
		JNZ(LabelRef(loop))
		return
	}
	TESTQ(U32(3), n)
	JZ(LabelRef(loop))
	Label(loop + "_odd")
	steps(1)
	DECQ(n)
	TESTQ(U32(3), n)
	JNZ(LabelRef(loop + "_odd"))
	TESTQ(n, n)
	JZ(LabelRef(loop + "_done"))
	Label(loop)
	turn()
	steps(4)
	SUBQ(U8(4), n)
	JNZ(LabelRef(loop))
	Label(loop + "_done")
}

// fewStep multiplies by row p of the panels from where the pointers stand.
func (g *gen) fewStep(t *fewAt, p, size int, load func(m Mem, v int) Op) {
	vecs := 2 * t.panels
	for v := range vecs {
		if m := g.place(t, t.soon, p, v, size); m.Disp%64 == 0 { // once a cache line
			PREFETCHT0(m)
		}
	}
	vector := func(v int) Op { return load(g.place(t, t.b, p, v, size), v) }
	element := func(i int) VecVirtual {
		x := g.vec()
		VBROADCASTSS(strided(Mem{Base: t.bases[i/4], Disp: 4 * p}, i%4, t.rs, t.rs3), x)
		return x
	}
	if t.rows <= 4 {
		x := make([]VecVirtual, t.rows)
		for i := range x {
			x[i] = element(i)
		}
		for v := range vecs {
			b := vector(v)
			for i := range x {
				g.mulAdd(b, x[i], t.sums[i][v])
			}
		}
		return
	}
	b := make([]Op, vecs)
	for v := range b {
		b[v] = vector(v)
	}
	for i := range t.sums {
		x := element(i)
		for v := range b {
			g.mulAdd(b[v], x, t.sums[i][v])
		}
	}
}

// blockDepth takes the next block's depth, at most q8Block, off k.
func (g *gen) blockDepth(name string, k Register) Register {
	n := GP64()
	MOVQ(U32(q8Block), n)
	CMPQ(k, n)
	JGE(LabelRef(name + "_whole"))
	MOVQ(k, n)
	Label(name + "_whole")
	SUBQ(n, k)
	return n
}

// fromBF16 widens a vector of bfloat16, the upper halves of float32.
func (g *gen) fromBF16(m Mem) VecVirtual {
	v := g.vec()
	VPMOVZXWD(m, v)
	VPSLLD(U8(16), v, v)
	return v
}

// fromQ8 widens a vector of int8 and multiplies by the scale.
func (g *gen) fromQ8(m Mem, scale VecVirtual) VecVirtual {
	v := g.vec()
	VPMOVSXBD(m, v)
	VCVTDQ2PS(v, v)
	VMULPS(scale, v, v)
	return v
}

// widen writes what turns a part of a panel into float32.
func (g *gen) widen() {
	g.text("widenBF16", "func(dst *float32, src *uint16, vectors int)", "widens so many vectors of bfloat16.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("vectors"), GP64())
	Label("loop")
	VMOVUPS(g.fromBF16(Mem{Base: src}), Mem{Base: dst})
	ADDQ(U8(2*g.lanes), src)
	ADDQ(U8(4*g.lanes), dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()

	g.text("widenQ8", "func(dst *float32, src *byte, h int)", "widens a block of a panel, h deep: its scales, then its numbers.")
	dst, src = Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	h := Load(Param("h"), GP64())
	var scale [2]VecVirtual
	for v := range scale {
		scale[v] = g.fromBF16(Mem{Base: src, Disp: 2 * g.lanes * v})
	}
	ADDQ(U8(4*g.lanes), src)
	Label("loop")
	for v := range scale {
		VMOVUPS(g.fromQ8(Mem{Base: src, Disp: g.lanes * v}, scale[v]), Mem{Base: dst, Disp: 4 * g.lanes * v})
	}
	ADDQ(U8(2*g.lanes), src)
	ADDQ(U32(8*g.lanes), dst)
	DECQ(h)
	JNZ(LabelRef("loop"))
	end()
}
