package run

import (
	"context"
	"math"

	"nrt/backend/engine"
	"nrt/trainer/objective"
	"nrt/trainer/reward"
)

// needsRef tells whether the objective asks for the policy before training.
func (t *trainer) needsRef() bool {
	return t.c.Objective.KL != 0 || t.c.Objective.FixedBaseline
}

// Consult has the policy from before training score rollouts: its baseline, for
// FixedBaseline, and with kl its log-probabilities of the chains.
func Consult(ctx context.Context, ref *engine.Engine, l Layout, kl bool, rolls []Rollout) error {
	reqs := make([]engine.Request, len(rolls))
	for i, r := range rolls {
		reqs[i] = engine.Request{Prompt: r.Prompt, Close: l.Close, Reference: r.Answer, Baseline: true, Forced: [][]int32{}}
		if kl {
			for _, c := range r.Chains {
				reqs[i].Forced = append(reqs[i].Forced, ids(c.Tokens))
			}
		}
	}
	results, err := ref.Generate(ctx, reqs, nil)
	if err != nil {
		return err
	}
	for i, r := range results {
		rolls[i].RefBaseline = logProbs(r.Baseline)
		for k, c := range r.Chains {
			c.Closed = rolls[i].Chains[k].Closed
			chain, boundary := split(c, l.Close)
			rolls[i].Ref = append(rolls[i].Ref, objective.RefLogProbs{Chain: logProbs(chain), Boundary: logProbs(boundary)})
		}
	}
	return nil
}

// describe lays out the first chains of a step for people to read. Rewards are
// those of the configured mode, before the σ floor.
func (t *trainer) describe(rolls []Rollout) []Completion {
	var list []Completion
	for g, r := range rolls {
		if len(list) >= t.c.Output.Completions || len(r.Baseline) == 0 {
			break
		}
		s := make([][]float64, len(r.Chains))
		for k, c := range r.Chains {
			s[k] = logProbs(c.Reference)
		}
		scored, err := reward.ScoreGroup(s, logProbs(r.Baseline), t.c.Objective.Reward)
		if err != nil {
			continue // the objective has refused the same numbers before
		}
		b := probabilities(r.Baseline)
		for k, c := range r.Chains {
			list = append(list, Completion{
				Question: t.tok.Decode(r.Prompt, false), Group: g, Chain: k,
				Text: t.tok.Decode(ids(c.Tokens), false), Closed: c.Closed,
				Reference: t.format.AnswerText(r.Answer), Answer: t.format.AnswerText(ids(c.Answer)),
				R: scored.Chains[k].R, Base: scored.Base, Clipped: scored.Chains[k].Clipped, Advantage: scored.Chains[k].Advantage,
				C: probabilities(c.Reference), B: b,
			})
		}
	}
	return list
}

func probabilities(tokens []engine.Token) []float64 {
	out := make([]float64, len(tokens))
	for i, t := range tokens {
		out[i] = math.Exp(t.LogProb)
	}
	return out
}
