package devicetest

import (
	"fmt"

	"nrt/backend/device"
)

// matmul is the naive product.
func matmul(c, a, b []float64, m, n, k int, transA, transB, accumulate bool) []float64 {
	out := make([]float64, m*n)
	for i := range m {
		for j := range n {
			var s float64
			if accumulate {
				s = c[i*n+j]
			}
			for p := range k {
				x, y := i*k+p, p*n+j
				if transA {
					x = p*m + i
				}
				if transB {
					y = j*k + p
				}
				s += a[x] * b[y]
			}
			out[i*n+j] = s
		}
	}
	return out
}

func testMatMul(s *suite) {
	check := func(m, n, k, mode int) {
		s.Helper()
		ta, tb, acc := mode&1 != 0, mode&2 != 0, mode&4 != 0
		a, b, c := s.random(m*k), s.random(k*n), s.random(m*n)
		s.d.MatMul(c.Buffer, a.Buffer, b.Buffer, m, n, k, ta, tb, acc)
		s.near(fmt.Sprintf("MatMul(%d, %d, %d, %v, %v, %v)", m, n, k, ta, tb, acc),
			s.get(c.Buffer), matmul(c.x, a.x, b.x, m, n, k, ta, tb, acc), s.tol.Value)
		w := s.randomAs(device.Wide, m*n)
		s.d.MatMul(w.Buffer, a.Buffer, b.Buffer, m, n, k, ta, tb, acc)
		s.near(fmt.Sprintf("MatMul(%d, %d, %d, %v, %v, %v) to wide", m, n, k, ta, tb, acc),
			s.get(w.Buffer), matmul(w.x, a.x, b.x, m, n, k, ta, tb, acc), s.tol.wide())
	}
	rounds := func(m, n, k, mode int) {
		s.Helper()
		ta, tb := mode&1 != 0, mode&2 != 0
		a, b, c, d := s.floats(m*k), s.floats(k*n), s.d.Alloc(m*n), s.d.Alloc(m*n)
		s.d.MatMul(c, s.put(a).Buffer, s.put(b).Buffer, m, n, k, ta, tb, false)
		s.d.MatMul(d, s.put(s.seen(a)).Buffer, s.put(s.seen(b)).Buffer, m, n, k, ta, tb, false)
		s.same(fmt.Sprintf("MatMul(%d, %d, %d, %v, %v) of rounded numbers", m, n, k, ta, tb), s.get(c), s.get(d))
	}
	for i := range 96 {
		if s.tol.Rounds {
			rounds(s.size(), s.size(), s.size(), i%4)
		}
		check(s.size(), s.size(), s.size(), i%8)
	}
	// Past every blocking there might be.
	for mode := range 8 {
		check(59, 67, 803, mode)
		check(3, 2100, 17, mode)
		check(300, 5, 100, mode)
	}
	for mode := range 8 {
		check(0, 3, 2, mode)
		check(3, 0, 2, mode)
		check(3, 2, 0, mode)
	}
}

// testKeptWeights multiplies by the same weights again and again, changing
// them in between in every way there is: a device may keep weights in another
// layout, but must not use a stale one.
func testKeptWeights(s *suite) {
	const m, n, k = 5, 37, 24
	x := s.random(m * k)
	flat := s.random(3 * n * k)
	w := flat.View(n*k, n*k)
	y := s.d.Alloc(m * n)
	check := func(what string) {
		s.Helper()
		for range 3 {
			s.d.MatMul(y, x.Buffer, w, m, n, k, false, true, false)
			s.near("after "+what, s.get(y), matmul(nil, x.x, s.seen(s.get(w)), m, n, k, false, true, false), s.tol.Value)
		}
	}
	check("Alloc")
	other := s.random(n * k)
	zeros := s.wide(n * k)
	for _, change := range []struct {
		name string
		f    func()
	}{
		{"Write64", func() { s.d.Write64(w, s.random(n*k).x) }},
		{"Write", func() { s.d.Write(flat.View(n*k, 3), []float32{1, 2, 3}) }},
		{"Add", func() { s.d.Add(w, other.Buffer) }},
		{"Scale", func() { s.d.Scale(flat.Buffer, 0.5) }},
		{"Copy", func() { s.d.Copy(w, other.Buffer) }},
		{"ScatterRows", func() { s.d.ScatterRows([]device.Scatter{{Dst: w, Src: x.View(0, 2*k)}}, []int32{3, 1}, k) }},
		{"ScatterAddRows", func() { s.d.ScatterAddRows(w, x.View(0, 2*k), []int32{3, 3}, k) }},
		{"GatherRows", func() { s.d.GatherRows(w.View(0, 2*k), x.Buffer, []int32{1, 0}, k) }},
		{"MatMul", func() { s.d.MatMul(w, other.View(0, n), x.View(0, k), n, k, 1, false, false, true) }},
		{"AdamW", func() {
			s.d.AdamW(w, other.Buffer, s.wide(n*k), zeros, adamw(1))
		}},
		{"Zero", func() { s.d.Zero(w.View(5, 40)) }},
	} {
		change.f()
		check(change.name)
	}
	// The memory of freed weights may come back as other weights.
	for range 5 {
		b := s.random(n * k)
		for range 3 {
			s.d.MatMul(y, x.Buffer, b.Buffer, m, n, k, false, true, false)
			s.near("after Free", s.get(y), matmul(nil, x.x, b.x, m, n, k, false, true, false), s.tol.Value)
		}
		s.d.Free(b.Buffer)
	}
}

// testProject: Project is MatMul for each of its parts, bit for bit, be their
// weights learning or read-only, of one format or several, seen before or not.
func testProject(s *suite) {
	for round := range 24 {
		m, k := []int{1, 2, 5, 16, 30, 49}[round%6], s.size()
		if round == 7 {
			m, k = 7, 0
		}
		a := s.random(m * k)
		var parts []device.Projection
		var learning []vector
		for i := range 1 + round%4 {
			p := device.Projection{N: s.size()}
			p.C = s.d.Alloc(m * p.N)
			if round%3 == 0 || round%3 == 1 && i != 1 || k == 0 {
				b := s.random(p.N * k)
				p.B, learning = b.Buffer, append(learning, b)
			} else {
				p.B, _ = s.weights(formats[(round+i)%len(formats)], p.N, k, s.floats(p.N*k))
			}
			parts = append(parts, p)
		}
		for again := range 5 {
			if again == 3 && len(learning) > 0 { // what was kept of it is stale
				s.d.Scale(learning[len(learning)-1].Buffer, -1.5)
			}
			s.d.Project(parts, a.Buffer, m, k)
			for i, p := range parts {
				want := s.d.Alloc(m * p.N)
				s.d.MatMul(want, a.Buffer, p.B, m, p.N, k, false, true, false)
				s.same(fmt.Sprintf("Project (%d, %d, %d), part %d of %d, time %d", m, p.N, k, i, len(parts), again), s.get(p.C), s.get(want))
				s.d.Free(want)
			}
		}
	}
}
