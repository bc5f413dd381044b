package devicetest

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

// eight describes a kind of 8-bit moments, from kind.go's text.
type eight struct {
	kind  device.Kind
	power float64 // a code is the largest one times the power-th root of |x|/s
	codes float64
}

var eights = []eight{{device.Moment8, 2, 127}, {device.Variance8, 4, 255}}

// place is where x lies among the codes of a block with scale s; whole numbers
// are codes.
func (e eight) place(x, s float64) float64 {
	if s == 0 {
		return 0
	}
	return math.Copysign(e.codes*math.Pow(math.Abs(x)/s, 1/e.power), x)
}

// nearest fails unless have is, block by block, the codes nearest to want; slack
// is how far want may be off, in codes.
func (s *suite) nearest(what string, e eight, have, want []float64, slack float64) {
	s.Helper()
	for at := 0; at < len(want); at += device.Block8 {
		end := min(at+device.Block8, len(want))
		var scale float64
		for _, x := range want[at:end] {
			scale = max(scale, math.Abs(x))
		}
		for i := at; i < end; i++ {
			h, w := e.place(have[i], scale), e.place(want[i], scale)
			if math.Abs(h-math.Round(h)) > 1e-3+slack {
				s.Fatalf("%s (seed %d): [%d] is %g, which is no code: %g", what, s.seed, i, have[i], h)
			}
			if e.kind == device.Variance8 && want[i] > 0 && w < 1 {
				w = 1
			}
			if math.Abs(h-w) > 0.5+1e-3+slack {
				s.Fatalf("%s (seed %d): [%d] is %g, code %g, want %g, code %g", what, s.seed, i, have[i], h, want[i], w)
			}
		}
	}
}

// testMoments8: what is stored is nearest, and storing it again keeps every bit.
func testMoments8(s *suite) {
	for _, e := range eights {
		for _, n := range []int{0, 1, 255, 256, 257, 1000} {
			for _, scale := range []float64{1, 1e-12, 1e-26, 1e15} {
				x := make([]float64, n)
				for i := range x {
					x[i] = scale * s.r.NormFloat64() * math.Exp(3*s.r.NormFloat64())
					if e.kind == device.Variance8 {
						x[i] *= x[i] / scale
					}
					x[i] = float64(float32(x[i]))
				}
				what := fmt.Sprintf("%v of %d around %g", e.kind, n, scale)
				a, b := s.putAs(e.kind, x), s.d.AllocAs(e.kind, n)
				s.nearest(what, e, a.x, x, 0)
				s.d.Write64(b, a.x)
				s.same(what+" again", s.get(b), a.x)
				narrow := make([]float32, n)
				s.d.Read(narrow, a.Buffer)
				s.d.Zero(b)
				s.same(what+" zeroed", s.get(b), make([]float64, n))
				s.d.Write(b, narrow)
				s.same(what+" by float32", s.get(b), a.x)
				s.d.Free(b)
			}
		}
		// One NaN or infinity makes its block NaN, and a block of almost nothing is
		// nothing.
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			x := make([]float64, 3*device.Block8)
			x[5], x[device.Block8+7], x[2*device.Block8+1] = 1, bad, 1e-35
			for i, v := range s.putAs(e.kind, x).x {
				want := 0.0
				switch {
				case i == 5:
					want = 1
				case i/device.Block8 == 1:
					want = math.NaN()
				}
				if v != want && !(v != v && want != want) {
					s.Errorf("%v with %g: [%d] is %g, want %g", e.kind, bad, i, v, want)
				}
			}
		}
	}
	two := s.d.AllocAs(device.Variance8, 4)
	s.panics("View of 8-bit moments", func() { two.View(0, 2) })
	s.panics("Copy of 8-bit moments", func() { s.d.Copy(s.wide(4), two) })
	s.panics("Add of 8-bit moments", func() { s.d.Add(s.wide(4), two) })
	s.panics("Scale of 8-bit moments", func() { s.d.Scale(two, 2) })
	s.panics("SumSquares of 8-bit moments", func() { s.d.SumSquares(two) })
	s.panics("Write of another length", func() { s.d.Write(two, make([]float32, 3)) })
	s.panics("Read of another length", func() { s.d.Read(make([]float32, 5), two) })
	p, g, one := s.d.AllocAs(device.Master, 4), s.wide(4), s.d.AllocAs(device.Moment8, 4)
	s.panics("AdamW with one moment in 8 bits", func() { s.d.AdamW(p, g, one, s.wide(4), adamw(1)) })
	s.panics("AdamW with moments exchanged", func() { s.d.AdamW(p, g, two, one, adamw(1)) })
	s.panics("AdamW with moments of another length", func() {
		s.d.AdamW(p, g, s.d.AllocAs(device.Moment8, 5), s.d.AllocAs(device.Variance8, 5), adamw(1))
	})
}

// testAdamW8 holds each update against the float64 one from the moments as they
// are stored, and many against those with moments in full.
func testAdamW8(s *suite) {
	for _, n := range []int{1, 17, 256, 300, 2100} {
		p := s.randomAs(device.Master, n)
		m, v := s.d.AllocAs(device.Moment8, n), s.d.AllocAs(device.Variance8, n)
		for step := 1; step <= 6; step++ {
			o, g := adamw(step), s.randomAs(device.Wide, n)
			m0, v0 := s.get(m), s.get(v)
			s.d.AdamW(p.Buffer, g.Buffer, m, v, o)
			update(o, p.x, g.x, m0, v0)
			what := fmt.Sprintf("update %d of %d", step, n)
			s.near("p after "+what, s.get(p.Buffer), p.x, s.tol.wide())
			s.nearest("m after "+what, eights[0], s.get(m), m0, 0.01)
			s.nearest("v after "+what, eights[1], s.get(v), v0, 0.01)
		}
	}

	// Gradients with a direction of their own and noise, of sizes that differ tenfold in a block.
	const n, updates = 1000, 50
	start, size, drift := s.random(n), make([]float64, n), make([]float64, n)
	for i := range size {
		size[i], drift[i] = math.Exp(s.r.NormFloat64()), 0.3*s.r.NormFloat64()
	}
	type state struct{ p, m, v device.Buffer }
	full := state{s.putAs(device.Master, start.x).Buffer, s.wide(n), s.wide(n)}
	few := state{s.putAs(device.Master, start.x).Buffer, s.d.AllocAs(device.Moment8, n), s.d.AllocAs(device.Variance8, n)}
	g := s.wide(n)
	for step := 1; step <= updates; step++ {
		x := make([]float64, n)
		for i := range x {
			x[i] = size[i] * (drift[i] + s.r.NormFloat64())
		}
		s.d.Write64(g, x)
		o := adamw(step)
		o.LR, o.Beta2 = 0.01, 0.99
		s.d.AdamW(full.p, g, full.m, full.v, o)
		s.d.AdamW(few.p, g, few.m, few.v, o)
	}
	want := s.get(full.p)
	moved, off := minus(want, start.x), minus(s.get(few.p), want)
	if share := math.Sqrt(dot(off, off) / dot(moved, moved)); !(share < 0.08) {
		s.Errorf("after %d updates moments in 8 bits have led %.3f of the way elsewhere", updates, share)
	} else {
		s.Logf("after %d updates moments in 8 bits have led %.4f of the way elsewhere", updates, share)
	}
}
