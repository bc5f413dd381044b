package server

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"nrt/backend/engine"
	"nrt/backend/token"
)

// Bounds of /v1/completions.
const (
	mostPrompts = 16
	mostChoices = 64      // prompts × n
	mostPrompt  = 1 << 18 // bytes of one prompt
	mostStop    = 128     // bytes
	mostStops   = 4
	plainTokens = 16 // max_tokens by default
)

// v1Text is POST /v1/completions: texts that go on as they stand, without a
// layout. Choice p·n + i is the i-th of prompt p; a prompt goes on alike whatever
// others are beside it.
//
// max_tokens is 16 by default; it is cut down to the server's longest chain and to
// what the model has room for. stop is up to four texts that end it, at whichever
// comes first, and are not part of it. logprobs 0 to 5 gives every token, with so many
// alternatives and itself; text_offset counts characters of the choice's text. The
// token that ends a text is left out, tokens of the stop text are not.
func (s *Server) v1Text(a *api) error {
	if err := a.read(); err != nil {
		return err
	}
	f := &a.fields
	model := f.text("model", 200)
	prompts, ok := f.texts("prompt", true)
	switch {
	case !ok:
		f.bad("prompt", "is missing: want a string or a list of strings")
	case len(prompts) < 1 || len(prompts) > mostPrompts:
		f.bad("prompt", "want 1 to %d, have %d", mostPrompts, len(prompts))
	}
	for i, p := range prompts {
		if len(p) > mostPrompt {
			f.bad(fmt.Sprintf("prompt[%d]", i), "want at most %d bytes, have %d", mostPrompt, len(p))
		}
	}
	req := f.sampling(drawn())
	if n := req.N * len(prompts); n > mostChoices {
		f.bad("n", "want at most %d choices in all, have %d", mostChoices, n)
	}
	req.MaxChain = int(f.whole("max_tokens", plainTokens, 1, 1<<31-1))
	stops := f.stops()
	tokens := f.has("logprobs")
	req.Top = int(f.whole("logprobs", 0, 0, 5))
	stream, withUsage := f.streaming()
	if err := f.rest(); err != nil {
		return err
	}
	if err := a.find(model); err != nil {
		return err
	}
	return a.generate(&continuation{
		generation: &generation{
			head:  textHead{ID: a.name("cmpl-", req.Seed), Object: "text_completion", Model: model, Seed: int64(req.Seed)},
			asked: "prompt", req: req, chain: s.o.Chain, tokens: tokens, stops: stops, stream: stream, usage: withUsage,
		},
		prompts: prompts, offsets: make([]int, req.N*len(prompts)),
	})
}

// continuation is prompts that are to go on.
type continuation struct {
	*generation
	prompts []string
	offsets []int // of the streamed choices: characters so far
}

func (x *continuation) requests(r *replica) (list []engine.Request, err error) {
	for i, p := range x.prompts {
		q := x.req
		if err := r.goesOn(&q, p, x.chain); err != nil {
			if err.param = "prompt"; len(x.prompts) > 1 {
				err.param = fmt.Sprintf("prompt[%d]", i)
			}
			return nil, err
		}
		list = append(list, q)
	}
	return list, nil
}

func (x *continuation) whole(list []*choice, t tally) any {
	out := textWhole{textHead: x.head, Usage: t.usage(false)}
	for i, said := range list {
		c := textChoice{Index: i, Text: said.chain.String(), Finish: &said.finish}
		if x.tokens {
			offset := 0
			c.LogProbs = textTokens(x.tok, said.chained, &offset)
		}
		out.Choices = append(out.Choices, c)
	}
	return out
}

func (x *continuation) chunk(p piece) any {
	if p.first {
		return nil
	}
	c := textChoice{Index: p.choice, Text: p.text}
	if p.finish != "" {
		c.Finish = &p.finish
	}
	if p.token != nil {
		c.LogProbs = textTokens(x.tok, []spelt{*p.token}, &x.offsets[p.choice])
	}
	return textWhole{x.head, []textChoice{c}, x.without()}
}

func (x *continuation) last(t tally) any { return textWhole{x.head, []textChoice{}, t.usage(false)} }

// stops are the texts that end an answer.
func (f *fields) stops() []string {
	list, _ := f.texts("stop", true)
	if len(list) > mostStops {
		f.bad("stop", "want at most %d texts, have %d", mostStops, len(list))
	}
	for _, s := range list {
		if s == "" || len(s) > mostStop {
			f.bad("stop", "want 1 to %d bytes, have %d", mostStop, len(s))
		}
	}
	return list
}

// goesOn lays a text out that the model goes on with, for at most chain tokens.
func (r *replica) goesOn(q *engine.Request, prompt string, chain int) *problem {
	q.Prompt = r.tok.EncodeSpecial(prompt)
	q.Stop = slices.Clone(r.model.Config.EOS)
	if end := r.tok.EOS(); end >= 0 && !slices.Contains(q.Stop, end) {
		q.Stop = append(q.Stop, end)
	}
	positions := r.model.Config.MaxPositions
	switch n := len(q.Prompt); {
	case n == 0:
		return badField("prompt", "no tokens, and the tokenizer puts none in front")
	case n >= positions:
		return tooLong("prompt", "%d tokens leave no room for more: the model reads %d tokens in all", n, positions)
	}
	q.MaxChain = min(q.MaxChain, chain, positions-len(q.Prompt))
	return nil
}

// textWhole is an answer, and a chunk of a stream.
type textWhole struct {
	textHead
	Choices []textChoice `json:"choices"`
	Usage   any          `json:"usage,omitempty"`
}

type textChoice struct {
	Index    int           `json:"index"`
	Text     string        `json:"text"`
	LogProbs *textLogProbs `json:"logprobs"`
	Finish   *string       `json:"finish_reason"`
}

type textLogProbs struct {
	Tokens   []string             `json:"tokens"`
	LogProbs []float64            `json:"token_logprobs"`
	Top      []map[string]float64 `json:"top_logprobs"`
	Offsets  []int                `json:"text_offset"`
}

// textTokens spells tokens; *offset is where the first one begins, and moves on.
// Alternatives that look alike share an entry, the likeliest one's.
func textTokens(tok *token.Tokenizer, list []spelt, offset *int) *textLogProbs {
	out := &textLogProbs{Tokens: []string{}, LogProbs: []float64{}, Offsets: []int{}, Top: []map[string]float64{}}
	for _, t := range list {
		top := map[string]float64{}
		for _, alt := range t.Top {
			text := tok.Text(alt.ID)
			if alt.ID == t.ID {
				text = t.text
			}
			if x, twice := top[text]; !twice || x < alt.LogProb {
				top[text] = logProb(alt.LogProb)
			}
		}
		if _, there := top[t.text]; !there && len(top) > 0 {
			top[t.text] = logProb(t.LogProb)
		}
		out.Tokens, out.LogProbs = append(out.Tokens, t.text), append(out.LogProbs, logProb(t.LogProb))
		out.Top, out.Offsets = append(out.Top, top), append(out.Offsets, *offset)
		*offset += utf8.RuneCountInString(t.text)
	}
	return out
}
