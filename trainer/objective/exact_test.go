package objective

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"nrt/trainer/reward"
)

// tuples calls visit with every K-tuple of 0…n−1.
func tuples(n, k int, visit func([]int)) {
	t := make([]int, k)
	for {
		visit(t)
		i := 0
		for i < k && t[i]+1 == n {
			t[i] = 0
			i++
		}
		if i == k {
			return
		}
		t[i]++
	}
}

// estimate is the expected gradient of the package's weights: all K-tuples of
// chains (and of right and wrong sampled answers when the method looks at them),
// sampled from old, trained at theta (old == nil: on-policy).
func (w *toy) estimate(t *testing.T, c Config, theta, old []float64, k int, b []float64, ref []float64) []float64 {
	t.Helper()
	grad := make([]float64, w.params())
	from := theta
	if old != nil {
		from = old
	}
	outcomes := len(w.chains)
	if c.Method.Verifies() {
		outcomes *= 2
	}
	tuples(outcomes, k, func(tuple []int) {
		p := 1.0
		g := Group{Baseline: b, RefBaseline: b}
		for _, z := range tuple {
			s := w.view(from, z%len(w.chains))
			p *= w.prob(from, z%len(w.chains))
			if c.Method.Verifies() {
				right := math.Exp(s.Answer[0] + s.Answer[1])
				if s.Matched = z >= len(w.chains); s.Matched {
					p *= right
				} else {
					p *= 1 - right
				}
			}
			g.Samples = append(g.Samples, s)
			if ref != nil {
				r := w.view(ref, z%len(w.chains))
				g.Ref = append(g.Ref, RefLogProbs{Chain: r.Chain, Boundary: r.Boundary})
			}
		}
		o, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := o.Plan([]Group{g})
		if err != nil {
			t.Fatal(err)
		}
		for i, z := range tuple {
			var now *Current
			if old != nil {
				s := w.view(theta, z%len(w.chains))
				now = &Current{Chain: s.Chain, Boundary: s.Boundary}
			}
			wt, _, err := plan.Weights(0, i, now)
			if err != nil {
				t.Fatal(err)
			}
			w.backward(grad, theta, z%len(w.chains), wt, p)
		}
	})
	return grad
}

// central is the gradient of j by central differences of fourth order, over the
// parameters from … to only.
func central(j func([]float64) float64, theta []float64, from, to int) []float64 {
	const h = 1e-3
	g := make([]float64, len(theta))
	x := append([]float64(nil), theta...)
	for i := from; i < to; i++ {
		f := func(d float64) float64 {
			x[i] = theta[i] + d
			v := j(x)
			x[i] = theta[i]
			return v
		}
		g[i] = (8*(f(h)-f(-h)) - (f(2*h) - f(-2*h))) / (12 * h)
	}
	return g
}

// agree holds |got − want| ≤ 1e-6·|want| in the Euclidean norm.
func agree(t *testing.T, what string, got, want []float64) {
	t.Helper()
	var d, n float64
	for i := range want {
		d += (got[i] - want[i]) * (got[i] - want[i])
		n += want[i] * want[i]
	}
	if n == 0 {
		t.Fatalf("%s: the gradient is 0 and proves nothing", what)
	}
	e := math.Sqrt(d / n)
	t.Logf("%s: relative error %.1e", what, e)
	if !(e <= 1e-6) {
		t.Errorf("%s: relative error %.2e (|gradient| %.3g)", what, e, math.Sqrt(n))
	}
}

const exactSeed = 20260211

func (w *toy) random(stream uint64) []float64 {
	r := rand.New(rand.NewPCG(exactSeed, stream))
	theta := make([]float64, w.params())
	for i := range theta {
		theta[i] = 1.2 * r.NormFloat64()
	}
	return theta
}

// The baseline is a table of constants: b is detached.
var toyBase = []float64{math.Log(.35), math.Log(.2)}

// naive is R' as the table of package reward reads, by products of
// probabilities.
func naive(s []float64, o reward.Options) float64 {
	f := func(s []float64) float64 {
		t := float64(len(s))
		product, sum, norm := 1.0, 0.0, 0.0
		for i := range s {
			c, b := math.Exp(s[i]), math.Exp(toyBase[i])
			w := 1.0
			switch o.Mode {
			case reward.WSInvP:
				w = 1 / b
			case reward.WSLogP:
				w = -math.Log(b)
			}
			product *= c
			sum += w * c
			norm += w
		}
		switch {
		case o.Mode == reward.LogP:
			return math.Log(product)
		case o.Mode == reward.P:
			return product
		case o.Mode == reward.GM:
			return math.Pow(product, 1/t)
		case o.NormalizeWeights:
			return sum / norm
		}
		return sum / t
	}
	if o.Clip {
		return max(0, f(s)-f(toyBase))
	}
	return f(s)
}

// expect is E_z[f(z)] with chains drawn from theta.
func (w *toy) expect(theta []float64, f func(z int, s Sample) float64) float64 {
	j := 0.0
	for z := range w.chains {
		j += w.prob(theta, z) * f(z, w.view(theta, z))
	}
	return j
}

func likelihood(_ int, s Sample) float64 { return math.Exp(s.Answer[0] + s.Answer[1]) }

// bare is a method's configuration without what is not in its J: σ, format loss,
// filters, ratio; C = 1.
func bare(m Method) Config {
	c := DefaultConfig(m)
	c.Reward.NoStd = true
	c.SigmaFloor, c.Ratio, c.Format, c.FilterBeta = false, false, 0, 0
	c.LengthNorm, c.LengthConstant = NormConstant, 1
	return c
}

// TestExactNRT: for every reward, clipped or not, the centred group estimator
// with K/(K−1) is an unbiased estimate of ∇E[R'], trace and token term together.
func TestExactNRT(t *testing.T) {
	w := newToy(2)
	theta := w.random(0)
	for _, m := range reward.Modes() {
		for i := range 4 {
			o := reward.Options{Mode: m, Clip: i&1 != 0, NormalizeWeights: i&2 != 0, NoStd: true}
			if o.NormalizeWeights && m != reward.WSInvP && m != reward.WSLogP {
				continue
			}
			harmful := 0
			for z := range w.chains {
				if naive(w.view(theta, z).Answer, o) == 0 {
					harmful++
				}
			}
			if o.Clip && (harmful == 0 || harmful == len(w.chains)) {
				t.Fatalf("seed %d: %d of %d chains are clipped; the toy must have both kinds", exactSeed, harmful, len(w.chains))
			}
			want := central(func(x []float64) float64 {
				return w.expect(x, func(_ int, s Sample) float64 { return naive(s.Answer, o) })
			}, theta, 0, w.params())
			for _, k := range []int{2, 3} {
				if k == 3 && m != reward.WSLogP {
					continue
				}
				c := bare(NRT)
				c.Reward = o
				agree(t, fmt.Sprintf("nrt %+v K=%d", o, k), w.estimate(t, c, theta, nil, k, toyBase, nil), want)
			}
			// And chain by chain, without a group: Σ_z π(z) (R' ∇log π + Σ g' ∇s).
			got := make([]float64, w.params())
			for z := range w.chains {
				s := w.view(theta, z)
				r, err := reward.Score(s.Answer, toyBase, o)
				if err != nil {
					t.Fatal(err)
				}
				wt := Weights{Chain: make([]float64, len(s.Chain)), Boundary: make([]float64, 1), Answer: r.G}
				for j := range wt.Chain {
					wt.Chain[j] = r.Clipped
				}
				if s.Closed {
					wt.Boundary[0] = r.Clipped
				}
				w.backward(got, theta, z, wt, w.prob(theta, z))
			}
			agree(t, fmt.Sprintf("reward %+v", o), got, want)
		}
	}
}

// TestExactScales: λ, C and nll enter as the formula says.
func TestExactScales(t *testing.T) {
	w := newToy(2)
	theta := w.random(1)
	c := bare(NRT)
	c.LengthConstant, c.LambdaTrace, c.LambdaToken = 7, .5, 3
	c.TokenLoss = NLL
	split := w.chainParams()
	want := central(func(x []float64) float64 {
		return .5 / 7 * w.expect(x, func(_ int, s Sample) float64 { return naive(s.Answer, c.Reward) })
	}, theta, 0, split)
	// nll: the chains' distribution held fixed, 3/7 Σ s.
	nll := central(func(x []float64) float64 {
		j := 0.0
		for z := range w.chains {
			s := w.view(x, z)
			j += 3.0 / 7 * w.prob(theta, z) * (s.Answer[0] + s.Answer[1])
		}
		return j
	}, theta, split, w.params())
	copy(want[split:], nll[split:])
	agree(t, "λ, C, nll", w.estimate(t, c, theta, nil, 2, toyBase, nil), want)
}

func TestExactVeriFree(t *testing.T) {
	w := newToy(2)
	theta := w.random(2)
	want := central(func(x []float64) float64 { return w.expect(x, likelihood) }, theta, 0, w.params())
	agree(t, "verifree", w.estimate(t, bare(VeriFree), theta, nil, 2, toyBase, nil), want)
}

// TestExactJEPO enumerates the multi-sample bound itself.
func TestExactJEPO(t *testing.T) {
	w := newToy(2)
	theta := w.random(3)
	for _, k := range []int{2, 3} {
		bound := func(x []float64) float64 {
			p, l := make([]float64, len(w.chains)), make([]float64, len(w.chains))
			for z := range w.chains {
				p[z], l[z] = w.prob(x, z), likelihood(z, w.view(x, z))
			}
			j := 0.0
			tuples(len(w.chains), k, func(tuple []int) {
				q, sum := 1.0, 0.0
				for _, z := range tuple {
					q *= p[z]
					sum += l[z] / float64(k)
				}
				j += q * math.Log(sum)
			})
			return j
		}
		want := central(bound, theta, 0, w.params())
		agree(t, fmt.Sprintf("jepo K=%d", k), w.estimate(t, bare(JEPO), theta, nil, k, nil, nil), want)
	}
}

// TestExactRLPR: a reward is a constant to RLPR, so J moves with the chains'
// parameters alone.
func TestExactRLPR(t *testing.T) {
	w := newToy(2)
	theta := w.random(4)
	want := central(func(x []float64) float64 {
		return w.expect(x, func(z int, s Sample) float64 {
			r := .9 * naive(s.Answer, reward.Options{Mode: reward.AM, Clip: true})
			if s.Closed {
				r += .1
			}
			return r
		})
	}, theta, 0, w.chainParams())
	agree(t, "rlpr", w.estimate(t, bare(RLPR), theta, nil, 2, toyBase, nil), want)
}

// TestExactMatch: RLVR and STaR both climb the probability of a right answer.
func TestExactMatch(t *testing.T) {
	w := newToy(2)
	theta := w.random(5)
	want := central(func(x []float64) float64 { return w.expect(x, likelihood) }, theta, 0, w.params())
	for _, m := range []Method{RLVR, STaR} {
		got := w.estimate(t, bare(m), theta, nil, 2, nil, nil)
		if m == STaR {
			w.subtractForced(got, theta)
		}
		agree(t, string(m), got, want)
	}
	c := bare(RLVR)
	c.TokenLoss = Off
	trace := w.estimate(t, c, theta, nil, 2, nil, nil)
	clear(want[w.chainParams():])
	agree(t, "rlvr, trace only", trace, want)
}

// subtractForced removes what STaR adds to the gradient of E[P]: it trains the
// forced boundary of a kept chain like any token of its text.
func (w *toy) subtractForced(grad, theta []float64) {
	for z, c := range w.chains {
		if c.closed {
			continue
		}
		s := w.view(theta, z)
		wt := Weights{Chain: make([]float64, len(s.Chain)), Boundary: []float64{1}, Answer: make([]float64, answers)}
		w.backward(grad, theta, z, wt, -w.prob(theta, z)*likelihood(z, s))
	}
}

func TestExactSFT(t *testing.T) {
	w := newToy(2)
	theta := w.random(6)
	z := len(w.chains) - 1
	for _, m := range []Method{SFT, LM} {
		o, err := New(DefaultConfig(m))
		if err != nil {
			t.Fatal(err)
		}
		s := w.view(theta, z)
		p, err := o.Plan([]Group{{Samples: []Sample{s}}})
		if err != nil {
			t.Fatal(err)
		}
		wt, _, err := p.Weights(0, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float64, w.params())
		w.backward(got, theta, z, wt, 1)
		want := central(func(x []float64) float64 {
			s := w.view(x, z)
			j, n := s.Answer[0]+s.Answer[1], 2.0
			if m == LM {
				j, n = j+s.Chain[0]+s.Chain[1]+s.Boundary[0], 5
			}
			return j / n
		}, theta, 0, w.params())
		agree(t, string(m), got, want)
	}
}

// visits is how often a chain samples from each state, on average.
func (w *toy) visits(theta []float64) []float64 {
	n := make([]float64, len(w.states))
	for z, c := range w.chains {
		p := w.prob(theta, z)
		for t, s := range c.states {
			if t < len(c.tokens) || c.closed {
				n[s] += p
			}
		}
	}
	return n
}

// TestExactKLAndEntropy: with the states as given, the KL weight descends
// KL(π_ref‖π) and the entropy weight climbs H.
func TestExactKLAndEntropy(t *testing.T) {
	w := newToy(2)
	theta, ref := w.random(7), w.random(8)
	// k3 is cut off at a log-ratio of 20; the toy stays far from it.
	visits := w.visits(theta)
	off := bare(NRT)
	off.LambdaTrace, off.TokenLoss = 0, Off

	c := off
	c.KL = .3
	want := central(func(x []float64) float64 {
		j := 0.0
		for s, n := range visits {
			for v := range vocab {
				r := logSoftmax(at(ref, s), v)
				j -= .3 * n * math.Exp(r) * (r - logSoftmax(at(x, s), v))
			}
		}
		return j
	}, theta, 0, w.params())
	agree(t, "kl", w.estimate(t, c, theta, nil, 2, toyBase, ref), want)

	c = off
	c.Entropy = .7
	want = central(func(x []float64) float64 {
		j := 0.0
		for s, n := range visits {
			j += .7 * n * entropy(at(x, s))
		}
		return j
	}, theta, 0, w.params())
	agree(t, "entropy", w.estimate(t, c, theta, nil, 2, toyBase, nil), want)

	c = off
	c.Format = .3
	want = central(func(x []float64) float64 {
		j := 0.0
		for z, ch := range w.chains {
			if !ch.closed {
				j += .3 * w.prob(theta, z) * w.view(x, z).Boundary[0]
			}
		}
		return j
	}, theta, 0, w.params())
	for _, perLength := range []bool{false, true} {
		c.FormatPerLength = perLength
		agree(t, "format", w.estimate(t, c, theta, nil, 2, toyBase, nil), want)
	}
}

// TestExactOffPolicy: chains from another policy, trained at θ. With one sampled
// token per chain and a clip range that clips nothing, the ratio of the trace
// and ρ of the answer make the estimate exact at θ.
func TestExactOffPolicy(t *testing.T) {
	w := newToy(1)
	theta, old := w.random(9), w.random(10)
	copy(old[w.chainParams():], theta[w.chainParams():]) // the rewards are those of the rollout
	for _, m := range []reward.Mode{reward.WSLogP, reward.GM, reward.LogP} {
		c := bare(NRT)
		c.Reward.Mode = m
		c.Reward.Clip = false
		c.Ratio, c.ClipLow, c.ClipHigh = true, 1, 1e6
		want := central(func(x []float64) float64 {
			return w.expect(x, func(_ int, s Sample) float64 { return naive(s.Answer, c.Reward) })
		}, theta, 0, w.params())
		agree(t, "off-policy "+m.String(), w.estimate(t, c, theta, old, 2, toyBase, nil), want)
	}
}
