package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"nrt/backend/device"
)

// testRowIndependence computes rows in a batch and alone; the bits must agree.
func testRowIndependence(s *suite) {
	for _, n := range []int{7, 33, 110} {
		const dim, out, vocab = 24, 50, 2100
		x, w := s.random(n*dim), s.random(out*dim)
		batch, one := s.d.Alloc(n*out), s.d.Alloc(out)
		at := func(b device.Buffer, i, width int) device.Buffer { return b.View(i*width, width) }
		for _, trans := range []bool{false, true} {
			s.d.MatMul(batch, x.Buffer, w.Buffer, n, out, dim, false, trans, false)
			for i := range n {
				s.d.MatMul(one, at(x.Buffer, i, dim), w.Buffer, 1, out, dim, false, trans, false)
				s.row(fmt.Sprintf("MatMul row %d of %d", i, n), s.get(one), s.get(at(batch, i, out)))
			}
		}
		g, y, r := s.random(dim), s.d.Alloc(n*dim), s.wide(n)
		y1, r1 := s.d.Alloc(dim), s.wide(1)
		s.d.RMSNorm(y, r, x.Buffer, g.Buffer, n, dim, 1e-5)
		for i := range n {
			s.d.RMSNorm(y1, r1, at(x.Buffer, i, dim), g.Buffer, 1, dim, 1e-5)
			s.same("RMSNorm row", s.get(y1), s.get(at(y, i, dim)))
		}
		x2 := s.random(n * dim)
		s.d.SwiGLU(y, x.Buffer, x2.Buffer)
		for i := range n {
			s.d.SwiGLU(y1, at(x.Buffer, i, dim), at(x2.Buffer, i, dim))
			s.same("SwiGLU row", s.get(y1), s.get(at(y, i, dim)))
		}
		wv := s.random(vocab * dim)
		all, alone, targets := newClassified(n), newClassified(1), s.ids(n, vocab)
		s.d.Classifier(all, x.Buffer, wv.Buffer, targets, vocab, dim, 0.8)
		for i := range n {
			s.d.Classifier(alone, at(x.Buffer, i, dim), wv.Buffer, targets[i:i+1], vocab, dim, 0.8)
			s.row("Classifier row", []float64{alone.LogProb[0], alone.Entropy[0], alone.LSE[0]},
				[]float64{all.LogProb[i], all.Entropy[i], all.LSE[i]})
		}
		h := device.Heads{Query: 4, KV: 2, Dim: 10, Window: 60}
		q, k, v := s.random(n*40), s.random(n*20), s.random(n*20)
		o, l, o1, l1 := s.d.Alloc(n*40), s.wide(n*4), s.d.Alloc(40), s.wide(4)
		s.d.Attention(o, l, q.Buffer, k.Buffer, v.Buffer, []device.Seq{{Q: span(0, n)}}, h)
		for i := range n {
			s.d.Attention(o1, l1, at(q.Buffer, i, 40), k.Buffer, v.Buffer,
				[]device.Seq{{Q: span(0, 1), Past: []device.Span{span(0, i)}, Own: i}}, h)
			s.near("Attention row", s.get(o1), s.get(at(o, i, 40)), s.tol.Value)
		}
		// The same Seq alone and among others.
		seqs := []device.Seq{{Q: span(0, n/2)}, {Q: span(n/2, n-n/2), Past: []device.Span{span(0, n/2)}, Own: n / 2}}
		s.d.Attention(o, l, q.Buffer, k.Buffer, v.Buffer, seqs, h)
		o2, l2 := s.d.Alloc(n*40), s.wide(n*4)
		s.d.Attention(o2, l2, q.Buffer, k.Buffer, v.Buffer, seqs[1:], h)
		s.same("Attention Seq", s.get(o2)[n/2*40:], s.get(o)[n/2*40:])
		s.same("Attention Seq lse", s.get(l2)[n/2*4:], s.get(l)[n/2*4:])

		logits, rows, drawn := s.random(n*vocab), make([]device.SampleRow, n), make([]device.Sampled, n)
		for i := range rows {
			rows[i] = device.SampleRow{Temperature: 1, U: s.r.Float64(), TopK: 50}
		}
		s.d.Sample(drawn, logits.Buffer, rows, vocab)
		for i := range n {
			var one [1]device.Sampled
			s.d.Sample(one[:], at(logits.Buffer, i, vocab), rows[i:i+1], vocab)
			if one[0].ID != drawn[i].ID || one[0].LogProb != drawn[i].LogProb || one[0].Entropy != drawn[i].Entropy {
				s.Fatalf("Sample row %d of %d: %+v alone, %+v in the batch", i, n, one[0], drawn[i])
			}
		}
	}
}

// Identical runs every operation on two devices and fails unless all results
// are the same bits: devices that differ in the number of threads, say.
func Identical(t *testing.T, a, b func() device.Device) {
	t.Helper()
	const seed = 30
	have, want := everything(t, a(), seed), everything(t, b(), seed)
	for i := range want {
		if at, ok := differ(have[i].x, want[i].x); !ok {
			t.Errorf("%s (seed %d): [%d] is %.17g and %.17g", want[i].name, seed, at, have[i].x[at], want[i].x[at])
		}
	}
}

type result struct {
	name string
	x    []float64
}

// everything runs each operation at a size worth sharing out to threads.
func everything(t *testing.T, d device.Device, seed uint64) (all []result) {
	t.Helper()
	s := &suite{T: t, d: d, r: rand.New(rand.NewPCG(seed, 0)), seed: seed}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	keep := func(name string, bufs ...device.Buffer) {
		for _, b := range bufs {
			all = append(all, result{name, s.get(b)})
		}
	}
	const n, dim, ffn, vocab = 150, 72, 130, 2100
	x, w, c := s.random(n*dim), s.random(ffn*dim), s.random(n*ffn)
	for mode := range 4 {
		acc := mode%2 == 1
		d.MatMul(c.Buffer, x.Buffer, w.Buffer, n, ffn, dim, false, mode >= 2, acc)
		keep("MatMul", c.Buffer)
		d.MatMul(w.Buffer, c.Buffer, x.Buffer, ffn, dim, n, true, false, acc)
		keep("MatMul transposed", w.Buffer)
		d.Scale(w.Buffer, 1e-4)
	}
	for _, f := range formats {
		packed, kept := s.weights(f, ffn, dim, s.floats(ffn*dim))
		all = append(all, result{f.String(), kept})
		cl := newClassified(3)
		d.Classifier(cl, x.View(0, 3*dim), packed, s.ids(3, ffn), ffn, dim, 0.3)
		all = append(all, result{"Classifier " + f.String(), cl.LogProb})
		for _, rows := range []int{1, 3, n} {
			d.MatMul(c.View(0, rows*ffn), x.View(0, rows*dim), packed, rows, ffn, dim, false, true, rows == 3)
			keep("MatMul "+f.String(), c.Buffer)
		}
	}
	g, rstd, y := s.random(dim), s.wide(n), d.Alloc(n*dim)
	d.RMSNorm(y, rstd, x.Buffer, g.Buffer, n, dim, 1e-5)
	dx, dg := s.random(n*dim), s.randomAs(device.Wide, dim)
	d.RMSNormBackward(dx.Buffer, dg.Buffer, y, x.Buffer, g.Buffer, rstd, n, dim)
	keep("RMSNorm", y, rstd, dx.Buffer, dg.Buffer)

	gate, up, dout := s.random(n*ffn), s.random(n*ffn), s.random(n*ffn)
	glu, dgate, dup := d.Alloc(n*ffn), d.Alloc(n*ffn), d.Alloc(n*ffn)
	d.SwiGLU(glu, gate.Buffer, up.Buffer)
	d.SwiGLUBackward(dgate, dup, dout.Buffer, gate.Buffer, up.Buffer)
	keep("SwiGLU", glu, dgate, dup)

	cos, sin := s.randomAs(device.Wide, 400*6), s.randomAs(device.Wide, 400*6)
	d.RoPE([]device.Rotation{{X: y, Heads: 6}, {X: dx.Buffer, Heads: 6}}, cos.Buffer, sin.Buffer, s.ids(n, 400), 12, false)
	keep("RoPE", y, dx.Buffer)

	ids := s.ids(n, 50)
	table, dtable := s.random(50*dim), s.randomAs(device.Wide, 50*dim)
	d.EmbedBackward(dtable.Buffer, x.Buffer, ids, dim)
	d.Embed(y, table.Buffer, ids, dim)
	keep("Embed", dtable.Buffer, y)

	for _, h := range []device.Heads{{Query: 6, KV: 3, Dim: 12}, {Query: 3, KV: 3, Dim: 24, Window: 40}} {
		for _, l := range s.layouts() {
			qn, kn := l.rows*h.Query*h.Dim, l.keys*h.KV*h.Dim
			q, k, v, do := s.random(qn), s.random(kn), s.random(kn), s.random(qn)
			out, lse, dq, dk, dv := d.Alloc(qn), s.wide(qn/h.Dim), d.Alloc(qn), d.Alloc(kn), d.Alloc(kn)
			d.Attention(out, lse, q.Buffer, k.Buffer, v.Buffer, l.seqs, h)
			d.AttentionBackward(dq, dk, dv, do.Buffer, q.Buffer, k.Buffer, v.Buffer, out, lse, l.seqs, h)
			keep("Attention "+l.name, out, lse, dq, dk, dv)
		}
	}

	wv, targets := s.random(vocab*dim), s.ids(n, vocab)
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = s.r.NormFloat64()
	}
	for _, logits := range []device.Buffer{nil, s.wide(device.LogitsLen(n, vocab))} {
		cl := newClassified(n)
		cl.Logits = logits
		d.Classifier(cl, x.Buffer, wv.Buffer, targets, vocab, dim, 0.3)
		dh, dw := d.Alloc(n*dim), s.wide(vocab*dim)
		d.ClassifierBackward(dh, dw, x.Buffer, wv.Buffer, targets, vocab, dim, 0.3, cl, weights, weights)
		all = append(all, result{"LogProb", cl.LogProb}, result{"Entropy", cl.Entropy}, result{"LSE", cl.LSE})
		keep("Classifier", dh, dw)
	}

	logits, rows, drawn := s.random(40*vocab), make([]device.SampleRow, 40), make([]device.Sampled, 40)
	for i := range rows {
		rows[i] = device.SampleRow{Temperature: 1, U: s.r.Float64(), TopP: 0.9}
	}
	d.Sample(drawn, logits.Buffer, rows, vocab)
	for _, r := range drawn {
		all = append(all, result{"Sample", []float64{float64(r.ID), r.LogProb, r.Entropy}})
	}
	m, v := s.wide(n*ffn), s.wide(n*ffn)
	d.AdamW(c.Buffer, glu, m, v, adamw(1))
	d.Add(c.Buffer, glu)
	keep("AdamW", c.Buffer, m, v)
	m, v = d.AllocAs(device.Moment8, n*ffn), d.AllocAs(device.Variance8, n*ffn)
	d.AdamW(c.Buffer, glu, m, v, adamw(1))
	keep("AdamW8", c.Buffer, m, v)
	all = append(all, result{"SumSquares", []float64{d.SumSquares(c.Buffer)}})
	return all
}

// testNaN: a NaN shows in what is computed from it, and only there.
func testNaN(s *suite) {
	nan := math.NaN()
	const n, dim, out = 9, 20, 21
	x := s.random(n * dim)
	x.x[4*dim+3] = nan
	s.d.Write64(x.Buffer, x.x)
	w, y := s.random(out*dim), s.d.Alloc(n*out)
	rowsWithNaN := func(what string, have []float64, width int) {
		s.Helper()
		for i := range len(have) / width {
			bad := false
			for _, v := range have[i*width : (i+1)*width] {
				bad = bad || math.IsNaN(v)
			}
			if bad != (i == 4) {
				s.Errorf("%s: row %d: NaN is %v", what, i, bad)
			}
		}
	}
	s.d.MatMul(y, x.Buffer, w.Buffer, n, out, dim, false, true, false)
	rowsWithNaN("MatMul", s.get(y), out)
	z, r, g := s.d.Alloc(n*dim), s.wide(n), s.random(dim)
	s.d.RMSNorm(z, r, x.Buffer, g.Buffer, n, dim, 1e-5)
	rowsWithNaN("RMSNorm", s.get(z), dim)
	s.d.SwiGLU(z, x.Buffer, x.Buffer)
	rowsWithNaN("SwiGLU", s.get(z), dim)
	c := newClassified(n)
	s.d.Classifier(c, x.Buffer, w.Buffer, make([]int32, n), out, dim, 1)
	rowsWithNaN("LogProb", c.LogProb, 1)
	rowsWithNaN("Entropy", c.Entropy, 1)
	if v := s.d.SumSquares(x.Buffer); !math.IsNaN(v) {
		s.Errorf("SumSquares is %g, want NaN", v)
	}
	h := device.Heads{Query: 1, KV: 1, Dim: dim}
	k, seqs := s.random(n*dim), make([]device.Seq, n)
	for i := range seqs {
		seqs[i] = device.Seq{Q: span(i, 1), Own: i}
	}
	s.d.Attention(z, r, x.Buffer, k.Buffer, k.Buffer, seqs, h)
	rowsWithNaN("lse", s.get(r), 1)
	s.d.Attention(z, r, k.Buffer, k.Buffer, x.Buffer, seqs, h)
	rowsWithNaN("Attention", s.get(z), dim)
}
