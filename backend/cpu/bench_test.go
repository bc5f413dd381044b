package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"nrt/backend/device"
)

// The sizes are those of docs/performance.md: a training step of 16 × 128 tokens
// of a model of 3.48M parameters (d 256, 8 heads of 32, ffn 704, vocabulary
// 1024), and decoding with models of 15M and 135M.

// benchDevice computes on all processors.
func benchDevice(b *testing.B) device.Device {
	return mustNew(b, Options{Threads: runtime.GOMAXPROCS(0)})
}

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

// BenchmarkMatMul: "nt" is a forward product with weights (n, k), which are the
// same in every call; "nn" the gradient of its input; "tn" that of the weights.
func BenchmarkMatMul(b *testing.B) {
	for _, threads := range []int{1, runtime.GOMAXPROCS(0)} {
		d := mustNew(b, Options{Threads: threads})
		for _, s := range []struct {
			use, mode string
			m, n, k   int
		}{
			{"train", "nt", 2048, 256, 256}, {"train", "nt", 2048, 704, 256}, {"train", "nt", 2048, 256, 704},
			{"train", "nn", 2048, 256, 704}, {"train", "nn", 2048, 704, 256}, {"train", "tn", 704, 256, 2048}, {"train", "tn", 256, 256, 2048},
			{"world", "nt", 2000, 96, 96}, {"world", "nn", 2000, 96, 256}, {"world", "tn", 96, 96, 2000}, {"world", "nt", 128, 96, 96},
			{"decode", "nt", 1, 704, 256}, {"decode", "nt", 4, 704, 256}, {"decode", "nt", 16, 704, 256}, {"decode", "nt", 32, 704, 256},
			{"decode", "nt", 1, 1536, 576}, {"decode", "nt", 16, 1536, 576}, {"decode", "nt", 1, 32000, 288}, {"decode", "nt", 16, 32000, 288},
			{"prefill", "nt", 256, 1536, 576}, {"square", "nt", 512, 512, 512}, {"square", "nn", 1024, 1024, 1024}, {"square", "nt", 2048, 2048, 2048},
		} {
			// One thread is for the sizes whose scaling matters.
			if threads == 1 && s.use != "train" && s.use != "square" && s.m > 1 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%s/%dx%dx%d/threads=%d", s.use, s.mode, s.m, s.n, s.k, threads), func(b *testing.B) {
				x, y, z := filled(d, s.m*s.k), filled(d, s.k*s.n), d.Alloc(s.m*s.n)
				for b.Loop() {
					d.MatMul(z, x, y, s.m, s.n, s.k, s.mode[0] == 't', s.mode[1] == 't', false)
				}
				gflops(b, 2*float64(s.m)*float64(s.n)*float64(s.k))
			})
		}
	}
}

// benchAttention takes sequences of q new rows after past rows of their own and
// shared rows that all of them see.
func benchAttention(b *testing.B, backward bool) {
	for _, s := range []struct {
		name                  string
		seqs, q, past, shared int
		heads, kvs, dim       int
	}{
		{"train/16x128", 16, 128, 0, 0, 8, 8, 32},
		{"train/64x40", 64, 40, 0, 0, 3, 3, 32},
		{"train/8x80after128", 8, 80, 0, 128, 8, 8, 32},
		{"prefill/1x256", 1, 256, 0, 0, 9, 3, 64},
		{"decode/1x1after128", 1, 1, 128, 0, 8, 8, 32},
		{"decode/16x1after128", 16, 1, 128, 0, 8, 8, 32},
		{"decode/16x1after64shared64", 16, 1, 64, 64, 8, 8, 32},
		{"decode/16x1after128grouped", 16, 1, 128, 0, 9, 3, 64},
	} {
		if backward && s.q == 1 {
			continue
		}
		d := benchDevice(b)
		h := device.Heads{Query: s.heads, KV: s.kvs, Dim: s.dim}
		var seqs []device.Seq
		for i := range s.seqs {
			first := s.shared + i*(s.past+s.q)
			seq := device.Seq{Q: device.Span{Start: i * s.q, Len: s.q}, Own: first + s.past}
			if s.shared > 0 {
				seq.Past = append(seq.Past, device.Span{Len: s.shared})
			}
			if s.past > 0 {
				seq.Past = append(seq.Past, device.Span{Start: first, Len: s.past})
			}
			seqs = append(seqs, seq)
		}
		rows, keys := s.seqs*s.q, s.shared+s.seqs*(s.q+s.past)
		qn, kn := rows*s.heads*s.dim, keys*s.kvs*s.dim
		q, k, v, out, lse := filled(d, qn), filled(d, kn), filled(d, kn), d.Alloc(qn), d.Alloc(rows*s.heads)
		// Multiply-adds that causality leaves for each of the two products.
		pairs := float64(rows*s.heads*s.dim) * (float64(s.past+s.shared) + float64(s.q+1)/2)
		b.Run(s.name, func(b *testing.B) {
			if !backward {
				for b.Loop() {
					d.Attention(out, lse, q, k, v, seqs, h)
				}
				gflops(b, 4*pairs)
				return
			}
			d.Attention(out, lse, q, k, v, seqs, h)
			dq, dk, dv, dout := d.Alloc(qn), d.Alloc(kn), d.Alloc(kn), filled(d, qn)
			for b.Loop() {
				d.AttentionBackward(dq, dk, dv, dout, q, k, v, out, lse, seqs, h)
			}
			gflops(b, 10*pairs)
		})
	}
}

func BenchmarkAttention(b *testing.B)         { benchAttention(b, false) }
func BenchmarkAttentionBackward(b *testing.B) { benchAttention(b, true) }

func BenchmarkClassifier(b *testing.B) {
	for _, s := range [][3]int{{2048, 1024, 256}, {2000, 160, 96}, {128, 160, 96}, {256, 32000, 288}} {
		rows, vocab, dim := s[0], s[1], s[2]
		d := benchDevice(b)
		h, w := filled(d, rows*dim), filled(d, vocab*dim)
		dh, dw := d.Alloc(rows*dim), d.Alloc(vocab*dim)
		c := device.Classified{LogProb: make([]float64, rows), Entropy: make([]float64, rows), LSE: make([]float64, rows)}
		targets, weights := make([]int32, rows), make([]float64, rows)
		for i := range weights {
			targets[i], weights[i] = int32(i%vocab), 1/float64(rows)
		}
		flops := 2 * float64(rows) * float64(vocab) * float64(dim)
		b.Run(fmt.Sprintf("forward/%dx%dx%d", rows, vocab, dim), func(b *testing.B) {
			for b.Loop() {
				d.Classifier(c, h, w, targets, vocab, dim, 0.1)
			}
			gflops(b, flops)
		})
		b.Run(fmt.Sprintf("backward/%dx%dx%d", rows, vocab, dim), func(b *testing.B) {
			d.Classifier(c, h, w, targets, vocab, dim, 0.1)
			for b.Loop() {
				d.ClassifierBackward(dh, dw, h, w, targets, vocab, dim, 0.1, c, weights, nil)
			}
			gflops(b, 3*flops)
		})
	}
}

// BenchmarkSoftmax is the row kernel of attention and sampling, on one thread.
// It works in place: what it left is as good to read as what it found.
func BenchmarkSoftmax(b *testing.B) {
	k := benchDevice(b).(*dev[float32]).k
	for _, n := range []int{40, 128, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(i%17) / 4
			}
			b.SetBytes(int64(8 * n))
			for b.Loop() {
				k.softmax(x, 0.5)
			}
		})
	}
}

// BenchmarkRows times what does little arithmetic for each number it moves.
// MB/s count every number once for each time it must be read or written.
func BenchmarkRows(b *testing.B) {
	const rows, dim, ffn, heads, vocab, params = 2048, 256, 704, 8, 1024, 3_475_712
	d := benchDevice(b)
	x, y, z, u, v := filled(d, rows*ffn), filled(d, rows*ffn), filled(d, rows*ffn), d.Alloc(rows*ffn), d.Alloc(rows*ffn)
	n := func(b device.Buffer) device.Buffer { return b.View(0, rows*dim) }
	w, dw, rstd := filled(d, dim), d.Alloc(dim), d.Alloc(rows)
	pos := make([]int32, rows)
	angles := [2][]float64{make([]float64, 128*dim/heads/2), make([]float64, 128*dim/heads/2)}
	for i := range angles[0] { // true rotations: others grow or shrink without end
		angles[0][i], angles[1][i] = math.Sincos(float64(i))
	}
	sin, cos := d.Alloc(len(angles[0])), d.Alloc(len(angles[0]))
	d.Write64(sin, angles[0])
	d.Write64(cos, angles[1])
	ids := make([]int32, rows)
	for i := range ids {
		ids[i], pos[i] = int32(i*7%vocab), int32(i%128)
	}
	table := d.Alloc(vocab * dim)
	p, g, m1, m2 := filled(d, params), filled(d, params), d.Alloc(params), d.Alloc(params)
	adam := device.AdamW{LR: 1e-3, Beta1: .9, Beta2: .99, Eps: 1e-8, WeightDecay: .1, Step: 1, Scale: 1}
	logits := filled(d, 16*32000)
	sample := func(rows, vocab int, how device.SampleRow) func() {
		each, drawn := make([]device.SampleRow, rows), make([]device.Sampled, rows)
		for i := range each {
			each[i] = how
			each[i].U = (float64(i) + 0.5) / float64(rows)
		}
		return func() { d.Sample(drawn, logits.View(0, rows*vocab), each, vocab) }
	}
	d.RMSNorm(n(y), rstd, n(x), w, rows, dim, 1e-5)
	for _, c := range []struct {
		name   string
		floats int // read and written
		f      func()
	}{
		{"RMSNorm", 2 * rows * dim, func() { d.RMSNorm(n(u), rstd, n(x), w, rows, dim, 1e-5) }},
		{"RMSNormBackward", 4 * rows * dim, func() { d.RMSNormBackward(n(v), dw, n(z), n(x), w, rstd, rows, dim) }},
		{"RoPE", 2 * rows * dim, func() { d.RoPE([]device.Rotation{{X: n(x), Heads: heads}}, cos, sin, pos, dim/heads, false) }},
		{"SwiGLU", 3 * rows * ffn, func() { d.SwiGLU(u, y, z) }},
		{"SwiGLUBackward", 5 * rows * ffn, func() { d.SwiGLUBackward(u, v, x, y, z) }},
		{"Embed", 2 * rows * dim, func() { d.Embed(n(u), table, ids, dim) }},
		{"EmbedBackward", 3 * rows * dim, func() { d.EmbedBackward(table, n(x), ids, dim) }},
		{"AdamW", 7 * params, func() { d.AdamW(p, g, m1, m2, adam) }},
		{"SumSquares", params, func() { d.SumSquares(p) }},
		{"Add", 3 * rows * dim, func() { d.Add(n(u), n(y)) }},
		{"Copy", 2 * rows * dim, func() { d.Copy(n(u), n(y)) }},
		{"Zero", params, func() { d.Zero(m1) }},
		{"Sample/16x1024", 16 * 1024, sample(16, 1024, device.SampleRow{Temperature: 1})},
		{"Sample/1x32000", 32000, sample(1, 32000, device.SampleRow{Temperature: 1})},
		{"Sample/1x32000/top=all", 32000, sample(1, 32000, device.SampleRow{Top: 32000})},
		{"Sample/16x32000", 16 * 32000, sample(16, 32000, device.SampleRow{Temperature: 1})},
		{"Sample/16x32000/top-p=0.9", 16 * 32000, sample(16, 32000, device.SampleRow{Temperature: 1, TopP: 0.9})},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(4 * c.floats))
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
