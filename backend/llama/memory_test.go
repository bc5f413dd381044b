package llama

import (
	"slices"
	"testing"

	"nrt/backend/device"
)

// TestRecompute: a pass that keeps only the layers' inputs gives the same
// gradient, to the bit, in less memory, batch after batch.
func TestRecompute(t *testing.T) {
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			c.Layers = 3
			m := random(t, newDevice(t, false), c, 11)
			batch, targets := tree(c.Vocab)
			short := Batch{IDs: batch.IDs[:4], Pos: batch.Pos[:4], Seqs: batch.Seqs[:1]}
			first := Targets{Rows: targets.Rows[:3], IDs: targets.IDs[:3]}
			grads := map[bool][]float64{}
			for _, recompute := range []bool{false, true} {
				pass, g := m.NewPass(), m.NewGrad()
				pass.Recompute = recompute
				for range 2 {
					for _, b := range []struct {
						Batch
						Targets
					}{{batch, targets}, {short, first}} {
						pass.Forward(b.Batch)
						fwd := pass.Classify(b.Targets)
						w := make([]float64, len(b.Targets.IDs))
						for i := range w {
							w[i] = float64(i%3) - 0.7
						}
						pass.Backward(g, Loss{Targets: b.Targets, Fwd: fwd, LogProb: w})
					}
				}
				if have, want := pass.floats(), c.PassFloats(batch.Rows(), len(targets.IDs), recompute); have != want {
					t.Errorf("recompute %v: the pass holds %v floats, PassFloats says %v", recompute, have, want)
				}
				grads[recompute] = make([]float64, m.NumParams())
				m.Device().Read64(grads[recompute], g.Flat)
				pass.Free()
				g.Free()
			}
			if !slices.Equal(grads[false], grads[true]) {
				t.Error("recomputed activations give another gradient")
			}
			if slices.Max(grads[true]) == 0 {
				t.Error("no gradient")
			}
			if a, b := c.PassFloats(100, 100, true), c.PassFloats(100, 100, false); a.Compute >= b.Compute {
				t.Errorf("recomputing takes %v floats, keeping %v", a, b)
			}
		})
	}
}

// floats is the memory that the pass holds.
func (p *Pass) floats() Floats {
	return Floats{Compute: p.arena.narrow.buf.Len() + p.picked.buf.Len() + p.dpicked.buf.Len(), Wide: p.arena.broad.buf.Len()}
}

// TestCacheFloats holds the plan of a cache against what one takes.
func TestCacheFloats(t *testing.T) {
	for name, c := range shapes {
		m := random(t, newDevice(t, false), c, 12)
		cache := m.NewCache(20)
		batch, _ := tree(c.Vocab)
		cache.Extend(batch)
		cache.Sample([]int32{2, 5, 7}, make([]device.SampleRow, 3))
		have := Floats{
			Compute: cache.all.Len() + cache.arena.narrow.buf.Len() + cache.picked.buf.Len(),
			Wide:    cache.arena.broad.buf.Len() + cache.logits.buf.Len(),
		}
		if want := c.CacheFloats(20, batch.Rows(), 3); have != want {
			t.Errorf("%s: the cache holds %v floats, CacheFloats says %v", name, have, want)
		}
		cache.Free()
		m.Free()
	}
}
