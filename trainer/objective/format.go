package objective

// The format loss is the cross-entropy of the closing boundary after chains that
// did not emit it: the model must learn to end its chain. A chain that closed
// itself is never in it, and its boundary is trained by the chain's advantage.
//
// The formula of the method adds 0.3·ℒ_fmt beside the normalised terms: ℒ_fmt is
// then the mean over the boundary's tokens, averaged over the K chains and N
// groups (a chain that closed itself counts as 0), and does not shrink with C.
// The authors' recipe sums over the boundary's tokens and divides by C like
// everything else; Config.FormatPerLength does that.
//
// # Departure
//
//  1. A chain that ended itself with end-of-text keeps it as the action that was
//     drawn, with the chain's advantage, but nothing reads it: boundary and
//     reference follow the token before. The format loss so teaches to close
//     where the chain stopped. The tempting boundary after end-of-text teaches
//     what is never sampled, and scores the reference in a text that has ended.

// format fills the weights of a forced boundary.
func (p *Plan) format(w []float64, group int, scale float64) {
	if len(w) == 0 || p.cfg.Format == 0 {
		return
	}
	x := p.cfg.Format * scale
	if !p.cfg.FormatPerLength {
		x = p.cfg.Format / (float64(p.kept) * float64(len(p.groups[group].Samples)) * float64(len(w)))
	}
	for i := range w {
		w[i] = x
	}
}
