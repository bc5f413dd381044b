package objective

// RLVR: GRPO with a verifier that accepts only the reference's text. Reward 1 if
// the answer sampled after the chain equals it, normalised in the group.
//
// # Departure
//
// GRPO would put A_k on the tokens of the sampled answer y_k as well. Here the
// answer's gradient is written with the *reference* tokens, which the trainer
// has anyway: 1[y_k = y*]/σ on y*, uncentred. σ apart, both estimate
// E_y[1[y = y*] ∇log π(y)], of which centring returns (K−1)/K (reward/group.go):
// a wrong answer contributes only through the baseline, whose expectation is 0.
// That is so where y_k is drawn at temperature 1. An answer that is right in other
// tokens, or in the part that is compared, is taught in the reference's, as in
// STaR. TokenLoss off leaves the chain alone.

func presetRLVR(c *Config) { c.Ratio = true }

func planRLVR(p *Plan, next *State) error {
	rewards := p.matches()
	spreads := p.advantages(next, rewards)
	for i, r := range rewards {
		for k, x := range r {
			token := make([]float64, len(p.groups[i].Samples[k].Answer))
			if d := spreads[i].Divisor; d > 0 {
				for t := range token {
					token[t] = x / d
				}
			}
			p.signals[i][k].token = token
		}
	}
	p.describeRewards(rewards, spreads)
	return nil
}
