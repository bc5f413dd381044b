package devicetest

import (
	"errors"
	"fmt"
	"math"

	"nrt/backend/device"
)

var formats = []device.Format{device.F32, device.BF16, device.Q8}

// weights makes Weights of x (rows, cols) and returns them with the numbers that
// they hold.
func (s *suite) weights(f device.Format, rows, cols int, x []float64) (device.Weights, []float64) {
	s.Helper()
	next := 0
	w, err := s.d.NewWeights(f, rows, cols, func(first int, dst []float32) error {
		if first != next || len(dst) == 0 || len(dst)%cols != 0 {
			s.Fatalf("NewWeights(%v, %d, %d): asks for %d floats from row %d on, row %d was next", f, rows, cols, len(dst), first, next)
		}
		next += len(dst) / cols
		for i := range dst {
			dst[i] = float32(x[first*cols+i])
		}
		return nil
	})
	if err != nil || next != rows {
		s.Fatalf("NewWeights(%v, %d, %d): %d rows asked for, %v", f, rows, cols, next, err)
	}
	if w.Rows() != rows || w.Cols() != cols || w.Format() != f || w.Len() != rows*cols {
		s.Fatalf("Weights are (%d, %d) in %v, want (%d, %d) in %v", w.Rows(), w.Cols(), w.Format(), rows, cols, f)
	}
	return w, s.get(w)
}

// floats is n normal numbers of different size that float32 holds.
func (s *suite) floats(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(float32(s.r.NormFloat64() * math.Exp2(float64(s.r.IntN(8)-4))))
	}
	return x
}

// bfloat16 rounds to eight significant bits, ties to even.
func bfloat16(x float64) float64 {
	frac, exp := math.Frexp(x)
	return math.Ldexp(math.RoundToEven(math.Ldexp(frac, 8)), exp-8)
}

// rounded checks what a format made of x.
func (s *suite) rounded(f device.Format, have, x []float64, cols int) {
	s.Helper()
	for i, v := range x {
		ok := have[i] == v
		switch {
		case f == device.BF16 || f == device.F32 && (s.tol.Storage > 0 || s.tol.Rounds):
			ok = have[i] == bfloat16(v)
		case f == device.Q8:
			row, col := i/cols*cols, i%cols
			var top float64
			for j := col / device.Q8Block * device.Q8Block; j < min(cols, (col/device.Q8Block+1)*device.Q8Block); j++ {
				top = max(top, math.Abs(x[row+j]))
			}
			ok = math.Abs(have[i]-v) <= 0.5*top/127*(1+1.0/256)+s.tol.Storage*math.Abs(v)*(1+1.0/64)
		}
		if !ok {
			s.Fatalf("%v (seed %d): [%d] is %.9g, from %.9g", f, s.seed, i, have[i], v)
		}
	}
}

// seen is what a product sees of numbers.
func (s *suite) seen(x []float64) []float64 {
	if !s.tol.Rounds {
		return x
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = bfloat16(v)
	}
	return y
}

// testWeights: in every place that takes them, Weights do, bit for bit, what the
// Buffer of their numbers does, and the naive product agrees. Where products round,
// Weights in Q8, which do not, are not what a Buffer is.
func testWeights(s *suite) {
	shapes := [][3]int{{1, 1, 1}, {2, 300, 70}, {3, 67, 803}, {4, 2100, 40}, {5, 129, 64}, {13, 1, 33}, {30, 97, 400}, {430, 50, 96}}
	for m := 1; m <= 14; m++ {
		shapes = append(shapes, [3]int{m, s.size(), s.size()}, [3]int{m, 160, 64})
	}
	for i, shape := range shapes {
		m, n, k := shape[0], shape[1], shape[2]
		for _, f := range formats {
			what := fmt.Sprintf("%v (%d, %d, %d)", f, m, n, k)
			x := s.floats(n * k)
			w, kept := s.weights(f, n, k, x)
			s.rounded(f, kept, x, k)
			b := s.put(kept)
			a, c := s.random(m*k), s.random(m*n)
			left, same := a.x, s.same
			if s.tol.Rounds {
				a = s.put(s.floats(m * k))
				if left = s.seen(a.x); f == device.Q8 {
					left, same = a.x, func(string, []float64, []float64) {}
				}
			}
			transA, accumulate := i%5 == 4, i%2 == 1
			other := s.d.Alloc(m * n)
			for range 3 { // weights as a Buffer may be kept in another layout by now
				s.d.Copy(other, c.Buffer)
				s.d.MatMul(other, a.Buffer, b.Buffer, m, n, k, transA, true, accumulate)
			}
			want := matmul(c.x, left, kept, m, n, k, transA, true, accumulate)
			s.d.MatMul(c.Buffer, a.Buffer, w, m, n, k, transA, true, accumulate)
			s.near("MatMul "+what, s.get(c.Buffer), want, s.tol.Value)
			same("MatMul "+what, s.get(c.Buffer), s.get(other))
			if !transA && !accumulate {
				one := s.d.Alloc(n)
				for r := range m {
					s.d.MatMul(one, a.View(r*k, k), w, 1, n, k, false, true, false)
					s.row(fmt.Sprintf("row %d of MatMul %s", r, what), s.get(one), s.get(c.View(r*n, n)))
				}
			}

			ids := s.ids(m, n)
			out, want2 := s.d.Alloc(m*k), s.d.Alloc(m*k)
			s.d.Embed(out, w, ids, k)
			s.d.Embed(want2, b.Buffer, ids, k)
			s.same("Embed "+what, s.get(out), s.get(want2))

			have, wanted := newClassified(m), newClassified(m)
			s.d.Classifier(have, a.Buffer, w, ids, n, k, 0.7)
			s.d.Classifier(wanted, a.Buffer, b.Buffer, ids, n, k, 0.7)
			same("LogProb "+what, have.LogProb, wanted.LogProb)
			same("Entropy "+what, have.Entropy, wanted.Entropy)
			same("LSE "+what, have.LSE, wanted.LSE)

			short := make([]float32, n*k)
			s.d.Read(short, w)
			for i, v := range short {
				if float64(v) != kept[i] {
					s.Fatalf("Read %s: [%d] is %g, want %g", what, i, v, kept[i])
				}
			}
			s.d.Free(w)
		}
	}
}

// testWeightsEdges: what is not finite, what cannot be read, what is refused.
func testWeightsEdges(s *suite) {
	d := s.d
	b := func(n int) device.Buffer { return d.Alloc(n) }
	for _, f := range formats {
		const n, k, m = 40, 70, 3
		for _, odd := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			x := s.floats(n * k)
			x[7*k+50] = odd
			w, kept := s.weights(f, n, k, x)
			if v := kept[7*k+50]; f != device.Q8 && v != odd && !(v != v && odd != odd) || f == device.Q8 && v == v {
				s.Errorf("%v: %g became %g", f, odd, v)
			}
			for i, v := range kept {
				// Neighbours that share a scale with it are lost with it.
				lost := f == device.Q8 && i/k == 7 && i%k/device.Q8Block == 50/device.Q8Block
				if i != 7*k+50 && (v != v) != lost {
					s.Fatalf("%v: beside %g, [%d] is %g", f, odd, i, v)
				}
			}
			a, c := s.random(m*k), b(m*n)
			d.MatMul(c, a.Buffer, w, m, n, k, false, true, false)
			for i, v := range s.get(c) {
				if bad := math.IsNaN(v) || math.IsInf(v, 0); bad != (i%n == 7) {
					s.Fatalf("%v: %g in row 7 of the weights: product [%d, %d] is %g", f, odd, i/n, i%n, v)
				}
			}
			d.Free(w)
		}
		// Zeros, the smallest and the largest numbers.
		x := make([]float64, 2*k)
		for i := range k {
			x[k+i] = []float64{0, 1e-45, -3e38, 1e-38}[i%4] * math.Exp2(-float64(i/32))
		}
		for i := range x {
			x[i] = float64(float32(x[i]))
		}
		w, kept := s.weights(f, 2, k, x)
		for i, v := range kept {
			if math.IsNaN(v) || math.IsInf(v, 0) || i < k && v != 0 || f == device.F32 && s.tol.Storage == 0 && !s.tol.Rounds && v != x[i] {
				s.Errorf("%v: %g became %g", f, x[i], v)
			}
		}
		d.Free(w)

		failed := errors.New("the disk is gone")
		if _, err := d.NewWeights(f, 5, 3, func(int, []float32) error { return failed }); !errors.Is(err, failed) {
			s.Errorf("%v: the reader's error is lost: %v", f, err)
		}
		w, _ = s.weights(f, 4, 3, s.floats(12))
		ids, c2 := []int32{0, 3}, newClassified(2)
		for _, test := range []struct {
			name string
			f    func()
		}{
			{"View", func() { w.View(0, 3) }},
			{"MatMul not transposed", func() { d.MatMul(b(8), b(6), w, 2, 4, 3, false, false, false) }},
			{"MatMul shape", func() { d.MatMul(b(6), b(8), w, 2, 3, 4, false, true, false) }},
			{"MatMul a", func() { d.MatMul(b(12), w, b(9), 4, 3, 3, false, true, false) }},
			{"MatMul c", func() { d.MatMul(w, b(8), b(6), 4, 3, 2, false, false, false) }},
			{"Embed id", func() { d.Embed(b(3), w, []int32{4}, 3) }},
			{"Embed dim", func() { d.Embed(b(4), w, []int32{0}, 4) }},
			{"EmbedBackward", func() { d.EmbedBackward(w, b(3), []int32{0}, 3) }},
			{"Classifier shape", func() { d.Classifier(c2, b(8), w, ids, 3, 4, 1) }},
			{"ClassifierBackward", func() {
				d.ClassifierBackward(b(6), s.wide(12), b(6), w, ids, 4, 3, 1, c2, make([]float64, 2), nil)
			}},
			{"Write", func() { d.Write(w, make([]float32, 12)) }},
			{"Read", func() { d.Read(make([]float32, 11), w) }},
			{"Add", func() { d.Add(w, b(12)) }},
			{"Copy", func() { d.Copy(b(12), w) }},
			{"Zero", func() { d.Zero(w) }},
			{"no rows", func() { _, _ = d.NewWeights(f, 0, 3, nil) }},
			{"no such format", func() { _, _ = d.NewWeights(99, 1, 1, nil) }},
		} {
			s.panics(f.String()+" "+test.name, test.f)
		}
		d.Free(w)
	}
}
