package devicetest

import (
	"fmt"

	"nrt/backend/device"
)

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

// testKinds: Wide and Master keep float32 whatever the compute type, operations
// see a Master in the compute type, and Copy and Add convert.
func testKinds(s *suite) {
	const n, dim = 6, 17
	x := make([]float64, n*dim)
	for i := range x {
		x[i] = float64(float32(s.r.NormFloat64()))
	}
	rounded := s.put(x)
	for _, k := range []device.Kind{device.Compute, device.Master, device.Wide} {
		b := s.putAs(k, x)
		if k != device.Compute {
			s.same(k.String(), b.x, x)
			s.same(k.String()+" view", s.get(b.View(3, 40)), x[3:43])
		}
		c := s.d.Alloc(n * dim)
		s.d.Copy(c, b.Buffer)
		s.same("Copy from "+k.String(), s.get(c), rounded.x)
		w := s.wide(n * dim)
		s.d.Copy(w, b.Buffer)
		s.same("Copy to wide from "+k.String(), s.get(w), b.x)
		s.d.Add(w, b.Buffer)
		s.near("Add to wide from "+k.String(), s.get(w), sum(b.x, b.x), s.tol.wide())
		m := s.d.AllocAs(device.Master, n*dim)
		s.d.Copy(m, b.Buffer)
		s.same("Copy to master from "+k.String(), s.get(m), b.x)
		s.d.Scale(m, 0.5)
		half := make([]float64, n*dim)
		for i, v := range b.x {
			half[i] = v / 2
		}
		s.same("Scale of a master", s.get(m), half)
		s.d.Zero(m)
		s.same("Zero of a master", s.get(m), make([]float64, n*dim))
	}
	for k, most := range map[device.Kind]int64{device.Compute: 8, device.Master: 8, device.Wide: 8, device.Moment8: 2, device.Variance8: 2} {
		b, err := s.d.Reserve(k, n*dim)
		if err != nil {
			s.Fatal(err)
		}
		if k <= device.Wide {
			s.same("a reserved "+k.String(), s.get(b), make([]float64, n*dim))
		}
		if b.Len() != n*dim {
			s.Errorf("Reserve(%v, %d) has %d floats", k, n*dim, b.Len())
		}
		s.d.Free(b)
		if have := s.d.Bytes(k, n*dim); have < n*dim || have > most*n*dim && have > device.Block8+4 || s.d.Bytes(k, 1<<40) < 1<<40 {
			s.Errorf("Bytes(%v, %d) is %d", k, n*dim, have)
		}
	}
	table, out := s.putAs(device.Master, x), s.d.Alloc(n*dim)
	ids := s.ids(n, n)
	embed := func(what string, of []float64) {
		s.Helper()
		want := s.put(of)
		s.d.Embed(out, table.Buffer, ids, dim)
		for i, id := range ids {
			s.same(what, s.get(out.View(i*dim, dim)), want.x[int(id)*dim:int(id+1)*dim])
		}
	}
	embed("Embed of a master", x)
	g, m, v := s.randomAs(device.Wide, n*dim), s.wide(n*dim), s.wide(n*dim)
	s.d.AdamW(table.Buffer, g.Buffer, m, v, adamw(1))
	embed("Embed of a master after AdamW", s.get(table.Buffer))
	s.d.Write(table.View(dim, dim), make([]float32, dim))
	embed("Embed of a master after Write", s.get(table.Buffer))
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
		var out []device.Scatter
		var froms, tos []vector
		for range s.r.IntN(4) {
			// The rows are those of the smallest.
			from, to := s.random(n*w), s.random((m+s.r.IntN(3))*w)
			out, froms, tos = append(out, device.Scatter{Dst: to.Buffer, Src: from.Buffer}), append(froms, from), append(tos, to)
		}
		s.d.ScatterRows(out, rows, w)
		for p, to := range tos {
			for i, r := range rows {
				copy(to.x[int(r)*w:int(r+1)*w], froms[p].x[i*w:])
			}
			s.same(fmt.Sprintf("ScatterRows, %d of %d", p, len(tos)), s.get(to.Buffer), to.x)
		}
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
		dtable, dout := s.randomAs(device.Wide, vocab*dim), s.random(n*dim)
		s.d.EmbedBackward(dtable.Buffer, dout.Buffer, ids, dim)
		for i, id := range ids {
			for j := range dim {
				dtable.x[int(id)*dim+j] += dout.x[i*dim+j]
			}
		}
		s.near("EmbedBackward", s.get(dtable.Buffer), dtable.x, s.tol.wide())
	}
}
