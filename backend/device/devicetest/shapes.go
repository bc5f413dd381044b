package devicetest

import "nrt/backend/device"

// testShapes: wrong shapes, and what was freed, are the programmer's mistake and panic,
// before anything is written.
func testShapes(s *suite) {
	d := s.d
	b := func(n int) device.Buffer { return d.Alloc(n) }
	w := s.wide
	h := device.Heads{Query: 2, KV: 1, Dim: 3}
	one := []device.Seq{{Q: span(0, 2)}}
	c2, short := newClassified(2), newClassified(2)
	short.Logits = w(device.LogitsLen(2, 4) - 1)
	gone := b(4)
	lost, _ := s.weights(device.F32, 2, 2, []float64{1, 2, 3, 4})
	part := gone.View(0, 2)
	d.Free(gone)
	d.Free(lost)
	turn := func(x device.Buffer, heads int) []device.Rotation { return []device.Rotation{{X: x, Heads: heads}} }
	for _, test := range []struct {
		name string
		f    func()
	}{
		{"Alloc", func() { d.Alloc(-1) }},
		{"AllocAs", func() { d.AllocAs(99, 3) }},
		{"Reserve", func() { d.Reserve(device.Wide, -1) }},
		{"View past the end", func() { b(4).View(2, 3) }},
		{"View before the start", func() { b(4).View(-1, 2) }},
		{"Write", func() { d.Write(b(3), make([]float32, 4)) }},
		{"Read", func() { d.Read(make([]float32, 4), b(3)) }},
		{"Write64", func() { d.Write64(b(3), make([]float64, 2)) }},
		{"Read64", func() { d.Read64(make([]float64, 2), b(3)) }},
		{"Copy", func() { d.Copy(b(3), b(4)) }},
		{"Add", func() { d.Add(b(3), b(4)) }},
		{"Free of a view", func() { d.Free(b(4).View(0, 2)) }},
		{"Free of what was freed", func() { d.Free(gone) }},
		{"Read of what was freed", func() { d.Read(make([]float32, 4), gone) }},
		{"Scale of a view of what was freed", func() { d.Scale(part, 2) }},
		{"Free of Weights that were freed", func() { d.Free(lost) }},
		{"Read of Weights that were freed", func() { d.Read(make([]float32, 4), lost) }},
		{"GatherRows dst", func() { d.GatherRows(b(5), b(6), []int32{0, 1}, 3) }},
		{"GatherRows row", func() { d.GatherRows(b(3), b(6), []int32{2}, 3) }},
		{"GatherRows negative", func() { d.GatherRows(b(3), b(6), []int32{-1}, 3) }},
		{"ScatterRows row", func() { d.ScatterRows([]device.Scatter{{Dst: b(9), Src: b(3)}, {Dst: b(6), Src: b(3)}}, []int32{2}, 3) }},
		{"ScatterRows src", func() { d.ScatterRows([]device.Scatter{{Dst: b(6), Src: b(6)}}, []int32{1}, 3) }},
		{"ScatterAddRows row", func() { d.ScatterAddRows(b(6), b(3), []int32{2}, 3) }},
		{"MatMul a", func() { d.MatMul(b(6), b(7), b(12), 2, 3, 4, false, false, false) }},
		{"MatMul b", func() { d.MatMul(b(6), b(8), b(11), 2, 3, 4, false, true, false) }},
		{"MatMul c", func() { d.MatMul(b(5), b(8), b(12), 2, 3, 4, false, false, false) }},
		{"Project a", func() { d.Project([]device.Projection{{C: b(6), B: b(12), N: 3}}, b(7), 2, 4) }},
		{"Project b", func() { d.Project([]device.Projection{{C: b(6), B: b(11), N: 3}}, b(8), 2, 4) }},
		{"Project c", func() {
			d.Project([]device.Projection{{C: b(6), B: b(12), N: 3}, {C: b(5), B: b(12), N: 3}}, b(8), 2, 4)
		}},
		{"MatMul negative", func() { d.MatMul(b(6), b(8), b(12), -2, -3, -4, false, false, false) }},
		{"Embed id", func() { d.Embed(b(3), b(6), []int32{2}, 3) }},
		{"EmbedBackward id", func() { d.EmbedBackward(w(6), b(3), []int32{2}, 3) }},
		{"RMSNorm w", func() { d.RMSNorm(b(6), w(2), b(6), b(2), 2, 3, 1e-5) }},
		{"RMSNorm rstd", func() { d.RMSNorm(b(6), w(3), b(6), b(3), 2, 3, 1e-5) }},
		{"RMSNormBackward dx", func() { d.RMSNormBackward(b(5), w(3), b(6), b(6), b(3), w(2), 2, 3) }},
		{"RoPE odd", func() { d.RoPE(turn(b(6), 2), w(2), w(2), []int32{0}, 3, false) }},
		{"RoPE position", func() { d.RoPE(turn(b(8), 2), w(2), w(2), []int32{1}, 4, false) }},
		{"RoPE x", func() { d.RoPE(turn(b(9), 2), w(2), w(2), []int32{0}, 4, false) }},
		{"RoPE second x", func() { d.RoPE(append(turn(b(8), 2), turn(b(8), 1)...), w(2), w(2), []int32{0}, 4, false) }},
		{"RoPE heads", func() { d.RoPE(turn(b(0), 0), w(2), w(2), []int32{0}, 4, false) }},
		{"Attention queries", func() { d.Attention(b(6), w(2), b(6), b(6), b(6), one, h) }},
		{"Attention own", func() {
			d.Attention(b(12), w(4), b(12), b(6), b(6), []device.Seq{{Q: span(0, 2), Own: 1}}, h)
		}},
		{"Attention past", func() {
			d.Attention(b(12), w(4), b(12), b(6), b(6), []device.Seq{{Q: span(0, 2), Past: []device.Span{span(1, 2)}}}, h)
		}},
		{"Attention heads", func() {
			d.Attention(b(12), w(4), b(12), b(6), b(6), one, device.Heads{Query: 3, KV: 2, Dim: 2})
		}},
		{"Attention lse", func() { d.Attention(b(12), w(3), b(12), b(6), b(6), one, h) }},
		{"AttentionBackward dk", func() {
			d.AttentionBackward(b(12), b(3), b(6), b(12), b(12), b(6), b(6), b(12), w(4), one, h)
		}},
		{"SwiGLU", func() { d.SwiGLU(b(3), b(4), b(3)) }},
		{"SwiGLUBackward", func() { d.SwiGLUBackward(b(3), b(4), b(3), b(3), b(3)) }},
		{"Classifier target", func() { d.Classifier(c2, b(6), b(12), []int32{0, 4}, 4, 3, 1) }},
		{"Classifier out", func() { d.Classifier(newClassified(1), b(6), b(12), []int32{0, 3}, 4, 3, 1) }},
		{"Classifier w", func() { d.Classifier(c2, b(6), b(13), []int32{0, 3}, 4, 3, 1) }},
		{"Classifier logits", func() { d.Classifier(short, b(6), b(12), []int32{0, 3}, 4, 3, 1) }},
		{"ClassifierBackward logits", func() {
			d.ClassifierBackward(b(6), w(12), b(6), b(12), []int32{0, 3}, 4, 3, 1, short, make([]float64, 2), nil)
		}},
		{"ClassifierBackward weights", func() {
			d.ClassifierBackward(b(6), w(12), b(6), b(12), []int32{0, 3}, 4, 3, 1, c2, make([]float64, 1), nil)
		}},
		{"Sample rows", func() { d.Sample(make([]device.Sampled, 1), b(8), make([]device.SampleRow, 2), 4) }},
		{"Sample logits", func() { d.Sample(make([]device.Sampled, 2), b(7), make([]device.SampleRow, 2), 4) }},
		{"Sample U", func() { d.Sample(make([]device.Sampled, 1), b(4), []device.SampleRow{{U: 1}}, 4) }},
		{"AdamW", func() { d.AdamW(b(3), w(4), w(3), w(3), adamw(1)) }},
		{"AdamW step", func() { d.AdamW(b(3), w(3), w(3), w(3), adamw(0)) }},
	} {
		s.panics(test.name, test.f)
	}
	// And the device is as usable as before.
	x := s.random(4)
	s.d.Scale(x.Buffer, 2)
	s.near("Scale after the panics", s.get(x.Buffer), sum(x.x, x.x), s.tol.Value)
}
