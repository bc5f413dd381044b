package cpu

import (
	"testing"

	"nrt/backend/device"
)

// TestNoAllocations: once the memory of a shape is there, no operation takes
// more of it.
func TestNoAllocations(t *testing.T) {
	for _, k := range tables(t) {
		t.Run(k.name, func(t *testing.T) { allocatesNothing(t, newDev(k, 2)) })
	}
}

func allocatesNothing(t *testing.T, d device.Device) {
	const n, dim, heads, ffn, vocab = 96, 64, 2, 96, 300
	buf := func(n int) device.Buffer { return filled(d, n) }
	x, y, z, w, w2 := buf(n*dim), buf(n*dim), buf(n*dim), buf(ffn*dim), buf(ffn*dim)
	wide, wide2, wide3 := buf(n*ffn), buf(n*ffn), buf(n*ffn)
	g, rstd, lse := buf(dim), buf(n), buf(n*heads)
	table, dtable, logits := buf(vocab*dim), buf(vocab*dim), buf(n*vocab)
	moment, moment2 := buf(vocab*dim), buf(vocab*dim)
	d.Zero(moment2)
	cos, sin := buf(n*dim/heads/2), buf(n*dim/heads/2)
	dq, dk, dv := buf(n*dim), buf(n*dim), buf(n*dim)
	scattered := []device.Scatter{{Dst: y, Src: x}, {Dst: z, Src: x}}
	turned := []device.Rotation{{X: y, Heads: heads}, {X: z.View(0, n*dim/heads), Heads: 1}}
	ids, pos := make([]int32, n), make([]int32, n)
	rows := make([]device.SampleRow, n)
	for i := range ids {
		ids[i], pos[i] = int32(i), int32(i)
		rows[i] = device.SampleRow{Temperature: 1, U: float64(i) / n}
		switch i % 4 {
		case 1:
			rows[i].TopP = 0.9
		case 2:
			rows[i].TopK, rows[i].MinP = 20, 0.01
		}
	}
	h := device.Heads{Query: heads, KV: heads, Dim: dim / heads}
	prompt := []device.Span{{Len: 40}}
	trained := []device.Seq{{Q: prompt[0]}, {Q: device.Span{Start: 40, Len: 30}, Past: prompt, Own: 40}, {Q: device.Span{Start: 70, Len: 26}, Past: prompt, Own: 70}}
	var decoded []device.Seq
	for i := range 6 {
		decoded = append(decoded, device.Seq{Q: device.Span{Start: i, Len: 1}, Past: prompt, Own: 40 + i})
	}
	c := device.Classified{LogProb: make([]float64, n), Entropy: make([]float64, n), LSE: make([]float64, n)}
	weights, drawn := make([]float64, n), make([]device.Sampled, n)
	for name, f := range map[string]func(){
		"Zero, Copy, Add, Scale": func() { d.Zero(y); d.Copy(y, x); d.Add(y, x); d.Scale(y, 0.5) },
		"rows": func() {
			d.GatherRows(y, x, ids, dim)
			d.ScatterRows(scattered, ids, dim)
			d.ScatterAddRows(y, x, ids, dim)
		},
		"Embed, EmbedBackward": func() { d.Embed(y, table, ids, dim); d.EmbedBackward(dtable, x, ids, dim) },
		"MatMul": func() {
			d.MatMul(wide, x, w, n, ffn, dim, false, true, false)
			d.MatMul(y, wide, w, n, dim, ffn, false, false, false)
			d.MatMul(w2, wide, x, ffn, dim, n, true, false, true)
		},
		"RMSNorm": func() {
			d.RMSNorm(y, rstd, x, g, n, dim, 1e-5)
			d.RMSNormBackward(z, g, y, x, g, rstd, n, dim)
			d.Zero(z)
		},
		"RoPE":   func() { d.RoPE(turned, cos, sin, pos, dim/heads, false) },
		"SwiGLU": func() { d.SwiGLU(wide, wide2, wide3); d.SwiGLUBackward(wide2, wide3, wide, wide2, wide3) },
		"Attention": func() {
			d.Attention(y, lse, x, dk, dv, trained, h)
			d.AttentionBackward(dq, dk, dv, z, x, dk, dv, y, lse, trained, h)
			d.Zero(dk)
		},
		"Attention, decoding": func() { d.Attention(y, lse, x, dk, dv, decoded, h) },
		"Classifier": func() {
			d.Classifier(c, x, table, ids, vocab, dim, 1)
			d.ClassifierBackward(y, dtable, x, table, ids, vocab, dim, 1, c, weights, nil)
		},
		"Sample": func() { d.Sample(drawn, logits, rows, vocab) },
		"AdamW": func() {
			d.AdamW(table, dtable, moment, moment2, device.AdamW{LR: 1e-9, Beta1: .9, Beta2: .9, Eps: 1e-8, Step: 1, Scale: 1})
		},
		"SumSquares": func() { d.SumSquares(x) },
	} {
		// Workers take their own memory when they first meet a shape.
		for range 20 {
			f()
		}
		if a := testing.AllocsPerRun(5, f); a > 0 {
			t.Errorf("%s: %v allocations", name, a)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
