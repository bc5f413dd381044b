package llama

import (
	"errors"
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

// TestKeepLogits: a pass that keeps logits, all or those of its first targets, gives
// the same log-probabilities and the same gradient, to the bit, in the memory that
// LogitsFloats says.
func TestKeepLogits(t *testing.T) {
	test := func(c Config, float64s bool) func(*testing.T) {
		return func(t *testing.T) {
			m := random(t, newDevice(t, float64s), c, 13)
			batch, targets := tree(c.Vocab)
			n := len(targets.IDs)
			short := Batch{IDs: batch.IDs[:4], Pos: batch.Pos[:4], Seqs: batch.Seqs[:1]}
			part := func(from, to int, invTemp float64) Targets {
				return Targets{Rows: targets.Rows[from:to], IDs: targets.IDs[from:to], InvTemp: invTemp}
			}
			steps := []struct {
				Batch
				targets []Targets
			}{
				{batch, []Targets{part(0, 3, 0), part(3, n, 0.8)}},
				{short, []Targets{part(0, 3, 1.3)}},
				{batch, []Targets{part(0, 0, 0), part(0, n, 0.8)}}, // and nothing drawn
			}
			var want []float64
			var logp [][]float64
			for _, keep := range []int{0, n, n - 2} {
				pass, g := m.NewPass(), m.NewGrad()
				pass.KeepLogits = keep
				var have [][]float64
				kept := 0
				for _, s := range append(steps, steps...) {
					pass.Forward(s.Batch)
					var losses []Loss
					for _, to := range s.targets {
						l := Loss{Targets: to, Fwd: pass.Classify(to), LogProb: make([]float64, len(to.IDs)), Entropy: make([]float64, len(to.IDs))}
						for i := range l.LogProb {
							l.LogProb[i], l.Entropy[i] = float64(i%3)-0.7, float64(i%2)-0.3
						}
						if l.Fwd.Logits != nil {
							kept += len(to.IDs)
						}
						have = append(have, l.Fwd.LogProb, l.Fwd.Entropy)
						losses = append(losses, l)
					}
					pass.Backward(g, losses...)
				}
				if all := map[int]int{0: 0, n: 2 * (2*n + 3), n - 2: 2 * (3 + 3)}[keep]; kept != all {
					t.Errorf("keeping %d: the logits of %d targets were kept, want %d", keep, kept, all)
				}
				if keep > 0 {
					if have, want := pass.logits.memory.buf.Len(), c.LogitsFloats(keep).Wide; have != want {
						t.Errorf("the pass holds %d numbers of logits, LogitsFloats says %d", have, want)
					}
				}
				grad := make([]float64, m.NumParams())
				m.Device().Read64(grad, g.Flat)
				if keep == 0 {
					want, logp = grad, have
				} else if !slices.Equal(grad, want) || !slices.EqualFunc(have, logp, slices.Equal) {
					t.Errorf("keeping %d: another gradient or other log-probabilities", keep)
				}
				pass.Free()
				g.Free()
			}
			if slices.Max(want) == 0 {
				t.Error("no gradient")
			}
		}
	}
	for name, c := range shapes {
		t.Run(name, test(c, false))
		t.Run(name+" float64", test(c, true))
	}
}

// floats is the memory that the pass holds.
func (p *Pass) floats() Floats {
	return Floats{Compute: p.arena.narrow.memory.buf.Len() + p.picked.buf.Len() + p.dpicked.buf.Len(), Wide: p.arena.broad.memory.buf.Len()}
}

// TestCacheFloats holds the plan of a cache against what one takes, at once or as it is
// needed.
func TestCacheFloats(t *testing.T) {
	for name, c := range shapes {
		m := random(t, &cramped{Device: newDevice(t, false), reserved: map[device.Buffer]bool{}, most: 1 << 30}, c, 12)
		batch, _ := tree(c.Vocab)
		early := newCache(m, 20)
		if err := early.Reserve(20, batch.Rows(), 3); err != nil {
			t.Fatal(err)
		}
		if have, want := early.Floats(), c.CacheFloats(20, batch.Rows(), 3); have != want {
			t.Errorf("%s: reserved, the cache holds %v floats, CacheFloats says %v", name, have, want)
		}
		early.Free()
		cache := newCache(m, 20)
		cache.Extend(batch)
		rows := make([]int32, batch.Rows()) // as many targets as were read
		cache.Classify(Targets{Rows: rows, IDs: rows})
		cache.Sample([]int32{2, 5, 7}, make([]device.SampleRow, 3))
		have := Floats{
			Compute: cache.all.buf.Len() + cache.arena.narrow.memory.buf.Len() + cache.picked.buf.Len(),
			Wide:    cache.arena.broad.memory.buf.Len() + cache.logits.buf.Len(),
		}
		if cache.Floats() != have {
			t.Errorf("%s: the cache holds %v floats, Floats says %v", name, have, cache.Floats())
		}
		if want := c.CacheFloats(20, batch.Rows(), 3); have != want {
			t.Errorf("%s: the cache holds %v floats, CacheFloats says %v", name, have, want)
		}
		cache.Free()
		m.Free()
	}
}

// cramped is a device that has memory for so many floats of caches, which it counts.
type cramped struct {
	device.Device
	most, held int
	reserved   map[device.Buffer]bool
}

func (d *cramped) Lazy() bool { return false }

func (d *cramped) Reserve(k device.Kind, n int) (device.Buffer, error) {
	if d.held+n > d.most {
		return nil, device.ErrNoMemory
	}
	b, err := d.Device.Reserve(k, n)
	d.reserved[b] = true
	d.held += n
	return b, err
}

func (d *cramped) Free(b device.Buffer) {
	if d.reserved[b] {
		delete(d.reserved, b)
		d.held -= b.Len()
	}
	d.Device.Free(b)
}

// TestCacheWithoutMemory: what a device has no memory for is an error, wherever it runs
// out; nothing is kept of what failed, and a cache that had more asked of it reads on.
func TestCacheWithoutMemory(t *testing.T) {
	c := shapes["gqa untied"]
	dev := &cramped{Device: newDevice(t, false), reserved: map[device.Buffer]bool{}, most: 1 << 30}
	m := random(t, dev, c, 12)
	batch, targets := tree(c.Vocab)
	logProbs := func(cache *Cache) []float64 {
		cache.Extend(batch)
		return cache.Classify(targets).LogProb
	}
	cache := newCache(m, 20)
	if err := cache.Reserve(20, batch.Rows(), 3); err != nil {
		t.Fatal(err)
	}
	all := dev.held
	want := logProbs(cache)
	cache.Free()
	if dev.held != 0 {
		t.Fatalf("%d floats are kept", dev.held)
	}
	failures := 0
	for dev.most = 0; dev.most <= all; dev.most += 7 {
		cache, err := m.NewCache(20)
		if err == nil {
			if err = cache.Reserve(20, batch.Rows(), 3); err != nil {
				near(t, "after a lack of memory", logProbs(cache), want, 0)
			}
			cache.Free()
		}
		if err == nil || !errors.Is(err, device.ErrNoMemory) {
			t.Fatalf("with memory for %d of %d floats: %v", dev.most, all, err)
		}
		if dev.held != 0 {
			t.Fatalf("with memory for %d floats: %d are kept", dev.most, dev.held)
		}
		failures++
	}
	if failures < 100 {
		t.Errorf("only %d trials", failures)
	}
}
