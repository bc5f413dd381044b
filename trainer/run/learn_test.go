package run

import (
	"context"
	"math"
	"reflect"
	"slices"
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

// weightsOf is the policy's parameters.
func weightsOf(l *Learner) []float64 {
	w := make([]float64, l.Model.NumParams())
	l.Model.Device().Read64(w, l.Model.Flat())
	return w
}

// TestFilteredGroups: questions that do not count make no updates, those that do
// weigh the same in whatever mini-batch, and the learning rate goes on as if all
// had counted.
func TestFilteredGroups(t *testing.T) {
	c := objective.DefaultConfig(objective.RLPR)
	c.FixedBaseline, c.FilterFrom, c.FilterBeta = false, 2, 1.35
	l := tinyLearner(t, c, 0)
	rolls := tinyRollouts(t, l, tinyQuestions(8), 4)
	norms := map[int]float64{}
	for step, mini := range []int{8, 8, 2, 6} { // the first has nothing to compare with
		l.MiniBatch = mini
		before := l.Optim.Updates()
		v, p := mustLearn(t, l, rolls)
		counted := 0
		for i := range rolls {
			if p.Counts(i) {
				counted++
			}
		}
		if step > 0 && (counted == 0 || counted > 6 || counted%2 == 0) {
			t.Fatalf("step %d: %d of 8 questions count: the test needs an odd number below 7", step, counted)
		}
		if have, want := l.Optim.Updates()-before, (counted+mini-1)/mini; have != want {
			t.Errorf("mini-batches of %d, %d questions count: %d updates, want %d", mini, counted, have, want)
		}
		norms[step] = v["grad_norm"]
	}
	if math.Abs(norms[1]-norms[3]) > 1e-12*norms[1] {
		t.Errorf("one mini-batch of 8 and one of 6: gradients of %g and %g", norms[1], norms[3])
	}

	c.FilterFrom, c.FilterBeta = 0, 1e6
	l = tinyLearner(t, c, 1e-3)
	l.Schedule.Kind, l.Schedule.Total = "linear", 20
	l.MiniBatch, l.Epochs = 3, 2 // 6 updates a step
	for step := range 3 {
		before := weightsOf(l)
		v, _ := mustLearn(t, l, rolls)
		if step == 0 { // there is no average yet
			if l.Optim.Updates() != 6 {
				t.Fatalf("%d updates", l.Optim.Updates())
			}
			continue
		}
		if l.Optim.Updates() != 6 || v["grad_norm"] != 0 || v["loss"] != 0 || v["num_tokens"] != 0 {
			t.Errorf("step %d, nothing counts: %d updates, gradient %g, loss %g, %g tokens", step+1, l.Optim.Updates(), v["grad_norm"], v["loss"], v["num_tokens"])
		}
		if want := l.Schedule.At(6*step + 1); v["learning_rate"] != want {
			t.Errorf("step %d: learning rate %g, want %g", step+1, v["learning_rate"], want)
		}
		if !slices.Equal(weightsOf(l), before) {
			t.Errorf("step %d: the weights have moved", step+1)
		}
	}

	l = tinyLearner(t, objective.DefaultConfig(objective.NRT), 1e-3)
	tie := append([]Rollout{}, rolls[:4]...)
	for i := range tie[:3] { // chains that tie and close by themselves have no weights
		c := tie[i].Chains[0]
		c.Closed, c.Finish, c.Boundary = true, "close", nil
		c.Tokens = append(append([]engine.Token{}, c.Tokens...), engine.Token{ID: closeID, LogProb: -1})
		c.Reference = tie[i].Baseline
		tie[i].Chains = []engine.Chain{c, c, c}
	}
	l.MiniBatch, l.Epochs = 1, 1
	if _, p := mustLearn(t, l, tie); l.Optim.Updates() != 1 || !p.Counts(0) {
		t.Errorf("three of four questions have no weight: %d updates, want 1", l.Optim.Updates())
	}
}

// TestCounts: tokens are counted once, in however many passes over a rollout, and
// right answers only where answers are sampled.
func TestCounts(t *testing.T) {
	for _, m := range []objective.Method{objective.NRT, objective.RLVR} {
		l := tinyLearner(t, objective.DefaultConfig(m), 0)
		rolls := tinyRollouts(t, l, tinyQuestions(4), 3)
		want := 0.0
		for _, l.Epochs = range []int{1, 2} {
			v, _ := mustLearn(t, l, rolls)
			if want == 0 {
				want = v["num_tokens"]
			}
			if v["num_tokens"] != want || want == 0 {
				t.Errorf("%s: %g tokens in %d passes, %g in one", m, v["num_tokens"], l.Epochs, want)
			}
			if _, ok := v["nrt/matched"]; ok != m.Verifies() {
				t.Errorf("%s: nrt/matched: %v", m, ok)
			}
		}
	}
}

// TestSplitGroups: a question that is longer than a pass may be takes several, none
// of them longer, to the same gradient, and counts the same tokens.
func TestSplitGroups(t *testing.T) {
	c := objective.DefaultConfig(objective.NRT)
	c.Entropy = 0.01
	l := tinyLearner(t, c, 0)
	rolls := tinyRollouts(t, l, tinyQuestions(5), 6)
	longest, all := 0, 0
	for i, r := range rolls {
		g := l.trainable(r, i)
		all = max(all, g.tokens())
		for _, s := range g.samples {
			longest = max(longest, len(g.prompt)+s.tokens())
		}
		for _, limit := range []int{1, longest, 2 * longest, g.tokens() - 1, g.tokens()} {
			var samples []sample
			parts := g.split(limit)
			for j, p := range parts {
				if p.tokens() > limit && len(p.samples) > 1 || !slices.Equal(p.prompt, g.prompt) || p.again != (j > 0) {
					t.Errorf("at most %d tokens: part %d of %d has %d, again %v", limit, j, len(parts), p.tokens(), p.again)
				}
				samples = append(samples, p.samples...)
			}
			if !reflect.DeepEqual(samples, g.samples) || (len(parts) == 1) != (limit >= g.tokens()) {
				t.Errorf("at most %d tokens: %d parts of %d have other samples", limit, len(parts), g.tokens())
			}
		}
	}
	gradient := func(limit int) ([]float64, map[string]float64) {
		l.MicroRows = limit
		fresh, err := objective.New(c)
		if err != nil {
			t.Fatal(err)
		}
		l.Objective = fresh
		v, _ := mustLearn(t, l, rolls)
		g := make([]float64, l.Model.NumParams())
		l.Model.Device().Read64(g, l.grad.Flat)
		return g, v
	}
	want, values := gradient(1 << 20)
	for _, limit := range []int{1, longest, all - 1} {
		got, v := gradient(limit)
		d, n := 0.0, 0.0
		for i := range want {
			d, n = d+(got[i]-want[i])*(got[i]-want[i]), n+want[i]*want[i]
		}
		if !(math.Sqrt(d) < 1e-10*math.Sqrt(n)) {
			t.Errorf("passes of %d tokens: the gradient differs by %g of %g", limit, math.Sqrt(d), math.Sqrt(n))
		}
		for name, x := range values {
			if math.Abs(v[name]-x) > 1e-9*(1+math.Abs(x)) {
				t.Errorf("passes of %d tokens: %s %g, want %g", limit, name, v[name], x)
			}
		}
	}
}

// TestRightAnswers: answers are compared as Right says, and those that are sampled
// have room for another tokenisation of the reference, as far as the model has.
func TestRightAnswers(t *testing.T) {
	l := tinyLearner(t, objective.DefaultConfig(objective.RLVR), 0)
	questions := tinyQuestions(4)
	questions[1].Answer = append(make([]int32, 20), endID)
	questions[2].Prompt = make([]int32, 64-6-10)
	questions[2].Answer = append(make([]int32, 8), endID)
	e := engine.New(l.Model, nil, engine.Options{})
	defer e.Close()
	rolls, err := NewLocal(e, Layout{K: 8, MaxChain: 5, Close: l.Close, End: []int32{12}, Answer: true}).Rollout(context.Background(), questions, 0)
	if err != nil {
		t.Fatal(err)
	}
	longest := make([]int, len(rolls))
	for i, r := range rolls {
		for _, c := range r.Chains {
			longest[i] = max(longest[i], len(c.Answer))
		}
	}
	if want := []int{3, 32, 10, 8}; !slices.Equal(longest, want) {
		t.Errorf("references of 2, 21, 9 and 5 tokens, the third with room for 10: answers of %v, want %v", longest, want)
	}
	spelled := rolls[0]
	spelled.Chains = slices.Clone(spelled.Chains)
	spelled.Chains[0].Answer = []engine.Token{{ID: 3}, {ID: 3}, {ID: endID}}
	spelled.Chains[1].Answer = nil
	if s := l.observe(spelled).Samples; s[0].Matched || s[1].Matched {
		t.Error("other ids are right")
	}
	l.Right = func(answer, reference []int32) bool { // 3 3 is how one may spell 4
		return slices.Equal(answer, []int32{3, 3, endID}) && slices.Equal(reference, []int32{4, endID})
	}
	if s := l.observe(spelled).Samples; !s[0].Matched || s[1].Matched {
		t.Errorf("spelled otherwise: %v; not sampled: %v", s[0].Matched, s[1].Matched)
	}
}

// TestConsultBoundaryInOtherTokens: a chain whose boundary was found by its text has it
// in its own tokens, whichever these are, for the reference policy too, which agrees
// with the policy before the first update.
func TestConsultBoundaryInOtherTokens(t *testing.T) {
	c := objective.DefaultConfig(objective.NRT)
	c.KL = 0.1
	l := tinyLearner(t, c, 1e-3)
	l.Close = []int32{closeID, 3}
	layout := Layout{Close: l.Close, Baseline: true}
	e := engine.New(l.Model, nil, engine.Options{})
	defer e.Close()
	q := tinyQuestions(1)[0]
	r := layout.Request(q)
	r.Forced = [][]int32{{6, 11, 12}, {6, closeID, 3}, {6, 11}}
	results, err := e.Generate(context.Background(), []engine.Request{r}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rolls := []Rollout{{Question: q, Result: results[0]}}
	chains := rolls[0].Chains
	// 11 12 is how one may spell closeID 3.
	spelt := r
	spelt.Close, spelt.Baseline, spelt.Forced = nil, false, r.Forced[:1]
	if results, err = e.Generate(context.Background(), []engine.Request{spelt}, nil); err != nil {
		t.Fatal(err)
	}
	chains[0] = results[0].Chains[0]
	chains[0].Closed, chains[0].Finish = true, "close"
	chains[2].Finish = "length"
	if err := Consult(context.Background(), e, layout, true, rolls); err != nil {
		t.Fatal(err)
	}
	for k, ref := range rolls[0].Ref {
		if want := engine.LogProbsOf(chains[k].Tokens); !slices.Equal(ref.Chain, want) {
			t.Errorf("chain %d: reference log-probs %v, want %v", k, ref.Chain, want)
		}
		if want := engine.LogProbsOf(chains[k].Boundary); !slices.Equal(ref.Boundary, want) {
			t.Errorf("chain %d: reference log-probs of the boundary %v, want %v", k, ref.Boundary, want)
		}
	}
	v, _ := mustLearn(t, l, rolls)
	if kl := v["kl"]; !(math.Abs(kl) < 1e-20) {
		t.Errorf("the divergence of the policy from itself is %g", kl)
	}
}
