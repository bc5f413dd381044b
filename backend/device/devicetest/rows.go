package devicetest

func testTransfer(s *suite) {
	if s.d.Name() == "" {
		s.Error("the device has no name")
	}
	for _, n := range []int{0, 1, 7, 64, 1000} {
		b := s.d.Alloc(n)
		s.same("Alloc", s.get(b), make([]float64, n))
		x, y := s.random(n), s.random(n)
		f := make([]float32, n)
		s.d.Read(f, x.Buffer)
		c := s.d.Alloc(n)
		s.d.Write(c, f)
		f64 := make([]float64, n)
		for i, v := range f {
			f64[i] = float64(v)
		}
		s.near("Read", f64, x.x, max(s.tol.Value, 1e-7))
		s.near("Write", s.get(c), f64, s.tol.Value)
		s.d.Copy(b, x.Buffer)
		s.same("Copy", s.get(b), x.x)
		s.d.Add(b, y.Buffer)
		s.near("Add", s.get(b), sum(x.x, y.x), s.tol.Value)
		s.d.Copy(b, x.Buffer)
		s.d.Scale(b, -2)
		want := make([]float64, n)
		for i, v := range x.x {
			want[i] = -2 * v
		}
		s.near("Scale", s.get(b), want, s.tol.Value)
		s.d.Zero(b)
		s.same("Zero", s.get(b), make([]float64, n))
		s.d.Free(b)
	}
	// A view of a view shares the memory, and nothing else is touched.
	b := s.random(20)
	v := b.View(3, 10).View(2, 4)
	if v.Len() != 4 {
		s.Errorf("View has %d floats, want 4", v.Len())
	}
	s.same("View", s.get(v), b.x[5:9])
	s.d.Zero(v)
	clear(b.x[5:9])
	s.same("Zero of a view", s.get(b.Buffer), b.x)
}

func testRows(s *suite) {
	for range 20 {
		n, m, w := s.size(), s.size(), s.size()
		src, rows := s.random(m*w), s.ids(n, m)
		dst := s.random(n * w)
		s.d.GatherRows(dst.Buffer, src.Buffer, rows, w)
		want := make([]float64, n*w)
		for i, r := range rows {
			copy(want[i*w:(i+1)*w], src.x[int(r)*w:])
		}
		s.same("GatherRows", s.get(dst.Buffer), want)

		from, to := s.random(n*w), s.random(m*w)
		s.d.ScatterAddRows(to.Buffer, from.Buffer, rows, w)
		for i, r := range rows {
			for j := range w {
				to.x[int(r)*w+j] += from.x[i*w+j]
			}
		}
		s.near("ScatterAddRows", s.get(to.Buffer), to.x, s.tol.Value*10)

		n = min(n, m)
		rows = rows[:n]
		for i, p := range s.r.Perm(m)[:n] {
			rows[i] = int32(p)
		}
		from, to = s.random(n*w), s.random(m*w)
		s.d.ScatterRows(to.Buffer, from.Buffer, rows, w)
		for i, r := range rows {
			copy(to.x[int(r)*w:int(r+1)*w], from.x[i*w:])
		}
		s.same("ScatterRows", s.get(to.Buffer), to.x)
	}
}

func testEmbed(s *suite) {
	for range 10 {
		n, vocab, dim := s.size(), s.size(), s.size()
		table, ids := s.random(vocab*dim), s.ids(n, vocab)
		out, want := s.d.Alloc(n*dim), make([]float64, n*dim)
		s.d.Embed(out, table.Buffer, ids, dim)
		for i, id := range ids {
			copy(want[i*dim:(i+1)*dim], table.x[int(id)*dim:])
		}
		s.same("Embed", s.get(out), want)
		dtable, dout := s.random(vocab*dim), s.random(n*dim)
		s.d.EmbedBackward(dtable.Buffer, dout.Buffer, ids, dim)
		for i, id := range ids {
			for j := range dim {
				dtable.x[int(id)*dim+j] += dout.x[i*dim+j]
			}
		}
		s.near("EmbedBackward", s.get(dtable.Buffer), dtable.x, s.tol.Value*10)
	}
}
