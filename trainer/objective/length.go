package objective

// normalize sets 1/(N·K·C) of every sample. n_k counts the sample's tokens that
// the method trains: chain, own boundary, answer.
//
//	constant   C = LengthConstant            a long chain weighs more, as in Dr. GRPO
//	token      C = (Σ n)/(Σ K) over the batch: 1/(N·K·C) is 1/(all tokens)  DAPO
//	sequence   C = n_k                       every chain weighs the same, GRPO
//
// Trace and token term of a chain share one C: they are two halves of one
// gradient, and dividing them by different lengths would change their balance.
func (p *Plan) normalize() {
	p.scale = make([][]float64, len(p.groups))
	tokens := 0
	for i := range p.groups {
		for k := range p.groups[i].Samples {
			tokens += p.length(i, k)
		}
	}
	for i, g := range p.groups {
		p.scale[i] = make([]float64, len(g.Samples))
		nk := float64(p.kept) * float64(len(g.Samples))
		for k := range g.Samples {
			n := p.length(i, k)
			switch {
			case p.signals[i][k].out || (n == 0 && p.cfg.LengthNorm != NormConstant):
			case p.cfg.LengthNorm == NormConstant:
				p.scale[i][k] = 1 / (nk * p.cfg.LengthConstant)
			case p.cfg.LengthNorm == NormToken:
				p.scale[i][k] = 1 / float64(tokens)
			default:
				p.scale[i][k] = 1 / (nk * float64(n))
			}
		}
	}
}

// length is n_k, 0 for a sample that is out.
func (p *Plan) length(i, k int) int {
	s, sig := &p.groups[i].Samples[k], &p.signals[i][k]
	if sig.out {
		return 0
	}
	n := 0
	if p.cfg.Method != SFT {
		n = len(s.Chain)
		if s.Closed || sig.force != 0 {
			n += len(s.Boundary)
		}
	}
	if sig.token != nil {
		n += len(s.Answer)
	}
	return n
}
