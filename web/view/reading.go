package view

import (
	"math"
	"strconv"
	"strings"
)

// Writing is the shown chain while it is written, with its tokens so far; −1 when it is
// not.
func (s *State) Writing() (chain, tokens int) {
	i := s.chain()
	if i < 0 || s.Reading.Chains[i].Done || !s.Reading.under() {
		return -1, 0
	}
	return i, len(s.Reading.Chains[i].Tokens)
}

// Expects reports whether the server owes an answer.
func (s *State) Expects() bool {
	return s.Reading != nil && s.Reading.under() || len(s.waiting) > 0 || s.rewriting.id != "" || s.through.id != "" || s.TrainID != ""
}

// chain is the chosen chain as text, sentence by sentence, with what the model
// answered after it.
func (p *page) chain(s *State) {
	r := s.Reading
	i := s.chain()
	if i < 0 {
		p.raw(when(r != nil && r.under(), `<div class="chain-h"><h2>Reasoning</h2><span class="cap">not begun</span></div>`))
		return
	}
	c := &r.Chains[i]
	tokens := c.shown()
	p.raw(`<div class="chain-h"><h2>Chain `).int(i + 1).raw(`</h2><span class="cap">`)
	switch {
	case !c.Done && r.under():
		p.raw(`being written · `).text(count(len(tokens), "token"))
		if n := int(math.Round(s.Pace)); n > 0 {
			p.raw(` · `).text(count(n, "token")).raw(` per second`)
		}
	case !c.Done:
		p.raw(`stopped after `).text(count(len(tokens), "token"))
	default:
		if k := s.rank(s.Mode, i); k > 0 {
			p.raw(`rank <b>`).int(k).raw(`</b> of `).int(len(s.scores().chains)).raw(` · `)
		}
		p.text(count(len(tokens), "token"))
		if r.By != "" {
			p.raw(` · by `).text(s.stepName("")).raw(`, read by `).text(s.stepName(r.By))
		}
		p.raw(when(c.Finish == "length" || c.Forced, ` · cut at the limit`))
	}
	if s.losses(i) != nil {
		p.raw(`<span class="only-desk"> · orange line: needed, purple: harmful`, when(r.By == "", ` · click to switch off`), `</span>`)
	}
	p.raw(`</span><span class="sp"></span><span class="cap only-desk"><button type="button" class="kb-act" id="act-p" data-act="prev" aria-label="Previous chain"><kbd>p</kbd></button> <button type="button" class="kb-act" id="act-n" data-act="next" aria-label="Next chain"><kbd>n</kbd></button></span></div>`)
	p.raw(`<div class="text" dir="auto" role="group" aria-label="Chain `).int(i + 1).raw(`. Left and right arrow keys move between sentences.">`)
	list, at := sentences(tokens), s.sentence()
	for k, x := range list {
		s.sentenceText(p, i, k, at, tokens[x.from:x.to], !c.Done && k == len(list)-1 && r.under())
	}
	if len(tokens) == 0 {
		switch {
		case c.Done:
			p.raw(`<span class="cap">This chain is empty: the model answered at once.</span>`)
		case r.under():
			p.raw(`<span class="cap">No word yet.</span>`)
		}
	}
	p.raw(`</div>`)
	s.sentenceNote(p, i, list)
}

// sentenceText is sentence k of the shown chain i, as the reader left it; the page
// points at sentence at.
func (s *State) sentenceText(p *page, i, k, at int, tokens []Token, writing bool) {
	losses := s.losses(i)
	known := k < len(losses)
	off, rewritten, written := false, "", false
	if i == s.edited() {
		off = k < maxSentences && s.Edit.off(k)
		rewritten, written = s.Edit.text(k)
	}
	written = written && !off
	// The space before its first word comes before its number, which no line then ends with.
	text := textOf(tokens)
	body := strings.TrimLeft(text, " \n")
	p.raw(`<span role="button" class="sent`, when(writing, ` todo`), when(k == at, ` is-on`), when(off, ` off`), when(written, ` own`),
		when(known && losses[k] < 0, ` neg`), when(known && losses[k] > 0, ` pos`), `"`)
	if known {
		p.raw(` style="--imp:`).unit(math.Abs(losses[k]) / largest(losses)).raw(`"`)
	}
	p.raw(` id="sent-`).int(k).raw(`" data-act="sentence" data-value="`).int(k).raw(`" tabindex="`, either(k == at || at < 0 && k == 0, "0", "-1"),
		`" aria-pressed="`, strconv.FormatBool(!off), `"`, when(k == at, ` aria-current="true"`), `>`).text(text[:len(text)-len(body)]).raw(`<span class="no">`).int(k+1).raw(`<span class="vh">: </span></span>`, when(off, `<s>`))
	if written {
		p.text(strings.TrimSpace(rewritten))
	} else {
		p.text(body)
	}
	p.raw(when(off, `</s>`))
	if known {
		score := s.chainScore(i)
		lossMark(p, lossText(score, losses[k]), losses[k], off)
		if x := s.freshAt(i, k); x != nil && !off {
			p.raw(`<span class="vh">, written afresh from here on by `, lossText(score, x.mean-score.R), ` on average</span>`)
		}
	}
	p.raw(when(writing, `<span class="caret"></span>`), `</span> `)
}

// lossMark is what the reward does without a sentence: said beside one that is
// switched off, and to screen readers always.
func lossMark(p *page, text string, loss float64, off bool) {
	if !off {
		p.raw(`<span class="vh">, without it the reward changes by `, text, `</span>`)
		return
	}
	loss = shownLoss(text, loss)
	p.raw(`<span class="vh">, switched off</span><span class="dr `, direction(loss), `">`, when(loss < 0, `▼ `), when(loss > 0, `▲ `), strings.TrimLeft(text, "+−"), `</span>`)
}

// sentenceNote tells what the reader's changes do, or what the chosen sentence is
// worth, else how the chain ended.
func (s *State) sentenceNote(p *page, i int, list []sentence) {
	c, k := &s.Reading.Chains[i], s.sentence()
	answer := strings.TrimSpace(c.Answer)
	switch {
	case s.edited() == i:
		s.whatIfNote(p, k)
	case k >= 0:
		tokens := c.Tokens[list[k].from:list[k].to]
		sum, least := 0.0, 0
		for i, t := range tokens {
			sum += t.LogProb
			if t.LogProb < tokens[least].LogProb {
				least = i
			}
		}
		p.raw(`<div class="whatif said"><p><b>`)
		sure := percent(math.Exp(sum / float64(len(tokens))))
		if losses := s.losses(i); k < len(losses) {
			score := s.chainScore(i)
			now, without := number(score.R), number(score.R+losses[k])
			p.raw(`Without sentence `).int(k+1).raw(` the reward would `, either(without == now, `stay `+now, `be `+without+` instead of `+now), `.</b> <span class="cap">`)
			if s.Sentence == k || answer == "" {
				p.raw(`While it wrote, the model was `).text(sure).raw(` % sure of each word, on average; the reward does not look at that.`)
			} else {
				p.raw(s.writer(), ` answered “<bdi>`).text(answer).raw(`</bdi>”. `, answerNote(c))
			}
		} else {
			p.raw(`Sentence `).int(k + 1).raw(`: `).text(count(len(tokens), "token")).raw(`, `)
			p.text(sure).raw(` % sure each, on average.</b> <span class="cap">Boldest word: “`)
			p.text(word(tokens[least].Text)).raw(`”, `).text(percent(math.Exp(tokens[least].LogProb))).raw(` %. That is how sure the model was while it wrote; the reward does not look at it.`)
		}
		p.raw(`</span></p><div class="acts">`)
		s.undoButton(p, i)
		if k < maxSentences && s.Reading.scored(i) && s.canTry(i, s.Edit.toggle(k)) {
			s.editButtons(p, k)
		} else if s.Sentence == k {
			p.raw(when(s.away(), `<span class="cap">Switching it off needs the server.</span>`), `<button type="button" class="btn" id="act-release" data-act="release">Let go</button>`)
		}
		p.raw(`</div></div>`)
	case c.Done && answer != "":
		p.raw(`<div class="whatif said"><p><b>`, either(s.Reading.By != "", s.writer()+` answered: <bdi>`, `Then it answered: <bdi>`)).text(answer).raw(`</bdi></b> <span class="cap">`, answerNote(c), `</span></p>`)
		if len(s.drafts[i].past) > 0 {
			p.raw(`<div class="acts">`)
			s.undoButton(p, i)
			p.raw(`</div>`)
		}
		p.raw(`</div>`)
	}
}

// writer is who wrote the shown chains, at the beginning of a sentence.
func (s *State) writer() string { return either(s.Reading.By != "", "Its writer", "The model") }

// answerNote says what the model's own answer is to the reward.
func answerNote(c *Chain) string {
	if c.Match {
		return `The same as the reference. The reward does not need that: it asks how probable the reference became.`
	}
	return `Not the reference’s words. That is not graded: the reward asks how probable the reference became.`
}

// whatIfNote is the reward of the reader's variant beside the model's own, with
// the ways back, and those to change sentence k.
func (s *State) whatIfNote(p *page, k int) {
	i := s.edited()
	p.raw(`<div class="whatif"><p><b>`)
	sc := s.whatIf()
	t := s.try(i, s.Edit)
	name := s.Edit.editName()
	refused := s.refused[s.Edit.key(i)]
	switch {
	case sc != nil:
		p.text(s.whatIfSaid()).raw(`</b> <span class="cap">`)
		if t.Own && strings.TrimSpace(t.Answer) != "" {
			p.raw(`It then answers “<bdi>`).text(strings.TrimSpace(t.Answer)).raw(`</bdi>”. `)
		}
		p.raw(`A what-if: scored, but not part of the group and never trained on.</span>`)
	case refused:
		p.raw(`The reward `).text(name).raw(` is not known.</b> <span class="cap">The server did not score it.</span>`)
	case s.Link != Live:
		p.raw(`The reward `).text(name).raw(` is not known yet.</b> <span class="cap">It needs the server.</span>`)
	default:
		p.raw(`The reward `).text(name).raw(` is being worked out.</b> <span class="cap">The reference is read once more, after what is left of the chain.</span>`)
	}
	p.raw(`</p><div class="acts">`)
	s.undoButton(p, i)
	p.raw(when(sc == nil && refused, `<button type="button" class="btn" id="act-try" data-act="try">Try again</button>`))
	if k >= 0 && k < maxSentences {
		s.editButtons(p, k)
	}
	p.raw(`</div></div>`)
}

// undoButton takes the last change back, where there is one.
func (s *State) undoButton(p *page, i int) {
	if len(s.drafts[i].past) > 0 {
		p.raw(`<button type="button" class="btn" id="act-undo" data-act="undo" aria-keyshortcuts="Control+Z">`).icon(iconUndo).raw(`Undo</button>`)
	}
}

// editButtons change sentence k.
func (s *State) editButtons(p *page, k int) {
	if s.Reading.ready() && (s.Link == Live || s.Link == Saved || s.Link == Loading) { // no jump when the client takes over
		p.raw(`<button type="button" class="btn" id="act-edit" data-act="open" data-dialog="edit" aria-haspopup="dialog">`).icon(iconEdit).raw(`Edit</button>`)
	} else if s.away() {
		p.raw(`<span class="cap">Editing needs the server.</span>`)
	}
	p.raw(`<button type="button" class="btn primary" id="act-switch" data-act="switch" aria-keyshortcuts="Delete">`, either(s.edited() >= 0 && s.Edit.off(k), `Switch on</button>`, `Switch off</button>`))
}
