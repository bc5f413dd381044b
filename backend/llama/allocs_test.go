package llama

import (
	"testing"

	"nrt/backend/device"
)

// TestNoAllocations: once the memory of a batch's shape is there, passes take no
// more of it, except for the results that Classify and Sample return.
func TestNoAllocations(t *testing.T) {
	dev := newDevice(t, false)
	for _, c := range []Config{tiny(4, 2, true, 0), shapes["norms of heads, all biases"]} {
		_, factors := adapted(t, dev, c, allLoRA, true)
		noAllocations(t, random(t, dev, c, 5))
		noAllocations(t, factors)
	}
}

func noAllocations(t *testing.T, m *Model) {
	batch, targets := tree(m.Config.Vocab)
	n := len(targets.IDs)
	for _, how := range []struct {
		recompute bool
		keep      int
	}{{false, 0}, {true, 0}, {false, 2 * n}} {
		pass, g := m.NewPass(), m.NewGrad()
		pass.Recompute, pass.KeepLogits = how.recompute, how.keep
		losses := []Loss{{Targets: targets, LogProb: make([]float64, n)}, {Targets: targets, LogProb: make([]float64, n)}}
		step := func() {
			g.Zero()
			pass.Forward(batch)
			for i := range losses {
				losses[i].Fwd = pass.Classify(losses[i].Targets)
			}
			pass.Backward(g, losses...)
		}
		const returned = 6 // Classify's LogProb, Entropy and LSE, twice
		for range 20 {
			step()
		}
		if a := testing.AllocsPerRun(50, step); a > returned {
			t.Errorf("a training pass, %+v: %v allocations, want %d", how, a, returned)
		}
		pass.Free()
		g.Free()
	}

	cache := newCache(m, 40)
	defer cache.Free()
	cache.Extend(batch)
	next := Batch{IDs: []int32{1, 2}, Pos: []int32{7, 9}, Seqs: []device.Seq{
		{Q: device.Span{Start: 0, Len: 1}, Past: []device.Span{{Len: 4}, {Start: 4, Len: 3}}, Own: 20},
		{Q: device.Span{Start: 1, Len: 1}, Past: []device.Span{{Len: 4}, {Start: 7, Len: 5}}, Own: 30},
	}}
	rows, how := []int32{0, 1}, []device.SampleRow{{Temperature: 1, U: 0.3}, {Temperature: 1, TopP: 0.9, U: 0.7}}
	decode := func() {
		cache.Extend(next)
		cache.Sample(rows, how)
	}
	const returned = 1 // the list of what was drawn
	for range 20 {
		decode()
	}
	if a := testing.AllocsPerRun(50, decode); a > returned {
		t.Errorf("a decoding step: %v allocations, want %d", a, returned)
	}
}
