package server

import (
	"slices"
	"strings"

	"nrt/backend/engine"
	"nrt/backend/token"
)

// piece is what one event adds to a choice.
type piece struct {
	choice int
	first  bool        // the choice begins; nothing else is set
	part   engine.Part // PartChain or PartAnswer
	text   string
	token  *spelt // nil: no token stands behind the text
	finish string // the choice ends: "stop" or "length"
}

// spelt is a token with its text: what it added, often nothing until a character
// is whole.
type spelt struct {
	engine.Token
	text string
}

// tally counts tokens for usage.
type tally struct {
	prompt, completion, reasoning int
}

// speaker turns the engine's events into pieces. Texts do not have what ends them:
// the boundary, the stop text or the end token. The pieces of a choice join to its
// texts whether they are streamed or not.
type speaker struct {
	tok    *token.Tokenizer
	reqs   []engine.Request // all with the same number of chains
	tokens bool             // hand on every token, with and without text
	stops  []string         // texts that end an answer, or a text that goes on
	say    func(piece)

	voices []voice
	ended  int // voices that said all
	tally  tally
}

// voice is one choice.
type voice struct {
	begun    bool
	d        *token.Decoder
	part     engine.Part
	until    []string // texts that end the part
	held     string   // might be the beginning of one
	over     bool     // one came
	ended    bool     // nothing is said any more
	chain    int      // tokens
	closed   bool     // the chain ended by itself
	answered bool     // so did the answer
}

func newSpeaker(r *replica, reqs []engine.Request, tokens bool, stops []string, say func(piece)) *speaker {
	s := &speaker{tok: r.tok, reqs: reqs, tokens: tokens, stops: stops, say: say}
	for _, q := range reqs {
		s.tally.prompt += len(q.Prompt)
		s.voices = append(s.voices, make([]voice, q.N)...)
	}
	return s
}

// event is the engine's emit. The boundary that the engine puts in, and scored
// references, are nothing that the model said.
func (s *speaker) event(ev engine.Event) {
	q := &s.reqs[ev.Request]
	i := ev.Request*q.N + ev.Chain
	v := &s.voices[i]
	if v.ended {
		return
	}
	chat := len(q.Close) > 0
	if !v.begun {
		v.begun, v.part = true, engine.PartChain
		v.d, v.until = s.decoder(q), s.stops
		if chat {
			if v.until = nil; q.StopText != "" {
				v.until = []string{q.StopText}
			}
		}
		s.say(piece{choice: i, first: true})
	}
	id := ev.Token.ID
	switch ev.Part {
	case engine.PartChain:
		s.tally.completion++
		s.tally.reasoning++
		v.chain++
		if slices.Contains(q.Stop, id) || len(q.Close) == 1 && id == q.Close[0] {
			v.closed = true
			return
		}
		s.speak(i, v, ev)
		v.closed = v.closed || v.over
		if v.over && !chat {
			s.end(i, v, q)
		}
	case engine.PartAnswer:
		s.tally.completion++
		if v.part == engine.PartChain {
			s.flush(i, v)
			v.part, v.d, v.until, v.over = engine.PartAnswer, s.tok.NewDecoder(true), s.stops, false
		}
		if v.answered = slices.Contains(q.AnswerStop, id); v.answered {
			return
		}
		if s.speak(i, v, ev); v.over {
			v.answered = true
			s.end(i, v, q)
		}
	case engine.PartEnd:
		s.flush(i, v)
		if v.over && v.part == engine.PartAnswer {
			v.answered = true // the stop text came with the last characters
		}
		s.end(i, v, q)
	}
}

// end says that a voice has said all.
func (s *speaker) end(i int, v *voice, q *engine.Request) {
	v.ended = true
	s.ended++
	s.say(piece{choice: i, finish: v.finish(q)})
}

// decoder spells a chain. A text that goes on without a boundary is spelt after its
// prompt, so that the two join: the space between them is there.
func (s *speaker) decoder(q *engine.Request) *token.Decoder {
	d := s.tok.NewDecoder(false)
	if len(q.Close) > 0 {
		return d
	}
	const enough = 16 // more than the bytes of a character, each of which may be a token
	for _, id := range q.Prompt[max(0, len(q.Prompt)-enough):] {
		if !s.tok.Special(id) {
			d.Push(id)
		}
	}
	return d
}

// finish is "length" where a bound cut the chain or the answer off.
func (v *voice) finish(q *engine.Request) string {
	if !v.closed && v.chain >= q.MaxChain || len(q.Close) > 0 && !v.answered {
		return "length"
	}
	return "stop"
}

func (s *speaker) speak(i int, v *voice, ev engine.Event) {
	text := v.d.Push(ev.Token.ID)
	p := piece{choice: i, part: v.part, text: v.let(text, false)}
	if s.tokens {
		p.token = &spelt{ev.Token, text}
	}
	if p.text != "" || p.token != nil {
		s.say(p)
	}
}

// flush says what the part still holds.
func (s *speaker) flush(i int, v *voice) {
	if text := v.let(v.d.Flush(), true); text != "" {
		s.say(piece{choice: i, part: v.part, text: text})
	}
	v.closed = v.closed || v.over && v.part == engine.PartChain
}

// let is the text that surely comes before what ends it; last lets go of all.
func (v *voice) let(text string, last bool) string {
	if v.over {
		return ""
	}
	text = v.held + text
	v.held = ""
	end, keep := -1, 0
	for _, until := range v.until {
		if at := strings.Index(text, until); at >= 0 && (end < 0 || at < end) {
			end = at
		}
		n := min(len(until)-1, len(text))
		for !strings.HasPrefix(until, text[len(text)-n:]) {
			n--
		}
		keep = max(keep, n)
	}
	switch {
	case end >= 0:
		v.over = true
		return text[:end]
	case last:
		return text
	}
	v.held = text[len(text)-keep:]
	return text[:len(text)-keep]
}
