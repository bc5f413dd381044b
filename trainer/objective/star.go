package objective

// STaR: sample an answer after each chain, keep what came out right, and train
// on it as if it were data. Weight 1 on the chain, its boundary (forced or not)
// and the answer of a kept sample; the others are not part of the batch, so
// length_norm token and sequence divide by kept tokens alone. Forced boundaries
// apart, this is in expectation (with length_norm constant) the gradient of
// E_z[P(y*|x, z)], since the weight is 1[y = y*] with y sampled: VeriFree's
// objective with a coin thrown where VeriFree uses the probability, and no
// baseline.

func presetSTaR(c *Config) {
	c.LengthNorm = NormToken
}

func checkSTaR(c Config) error { return only("token_loss", Derived, c.TokenLoss) }

func planSTaR(p *Plan, _ *State) error {
	rewards := p.matches()
	for i, r := range rewards {
		for k, x := range r {
			if x == 0 {
				p.signals[i][k] = signal{out: true}
				continue
			}
			p.signals[i][k] = signal{trace: 1, force: 1, token: ones(len(p.groups[i].Samples[k].Answer))}
		}
	}
	p.describeRewards(rewards, nil)
	return nil
}

// matches is the exact-match reward of every sample, 1 or 0.
func (p *Plan) matches() [][]float64 {
	r := make([][]float64, len(p.groups))
	for i, g := range p.groups {
		r[i] = make([]float64, len(g.Samples))
		for k, s := range g.Samples {
			if s.Matched {
				r[i][k] = 1
			}
		}
	}
	return r
}

func ones(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = 1
	}
	return x
}
