package objective

import "nrt/trainer/reward"

// RLPR (OpenBMB/RLPR): the mean probability of the answer's tokens as a reward
// in an otherwise ordinary GRPO. With B and A the am reward after the chain and
// after no chain at all, as the model was before training,
//
//	r = 0.9·max(0, B − A) + 0.1·format
//
// normalised in the group; the chain alone is trained. From step 11, groups with
// std(r) < β·EMA(std) are dropped, where the average is over the earlier steps.
//
// # Departures from the published code
//
//  1. format is 1 when the chain closed itself: that is all there is to get
//     wrong here.
//  2. The average runs from the first step (theirs starts at step 6).
//  3. Dropped groups are dropped, not resampled; N counts the others.
//  4. Clipping is the clamp and drop of weights.go, which also bounds r·A for
//     A < 0 and r > 1.27.
//  5. No penalty for repetition.

func presetRLPR(c *Config) {
	c.Reward.Mode = reward.AM
	c.TokenLoss = Off
	c.Ratio, c.ClipLow, c.ClipHigh = true, 0.2, 0.27
	c.LengthNorm = NormToken
	c.FixedBaseline = true
	c.FormatReward, c.FilterBeta = 0.1, 0.5
}

func checkRLPR(c Config) error {
	if err := only("reward.mode", reward.AM, c.Reward.Mode); err != nil {
		return err
	}
	return only("token_loss", Off, c.TokenLoss)
}

func planRLPR(p *Plan, next *State) error {
	scored, err := p.score()
	if err != nil {
		return err
	}
	rewards := make([][]float64, len(p.groups))
	for i, g := range scored {
		rewards[i] = make([]float64, len(g.Chains))
		for k, c := range g.Chains {
			gain := c.Clipped
			if g.ZeroVariance {
				gain = g.Mean // they differ by rounding, of A and B and not of what is left of them
			}
			rewards[i][k] = (1 - p.cfg.FormatReward) * gain
			if p.groups[i].Samples[k].Closed {
				rewards[i][k] += p.cfg.FormatReward
			}
		}
	}
	spreads := p.advantages(next, rewards)

	bar := 0.0
	if next.Step >= p.cfg.FilterFrom {
		bar = p.cfg.FilterBeta * next.Std.Value()
	}
	mean := 0.0
	for i, s := range spreads {
		mean += s.Sigma / float64(len(spreads))
		if s.Sigma >= bar {
			continue
		}
		p.kept--
		for k := range p.signals[i] {
			p.signals[i][k] = signal{out: true}
		}
	}
	next.Std.Update(mean)
	p.describeScored(scored)
	p.describeRewards(rewards, spreads)
	p.metrics["nrt/filtered_groups"] = 1 - float64(p.kept)/float64(len(p.groups))
	return nil
}

// advantages sets the trace coefficients to the normalised rewards.
func (p *Plan) advantages(next *State, rewards [][]float64) []reward.Spread {
	spreads := make([]reward.Spread, len(rewards))
	sigmas := make([]float64, len(rewards))
	a := make([][]float64, len(rewards))
	for i, r := range rewards {
		a[i] = make([]float64, len(r))
		sigmas[i] = reward.Advantages(a[i], r, 0, p.cfg.Reward.NoStd).Sigma
	}
	floor := p.floor(next, sigmas)
	for i, r := range rewards {
		spreads[i] = reward.Advantages(a[i], r, floor, p.cfg.Reward.NoStd)
		for k := range r {
			p.signals[i][k].trace = a[i][k]
		}
	}
	return spreads
}
