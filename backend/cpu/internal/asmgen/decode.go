package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// dotRows writes the products of queries with keys that stand in rows, as decoding
// needs them: a lane holds a key, so that each product is one chain of
// multiply-adds in the order of the columns, as in gemm, and keys are transposed
// on the way, four columns at a time. Queries are taken together, since one chain
// alone would wait for itself: two of neighbouring key heads, or up to four of one,
// whose keys are transposed once.
//
// Pieces of rows far apart are no stream that the processor would see coming, so
// that the same pieces of the rows that are wanted next are asked for meanwhile:
// as many lines as there are columns for sixteen rows.
func (g *gen) dotRows() {
	g.text("dotRows", "func(s *float32, lds int, q *float32, ldq int, k *float32, ldk, ldh int, soon *float32, heads, blocks, dim int)",
		"sets s[h·lds+j] = Σ q[h·ldq+d]·k[j·ldk+h·ldh+d], in the order of d, for so many blocks of as many j as a vector has lanes, and asks for the same of as many rows from soon on; dim is a multiple of 16, heads and blocks > 0.")
	ld, ld3 := Load(Param("ldk"), GP64()), GP64()
	SHLQ(U8(2), ld)
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	ldh, ldq := Load(Param("ldh"), GP64()), Load(Param("ldq"), GP64())
	SHLQ(U8(2), ldh)
	SHLQ(U8(2), ldq)
	// Rows of keys, for all that follows: a load of a quarter looks to avo as if it
	// kept the rest, so that registers are alive from the beginning.
	var x [4]VecVirtual
	for r := range x {
		x[r] = g.vec()
	}
	q, blocks := Load(Param("q"), GP64()), AllocLocal(8)
	// finish goes on to the heads after n that are done.
	finish := func(n int) {
		next := GP64()
		for range n {
			ADDQ(ldq, q)
			ADDQ(ldh, frame("k"))
		}
		Load(Param("lds"), next)
		IMUL3Q(U8(4*n), next, next)
		ADDQ(next, frame("s"))
		SUBQ(U8(n), frame("heads"))
		JNZ(LabelRef("heads"))
		end()
	}
	Label("heads")
	CMPQ(frame("heads"), U8(2))
	JLT(LabelRef("one"))
	TESTQ(ldh, ldh)
	JNZ(LabelRef("two"))
	for n := 4; n >= 2; n-- {
		name := fmt.Sprintf("of%d", n)
		if n > 2 {
			CMPQ(frame("heads"), U8(n))
			JLT(LabelRef(name + "_not"))
		}
		g.dotHeads(name, n, true, x, q, ld, ld3, ldh, ldq, blocks)
		finish(n)
		Label(name + "_not")
	}
	Label("two")
	g.dotHeads("pair", 2, false, x, q, ld, ld3, ldh, ldq, blocks)
	finish(2)
	Label("one")
	g.dotHeads("single", 1, false, x, q, ld, ld3, ldh, ldq, blocks)
	end()
}

// dotHeads writes the blocks of so many heads together; shared says that their
// keys are the same.
func (g *gen) dotHeads(name string, heads int, shared bool, x [4]VecVirtual, q, ld, ld3, ldh, ldq Register, blocks Mem) {
	// at[i] is row 4·i of the block: quarter i of register r holds row 4·i+r.
	at := make([]Register, g.lanes/4)
	for i := range at {
		at[i] = GP64()
	}
	Load(Param("k"), at[0])
	ask, to, left := Load(Param("soon"), GP64()), Load(Param("s"), GP64()), GP64()
	if !shared {
		CMPQ(frame("heads"), U8(heads))
		JLE(LabelRef(name + "Last"))
		MOVQ(at[0], ask)
		for range heads {
			ADDQ(ldh, ask)
		}
		Label(name + "Last")
	}
	Load(Param("blocks"), left)
	MOVQ(left, blocks)
	Label(name + "Block")
	for i := 1; i < len(at); i++ {
		LEAQ(Mem{Base: at[i-1], Index: ld, Scale: 4}, at[i])
	}
	acc := make([]VecVirtual, heads)
	for h := range acc {
		acc[h] = g.zero()
	}
	Load(Param("dim"), left)
	Label(name + "Columns")
	row := func(base Register, r, disp int) Mem { return strided(Mem{Base: base, Disp: disp}, r, ld, ld3) }
	var ldq3 Register
	if heads > 3 {
		ldq3 = GP64()
		LEAQ(Mem{Base: ldq, Index: ldq, Scale: 2}, ldq3)
	}
	query := func(h, disp int) Mem { return strided(Mem{Base: q, Disp: disp}, h, ldq, ldq3) }
	keys := make([][]int, heads) // the heads of each set of keys
	for h := range keys {
		keys[h] = []int{h}
	}
	if shared {
		keys = [][]int{make([]int, heads)}
		for h := range heads {
			keys[0][h] = h
		}
	}
	for i, of := range keys {
		if i > 0 {
			for _, p := range at {
				ADDQ(ldh, p)
			}
			ADDQ(ldh, ask)
		}
		for c := range 4 {
			for r := range x {
				VMOVUPS(row(at[0], r, 16*c), x[r].AsX())
				for i := 1; i < len(at); i++ {
					if g.wide() {
						VINSERTF32X4(U8(i), row(at[i], r, 16*c), x[r], x[r])
					} else {
						VINSERTF128(U8(i), row(at[i], r, 16*c), x[r], x[r])
					}
				}
			}
			if c < len(at) { // one line of each row
				for r := range x {
					PREFETCHT0(row(ask, r, 0))
				}
				LEAQ(Mem{Base: ask, Index: ld, Scale: 4}, ask)
			}
			columns(x[:], g.vec, func(p int, v VecVirtual) {
				for _, h := range of {
					if m := query(h, 16*c+4*p); g.wide() {
						VFMADD231PS_BCST(m, v, acc[h])
					} else {
						b := g.vec()
						VBROADCASTSS(m, b)
						VFMADD231PS(b, v, acc[h])
					}
				}
			})
		}
		for range g.lanes {
			SUBQ(ld, ask)
		}
	}
	for range keys[1:] {
		for _, p := range at {
			SUBQ(ldh, p)
		}
		SUBQ(ldh, ask)
	}
	for _, p := range append(at, ask, q) { // the next line of each row
		ADDQ(U8(64), p)
	}
	SUBQ(U8(16), left)
	JNZ(LabelRef(name + "Columns"))
	store := GP64()
	MOVQ(to, store)
	for h := range acc {
		VMOVUPS(acc[h], Mem{Base: store})
		if h < heads-1 {
			Load(Param("lds"), left)
			LEAQ(Mem{Base: store, Index: left, Scale: 4}, store)
		}
	}
	ADDQ(U8(4*g.lanes), to)
	// The next block's first row follows this one's last.
	Load(Param("dim"), left)
	SHLQ(U8(2), left)
	SUBQ(left, q)
	for _, p := range []Register{at[0], ask} {
		SUBQ(left, p)
		for range g.lanes / 4 {
			LEAQ(Mem{Base: p, Index: ld, Scale: 4}, p)
		}
	}
	DECQ(blocks)
	JNZ(LabelRef(name + "Block"))
}

// mixVectors is how many vectors of columns mixRows takes at a time.
const mixVectors = 8

// mixRows writes the sum of values that stand in rows, for one query of each key
// head: along whole rows, and in the order of the keys, as gemm would add.
func (g *gen) mixRows() {
	for _, n := range []int{mixVectors, 1} {
		g.text(fmt.Sprintf("mixRows%d", n), "func(out, p, v *float32, at *int, ldv int, soon *float32, keys, accumulate int)",
			fmt.Sprintf("adds Σ p[at[2i]+j]·v[j·ldv+lanes·i …] to the vector at out[at[2i+1]] (sets it, if accumulate is 0), for i < %d and j < keys, in the order of j, and asks for as much from soon on; keys > 0.", n))
		out, p, v, soon := Load(Param("out"), GP64()), Load(Param("p"), GP64()), Load(Param("v"), GP64()), Load(Param("soon"), GP64())
		table := Load(Param("at"), GP64())
		ld := Load(Param("ldv"), GP64())
		SHLQ(U8(2), ld)
		from, acc := make([]Register, n), make([]VecVirtual, n)
		for i := range acc {
			acc[i] = g.zero()
		}
		old := Load(Param("accumulate"), GP64())
		TESTQ(old, old)
		JZ(LabelRef("new"))
		for i := range acc {
			MOVQ(Mem{Base: table, Disp: 16*i + 8}, old)
			VMOVUPS(Mem{Base: out, Index: old, Scale: 4}, acc[i])
		}
		Label("new")
		for i := range from {
			from[i] = GP64()
			MOVQ(Mem{Base: table, Disp: 16 * i}, from[i])
			LEAQ(Mem{Base: p, Index: from[i], Scale: 4}, from[i])
		}
		j := GP64()
		XORQ(j, j)
		Label("keys")
		for i := range acc {
			b := g.vec()
			VBROADCASTSS(Mem{Base: from[i], Index: j, Scale: 4}, b)
			VFMADD231PS(Mem{Base: v, Disp: 4 * g.lanes * i}, b, acc[i])
			if 4*g.lanes*i%64 == 0 {
				PREFETCHT0(Mem{Base: soon, Disp: 4 * g.lanes * i})
			}
		}
		ADDQ(ld, v)
		ADDQ(ld, soon)
		INCQ(j)
		CMPQ(j, frame("keys"))
		JLT(LabelRef("keys"))
		Load(Param("out"), out)
		Load(Param("at"), table)
		for i := range acc {
			MOVQ(Mem{Base: table, Disp: 16*i + 8}, j)
			VMOVUPS(acc[i], Mem{Base: out, Index: j, Scale: 4})
		}
		end()
	}
}
