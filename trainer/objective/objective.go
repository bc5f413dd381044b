// Package objective turns scored chains into one weight per token. Every method
// of training here is such a weighting: the gradient is
//
//	−∇ℒ = Σ_t w_t ∇log π(token_t)  (+ entropy bonus)
//
// and nothing but w differs between NRT, SFT and RLVR. The trainer
// backpropagates the weights and sums; they already hold 1/groups, 1/K and the
// length normaliser 1/C.
//
// N groups (questions), K chains each. Per chain: sampled tokens z (the chain,
// and the closing boundary if the chain emitted it), reference answer y*.
//
//	method    weight of z_t            weight of y*_i        file
//	nrt       λ_tr·clip(r_t)·A         λ_tok·ρ·g'_i/σ        nrt.go, weights.go
//	sft       –                        1                     sft.go
//	lm        1                        1                     sft.go
//	rlpr      clip(r_t)·A of 0.9·am'+0.1·format   –          rlpr.go
//	verifree  P − mean of the others' P           P          verifree.go
//	jepo      K·(log mean P − log mean of the others' P)   K·P/ΣP   jepo.go
//	star      1[right]                 1[right]              star.go
//	rlvr      clip(r_t)·A of 1[right]  1[right]/σ            rlvr.go
//
// each over N·K·C. Added to every method when switched on: the format loss on a
// boundary that had to be forced (format.go), KL to a reference and an entropy
// bonus (kl.go). A and g' are package reward's.
//
// # Invariants
//
//   - Plan is called once per rollout and is the only thing that changes an
//     Objective; if it fails nothing has changed. Its inputs are kept, not copied.
//   - Plan.Weights is pure: any number of optimizer steps, any order, any number
//     of goroutines.
//   - Finite log-probabilities give finite weights. Anything else is an error
//     that names group, chain and token.
//
// Reading order: objective.go, nrt.go, weights.go, then the other methods. A new method
// is a function that fills Plan.signals, such as planRLVR, and its row of the table in
// config.go.
package objective

import (
	"fmt"
	"math"
	"slices"

	"nrt/trainer/reward"
)

// Sample is one chain of a rollout, as log-probabilities (nats) under the policy
// that sampled it. sft and lm look at lengths alone: zeros will do.
type Sample struct {
	// Chain is log π_old of each chain token, without the closing boundary, and
	// with the end-of-text that a chain may have ended with.
	Chain []float64
	// Closed: the chain emitted the boundary itself. Its Boundary is then part
	// of what was sampled, and trained like the chain: deciding to stop is an
	// action. Otherwise the boundary was forced and only the format loss sees it.
	Closed bool
	// Boundary is the log-probability of each token of the closing boundary.
	Boundary []float64
	// Answer is s_i, the reference answer's tokens with end-of-text.
	Answer []float64
	// Matched: the answer sampled after this chain says what the reference says.
	Matched bool
}

// RefLogProbs is a reference policy's view of one sample, for the KL term.
// Boundary is needed for chains that closed themselves.
type RefLogProbs struct{ Chain, Boundary []float64 }

// Group is the K chains of one question.
type Group struct {
	Samples []Sample
	// Baseline is log b_i, the answer after an empty chain. Needed by nrt, rlpr
	// (without FixedBaseline) and verifree.
	Baseline []float64
	// RefBaseline is Baseline as it was before training (Config.FixedBaseline).
	RefBaseline []float64
	// Ref holds one entry per sample, or nothing when Config.KL is 0.
	Ref []RefLogProbs
}

// Current is what the policy being trained gives a sample's tokens now, for
// later optimizer steps on one rollout. Lengths are those of the Sample;
// Boundary is needed when it is Closed.
type Current struct{ Chain, Boundary []float64 }

// Weights multiply log-probabilities: loss = −Σ w·log π − Σ entropy weight·H.
// A slice has one entry per token of the Sample, all 0 where nothing is learned.
type Weights struct {
	Chain, Boundary, Answer []float64
	// ChainEntropy multiplies the entropy at every chain token, BoundaryEntropy
	// that at every boundary token (0 unless the chain closed itself).
	ChainEntropy, BoundaryEntropy float64
}

// State is what a checkpoint must keep of an Objective. Floats survive JSON to
// the last bit.
type State struct {
	Method Method     `json:"method"`
	Step   int        `json:"step"` // rollouts planned so far
	Sigma  reward.EMA `json:"sigma"`
	Std    reward.EMA `json:"std"`
}

// Objective plans rollouts with one configuration. Not safe for concurrent use.
type Objective struct {
	cfg   Config
	state State
}

// New checks the configuration and starts at step 0.
func New(c Config) (*Objective, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	e := reward.EMA{Decay: c.EMADecay}
	return &Objective{cfg: c, state: State{Method: c.Method, Sigma: e, Std: e}}, nil
}

// State is the state to save.
func (o *Objective) State() State { return o.state }

// SetState goes on from a saved state.
func (o *Objective) SetState(s State) error {
	if s.Method != o.cfg.Method {
		return fmt.Errorf("objective state: method: want %q, have %q", o.cfg.Method, s.Method)
	}
	if s.Step < 0 {
		return fmt.Errorf("objective state: step: want ≥ 0, have %d", s.Step)
	}
	for _, e := range []struct {
		name string
		v    reward.EMA
	}{{"sigma", s.Sigma}, {"std", s.Std}} {
		if !finite(e.v.Sum) || !(e.v.Weight >= 0 && e.v.Weight <= 1) || !(e.v.Decay >= 0 && e.v.Decay < 1) || e.v.Sum < 0 {
			return fmt.Errorf("objective state: %s: not an average of deviations: %+v", e.name, e.v)
		}
	}
	o.state = s
	// The decay is the configuration's to change.
	o.state.Sigma.Decay, o.state.Std.Decay = o.cfg.EMADecay, o.cfg.EMADecay
	return nil
}

// signal is what a method has to say about one sample, before C, ratios and λ.
type signal struct {
	trace float64   // coefficient of every sampled token
	token []float64 // coefficient of every answer token, nil for none
	force float64   // coefficient of a forced boundary, beside the format loss
	out   bool      // not part of the batch: no weights, no length, no format loss
}

// Earned is what a chain earned and is trained with.
type Earned struct {
	// Reward is R (nrt, verifree), 0.9·Clipped + 0.1·format (rlpr), log P (jepo) or
	// 1[right] (star, rlvr).
	Reward float64
	// Base is R of the empty chain, and Clipped is R' = max(0, R − Base), or R
	// without clipping; NaN where a method has neither (jepo, star, rlvr).
	Base, Clipped float64
	// Trace multiplies the chain's tokens: A, where a method has one. It is 0 for
	// what is not part of the batch.
	Trace float64
}

// Plan is one rollout's rewards, turned into coefficients.
type Plan struct {
	cfg     Config
	groups  []Group
	earned  [][]Earned  // [group][sample], Trace apart
	signals [][]signal  // [group][sample]
	scale   [][]float64 // 1/(N·K·C)
	kept    int         // N
	metrics map[string]float64
}

// Earned is what a sample earned. Before ratios, lengths and λ.
func (p *Plan) Earned(group, sample int) Earned {
	e := p.earned[group][sample]
	e.Trace = p.signals[group][sample].trace
	if !p.cfg.Method.Scores() {
		e.Base, e.Clipped = math.NaN(), math.NaN()
	}
	return e
}

// Counts reports whether a group is part of the batch: rlpr's filter, and star
// where no answer is right, leave groups out, which have no weights at all. One
// whose chains tie counts, whatever weights it has.
func (p *Plan) Counts(group int) bool {
	return slices.ContainsFunc(p.signals[group], func(s signal) bool { return !s.out })
}

// Plan computes rewards, σ floor, filters and advantages of one rollout.
func (o *Objective) Plan(groups []Group) (*Plan, error) {
	if err := o.check(groups); err != nil {
		return nil, fmt.Errorf("objective: %w", err)
	}
	p := &Plan{cfg: o.cfg, groups: groups, kept: len(groups), metrics: map[string]float64{}}
	p.signals, p.earned = make([][]signal, len(groups)), make([][]Earned, len(groups))
	for i, g := range groups {
		p.signals[i], p.earned[i] = make([]signal, len(g.Samples)), make([]Earned, len(g.Samples))
	}
	next := o.state // a method changes next; an error leaves o as it was
	next.Step++
	if err := o.cfg.Method.row().plan(p, &next); err != nil {
		return nil, fmt.Errorf("objective: %w", err)
	}
	p.tokenLoss()
	p.normalize()
	p.describe()
	o.state = next
	return p, nil
}
