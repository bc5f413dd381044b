package devicetest

import (
	"math"

	"nrt/backend/device"
)

func adamw(step int) device.AdamW {
	return device.AdamW{LR: 0.1, Beta1: 0.9, Beta2: 0.95, Eps: 1e-6, WeightDecay: 0.1, Step: step, Scale: 0.5}
}

// update is one AdamW update of p, m and v.
func update(o device.AdamW, p, g, m, v []float64) {
	for i, x := range g {
		x *= o.Scale
		m[i] = o.Beta1*m[i] + (1-o.Beta1)*x
		v[i] = o.Beta2*v[i] + (1-o.Beta2)*x*x
		mh := m[i] / (1 - math.Pow(o.Beta1, float64(o.Step)))
		vh := v[i] / (1 - math.Pow(o.Beta2, float64(o.Step)))
		p[i] -= o.LR * (mh/(math.Sqrt(vh)+o.Eps) + o.WeightDecay*p[i])
	}
}

func testAdamW(s *suite) {
	for _, n := range []int{1, 17, 64, 5000} {
		p, m, v := s.randomAs(device.Master, n), s.putAs(device.Wide, make([]float64, n)), s.putAs(device.Wide, make([]float64, n))
		for step := 1; step <= 4; step++ {
			o, g := adamw(step), s.randomAs(device.Wide, n)
			if step == 3 {
				o.WeightDecay, o.Scale = 0, 1
			}
			s.d.AdamW(p.Buffer, g.Buffer, m.Buffer, v.Buffer, o)
			update(o, p.x, g.x, m.x, v.x)
			s.near("m", s.get(m.Buffer), m.x, s.tol.wide())
			s.near("v", s.get(v.Buffer), v.x, s.tol.wide())
			s.near("p", s.get(p.Buffer), p.x, s.tol.wide())
		}
	}
}

func testSumSquares(s *suite) {
	for _, n := range []int{0, 1, 31, 1000, 100003} {
		x := s.random(n)
		s.near("SumSquares", []float64{s.d.SumSquares(x.Buffer)}, []float64{dot(x.x, x.x)}, max(s.tol.wide()/100, 1e-13))
	}
}
