package cpu

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAnyWidth: gemm goes on with the columns that a tile leaves, and starts
// each from the first k.
func TestAnyWidth(t *testing.T) {
	const seed, k = 15, 11
	r, gemm := rand.New(rand.NewPCG(seed, 0)), neonKernels().gemm
	for m := 1; m <= 8; m++ {
		for n := 13; n < 50; n++ {
			for _, s := range []struct{ rs, cs int }{{k, 1}, {1, m}, {2, 3 * m}} {
				a, b := normal(r, (m-1)*s.rs+(k-1)*s.cs+1), normal(r, k*n)
				have, want := make([]float32, m*n), make([]float32, m*n)
				gemm(have, n, a, s.rs, s.cs, b, n, m, n, k, false)
				for j := range n {
					gemm(want[j:], n, a, s.rs, s.cs, b[j:], n, m, 1, k, false)
				}
				if i := sameBits(have, want); i >= 0 {
					t.Fatalf("seed %d: (%d, %d) strides %v: [%d][%d] is %g, alone %g", seed, m, n, s, i/n, i%n, have[i], want[i])
				}
			}
		}
	}
}

// TestShortSlices: the kernels that take slices check them, since nothing else
// does. Empty slices are fine where there is nothing to reduce.
func TestShortSlices(t *testing.T) {
	k := neonKernels()
	for _, c := range []struct {
		name   string
		slices int
		f      func(x [][]float32)
	}{
		{"add", 2, func(x [][]float32) { k.add(x[0], x[1]) }},
		{"mulAdd", 3, func(x [][]float32) { k.mulAdd(x[0], x[1], x[2], 1) }},
		{"exp", 2, func(x [][]float32) { k.exp(x[0], x[1], 1, 0) }},
		{"softmaxBack", 2, func(x [][]float32) { k.softmaxBack(x[0], x[1], 1, 1) }},
		{"rmsScale", 3, func(x [][]float32) { k.rmsScale(x[0], x[1], x[2], 1) }},
		{"rmsBack", 4, func(x [][]float32) { k.rmsBack(x[0], x[1], x[2], x[3], 1, 1) }},
		{"rope", 4, func(x [][]float32) { k.rope(x[0], x[1], x[2], x[3], 1) }},
		{"swiglu", 3, func(x [][]float32) { k.swiglu(x[0], x[1], x[2]) }},
		{"swigluBack", 5, func(x [][]float32) { k.swigluBack(x[0], x[1], x[2], x[3], x[4]) }},
		{"adamw", 4, func(x [][]float32) { k.adamw(x[0], x[1], x[2], x[3], adamConst[float32]{}) }},
		{"dot", 2, func(x [][]float32) { k.dot(x[0], x[1]) }},
		{"dot3", 3, func(x [][]float32) { k.dot3(x[0], x[1], x[2]) }},
	} {
		all := make([][]float32, c.slices)
		c.f(all)
		for i := range all {
			all[i] = make([]float32, 9)
		}
		c.f(all)
		for i := 1; i < c.slices; i++ {
			x := slices.Clone(all)
			x[i] = x[i][:8]
			if !panics(func() { c.f(x) }) {
				t.Errorf("%s: slice %d is short: no panic", c.name, i)
			}
		}
	}
	if !panics(func() { k.softmax(nil, 1) }) || !panics(func() { k.stats(nil, 1) }) {
		t.Error("the largest of no elements: no panic")
	}
	if s := k.sumSquares(nil); s != 0 {
		t.Errorf("sumSquares of nothing is %g", s)
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}
