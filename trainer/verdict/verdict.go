// Package verdict puts into words and JSON what a question's chains are worth: the
// verdict that "nrt explain" and "nrt score" print and the server answers with.
// All numbers are trainer/reward's.
package verdict

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/reward"
)

// Number is a float in JSON; NaN and infinities, which JSON lacks, are null.
type Number float64

// MarshalJSON writes the shortest form that reads back the same.
func (n Number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(f)
}

// numbers converts for JSON; nil becomes an empty list.
func numbers(x []float64) []Number {
	out := make([]Number, len(x))
	for i, v := range x {
		out[i] = Number(v)
	}
	return out
}

// Spelled is a token in JSON.
type Spelled struct {
	ID   int32  `json:"id"`
	Text string `json:"text"`
}

// Said is a token that the model wrote, in JSON. Numbers are nats.
type Said struct {
	Spelled
	LogProb Number `json:"logprob"`
	Entropy Number `json:"entropy"`
}

// Line is the verdict on one line of a file.
type Line struct {
	Line int `json:"line"` // from 1
	Verdict
}

// Verdict is a question's K chains and what each is worth. Lists by token have an
// entry for each of the reference's T tokens, its end included.
type Verdict struct {
	Model    string    `json:"model"`
	Question string    `json:"question"`
	Answer   string    `json:"answer"`
	Mode     string    `json:"mode"`
	Tokens   []Spelled `json:"answer_tokens"` // of the reference
	B        []Number  `json:"b"`             // their probabilities with no chain
	Base     Number    `json:"R_base"`
	Mean     Number    `json:"mean"`  // of R_clipped
	Sigma    Number    `json:"sigma"` // of R_clipped
	Gradient bool      `json:"gradient"`
	Note     string    `json:"note,omitempty"` // why there is no gradient
	Chains   []Chain   `json:"chains"`
}

// Chain is one chain. B and R_base are the group's, so that it stands alone.
type Chain struct {
	Rank         int      `json:"rank"` // 1 is the highest R; equal ones share it
	Text         string   `json:"chain"`
	Closed       bool     `json:"closed"` // it wrote the closing boundary itself
	Finish       string   `json:"finish"`
	Tokens       []Said   `json:"tokens"`
	C            []Number `json:"c"`
	B            []Number `json:"b"`
	Weights      []Number `json:"weights"`
	Contribution []Number `json:"contribution"`
	G            []Number `json:"g"`
	TokenWeight  []Number `json:"token_weight"` // g/σ; training may divide by a larger floor
	R            Number   `json:"R"`
	Base         Number   `json:"R_base"`
	Clipped      Number   `json:"R_clipped"` // R′
	Advantage    Number   `json:"A"`
}

// Question is what is judged: a model by name, and a question with its reference
// as text and as tokens.
type Question struct {
	Model, Question, Answer string
	Reference               []int32 // Format.Answer of Answer
}

// Given asks the engine about chains that are text: each is tokenised on its own,
// and the reference is scored after each and after none.
func Given(tok *token.Tokenizer, form *token.Format, prompt []int32, answer string, chains []string) engine.Request {
	req := engine.Request{
		Prompt: prompt, Forced: make([][]int32, len(chains)),
		Stop: form.End, Close: form.Close, StopText: form.StopText, Reference: form.Answer(answer), Baseline: true,
	}
	for i, c := range chains {
		req.Forced[i] = tok.Encode(c)
	}
	return req
}

// Judge scores a result that has the reference after every chain and after none.
// The error is trainer/reward's: a number that is no log-probability.
func Judge(q Question, tok *token.Tokenizer, form *token.Format, res engine.Result, o reward.Options) (Verdict, reward.Group, error) {
	s := make([][]float64, len(res.Chains))
	for i, c := range res.Chains {
		s[i] = engine.LogProbsOf(c.Reference)
	}
	g, err := reward.ScoreGroup(s, engine.LogProbsOf(res.Baseline), o)
	if err != nil {
		return Verdict{}, g, err
	}
	v := Verdict{
		Model: q.Model, Question: q.Question, Answer: q.Answer, Mode: o.Mode.String(),
		Base: Number(g.Base), Mean: Number(g.Mean), Sigma: Number(g.Sigma),
		Gradient: teaches(g), Note: note(g),
	}
	for i, text := range Spell(tok, q.Reference) {
		v.Tokens = append(v.Tokens, Spelled{q.Reference[i], text})
	}
	v.B = numbers(probs(res.Baseline))
	for i, c := range res.Chains {
		r := g.Chains[i]
		v.Chains = append(v.Chains, Chain{
			Text: chainText(c, tok, form), Closed: c.Closed, Finish: c.Finish, Tokens: Say(tok, c.Tokens),
			C: numbers(r.C), B: v.B, Weights: numbers(r.W), Contribution: numbers(r.Contribution),
			G: numbers(r.G), TokenWeight: numbers(r.TokenWeight),
			R: Number(r.R), Base: v.Base, Clipped: Number(r.Clipped), Advantage: Number(r.Advantage),
		})
	}
	for i, rank := range g.Ranks() {
		v.Chains[i].Rank = rank
	}
	return v, g, nil
}

// chainText is what the chain says, without the boundary that it closed with.
func chainText(c engine.Chain, tok *token.Tokenizer, form *token.Format) string {
	tokens := c.Tokens
	if c.Closed && form.StopText == "" {
		tokens = tokens[:len(tokens)-len(form.Close)]
	}
	text := Text(tok, tokens, form.End)
	if form.StopText != "" {
		text, _, _ = strings.Cut(text, form.StopText)
	}
	return text
}

// teaches tells whether any weight of the group is not 0. Chains that tie have no
// advantage, but without std the answer's tokens keep their weights.
func teaches(g reward.Group) bool {
	return slices.ContainsFunc(g.Chains, func(c reward.Scored) bool {
		return c.Advantage != 0 || slices.ContainsFunc(c.TokenWeight, func(x float64) bool { return x != 0 })
	})
}

// note says why a group teaches nothing; "" if it teaches.
func note(g reward.Group) string {
	switch {
	case teaches(g):
	case g.AllHarmful:
		return "No gradient from this group. Every chain scored no higher than no reasoning at all."
	case len(g.Chains) == 1:
		return "No gradient from this group. One chain has no others to be compared with."
	default:
		return "No gradient from this group. All rewards are equal."
	}
	return ""
}

// Spell decodes each token in the context of those before it: the parts joined
// are the text. A token that only begins a character is "" and the one that
// completes it has it all.
func Spell(tok *token.Tokenizer, ids []int32) []string {
	d := tok.NewDecoder(false)
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = d.Push(id)
	}
	if n := len(parts); n > 0 {
		parts[n-1] += d.Flush()
	}
	return parts
}

// Say spells what the model wrote.
func Say(tok *token.Tokenizer, tokens []engine.Token) []Said {
	list := make([]Said, len(tokens))
	for i, text := range Spell(tok, engine.IDsOf(tokens)) {
		t := tokens[i]
		list[i] = Said{Spelled{t.ID, text}, Number(t.LogProb), Number(t.Entropy)}
	}
	return list
}

// Text is what the tokens say without those that end it. It is decoded anew, since
// the text that Say gives to an end may hold what came before: bytes that waited for
// the end of their run.
func Text(tok *token.Tokenizer, tokens []engine.Token, ends []int32) string {
	ids := slices.DeleteFunc(engine.IDsOf(tokens), func(id int32) bool { return slices.Contains(ends, id) })
	return tok.Decode(ids, false)
}

func probs(tokens []engine.Token) []float64 {
	list := engine.LogProbsOf(tokens)
	for i, s := range list {
		list[i] = math.Exp(s)
	}
	return list
}
