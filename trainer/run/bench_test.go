package run

import (
	"context"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
	"nrt/trainer/world"
	"nrt/trainer/world/models"
)

// benchModel is a Llama of 3.48M parameters with random weights.
func benchModel(b *testing.B) *llama.Model {
	b.Helper()
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		b.Fatal(err)
	}
	m, err := llama.New(dev, llama.Config{
		ModelType: "llama", Vocab: 1024, Hidden: 256, Intermediate: 704, Layers: 4, Heads: 8, KVHeads: 8, HeadDim: 32,
		MaxPositions: 512, RMSEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true,
	}, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		m.Free()
		if err := dev.Close(); err != nil {
			b.Error(err)
		}
	})
	return m
}

// arbitrary is n token ids below 1024.
func arbitrary(n, salt int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32((salt*31 + i*i*7 + i*131) % 1024)
	}
	return out
}

func tokensPerSecond(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "tok/s")
}

// newBenchLearner is a learner for a policy gradient on what the model drew.
func newBenchLearner(b *testing.B, m *llama.Model) *Learner {
	b.Helper()
	obj, err := objective.New(objective.DefaultConfig(objective.NRT))
	if err != nil {
		b.Fatal(err)
	}
	l, err := NewLearner(m, obj, optim.Options{Beta1: .9, Beta2: .95, Eps: 1e-8, MaxGradNorm: 1},
		optim.Schedule{Kind: "constant", LR: 1e-6, Total: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.Free)
	return l
}

// step is one update on packed groups, with weight 1 on every token.
func (l *Learner) step(b *testing.B, passes ...packed) {
	l.grad.Zero()
	for _, p := range passes {
		l.pass.Forward(p.batch)
		var losses []llama.Loss
		for _, t := range []llama.Targets{p.drawn, p.forced} {
			weights := make([]float64, len(t.IDs))
			for i := range weights {
				weights[i] = 1
			}
			losses = append(losses, llama.Loss{Targets: t, Fwd: l.pass.Classify(t), LogProb: weights})
		}
		l.pass.Backward(l.grad, losses...)
	}
	if _, err := l.Optim.Step(1e-6, 1); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStep is a training step, forward, backward and AdamW, over 16
// sequences of 128 tokens.
func BenchmarkStep(b *testing.B) {
	l := newBenchLearner(b, benchModel(b))
	var groups []group
	for i := range 16 {
		// One token more: the last one is only predicted.
		groups = append(groups, group{prompt: arbitrary(1, i), samples: []sample{{answer: arbitrary(128, i)}}})
	}
	// As Learn does, in passes of MicroRows.
	half := len(groups) / 2
	passes := []packed{pack(groups[:half], 1), pack(groups[half:], 1)}
	l.step(b, passes...)
	for b.Loop() {
		l.step(b, passes...)
	}
	tokensPerSecond(b, 16*128)
}

// BenchmarkGroup is a training step over 8 sequences of one question: prompt
// 128, chain 64, answer 16 tokens. "shared" computes the prompt's rows once,
// "apart" for each sequence.
func BenchmarkGroup(b *testing.B) {
	const k = 8
	shared := group{prompt: arbitrary(128, 0)}
	var apart []group
	for i := range k {
		s := sample{chain: arbitrary(64, i+1), answer: arbitrary(16, i+20), index: i}
		shared.samples = append(shared.samples, s)
		apart = append(apart, group{prompt: shared.prompt, samples: []sample{s}})
	}
	for _, c := range []struct {
		name   string
		groups []group
	}{{"shared", []group{shared}}, {"apart", apart}} {
		b.Run(c.name, func(b *testing.B) {
			l := newBenchLearner(b, benchModel(b))
			p := pack(c.groups, 1)
			l.step(b, p)
			for b.Loop() {
				l.step(b, p)
			}
			b.ReportMetric(k*float64(b.N)/b.Elapsed().Seconds(), "sequences/s")
		})
	}
}

// BenchmarkWorld is a step of NRT on the small world, 16 questions × 8 chains:
// what sampling and scoring cost, and what learning from it costs.
func BenchmarkWorld(b *testing.B) {
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := dev.Close(); err != nil {
			b.Error(err)
		}
	}()
	files, err := models.Open("world:base")
	if err != nil {
		b.Fatal(err)
	}
	m, err := llama.Load(dev, files)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Free()
	tok, err := token.LoadFS(files)
	if err != nil {
		b.Fatal(err)
	}
	f, err := tok.Format("world")
	if err != nil {
		b.Fatal(err)
	}
	w := world.New(1)
	var questions []Question
	for i, it := range w.Train(16, 1) {
		questions = append(questions, Question{Prompt: f.Prompt(it.Question), Answer: f.Answer(it.Answer), Seed: uint64(i), Index: i})
	}
	e := engine.New(m, nil, engine.Options{})
	defer e.Close()
	r := NewLocal(e, Layout{K: 8, Sampling: engine.Sampling{Temperature: 1}, MaxChain: 20, Close: f.Close, End: f.End, PolicyStops: f.End, Baseline: true})
	rolls, err := r.Rollout(context.Background(), questions, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("rollout", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Rollout(context.Background(), questions, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("learn", func(b *testing.B) {
		l := newBenchLearner(b, m)
		l.Close = f.Close
		for b.Loop() {
			if _, _, err := l.Learn(context.Background(), rolls); err != nil {
				b.Fatal(err)
			}
		}
	})
}
