package main

import (
	"fmt"

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

// fewTile computes rows × panels of C in registers.
func (g *gen) fewTile(name string, w weightTile, rows, panels int) {
	vecs := 2 * panels
	acc := make([][]VecVirtual, rows)
	for i := range acc {
		for range vecs {
			acc[i] = append(acc[i], g.vec())
		}
	}
	each := func(f func(v VecVirtual, m Mem)) {
		p := GP64()
		MOVQ(w.c, p)
		for i := range acc {
			for v := range vecs {
				f(acc[i][v], Mem{Base: p, Disp: 4 * g.lanes * v})
			}
			if i < rows-1 {
				ADDQ(w.ldc, p)
			}
		}
	}
	TESTQ(w.acc, w.acc)
	JZ(LabelRef(name + "_clear"))
	each(func(v VecVirtual, m Mem) { VMOVUPS(m, v) })
	JMP(LabelRef(name + "_start"))
	Label(name + "_clear")
	for i := range acc {
		for _, v := range acc[i] {
			if g.wide() {
				VPXORD(v, v, v)
			} else {
				VXORPS(v, v, v)
			}
		}
	}
	Label(name + "_start")
	var three, rs3 Register
	if panels > 3 {
		three = GP64()
		LEAQ(Mem{Base: w.stride, Index: w.stride, Scale: 2}, three)
	}
	if rows >= 4 {
		rs3 = GP64()
		LEAQ(Mem{Base: w.rs, Index: w.rs, Scale: 2}, rs3)
	}
	bases := []Register{w.a} // of every fourth row of A
	for i := 4; i < rows; i += 4 {
		p := GP64()
		LEAQ(Mem{Base: bases[len(bases)-1], Index: w.rs, Scale: 4}, p)
		bases = append(bases, p)
	}
	strided := func(base, step, triple Register, i int) Mem {
		switch i {
		case 0:
			return Mem{Base: base}
		case 3:
			return Mem{Base: base, Index: triple, Scale: 1}
		}
		return Mem{Base: base, Index: step, Scale: uint8(i)}
	}
	// place of vector v of row p of the weights, elements of so many bytes
	place := func(p, v, size int) Mem {
		m := strided(w.b, w.stride, three, v/2)
		m.Disp = (2*p + v%2) * g.lanes * size
		return m
	}
	soon := GP64()
	LEAQ(Mem{Base: w.b, Index: w.ahead, Scale: 1}, soon)
	// turn leads soon from the panels after these, which stand beside them and
	// have been read, to those that are next.
	turn := func() {
		for range panels - 1 {
			ADDQ(w.stride, soon)
		}
	}
	// step multiplies by row p from where the pointers stand; load gives vectors of
	// the panels.
	step := func(p, size int, load func(p, v int) Op) {
		for v := range vecs {
			if (2*p+v%2)*g.lanes*size%64 != 0 {
				continue // the same cache line
			}
			m := strided(soon, w.stride, three, v/2)
			m.Disp = (2*p + v%2) * g.lanes * size
			PREFETCHT0(m)
		}
		element := func(i int) VecVirtual {
			x := g.vec()
			m := strided(bases[i/4], w.rs, rs3, i%4)
			m.Disp = 4 * p
			VBROADCASTSS(m, x)
			return x
		}
		if rows <= 4 {
			x := make([]VecVirtual, rows)
			for i := range x {
				x[i] = element(i)
			}
			for v := range vecs {
				b := load(p, v)
				for i := range x {
					g.mulAdd(b, x[i], acc[i][v])
				}
			}
		} else {
			b := make([]Op, vecs)
			for v := range b {
				b[v] = load(p, v)
			}
			for i := range acc {
				x := element(i)
				for v := range b {
					g.mulAdd(b[v], x, acc[i][v])
				}
			}
		}
	}
	next := func(bytes int) {
		ADDQ(U32(uint32(bytes)), w.b)
		ADDQ(U32(uint32(bytes)), soon)
	}
	// steps takes n rows of the panels.
	steps := func(n, size int, load func(p, v int) Op) {
		for p := range n {
			step(p, size, load)
		}
		for _, p := range bases {
			ADDQ(U8(uint8(4*n)), p)
		}
		next(n * 2 * g.lanes * size)
	}
	turnAt := func(loop string) {
		CMPQ(w.k, frame("turn"))
		JNE(LabelRef(loop + "_on"))
		turn()
		Label(loop + "_on")
	}
	loop := name + "_loop"
	// run takes n rows one by one; with AVX2 those beyond a multiple of four, and
	// then four at a time, as in fourSteps.
	run := func(n Register, size int, load func(p, v int) Op, turn func(loop string)) {
		if g.wide() {
			Label(loop)
			steps(1, size, load)
			turn(loop)
			DECQ(n)
			JNZ(LabelRef(loop))
			return
		}
		TESTQ(U32(3), n)
		JZ(LabelRef(loop))
		Label(loop + "_odd")
		steps(1, size, load)
		DECQ(n)
		TESTQ(U32(3), n)
		JNZ(LabelRef(loop + "_odd"))
		TESTQ(n, n)
		JZ(LabelRef(loop + "_done"))
		Label(loop)
		turn(loop)
		steps(4, size, load)
		SUBQ(U8(4), n)
		JNZ(LabelRef(loop))
		Label(loop + "_done")
	}
	switch w.format {
	case "F32", "":
		run(w.k, 4, func(p, v int) Op {
			if rows == 1 && !g.pairs {
				return place(p, v, 4)
			}
			b := g.vec()
			VMOVUPS(place(p, v, 4), b)
			return b
		}, turnAt)
	case "BF16":
		run(w.k, 2, func(p, v int) Op { return g.fromBF16(place(p, v, 2)) }, turnAt)
	case "Q8":
		Label(name + "_block")
		CMPQ(w.k, frame("turn"))
		JGT(LabelRef(loop + "_on"))
		turn()
		Label(loop + "_on")
		scale := make([]VecVirtual, vecs)
		for v := range scale {
			scale[v] = g.fromBF16(place(0, v, 2))
		}
		next(4 * g.lanes)
		n := g.blockDepth(name, w.k)
		run(n, 1, func(p, v int) Op { return g.fromQ8(place(p, v, 1), scale[v]) }, func(string) {})
		TESTQ(w.k, w.k)
		JNZ(LabelRef(name + "_block"))
	}
	each(func(v VecVirtual, m Mem) { VMOVUPS(v, m) })
	end()
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
