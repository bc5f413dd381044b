package view

import "strings"

// slots stands for tokens that are not typed yet.
const slots = `<div class="slots" aria-hidden="true"><i></i><i></i><i></i><i></i><i></i><i></i><i></i><i></i></div>`

// mostTyped is how many tokens are drawn under a field; the rest is counted.
const mostTyped = 240

// TypedTokens are the tokens of an own question (field "question") or answer, as
// the model would cut it, with their ids.
func TypedTokens(s *State, field string) string {
	text, pieces := s.Typing.Question, s.Typing.QuestionPieces
	if field == "answer" {
		text, pieces = s.Typing.Answer, s.Typing.AnswerPieces
	}
	if strings.TrimSpace(text) == "" {
		if field == "answer" {
			return slots
		}
		return ""
	}
	if !s.Typing.Known {
		return `<span class="cap">The model's vocabulary is being loaded.</span>`
	}
	p := &page{}
	for i, t := range pieces {
		if i == mostTyped {
			p.raw(`<span class="more">`).int(len(pieces) - i).raw(` more</span>`)
			break
		}
		p.raw(`<span class="tb`)
		switch {
		case t.Special:
			p.raw(` endt`)
		case t.Unknown:
			p.raw(` unk`)
		}
		p.raw(`" title="token `).int(int(t.ID)).raw(`">`).text(word(t.Text)).raw(` <small>`).int(int(t.ID)).raw(`</small></span>`)
	}
	return p.String()
}

// TypedNote counts the answer's tokens and says what the model will make of
// them.
func TypedNote(s *State) string {
	t := &s.Typing
	if missing := t.Missing(); t.Refused && missing != "" {
		p := &page{}
		return p.raw(`<b class="down" role="alert">`).text(missing).raw(`</b>`).String()
	}
	if strings.TrimSpace(t.Answer) == "" || !t.Known {
		return "Your answer is cut into tokens here, as you type."
	}
	p := &page{}
	if t.Reads > 0 && t.Takes >= t.Reads {
		return p.raw(`<b class="down">`).text(t.tooLong()).raw(`</b>`).String()
	}
	p.text(count(len(t.AnswerPieces), "token")).raw(`, end included.`)
	if t.Reads > 0 && t.Takes > 0 {
		p.raw(` With the question `).int(t.Takes).raw(` of the `).int(t.Reads).raw(` that this model reads; reasoning gets the rest.`)
	}
	var strange []string
	for _, list := range [][]TypedPiece{t.QuestionPieces, t.AnswerPieces} {
		for _, x := range list {
			if w := word(x.Text); x.Unknown && len(strange) < 4 {
				strange = append(strange, "“"+w+"”")
			}
		}
	}
	if len(strange) > 0 {
		return p.raw(` This model does not know `).text(strings.Join(strange, ", ")).raw(`: it reads an unknown word there.`).String()
	}
	if w, n := splitWord(t.AnswerPieces); n > 1 {
		p.raw(` “`).text(w).raw(`” is `).int(n).raw(` tokens to this model: each gets its own certainty.`)
	}
	return p.String()
}

// splitWord finds the word of most tokens: pieces that follow without a blank.
func splitWord(pieces []TypedPiece) (text string, n int) {
	from := 0
	for i := 1; i <= len(pieces); i++ {
		if i < len(pieces) && !pieces[i].Special && letter(pieces[i].Text) && letter(pieces[i-1].Text) && pieces[i].Text[0] != ' ' {
			continue
		}
		if i-from > n {
			n, text = i-from, ""
			for _, p := range pieces[from:i] {
				text += p.Text
			}
		}
		from = i
	}
	return strings.TrimSpace(text), n
}

func letter(s string) bool {
	s = strings.TrimSpace(s)
	return s != "" && !strings.ContainsAny(s, ".,;:!?()[]{}\"'")
}
