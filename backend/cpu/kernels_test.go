package cpu

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// tables are the float32 kernels this machine runs.
func tables(t testing.TB) []*kernels[float32] {
	t.Helper()
	was, set := os.LookupEnv("NRT_CPU")
	defer func() {
		if set {
			os.Setenv("NRT_CPU", was)
		} else {
			os.Unsetenv("NRT_CPU")
		}
	}()
	var all []*kernels[float32]
	for _, name := range []string{"generic", "avx2", "avx512", "neon"} {
		os.Setenv("NRT_CPU", name)
		if k, err := kernels32(); err == nil {
			all = append(all, k)
		} else {
			t.Logf("without %s: %v", name, err)
		}
	}
	return all
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	convert(y, x)
	return y
}

// near fails unless |have−want| ≤ tol·(1+|want|) everywhere.
func near(t *testing.T, what string, have []float32, want []float64, tol float64) {
	t.Helper()
	for i, x := range have {
		if d := math.Abs(float64(x) - want[i]); !(d <= tol*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: [%d] of %d is %g, want %g", what, i, len(have), x, want[i])
		}
	}
}

// TestKernels holds every float32 kernel against the float64 one in plain Go,
// at every length around the vector sizes, and checks that a slice's
// neighbours stay as they are.
func TestKernels(t *testing.T) {
	oracle := genericKernels[float64]("float64")
	const seed = 7
	for _, k := range tables(t) {
		t.Run(k.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			for n := 1; n < 150; n++ {
				testVectorKernels(t, r, k, oracle, n)
			}
		})
	}
}

func testVectorKernels(t *testing.T, r *rand.Rand, k *kernels[float32], o *kernels[float64], n int) {
	const guard = 12345
	vec := func() []float32 {
		x := make([]float32, n+1)
		for i := range x {
			x[i] = float32(2 * r.NormFloat64())
		}
		x[n] = guard
		return x[:n]
	}
	whole := func(x []float32) {
		t.Helper()
		if x[:n+1][n] != guard {
			t.Fatalf("n %d: wrote past the end", n)
		}
	}
	// run calls f with the same random slices for both tables and compares all.
	run := func(name string, slices int, f32 func(x [][]float32), f64 func(x [][]float64)) {
		t.Helper()
		var a [][]float32
		var b [][]float64
		for range slices {
			v := vec()
			a, b = append(a, v), append(b, wide(v))
		}
		if name == "adamw" { // the second moment is not negative
			for i := range a[3] {
				a[3][i] = float32(math.Abs(float64(a[3][i])))
				b[3][i] = float64(a[3][i])
			}
		}
		f32(a)
		f64(b)
		for i := range a {
			whole(a[i])
			near(t, name, a[i], b[i], 3e-6)
		}
	}
	s := float32(r.NormFloat64())
	S := float64(s)
	run("add", 2, func(x [][]float32) { k.add(x[0], x[1]) }, func(x [][]float64) { o.add(x[0], x[1]) })
	run("scale", 1, func(x [][]float32) { k.scale(x[0], s) }, func(x [][]float64) { o.scale(x[0], S) })
	run("mulAdd", 3, func(x [][]float32) { k.mulAdd(x[0], x[1], x[2], s) }, func(x [][]float64) { o.mulAdd(x[0], x[1], x[2], S) })
	run("exp", 2, func(x [][]float32) { k.exp(x[0], x[1], s, 1) }, func(x [][]float64) { o.exp(x[0], x[1], S, 1) })
	run("softmaxBack", 2, func(x [][]float32) { k.softmaxBack(x[0], x[1], 0.5, s) }, func(x [][]float64) { o.softmaxBack(x[0], x[1], 0.5, S) })
	run("classBack", 1, func(x [][]float32) { k.classBack(x[0], 0.75, 5, 2, s, -1.5) }, func(x [][]float64) { o.classBack(x[0], 0.75, 5, 2, S, -1.5) })
	run("rmsScale", 3, func(x [][]float32) { k.rmsScale(x[0], x[1], x[2], s) }, func(x [][]float64) { o.rmsScale(x[0], x[1], x[2], S) })
	run("rmsBack", 4, func(x [][]float32) { k.rmsBack(x[0], x[1], x[2], x[3], s, 0.3) }, func(x [][]float64) { o.rmsBack(x[0], x[1], x[2], x[3], S, float64(float32(0.3))) })
	run("rope", 4, func(x [][]float32) { k.rope(x[0], x[1], x[2], x[3], -1) }, func(x [][]float64) { o.rope(x[0], x[1], x[2], x[3], -1) })
	run("swiglu", 3, func(x [][]float32) { k.swiglu(x[0], x[1], x[2]) }, func(x [][]float64) { o.swiglu(x[0], x[1], x[2]) })
	run("swigluBack", 5, func(x [][]float32) { k.swigluBack(x[0], x[1], x[2], x[3], x[4]) }, func(x [][]float64) { o.swigluBack(x[0], x[1], x[2], x[3], x[4]) })
	c := adamConst[float32]{scale: 0.5, b1: 0.75, b2: 0.875, c1: 0.25, c2: 0.125, keep: 0.9375, step: 0.125, root: 1.5, eps: 0.0625}
	C := adamConst[float64]{scale: 0.5, b1: 0.75, b2: 0.875, c1: 0.25, c2: 0.125, keep: 0.9375, step: 0.125, root: 1.5, eps: 0.0625}
	run("adamw", 4, func(x [][]float32) { k.adamw(x[0], x[1], x[2], x[3], c) }, func(x [][]float64) { o.adamw(x[0], x[1], x[2], x[3], C) })

	one := func(name string, have float32, want, tol float64) {
		t.Helper()
		near(t, name, []float32{have}, []float64{want}, tol)
	}
	a, b, d := vec(), vec(), vec()
	near(t, "dot", []float32{k.dot(a, b)}, []float64{o.dot(wide(a), wide(b))}, 1e-5)
	near(t, "dot3", []float32{k.dot3(a, b, d)}, []float64{o.dot3(wide(a), wide(b), wide(d))}, 3e-5)
	if have, want := k.sumSquares(a), o.sumSquares(wide(a)); math.Abs(have-want) > 1e-12*want {
		t.Fatalf("sumSquares is %g, want %g", have, want)
	}
	m, sum, weighted := k.stats(a, 0.7)
	M, SUM, WEIGHTED := o.stats(wide(a), float64(float32(0.7)))
	one("stats top", m, M, 1e-6)
	one("stats sum", sum, SUM, 1e-6)
	one("stats weighted", weighted, WEIGHTED, 1e-5)
	x, y := vec(), []float64(nil)
	y = wide(x)
	m, sum = k.softmax(x, 0.7)
	M, SUM = o.softmax(y, float64(float32(0.7)))
	one("softmax top", m, M, 1e-6)
	one("softmax sum", sum, SUM, 1e-6)
	near(t, "softmax", x, y, 1e-6)
	whole(x)
}

// TestExp looks at the whole range of exp: relative error where the result is
// normal, and the ends.
func TestExp(t *testing.T) {
	for _, k := range tables(t) {
		var x, y []float32
		for v := -110.0; v < 95; v += 0.00371 {
			x = append(x, float32(v))
		}
		inf := float32(math.Inf(1))
		x = append(x, 0, -200, 200, -1e6, 1e6, -math.MaxFloat32, math.MaxFloat32, inf, -inf, float32(math.NaN()))
		y = make([]float32, len(x))
		k.exp(y, x, 1, 0)
		worst := 0.0
		for i, v := range x {
			want := math.Exp(float64(v))
			switch {
			case v != v:
				if y[i] == y[i] {
					t.Errorf("%s: exp(NaN) is %g", k.name, y[i])
				}
			case float32(want) > math.MaxFloat32:
				if y[i] != inf {
					t.Errorf("%s: exp(%g) is %g, want +Inf", k.name, v, y[i])
				}
			case want < 1.2e-38:
				if !(math.Abs(float64(y[i])-want) <= 1e-44) { // NaN is wrong too
					t.Errorf("%s: exp(%g) is %g, want %g", k.name, v, y[i], want)
				}
			default:
				worst = max(worst, math.Abs(float64(y[i])/want-1))
			}
		}
		if !(worst <= 1.3e-7) {
			t.Errorf("%s: exp is off by %g, relative", k.name, worst)
		}
		t.Logf("%s: exp is within %.3g", k.name, worst)
	}
}

func TestStrip(t *testing.T) {
	for _, k := range tables(t) {
		for width := range k.nr + 1 {
			for rows := range 5 {
				ldd, lds := width+2, width+3
				src, dst := make([]float32, rows*lds+1), make([]float32, rows*ldd+1)
				for i := range src {
					src[i] = float32(i + 1)
				}
				k.strip(dst, ldd, src, lds, width, rows)
				for i, v := range dst {
					want := float32(0)
					if p, j := i/ldd, i%ldd; p < rows && j < width {
						want = src[p*lds+j]
					}
					if v != want {
						t.Fatalf("%s: (%d, %d)[%d] is %g, want %g", k.name, rows, width, i, v, want)
					}
				}
			}
		}
	}
}

func TestTranspose(t *testing.T) {
	for _, k := range tables(t) {
		for rows := range 36 {
			for cols := range 36 {
				ldd, lds := rows+2, cols+3
				src, dst := make([]float32, rows*lds+1), make([]float32, cols*ldd+1)
				for i := range src {
					src[i] = float32(i + 1)
				}
				k.transpose(dst, ldd, src, lds, rows, cols)
				for i, v := range dst {
					want := float32(0)
					if p, j := i/ldd, i%ldd; p < cols && j < rows {
						want = src[j*lds+p]
					}
					if v != want {
						t.Fatalf("%s: (%d, %d)[%d] is %g, want %g", k.name, rows, cols, i, v, want)
					}
				}
			}
		}
	}
}
