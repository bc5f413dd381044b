package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
)

// benchShapes are the models that nrt bench knows by name.
var benchShapes = []struct {
	name, about string
	config      llama.Config
}{
	{"world", "the embedded models' shape", benchConfig(200, 96, 256, 3, 3, 32, 128)},
	{"tiny", "3.48M parameters", benchConfig(1024, 256, 704, 4, 8, 32, 512)},
	{"15m", "15M parameters", benchConfig(32000, 288, 768, 6, 6, 48, 512)},
}

func benchConfig(vocab, hidden, ffn, layers, heads, dim, positions int) llama.Config {
	return llama.Config{
		ModelType: "llama", Vocab: vocab, Hidden: hidden, Intermediate: ffn, Layers: layers, Heads: heads, KVHeads: heads,
		HeadDim: dim, MaxPositions: positions, RMSEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true,
	}
}

// benchResult is one measured line.
type benchResult struct {
	Work string  `json:"work"`
	Rate float64 `json:"rate"`
	Unit string  `json:"unit"`
}

func benchCommand() *command {
	return &command{
		name: "bench", group: groupAbout, args: "[--shape NAME] [flags]",
		short: "measure this machine",
		long: `
Random weights of a named shape: world, tiny (3.48M parameters) or 15m. Each line
is the median of several repetitions of about --seconds in all.`,
		examples: []string{"nrt bench", "nrt bench --shape 15m --seconds 3 --json"},
		bind: func(f *flags) func(*env) error {
			shape, seconds, threads, asJSON := "tiny", 1.0, 0, false
			f.text(&shape, "shape", "NAME", "world, tiny or 15m")
			f.number(&seconds, "seconds", "S", "time for each line")
			f.integer(&threads, "threads", "N", "threads to compute with; 0 takes all")
			f.json(&asJSON)
			return func(e *env) (err error) {
				if seconds <= 0 {
					return usagef("--seconds: want more than 0, have %g", seconds)
				}
				if threads < 0 {
					return usagef("--threads: want 0 or more, have %d", threads)
				}
				for _, s := range benchShapes {
					if s.name != shape {
						continue
					}
					dev, err := cpu.New(cpu.Options{Threads: threads})
					if err != nil {
						return err
					}
					list, err := bench(e, dev, s.config, time.Duration(seconds*float64(time.Second)))
					if err = errors.Join(err, dev.Close()); err != nil {
						return err
					}
					if asJSON {
						return e.printJSON(map[string]any{"device": dev.Name(), "shape": shape, "results": list}, true)
					}
					fmt.Fprintf(e.out, "%s, shape %s (%s)\n\n", dev.Name(), s.name, s.about)
					for _, r := range list {
						fmt.Fprintf(e.out, "  %-44s %10.0f %s\n", r.Work, r.Rate, r.Unit)
					}
					return nil
				}
				return usagef("--shape: want world, tiny or 15m, have %q", shape)
			}
		},
	}
}

// bench measures matrix products, training, sampling and scoring.
func bench(e *env, dev device.Device, c llama.Config, each time.Duration) ([]benchResult, error) {
	m, err := llama.New(dev, c, 1)
	if err != nil {
		return nil, err
	}
	defer m.Free()
	var list []benchResult
	var failed error
	measure := func(work, unit string, perRun float64, run func() error) {
		if failed != nil || e.ctx.Err() != nil {
			return
		}
		if failed = run(); failed != nil { // warm up
			return
		}
		var runs []float64
		for began := time.Now(); len(runs) < 3 || time.Since(began) < each; {
			t := time.Now()
			if failed = run(); failed != nil {
				return
			}
			runs = append(runs, time.Since(t).Seconds())
		}
		list = append(list, benchResult{work, perRun / median(runs), unit})
	}

	const n = 512
	a, b, out := dev.Alloc(n*n), dev.Alloc(n*n), dev.Alloc(n*n)
	measure("matrix product 512×512×512", "GFLOP/s", 2*n*n*n/1e9, func() error {
		dev.MatMul(out, a, b, n, n, n, false, true, false)
		return dev.Sync()
	})
	for _, x := range []device.Buffer{a, b, out} {
		dev.Free(x)
	}

	batch, targets := benchBatch(c, 16, min(128, c.MaxPositions))
	pass, grad := m.NewPass(), m.NewGrad()
	weights := make([]float64, len(targets.IDs))
	measure("forward and backward, 16 sequences × 128", "tokens/s", float64(len(batch.IDs)), func() error {
		pass.Forward(batch)
		fwd := pass.Classify(targets)
		pass.Backward(grad, llama.Loss{Targets: targets, Fwd: fwd, LogProb: weights})
		return dev.Sync()
	})
	pass.Free()
	grad.Free()

	eng := engine.New(m, nil, engine.Options{})
	defer eng.Close()
	prompt, chain := batch.IDs[:16], min(96, c.MaxPositions-32)
	for _, k := range []int{1, 16} {
		r := engine.Request{Prompt: prompt, N: k, MaxChain: chain, Sampling: engine.Sampling{Temperature: 1}}
		measure(fmt.Sprintf("sampling, %d at once", k), "tokens/s", float64(k*chain), func() error {
			_, err := eng.Generate(e.ctx, []engine.Request{r}, nil)
			return err
		})
	}
	chains := make([][]int32, 8)
	for i := range chains {
		chains[i] = batch.IDs[:chain]
	}
	r := engine.Request{Prompt: prompt, Forced: chains, Reference: batch.IDs[:16]}
	measure("scoring 8 chains of one question", "chains/s", 8, func() error {
		_, err := eng.Generate(e.ctx, []engine.Request{r}, nil)
		return err
	})
	return list, errors.Join(failed, e.ctx.Err())
}

// benchBatch is n sequences of arbitrary tokens, each predicting the next.
func benchBatch(c llama.Config, n, length int) (llama.Batch, llama.Targets) {
	var b llama.Batch
	var t llama.Targets
	for s := range n {
		first := len(b.IDs)
		b.Seqs = append(b.Seqs, device.Seq{Q: device.Span{Start: first, Len: length}, Own: first})
		for i := range length {
			b.IDs = append(b.IDs, int32((s*31+i*7)%c.Vocab))
			b.Pos = append(b.Pos, int32(i))
			t.Rows = append(t.Rows, int32(first+i))
			t.IDs = append(t.IDs, int32((s*17+i*5)%c.Vocab))
		}
	}
	return b, t
}

func median(x []float64) float64 {
	s := append([]float64(nil), x...)
	slices.Sort(s)
	return s[len(s)/2]
}
