package objective

import (
	"fmt"

	"nrt/trainer/reward"
)

// NRT (arXiv 2602.11549): R is a function of the reference answer's token
// probabilities after the chain, and both factors of E_z[R(z, θ)] are
// differentiated:
//
//	∇J = E[ R ∇log π(z) + Σ_i g_i ∇s_i ]
//
// trace coefficient A_k = (R'_k − μ)/σ, token coefficient G_ik = g'_ik/σ.
//
// # Departures from the paper
//
//  1. σ ← max(σ, average of σ), Config.SigmaFloor, on by default. The average is
//     an EMA (0.99 per step, this step included) of the mean σ of the groups
//     that have one: groups that tie are not divided by anything, and would only
//     drag the floor down as training sharpens the policy.
//  2. Config.TokenCap bounds G, off by default.
//  3. TokenLoss nll replaces G by 1, as the authors' main runs did.
//
// reward/group.go, weights.go and format.go list theirs.

func presetNRT(c *Config) {
	c.SigmaFloor, c.Ratio, c.Format = true, true, 0.3
}

// planNRT also serves verifree, which is a choice of options.
func planNRT(p *Plan, next *State) error {
	scored, err := p.score()
	if err != nil {
		return err
	}
	sigmas := make([]float64, len(scored))
	for i := range scored {
		sigmas[i] = scored[i].Sigma
	}
	floor := p.floor(next, sigmas)
	for i := range scored {
		g := &scored[i]
		if floor > 0 {
			g.Normalize(floor)
		}
		for k, c := range g.Chains {
			p.signals[i][k] = signal{trace: c.Advantage, token: c.TokenWeight}
		}
	}
	p.describeScored(scored)
	return nil
}

// score scores every group's chains against the baseline the configuration names.
func (p *Plan) score() ([]reward.Group, error) {
	scored := make([]reward.Group, len(p.groups))
	for i, g := range p.groups {
		b, name := g.Baseline, "baseline"
		if p.cfg.FixedBaseline {
			b, name = g.RefBaseline, "baseline from before training"
		}
		if len(b) == 0 {
			return nil, fmt.Errorf("group %d: no %s", i, name)
		}
		s := make([][]float64, len(g.Samples))
		for k := range s {
			s[k] = g.Samples[k].Answer
		}
		if err := scored[i].Score(s, b, p.cfg.Reward); err != nil {
			return nil, fmt.Errorf("group %d: %w", i, err)
		}
	}
	return scored, nil
}

// floor takes this step's σ of every group into the average and returns the
// floor to divide by, 0 for none.
func (p *Plan) floor(next *State, sigmas []float64) float64 {
	if !p.cfg.SigmaFloor || p.cfg.Reward.NoStd {
		return 0
	}
	var sum, n float64
	for _, s := range sigmas {
		if s > 0 {
			sum += s
			n++
		}
	}
	if n > 0 {
		next.Sigma.Update(sum / n)
	}
	p.metrics["nrt/sigma_floor"] = next.Sigma.Value()
	return next.Sigma.Value()
}
