package reward

// Ranks are the chains' ranks by R before clipping, 1 for the best; chains with
// the same R share a rank and the next rank is skipped. p and gm are compared as
// logarithms, so ranks survive where R has underflowed.
func (g *Group) Ranks() []int {
	key := func(c *Scored) float64 {
		if g.o.Mode.Log() {
			return c.u
		}
		return c.R
	}
	r := make([]int, len(g.Chains))
	for i := range g.Chains {
		r[i] = 1
		for j := range g.Chains {
			if key(&g.Chains[j]) > key(&g.Chains[i]) {
				r[i]++
			}
		}
	}
	return r
}
