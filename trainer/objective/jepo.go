package objective

import (
	"fmt"
	"math"
)

// JEPO (arXiv 2503.19618) raises a lower bound of log π(y*|x) that is tighter
// the more chains share it:
//
//	J = E_{z_1…z_K}[ log (1/K) Σ_k P_k ]
//	∇J = E[ Σ_k (log mean_j P_j − log mean_{j≠k} P_j) ∇log π(z_k) + Σ_k (P_k/Σ_j P_j) Σ_i ∇s_ik ]
//
// The second logarithm does not depend on z_k, so it may be subtracted. The sums
// over k have no 1/K; the coefficients below hold a K that cancels the one in
// the normaliser. Everything is computed from L_k = Σ s_ik, so long answers do
// not underflow.

func planJEPO(p *Plan, _ *State) error {
	bounds, logP := make([]float64, len(p.groups)), make([][]float64, len(p.groups))
	for i, g := range p.groups {
		k := float64(len(g.Samples))
		if k < 2 {
			return fmt.Errorf("group %d: jepo needs at least 2 chains, have %d", i, len(g.Samples))
		}
		l := make([]float64, len(g.Samples))
		for j, s := range g.Samples {
			for _, x := range s.Answer {
				l[j] += x
			}
		}
		bounds[i] = logMeanExp(l, -1)
		for j, s := range g.Samples {
			share := math.Exp(l[j] - bounds[i])
			token := make([]float64, len(s.Answer))
			for t := range token {
				token[t] = share
			}
			others := logMeanExp(l, j)
			p.signals[i][j] = signal{trace: k * (bounds[i] - others), token: token}
		}
		logP[i] = l
	}
	p.describeRewards(logP, nil)
	p.metrics["reward"] = mean(bounds)
	return nil
}

// logMeanExp is log of the mean of e^{l_j} without the term at skip (-1: with all).
// Of equal terms it is that term to the last bit, so that chains that tie have no
// trace weight at all, and not one of a random sign.
func logMeanExp(l []float64, skip int) float64 {
	top := math.Inf(-1)
	for j, x := range l {
		if j != skip {
			top = max(top, x)
		}
	}
	sum, n := 0.0, 0.0
	for j, x := range l {
		if j != skip {
			sum += math.Exp(x - top)
			n++
		}
	}
	return top + math.Log(sum/n)
}
