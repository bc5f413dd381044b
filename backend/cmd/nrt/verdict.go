package main

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/reward"
)

// rewardFlags choose the reward.
type rewardFlags struct {
	mode string
	reward.Options
}

func (r *rewardFlags) bind(f *flags) {
	r.mode, r.Clip = reward.WSLogP.String(), true
	f.text(&r.mode, "mode", "MODE", "the reward: logp, p, gm, am, ws-1/p or ws-logp")
	f.toggle(&r.NormalizeWeights, "normalize-weights", "make the weights of ws-1/p and ws-logp sum to 1")
	f.toggle(&r.Clip, "clip", "a chain that scores no higher than no chain gets 0")
	f.toggle(&r.NoStd, "no-std", "advantages: subtract the mean, do not divide by the spread")
}

func (r *rewardFlags) parse() error {
	m, err := reward.ParseMode(r.mode)
	if err != nil {
		return usagef("--mode: %w", err)
	}
	r.Options.Mode = m
	return nil
}

// spelled is a token in JSON.
type spelled struct {
	ID   int32  `json:"id"`
	Text string `json:"text"`
}

// said is a token that the model wrote, in JSON.
type said struct {
	spelled
	LogProb number `json:"logprob"`
	Entropy number `json:"entropy"`
}

// verdict is a question's chains and what each is worth, as explain and score
// print it.
type verdict struct {
	Model    string    `json:"model"`
	Question string    `json:"question"`
	Answer   string    `json:"answer"`
	Mode     string    `json:"mode"`
	Tokens   []spelled `json:"answer_tokens"` // of the reference, its end included
	B        []number  `json:"b"`             // their probabilities with no chain
	Base     number    `json:"R_base"`
	Mean     number    `json:"mean"`  // of R_clipped
	Sigma    number    `json:"sigma"` // of R_clipped
	Gradient bool      `json:"gradient"`
	Note     string    `json:"note,omitempty"` // why there is no gradient
	Chains   []judged  `json:"chains"`
}

// judged is one chain. B and R_base are the group's, so that it stands alone.
type judged struct {
	Rank         int      `json:"rank"` // 1 is the highest R; equal ones share it
	Text         string   `json:"chain"`
	Closed       bool     `json:"closed"` // it wrote the closing boundary itself
	Finish       string   `json:"finish"`
	Tokens       []said   `json:"tokens"`
	C            []number `json:"c"`
	B            []number `json:"b"`
	Weights      []number `json:"weights"`
	Contribution []number `json:"contribution"`
	G            []number `json:"g"`
	TokenWeight  []number `json:"token_weight"` // g/σ, as training uses it
	R            number   `json:"R"`
	Base         number   `json:"R_base"`
	Clipped      number   `json:"R_clipped"` // R′
	Advantage    number   `json:"A"`
}

// judge scores a result whose reference is ids.
func (l *loaded) judge(question, answer string, form *token.Format, ids []int32, res engine.Result, o reward.Options) (verdict, reward.Group, error) {
	s := make([][]float64, len(res.Chains))
	for i, c := range res.Chains {
		s[i] = logProbs(c.Reference)
	}
	g, err := reward.ScoreGroup(s, logProbs(res.Baseline), o)
	if err != nil {
		return verdict{}, g, err
	}
	v := verdict{
		Model: l.name, Question: question, Answer: answer, Mode: o.Mode.String(),
		Base: number(g.Base), Mean: number(g.Mean), Sigma: number(g.Sigma),
		Gradient: !g.ZeroVariance, Note: note(g),
	}
	for i, text := range l.spell(ids) {
		v.Tokens = append(v.Tokens, spelled{ids[i], text})
	}
	v.B = numbers(probs(res.Baseline))
	for i, c := range res.Chains {
		r := g.Chains[i]
		j := judged{
			Closed: c.Closed, Finish: c.Finish, Tokens: l.said(c.Tokens),
			C: numbers(r.C), B: v.B, Weights: numbers(r.W), Contribution: numbers(r.Contribution),
			G: numbers(r.G), TokenWeight: numbers(r.TokenWeight),
			R: number(r.R), Base: v.Base, Clipped: number(r.Clipped), Advantage: number(r.Advantage),
		}
		j.Text = chainText(j, form)
		v.Chains = append(v.Chains, j)
	}
	for i, rank := range g.Ranks() {
		v.Chains[i].Rank = rank
	}
	return v, g, nil
}

// chainText is what the chain says, without the boundary that it closed with.
func chainText(c judged, form *token.Format) string {
	tokens := c.Tokens
	if c.Closed && form.StopText == "" {
		tokens = tokens[:len(tokens)-len(form.Close)]
	}
	text := join(tokens, form.End)
	if form.StopText != "" {
		text, _, _ = strings.Cut(text, form.StopText)
	}
	return text
}

// note says why a group teaches nothing; "" if it teaches.
func note(g reward.Group) string {
	switch {
	case g.AllHarmful:
		return "No gradient from this group. Every chain scored no higher than no reasoning at all."
	case g.ZeroVariance && len(g.Chains) == 1:
		return "No gradient from this group. One chain has no others to be compared with."
	case g.ZeroVariance:
		return "No gradient from this group. All rewards are equal."
	}
	return ""
}

// ranking lists the chains from the highest reward down, equal ones in order.
func ranking(g reward.Group) []int {
	order := make([]int, len(g.Chains))
	for i := range order {
		order[i] = i
	}
	rank := g.Ranks()
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[a], rank[b]) })
	return order
}

func (l *loaded) said(tokens []engine.Token) []said {
	ids := make([]int32, len(tokens))
	for i, t := range tokens {
		ids[i] = t.ID
	}
	list := make([]said, len(tokens))
	for i, text := range l.spell(ids) {
		list[i] = said{spelled{ids[i], text}, number(tokens[i].LogProb), number(tokens[i].Entropy)}
	}
	return list
}

func logProbs(tokens []engine.Token) []float64 {
	list := make([]float64, len(tokens))
	for i, t := range tokens {
		list[i] = t.LogProb
	}
	return list
}

func probs(tokens []engine.Token) []float64 {
	list := logProbs(tokens)
	for i, s := range list {
		list[i] = math.Exp(s)
	}
	return list
}
