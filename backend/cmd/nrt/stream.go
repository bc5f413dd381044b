package main

import (
	"bufio"
	"strings"

	"nrt/backend/engine"
	"nrt/backend/token"
)

// inOrder shows chains one after another although they grow side by side: the
// first unfinished one live, what the others have so far when their turn comes.
type inOrder struct {
	begin func(chain int)
	token func(ev engine.Event)
	end   func()

	current int
	begun   bool
	waiting map[int][]engine.Event
}

// event takes the engine's events as they come.
func (s *inOrder) event(ev engine.Event) {
	if ev.Chain < 0 {
		return // the baseline is no chain
	}
	if ev.Chain != s.current {
		if s.waiting == nil {
			s.waiting = map[int][]engine.Event{}
		}
		s.waiting[ev.Chain] = append(s.waiting[ev.Chain], ev)
		return
	}
	if !s.begun {
		s.begin(s.current)
		s.begun = true
	}
	if ev.Part != engine.PartEnd {
		s.token(ev)
		return
	}
	s.end()
	s.current++
	s.begun = false
	late := s.waiting[s.current]
	delete(s.waiting, s.current)
	for _, ev := range late {
		s.event(ev)
	}
}

// wrapper writes text that comes in pieces into lines with a hanging indent. It
// breaks before a piece that begins with a space and would pass the margin.
type wrapper struct {
	out    *bufio.Writer
	indent int
	width  int
	col    int
}

// margin is the column that text is wrapped at.
const margin = 96

// newWrapper starts a line with a label.
func newWrapper(out *bufio.Writer, label string, indent int) *wrapper {
	out.WriteString(pad(label, indent))
	return &wrapper{out: out, indent: indent, width: margin, col: indent}
}

// write adds a piece; paint, if not nil, dresses what is printed.
func (w *wrapper) write(text string, paint func(string) string) {
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			w.newline()
		}
		if line == "" {
			continue
		}
		line = visible(line) // nothing that was asked or written drives the terminal
		n := columns(line)
		if w.col+n > w.width && w.col > w.indent && line[0] == ' ' {
			w.newline()
		}
		if w.col == w.indent {
			line = strings.TrimLeft(line, " ")
			n = columns(line)
		}
		if paint != nil && line != "" {
			line = paint(line)
		}
		w.out.WriteString(line)
		w.col += n
	}
}

func (w *wrapper) newline() {
	w.out.WriteString("\n" + strings.Repeat(" ", w.indent))
	w.col = w.indent
}

// speller decodes one text's tokens as they come. An answer is a text of its own, as
// it was tokenised on its own.
type speller struct {
	tok *token.Tokenizer
	d   *token.Decoder // nil before the text begins
}

// push is the text that a token settles, often none.
func (s *speller) push(id int32) string {
	if s.d == nil {
		s.d = s.tok.NewDecoder(false)
	}
	return s.d.Push(id)
}

// rest ends the text: what waited for tokens that did not come.
func (s *speller) rest() string {
	if s.d == nil {
		return ""
	}
	text := s.d.Flush()
	s.d = nil
	return text
}
