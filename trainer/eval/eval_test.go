package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/engine"
	"nrt/backend/llama"
)

const closeID, endID = 9, 0

func newEngine(t *testing.T) *engine.Engine {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Type: cpu.Float64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	m, err := llama.New(dev, llama.Config{
		ModelType: "llama", Vocab: 12, Hidden: 16, Intermediate: 24, Layers: 1, Heads: 2, KVHeads: 2, HeadDim: 8,
		MaxPositions: 64, RMSEps: 1e-5, RopeTheta: 100, TieEmbeddings: true,
	}, 5)
	if err != nil {
		t.Fatal(err)
	}
	w := make([]float64, m.NumParams())
	dev.Read64(w, m.Flat())
	for i := range w {
		if w[i] != 1 {
			w[i] *= 8
		}
	}
	dev.Write64(m.Flat(), w)
	return engine.New(m, nil, engine.Options{})
}

func items() []Item {
	var list []Item
	for i := range int32(5) {
		list = append(list, Item{Prompt: []int32{1, 2 + i, 3}, Reference: []int32{4, 5, endID}, Family: []string{"even", "odd"}[i%2]})
	}
	return list
}

func options() Options {
	return Options{MaxChain: 6, MaxAnswer: 4, Close: []int32{closeID}, End: []int32{endID}, Sampling: engine.Sampling{Temperature: 1}, Seed: 3}
}

// TestRunIsWhatTheEngineSays recomputes the report's means from the engine.
func TestRunIsWhatTheEngineSays(t *testing.T) {
	e := newEngine(t)
	list, o := items(), options()
	o.K = 3
	var last int64
	o.Progress = func(done, all int64) {
		if done < last || done > last+1 || all != 15 {
			t.Errorf("%d chains of %d are done, after %d", done, all, last)
		}
		last = done
	}
	got, err := Run(context.Background(), e, list, o)
	if err != nil {
		t.Fatal(err)
	}
	if last != 15 {
		t.Errorf("%d chains of 15 are done at the end", last)
	}
	var reqs []engine.Request
	for i, it := range list {
		reqs = append(reqs, engine.Request{
			Prompt: it.Prompt, N: 3, Sampling: o.Sampling, Seed: o.Request(it, i).Seed, MaxChain: o.MaxChain, Close: o.Close,
			Stop: o.End, Reference: it.Reference, Baseline: true,
		})
	}
	results, err := e.Generate(context.Background(), reqs, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ref, base, entropy float64
	tokens, closed := 0, 0
	for _, r := range results {
		for _, b := range r.Baseline {
			base += b.LogProb / 15
		}
		for _, c := range r.Chains {
			for _, x := range c.Reference {
				ref += x.LogProb / 45
			}
			for _, x := range c.Tokens {
				entropy += x.Entropy
				tokens++
			}
			if c.Closed {
				closed++
			}
		}
	}
	for name, x := range map[string][2]float64{
		"reference": {got.RefLogProb, ref}, "baseline": {got.BaseLogProb, base},
		"entropy": {got.ChainEntropy, entropy / float64(tokens)}, "length": {got.ChainLength, float64(tokens) / 15},
		"closed": {got.ClosedShare, float64(closed) / 15},
	} {
		if math.Abs(x[0]-x[1]) > 1e-12 {
			t.Errorf("%s: have %.15g, want %.15g", name, x[0], x[1])
		}
	}
	inBuckets := 0
	for i, h := range got.Hardness {
		want := Hardness{From: h.From, To: h.To}
		for _, r := range results {
			for _, c := range r.Chains {
				for j, x := range c.Reference {
					if b := math.Exp(r.Baseline[j].LogProb); b >= h.From && (b < h.To || h.To == 1) {
						want.Tokens++
						want.Base += b
						want.After += math.Exp(x.LogProb)
					}
				}
			}
		}
		n := float64(want.Tokens)
		if h.Tokens != want.Tokens || math.Abs(h.Base-want.Base/n) > 1e-12 || math.Abs(h.After-want.After/n) > 1e-12 || i > 0 && h.To > got.Hardness[i-1].From {
			t.Errorf("bucket %+v, want the sums %+v", h, want)
		}
		inBuckets += h.Tokens
	}
	gain, hards := 0.0, 0.0
	for _, r := range results {
		for _, c := range r.Chains {
			for j, x := range c.Reference {
				if b := math.Exp(r.Baseline[j].LogProb); b < 0.2 {
					gain += math.Exp(x.LogProb) - b
					hards++
				}
			}
		}
	}
	if have, ok := got.HardGain(); !ok || hards == 0 || math.Abs(have-gain/hards) > 1e-12 {
		t.Errorf("hard tokens gain %g, %v, want %g of %g", have, ok, gain/hards, hards)
	}
	if _, ok := (Report{Hardness: got.Hardness[:1]}).HardGain(); ok && got.Hardness[0].From >= 0.2 {
		t.Error("easy tokens are hard")
	}
	if inBuckets != 45 || len(got.Hardness) < 2 {
		t.Errorf("%d tokens of 45 are in %d buckets", inBuckets, len(got.Hardness))
	}
	if got.N != 5 || got.Accuracy != -1 || got.Families["even"].N != 3 || got.Families["odd"].Accuracy != -1 {
		t.Errorf("report %+v", got)
	}
}

// TestGradesOfChains recomputes what depends on a grader: shares of all and of families,
// the interval, and the kinds, which are of chains without their boundary.
func TestGradesOfChains(t *testing.T) {
	e := newEngine(t)
	list, o := items(), options()
	o.K = 4
	right := func(answer []int32) bool { return len(answer) > 0 && answer[0]%2 == 0 }
	kind := func(chain []int32) string { return fmt.Sprint(len(chain), slices.Contains(chain, closeID)) }
	var reqs []engine.Request
	for i := range list {
		list[i].Grade, list[i].Kind = right, kind
		reqs = append(reqs, o.Request(list[i], i))
	}
	got, err := Run(context.Background(), e, list, o)
	if err != nil {
		t.Fatal(err)
	}
	results, err := e.Generate(context.Background(), reqs, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, all, closed := map[string]float64{}, 0., 0
	rights, refs, kinds, shares := map[string]float64{}, map[string]float64{}, map[string]float64{}, []float64{}
	for i, r := range results {
		share, family := 0., list[i].Family
		for _, c := range r.Chains {
			ids := engine.IDsOf(c.Tokens)
			if c.Closed {
				closed++
				ids = ids[:len(ids)-1]
			}
			kinds[kind(ids)] += 1. / 20
			answer := engine.IDsOf(c.Answer)
			if right(slices.DeleteFunc(answer, func(id int32) bool { return id == endID })) {
				share += .25
			}
			for _, x := range c.Reference {
				refs[family] += x.LogProb
				n[family]++
			}
		}
		shares = append(shares, share)
		all += share / 5
		rights[family] += share
	}
	if closed == 0 || closed == 20 || all == 0 || all == 1 {
		t.Fatalf("%d of 20 chains closed, %g right: they tell nothing", closed, all)
	}
	low, high := wilson(all, independent(all, shares, 20))
	want := map[string][2]float64{"accuracy": {got.Accuracy, all}, "low": {got.Low, low}, "high": {got.High, high}}
	for family, items := range map[string]float64{"even": 3, "odd": 2} {
		want["accuracy of "+family] = [2]float64{got.Families[family].Accuracy, rights[family] / items}
		want["reference of "+family] = [2]float64{got.Families[family].RefLogProb, refs[family] / n[family]}
	}
	for name, share := range kinds {
		want["kind "+name] = [2]float64{got.Kinds[name], share}
	}
	for name, x := range want {
		if math.Abs(x[0]-x[1]) > 1e-12 {
			t.Errorf("%s is %.15g, want %.15g", name, x[0], x[1])
		}
	}
	if len(got.Kinds) != len(kinds) {
		t.Errorf("kinds %v, want %v", got.Kinds, kinds)
	}
}

// TestHardness: each token is in the bucket of its probability without a chain, whose
// lower edge is in it, and so is 1.
func TestHardness(t *testing.T) {
	tokens := func(p ...float64) (list []engine.Token) {
		for _, x := range p {
			list = append(list, engine.Token{LogProb: math.Log(x)})
		}
		return list
	}
	var all tally
	all.harder(tokens(1, .8, .7, .6, .1, .4, .5), tokens(1, .95, .89, .6, .25, .19, .06))
	all.harder(tokens(.3, .2, .9, .1), tokens(.04, .02, .009, 1e-30))
	want := []Hardness{
		{.9, 1, 2, .975, .9}, {.5, .9, 2, .745, .65}, {hard, .5, 1, .25, .1}, {.05, hard, 2, .125, .45}, {.01, .05, 2, .03, .25}, {0, .01, 2, .0045, .5},
	}
	have := all.byHardness()
	if len(have) != len(want) {
		t.Fatalf("have %+v", have)
	}
	for i, h := range have {
		w := want[i]
		if h.From != w.From || h.To != w.To || h.Tokens != w.Tokens || math.Abs(h.Base-w.Base) > 1e-12 || math.Abs(h.After-w.After) > 1e-12 {
			t.Errorf("have %+v, want %+v", h, w)
		}
	}
	if gain, ok := (Report{Hardness: have}).HardGain(); !ok || math.Abs(gain-(.65+.44+.991)/6) > 1e-12 {
		t.Errorf("hard tokens gain %g, %v", gain, ok)
	}
	if gain, ok := (Report{Hardness: have[:3]}).HardGain(); ok || gain != 0 {
		t.Errorf("none is hard, but they gain %g", gain)
	}
}

// A question has the lengths that it brings, is asked without a chain whatever
// its length would be, and a report without families has none.
func TestOwnRoom(t *testing.T) {
	e := newEngine(t)
	list, o := items(), options()
	o.K, o.Close = 4, []int32{closeID}
	for i := range list {
		list[i].Family = ""
	}
	list[2].MaxChain, list[2].MaxAnswer = 1, 1
	longest := 0
	list[2].Grade = func(answer []int32) bool { longest = max(longest, len(answer)); return false }
	got, err := Run(context.Background(), e, list, o)
	if err != nil || longest > 1 || len(got.Families) > 0 {
		t.Errorf("an answer of %d, families %v, %v", longest, got.Families, err)
	}
	all := got.ChainLength
	list[2].MaxChain = 0
	if got, err = Run(context.Background(), e, list, o); err != nil || got.ChainLength <= all {
		t.Errorf("with a chain as long as the others' the mean is %g, was %g, %v", got.ChainLength, all, err)
	}
	o.NoChain, o.MaxChain = true, 1000
	if _, err := Run(context.Background(), e, list, o); err != nil {
		t.Errorf("no chain takes room for one: %v", err)
	}
}

func TestGradingAndNoChain(t *testing.T) {
	e := newEngine(t)
	list, o := items(), options()
	o.NoChain = true
	seen := 0
	for i := range list {
		right := i == 1 || i == 2
		list[i].Grade = func(answer []int32) bool {
			seen++
			if slices.Contains(answer, endID) {
				t.Errorf("the answer %v still has its end", answer)
			}
			return right
		}
		list[i].Kind = func(chain []int32) string {
			if len(chain) > 0 {
				return "some"
			}
			return "none"
		}
	}
	got, err := Run(context.Background(), e, list, o)
	if err != nil {
		t.Fatal(err)
	}
	if seen != 5 || got.Accuracy != 0.4 || got.Hardness != nil || got.Kinds["none"] != 1 || got.ChainLength != 0 {
		t.Errorf("graded %d, report %+v", seen, got)
	}
	if math.Abs(got.RefLogProb-got.BaseLogProb) > 1e-12 {
		t.Errorf("the empty chain scores %.15g, the baseline %.15g", got.RefLogProb, got.BaseLogProb)
	}
	if even, odd := got.Families["even"].Accuracy, got.Families["odd"].Accuracy; math.Abs(even-1./3) > 1e-12 || odd != 0.5 {
		t.Errorf("families: %g and %g", even, odd)
	}
}

// The interval of 0 and of all, worked out by hand: n/(n+z²), and of the middle.
func TestWilson(t *testing.T) {
	for _, x := range []struct {
		right, of int
		low, high float64
	}{{420, 420, 0.990937, 1}, {0, 420, 0, 0.009063}, {50, 100, 0.403832, 0.596168}} {
		if low, high := wilson(float64(x.right)/float64(x.of), float64(x.of)); math.Abs(low-x.low) > 1e-6 || math.Abs(high-x.high) > 1e-6 {
			t.Errorf("%d of %d: %g to %g, want %g to %g", x.right, x.of, low, high, x.low, x.high)
		}
	}
}

// TestIntervalOverQuestions: eight chains a question tell more than one, by how much they
// differ: nothing where they are the same. Of questions that are easy or hard for a model,
// the interval holds the true share 95 times of 100, with one chain as with eight.
func TestIntervalOverQuestions(t *testing.T) {
	const questions, k = 60, 8
	r := rand.New(rand.NewPCG(1, 2))
	interval := func(chains int, chance func(i int) float64) (low, high float64) {
		shares, right := make([]float64, questions), 0
		for i := range shares {
			c, n := chance(i), 0
			for range chains {
				if r.Float64() < c {
					n++
				}
			}
			right += n
			shares[i] = float64(n) / float64(chains)
		}
		p := float64(right) / float64(questions*chains)
		return wilson(p, independent(p, shares, questions*chains))
	}
	// Where all or none are right, and for one question, nothing tells how they differ.
	for _, shares := range [][]float64{{1, 1, 1}, {0, 0, 0}, {.5}, {1}} {
		if n := independent(shares[0], shares, 8*len(shares)); n != float64(len(shares)) {
			t.Errorf("shares %v count as %g", shares, n)
		}
	}
	known := func(i int) float64 { return float64(i % 2) } // the same k times
	low, high := interval(k, known)
	if a, b := wilson(.5, questions); math.Abs(low-a) > 1e-12 || math.Abs(high-b) > 1e-12 {
		t.Errorf("of equal chains: %g to %g, want %g to %g", low, high, a, b)
	}
	even := func(int) float64 { return .5 }
	if low, high = interval(k, even); high-low > .12 { // of 480 answers it is 0.089, of 60 it is 0.25
		t.Errorf("of independent chains: %g to %g", low, high)
	}
	for _, chains := range []int{1, k} {
		const times = 2000
		holds := 0
		for range times {
			low, high := interval(chains, func(int) float64 { // a question's chance is 0.1 or 0.9: 0.5 in all
				return .1 + .8*float64(r.IntN(2))
			})
			if low <= .5 && .5 <= high {
				holds++
			}
		}
		if share := float64(holds) / times; share < .93 || share > .98 {
			t.Errorf("with %d chains a question it holds the true share in %.3f", chains, share)
		}
	}
}

// TestSeeds: no two items draw with the same numbers, under one seed or under others.
func TestSeeds(t *testing.T) {
	seen := map[uint64]bool{}
	for seed := range uint64(20) {
		for at := range 1000 {
			seen[Options{Seed: seed}.Request(Item{}, at).Seed] = true
		}
	}
	if len(seen) != 20*1000 {
		t.Errorf("20 seeds have %d among 1000 items each", len(seen))
	}
}
