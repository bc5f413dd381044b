package llama

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nrt/backend/device"
	"nrt/backend/safetensors"
)

var allLoRA = LoRA{Rank: 3, Alpha: 4.5, Modules: LoRAModules()}

// weightsOf is a Source of a model's weights.
func weightsOf(m *Model) Source {
	return func(i, from int, dst []float32) error {
		m.dev.Read(dst, m.params[i].Value.View(from, len(dst)))
		return nil
	}
}

// factorOf reads factor i of LoRA.Tensors.
func (m *Model) factorOf(i int) []float32 {
	data := make([]float32, m.lora.params[i].Value.Len())
	m.dev.Read(data, m.lora.params[i].Value)
	return data
}

// adapted is random's model, and the same with factors, as they are drawn or, where
// they have begun to learn, large enough that every path matters.
func adapted(t testing.TB, dev device.Device, c Config, l LoRA, begun bool) (base, m *Model) {
	t.Helper()
	base = random(t, dev, c, 7)
	whole := make([]float32, base.NumParams()) // a source has no more digits
	dev.Read(whole, base.Flat())
	dev.Write(base.Flat(), whole)
	m, err := NewLoRAFrom(dev, c, l, 3, weightsOf(base))
	if err != nil {
		t.Fatal(err)
	}
	if begun {
		rng := rand.New(rand.NewPCG(5, 6))
		w := make([]float64, m.Flat().Len())
		for i := range w {
			w[i] = rng.NormFloat64() * 0.4
		}
		dev.Write64(m.Flat(), w)
	}
	return base, m
}

// passed is what a pass over tree finds: log-probabilities and the gradient.
func passed(m *Model, set func(*Pass)) (logp, grad []float64) {
	batch, targets := tree(m.Config.Vocab)
	pass, g := m.NewPass(), m.NewGrad()
	defer pass.Free()
	defer g.Free()
	set(pass)
	pass.Forward(batch)
	fwd := pass.Classify(targets)
	w := make([]float64, len(targets.IDs))
	for i := range w {
		w[i] = float64(i%3) - 0.7
	}
	pass.Backward(g, Loss{Targets: targets, Fwd: fwd, LogProb: w, Entropy: w})
	grad = make([]float64, g.Flat.Len())
	m.dev.Read64(grad, g.Flat)
	return fwd.LogProb, grad
}

// TestLoRAGradient holds the gradient of every factor against central differences
// in float64, on all matrices and on some.
func TestLoRAGradient(t *testing.T) {
	for name, c := range shapes {
		for _, l := range []LoRA{allLoRA, {Rank: 1, Alpha: 2, Modules: []string{"k_proj", "down_proj"}}} {
			t.Run(name+" "+strings.Join(l.Modules, " "), func(t *testing.T) {
				dev := newDevice(t, true)
				_, m := adapted(t, dev, c, l, true)
				_, grad := passed(m, func(*Pass) {})
				w := make([]float64, len(grad))
				dev.Read64(w, m.Flat())
				batch, targets := tree(c.Vocab)
				pass := m.NewPass()
				defer pass.Free()
				loss := func(i int, x float64) float64 {
					keep := w[i]
					w[i] = x
					dev.Write64(m.Flat(), w)
					w[i] = keep
					pass.Forward(batch)
					got := pass.Classify(targets)
					sum := 0.0
					for j := range got.LogProb {
						sum -= (float64(j%3) - 0.7) * (got.LogProb[j] + got.Entropy[j])
					}
					return sum
				}
				off := 0
				for _, p := range m.Learned() {
					n := p.Value.Len()
					for j := range min(n, 6) {
						const h = 1e-5
						i := off + j*(n-1)/5
						want := (loss(i, w[i]+h) - loss(i, w[i]-h)) / (2 * h)
						if diff := math.Abs(grad[i] - want); diff > 1e-7+1e-6*math.Abs(want) {
							t.Errorf("%s[%d]: gradient %.10g, central difference %.10g", p.Name, i-off, grad[i], want)
						}
					}
					off += n
				}
				if want := 2 * len(l.Modules) * c.Layers; len(m.Learned()) != want || off != len(grad) {
					t.Errorf("%d tensors and %d numbers learn, want %d and %d", len(m.Learned()), off, want, len(grad))
				}
			})
		}
	}
}

// TestLoRAGradientAddsUp: an update sums passes, whose gradients join what is there.
func TestLoRAGradientAddsUp(t *testing.T) {
	dev := newDevice(t, true)
	_, m := adapted(t, dev, shapes["gqa untied"], allLoRA, true)
	batch, targets := tree(m.Config.Vocab)
	pass, g := m.NewPass(), m.NewGrad()
	defer pass.Free()
	defer g.Free()
	sums := [2][]float64{}
	for i := range sums {
		pass.Forward(batch)
		pass.Backward(g, Loss{Targets: targets, Fwd: pass.Classify(targets), LogProb: slices.Repeat([]float64{1}, len(targets.IDs))})
		sums[i] = make([]float64, g.Flat.Len())
		dev.Read64(sums[i], g.Flat)
	}
	for i, once := range sums[0] {
		if twice := sums[1][i]; once == 0 || math.Abs(twice-2*once) > 1e-12*math.Abs(once) {
			t.Fatalf("element %d: %g after one pass, %g after two", i, once, twice)
		}
	}
}

// TestLoRAStartsAsItsBase: with B zero a model computes what its base does, to the
// bit; when the factors have learned it no longer does, but Base still.
func TestLoRAStartsAsItsBase(t *testing.T) {
	for name, c := range shapes {
		for _, double := range []bool{false, true} {
			dev := newDevice(t, double)
			base, m := adapted(t, dev, c, allLoRA, false)
			want, _ := passed(base, func(*Pass) {})
			if have, _ := passed(m, func(*Pass) {}); !slices.Equal(have, want) {
				t.Errorf("%s: begins with other log-probabilities than its base", name)
			}
			w := make([]float64, m.Flat().Len())
			for i := range w {
				w[i] = 0.1
			}
			dev.Write64(m.Flat(), w)
			if have, _ := passed(m, func(*Pass) {}); slices.Equal(have, want) {
				t.Errorf("%s: factors change nothing", name)
			}
			batch, targets := tree(c.Vocab)
			before := m.Base()
			cache := newCache(before, batch.Rows())
			cache.Extend(batch)
			if have := cache.Classify(targets).LogProb; !slices.Equal(have, want) {
				t.Errorf("%s: Base computes %v, the base %v", name, have, want)
			}
			cache.Free()
			if before.Trainable() == nil {
				t.Errorf("%s: Base says it learns, and shares its weights", name)
			}
			before.Free()
			if m.flat.Len() == 0 {
				t.Errorf("%s: freeing Base frees the weights that it borrows", name)
			}
		}
	}
}

// TestLoRABegins: A is uniform within ±1/√in, by the seed, and B zero.
func TestLoRABegins(t *testing.T) {
	dev := newDevice(t, false)
	c := shapes["gqa untied"]
	l := LoRA{Rank: 16, Alpha: 32, Modules: LoRAModules()}
	begin := func(seed uint64) *Model {
		m, err := NewLoRAFrom(dev, c, l, seed, initial(c, 1))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	one, again, other := begin(1), begin(1), begin(2)
	for i, p := range one.Learned() {
		x := one.factorOf(i)
		if !slices.Equal(x, again.factorOf(i)) {
			t.Errorf("%s: the same seed gives others", p.Name)
		}
		if strings.Contains(p.Name, "lora_B") {
			if slices.Min(x) != 0 || slices.Max(x) != 0 {
				t.Errorf("%s is not 0", p.Name)
			}
			continue
		}
		bound := 1 / math.Sqrt(float64(p.Shape[1]))
		if lo, hi := float64(slices.Min(x))/bound, float64(slices.Max(x))/bound; lo < -1 || hi > 1 || lo > -0.9 || hi < 0.9 {
			t.Errorf("%s is within %g and %g of its bound", p.Name, lo, hi)
		}
		if slices.Equal(x, other.factorOf(i)) {
			t.Errorf("%s: another seed gives the same", p.Name)
		}
	}
}

// TestLoRAPasses: with factors, reading through the cache in other batches gives the
// bits of one pass, and a pass that recomputes or keeps logits those of one that
// does not.
func TestLoRAPasses(t *testing.T) {
	for name, c := range shapes {
		dev := newDevice(t, false)
		_, m := adapted(t, dev, c, allLoRA, true)
		want, grad := passed(m, func(*Pass) {})
		for how, set := range map[string]func(*Pass){
			"recomputed":       func(p *Pass) { p.Recompute = true },
			"with kept logits": func(p *Pass) { p.KeepLogits = 100 },
		} {
			if logp, g := passed(m, set); !slices.Equal(logp, want) || !slices.Equal(g, grad) {
				t.Errorf("%s, %s: other log-probabilities or another gradient", name, how)
			}
		}
		if slices.Max(grad) == 0 {
			t.Errorf("%s: no gradient", name)
		}

		batch, targets := tree(c.Vocab)
		cache := newCache(m, batch.Rows())
		have := make([]float64, len(want))
		for _, s := range batch.Seqs {
			for i := range s.Q.Len { // a token at a time
				row := s.Q.Start + i
				past := slices.Clone(s.Past)
				if i > 0 {
					past = append(past, device.Span{Start: s.Own, Len: i})
				}
				cache.Extend(Batch{IDs: batch.IDs[row : row+1], Pos: batch.Pos[row : row+1],
					Seqs: []device.Seq{{Q: device.Span{Len: 1}, Past: past, Own: row}}})
				for j, r := range targets.Rows {
					if int(r) == row {
						have[j] = cache.Classify(Targets{Rows: []int32{0}, IDs: targets.IDs[j : j+1], InvTemp: targets.InvTemp}).LogProb[0]
					}
				}
			}
		}
		cache.Free()
		if !slices.Equal(have, want) {
			t.Errorf("%s: decoded token by token %v, in one pass %v", name, have, want)
		}
	}
}

// TestLoRAFloats holds the plan of the factors' products against what they take.
func TestLoRAFloats(t *testing.T) {
	_, m := adapted(t, newDevice(t, false), shapes["gqa untied"], allLoRA, true)
	passed(m, func(*Pass) {})
	have := Floats{Compute: m.lora.du.held()}
	for i := range m.lora.us {
		have.Compute += m.lora.us[i].held()
	}
	batch, _ := tree(m.Config.Vocab)
	if want := allLoRA.Floats(batch.Rows()); have != want {
		t.Errorf("they hold %v floats, Floats says %v", have, want)
	}
}

// work counts the multiply-adds of matrix products.
type work struct {
	device.Device
	n       int
	refused string // a gradient that was asked for and has no place
}

func (w *work) MatMul(c, a, b device.Buffer, m, n, k int, transA, transB, accumulate bool) {
	w.n += m * n * k
	w.Device.MatMul(c, a, b, m, n, k, transA, transB, accumulate)
}

func (w *work) RMSNormBackward(dx, dw, dout, x, g, rstd device.Buffer, rows, dim int) {
	if dw != nil {
		w.refused = "of a norm"
	}
	w.Device.RMSNormBackward(dx, dw, dout, x, g, rstd, rows, dim)
}

func (w *work) EmbedBackward(dtable, dout device.Buffer, ids []int32, dim int) {
	w.refused = "of the embeddings"
	w.Device.EmbedBackward(dtable, dout, ids, dim)
}

func (w *work) ClassifierBackward(dh, dw, h, head device.Buffer, targets []int32, vocab, dim int, invTemp float64, fwd device.Classified, wLogp, wEnt []float64) {
	if dw != nil {
		w.refused = "of the output table"
	}
	w.Device.ClassifierBackward(dh, dw, h, head, targets, vocab, dim, invTemp, fwd, wLogp, wEnt)
}

// TestLoRASkipsFrozenGradients: what is frozen has no gradient computed and none
// kept, so that a backward pass does little more than half of the products.
func TestLoRASkipsFrozenGradients(t *testing.T) {
	for _, c := range []Config{tiny(4, 4, false, 0), tiny(4, 4, true, 0), of("qwen3", tiny(4, 4, true, 0), true)} {
		tied := c.TieEmbeddings
		c.Hidden, c.HeadDim, c.Intermediate = 128, 32, 256
		full, small := &work{Device: newDevice(t, false)}, &work{Device: newDevice(t, false)}
		m, err := New(full, c, 1)
		if err != nil {
			t.Fatal(err)
		}
		lm, err := NewLoRAFrom(small, c, LoRA{Rank: 2, Alpha: 4, Modules: LoRAModules()}, 1, initial(c, 1))
		if err != nil {
			t.Fatal(err)
		}
		count := func(w *work, m *Model) (forward, backward, kept int) {
			batch, targets := tree(c.Vocab)
			pass, g := m.NewPass(), m.NewGrad()
			pass.Forward(batch)
			forward, w.n = w.n, 0
			pass.Backward(g, Loss{Targets: targets, Fwd: pass.Classify(targets), LogProb: make([]float64, len(targets.IDs))})
			return forward, w.n, g.Flat.Len()
		}
		_, whole, all := count(full, m)
		_, half, few := count(small, lm)
		if half > whole*6/10 || half < whole/2 {
			t.Errorf("tied %v: %d multiply-adds backwards, %d where all learns", tied, half, whole)
		}
		if few > all/10 || few != lm.Flat().Len() {
			t.Errorf("tied %v: %d numbers of gradient, %d where all learns", tied, few, all)
		}
		if small.refused != "" {
			t.Errorf("tied %v: the gradient %s was computed", tied, small.refused)
		}
		if full.refused == "" {
			t.Error("the counting device counts nothing")
		}
	}
}

// TestLoRAMerge: a saved model is W + s·B·A, element by element, and says what the
// one with factors does; so does a folder that holds base and adapter, loaded, read
// only, and converted.
func TestLoRAMerge(t *testing.T) {
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			dev := newDevice(t, false)
			l := LoRA{Rank: 3, Alpha: 4.5, Modules: []string{"q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"}}
			base, m := adapted(t, dev, c, l, true)
			want, _ := passed(m, func(*Pass) {})
			dir := t.TempDir()
			merged, both, converted := filepath.Join(dir, "merged"), filepath.Join(dir, "both"), filepath.Join(dir, "converted")
			if err := m.Save(merged, safetensors.F32); err != nil {
				t.Fatal(err)
			}
			if err := base.Save(both, safetensors.F32); err != nil {
				t.Fatal(err)
			}
			if err := m.SaveAdapter(both, "somewhere"); err != nil {
				t.Fatal(err)
			}
			if err := Convert(t.Context(), converted, os.DirFS(both), ""); err != nil {
				t.Fatal(err)
			}
			one, err := os.ReadFile(filepath.Join(merged, weightsFile))
			if err != nil {
				t.Fatal(err)
			}
			other, err := os.ReadFile(filepath.Join(converted, weightsFile))
			if err != nil || string(one) != string(other) {
				t.Errorf("Convert writes other weights than Save: %v", err)
			}
			for what, folder := range map[string]string{"saved": merged, "base and adapter": both} {
				again, err := Load(dev, os.DirFS(folder))
				if err != nil {
					t.Fatal(err)
				}
				have, _ := passed(again, func(*Pass) {})
				near(t, what, have, want, 1e-4)
				fixed, err := LoadReadOnly(dev, os.DirFS(folder), device.F32)
				if err != nil {
					t.Fatal(err)
				}
				changed := 0
				for i, p := range c.Tensors() {
					read := func(b device.Buffer) []float32 {
						data := make([]float32, p.Len())
						dev.Read(data, b)
						return data
					}
					w, got := read(base.params[i].Value), read(again.params[i].Value)
					if !slices.Equal(got, read(fixed.params[i].Value)) {
						t.Errorf("%s, %s: read only it is another", what, p.Name)
					}
					at := slices.IndexFunc(m.Learned(), func(f Param) bool { return f.Name == factor(p.Name, "A") })
					if at < 0 {
						if !slices.Equal(got, w) {
							t.Errorf("%s: %s has no factors and changed", what, p.Name)
						}
						continue
					}
					changed++
					a, b := m.factorOf(at), m.factorOf(at+1)
					in := p.Shape[1]
					for j := range got {
						sum := 0.0
						for r := range l.Rank {
							sum += float64(b[j/in*l.Rank+r]) * float64(a[r*in+j%in])
						}
						if x := float64(w[j]) + 1.5*sum; math.Abs(float64(got[j])-x) > 1e-6*(1+math.Abs(x)) {
							t.Fatalf("%s: %s[%d] is %g, want %g", what, p.Name, j, got[j], x)
						}
					}
				}
				if changed != len(l.Modules)*c.Layers {
					t.Errorf("%s: %d matrices changed", what, changed)
				}
				again.Free()
				fixed.Free()
			}
		})
	}
}

// Pieces of a matrix, as they come from a file, are merged as the whole is.
func TestLoRAMergesPieces(t *testing.T) {
	const out, in = 37, 11
	l := LoRA{Rank: 2, Alpha: 3}
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	w, a, b := draw(out*in), draw(2*in), draw(out*2)
	whole := slices.Clone(w)
	l.merge(whole, a, b, 0, in)
	if slices.Equal(whole, w) {
		t.Fatal("nothing merged")
	}
	for _, size := range []int{1, 7, in, 2*in + 3, out * in} {
		parts := slices.Clone(w)
		for from := 0; from < len(parts); from += size {
			l.merge(parts[from:min(from+size, len(parts))], a, b, from, in)
		}
		if !slices.Equal(parts, whole) {
			t.Errorf("in pieces of %d it is another matrix", size)
		}
	}
}
