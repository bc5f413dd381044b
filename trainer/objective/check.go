package objective

import (
	"errors"
	"fmt"
	"math"
)

// limit bounds what counts as a log-probability: ratios and sums of anything
// larger would overflow, and no model gives it.
const limit = 1e100

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// NotFiniteError is a log-probability that no sound model gives.
type NotFiniteError struct {
	Name  string // whose tokens these are
	Token int
	Value float64
}

func (e *NotFiniteError) Error() string {
	return fmt.Sprintf("%s token %d: want a log-probability (finite, ≤ 0), have %v", e.Name, e.Token, e.Value)
}

func checkLogProbs(name string, s []float64) error {
	for i, x := range s {
		if !(x >= -limit && x <= 1e-3) {
			return &NotFiniteError{Name: name, Token: i, Value: x}
		}
	}
	return nil
}

// check refuses a rollout that cannot be planned.
func (o *Objective) check(groups []Group) error {
	if len(groups) == 0 {
		return errors.New("no groups")
	}
	for i := range groups {
		g := &groups[i]
		if len(g.Samples) == 0 {
			return fmt.Errorf("group %d: no samples", i)
		}
		if o.cfg.KL > 0 && len(g.Ref) != len(g.Samples) {
			return fmt.Errorf("group %d: kl > 0 wants reference log-probs of %d chains, have %d", i, len(g.Samples), len(g.Ref))
		}
		for k := range g.Samples {
			if err := o.checkSample(g, k); err != nil {
				return fmt.Errorf("group %d: chain %d: %w", i, k, err)
			}
		}
	}
	return nil
}

func (o *Objective) checkSample(g *Group, k int) error {
	s := &g.Samples[k]
	if err := errors.Join(checkLogProbs("chain", s.Chain), checkLogProbs("boundary", s.Boundary), checkLogProbs("answer", s.Answer)); err != nil {
		return err
	}
	if o.cfg.KL == 0 {
		return nil
	}
	ref := &g.Ref[k]
	if len(ref.Chain) != len(s.Chain) {
		return fmt.Errorf("reference log-probs: want %d chain tokens, have %d", len(s.Chain), len(ref.Chain))
	}
	if s.Closed && len(ref.Boundary) != len(s.Boundary) {
		return fmt.Errorf("reference log-probs: want %d boundary tokens, have %d", len(s.Boundary), len(ref.Boundary))
	}
	return errors.Join(checkLogProbs("reference chain", ref.Chain), checkLogProbs("reference boundary", ref.Boundary))
}

// check panics on lengths, the caller's mistake, and reports values.
func (now *Current) check(s *Sample) error {
	if len(now.Chain) != len(s.Chain) {
		panic(fmt.Sprintf("objective: current log-probs of %d chain tokens for a chain of %d", len(now.Chain), len(s.Chain)))
	}
	if s.Closed && len(now.Boundary) != len(s.Boundary) {
		panic(fmt.Sprintf("objective: current log-probs of %d boundary tokens for a boundary of %d", len(now.Boundary), len(s.Boundary)))
	}
	return errors.Join(checkLogProbs("current chain", now.Chain), checkLogProbs("current boundary", now.Boundary))
}
