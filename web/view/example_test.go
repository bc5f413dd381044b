package view

import (
	"math"
	"strings"

	"nrt/web/wire"
)

// The example of these tests: invented certainties of an eight-word answer after
// eight chains, made so that the formulas disagree about the winner.
var (
	testWords = []string{"The", " grandmother", " of", " Ben", " is", " Ruth", ".", "<eos>"}
	testBase  = []float64{.62, .78, .97, .93, .98, .09, .96, .95}
	testC     = [][]float64{
		{.58, .74, .97, .92, .98, .08, .96, .95},
		{.24, .66, .95, .86, .95, .81, .94, .94},
		{.95, .98, .99, .98, .99, .13, .98, .98},
		{.86, .96, .99, .97, .99, .01, .97, .97},
		{.66, .93, .99, .97, .99, .92, .98, .97},
		{.93, .97, .99, .97, .99, .66, .98, .97},
		{.74, .9, .98, .96, .98, .29, .97, .96},
		{.55, .69, .96, .52, .97, .06, .95, .94},
	}
	testChain = "Ben is the son of Ana, so Ana is his mother. Leo is the brother of Ana. Ruth is the mother of Leo, so she is the mother of Ana too. Ida is the daughter of Leo, but nobody asks about her. The mother of a mother is a grandmother."
)

func logs(p []float64) []float64 {
	s := make([]float64, len(p))
	for i, x := range p {
		s[i] = math.Log(x)
	}
	return s
}

// cutWords cuts a text into tokens: a word with the blank before it.
func cutWords(text string) []string {
	list := strings.SplitAfter(text, " ")
	for i := range list {
		list[i] = strings.TrimSuffix(list[i], " ")
		if i > 0 {
			list[i] = " " + list[i]
		}
	}
	return list
}

func tokens(chain int, part wire.Part, texts []string, lp []float64) wire.Tokens {
	t := wire.Tokens{Chain: chain, Part: part, IDs: make([]int32, len(texts)), Texts: texts, LogProbs: lp, Entropies: make([]float64, len(texts))}
	if lp == nil {
		t.LogProbs = make([]float64, len(texts))
		for i := range t.LogProbs {
			t.LogProbs[i] = -0.1 * float64(1+i%5)
		}
	}
	return t
}

// testExample is the saved example of the numbers above.
func testExample() Example {
	const question = "Ben is the son of Ana. Leo is the brother of Ana. Ruth is the mother of Leo. Ida is the daughter of Leo. Who is the grandmother of Ben?"
	e := Example{Name: "kinship", Title: "Kinship: grandmother of Ben",
		Ask:   wire.Ask{Model: "test", Question: question, Answer: "The grandmother of Ben is Ruth.", K: 8, Temperature: 1, TopP: 1, Seed: 42, MaxChain: 96},
		Start: wire.Start{Model: "test", K: 8, Seed: 42},
		End:   wire.End{Seconds: 0.1},
	}
	e.Ask.ID, e.Start.ID, e.Frame.ID, e.End.ID = "q", "q", "q", "q"
	for i, w := range cutWords(question) {
		e.Start.Prompt = append(e.Start.Prompt, wire.Piece{ID: int32(i), Text: w})
	}
	for i, w := range testWords {
		e.Start.Answer = append(e.Start.Answer, wire.Piece{ID: int32(100 + i), Text: w, Special: i == len(testWords)-1})
	}
	add := func(t wire.Tokens) { e.Frame.Tokens = append(e.Frame.Tokens, t) }
	add(tokens(-1, wire.PartBaseline, testWords, logs(testBase)))
	for k, c := range testC {
		text := testChain
		if k != 4 {
			text = "Let me see. Ben is the son of Ana <b>. Chain " + intText(k+1) + " goes on"
		}
		chain := append(cutWords(text), "</think>")
		add(tokens(k, wire.PartChain, chain, nil))
		add(tokens(k, wire.PartReference, testWords, logs(c)))
		d := wire.Done{Chain: k, Finish: "close", Answer: "Leo", Match: false}
		if k == 4 {
			d.Answer, d.Match = "The grandmother of Ben is Ruth.", true
		}
		e.Frame.Done = append(e.Frame.Done, d)
	}
	// Without its third sentence a chain is worth little more than none; without
	// the fourth it gains.
	r := e.Reading()
	for k, c := range testC {
		var list []wire.ScoredVariant
		for j := range r.Without(k) {
			share := []float64{0.1, 0.06, 0.85, -0.02, 0.1}[j]
			v := wire.ScoredVariant{}
			for i := range c {
				v.LogProbs = append(v.LogProbs, math.Log(min(c[i]+share*(testBase[i]-c[i]), 1)))
			}
			list = append(list, v)
		}
		e.Without = append(e.Without, list)
		// Written afresh from a sentence on, a chain finds the answer less often the
		// earlier that is.
		var fresh [][]wire.Fresh
		for j := range r.Places(k) {
			var ends []wire.Fresh
			for n := range freshN {
				share := 0.9 - 0.15*float64((n+j)%7)
				f := wire.Fresh{Text: " Ruth, says try " + intText(n/2) + " <i>."}
				for i := range c {
					f.LogProbs = append(f.LogProbs, math.Log(min(c[i]+share*(testBase[i]-c[i]), 1)))
				}
				ends = append(ends, f)
			}
			fresh = append(fresh, ends)
		}
		e.Fresh = append(e.Fresh, fresh)
	}
	return e
}

func testState() State { return New([]Example{testExample()}) }
