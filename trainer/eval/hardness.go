package eval

import (
	"math"

	"nrt/backend/engine"
)

// Hardness is what chains did for the tokens of references that the model found
// about as hard: to which it gave, after the empty chain, a probability b of at least
// From and less than To. The paper asks this too: does reasoning help where the model
// is at a loss, or make it surer of what it knew?
type Hardness struct {
	From   float64 `json:"baseline_from"`
	To     float64 `json:"baseline_to"`   // 1 is in the first bucket too
	Tokens int     `json:"tokens"`        // each once for every chain
	Base   float64 `json:"mean_baseline"` // mean b
	After  float64 `json:"mean_after"`    // mean c, after the chain
}

// hardnesses are the edges of the buckets, easy tokens first.
var hardnesses = [...]float64{1, 0.9, 0.5, hard, 0.05, 0.01, 0}

const hard = 0.2 // less is hard

// harder adds a reference after one chain to the buckets, where baseline is the same
// reference after the empty chain.
func (t *tally) harder(after, baseline []engine.Token) {
	for i, tok := range baseline {
		b := math.Exp(tok.LogProb)
		at := 0
		for b < hardnesses[at+1] {
			at++
		}
		h := &t.hardness[at]
		h.Tokens++
		h.Base += b
		h.After += math.Exp(after[i].LogProb)
	}
}

// byHardness are the buckets that hold tokens.
func (t *tally) byHardness() []Hardness {
	var list []Hardness
	for i, h := range t.hardness {
		if h.Tokens > 0 {
			n := float64(h.Tokens)
			list = append(list, Hardness{hardnesses[i+1], hardnesses[i], h.Tokens, h.Base / n, h.After / n})
		}
	}
	return list
}

// HardGain is how much more probable chains made the tokens that had less than 20 %
// without one: their mean c − b. ok is false where there were none.
func (r Report) HardGain() (gain float64, ok bool) {
	n := 0.0
	for _, h := range r.Hardness {
		if h.To <= hard {
			n += float64(h.Tokens)
			gain += float64(h.Tokens) * (h.After - h.Base)
		}
	}
	return gain / max(1, n), n > 0
}
