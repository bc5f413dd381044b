//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/device/devicetest"
	"nrt/backend/llama"
)

// Two devices on which threads and blocks run in other orders: the emulator draws
// a new one for every launch.
func TestOrderOfThreadsDoesNotShow(t *testing.T) {
	c := emulator(t)
	for _, typ := range []Type{F32, BF16} {
		t.Run(typ.String(), func(t *testing.T) {
			with := func(seed uint64) func() device.Device {
				return func() device.Device {
					c.Seed(seed)
					return emulated(t, Options{Type: typ})
				}
			}
			devicetest.Identical(t, with(1), with(2))
		})
	}
}

// tiny is a model with everything that models of the family have: heads that
// share keys, a vocabulary that is no multiple of anything, its own projection.
var tiny = llama.Config{
	ModelType: "llama", Vocab: 131, Hidden: 48, Intermediate: 80, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16,
	MaxPositions: 64, RMSEps: 1e-5, RopeTheta: 10000,
}

// group is a prompt of nine tokens and two chains that share it.
func group() (llama.Batch, llama.Targets) {
	const prompt, chain = 9, 7
	b := llama.Batch{Seqs: []device.Seq{{Q: device.Span{Len: prompt}}}}
	t := llama.Targets{InvTemp: 0.9}
	for i := range prompt + 2*chain {
		b.IDs = append(b.IDs, int32(i*i*37%tiny.Vocab))
		pos := i
		if i >= prompt {
			pos = prompt + (i-prompt)%chain
		}
		b.Pos = append(b.Pos, int32(pos))
	}
	for c := range 2 {
		at := prompt + c*chain
		b.Seqs = append(b.Seqs, device.Seq{Q: device.Span{Start: at, Len: chain}, Past: []device.Span{{Len: prompt}}, Own: at})
		t.Rows, t.IDs = append(t.Rows, prompt-1), append(t.IDs, b.IDs[at])
		for i := range chain - 1 {
			t.Rows, t.IDs = append(t.Rows, int32(at+i)), append(t.IDs, b.IDs[at+i+1])
		}
	}
	return b, t
}

// trained is what a few steps of training found.
type trained struct {
	logProb [][]float64 // by step
	grad    []float64   // of the first step
}

// models are tiny, and the same as Qwen2 and Qwen3, with all of it learning, and with
// LoRA beside the matrices, of a rank whose rows are no multiple of 16 bytes.
var models = map[string]func(device.Device) (*llama.Model, error){
	"llama": of("llama", false), "llama lora": of("llama", true),
	"qwen2": of("qwen2", false), "qwen2 lora": of("qwen2", true),
	"qwen3": of("qwen3", false), "qwen3 lora": of("qwen3", true),
}

func of(modelType string, lora bool) func(device.Device) (*llama.Model, error) {
	c := tiny
	c.ModelType = modelType
	return func(d device.Device) (*llama.Model, error) {
		if lora {
			return llama.NewLoRAFrom(d, c, llama.LoRA{Rank: 6, Alpha: 12, Modules: llama.LoRAModules()}, 5, randomWeights(c))
		}
		return llama.NewFrom(d, c, randomWeights(c))
	}
}

// randomWeights are around 0, and norms around 1.
func randomWeights(c llama.Config) llama.Source {
	specs, rng := c.Tensors(), rand.New(rand.NewPCG(5, 5))
	return func(i, _ int, dst []float32) error {
		middle, spread := 0.0, 0.05
		if len(specs[i].Shape) == 1 {
			spread = 0.2
		}
		if strings.HasSuffix(specs[i].Name, "norm.weight") {
			middle = 1
		}
		for j := range dst {
			dst[j] = float32(middle + spread*rng.NormFloat64())
		}
		return nil
	}
}

func train(t *testing.T, d device.Device, create func(device.Device) (*llama.Model, error), set func(*llama.Pass)) trained {
	t.Helper()
	m, err := create(d)
	if err != nil {
		t.Fatal(err)
	}
	var out trained
	g, pass := m.NewGrad(), m.NewPass()
	set(pass)
	mean, square := d.AllocAs(device.Wide, m.Flat().Len()), d.AllocAs(device.Wide, m.Flat().Len())
	batch, targets := group()
	weights := make([]float64, len(targets.Rows))
	for i := range weights {
		weights[i] = float64(1-2*(i%2)) / float64(len(weights))
	}
	for step := 1; step <= 4; step++ {
		pass.Forward(batch)
		c := pass.Classify(targets)
		g.Zero()
		pass.Backward(g, llama.Loss{Targets: targets, Fwd: c, LogProb: weights})
		if step == 1 {
			out.grad = make([]float64, m.Flat().Len())
			d.Read64(out.grad, g.Flat)
		}
		out.logProb = append(out.logProb, c.LogProb)
		d.AdamW(m.Flat(), g.Flat, mean, square, device.AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-6, WeightDecay: 0.01, Step: step, Scale: 1})
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, b := range []device.Buffer{mean, square} {
		d.Free(b)
	}
	pass.Free()
	g.Free()
	m.Free()
	return out
}

// off is the distance of a from b, relative to b.
func off(a, b []float64) float64 {
	var d, n float64
	for i := range b {
		d += (a[i] - b[i]) * (a[i] - b[i])
		n += b[i] * b[i]
	}
	return math.Sqrt(d / n)
}

// A small model, or LoRA beside one, learns as it does on the CPU, and gives the bits
// of its gradient also when it computes the activations again, or keeps the logits.
func TestModelLearnsAsOnTheCPU(t *testing.T) {
	host, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for name, create := range models {
		want := train(t, host, create, func(*llama.Pass) {})
		if first, last := want.logProb[0][0], want.logProb[3][0]; last < first+0.1 {
			t.Fatalf("%s: log-probability %g after %g: no learning to compare", name, last, first)
		}
		// In bfloat16 every activation on the way is rounded by up to 2⁻⁸; over two
		// layers some dozens of them add up like steps of a random walk.
		for dt, tol := range map[dtype]float64{dtF32: 1e-5, dtBF16: 0.02} {
			t.Run(name+" "+dt.String(), func(t *testing.T) {
				d := openTest(t, dt)
				have := train(t, d, create, func(*llama.Pass) {})
				if e := off(have.grad, want.grad); !(e < tol) {
					t.Errorf("gradient is off by %.2g, want less than %.2g", e, tol)
				}
				for i := range want.logProb {
					if e := off(have.logProb[i], want.logProb[i]); !(e < tol) {
						t.Errorf("step %d: log-probabilities are off by %.2g, want less than %.2g", i+1, e, tol)
					}
				}
				for how, again := range map[string]trained{
					"recomputed":       train(t, d, create, func(p *llama.Pass) { p.Recompute = true }),
					"with kept logits": train(t, d, create, func(p *llama.Pass) { p.KeepLogits = 40 }),
				} {
					for i := range again.grad {
						if again.grad[i] != have.grad[i] {
							t.Fatalf("%s, number %d of the gradient is %g, want %g exactly", how, i, again.grad[i], have.grad[i])
						}
					}
				}
			})
		}
	}
}

// Decoding from the cache, in steps of one token for two chains at once, gives
// the log-probabilities of the pass over all, and draws what the CPU draws.
func TestModelDecodesAsItReads(t *testing.T) {
	host, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for name, create := range models {
		_, draws := decode(t, host, create, 1e-4)
		for dt, tol := range map[dtype]float64{dtF32: 1e-5, dtBF16: 0.01} {
			t.Run(name+" "+dt.String(), func(t *testing.T) {
				d := openTest(t, dt)
				replayed, have := decode(t, d, create, tol)
				if dt == dtF32 && fmt.Sprint(have) != fmt.Sprint(draws) {
					t.Errorf("drew %v, the CPU %v", have, draws)
				}
				if replayed == 0 {
					t.Error("no step was replayed as a graph")
				}
			})
		}
	}
}

func decode(t *testing.T, d device.Device, create func(device.Device) (*llama.Model, error), tol float64) (replayed int, draws []int32) {
	t.Helper()
	m, err := create(d)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Flat().Len(); n < m.NumParams() { // LoRA's factors, of which half are 0 yet
		w := make([]float64, n)
		for i := range w {
			w[i] = 0.1 * math.Sin(float64(i*i))
		}
		d.Write64(m.Flat(), w)
	}
	batch, targets := group()
	pass := m.NewPass()
	pass.Forward(batch)
	want := pass.Classify(targets).LogProb

	const prompt, chain = 9, 7
	cache, err := m.NewCache(40)
	if err != nil {
		t.Fatal(err)
	}
	cache.Extend(llama.Batch{IDs: batch.IDs[:prompt], Pos: batch.Pos[:prompt], Seqs: batch.Seqs[:1]})
	first := llama.Targets{Rows: []int32{prompt - 1, prompt - 1}, IDs: []int32{batch.IDs[prompt], batch.IDs[prompt+chain]}, InvTemp: targets.InvTemp}
	have := make([]float64, len(want))
	store := func(i int, c device.Classified) { have[i], have[chain+i] = c.LogProb[0], c.LogProb[1] }
	store(0, cache.Classify(first))
	for i := range chain - 1 {
		var step llama.Batch
		next := llama.Targets{Rows: []int32{0, 1}, InvTemp: targets.InvTemp}
		for c := range 2 {
			row, at := prompt+c*chain+i, prompt+c*chain
			step.IDs, step.Pos = append(step.IDs, batch.IDs[row]), append(step.Pos, batch.Pos[row])
			step.Seqs = append(step.Seqs, device.Seq{Q: device.Span{Start: c, Len: 1}, Own: at + i,
				Past: []device.Span{{Len: prompt}, {Start: at, Len: i}}})
			next.IDs = append(next.IDs, batch.IDs[row+1])
		}
		cache.Extend(step)
		store(i+1, cache.Classify(next))
		for _, s := range cache.Sample(next.Rows, []device.SampleRow{{}, {Temperature: 1, TopK: 40, U: 0.37}}) {
			draws = append(draws, s.ID)
		}
	}
	if e := off(have, want); !(e < tol) {
		t.Errorf("%s: decoded log-probabilities are off by %.2g, want less than %.2g", d.Name(), e, tol)
	}
	if d, ok := d.(*dev); ok {
		_, replayed = counts(d)
	}
	cache.Free()
	pass.Free()
	m.Free()
	return replayed, draws
}
