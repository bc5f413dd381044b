package run

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
)

// MicroRows is how many tokens a forward pass takes by default: enough for the
// matrix products' full speed, and few enough that what one operation writes is
// still in a cache when the next one reads it. A card has no such cache, and wants
// CardRows.
const (
	MicroRows = 1024
	CardRows  = 8192
)

// Learner turns rollouts into optimizer updates: rewards → a weight per token →
// backward → AdamW. It holds the policy's gradient and activations.
type Learner struct {
	Model     *llama.Model
	Optim     *optim.AdamW
	Objective *objective.Objective
	Schedule  optim.Schedule
	MiniBatch int     // questions per update; 0 = all of a rollout
	Epochs    int     // passes over a rollout; 0 = 1
	MicroRows int     // tokens in one forward pass, more only for a single chain; 0 = 1024
	InvTemp   float64 // 1/temperature of the rollouts
	Close     []int32 // the boundary, as the rollouts have it
	// Right tells whether a sampled answer is the reference; nil compares ids.
	Right     func(answer, reference []int32) bool
	Recompute bool // keep only layers' inputs; see llama.Pass
	// KeepLogits is of how many tokens of a pass to keep the logits; see llama.Pass.
	KeepLogits int

	pass *llama.Pass
	grad *llama.Grad
}

// NewLearner prepares gradient and optimizer for a model, which must not be
// read-only. The fields that a Learner has beside them are the caller's to set:
// Close and InvTemp as the rollouts have them, the others where zero does not do.
func NewLearner(m *llama.Model, obj *objective.Objective, o optim.Options, s optim.Schedule) (*Learner, error) {
	if err := m.Trainable(); err != nil {
		return nil, err
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	grad := m.NewGrad()
	o.FlatGrad = grad.Flat
	var params []optim.Param
	for i, p := range m.Learned() {
		params = append(params, optim.Param{Name: p.Name, Value: p.Value, Grad: grad.Params[i].Value, Decay: p.Decay})
	}
	adam, err := optim.New(m.Device(), params, o)
	if err != nil {
		grad.Free()
		return nil, err
	}
	return &Learner{Model: m, Optim: adam, Objective: obj, Schedule: s, InvTemp: 1, pass: m.NewPass(), grad: grad}, nil
}

// Free gives gradient, activations and moments back.
func (l *Learner) Free() {
	l.pass.Free()
	l.grad.Free()
	l.Optim.Free()
}

// Learn makes the updates of one batch of rollouts and returns its metrics
// under TRL's names, ours under nrt/. Mini-batches are made of the questions that
// count; where these are few, or where none of a mini-batch has a weight, fewer
// updates are made. The learning rate is that of the progress through the run all
// the same: the updates that were not made are left out of the schedule. Those that were
// made when ctx ends stay.
func (l *Learner) Learn(ctx context.Context, rolls []Rollout) (map[string]float64, *objective.Plan, error) {
	if err := cmp.Or(ctx.Err(), checkAll(l.Model.Config, rolls)); err != nil {
		return nil, nil, err
	}
	groups := make([]objective.Group, len(rolls))
	for i, r := range rolls {
		groups[i] = l.observe(r)
	}
	plan, err := l.Objective.Plan(groups)
	if err != nil {
		return nil, nil, err
	}
	mini, epochs := l.MiniBatch, max(1, l.Epochs)
	if mini <= 0 || mini > len(rolls) {
		mini = len(rolls)
	}
	var counted []int
	for i := range rolls {
		if plan.Counts(i) {
			counted = append(counted, i)
		}
	}
	before := (l.Objective.State().Step - 1) * epochs * ((len(rolls) + mini - 1) / mini)
	t := &totals{lr: l.Schedule.At(before + 1)}
	for t.epoch = range epochs {
		for batch := range slices.Chunk(counted, mini) {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			l.grad.Zero()
			weighted, err := l.accumulate(plan, rolls, batch, t)
			if err != nil {
				return nil, nil, err
			}
			if !weighted {
				continue
			}
			lr := l.Schedule.At(before + t.updates + 1)
			norm, err := l.Optim.Step(lr, float64(len(counted))/float64(len(batch)))
			if err != nil {
				return nil, nil, err
			}
			t.update(lr, norm)
		}
	}
	// Each pass over the rollout sums its whole loss, in however many updates.
	t.loss /= float64(epochs)
	m := t.metrics(rolls)
	maps.Copy(m, plan.Metrics())
	return m, plan, nil
}

// accumulate adds the gradient of the given rollouts, as many at a time as MicroRows
// allows, and tells whether any of their tokens has a weight.
func (l *Learner) accumulate(plan *objective.Plan, rolls []Rollout, batch []int, t *totals) (weighted bool, err error) {
	limit := cmp.Or(l.MicroRows, MicroRows)
	var part []group
	rows := 0
	flush := func() error {
		any, err := l.backward(plan, part, t)
		weighted = weighted || any
		part, rows = part[:0], 0
		return err
	}
	for _, i := range batch {
		for _, g := range l.trainable(rolls[i], i).split(limit) {
			n := g.tokens()
			if rows > 0 && rows+n > limit {
				if err := flush(); err != nil {
					return weighted, err
				}
			}
			part = append(part, g)
			rows += n
		}
	}
	if err := flush(); err != nil {
		return weighted, err
	}
	return weighted, l.Model.Device().Sync()
}

// backward reads packed groups, asks the objective for each token's weight under
// the current policy and backpropagates the weights, if there are any.
func (l *Learner) backward(plan *objective.Plan, groups []group, t *totals) (weighted bool, err error) {
	p := pack(groups, l.InvTemp)
	if len(p.samples) == 0 {
		return false, nil
	}
	l.pass.Recompute, l.pass.KeepLogits = l.Recompute, l.KeepLogits
	l.pass.Forward(p.batch)
	drawn, forced := l.pass.Classify(p.drawn), l.pass.Classify(p.forced)
	wDrawn, eDrawn := make([]float64, len(p.drawn.IDs)), make([]float64, len(p.drawn.IDs))
	wForced := make([]float64, len(p.forced.IDs))
	entropic := false
	d, f := 0, 0 // next sampled, next forced token
	for _, s := range p.samples {
		nc, nb, na := len(s.chain), len(s.boundary), len(s.answer)
		now := &objective.Current{Chain: drawn.LogProb[d : d+nc], Boundary: forced.LogProb[f:]}
		if s.closed {
			now.Boundary = drawn.LogProb[d+nc:]
		}
		now.Boundary = now.Boundary[:nb]
		w, stats, err := plan.Weights(s.group, s.index, now)
		if err != nil {
			return false, err
		}
		t.add(stats)
		put := func(to []float64, logp, w []float64) {
			copy(to, w)
			for i, v := range w {
				t.loss -= v * logp[i]
			}
		}
		bonus := func(at, n int, v float64) {
			for i := at; v != 0 && i < at+n; i++ {
				entropic = true
				eDrawn[i] = v
				t.loss -= v * drawn.Entropy[i]
			}
		}
		put(wDrawn[d:], drawn.LogProb[d:], w.Chain)
		bonus(d, nc, w.ChainEntropy)
		d += nc
		if s.closed {
			put(wDrawn[d:], drawn.LogProb[d:], w.Boundary)
			bonus(d, nb, w.BoundaryEntropy)
			d += nb
		} else {
			put(wForced[f:], forced.LogProb[f:], w.Boundary)
			f += nb
		}
		put(wForced[f:], forced.LogProb[f:], w.Answer)
		f += na
	}
	if t.epoch == 0 {
		t.trained += len(p.batch.IDs)
		for _, g := range groups {
			if g.again {
				t.trained -= len(g.prompt)
			}
		}
	}
	some := func(w []float64) bool { return slices.ContainsFunc(w, func(x float64) bool { return x != 0 }) }
	if !entropic && !some(wDrawn) && !some(wForced) {
		return false, nil
	}
	loss := llama.Loss{Targets: p.drawn, Fwd: drawn, LogProb: wDrawn}
	if entropic {
		loss.Entropy = eDrawn
	}
	l.pass.Backward(l.grad, loss, llama.Loss{Targets: p.forced, Fwd: forced, LogProb: wForced})
	return true, nil
}

// observe is what the objective needs to know of a rollout.
func (l *Learner) observe(r Rollout) objective.Group {
	g := objective.Group{Baseline: engine.LogProbsOf(r.Baseline), RefBaseline: r.RefBaseline, Ref: r.Ref}
	right := l.Right
	if right == nil {
		right = slices.Equal[[]int32]
	}
	for _, c := range r.Chains {
		chain, boundary := split(c, l.Close)
		g.Samples = append(g.Samples, objective.Sample{
			Chain: engine.LogProbsOf(chain), Closed: c.Closed, Boundary: engine.LogProbsOf(boundary),
			Answer: engine.LogProbsOf(c.Reference), Matched: len(c.Answer) > 0 && right(engine.IDsOf(c.Answer), r.Answer),
		})
	}
	return g
}

// trainable is the rollout's token ids.
func (l *Learner) trainable(r Rollout, index int) group {
	g := group{prompt: r.Prompt}
	for k, c := range r.Chains {
		chain, boundary := split(c, l.Close)
		g.samples = append(g.samples, sample{
			chain: engine.IDsOf(chain), boundary: engine.IDsOf(boundary), answer: r.Answer,
			closed: c.Closed, stopped: c.Finish == "stop", group: index, index: k,
		})
	}
	return g
}

// split parts a chain from its boundary, be it emitted or forced. A boundary
// found by its text has no ids of its own and stays in the chain.
func split(c engine.Chain, close []int32) (chain, boundary []engine.Token) {
	if n := len(c.Tokens); c.Closed && len(close) == 1 && c.Tokens[n-1].ID == close[0] {
		return c.Tokens[:n-1], c.Tokens[n-1:]
	}
	return c.Tokens, c.Boundary
}

// supervised "rolls out" the reference itself after the empty chain, without
// asking the model: what SFT and plain language modelling train on.
type supervised struct{ close []int32 }

// NewSupervised gives each question one sample: no chain, the boundary, the
// reference.
func NewSupervised(close []int32) Rollouts { return supervised{close} }

func (s supervised) Rollout(_ context.Context, questions []Question, version int) ([]Rollout, error) {
	out := make([]Rollout, len(questions))
	for i, q := range questions {
		c := engine.Chain{Boundary: unscored(s.close), Reference: unscored(q.Answer)}
		out[i] = Rollout{Question: q, Version: version, Result: engine.Result{Chains: []engine.Chain{c}}}
	}
	return out, nil
}

func unscored(ids []int32) []engine.Token {
	out := make([]engine.Token, len(ids))
	for i, id := range ids {
		out[i].ID = id
	}
	return out
}

// totals gather a step's metrics over its updates.
type totals struct {
	loss           float64
	epoch          int // pass over the rollout
	trained        int // tokens, in the first pass
	norms, lr      float64
	updates        int
	mismatch, clip objective.TokenStats
}

func (t *totals) update(lr, norm float64) {
	t.lr = lr
	t.norms += norm
	t.updates++
}

// add takes in a sample's statistics. Before the first update the policy is
// still the one that sampled, and what differs is the mismatch of sampler and
// trainer: 0 up to rounding when both are right.
func (t *totals) add(s objective.TokenStats) {
	if t.updates == 0 {
		t.mismatch.Add(s)
	}
	t.clip.Add(s)
}

// metrics names the totals as TRL does.
func (t *totals) metrics(rolls []Rollout) map[string]float64 {
	m := map[string]float64{
		"loss": t.loss, "grad_norm": t.norms / float64(max(1, t.updates)),
		"learning_rate": t.lr, "num_tokens": float64(t.trained),
	}
	n, tokens, entropy, clipped, shortest, longest := 0, 0, 0.0, 0, math.MaxInt, 0
	for _, r := range rolls {
		for _, c := range r.Chains {
			if len(c.Tokens) == 0 {
				continue
			}
			n++
			tokens += len(c.Tokens)
			shortest, longest = min(shortest, len(c.Tokens)), max(longest, len(c.Tokens))
			for _, tok := range c.Tokens {
				entropy += tok.Entropy
			}
			if c.Finish == "length" {
				clipped++
			}
		}
	}
	if n > 0 {
		m["completions/mean_length"] = float64(tokens) / float64(n)
		m["completions/min_length"], m["completions/max_length"] = float64(shortest), float64(longest)
		m["completions/clipped_ratio"] = float64(clipped) / float64(n)
		m["entropy"] = entropy / float64(tokens)
	}
	maps.Copy(m, t.clip.Metrics())
	if s := t.mismatch; s.Tokens > 0 {
		k := float64(s.Tokens)
		m["sampling/sampling_logp_difference/mean"], m["sampling/sampling_logp_difference/max"] = s.AbsLogSum/k, s.AbsLogMax
		m["sampling/importance_sampling_ratio/mean"], m["sampling/importance_sampling_ratio/max"] = s.RatioSum/k, s.RatioMax
	}
	return m
}
