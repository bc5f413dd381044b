package main

import (
	"cmp"
	"fmt"
	"strings"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/trainer/verdict"
)

func logprobsCommand() *command {
	var model modelFlags
	var text, ids string
	var asJSON bool
	top := 5
	return &command{
		name: "logprobs", group: groupAsk, short: "how probable a model finds a text, token by token",
		args: "[--model M] (--text T | --text - | --ids 1,2,3) [--top N] [--json]",
		long: `
For every position: the token, its log-probability after those before it (in
nats; none for the first), the entropy of the distribution it was drawn from, and
the likeliest alternatives. --text puts the tokenizer's beginning token in front;
--ids are taken as they are and need no tokenizer.`,
		examples: []string{
			"nrt logprobs --model ./llama --text 'The capital of France is Paris.'",
			"nrt logprobs --model ./llama --ids 1,450,7483 --json",
		},
		bind: func(f *flags) func(*env) error {
			model.bind(f)
			f.text(&text, "text", "T", "what to score; - reads standard input")
			f.text(&ids, "ids", "LIST", "token ids to score")
			f.amount(&top, "top", "N", "alternatives to show per position")
			f.json(&asJSON)
			return func(e *env) error {
				if f.given("text") == f.given("ids") {
					return usagef("want either --text or --ids")
				}
				var list []int32
				if f.given("ids") {
					var err error
					if list, err = parseIDs(ids); err != nil {
						return err
					}
				}
				return e.logprobs(model, text, list, top, asJSON)
			}
		},
	}
}

// position is one scored token in JSON.
type position struct {
	ID      int32           `json:"id"`
	Text    string          `json:"text,omitempty"`
	LogProb *verdict.Number `json:"logprob"` // null where nothing stands before it
	Entropy *verdict.Number `json:"entropy"`
	Top     []alternative   `json:"top"`
}

type alternative struct {
	ID      int32          `json:"id"`
	Text    string         `json:"text,omitempty"`
	LogProb verdict.Number `json:"logprob"`
}

// logprobs scores ids, or text if there are none.
func (e *env) logprobs(m modelFlags, text string, ids []int32, top int, asJSON bool) (err error) {
	open := e.open
	if ids == nil {
		open = e.openText
	}
	l, err := open(m)
	if err != nil {
		return err
	}
	defer closing(l, &err)
	if ids == nil {
		if text, err = e.textOrStdin(text); err != nil {
			return err
		}
		ids = l.tok.EncodeSpecial(text)
	}
	tokens, err := l.engine.LogProbs(e.ctx, ids, min(top, l.model.Config.Vocab))
	if err != nil {
		return err
	}
	positions, sum := l.positions(tokens)
	if asJSON {
		return e.printJSON(struct {
			Model  string         `json:"model"`
			Tokens []position     `json:"tokens"`
			Sum    verdict.Number `json:"logprob"` // of all tokens but the first
		}{l.name, positions, verdict.Number(sum)}, true)
	}
	fmt.Fprintf(e.out, "%5s  %6s  %8s  %7s  %-16s  likeliest\n", "", "id", "logprob", "entropy", "token")
	for i, p := range positions {
		score := fmt.Sprintf("%8s  %7s", "", "")
		if p.LogProb != nil {
			score = fmt.Sprintf("%8.3f  %7.3f", float64(*p.LogProb), float64(*p.Entropy))
		}
		var rest []string
		for _, a := range p.Top {
			rest = append(rest, fmt.Sprintf("%s %.2f", cmp.Or(visible(a.Text), fmt.Sprint(a.ID)), float64(a.LogProb)))
		}
		line := fmt.Sprintf("%5d  %6d  %s  %s  %s", i, p.ID, score, pad(visible(p.Text), 16), strings.Join(rest, " · "))
		fmt.Fprintln(e.out, strings.TrimRight(line, " "))
	}
	fmt.Fprintf(e.out, "sum %.4f", sum)
	if n := len(tokens) - 1; n > 0 {
		fmt.Fprintf(e.out, ", mean %.4f over %d tokens", sum/float64(n), n)
	}
	fmt.Fprintln(e.out)
	return nil
}

// positions prepares scored tokens for printing and sums their log-probabilities.
func (l *loaded) positions(tokens []engine.Token) (list []position, sum float64) {
	texts := make([]string, len(tokens))
	if l.tok != nil {
		texts = verdict.Spell(l.tok, engine.IDsOf(tokens))
	}
	for i, t := range tokens {
		p := position{ID: t.ID, Text: texts[i], Top: []alternative{}}
		if i > 0 {
			lp, h := verdict.Number(t.LogProb), verdict.Number(t.Entropy)
			p.LogProb, p.Entropy = &lp, &h
			sum += t.LogProb
			p.Top = l.alternatives(t.Top)
		}
		list = append(list, p)
	}
	return list, sum
}

func (l *loaded) alternatives(top []device.Alternative) []alternative {
	list := make([]alternative, len(top))
	for i, a := range top {
		list[i] = alternative{ID: a.ID, LogProb: verdict.Number(a.LogProb)}
		if l.tok != nil {
			list[i].Text = l.tok.Decode([]int32{a.ID}, false)
		}
	}
	return list
}
