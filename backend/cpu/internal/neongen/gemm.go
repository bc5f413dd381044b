package main

import "fmt"

// The registers of gemm. Strides are in bytes once loaded; the rows of A start
// at R8 to R15.
const (
	gC, gLdc, gCs, gB, gLdb = "R0", "R1", "R2", "R3", "R4"
	gN, gK, gAcc, gM        = "R5", "R6", "R7", "R23"
	gOff, gLeft             = "R19", "R20" // in the rows of A; of k
	gBAt, gCAt              = "R21", "R22"
	gRs                     = "R24"
	gRow0, gOffNumber       = 8, 19
)

// Vector registers of a tile: up to 24 accumulators, then B, then A.
const (
	tileRows, tileVecs = 8, 3
	bFirst             = vec(tileRows * tileVecs)
	aFirst             = bFirst + tileVecs
	aCount             = 32 - int(aFirst)
)

// gemm writes the micro-kernel: columns are taken twelve, eight, four at a
// time and then one by one, for every number of rows. All tiles do the same
// arithmetic for an element of C: one fused multiply-add per k, in order.
func (g *gen) gemm() {
	g.begin("gemmTileNEON", "c *float32, ldc int, a *float32, rs, cs int, b *float32, ldb, m, n, k, accumulate int", "",
		fmt.Sprintf("sets c = c·accumulate + a·b for 0 < m <= %d, n > 0, k > 0; strides are in floats.", tileRows))
	for _, p := range []struct{ name, reg string }{
		{"c", gC}, {"ldc", gLdc}, {"a", gRow(0)}, {"rs", gRs}, {"cs", gCs}, {"b", gB},
		{"ldb", gLdb}, {"m", gM}, {"n", gN}, {"k", gK}, {"accumulate", gAcc}} {
		g.ins("MOVD", g.fn.at[p.name], p.reg)
	}
	for _, r := range []string{gLdc, gRs, gCs, gLdb} {
		g.ins("LSL", "$2", r)
	}
	for i := 1; i < tileRows; i++ { // rows beyond m are not read
		g.ins("ADD", gRs, gRow(i-1), gRow(i))
	}
	g.label("columns")
	for vecs := tileVecs; vecs >= 1; vecs-- {
		g.ins("CMP", fmt.Sprintf("$%d", 4*vecs), gN)
		g.ins("BGE", fmt.Sprintf("columns%d", 4*vecs))
	}
	g.ins("CBNZ", gN, "columns1")
	g.ins("RET")
	for vecs := tileVecs; vecs >= 0; vecs-- {
		t := tile{vecs: vecs, cols: 4 * vecs}
		if vecs == 0 {
			t = tile{vecs: 1, cols: 1}
		}
		g.single = t.cols == 1
		g.label(fmt.Sprintf("columns%d", t.cols))
		for t.rows = tileRows; t.rows >= 1; t.rows-- {
			next := fmt.Sprintf("not%dx%d", t.rows, t.cols)
			if t.rows > 1 {
				g.ins("CMP", fmt.Sprintf("$%d", t.rows), gM)
				g.ins("BNE", next)
			}
			g.tile(t)
			if t.rows > 1 {
				g.label(next)
			}
		}
		g.single = false
	}
}

// tile is a shape: rows by vecs vectors, or by one column.
type tile struct{ rows, vecs, cols int }

func (t tile) label(what string) string { return fmt.Sprintf("%s%dx%d", what, t.rows, t.cols) }

func (t tile) acc(i, v int) vec { return vec(i*t.vecs + v) }

func gRow(i int) string { return fmt.Sprintf("R%d", gRow0+i) }

// tile computes rows × vecs vectors of C in registers and goes on with the
// columns that are left.
func (g *gen) tile(t tile) {
	g.ins("CBZ", gAcc, t.label("clear"))
	g.eachRow(t, func(v vec, at string) { g.ins(g.mov(), at, v.float()) })
	g.ins("B", t.label("start"))
	g.label(t.label("clear"))
	for i := range t.rows * t.vecs {
		g.zero(vec(i))
	}
	g.label(t.label("start"))
	g.ins("MOVD", "ZR", gOff)
	g.ins("MOVD", gK, gLeft)
	g.ins("MOVD", gB, gBAt)
	switch {
	case t.rows == tileRows && t.vecs == tileVecs:
		g.besideEachOther(t)
	case t.rows <= 4:
		g.fourDeep(t)
	}
	g.label(t.label("loop"))
	g.loadB(t, bFirst)
	for i := range t.rows {
		// A scalar load needs no vector unit, unlike a load into a lane.
		a := aFirst + vec(i%aCount)
		g.ins("FMOVS", fmt.Sprintf("(%s)(%s)", gRow(i), gOff), a.float())
		for v := range t.vecs {
			g.fmlaLane(t.acc(i, v), bFirst+vec(v), a, 0)
		}
	}
	g.ins("ADD", gCs, gOff)
	g.ins("SUB", "$1", gLeft)
	g.ins("CBNZ", gLeft, t.label("loop"))
	g.label(t.label("store"))
	g.eachRow(t, func(v vec, at string) { g.ins(g.mov(), v.float(), at) })
	g.ins("ADD", fmt.Sprintf("$%d", 4*t.cols), gC)
	g.ins("ADD", fmt.Sprintf("$%d", 4*t.cols), gB)
	g.ins("SUB", fmt.Sprintf("$%d", t.cols), gN)
	g.ins("B", "columns")
}

// mov moves a vector, or the one element of a single column.
func (g *gen) mov() string {
	if g.single {
		return "FMOVS"
	}
	return "FMOVQ"
}

// eachRow calls f with the accumulators and their places in C.
func (g *gen) eachRow(t tile, f func(v vec, at string)) {
	g.ins("MOVD", gC, gCAt)
	for i := range t.rows {
		for v := range t.vecs {
			f(t.acc(i, v), at(gCAt, v))
		}
		if i < t.rows-1 {
			g.ins("ADD", gLdc, gCAt)
		}
	}
}

// at is the place of vector v from a pointer on.
func at(ptr string, v int) string {
	if v == 0 {
		return "(" + ptr + ")"
	}
	return fmt.Sprintf("%d(%s)", 16*v, ptr)
}

// loadB reads a row of B and advances.
func (g *gen) loadB(t tile, first vec) {
	for v := range t.vecs {
		g.ins(g.mov(), at(gBAt, v), (first + vec(v)).float())
	}
	g.ins("ADD", gLdb, gBAt)
}

// besideEachOther is the loop for A whose rows stand side by side, as in a
// packed tile: a column of A is two vectors.
func (g *gen) besideEachOther(t tile) {
	g.ins("CMP", "$4", gRs)
	g.ins("BNE", t.label("loop"))
	g.label(t.label("beside"))
	g.loadB(t, bFirst)
	for v := range t.rows / 4 {
		g.ins("FMOVQ", at(gRow(0), v), (aFirst + vec(v)).float())
	}
	for i := range t.rows {
		for v := range t.vecs {
			g.fmlaLane(t.acc(i, v), bFirst+vec(v), aFirst+vec(i/4), i%4)
		}
	}
	g.ins("ADD", gCs, gRow(0))
	g.ins("SUB", "$1", gLeft)
	g.ins("CBNZ", gLeft, t.label("beside"))
	// Row 0 moved with the loop; the next columns start from the first k.
	g.ins("MSUB", gCs, gRow(0), gK, gRow(0))
	g.ins("B", t.label("store"))
}

// fourDeep is the loop of small tiles for A with its columns side by side: four
// k of a row are one vector. It leaves the last k to the loop that follows.
func (g *gen) fourDeep(t tile) {
	a := vec(t.rows * t.vecs)
	b := a + vec(t.rows)
	g.ins("CMP", "$4", gCs)
	g.ins("BNE", t.label("loop"))
	g.ins("SUBS", "$4", gLeft)
	g.ins("BLT", t.label("few"))
	g.label(t.label("deep"))
	for i := range t.rows {
		g.word(encodeLoad(a+vec(i), uint32(gRow0+i), gOffNumber), fmt.Sprintf("ldr q%d, [x%d, x%d]", a+vec(i), gRow0+i, gOffNumber))
	}
	for p := range 4 {
		row := b + vec(p*t.vecs)
		g.loadB(t, row)
		for i := range t.rows {
			for v := range t.vecs {
				g.fmlaLane(t.acc(i, v), row+vec(v), a+vec(i), p)
			}
		}
	}
	g.ins("ADD", "$16", gOff)
	g.ins("SUBS", "$4", gLeft)
	g.ins("BGE", t.label("deep"))
	g.label(t.label("few"))
	g.ins("ADDS", "$4", gLeft)
	g.ins("BEQ", t.label("store"))
}

// transpose writes the 4 by 4 block; edges are left to Go.
func (g *gen) transpose() {
	g.begin("transpose4NEON", "dst *float32, ldd int, src *float32, lds, blocks int", "",
		"sets dst[p·ldd+j] = src[j·lds+p] for j < 4, p < 4·blocks, blocks > 0.")
	for i, p := range []string{"dst", "ldd", "src", "lds", "blocks"} {
		g.ins("MOVD", g.fn.at[p], fmt.Sprintf("R%d", i))
	}
	g.ins("LSL", "$2", "R1")
	g.ins("LSL", "$2", "R3")
	g.label("block")
	var x, y [4]vec
	for j := range x {
		x[j], y[j] = vec(j), vec(4+j)
	}
	g.ins("MOVD", "R2", "R5")
	for j, v := range x {
		g.ins("FMOVQ", "(R5)", v.float())
		if j < 3 {
			g.ins("ADD", "R3", "R5")
		}
	}
	zip := func(half int, n, m, d vec) {
		g.ins(fmt.Sprintf("VZIP%d", half), m.s4(), n.s4(), d.s4())
	}
	zip(1, x[0], x[2], y[0])
	zip(1, x[1], x[3], y[1])
	zip(2, x[0], x[2], y[2])
	zip(2, x[1], x[3], y[3])
	for i := range 4 {
		zip(1+i%2, y[i/2*2], y[i/2*2+1], x[i])
		g.ins("FMOVQ", x[i].float(), "(R0)")
		g.ins("ADD", "R1", "R0")
	}
	g.ins("ADD", "$16", "R2")
	g.ins("SUB", "$1", "R4")
	g.ins("CBNZ", "R4", "block")
	g.end()
}
