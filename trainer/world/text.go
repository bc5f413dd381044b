package world

import (
	"iter"
	"math/rand/v2"
	"strings"
)

// Pretrain yields n documents of the base model's text, without <bos> and
// <eos>. Most read "question <think> chain </think> answer"; the fact sheets
// (sheetShare of them) have no <think>.
func (w *World) Pretrain(n int, seed uint64) iter.Seq[string] {
	return func(yield func(string) bool) {
		r := w.stream(streamPretrain, seed)
		for range n {
			if !yield(w.document(r)) {
				return
			}
		}
	}
}

func (w *World) document(r *rand.Rand) string {
	if r.Float64() < sheetShare {
		return strings.Join(w.drawFamily(r, sheetShares).sheet(r), " ")
	}
	f := w.drawFamily(r, familyShares)
	p := f.draw(r, 1+pick(r, stepShares[:]), false)
	k := drawKind(r, len(p.seq))
	chain, final := p.chain(r, k.name)
	words := append(p.question(), Think)
	words = append(words, chain...)
	words = append(words, Unthink)
	words = append(words, p.answer(r, final, k.casual)...)
	return strings.Join(words, " ")
}

func (w *World) drawFamily(r *rand.Rand, shares map[string]float64) *family {
	weights := make([]float64, len(w.families))
	for i, f := range w.families {
		weights[i] = shares[f.name]
	}
	return w.families[pick(r, weights)]
}

// drawKind draws the kind of chain for n operations; one step never goes wrong.
func drawKind(r *rand.Rand, n int) chainKind {
	weights := make([]float64, len(chainKinds))
	for i, k := range chainKinds {
		weights[i] = k.share
	}
	k := chainKinds[pick(r, weights)]
	if k.name == Sloppy && n == 1 {
		return chainKinds[0]
	}
	return k
}

// sheet is a walk through the family's table: a state, then operations and the
// states they lead to, spaced as in a chain.
func (f *family) sheet(r *rand.Rand) []string {
	words := []string{f.name, ":"}
	if f.subject {
		words = append(words, names[r.IntN(len(names))], "has")
	}
	s := r.IntN(len(f.states))
	words = append(words, f.states[s])
	perStep := 3
	if f.price {
		perStep = 6
	}
	var seq []int
	for len(words)+perStep <= sheetWords {
		o := f.drawOp(r, s, seq, true)
		if o == none {
			break // all triples that go on from here are held out
		}
		seq = append(seq, o)
		s = f.apply(s, o)
		words = append(words, sheetWord, f.ops[o].word, f.states[s])
		if f.price {
			price := drawPrice(r, s)
			words = append(words, priceWord, f.states[price], verdict(s, price))
		}
	}
	return words
}
