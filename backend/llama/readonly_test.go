package llama

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/safetensors"
)

var formats = []device.Format{device.F32, device.BF16, device.Q8}

// TestReadOnly: a read-only model gives, bit for bit, what a trainable model of
// the weights that its format kept gives, however it was made.
func TestReadOnly(t *testing.T) {
	for name, c := range shapes {
		for _, double := range []bool{false, true} {
			for _, f := range formats {
				t.Run(fmt.Sprintf("%s/%v/float64 %v", name, f, double), func(t *testing.T) {
					dev := newDevice(t, double)
					source, err := New(dev, c, 3)
					if err != nil {
						t.Fatal(err)
					}
					dir := t.TempDir()
					if err := source.Save(dir, safetensors.F32); err != nil {
						t.Fatal(err)
					}
					loaded, err := LoadReadOnly(dev, os.DirFS(dir), f)
					if err != nil {
						t.Fatal(err)
					}
					made, err := NewReadOnlyFrom(dev, c, f, initial(c, 3))
					if err != nil {
						t.Fatal(err)
					}
					for i, p := range loaded.Params() {
						x := make([]float64, p.Value.Len())
						dev.Read64(x, p.Value)
						was := make([]float64, len(x))
						dev.Read64(was, source.Params()[i].Value)
						for j := range x {
							if math.Abs(x[j]-was[j]) > 0.01*0.1 { // of weights of 0.02 or so
								t.Fatalf("%s[%d] is %g, was %g", p.Name, j, x[j], was[j])
							}
						}
						dev.Write64(source.Params()[i].Value, x)
					}
					want := answers(source)
					for what, m := range map[string]*Model{"loaded": loaded, "made": made} {
						if m.NumParams() != source.NumParams() {
							t.Errorf("%s has %d parameters, want %d", what, m.NumParams(), source.NumParams())
						}
						have := answers(m)
						for i, v := range want {
							if have[i] != v {
								t.Fatalf("%s: [%d] is %.17g, want %.17g", what, i, have[i], v)
							}
						}
						m.Free()
					}
					source.Free()
				})
			}
		}
	}
}

// TestStored: weights that files have in bfloat16 are kept in it, with the answers that
// float32 gives, and all others in float32.
func TestStored(t *testing.T) {
	dev, c := newDevice(t, false), shapes["gqa untied"]
	source := random(t, dev, c, 5)
	for dt, want := range map[safetensors.DType]device.Format{safetensors.BF16: device.BF16, safetensors.F16: device.F32, safetensors.F32: device.F32} {
		dir := t.TempDir()
		if err := source.Save(dir, dt); err != nil {
			t.Fatal(err)
		}
		if f, err := Stored(os.DirFS(dir)); f != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", dt, f, err, want)
		}
		var all [2][]float64
		for i, f := range []device.Format{device.AsStored, device.F32} {
			m, err := LoadReadOnly(dev, os.DirFS(dir), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range m.Params() {
				if w, ok := p.Value.(device.Weights); ok && f == device.AsStored && w.Format() != want {
					t.Errorf("%s: %s is kept in %v, want %v", dt, p.Name, w.Format(), want)
				}
			}
			all[i] = answers(m)
			m.Free()
		}
		near(t, string(dt), all[0], all[1], 0)
	}
	if _, err := Stored(os.DirFS(t.TempDir())); err == nil {
		t.Error("an empty folder has weights")
	}
}

// TestInBFloat16: where products round to bfloat16, cached decode still equals a pass
// bit for bit, and a model says about what it says in float32, whether its weights came
// in bfloat16 or not.
func TestInBFloat16(t *testing.T) {
	rounding, err := cpu.New(cpu.Options{Type: cpu.BFloat16, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer rounding.Close()
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			exact, err := NewReadOnlyFrom(newDevice(t, false), c, device.BF16, initial(c, 3))
			if err != nil {
				t.Fatal(err)
			}
			want := answers(exact)
			var before []float64
			for _, f := range []device.Format{device.F32, device.BF16} {
				m, err := NewReadOnlyFrom(rounding, c, f, initial(c, 3))
				if err != nil {
					t.Fatal(err)
				}
				defer m.Free()
				cachedDecode(t, m, 0)
				have := answers(m)
				if before != nil {
					near(t, "in another format", have, before, 0)
				}
				before = have
				near(t, "in float32", have, want, 5e-3)
				if slices.Equal(have, want) {
					t.Error("nothing was rounded")
				}
			}
		})
	}
}

// answers are log-probabilities and draws of a tree of sequences and of decoding.
func answers(m *Model) []float64 {
	b, targets := tree(m.Config.Vocab)
	p := m.NewPass()
	defer p.Free()
	p.Forward(b)
	got := p.Classify(targets)
	all := append(append(got.LogProb, got.Entropy...), got.LSE...)
	c := newCache(m, 12)
	defer c.Free()
	id := int32(1)
	for i := range 8 {
		seq := device.Seq{Q: device.Span{Len: 1}, Past: []device.Span{{Len: i}}, Own: i}
		c.Extend(Batch{IDs: []int32{id}, Pos: []int32{int32(i)}, Seqs: []device.Seq{seq}})
		drawn := c.Sample([]int32{0}, []device.SampleRow{{Temperature: 1, U: float64(i) / 8}})[0]
		one := c.Classify(Targets{Rows: []int32{0}, IDs: []int32{drawn.ID}})
		id = drawn.ID
		all = append(all, float64(id), drawn.LogProb, drawn.Entropy, one.LogProb[0])
	}
	return all
}

// TestReadOnlyKeepsVectors: norms and biases keep every digit in any format, and in
// F32 all answers their bits.
func TestReadOnlyKeepsVectors(t *testing.T) {
	for name, c := range shapes {
		dev := newDevice(t, false)
		source := random(t, dev, c, 4)
		dir := t.TempDir()
		if err := source.Save(dir, safetensors.F32); err != nil {
			t.Fatal(err)
		}
		for _, f := range formats {
			m, err := LoadReadOnly(dev, os.DirFS(dir), f)
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range m.Params() {
				have, want := make([]float32, p.Value.Len()), make([]float32, p.Value.Len())
				dev.Read(have, p.Value)
				dev.Read(want, source.Params()[i].Value)
				if len(p.Shape) == 1 && !slices.Equal(have, want) {
					t.Errorf("%s, %v: %s is %v, want %v", name, f, p.Name, have, want)
				}
			}
			if f == device.F32 && !slices.Equal(answers(m), answers(source)) {
				t.Errorf("%s: other answers", name)
			}
			m.Free()
		}
		source.Free()
	}
}

// TestReadOnlyDoesNotLearn: it says so, and a save keeps what it holds.
func TestReadOnlyDoesNotLearn(t *testing.T) {
	dev := newDevice(t, false)
	c := shapes["gqa untied"]
	for _, f := range formats {
		m, err := NewReadOnlyFrom(dev, c, f, initial(c, 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Trainable(); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("%v: Trainable: %v", f, err)
		}
		if _, err := m.Clone(device.Master); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("%v: Clone: %v", f, err)
		}
		dir := t.TempDir()
		if err := m.Save(dir, safetensors.F32); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dev, os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Trainable(); err != nil {
			t.Error(err)
		}
		have, want := answers(again), answers(m)
		for i, v := range want {
			if have[i] != v {
				t.Fatalf("%v: saved and loaded: [%d] is %g, want %g", f, i, have[i], v)
			}
		}
		m.Free()
		again.Free()
	}
	bad := c
	bad.KVHeads = 3
	if _, err := NewReadOnlyFrom(dev, bad, device.BF16, initial(c, 1)); err == nil {
		t.Error("a configuration that cannot be was taken")
	}
	if _, err := LoadReadOnly(dev, os.DirFS(t.TempDir()), device.BF16); err == nil {
		t.Error("an empty folder was loaded")
	}
}

// BenchmarkDecode is one sequence on random weights of known shapes.
func BenchmarkDecode(b *testing.B) {
	dev := newDevice(b, false)
	for _, s := range []struct {
		name   string
		config Config
	}{
		{"3.5M", shape(1024, 256, 704, 4, 8, 8, 32)},
		{"15M", shape(32000, 288, 768, 6, 6, 6, 48)},
		{"135M", shape(49152, 576, 1536, 30, 9, 3, 64)},
	} {
		for _, f := range formats {
			m, err := NewReadOnlyFrom(dev, s.config, f, initial(s.config, 1))
			if err != nil {
				b.Fatal(err)
			}
			for _, n := range []int{1, 16, 256} {
				name, rows := fmt.Sprintf("%s/%v/%d", s.name, f, n), n
				if n == 256 {
					name, n = fmt.Sprintf("%s/%v/prefill", s.name, f), 1
				}
				b.Run(name, func(b *testing.B) {
					const length = 128
					c := newCache(m, n*max(length, rows))
					var in Batch
					var pick []int32
					var how []device.SampleRow
					for i := range n {
						own := i * length
						seq := device.Seq{Q: device.Span{Start: i, Len: rows / n}, Own: own + 64, Past: []device.Span{{Start: own, Len: 64}}}
						if rows > n {
							seq.Past, seq.Own = nil, 0
						}
						in.Seqs = append(in.Seqs, seq)
						pick = append(pick, int32((i+1)*(rows/n)-1))
						how = append(how, device.SampleRow{Temperature: 1, U: 0.5})
					}
					for i := range rows {
						in.IDs, in.Pos = append(in.IDs, int32(i)), append(in.Pos, int32(64+i/n))
					}
					for b.Loop() {
						c.Extend(in)
						c.Sample(pick, how)
					}
					b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "tok/s")
					c.Free()
				})
			}
			m.Free()
		}
	}
}

func shape(vocab, hidden, ffn, layers, heads, kv, dim int) Config {
	return Config{ModelType: "llama", Vocab: vocab, Hidden: hidden, Intermediate: ffn, Layers: layers, Heads: heads, KVHeads: kv,
		HeadDim: dim, MaxPositions: 1024, RMSEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true}
}
