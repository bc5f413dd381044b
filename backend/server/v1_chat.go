package server

import (
	"encoding/json"
	"fmt"
	"strings"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/web/wire"
)

// mostTop is how many alternatives a token may have in an answer.
const mostTop = 20

// v1Chat is POST /v1/chat/completions: the last turn of a conversation, answered
// after a chain of reasoning. System and earlier turns go as far as the model's
// layout has a place for them; of the small world's there is none.
//
// stop is up to four texts that end the answer, at whichever comes first, and are
// not part of it. The chain does not heed them: it is not what was asked for.
//
// max_tokens M bounds chain and answer together. The answer gets a third of it, 1
// to 64 tokens, the chain the rest; with M = 1 there is a chain of one token and no
// answer. Neither gets more than the server's longest chain and the model's
// positions leave; without M it is these alone. What the one leaves over does not
// go to the other. A chain that is cut off is closed, and the answer follows.
// finish_reason is "length" if the chain or the answer was cut off.
//
// With logprobs each choice has its answer's tokens under logprobs.content and its
// chain's under logprobs.reasoning, without the tokens that end them. An
// alternative is spelt as it stands alone, the token itself as it stands there. logprob
// is at the request's temperature.
func (s *Server) v1Chat(a *api) error {
	if err := a.read(); err != nil {
		return err
	}
	f := &a.fields
	model := f.text("model", 200)
	turns := f.messages()
	req := f.sampling(drawn())
	most := f.whole("max_tokens", 0, 1, 1<<31-1)
	newer := f.whole("max_completion_tokens", most, 1, 1<<31-1) // the same under its later name
	if most > 0 && newer != most {
		f.bad("max_completion_tokens", "want the same as max_tokens, %d, or one of the two", most)
	}
	stops := f.stops()
	tokens := f.flag("logprobs", false)
	if f.has("top_logprobs") && !tokens {
		f.bad("top_logprobs", "goes with logprobs: true")
	}
	req.Top = int(f.whole("top_logprobs", 0, 0, mostTop))
	stream, withUsage := f.streaming()
	if err := f.rest(); err != nil {
		return err
	}
	if err := a.find(model); err != nil {
		return err
	}
	return a.generate(&conversation{
		generation: &generation{
			head:  textHead{ID: a.name("chatcmpl-", req.Seed), Object: "chat.completion", Model: model, Seed: int64(req.Seed)},
			asked: "messages", req: req, chain: s.o.Chain, tokens: tokens, stops: stops, stream: stream, usage: withUsage,
		},
		turns: turns, most: int(newer),
	})
}

// conversation is turns of which the last is to be answered.
type conversation struct {
	*generation
	turns []token.Message
	most  int // tokens of chain and answer; 0 for no such bound
}

func (c *conversation) requests(r *replica) ([]engine.Request, error) {
	err := r.reasoned(&c.req, c.turns, c.most, c.chain)
	return []engine.Request{c.req}, err
}

func (c *conversation) whole(list []*choice, t tally) any {
	out := chatWhole{textHead: c.head, Usage: t.usage(true)}
	for i, said := range list {
		x := chatChoice{Index: i, Finish: said.finish}
		x.Message = chatMessage{Role: "assistant", Content: said.answer.String(), Reasoning: said.chain.String()}
		if c.tokens {
			x.LogProbs = &chatLogProbs{Content: chatTokens(c.tok, said.spoken), Reasoning: chatTokens(c.tok, said.chained)}
		}
		out.Choices = append(out.Choices, x)
	}
	return out
}

func (c *conversation) chunk(p piece) any {
	x := chatDelta{Index: p.choice}
	switch {
	case p.first:
		x.Delta.Role = "assistant" // alone: content comes after the chain
	case p.finish != "":
		x.Finish = &p.finish
	case p.part == engine.PartAnswer:
		x.Delta.Content = &p.text
	default:
		x.Delta.Reasoning = &p.text
	}
	if p.token != nil {
		list := chatTokens(c.tok, []spelt{*p.token})
		x.LogProbs = &chatLogProbs{Content: list, Reasoning: []chatToken{}}
		if p.part == engine.PartChain {
			x.LogProbs.Content, x.LogProbs.Reasoning = x.LogProbs.Reasoning, list
		}
	}
	return c.event([]chatDelta{x}, c.without())
}

func (c *conversation) last(t tally) any { return c.event([]chatDelta{}, t.usage(true)) }

func (c *conversation) event(list []chatDelta, usage any) chatChunk {
	head := c.head
	head.Object += ".chunk"
	return chatChunk{head, list, usage}
}

// messages is the field messages: turns whose content is text or a list of text
// parts, which are joined as lines. A developer is the system under its later name.
func (f *fields) messages() []token.Message {
	v, ok := f.take("messages")
	if !ok {
		f.bad("messages", "is missing: want a list of messages")
		return nil
	}
	var list []map[string]json.RawMessage
	if json.Unmarshal(v, &list) != nil {
		f.bad("messages", "want a list of messages, have %s", sortOf(v))
		return nil
	}
	if len(list) == 0 {
		f.bad("messages", "is empty")
	}
	var turns []token.Message
	for i, raw := range list {
		m := &fields{raw: raw}
		t := token.Message{Role: m.text("role", 100)}
		if t.Role != "assistant" || string(m.raw["content"]) != `""` { // an answer may have been empty
			t.Content = m.content()
		}
		m.take("content")
		m.take("name")
		m.take("reasoning_content") // of an earlier answer: a layout has no place for it
		name := fmt.Sprintf("messages[%d]", i)
		f.within(name, m.rest())
		switch t.Role {
		case "developer":
			t.Role = "system"
		case "system", "user", "assistant":
		default:
			f.bad(name+".role", "want system, user or assistant, have %q", clip(t.Role, 40))
		}
		turns = append(turns, t)
	}
	if n := len(turns); n > 0 && turns[n-1].Role != "user" {
		f.bad(fmt.Sprintf("messages[%d].role", n-1), "the last message is the question: want user, have %q", clip(turns[n-1].Role, 40))
	}
	return turns
}

// content is a message's text.
func (f *fields) content() string {
	v, ok := f.raw["content"]
	var parts []map[string]json.RawMessage
	if !ok || json.Unmarshal(v, &parts) != nil || parts == nil {
		if ok && sortOf(v) != "a string" {
			f.bad("content", "want a string or a list of text parts, have %s", sortOf(v))
		}
		return f.text("content", wire.MaxQuestion)
	}
	delete(f.raw, "content")
	var lines []string
	for i, raw := range parts {
		name := fmt.Sprintf("content[%d]", i)
		part := &fields{raw: raw}
		if kind := part.text("type", 100); part.err == nil && kind != "text" {
			part.bad("type", "want text, have %q", clip(kind, 40))
		}
		line := part.text("text", wire.MaxQuestion)
		f.within(name, part.rest())
		lines = append(lines, line)
	}
	text := strings.Join(lines, "\n")
	f.checkText("content", text, wire.MaxQuestion)
	return text
}

// reasoned lays a conversation out: prompt, chain, boundary and answer, of most tokens
// (0 for no such bound) and chains of at most chain.
func (r *replica) reasoned(q *engine.Request, turns []token.Message, most, chain int) error {
	prompt, err := r.form.Messages(turns)
	if err != nil {
		return badField("messages", "this model takes one question of the user: %v", err)
	}
	q.Prompt, q.Stop, q.Close, q.StopText, q.AnswerStop = prompt, r.stop, r.form.Close, r.form.StopText, r.stop
	used := len(q.Prompt) + len(q.Close)
	free := r.model.Config.MaxPositions - used
	if free < 2 {
		return tooLong("messages", "question and boundary are %d tokens and leave no room for chain and answer: the model reads %d tokens in all", used, r.model.Config.MaxPositions)
	}
	q.MaxAnswer = min(mostAnswer, max(1, free/3))
	if most > 0 {
		q.MaxAnswer = min(q.MaxAnswer, max(1, most/3))
	}
	q.MaxChain = min(chain, free-q.MaxAnswer)
	switch {
	case most == 1:
		q.MaxChain, q.MaxAnswer = 1, 0
	case most > 0:
		q.MaxChain = min(q.MaxChain, most-q.MaxAnswer)
	}
	return nil
}

type chatWhole struct {
	textHead
	Choices []chatChoice `json:"choices"`
	Usage   *usage       `json:"usage"`
}

type chatChoice struct {
	Index    int           `json:"index"`
	Message  chatMessage   `json:"message"`
	LogProbs *chatLogProbs `json:"logprobs"`
	Finish   string        `json:"finish_reason"`
}

type chatMessage struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content"`
}

type chatChunk struct {
	textHead
	Choices []chatDelta `json:"choices"`
	Usage   any         `json:"usage,omitempty"` // null until the last chunk, if it is asked for
}

type chatDelta struct {
	Index int `json:"index"`
	Delta struct {
		Role      string  `json:"role,omitempty"`
		Reasoning *string `json:"reasoning_content,omitempty"`
		Content   *string `json:"content,omitempty"`
	} `json:"delta"`
	LogProbs *chatLogProbs `json:"logprobs"`
	Finish   *string       `json:"finish_reason"`
}

type chatLogProbs struct {
	Content   []chatToken `json:"content"`
	Reasoning []chatToken `json:"reasoning"`
}

type chatToken struct {
	chatAlternative
	Top []chatAlternative `json:"top_logprobs"`
}

type chatAlternative struct {
	Token   string  `json:"token"`
	LogProb float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

func chatTokens(tok *token.Tokenizer, list []spelt) []chatToken {
	spell := func(text string, x float64) chatAlternative {
		c := chatAlternative{Token: text, LogProb: logProb(x), Bytes: []int{}}
		for _, b := range []byte(text) {
			c.Bytes = append(c.Bytes, int(b))
		}
		return c
	}
	out := make([]chatToken, len(list))
	for i, t := range list {
		out[i] = chatToken{spell(t.text, t.LogProb), []chatAlternative{}}
		for _, alt := range t.Top {
			text := tok.Text(alt.ID)
			if alt.ID == t.ID {
				text = t.text
			}
			out[i].Top = append(out[i].Top, spell(text, alt.LogProb))
		}
	}
	return out
}
