//go:build cuda

package emu

import (
	"math"
	"math/rand/v2"
	"testing"
)

// NVIDIA's "PTX ISA", section "Matrix Fragments for mma.m16n8k16 with
// floating point type", says which element of a matrix an element of a thread's
// registers is, with groupID = laneid / 4 and threadID_in_group = laneid % 4:
//
//	A, elements a0…a7, two to the register, the even one in the lower half:
//	  row = groupID      for a0, a1, a4, a5
//	        groupID + 8  for a2, a3, a6, a7
//	  col = threadID_in_group·2 + (i & 1)      for a0…a3
//	        threadID_in_group·2 + (i & 1) + 8  for a4…a7
//	B, elements b0…b3:
//	  row = threadID_in_group·2 + (i & 1)      for b0, b1
//	        threadID_in_group·2 + (i & 1) + 8  for b2, b3
//	  col = groupID
//	C, elements c0…c3, one to the register:
//	  row = groupID for c0, c1;  groupID + 8 for c2, c3
//	  col = threadID_in_group·2 + (i & 1)
func elementA(lane, i int) (row, col int) {
	row, col = lane/4, lane%4*2+i&1
	if i == 2 || i == 3 || i == 6 || i == 7 {
		row += 8
	}
	if i >= 4 {
		col += 8
	}
	return row, col
}

func elementB(lane, i int) (row, col int) {
	row, col = lane%4*2+i&1, lane/4
	if i >= 2 {
		row += 8
	}
	return row, col
}

func elementC(lane, i int) (row, col int) {
	row, col = lane/4, lane%4*2+i&1
	if i >= 2 {
		row += 8
	}
	return row, col
}

// Small integers, which bf16 holds and whose sums are exact.
func integers(r *rand.Rand, rows, cols int) [][]float32 {
	m := make([][]float32, rows)
	for i := range m {
		m[i] = floats(cols, func(int) float32 { return float32(r.IntN(17) - 8) })
	}
	return m
}

func pack(low, high float32) uint32 {
	return math.Float32bits(low)>>16 | math.Float32bits(high)&0xffff0000
}

func TestFragmentsOfMMA(t *testing.T) {
	m := start(t, Plain, "language.cu")
	r := rand.New(rand.NewPCG(5, 6))
	eachSeed(m, func() {
		a, b, c := integers(r, 16, 16), integers(r, 16, 8), integers(r, 16, 8)
		ra, rb, rc := make([]uint32, 32*4), make([]uint32, 32*2), make([]float32, 32*4)
		for lane := range 32 {
			at := func(i int) float32 { row, col := elementA(lane, i); return a[row][col] }
			bt := func(i int) float32 { row, col := elementB(lane, i); return b[row][col] }
			for i := range 4 {
				ra[lane*4+i] = pack(at(2*i), at(2*i+1))
				row, col := elementC(lane, i)
				rc[lane*4+i] = c[row][col]
			}
			for i := range 2 {
				rb[lane*2+i] = pack(bt(2*i), bt(2*i+1))
			}
		}
		p := buffer(m, rc)
		m.runs("multiply", 1, 32, 0, p, buffer(m, ra), buffer(m, rb))
		have := back(m, make([]float32, 32*4), p)
		for lane := range 32 {
			for i := range 4 {
				row, col := elementC(lane, i)
				want := c[row][col]
				for k := range 16 {
					want += a[row][k] * b[k][col]
				}
				if have[lane*4+i] != want {
					t.Fatalf("C[%d][%d], element %d of lane %d: %g, want %g", row, col, i, lane, have[lane*4+i], want)
				}
			}
		}
	})
}

// Section "Warp-level matrix load instruction: ldmatrix": the threads 8m…8m+7
// bring the addresses of the rows of matrix m; thread laneid receives of each
// matrix row laneid / 4, elements 2·(laneid % 4) and the next, the first in the
// lower half of the register; with .trans the matrix is loaded in column-major
// order, so that it receives column laneid / 4.
func TestFragmentsOfLdmatrix(t *testing.T) {
	m := start(t, Plain, "language.cu")
	const warps = 2
	in := make([]uint16, warps*32*8)
	for i := range in {
		in[i] = uint16(i)
	}
	element := func(warp, matrix, row, col int) uint32 { return uint32(in[((warp*4+matrix)*8+row)*8+col]) }
	eachSeed(m, func() {
		out := buffer(m, make([]uint32, warps*32*8))
		m.runs("matrices", 1, warps*32, len(in)*2, out, buffer(m, in))
		have := back(m, make([]uint32, warps*32*8), out)
		for thread := range warps * 32 {
			warp, lane := thread/32, thread%32
			for matrix := range 4 {
				row, col := lane/4, lane%4*2
				want := element(warp, matrix, row, col) | element(warp, matrix, row, col+1)<<16
				if h := have[thread*8+matrix]; h != want {
					t.Fatalf("thread %d, matrix %d: %#x, want %#x", thread, matrix, h, want)
				}
				want = element(warp, matrix, col, row) | element(warp, matrix, col+1, row)<<16
				if h := have[thread*8+4+matrix]; h != want {
					t.Fatalf("thread %d, matrix %d transposed: %#x, want %#x", thread, matrix, h, want)
				}
			}
		}
	})
}
