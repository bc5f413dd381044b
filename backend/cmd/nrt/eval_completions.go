package main

import (
	"bufio"
	"encoding/json"
	"io"
	"math"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/eval"
	"nrt/trainer/run"
)

// evalLine is a line of the file that --completions names: what a run's
// completions.jsonl says of a chain, under the same names, without what depends on a
// reward, and how the answer was judged.
type evalLine struct {
	Family    string    `json:"family,omitempty"`
	Group     int       `json:"group"` // number of the question
	Chain     int       `json:"chain"`
	Question  string    `json:"question"`
	Text      string    `json:"completion"`
	Closed    bool      `json:"closed"`
	Kind      string    `json:"kind,omitempty"`
	Reference string    `json:"reference"`
	Answer    string    `json:"answer"`
	Matched   *bool     `json:"matched,omitempty"`
	C         []float64 `json:"c"` // probability of each reference token after the chain
	B         []float64 `json:"b"` // and after the empty chain
}

// writeCompletions evaluates with ask, which reads how, and writes each chain to a file:
// all of them or, after an error, none.
func writeCompletions(path string, tok *token.Tokenizer, f *token.Format, items []eval.Item, how *eval.Options, ask func() error) error {
	return run.WriteTo(path, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		how.Each = func(a eval.Answered) error {
			it := items[a.Item]
			return enc.Encode(evalLine{
				Family: it.Family, Group: a.Item, Chain: a.K, Question: tok.Decode(it.Prompt, false),
				Text: tok.Decode(engine.IDsOf(a.Chain.Tokens), false), Closed: a.Chain.Closed, Kind: a.Kind,
				Reference: f.AnswerText(it.Reference), Answer: f.AnswerText(engine.IDsOf(a.Chain.Answer)), Matched: a.Right,
				C: probabilities(a.Chain.Reference), B: probabilities(a.Baseline),
			})
		}
		if err := ask(); err != nil {
			return err
		}
		return out.Flush()
	})
}

func probabilities(list []engine.Token) []float64 {
	out := make([]float64, len(list))
	for i, t := range list {
		out[i] = math.Exp(t.LogProb)
	}
	return out
}
