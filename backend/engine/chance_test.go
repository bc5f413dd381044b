package engine

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"nrt/backend/llama"
)

// TestChances: chains of two tokens, and a token of answer after each, come as often as
// the model's probabilities say, under every way of truncating: Pearson's χ² over all that
// can be drawn, and nothing else is.
func TestChances(t *testing.T) {
	m := newModel(t, true)
	for _, s := range []Sampling{{Temperature: 1}, {Temperature: 0.7, TopP: 0.8}, {Temperature: 1.5, TopK: 4, MinP: 0.2}} {
		const draws = 20000
		r := request(1, draws)
		r.Sampling, r.MaxChain, r.MaxAnswer, r.Reference, r.Baseline = s, 2, 1, nil, false
		r.Prompt = r.Prompt[:3]
		drawn := map[string]float64{}
		for _, c := range generate(t, New(m, nil, Options{CacheBytes: 1 << 28}), []Request{r}, nil)[0].Chains {
			drawn[fmt.Sprint(IDsOf(c.Tokens), IDsOf(c.Answer))]++
		}
		chances := map[string]float64{}
		// grow follows a chain on; seen is what the model reads.
		var grow func(seen, chain []int32, p float64)
		grow = func(seen, chain []int32, p float64) {
			n := len(chain)
			closed := n > 0 && chain[n-1] == closeID
			switch {
			case n > 0 && chain[n-1] == endID:
				seen, closed = append(slices.Clone(seen[:len(seen)-1]), closeID), true
			case n == r.MaxChain && !closed:
				seen, closed = append(slices.Clone(seen), closeID), true
			}
			for id, q := range kept(t, m, seen, s) {
				switch next := []int32{int32(id)}; {
				case q == 0:
				case closed:
					chances[fmt.Sprint(chain, next)] += p * q
				default:
					grow(slices.Concat(seen, next), slices.Concat(chain, next), p*q)
				}
			}
		}
		grow(r.Prompt, nil, 1)
		chi, cells, want, have := 0.0, 0.0, 0.0, 0.0
		for _, what := range slices.Sorted(maps.Keys(chances)) {
			want, have = want+chances[what]*draws, have+drawn[what]
			delete(drawn, what)
			if want >= 20 { // rare ones count together
				chi, cells, want, have = chi+(have-want)*(have-want)/want, cells+1, 0, 0
			}
		}
		if z := (chi - cells) / math.Sqrt(2*cells); len(drawn) > 0 || cells < 10 || z > 4 || z < -4 {
			t.Errorf("%+v: χ² is %.0f over %.0f cells, %.1f deviations off; never to be drawn: %v", s, chi, cells, z, drawn)
		}
	}
}

// kept are the probabilities to draw with after so many tokens, by sorting.
func kept(t *testing.T, m *llama.Model, seen []int32, s Sampling) []float64 {
	vocab := m.Config.Vocab
	r := Request{Prompt: seen}
	for id := range vocab {
		r.Forced = append(r.Forced, []int32{int32(id)})
	}
	p, order := make([]float64, vocab), make([]int, vocab)
	for id, c := range generate(t, New(m, nil, Options{}), []Request{r}, nil)[0].Chains {
		p[id], order[id] = math.Exp(c.Tokens[0].LogProb/s.Temperature), id
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(p[b], p[a]) })
	most := p[order[0]]
	if s.TopK > 0 {
		order = order[:s.TopK]
	}
	mass := func() (sum float64) {
		for _, id := range order {
			sum += p[id]
		}
		return sum
	}
	if sum, all := 0.0, mass(); s.TopP > 0 {
		for n, id := range order {
			if sum += p[id]; sum >= s.TopP*all {
				order = order[:n+1]
				break
			}
		}
	}
	order = slices.DeleteFunc(order, func(id int) bool { return p[id] < s.MinP*most })
	out, all := make([]float64, vocab), mass()
	for _, id := range order {
		out[id] = p[id] / all
	}
	return out
}
