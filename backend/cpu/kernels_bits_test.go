package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

// normal is n standard normal numbers.
func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func sameBits(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// fma32 is a·b + c rounded once. The product is exact in float64; the sum is
// rounded to odd there, which keeps a second rounding, to float32, from
// deciding otherwise than a single one would.
func fma32(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	t := s - p
	rest := (p - (s - t)) + (q - t) // what s lacks, exactly
	if rest != 0 && math.Float64bits(s)&1 == 0 {
		if (rest > 0) == (s > 0) {
			s = math.Float64frombits(math.Float64bits(s) + 1)
		} else {
			s = math.Float64frombits(math.Float64bits(s) - 1)
		}
	}
	return float32(s)
}

// TestFMA32 has sums that rounding to float64 in between gets wrong, and some
// that it does not.
func TestFMA32(t *testing.T) {
	const ulp = 0x1p-23
	// a·b is a half ulp of 1 less 2⁻⁷⁰, which float64 cannot add to 1.
	const a, b = 0x1.000002p-12, 0x1.fffffcp-13
	for _, c := range []struct {
		a, b, c, want float32
		twice         bool // rounding twice gives another number
	}{
		{a, b, 1 + ulp, 1 + ulp, true},
		{-a, b, -1 - ulp, -1 - ulp, true},
		{-a, b, 1 + ulp, 1 + ulp, true},
		{a, b, 1, 1, false},
		{a, a, 1, 1 + ulp, false},
		{3, 5, -15, 0, false},
		{1 + ulp, 1 + ulp, 0, 1 + 2*ulp, false},
	} {
		if have := fma32(c.a, c.b, c.c); have != c.want {
			t.Errorf("%x·%x+%x is %x, want %x", c.a, c.b, c.c, have, c.want)
		}
		if have := float32(float64(c.a)*float64(c.b) + float64(c.c)); (have != c.want) != c.twice {
			t.Errorf("%x·%x+%x, rounded twice, is %x", c.a, c.b, c.c, have)
		}
	}
}

// TestGemmChain: in all tables an element of C is one chain of multiply-adds in the
// order of k, to the bit, fused in all but plain Go, whatever its place in the tile
// and the strides. What lies between the operands' rows is NaN, so
// that an element that reads it shows.
func TestGemmChain(t *testing.T) {
	const seed = 12
	nan := float32(math.NaN())
	for _, table := range tables(t) {
		mulAdd := fma32
		if table.name == "generic" {
			mulAdd = func(a, b, c float32) float32 { return c + float32(a*b) }
		}
		r := rand.New(rand.NewPCG(seed, 0))
		for m := 1; m <= table.mr; m++ {
			for n := 1; n <= table.nr; n++ {
				for _, k := range []int{1, 3, 4, 5, 8, 17} {
					for _, s := range []struct{ rs, cs int }{{k + 2, 1}, {1, m}, {1, m + 3}, {2*k + 1, 2}} {
						ldb, ldc := n+3, n+1
						blank := func(size int) []float32 {
							x := make([]float32, size)
							for i := range x {
								x[i] = nan
							}
							return x
						}
						a, b, c := blank((m-1)*s.rs+(k-1)*s.cs+1), blank((k-1)*ldb+n), blank((m-1)*ldc+n+1)
						for p := range k {
							for i := range m {
								a[i*s.rs+p*s.cs] = float32(r.NormFloat64())
							}
							copy(b[p*ldb:p*ldb+n], normal(r, n))
						}
						for i := range m {
							copy(c[i*ldc:i*ldc+n], normal(r, n))
						}
						accumulate := r.IntN(2) == 0
						want := append([]float32(nil), c...)
						for i := range m {
							for j := range n {
								sum := float32(0)
								if accumulate {
									sum = c[i*ldc+j]
								}
								for p := range k {
									sum = mulAdd(a[i*s.rs+p*s.cs], b[p*ldb+j], sum)
								}
								want[i*ldc+j] = sum
							}
						}
						table.gemm(c, ldc, a, s.rs, s.cs, b, ldb, m, n, k, accumulate)
						if i := sameBits(c, want); i >= 0 {
							t.Fatalf("%s: seed %d: (%d, %d, %d) strides %v: [%d][%d] is %g, want %g",
								table.name, seed, m, n, k, s, i/ldc, i%ldc, c[i], want[i])
						}
					}
				}
			}
		}
	}
}

// TestChunksBeginWithPanels: see vocabChunk.
func TestChunksBeginWithPanels(t *testing.T) {
	for _, k := range tables(t) {
		if vocabChunk%k.nr != 0 {
			t.Errorf("%s: chunks of %d, panels of %d", k.name, vocabChunk, k.nr)
		}
	}
}

// TestCuts: an elementwise kernel gives an element the same bits wherever a
// range was cut.
func TestCuts(t *testing.T) {
	const seed, n = 13, 45
	c := adamConst[float32]{scale: 0.5, b1: 0.9, b2: 0.99, c1: 0.1, c2: 0.01, keep: 0.999, step: 0.1, root: 1.5, eps: 1e-8}
	for _, k := range tables(t) {
		for _, op := range []struct {
			name string
			f    func(x [][]float32)
		}{
			{"add", func(x [][]float32) { k.add(x[0], x[1]) }},
			{"scale", func(x [][]float32) { k.scale(x[0], 0.7) }},
			{"mulAdd", func(x [][]float32) { k.mulAdd(x[0], x[1], x[2], 0.7) }},
			{"exp", func(x [][]float32) { k.exp(x[0], x[1], 0.7, 0.3) }},
			{"softmaxBack", func(x [][]float32) { k.softmaxBack(x[0], x[1], 0.7, 0.3) }},
			{"classBack", func(x [][]float32) { k.classBack(x[0], 0.7, 3, 2, 0.3, 0.2) }},
			{"rmsScale", func(x [][]float32) { k.rmsScale(x[0], x[1], x[2], 0.7) }},
			{"rmsBack", func(x [][]float32) { k.rmsBack(x[0], x[1], x[2], x[3], 0.7, 0.3) }},
			{"rope", func(x [][]float32) { k.rope(x[0], x[1], x[2], x[3], -1) }},
			{"swiglu", func(x [][]float32) { k.swiglu(x[0], x[1], x[2]) }},
			{"swigluBack", func(x [][]float32) { k.swigluBack(x[0], x[1], x[2], x[3], x[4]) }},
			{"adamw", func(x [][]float32) { k.adamw(x[0], x[1], x[2], x[3], c) }},
		} {
			r := rand.New(rand.NewPCG(seed, 0))
			fresh := make([][]float32, 5)
			for i := range fresh {
				fresh[i] = normal(r, n)
			}
			for i, v := range fresh[3] { // adamw's second moment is not negative
				fresh[3][i] = max(v, -v)
			}
			cut := func(lo, hi int, x [][]float32) [][]float32 {
				y := make([][]float32, len(x))
				for i := range x {
					y[i] = x[i][lo:hi]
				}
				return y
			}
			clone := func() [][]float32 {
				x := make([][]float32, len(fresh))
				for i := range x {
					x[i] = append([]float32(nil), fresh[i]...)
				}
				return x
			}
			whole := clone()
			op.f(whole)
			for at := range n + 1 {
				parts := clone()
				op.f(cut(0, at, parts))
				op.f(cut(at, n, parts))
				for i := range parts {
					if j := sameBits(parts[i], whole[i]); j >= 0 {
						t.Fatalf("%s: %s: seed %d: cut at %d: [%d][%d] is %g, whole %g", k.name, op.name, seed, at, i, j, parts[i][j], whole[i][j])
					}
				}
			}
		}
	}
}

// TestNaNWins: a NaN anywhere in a row shows in every sum over it. (The largest
// element may be another one: a row's sum is what everything is divided by.)
func TestNaNWins(t *testing.T) {
	const seed = 14
	nan := float32(math.NaN())
	for _, k := range tables(t) {
		r := rand.New(rand.NewPCG(seed, 0))
		for n := 1; n < 40; n++ {
			for at := range n {
				with := func() []float32 {
					x := normal(r, n)
					x[at] = nan
					return x
				}
				_, sum := k.softmax(with(), 0.7)
				_, total, _ := k.stats(with(), 0.7)
				for i, v := range []float32{k.dot(with(), normal(r, n)), k.dot3(normal(r, n), normal(r, n), with()),
					sum, total, float32(k.sumSquares(with()))} {
					if v == v {
						t.Fatalf("%s: seed %d: NaN at %d of %d: result %d is %g", k.name, seed, at, n, i, v)
					}
				}
			}
		}
	}
}
