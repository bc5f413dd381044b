package run

import (
	"context"
	"math"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
)

// The ids of tinyLearner's model that mean something.
const (
	endID   = 0
	closeID = 9
)

// tinyLearner is a learner in float64 for a model of 13 tokens, sharp enough for
// its chains to differ, at learning rate lr.
func tinyLearner(t *testing.T, c objective.Config, lr float64) *Learner {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Type: cpu.Float64})
	if err != nil {
		t.Fatal(err)
	}
	m, err := llama.New(dev, llama.Config{
		ModelType: "llama", Vocab: 13, Hidden: 16, Intermediate: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8,
		MaxPositions: 64, RMSEps: 1e-5, RopeTheta: 100, TieEmbeddings: true,
	}, 5)
	if err != nil {
		t.Fatal(err)
	}
	w := make([]float32, m.NumParams())
	dev.Read(w, m.Flat())
	for i := range w {
		if w[i] != 1 {
			w[i] *= 6
		}
	}
	dev.Write(m.Flat(), w)
	obj, err := objective.New(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLearner(m, obj, optim.Options{Beta1: .9, Beta2: .95, Eps: 1e-8, WeightDecay: 0.1}, optim.Schedule{Kind: "constant", LR: lr, Total: 1000})
	if err != nil {
		t.Fatal(err)
	}
	l.Close = []int32{closeID}
	t.Cleanup(func() {
		l.Free()
		m.Free()
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// tinyQuestions are n questions with answers of different lengths.
func tinyQuestions(n int) []Question {
	var list []Question
	for i := range n {
		answer := append([]int32{4, 8, 2, 7, 1}[:1+i%5], endID)
		list = append(list, Question{Prompt: []int32{1, 5, int32(i % 13), 7}, Answer: answer, Seed: uint64(100 + i), Index: i})
	}
	return list
}

// tinyRollouts are k chains of each, which end in all three ways.
func tinyRollouts(t *testing.T, l *Learner, questions []Question, k int) []Rollout {
	t.Helper()
	e := engine.New(l.Model, nil, engine.Options{})
	defer e.Close()
	rolls, err := NewLocal(e, Layout{
		K: k, Sampling: engine.Sampling{Temperature: 1}, MaxChain: 5, Close: l.Close, PolicyStops: []int32{endID},
		End: []int32{endID}, Answer: l.Objective.State().Method.Verifies(), Baseline: true,
	}).Rollout(context.Background(), questions, 0)
	if err != nil {
		t.Fatal(err)
	}
	return rolls
}

func mustLearn(t *testing.T, l *Learner, rolls []Rollout) (map[string]float64, *objective.Plan) {
	t.Helper()
	v, p, err := l.Learn(context.Background(), rolls)
	if err != nil {
		t.Fatal(err)
	}
	return v, p
}

// TestPackedIsSampled: a training pass gives every token, drawn or forced, the
// log-probability that it had in the rollout, also where a stop token was drawn
// and the boundary stands in its place.
func TestPackedIsSampled(t *testing.T) {
	l := tinyLearner(t, objective.DefaultConfig(objective.NRT), 0)
	ends := map[string]int{}
	for i, r := range tinyRollouts(t, l, tinyQuestions(6), 4) {
		p := pack([]group{l.trainable(r, i)}, 1)
		l.pass.Forward(p.batch)
		drawn, forced := l.pass.Classify(p.drawn).LogProb, l.pass.Classify(p.forced).LogProb
		next := func(from *[]float64, what string, k int, want []engine.Token) {
			t.Helper()
			for j, w := range want {
				if have := (*from)[j]; math.Abs(have-w.LogProb) > 1e-10 {
					t.Errorf("question %d chain %d: %s token %d: %.12g in training, %.12g in the rollout", i, k, what, j, have, w.LogProb)
				}
			}
			*from = (*from)[len(want):]
		}
		for k, c := range r.Chains {
			ends[c.Finish]++
			next(&drawn, "chain", k, c.Tokens)
			next(&forced, "boundary", k, c.Boundary)
			next(&forced, "reference", k, c.Reference)
		}
		if len(drawn)+len(forced) > 0 {
			t.Errorf("question %d: %d tokens too many", i, len(drawn)+len(forced))
		}
	}
	if ends["close"]*ends["stop"]*ends["length"] == 0 {
		t.Errorf("chains end as %v: the test needs all sorts", ends)
	}
}

// TestLossOfMiniBatches: at a learning rate of 0 the loss of SFT is the mean
// negative log-probability of the answers' tokens, in however many updates.
func TestLossOfMiniBatches(t *testing.T) {
	l := tinyLearner(t, objective.DefaultConfig(objective.SFT), 0)
	questions := tinyQuestions(7)
	want, n := 0.0, 0
	e := engine.New(l.Model, nil, engine.Options{})
	defer e.Close()
	for _, q := range questions {
		ids := append(append(append([]int32{}, q.Prompt...), closeID), q.Answer...)
		scored, err := e.LogProbs(context.Background(), ids, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range scored[len(q.Prompt)+1:] {
			want -= tok.LogProb
			n++
		}
	}
	want /= float64(n)
	rolls, err := NewSupervised(l.Close).Rollout(context.Background(), questions, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, mini := range []int{0, 1, 2, 4, 7} {
		for _, epochs := range []int{1, 3} {
			l.MiniBatch, l.Epochs = mini, epochs
			if v, _ := mustLearn(t, l, rolls); math.Abs(v["loss"]-want) > 1e-10 {
				t.Errorf("mini-batches of %d, %d passes: loss %.10g, want %.10g", mini, epochs, v["loss"], want)
			}
		}
	}
}
