package llama

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/safetensors"
)

// shapes are the configurations every property is checked on.
var shapes = map[string]Config{
	"mha tied":     tiny(2, 2, true, 0),
	"gqa untied":   tiny(4, 2, false, 0),
	"mqa window 3": tiny(4, 1, false, 3),

	"biases":                     of("qwen2", tiny(4, 2, true, 0), false),
	"norms of heads":             of("qwen3", tiny(4, 2, false, 0), false),
	"norms of heads, all biases": of("qwen3", tiny(4, 1, true, 0), true),
}

// of is c as a model of that type.
func of(modelType string, c Config, attentionBias bool) Config {
	c.ModelType, c.AttentionBias = modelType, attentionBias
	return c
}

func tiny(heads, kv int, tied bool, window int) Config {
	c := Config{
		ModelType: "llama", Vocab: 11, Hidden: 8, Intermediate: 12, Layers: 2,
		Heads: heads, KVHeads: kv, HeadDim: 4, MaxPositions: 64,
		RMSEps: 1e-5, RopeTheta: 100, TieEmbeddings: tied,
	}
	if window > 0 {
		c.ModelType, c.SlidingWindow = "mistral", window
	}
	return c
}

// newCache is m.NewCache on a device that has the memory.
func newCache(m *Model, rows int) *Cache {
	c, err := m.NewCache(rows)
	if err != nil {
		panic(err)
	}
	return c
}

func newDevice(t testing.TB, double bool) device.Device {
	t.Helper()
	o := cpu.Options{Type: cpu.Float32}
	if double {
		o.Type = cpu.Float64
	}
	dev, err := cpu.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// random gives a model weights large enough that every path matters.
func random(t testing.TB, dev device.Device, c Config, seed uint64) *Model {
	t.Helper()
	m, err := New(dev, c, seed)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	w := make([]float64, m.NumParams())
	for i := range w {
		w[i] = rng.NormFloat64() * 0.4
	}
	dev.Write64(m.Flat(), w)
	return m
}

// tree is a prompt of 4 tokens with two branches of 3 and 5, and an unrelated
// sequence of 6.
func tree(vocab int) (Batch, Targets) {
	ids := []int32{1, 5, 3, 7, 2, 2, 9, 4, 8, 1, 10, 3, 6, 6, 0, 4, 2, 7}
	for i := range ids {
		ids[i] %= int32(vocab)
	}
	prompt := []device.Span{{Start: 0, Len: 4}}
	b := Batch{IDs: ids, Seqs: []device.Seq{
		{Q: device.Span{Start: 0, Len: 4}, Own: 0},
		{Q: device.Span{Start: 4, Len: 3}, Past: prompt, Own: 4},
		{Q: device.Span{Start: 7, Len: 5}, Past: prompt, Own: 7},
		{Q: device.Span{Start: 12, Len: 6}, Own: 12},
	}}
	for _, s := range b.Seqs {
		for i := range s.Q.Len {
			p := i
			if s.Past != nil {
				p += 4
			}
			b.Pos = append(b.Pos, int32(p))
		}
	}
	// The prompt's last row predicts the first token of both branches.
	t := Targets{Rows: []int32{0, 1, 2, 3, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 16},
		IDs: []int32{5, 3, 7, 2, 4, 2, 9, 8, 1, 10, 3, 6, 0, 4, 2, 7}, InvTemp: 1.3}
	return b, t
}

// TestGradient holds Backward against central differences in float64, and that of
// two passes against twice that of one.
func TestGradient(t *testing.T) {
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			dev := newDevice(t, true)
			m := random(t, dev, c, 7)
			batch, targets := tree(c.Vocab)
			rng := rand.New(rand.NewPCG(3, 4))
			wLogp, wEnt := make([]float64, len(targets.IDs)), make([]float64, len(targets.IDs))
			for i := range wLogp {
				wLogp[i], wEnt[i] = rng.NormFloat64(), rng.NormFloat64()
			}
			pass := m.NewPass()
			defer pass.Free()
			loss := func() float64 {
				pass.Forward(batch)
				got := pass.Classify(targets)
				sum := 0.0
				for i := range wLogp {
					sum -= wLogp[i]*got.LogProb[i] + wEnt[i]*got.Entropy[i]
				}
				return sum
			}
			pass.Forward(batch)
			fwd := pass.Classify(targets)
			g := m.NewGrad()
			defer g.Free()
			pass.Backward(g, Loss{Targets: targets, Fwd: fwd, LogProb: wLogp, Entropy: wEnt})
			grad, w := make([]float64, m.NumParams()), make([]float64, m.NumParams())
			dev.Read64(grad, g.Flat)
			dev.Read64(w, m.Flat())
			pass.Forward(batch)
			pass.Backward(g, Loss{Targets: targets, Fwd: pass.Classify(targets), LogProb: wLogp, Entropy: wEnt})
			twice, double := make([]float64, len(grad)), make([]float64, len(grad))
			dev.Read64(twice, g.Flat)
			for i, x := range grad {
				double[i] = 2 * x
			}
			near(t, "gradient of two passes", twice, double, 1e-12)

			off := 0
			for _, p := range m.Params() {
				n := p.Value.Len()
				for range 6 {
					i := off + rng.IntN(n)
					const h = 1e-5
					keep := w[i]
					w[i] = keep + h
					dev.Write64(m.Flat(), w)
					up := loss()
					w[i] = keep - h
					dev.Write64(m.Flat(), w)
					down := loss()
					w[i] = keep
					want := (up - down) / (2 * h)
					if diff := math.Abs(grad[i] - want); diff > 1e-7+1e-6*math.Abs(want) {
						t.Errorf("%s[%d]: gradient %.10g, central difference %.10g", p.Name, i-off, grad[i], want)
					}
				}
				off += n
			}
		})
	}
}

// TestSharedPrefix: branches over one prompt give what separate sequences give,
// forward and backward.
func TestSharedPrefix(t *testing.T) {
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			dev := newDevice(t, true)
			m := random(t, dev, c, 9)
			prompt := []int32{1, 5, 3, 7}
			tails := [][]int32{{2, 2, 9}, {4, 8, 1, 10, 3}, {6}}
			shared := Batch{IDs: prompt, Pos: []int32{0, 1, 2, 3}, Seqs: []device.Seq{{Q: device.Span{Len: 4}}}}
			var apart Batch
			var ts, ta Targets
			for _, tail := range tails {
				first := len(shared.IDs)
				shared.IDs = append(shared.IDs, tail...)
				shared.Seqs = append(shared.Seqs, device.Seq{Q: device.Span{Start: first, Len: len(tail)}, Past: []device.Span{{Len: 4}}, Own: first})
				start := len(apart.IDs)
				apart.IDs = append(append(apart.IDs, prompt...), tail...)
				apart.Seqs = append(apart.Seqs, device.Seq{Q: device.Span{Start: start, Len: 4 + len(tail)}, Own: start})
				for i := range 4 + len(tail) {
					apart.Pos = append(apart.Pos, int32(i))
				}
				for i, id := range tail {
					shared.Pos = append(shared.Pos, int32(4+i))
					row := 3
					if i > 0 {
						row = first + i - 1
					}
					ts.Rows, ts.IDs = append(ts.Rows, int32(row)), append(ts.IDs, id)
					ta.Rows, ta.IDs = append(ta.Rows, int32(start+3+i)), append(ta.IDs, id)
				}
			}
			run := func(b Batch, tg Targets) ([]float64, []float64) {
				pass, g := m.NewPass(), m.NewGrad()
				defer pass.Free()
				defer g.Free()
				pass.Forward(b)
				fwd := pass.Classify(tg)
				w := make([]float64, len(tg.IDs))
				for i := range w {
					w[i] = float64(i%3) - 0.7
				}
				pass.Backward(g, Loss{Targets: tg, Fwd: fwd, LogProb: w})
				grad := make([]float64, m.NumParams())
				dev.Read64(grad, g.Flat)
				return fwd.LogProb, grad
			}
			l1, g1 := run(shared, ts)
			l2, g2 := run(apart, ta)
			near(t, "log-prob", l1, l2, 1e-12)
			near(t, "gradient", g1, g2, 1e-10)
		})
	}
}

// TestCachedDecode: reading token by token through the cache gives what one
// forward pass gives.
func TestCachedDecode(t *testing.T) {
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			cachedDecode(t, random(t, newDevice(t, true), c, 11), 1e-12)
		})
	}
}

// cachedDecode holds log-probabilities from a cache against those of a pass.
func cachedDecode(t *testing.T, m *Model, tol float64) {
	t.Helper()
	ids := []int32{1, 5, 3, 7, 2, 2, 9, 4, 8, 1}
	pass := m.NewPass()
	defer pass.Free()
	var b Batch
	var tg Targets
	b.IDs, b.Seqs = ids, []device.Seq{{Q: device.Span{Len: len(ids)}}}
	for i := range ids {
		b.Pos = append(b.Pos, int32(i))
		if i > 0 {
			tg.Rows, tg.IDs = append(tg.Rows, int32(i-1)), append(tg.IDs, ids[i])
		}
	}
	pass.Forward(b)
	want := pass.Classify(tg)

	cache := newCache(m, 40)
	defer cache.Free()
	const base = 13 // the run need not start at row 0
	var got []float64
	for at, n := 0, 0; at < len(ids)-1; at += n {
		n = 1 + at%3
		n = min(n, len(ids)-1-at)
		s := device.Seq{Q: device.Span{Len: n}, Own: base + at}
		if at > 0 {
			s.Past = []device.Span{{Start: base, Len: at}}
		}
		cache.Extend(Batch{IDs: ids[at : at+n], Pos: b.Pos[at : at+n], Seqs: []device.Seq{s}})
		var tt Targets
		for i := range n {
			tt.Rows, tt.IDs = append(tt.Rows, int32(i)), append(tt.IDs, ids[at+i+1])
		}
		got = append(got, cache.Classify(tt).LogProb...)
	}
	near(t, "log-prob", got, want.LogProb, tol)
}

func near(t *testing.T, what string, got, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.IsNaN(got[i]) || math.Abs(got[i]-want[i]) > tol*(1+math.Abs(want[i])) {
			t.Fatalf("%s %d: have %.15g, want %.15g", what, i, got[i], want[i])
		}
	}
}

func BenchmarkTrainStep(b *testing.B) {
	for _, s := range []struct {
		name         string
		c            Config
		batch, steps int
		rank         int // of LoRA; 0 is none
	}{
		{"3.48M/16x128", Config{ModelType: "llama", Vocab: 1024, Hidden: 256, Intermediate: 704, Layers: 4, Heads: 8, KVHeads: 8, HeadDim: 32, MaxPositions: 256, RMSEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true}, 16, 128, 0},
		{"3.48M/16x128 LoRA 16", Config{ModelType: "llama", Vocab: 1024, Hidden: 256, Intermediate: 704, Layers: 4, Heads: 8, KVHeads: 8, HeadDim: 32, MaxPositions: 256, RMSEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true}, 16, 128, 16},
		{"0.35M/64x48", Config{ModelType: "llama", Vocab: 200, Hidden: 96, Intermediate: 256, Layers: 3, Heads: 3, KVHeads: 3, HeadDim: 32, MaxPositions: 128, RMSEps: 1e-5, RopeTheta: 1000, TieEmbeddings: true}, 64, 48, 0},
	} {
		b.Run(s.name, func(b *testing.B) {
			dev := newDevice(b, false)
			m, err := New(dev, s.c, 1)
			if s.rank > 0 {
				m, err = NewLoRAFrom(dev, s.c, LoRA{Rank: s.rank, Alpha: 2 * float64(s.rank), Modules: LoRAModules()}, 1, initial(s.c, 1))
			}
			if err != nil {
				b.Fatal(err)
			}
			var batch Batch
			var tg Targets
			for i := range s.batch {
				batch.Seqs = append(batch.Seqs, device.Seq{Q: device.Span{Start: i * s.steps, Len: s.steps}, Own: i * s.steps})
				for p := range s.steps {
					batch.IDs = append(batch.IDs, int32((i*31+p*7)%s.c.Vocab))
					batch.Pos = append(batch.Pos, int32(p))
					tg.Rows = append(tg.Rows, int32(i*s.steps+p))
					tg.IDs = append(tg.IDs, int32((i*17+p*5)%s.c.Vocab))
				}
			}
			w := make([]float64, len(tg.IDs))
			for i := range w {
				w[i] = 1 / float64(len(w))
			}
			pass, g := m.NewPass(), m.NewGrad()
			for b.Loop() {
				pass.Forward(batch)
				pass.Backward(g, Loss{Targets: tg, Fwd: pass.Classify(tg), LogProb: w})
			}
			b.ReportMetric(float64(len(w)*b.N)/b.Elapsed().Seconds(), "tok/s")
		})
	}
}

func ExampleConfig_Tensors() {
	for _, s := range tiny(4, 2, true, 0).Tensors()[:3] {
		fmt.Println(s.Name, s.Shape)
	}
	// Output:
	// model.embed_tokens.weight [11 8]
	// model.layers.0.self_attn.q_proj.weight [16 8]
	// model.layers.0.self_attn.k_proj.weight [8 8]
}

// TestLoadAllocatesNothingForALie: a config.json that claims a huge model is
// refused by the headers of the weights, before memory is taken.
func TestLoadAllocatesNothingForALie(t *testing.T) {
	dev := newDevice(t, false)
	m, err := New(dev, tiny(2, 2, true, 0), 1)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := m.Save(dir, safetensors.F32); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lie := regexp.MustCompile(`"vocab_size": \d+`).ReplaceAll(raw, []byte(`"vocab_size": 16000000`))
	lie = regexp.MustCompile(`"hidden_size": \d+`).ReplaceAll(lie, []byte(`"hidden_size": 1000000`))
	if err := os.WriteFile(path, lie, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Load(dev, os.DirFS(dir))
	_, fixed := LoadReadOnly(dev, os.DirFS(dir), device.BF16)
	for _, err := range []error{err, fixed} {
		if err == nil || !strings.Contains(err.Error(), "[16000000, 1000000]") && !strings.Contains(err.Error(), "16000000 1000000") {
			t.Errorf("want an error with the expected shape, have %v", err)
		}
	}
}
