// Package eval measures a policy on questions with reference answers: does it
// answer right, how probable does it find the reference, and what do its chains
// look like. It needs a grader only for accuracy; log-probabilities need none.
//
// What is drawn for an item follows from the seed and the item's place in the list
// alone. Read eval.go, then hardness.go (where chains help), words.go (what chains say)
// and answer.go (which answers count as equal).
package eval

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"nrt/backend/engine"
)

// Item is one question as ids, with what grading needs.
type Item struct {
	Prompt    []int32
	Reference []int32
	Family    string
	// MaxChain and MaxAnswer are this question's own, where it has less room than
	// the others; 0 takes the options'.
	MaxChain, MaxAnswer int
	// Grade judges a sampled answer; nil when there is no grader.
	Grade func(answer []int32) bool
	// Kind names the sort of chain, for the worlds that can tell; may be nil.
	Kind func(chain []int32) string
}

// Options say how to ask.
type Options struct {
	MaxChain, MaxAnswer int
	Close               []int32
	StopText            string
	End                 []int32
	Sampling            engine.Sampling // of chain and answer; the zero value is greedy
	Seed                uint64
	K                   int  // chains per item, over which all is averaged; 0 is 1
	NoChain             bool // answer after the empty chain, as SFT is trained

	Progress func(done, all int64) // told at every token how many chains are done; may be nil
	// Each is told every chain, in order, and ends the evaluation by an error; may be nil.
	Each func(Answered) error
}

// Answered is one chain of an item and the answer after it, as they were judged.
type Answered struct {
	Item, K  int // places of the item in the list, of the chain among its chains
	Chain    engine.Chain
	Baseline []engine.Token // the reference after the empty chain
	Right    *bool          // nil without a grader
	Kind     string         // "" where nothing names it
}

// Report is the outcome. Accuracy is −1 without a grader.
type Report struct {
	N             int                `json:"n"` // items, each with K chains
	Accuracy      float64            `json:"accuracy"`
	Low           float64            `json:"accuracy_low"` // its 95 % interval over questions (Wilson); 0 without a grader
	High          float64            `json:"accuracy_high"`
	Families      map[string]Family  `json:"by_family,omitempty"`
	RefLogProb    float64            `json:"mean_reference_logprob"` // per token, after the chain
	BaseLogProb   float64            `json:"mean_baseline_logprob"`  // per token, after the empty chain
	ChainEntropy  float64            `json:"chain_entropy"`          // mean per chain token, nats
	ChainLength   float64            `json:"chain_length"`           // mean tokens, boundary included
	ClosedShare   float64            `json:"closed_share"`           // chains that closed themselves
	Kinds         map[string]float64 `json:"chain_kinds,omitempty"`  // share of each kind
	ReferenceToks int                `json:"reference_tokens"`
	Hardness      []Hardness         `json:"by_hardness,omitempty"` // easy tokens first; none where there are no chains
}

// Family is the part of a report that concerns one family of questions.
type Family struct {
	N          int     `json:"n"`
	Accuracy   float64 `json:"accuracy"`
	RefLogProb float64 `json:"mean_reference_logprob"`
}

// Batch is how many items are asked at a time.
const Batch = 128

// Run asks every item once and reports.
func Run(ctx context.Context, e *engine.Engine, items []Item, o Options) (Report, error) {
	t := tally{kinds: map[string]int{}, families: map[string]*familyTally{}}
	var emit func(engine.Event)
	if o.Progress != nil {
		done, all := int64(0), int64(len(items))
		if !o.NoChain {
			all *= int64(max(1, o.K))
		}
		emit = func(x engine.Event) {
			if x.Part == engine.PartEnd && x.Chain >= 0 { // not the baseline
				done++
			}
			o.Progress(done, all)
		}
	}
	for from := 0; from < len(items); from += Batch {
		part := items[from:min(from+Batch, len(items))]
		reqs := make([]engine.Request, len(part))
		for i, it := range part {
			reqs[i] = o.Request(it, from+i)
		}
		results, err := e.Generate(ctx, reqs, emit)
		if err != nil {
			return Report{}, fmt.Errorf("evaluate: %w", err)
		}
		for i, r := range results {
			if err := t.add(from+i, part[i], r, o); err != nil {
				return Report{}, fmt.Errorf("evaluate: %w", err)
			}
		}
	}
	return t.report(), nil
}

// Request is what the engine is asked about the item at a place in the list. Up to
// Batch of them, one after the other in the list, are asked together.
func (o Options) Request(it Item, at int) engine.Request {
	r := engine.Request{
		Prompt: it.Prompt, N: max(1, o.K), Sampling: o.Sampling, Seed: o.seedOf(at),
		MaxChain: cmp.Or(it.MaxChain, o.MaxChain), Close: o.Close, StopText: o.StopText, Stop: o.End,
		Reference: it.Reference, Baseline: true,
		MaxAnswer: cmp.Or(it.MaxAnswer, o.MaxAnswer), AnswerStop: o.End,
	}
	if o.NoChain { // the one chain is the baseline's
		r.Forced, r.MaxChain, r.Baseline = [][]int32{{}}, 0, false
	}
	return r
}

// seedOf is the seed of an item's chains. Their sum would not do: under the next seed
// each item would draw with the numbers of the one after it, and the means of both would
// err alike.
func (o Options) seedOf(at int) uint64 { return rand.NewPCG(o.Seed, uint64(at)).Uint64() }

// tally sums over items.
type tally struct {
	n, chains           int
	graded, right       int
	shares              []float64 // of right answers, of each item that is graded
	refTokens           int
	baseTokens          int
	ref, base           float64
	chainTokens, closed int
	entropy             float64
	kinds               map[string]int
	kinded              int
	families            map[string]*familyTally
	hardness            [len(hardnesses) - 1]Hardness // sums
}

type familyTally struct {
	n, graded, right int
	tokens           int
	ref              float64
}

func (t *tally) add(at int, it Item, r engine.Result, o Options) error {
	t.n++
	f := t.families[it.Family]
	if f == nil {
		f = &familyTally{}
		t.families[it.Family] = f
	}
	f.n++
	baseline := r.Baseline
	if o.NoChain {
		baseline = r.Chains[0].Reference
	}
	for _, tok := range baseline {
		t.base += tok.LogProb
	}
	t.baseTokens += len(baseline)
	before := t.right
	for k, c := range r.Chains {
		right, kind := t.chain(it, c, o, f)
		t.harder(c.Reference, r.Baseline)
		if o.Each == nil {
			continue
		}
		if err := o.Each(Answered{at, k, c, baseline, right, kind}); err != nil {
			return err
		}
	}
	if it.Grade != nil {
		t.shares = append(t.shares, float64(t.right-before)/float64(len(r.Chains)))
	}
	return nil
}

func (t *tally) chain(it Item, c engine.Chain, o Options, f *familyTally) (right *bool, kind string) {
	t.chains++
	for _, tok := range c.Reference {
		t.ref += tok.LogProb
		f.ref += tok.LogProb
	}
	t.refTokens += len(c.Reference)
	f.tokens += len(c.Reference)
	for _, tok := range c.Tokens {
		t.entropy += tok.Entropy
	}
	t.chainTokens += len(c.Tokens)
	if c.Closed {
		t.closed++
	}
	if it.Grade != nil {
		t.graded++
		f.graded++
		answer := engine.IDsOf(c.Answer)
		if n := len(answer); n > 0 && slices.Contains(o.End, answer[n-1]) {
			answer = answer[:n-1]
		}
		ok := it.Grade(answer)
		if right = &ok; ok {
			t.right++
			f.right++
		}
	}
	if it.Kind != nil {
		chain := engine.IDsOf(c.Tokens)
		if c.Closed && len(chain) >= len(o.Close) && o.StopText == "" {
			chain = chain[:len(chain)-len(o.Close)]
		}
		kind = it.Kind(chain)
		t.kinds[kind]++
		t.kinded++
	}
	return right, kind
}

func (t *tally) report() Report {
	r := Report{N: t.n, Accuracy: -1, ReferenceToks: t.refTokens, Hardness: t.byHardness(), Families: map[string]Family{}}
	if t.n == 0 {
		return r
	}
	r.RefLogProb = t.ref / float64(max(1, t.refTokens))
	r.BaseLogProb = t.base / float64(max(1, t.baseTokens))
	r.ChainEntropy = t.entropy / float64(max(1, t.chainTokens))
	r.ChainLength = float64(t.chainTokens) / float64(max(1, t.chains))
	r.ClosedShare = float64(t.closed) / float64(max(1, t.chains))
	if t.graded > 0 {
		p := float64(t.right) / float64(t.graded)
		r.Accuracy = p
		r.Low, r.High = wilson(p, independent(p, t.shares, t.graded))
	}
	if _, none := t.families[""]; none && len(t.families) == 1 {
		t.families = nil // these questions have no families
	}
	for name, f := range t.families {
		acc := -1.0
		if f.graded > 0 {
			acc = float64(f.right) / float64(f.graded)
		}
		r.Families[name] = Family{N: f.n, Accuracy: acc, RefLogProb: f.ref / float64(max(1, f.tokens))}
	}
	if t.kinded > 0 {
		r.Kinds = map[string]float64{}
		for k, n := range t.kinds {
			r.Kinds[k] = float64(n) / float64(t.kinded)
		}
	}
	return r
}

// independent is how many independent answers tell as much as those that were given, of
// which p are right, these shares of those to each question: so many of which p(1 − p)/n is
// the variance that the mean share has. Answers to one question are alike, at temperature 0
// they are the same, so that there may be as few as there are questions.
func independent(p float64, shares []float64, answers int) float64 {
	n, ss := float64(len(shares)), 0.0
	for _, x := range shares {
		ss += (x - p) * (x - p)
	}
	if p == 0 || p == 1 || n == 1 {
		return n
	}
	return min(max(p*(1-p)*n*(n-1)/ss, n), float64(answers))
}

// wilson is the 95 % score interval of a share (Wilson 1927): unlike the normal
// approximation it does not shrink to nothing where all or none are right.
func wilson(p, n float64) (low, high float64) {
	const z = 1.959964
	middle := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	if low = middle - half; p == 0 {
		low = 0 // rounding leaves a trace
	}
	if high = middle + half; p == 1 {
		high = 1
	}
	return low, high
}
