package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"unicode/utf8"

	"nrt/backend/engine"
	"nrt/trainer/objective"
)

// Completion is one chain with what it earned.
type Completion struct {
	Question  string
	Group     int       // number of the question within the step
	Chain     int       // number of the chain within the group
	Text      string    // the chain
	Reference string    // the reference answer
	Answer    string    // the sampled answer, "" when none was sampled
	Closed    bool      // whether the chain ended by itself
	Matched   *bool     // whether the sampled answer is right, nil when none was sampled
	C         []float64 // probability of each reference token after the chain
	B         []float64 // and after the empty chain of the baseline
	objective.Earned
}

// describe lays out the first chains of a step for people to read, with what the
// plan trained them with.
func (t *trainer) describe(rolls []Rollout, plan *objective.Plan) []Completion {
	method := t.c.Objective.Method
	if !method.Rollouts() {
		return nil
	}
	var list []Completion
	for g, r := range rolls {
		if len(list) >= t.c.Output.Completions {
			break
		}
		b := engine.LogProbsOf(r.Baseline)
		if t.c.Objective.FixedBaseline {
			b = r.RefBaseline
		}
		for k, c := range r.Chains {
			x := Completion{
				Question: t.tok.Decode(r.Prompt, false), Group: g, Chain: k,
				Text: t.tok.Decode(engine.IDsOf(c.Tokens), false), Closed: c.Closed,
				Reference: t.format.AnswerText(r.Answer), Answer: t.format.AnswerText(engine.IDsOf(c.Answer)),
				Earned: plan.Earned(g, k), C: probabilities(engine.LogProbsOf(c.Reference)), B: probabilities(b),
			}
			if method.Verifies() {
				right := x.Reward == 1
				x.Matched = &right
			}
			list = append(list, x)
		}
	}
	return list
}

func probabilities(s []float64) []float64 {
	out := make([]float64, len(s))
	for i, x := range s {
		out[i] = math.Exp(x)
	}
	return out
}

// Completions is completions.jsonl: some chains of each step, to be read.
type Completions struct {
	*lines
	perStep int
	maxText int
}

// OpenCompletions opens dir/completions.jsonl like OpenMetrics. Of each step at
// most perStep chains are kept, and of each text at most maxText bytes.
func OpenCompletions(dir string, step, perStep, maxText int) (*Completions, error) {
	l, err := openLines(osDisk{}, filepath.Join(dir, "completions.jsonl"), step)
	if err != nil {
		return nil, err
	}
	return &Completions{l, perStep, maxText}, nil
}

// completionLine fixes the names and their order in the file.
type completionLine struct {
	Step      int      `json:"step"`
	Group     int      `json:"group"`
	Chain     int      `json:"chain"`
	Question  string   `json:"question"`
	Text      string   `json:"completion"`
	Closed    bool     `json:"closed"`
	Reference string   `json:"reference"`
	Answer    string   `json:"answer,omitempty"`
	Matched   *bool    `json:"matched,omitempty"`
	R         number   `json:"reward"`
	Base      number   `json:"reward_base"`
	Clipped   number   `json:"reward_clipped"`
	Advantage number   `json:"advantage"`
	C         []number `json:"c"`
	B         []number `json:"b,omitempty"`
}

// number is a float of six significant digits, or null.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	x := float64(n)
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, x, 'g', 6, 64), nil
}

func numbers(list []float64) []number {
	out := make([]number, len(list))
	for i, x := range list {
		out[i] = number(x)
	}
	return out
}

// Log appends the first chains of a step, up to the limit.
func (c *Completions) Log(step int, list []Completion) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, x := range list[:min(len(list), c.perStep)] {
		err := enc.Encode(completionLine{
			Step: step, Group: x.Group, Chain: x.Chain,
			Question: c.cut(x.Question), Text: c.cut(x.Text), Closed: x.Closed,
			Reference: c.cut(x.Reference), Answer: c.cut(x.Answer),
			Matched: x.Matched, R: number(x.Reward), Base: number(x.Base), Clipped: number(x.Clipped), Advantage: number(x.Trace),
			C: numbers(x.C), B: numbers(x.B),
		})
		if err != nil {
			return fmt.Errorf("write %s: %w", c.path, err)
		}
	}
	return c.write(out.Bytes())
}

// cut shortens a text at a character's border and says by how much.
func (c *Completions) cut(s string) string {
	if c.maxText <= 0 || len(s) <= c.maxText {
		return s
	}
	at := c.maxText
	for at > 0 && !utf8.RuneStart(s[at]) {
		at--
	}
	return fmt.Sprintf("%s … (%d more bytes)", s[:at], len(s)-at)
}

var cutEnd = regexp.MustCompile(` … \(\d+ more bytes\)$`)

// Uncut is a text of completions.jsonl without the words that say that it was cut.
func Uncut(s string) string { return s[:len(s)-len(cutEnd.FindString(s))] }
