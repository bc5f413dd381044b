package llama

import (
	"math"
	"math/rand/v2"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
)

// TestGradientInBFloat16: where products round to bfloat16, each tensor's gradient is
// float64's but for noise: as long along it, so that nothing is learned too fast or too
// slowly, and across it small.
func TestGradientInBFloat16(t *testing.T) {
	rounding, err := cpu.New(cpu.Options{Type: cpu.BFloat16})
	if err != nil {
		t.Fatal(err)
	}
	defer rounding.Close()
	exact := newDevice(t, true)
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			c.Vocab, c.Hidden, c.HeadDim, c.Intermediate, c.MaxPositions = 301, 63, 16, 90, 256
			if c.ModelType == "llama" {
				c.Hidden = 64 // a multiple of its heads
			}
			type sums struct{ hw, hh, ww float64 }
			of := map[string]sums{}
			for seed := range uint64(4) {
				want, have := gradients(t, exact, c, seed), gradients(t, rounding, c, seed)
				for tensor, w := range want {
					x := of[tensor]
					for i, h := range have[tensor] {
						x.hw, x.hh, x.ww = x.hw+h*w[i], x.hh+h*h, x.ww+w[i]*w[i]
					}
					of[tensor] = x
				}
			}
			for tensor, x := range of {
				along := x.hw / x.ww
				if across := math.Sqrt(x.hh/x.ww - along*along); math.Abs(along-1) > 0.01 || across > 0.05 || across == 0 {
					t.Errorf("%s: %.4f along the gradient and %.4f across it, in its lengths", tensor, along, across)
				}
			}
		})
	}
}

// gradients are those of a random model over 200 random tokens, by tensor.
func gradients(t *testing.T, dev device.Device, c Config, seed uint64) map[string][]float64 {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	specs := c.Tensors()
	m, err := NewFrom(dev, c, func(i, _ int, data []float32) error {
		for j := range data {
			if shape := specs[i].Shape; len(shape) == 1 {
				data[j] = float32(1 + 0.2*rng.NormFloat64())
			} else {
				data[j] = float32(rng.NormFloat64() / math.Sqrt(float64(shape[1])))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	const n = 200
	b := Batch{Seqs: []device.Seq{{Q: device.Span{Len: n}}}}
	var targets Targets
	var wLogp, wEnt []float64
	for i := range int32(n) {
		b.IDs, b.Pos = append(b.IDs, rng.Int32N(int32(c.Vocab))), append(b.Pos, i)
		targets.Rows, targets.IDs = append(targets.Rows, i), append(targets.IDs, rng.Int32N(int32(c.Vocab)))
		wLogp, wEnt = append(wLogp, rng.NormFloat64()), append(wEnt, rng.NormFloat64())
	}
	p, g := m.NewPass(), m.NewGrad()
	defer p.Free()
	defer g.Free()
	p.Forward(b)
	p.Backward(g, Loss{Targets: targets, Fwd: p.Classify(targets), LogProb: wLogp, Entropy: wEnt})
	all := map[string][]float64{}
	for _, x := range g.Params {
		all[x.Name] = make([]float64, x.Value.Len())
		dev.Read64(all[x.Name], x.Value)
	}
	return all
}
