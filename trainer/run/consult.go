package run

import (
	"context"

	"nrt/backend/engine"
	"nrt/trainer/objective"
)

// needsRef tells whether the objective asks for the policy before training.
func (t *trainer) needsRef() bool {
	return t.c.Objective.KL != 0 || t.c.Objective.FixedBaseline
}

// needsBase tells whether a run that goes on needs the model that it started from.
func (t *trainer) needsBase() bool { return t.needsRef() || t.c.LoRA.On() }

// baseIs says what for.
func (t *trainer) baseIs() string {
	if t.c.LoRA.On() {
		return "the weights beside its LoRA factors"
	}
	return "the reference policy"
}

// Consult has the policy from before training score rollouts: its baseline, for
// FixedBaseline, and with kl its log-probabilities of the chains. These are at temperature
// 1, and mean something beside rollouts of that temperature alone.
func Consult(ctx context.Context, ref *engine.Engine, l Layout, kl bool, rolls []Rollout) error {
	if err := checkAll(ref.Model().Config, rolls); err != nil {
		return err
	}
	reqs := make([]engine.Request, len(rolls))
	for i, r := range rolls {
		reqs[i] = engine.Request{Prompt: r.Prompt, Close: l.Close, Reference: r.Answer, Baseline: true, Forced: [][]int32{}}
		if kl {
			for _, c := range r.Chains {
				reqs[i].Forced = append(reqs[i].Forced, engine.IDsOf(c.Tokens))
			}
		}
	}
	results, err := ref.Generate(ctx, reqs, nil)
	if err != nil {
		return err
	}
	for i, r := range results {
		rolls[i].RefBaseline, rolls[i].Ref = engine.LogProbsOf(r.Baseline), nil
		for k, c := range r.Chains {
			if c.Closed = rolls[i].Chains[k].Closed; c.Closed {
				c.Boundary = nil // forced here after a chain that spelt its boundary in other tokens
			}
			chain, boundary := split(c, l.Close)
			rolls[i].Ref = append(rolls[i].Ref, objective.RefLogProbs{Chain: engine.LogProbsOf(chain), Boundary: engine.LogProbsOf(boundary)})
		}
	}
	return nil
}
