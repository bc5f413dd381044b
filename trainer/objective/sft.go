package objective

// SFT trains the reference answer straight after the question: weight 1 on each
// answer token, nothing on a chain, normalised per token over the batch. lm
// does the same to every token of the text (Chain, Boundary and Answer), for
// pretraining. Neither samples anything: a group is one example, and only the
// lengths of its slices are read.

func presetSFT(c *Config) {
	c.TokenLoss, c.LengthNorm = NLL, NormToken
}

func checkSFT(c Config) error { return only("token_loss", NLL, c.TokenLoss) }

func planSFT(*Plan, *State) error { return nil } // nll sets the token weights

func planLM(p *Plan, _ *State) error {
	for i := range p.signals {
		for k := range p.signals[i] {
			p.signals[i][k] = signal{trace: 1, force: 1}
		}
	}
	return nil
}
