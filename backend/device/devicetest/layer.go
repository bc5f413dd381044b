package devicetest

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

func rmsnorm(x, w []float64, dim int, eps float64) (out, rstd []float64) {
	out = make([]float64, len(x))
	for i := 0; i < len(x); i += dim {
		var sq float64
		for _, v := range x[i : i+dim] {
			sq += v * v
		}
		r := 1 / math.Sqrt(sq/float64(dim)+eps)
		rstd = append(rstd, r)
		for j := range dim {
			out[i+j] = x[i+j] * r * w[j]
		}
	}
	return out, rstd
}

func testRMSNorm(s *suite) {
	for range 12 {
		rows, dim, eps := s.size(), s.size(), 1e-5
		x, w, dout := s.random(rows*dim), s.random(dim), s.random(rows*dim)
		out, rstd := s.d.Alloc(rows*dim), s.wide(rows)
		s.d.RMSNorm(out, rstd, x.Buffer, w.Buffer, rows, dim, eps)
		wantOut, wantR := rmsnorm(x.x, w.x, dim, eps)
		s.near(fmt.Sprintf("RMSNorm(%d, %d)", rows, dim), s.get(out), wantOut, s.tol.Value)
		s.near("rstd", s.get(rstd), wantR, s.tol.wide())

		dx, dw := s.random(rows*dim), s.randomAs(device.Wide, dim)
		s.d.RMSNormBackward(dx.Buffer, dw.Buffer, dout.Buffer, x.Buffer, w.Buffer, rstd, rows, dim)
		loss := func() float64 {
			y, _ := rmsnorm(x.x, w.x, dim, eps)
			return dot(y, dout.x)
		}
		s.gradient(fmt.Sprintf("RMSNormBackward(%d, %d): dx", rows, dim), x.x, minus(s.get(dx.Buffer), dx.x), loss)
		s.gradient(fmt.Sprintf("RMSNormBackward(%d, %d): dw", rows, dim), w.x, minus(s.get(dw.Buffer), dw.x), loss)
		again := s.put(dx.x)
		s.d.RMSNormBackward(again.Buffer, nil, dout.Buffer, x.Buffer, w.Buffer, rstd, rows, dim)
		s.row(fmt.Sprintf("RMSNormBackward(%d, %d) without dw: dx", rows, dim), s.get(again.Buffer), s.get(dx.Buffer))
	}
}

func rope(x, cos, sin []float64, pos []int32, heads, dim int) []float64 {
	out, half := make([]float64, len(x)), dim/2
	for i, p := range pos {
		for h := range heads {
			at := (i*heads + h) * dim
			for j := range half {
				c, s := cos[int(p)*half+j], sin[int(p)*half+j]
				a, b := x[at+j], x[at+j+half]
				out[at+j], out[at+j+half] = a*c-b*s, b*c+a*s
			}
		}
	}
	return out
}

func testRoPE(s *suite) {
	for range 12 {
		n, dim, most := s.size(), 2*(1+s.r.IntN(34)), s.size()
		cos, sin := make([]float64, most*dim/2), make([]float64, most*dim/2)
		for i := range cos {
			angle := s.r.Float64() * 7
			cos[i], sin[i] = math.Cos(angle), math.Sin(angle)
		}
		c, si, pos := s.putAs(device.Wide, cos), s.putAs(device.Wide, sin), s.ids(n, most)
		var out, back []device.Rotation
		var xs, gs []vector
		for range s.r.IntN(4) {
			heads := 1 + s.r.IntN(5)
			x, g := s.random(n*heads*dim), s.random(n*heads*dim)
			out, xs = append(out, device.Rotation{X: x.Buffer, Heads: heads}), append(xs, x)
			back, gs = append(back, device.Rotation{X: g.Buffer, Heads: heads}), append(gs, g)
		}
		s.d.RoPE(out, c.Buffer, si.Buffer, pos, dim, false)
		s.d.RoPE(back, c.Buffer, si.Buffer, pos, dim, true)
		for i, x := range xs {
			what, heads := fmt.Sprintf("RoPE, %d of %d", i, len(xs)), out[i].Heads
			s.near(what, s.get(x.Buffer), rope(x.x, c.x, si.x, pos, heads, dim), s.tol.Value)
			// inverse is the backward: the transpose of a linear map.
			s.gradient(what+", inverse", x.x, s.get(gs[i].Buffer), func() float64 {
				return dot(rope(x.x, c.x, si.x, pos, heads, dim), gs[i].x)
			})
		}
	}
}

func swiglu(gate, up []float64) []float64 {
	out := make([]float64, len(gate))
	for i, g := range gate {
		out[i] = g / (1 + math.Exp(-g)) * up[i]
	}
	return out
}

func testSwiGLU(s *suite) {
	for range 12 {
		n := s.size() * s.size()
		gate, up, dout := s.random(n), s.random(n), s.random(n)
		out, dgate, dup := s.d.Alloc(n), s.random(n), s.random(n)
		s.d.SwiGLU(out, gate.Buffer, up.Buffer)
		s.near("SwiGLU", s.get(out), swiglu(gate.x, up.x), s.tol.Value)
		s.d.SwiGLUBackward(dgate.Buffer, dup.Buffer, dout.Buffer, gate.Buffer, up.Buffer)
		loss := func() float64 { return dot(swiglu(gate.x, up.x), dout.x) }
		s.gradient("dgate", gate.x, s.get(dgate.Buffer), loss)
		s.gradient("dup", up.x, s.get(dup.Buffer), loss)
	}
	// Far from zero silu is the identity or nothing, never NaN.
	gate := s.put([]float64{-1e4, -200, -90, 90, 200, 1e4})
	up := s.put([]float64{1, 1, 1, 1, 1, 1})
	out, dgate := s.d.Alloc(6), s.d.Alloc(6)
	s.d.SwiGLU(out, gate.Buffer, up.Buffer)
	s.near("SwiGLU far out", s.get(out), []float64{0, 0, 0, 90, 200, 1e4}, max(s.tol.Value, 1e-30))
	s.d.SwiGLUBackward(dgate, out, up.Buffer, gate.Buffer, up.Buffer)
	s.near("SwiGLUBackward far out", s.get(dgate), []float64{0, 0, 0, 1, 1, 1}, max(s.tol.Value, 1e-30))
}
