package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"nrt/backend/device"
)

// filled is a buffer of standard normal numbers.
func filled(d device.Device, n int) device.Buffer {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	b := d.Alloc(n)
	d.Write(b, x)
	return b
}

// gflops reports the rate of b.N runs of flops each.
func gflops(b *testing.B, flops float64) {
	b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

// BenchmarkMatMul: "nt" is a forward product with weights (n, k), packed once
// and kept; "nn" the gradient of its input; "tn" the gradient of the weights.
func BenchmarkMatMul(b *testing.B) {
	for _, threads := range []int{1, 2} {
		d := mustNew(b, Options{Threads: threads})
		for _, s := range []struct {
			mode    string
			m, n, k int
		}{
			{"nt", 1, 704, 256}, {"nt", 16, 704, 256}, {"nt", 32, 704, 256}, {"nt", 128, 96, 96}, {"nt", 128, 352, 128},
			{"nt", 2048, 256, 256}, {"nt", 2048, 704, 256}, {"nt", 2048, 256, 704}, {"nt", 2000, 96, 96},
			{"nn", 2048, 256, 256}, {"nn", 2048, 256, 704}, {"nn", 2000, 96, 256}, {"tn", 256, 256, 2048}, {"tn", 704, 256, 2048}, {"tn", 96, 96, 2000},
			{"nt", 256, 512, 512}, {"nn", 256, 512, 512}, {"nn", 1024, 1024, 1024}, {"nn", 2048, 2048, 2048},
		} {
			b.Run(fmt.Sprintf("%s/%dx%dx%d/threads%d", s.mode, s.m, s.n, s.k, threads), func(b *testing.B) {
				x, y, z := filled(d, s.m*s.k), filled(d, s.k*s.n), d.Alloc(s.m*s.n)
				b.ResetTimer()
				for b.Loop() {
					d.MatMul(z, x, y, s.m, s.n, s.k, s.mode[0] == 't', s.mode[1] == 't', false)
				}
				gflops(b, 2*float64(s.m)*float64(s.n)*float64(s.k))
			})
		}
	}
}

// attention benchmarks: packed training sequences and a decode batch.
func benchAttention(b *testing.B, backward bool) {
	for _, s := range []struct {
		name             string
		seqs, q, past    int
		heads, kvs, dims int
	}{
		{"train16x128", 16, 128, 0, 8, 8, 32}, {"train64x40", 64, 40, 0, 3, 3, 32}, {"decode128x60", 128, 1, 59, 3, 3, 32},
	} {
		if backward && s.q == 1 {
			continue
		}
		d := mustNew(b, Options{Threads: 2})
		h := device.Heads{Query: s.heads, KV: s.kvs, Dim: s.dims}
		var seqs []device.Seq
		for i := range s.seqs {
			seq := device.Seq{Q: device.Span{Start: i * s.q, Len: s.q}, Own: i*(s.past+s.q) + s.past}
			if s.past > 0 {
				seq.Past = []device.Span{{Start: i * (s.past + s.q), Len: s.past}}
			}
			seqs = append(seqs, seq)
		}
		qn, kn := s.seqs*s.q*s.heads*s.dims, s.seqs*(s.q+s.past)*s.kvs*s.dims
		q, k, v, out, lse := filled(d, qn), filled(d, kn), filled(d, kn), d.Alloc(qn), d.Alloc(qn/s.dims)
		dq, dk, dv, dout := d.Alloc(qn), d.Alloc(kn), d.Alloc(kn), filled(d, qn)
		// Multiply-adds that causality leaves, times two.
		pairs := float64(s.seqs*s.heads*s.dims) * (float64(s.q*s.past) + float64(s.q*(s.q+1))/2)
		b.Run(s.name, func(b *testing.B) {
			for b.Loop() {
				if backward {
					d.AttentionBackward(dq, dk, dv, dout, q, k, v, out, lse, seqs, h)
				} else {
					d.Attention(out, lse, q, k, v, seqs, h)
				}
			}
			if backward {
				gflops(b, 10*pairs)
			} else {
				gflops(b, 4*pairs)
			}
		})
	}
}

func BenchmarkAttention(b *testing.B)         { benchAttention(b, false) }
func BenchmarkAttentionBackward(b *testing.B) { benchAttention(b, true) }

func BenchmarkClassifier(b *testing.B) {
	for _, s := range [][3]int{{2048, 1024, 256}, {2000, 160, 96}, {128, 160, 96}, {256, 32000, 288}} {
		rows, vocab, dim := s[0], s[1], s[2]
		d := mustNew(b, Options{Threads: 2})
		h, w := filled(d, rows*dim), filled(d, vocab*dim)
		dh, dw := d.Alloc(rows*dim), d.Alloc(vocab*dim)
		c := device.Classified{LogProb: make([]float64, rows), Entropy: make([]float64, rows), LSE: make([]float64, rows)}
		targets, weights := make([]int32, rows), make([]float64, rows)
		flops := 2 * float64(rows) * float64(vocab) * float64(dim)
		b.Run(fmt.Sprintf("forward/%dx%dx%d", rows, vocab, dim), func(b *testing.B) {
			for b.Loop() {
				d.Classifier(c, h, w, targets, vocab, dim, 0.1)
			}
			gflops(b, flops)
		})
		b.Run(fmt.Sprintf("backward/%dx%dx%d", rows, vocab, dim), func(b *testing.B) {
			for b.Loop() {
				d.ClassifierBackward(dh, dw, h, w, targets, vocab, dim, 0.1, c, weights, nil)
			}
			gflops(b, 3*flops)
		})
	}
}

// BenchmarkRows times the operations that memory limits, for 2048 rows.
func BenchmarkRows(b *testing.B) {
	const rows, dim, ffn, vocab = 2048, 256, 704, 1024
	d := mustNew(b, Options{Threads: 2})
	x, y, z, u, v := filled(d, rows*ffn), filled(d, rows*ffn), filled(d, rows*ffn), filled(d, rows*ffn), filled(d, rows*ffn)
	n := func(b device.Buffer) device.Buffer { return b.View(0, rows*dim) }
	w, dw, rstd := filled(d, dim), d.Alloc(dim), d.Alloc(rows)
	cos, sin, pos := filled(d, 128*16), filled(d, 128*16), make([]int32, rows)
	ids := make([]int32, rows)
	for i := range ids {
		ids[i], pos[i] = int32(i%vocab), int32(i%128)
	}
	table := d.Alloc(vocab * dim)
	params := [4]device.Buffer{d.Alloc(3 << 20), d.Alloc(3 << 20), d.Alloc(3 << 20), d.Alloc(3 << 20)}
	logits, rowsOf := filled(d, 128*vocab), make([]device.SampleRow, 128)
	for i := range rowsOf {
		rowsOf[i] = device.SampleRow{Temperature: 1, U: float64(i) / 128}
	}
	drawn := make([]device.Sampled, 128)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"RMSNorm", func() { d.RMSNorm(n(y), rstd, n(x), w, rows, dim, 1e-5) }},
		{"RMSNormBackward", func() { d.RMSNormBackward(n(y), dw, n(z), n(x), w, rstd, rows, dim) }},
		{"RoPE", func() { d.RoPE(n(x), cos, sin, pos, 8, 32, false) }},
		{"SwiGLU", func() { d.SwiGLU(x, y, z) }},
		{"SwiGLUBackward", func() { d.SwiGLUBackward(u, v, x, y, z) }},
		{"Embed", func() { d.Embed(n(x), table, ids, dim) }},
		{"EmbedBackward", func() { d.EmbedBackward(table, n(x), ids, dim) }},
		{"AdamW3M", func() {
			d.AdamW(params[0], params[1], params[2], params[3], device.AdamW{LR: 1e-3, Beta1: .9, Beta2: .99, Eps: 1e-8, Step: 1, Scale: 1})
		}},
		{"SumSquares3M", func() { d.SumSquares(params[0]) }},
		{"Add", func() { d.Add(n(x), n(y)) }},
		{"Sample128", func() { d.Sample(drawn, logits, rowsOf, vocab) }},
		{"Zero3M", func() { d.Zero(params[1]) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.f()
			}
		})
	}
}

// BenchmarkPool is an operation without work: what starting one costs, right
// after another one.
func BenchmarkPool(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads%d", threads), func(b *testing.B) {
			p := newPool(threads)
			defer p.close()
			j := ranger(func(_, _, _ int) {})
			for b.Loop() {
				p.start(threads, threads, j)
			}
		})
	}
}
