package view

import (
	"slices"
	"strings"

	"nrt/web/wire"
)

// mostTyped is how many tokens are drawn under a field; the rest is counted.
const mostTyped = 240

func (p *page) questionTokens(s *State) { p.typed(s, s.Typing.Question, s.Typing.QuestionPieces) }

func (p *page) answerTokens(s *State) {
	if strings.TrimSpace(s.Typing.Answer) == "" { // they stand for tokens that are not typed yet
		p.raw(`<div class="slots" aria-hidden="true">`, strings.Repeat(`<i></i>`, 8), `</div>`)
	}
	p.typed(s, s.Typing.Answer, s.Typing.AnswerPieces)
}

// typed are the tokens of what is typed, as the model would cut it, with their ids.
func (p *page) typed(s *State, text string, pieces []wire.Piece) {
	if strings.TrimSpace(text) == "" {
		return
	}
	if !s.Typing.Known {
		p.raw(`<span class="cap">The model's vocabulary is being loaded.</span>`)
		return
	}
	for i, t := range pieces {
		if i == mostTyped {
			p.raw(`<span class="more">`).int(len(pieces) - i).raw(` more</span>`)
			break
		}
		p.raw(`<span class="tb`, when(t.Special, ` endt`), when(t.Unknown, ` unk`), `" title="token `).int(int(t.ID)).raw(`">`).text(word(t.Text)).raw(` <small>`).int(int(t.ID)).raw(`</small></span>`)
	}
}

// typedNote counts the answer's tokens and says what the model will make of them.
func (p *page) typedNote(s *State) {
	t := &s.Typing
	missing := t.Missing()
	switch {
	case t.Refused && missing != "":
		p.raw(`<b class="down" role="alert">`).text(missing).raw(`</b>`)
		return
	case t.strange() != "" && t.tooLong() == "":
		p.raw(`<b class="down">`).text(t.strange()).raw(`</b> `, strangeRead)
		p.patterns(s)
		return
	case strings.TrimSpace(t.Answer) == "" || !t.Known:
		p.raw("Your answer is cut into tokens here, as you type.")
		return
	case t.tooLong() != "":
		p.raw(`<b class="down">`).text(t.tooLong()).raw(`</b>`)
		return
	}
	p.text(count(len(t.AnswerPieces), "token")).raw(`, end included.`)
	if t.Reads > 0 && t.Takes > 0 {
		p.raw(` With the question `).int(t.Takes).raw(` of the `).int(t.Reads).raw(` that this model reads; reasoning gets the rest.`)
	}
	if w, n := splitWord(t.AnswerPieces); n > 1 {
		p.raw(` “`).text(w).raw(`” is `).int(n).raw(` tokens to this model: each gets its own certainty.`)
	}
}

// strangeRead is what the model does with words that it does not know.
const strangeRead = `it reads what it does not know as one and the same word.`

// strange says what of the typed the model does not know, "" if it knows all: it names the
// words, and counts them from the fifth on.
func (t *Typing) strange() string {
	var list []string
	for _, x := range slices.Concat(t.QuestionPieces, t.AnswerPieces) {
		if w := "“" + word(x.Text) + "”"; t.Known && x.Unknown && !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	if n := len(list) - 4; n > 0 {
		list = append(list[:4], count(n, "other"))
	}
	return when(len(list) > 0, "This model knows "+count(t.Words, "word")+", but not "+strings.Join(list, ", ")+":")
}

// rest is when the reader pauses: what is wrong with the typed is said once, and once
// that it is right again.
func (s State) rest() State {
	t := &s.Typing
	wrong := t.tooLong()
	if text := t.strange(); wrong == "" && text != "" {
		wrong = text + " " + strangeRead
	}
	if t.Known && wrong != t.told {
		t.told, s.Say = wrong, either(wrong != "", wrong, "The model knows all of this now, and it fits.")
	}
	return s
}

// patterns are saved questions in the model's own words, to start from.
func (p *page) patterns(s *State) {
	vocab := func(name string) string {
		i := slices.IndexFunc(s.Models, func(m wire.Model) bool { return m.Name == name })
		if i < 0 {
			return ""
		}
		return s.Models[i].Vocab
	}
	known, begun := vocab(s.again().Model), false
	for _, e := range s.Examples {
		if known == "" || vocab(e.Ask.Model) != known {
			continue
		}
		p.raw(when(!begun, ` <span class="patterns">Start from one that it knows:`), ` <button type="button" class="btn" id="pattern-`).text(e.Name).raw(`" data-act="pattern" data-value="`).text(e.Name).raw(`">`).text(e.Title).raw(`</button>`)
		begun = true
	}
	p.raw(when(begun, `</span>`))
}

// splitWord finds the word of most tokens: pieces that follow without a blank.
func splitWord(pieces []wire.Piece) (text string, n int) {
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
