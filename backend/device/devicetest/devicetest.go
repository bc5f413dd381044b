// Package devicetest is the conformance suite that every device.Device passes.
//
// Values are held against naive float64 code (reference functions beside each
// test), and every backward operation against central differences of that
// naive forward: nothing here was derived by hand twice. Inputs are read back
// from the device before the reference sees them, so that a device that rounds
// to 16 bits is judged for its arithmetic and not for its storage.
//
// Run is the suite; Identical compares two devices bit for bit.
package devicetest

import (
	"math"
	"math/rand/v2"
	"testing"

	"nrt/backend/device"
)

// Tolerance is how far a device may be off: for have against want,
// |have−want| ≤ tolerance·(|want| + rms of all of want).
type Tolerance struct {
	Value    float64 // results of forward operations
	Gradient float64 // results of backward operations
	// Storage is the relative rounding of a number of kind Compute where that is
	// coarser than float32: of sums that accumulate in one, it is what is lost.
	Storage float64
	// Batch is how far a row may be from the same row in another batch, where
	// products are left to a library that orders sums by the shape; 0 is not a bit.
	Batch float64
	// Rounds: Weights but those in Q8 are kept in bfloat16, and products round what
	// they multiply to it; buffers and sums are float32.
	Rounds bool
}

// Usual tolerances by compute type.
var (
	Float64  = Tolerance{Value: 1e-12, Gradient: 1e-6}
	Float32  = Tolerance{Value: 2e-5, Gradient: 1e-4}
	Rounding = Tolerance{Value: Float32.Value, Gradient: 1e-2, Rounds: true}
	BFloat16 = Tolerance{Value: 1e-2, Gradient: 3e-2, Storage: 1.0 / 256}
)

// wide is the tolerance for what is kept and computed in float32 at least,
// whatever the compute type.
func (t Tolerance) wide() float64 { return min(t.Value, Float32.Value) }

// Run checks everything that package device promises. open makes a fresh
// device; the suite closes it.
func Run(t *testing.T, open func() device.Device, tol Tolerance) {
	for _, test := range []struct {
		name string
		f    func(*suite)
	}{
		{"Transfer", testTransfer},
		{"Kinds", testKinds},
		{"Rows", testRows},
		{"MatMul", testMatMul},
		{"Project", testProject},
		{"MatMulKeptWeights", testKeptWeights},
		{"Weights", testWeights},
		{"WeightsEdges", testWeightsEdges},
		{"Embed", testEmbed},
		{"RMSNorm", testRMSNorm},
		{"RoPE", testRoPE},
		{"SwiGLU", testSwiGLU},
		{"Attention", testAttention},
		{"AttentionDecode", testDecode},
		{"Classifier", testClassifier},
		{"Sample", testSample},
		{"SampleCold", testSampleCold},
		{"SampleTies", testSampleTies},
		{"AdamW", testAdamW},
		{"Moments8", testMoments8},
		{"AdamW8", testAdamW8},
		{"SumSquares", testSumSquares},
		{"RowIndependence", testRowIndependence},
		{"Shapes", testShapes},
		{"NaN", testNaN},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := open()
			const seed = 20
			s := &suite{T: t, d: d, tol: tol, r: rand.New(rand.NewPCG(seed, 0)), seed: seed, places: 6}
			test.f(s)
			if err := d.Sync(); err != nil {
				t.Errorf("Sync: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// suite is one test in progress.
type suite struct {
	*testing.T
	d    device.Device
	tol  Tolerance
	r    *rand.Rand
	seed uint64
	// places is how many elements of a gradient are checked.
	places int
}

// size is a number of 1 … 67, odd ones and those around powers of two first.
func (s *suite) size() int {
	odd := []int{1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 67}
	if s.r.IntN(3) > 0 {
		return odd[s.r.IntN(len(odd))]
	}
	return 1 + s.r.IntN(67)
}

// vector is a buffer and the exact numbers in it.
type vector struct {
	device.Buffer
	x []float64
}

// put uploads x and reads back what the device made of it.
func (s *suite) put(x []float64) vector { return s.putAs(device.Compute, x) }

func (s *suite) putAs(k device.Kind, x []float64) vector {
	b := s.d.AllocAs(k, len(x))
	s.d.Write64(b, x)
	return vector{b, s.get(b)}
}

// random is n normal numbers.
func (s *suite) random(n int) vector { return s.randomAs(device.Compute, n) }

func (s *suite) randomAs(k device.Kind, n int) vector {
	x := make([]float64, n)
	for i := range x {
		x[i] = s.r.NormFloat64()
	}
	return s.putAs(k, s.seen(x))
}

// wide is n zeros of kind Wide.
func (s *suite) wide(n int) device.Buffer { return s.d.AllocAs(device.Wide, n) }

func (s *suite) get(b device.Buffer) []float64 {
	x := make([]float64, b.Len())
	s.d.Read64(x, b)
	return x
}

// ids is n numbers in [0, limit).
func (s *suite) ids(n, limit int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(s.r.IntN(limit))
	}
	return ids
}

// near fails unless have is within tol of want.
func (s *suite) near(what string, have, want []float64, tol float64) {
	s.Helper()
	s.close(what, have, want, tol, 0)
}

// close is near with a least rms, for results that may be zero as a whole.
func (s *suite) close(what string, have, want []float64, tol, least float64) {
	s.Helper()
	if len(have) != len(want) {
		s.Fatalf("%s: %d numbers, want %d", what, len(have), len(want))
	}
	var rms float64
	for _, w := range want {
		rms += w * w
	}
	rms = max(least, math.Sqrt(rms/float64(max(len(want), 1))))
	for i, w := range want {
		if d := math.Abs(have[i] - w); !(d <= tol*(math.Abs(w)+rms)+1e-300) {
			s.Fatalf("%s (seed %d): [%d] of %d is %.9g, want %.9g", what, s.seed, i, len(want), have[i], w)
		}
	}
}

// same fails unless have and want are the same bits.
func (s *suite) same(what string, have, want []float64) {
	s.Helper()
	if i, ok := differ(have, want); !ok {
		s.Fatalf("%s (seed %d): [%d] of %d is %.17g, want %.17g exactly", what, s.seed, i, len(want), have[i], want[i])
	}
}

// row fails unless a row of a batch is what it is alone.
func (s *suite) row(what string, alone, batch []float64) {
	s.Helper()
	if s.tol.Batch > 0 {
		s.near(what, alone, batch, s.tol.Batch)
		return
	}
	s.same(what, alone, batch)
}

// differ finds the first place where a and b are not the same bits.
func differ(a, b []float64) (int, bool) {
	for i := range b {
		if math.Float64bits(a[i]) != math.Float64bits(b[i]) {
			return i, false
		}
	}
	return 0, true
}

// gradient holds grad against central differences of loss with respect to x,
// at s.places places. loss reads x.
func (s *suite) gradient(what string, x, grad []float64, loss func() float64) {
	s.Helper()
	const step = 1e-5
	places := s.r.Perm(len(x))
	places = places[:min(s.places, len(places))]
	have, want := make([]float64, len(places)), make([]float64, len(places))
	for i, p := range places {
		keep := x[p]
		at := func(h float64) float64 {
			x[p] = keep + h
			return loss()
		}
		want[i] = (at(step) - at(-step)) / (2 * step)
		x[p] = keep
		have[i] = grad[p]
	}
	s.close(what, have, want, s.tol.Gradient, 0.01+4*s.tol.Storage/s.tol.Gradient)
}

func dot(a, b []float64) float64 {
	var s float64
	for i, x := range a {
		s += x * b[i]
	}
	return s
}

// sum is a+b, for operations that accumulate.
func sum(a, b []float64) []float64 {
	c := make([]float64, len(a))
	for i, x := range a {
		c[i] = x + b[i]
	}
	return c
}

// minus is a−b.
func minus(a, b []float64) []float64 {
	c := make([]float64, len(a))
	for i, x := range a {
		c[i] = x - b[i]
	}
	return c
}

// panics fails unless f panics.
func (s *suite) panics(what string, f func()) {
	s.Helper()
	defer func() {
		s.Helper()
		if recover() == nil {
			s.Errorf("%s: did not panic", what)
		}
	}()
	f()
}
