package objective

import "math"

const (
	vocab   = 3
	answers = 2
)

// toy has three tokens. A chain is any string of tokens 1 and 2, ended by token
// 0 (the boundary) or cut off at depth tokens, when the boundary is forced. The
// reference answer is two tokens whose probabilities are a table of their own
// per chain. Every logit is a parameter, so all chains can be enumerated and
// J(θ) = E[R] computed exactly, and its gradient by central differences, which
// know nothing of policy gradients.
type toy struct {
	depth  int
	states [][]int // every prefix, also those where the boundary is forced
	chains []toyChain
}

type toyChain struct {
	tokens []int
	closed bool
	states []int // before each token, then before the boundary
}

func newToy(depth int) *toy {
	w := &toy{depth: depth}
	var grow func(prefix, states []int)
	grow = func(prefix, states []int) {
		id := len(w.states)
		w.states = append(w.states, prefix)
		path := append(append([]int(nil), states...), id)
		w.chains = append(w.chains, toyChain{tokens: prefix, closed: len(prefix) < depth, states: path})
		if len(prefix) == depth {
			return
		}
		for v := 1; v < vocab; v++ {
			grow(append(append([]int(nil), prefix...), v), path)
		}
	}
	grow(nil, nil)
	return w
}

// chainParams is where the answers' parameters begin.
func (w *toy) chainParams() int { return len(w.states) * vocab }
func (w *toy) params() int      { return w.chainParams() + len(w.chains)*answers*vocab }

// answerAt is where the logits of answer token i after chain z begin. The
// reference is token 1, then 2.
func (w *toy) answerAt(z, i int) int { return w.chainParams() + (z*answers+i)*vocab }

func logSoftmax(logits []float64, v int) float64 {
	return logits[v] - logMeanExp(logits, -1) - math.Log(float64(len(logits)))
}

// addGrad adds x·∇ log softmax(logits)[v].
func addGrad(grad, logits []float64, v int, x float64) {
	for u := range logits {
		grad[u] -= x * math.Exp(logSoftmax(logits, u))
	}
	grad[v] += x
}

func entropy(logits []float64) float64 {
	h := 0.0
	for v := range logits {
		l := logSoftmax(logits, v)
		h -= math.Exp(l) * l
	}
	return h
}

// addEntropyGrad adds x·∇H: ∂H/∂ℓ_v = −p_v (log p_v + H).
func addEntropyGrad(grad, logits []float64, x float64) {
	h := entropy(logits)
	for v := range logits {
		l := logSoftmax(logits, v)
		grad[v] -= x * math.Exp(l) * (l + h)
	}
}

func at(theta []float64, state int) []float64 { return theta[state*vocab : (state+1)*vocab] }

// view is the chain's log-probabilities, as a rollout would report them.
func (w *toy) view(theta []float64, z int) Sample {
	c := &w.chains[z]
	s := Sample{Closed: c.closed}
	for t, v := range c.tokens {
		s.Chain = append(s.Chain, logSoftmax(at(theta, c.states[t]), v))
	}
	s.Boundary = []float64{logSoftmax(at(theta, c.states[len(c.tokens)]), 0)}
	for i := range answers {
		o := w.answerAt(z, i)
		s.Answer = append(s.Answer, logSoftmax(theta[o:o+vocab], 1+i))
	}
	return s
}

// prob is the probability of sampling chain z.
func (w *toy) prob(theta []float64, z int) float64 {
	s, l := w.view(theta, z), 0.0
	for _, x := range s.Chain {
		l += x
	}
	if s.Closed {
		l += s.Boundary[0]
	}
	return math.Exp(l)
}

// backward adds x·(Σ w ∇log π + Σ entropy weight·∇H): what a trainer would do.
func (w *toy) backward(grad, theta []float64, z int, wt Weights, x float64) {
	c := &w.chains[z]
	for t, v := range c.tokens {
		g, l := at(grad, c.states[t]), at(theta, c.states[t])
		addGrad(g, l, v, x*wt.Chain[t])
		addEntropyGrad(g, l, x*wt.ChainEntropy)
	}
	last := c.states[len(c.tokens)]
	addGrad(at(grad, last), at(theta, last), 0, x*wt.Boundary[0])
	addEntropyGrad(at(grad, last), at(theta, last), x*wt.BoundaryEntropy)
	for i := range answers {
		o := w.answerAt(z, i)
		addGrad(grad[o:o+vocab], theta[o:o+vocab], 1+i, x*wt.Answer[i])
	}
}
