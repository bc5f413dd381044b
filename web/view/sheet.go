package view

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// The sheet in which a sentence is rewritten. What is typed there is scored whenever the
// reader pauses, and is the chain's variant at once; it is one step for Undo however
// often it was scored, and none if the sheet is left by Cancel.

// sheet is a sentence while it is rewritten.
type sheet struct {
	chain, at int
	was       draft  // of the chain, when the sheet was opened
	seen      Edit   // the latest version whose reward was known
	typed     bool   // the reader is ahead of what is scored
	refused   string // why the latest version was not taken, "" if it was
}

// sheetOpen is the sheet, nil without one or where its chain has gone.
func (s *State) sheetOpen() *sheet {
	if s.sheet == nil || s.sheet.chain != s.chain() {
		return nil
	}
	return s.sheet
}

// Rewriting reports whether a sentence of the shown chain is being rewritten.
func (s *State) Rewriting() bool { return s.sheetOpen() != nil }

// openSheet begins to rewrite sentence k of the shown chain.
func (s State) openSheet(k int) State {
	i := s.chain()
	if k >= 0 && k < len(s.Reading.changeable(i)) && s.Reading.scored(i) {
		s.sheet = &sheet{chain: i, at: k, was: s.drafts[i], seen: s.drafts[i].now}
	}
	return s
}

// doSheet are the actions in the sheet.
func (s State) doSheet(name, value string) State {
	if s.sheetOpen() == nil {
		s.sheet = nil
	}
	switch name {
	case "sheet":
		if s.away() {
			s.Notice = &Notice{Code: codeOffline, Text: "Rewriting a sentence needs the server. What was scored before can be switched off and on.", Field: fieldEdit}
			return s
		}
		return s.openSheet(s.sentence())
	case "edit-typed":
		if s.sheet != nil {
			next := *s.sheet
			next.typed = true
			s.sheet = &next
		}
	case "edit-try":
		return s.tryEdit(value)
	case "edit-leave":
		if x := s.sheet; x != nil {
			if s.drafts[x.chain].now.key(x.chain) != x.was.now.key(x.chain) {
				s = s.draft(x.chain, x.was)
			}
			s.sheet = nil
		}
	case "edit":
		if s.EditRefused() != "" {
			s.Notice = nil
		}
		if s.sheet == nil {
			s = s.openSheet(s.sentence())
		}
		s = s.tryEdit(value)
		if x := s.sheet; x != nil && x.refused != "" {
			code := wire.CodeBadMessage
			if x.refused == needsServer {
				code = codeOffline
			}
			s.Notice = &Notice{Code: code, Text: x.refused, Field: fieldEdit}
			return s
		}
		if s.sheet != nil {
			s.sheet = nil
			s.Say = s.whatIfSaid()
		}
	}
	return s
}

// needsServer is why a version is not taken without one.
const needsServer = "The reward of this version needs the server."

// tryEdit makes what was typed the chain's variant, in the place of what was typed
// before.
func (s State) tryEdit(text string) State {
	if s.sheet == nil {
		return s
	}
	x := *s.sheet
	s.sheet, x.typed, x.refused = &x, false, ""
	i := x.chain
	e, refused := s.rewritten(i, x.at, x.was.now, text)
	if refused == "" && !s.canTry(i, e) {
		refused = needsServer
	}
	if refused != "" {
		x.refused = refused
		return s
	}
	now := s.drafts[i].now
	if s.earns(i, now) != nil {
		x.seen = now
	}
	s.Sentence = x.at
	if e.key(i) == now.key(i) {
		return s
	}
	d := x.was
	if e.key(i) != d.now.key(i) {
		d = d.to(e)
	}
	s = s.draft(i, d).forgive(e.key(i))
	s.sheet = &x // Undo goes back to what was before the sheet
	return s
}

// rewritten is edit e of chain i with the reader's text for sentence k; without a text
// the sentence is switched off.
func (s *State) rewritten(i, k int, e Edit, text string) (_ Edit, refused string) {
	text = strings.TrimSpace(strings.ToValidUTF8(text, ""))
	if text == "" {
		if !e.off(k) {
			e = e.toggle(k)
		}
		return e, ""
	}
	// The space around a sentence is part of its tokens.
	own := s.ownText(i, k)
	lead := own[:len(own)-len(strings.TrimLeftFunc(own, unicode.IsSpace))]
	trail := own[len(strings.TrimRightFunc(own, unicode.IsSpace)):]
	text = lead + text + trail
	if len(text) > maxRewrite {
		return e, "A sentence has at most " + intText(maxRewrite) + " bytes here."
	}
	return e.rewrite(k, text, text == own), ""
}

// SwitchedOff reports whether sentence k of the shown chain is switched off.
func (s *State) SwitchedOff(k int) bool { return s.edited() >= 0 && s.Edit.off(k) }

// earns is the reward of chain i with an edit, nil while it is not known.
func (s *State) earns(i int, e Edit) *reward.Scored {
	if e.none() {
		return s.chainScore(i)
	}
	return s.tryScore(i, e)
}

// editScore is what the typed version earns, and the words that it moved most, with the
// ways back. The latest known stands there until the next is.
func (p *page) editScore(s *State) {
	x := s.sheetOpen()
	if x == nil {
		return
	}
	e := s.Edit
	known := s.earns(x.chain, e) != nil
	if !known {
		e = x.seen
	}
	p.raw(`<div class="earns" role="status"><p`, when(!known || x.typed, ` class="old"`), `><b>`)
	own, sc := s.chainScore(x.chain), s.earns(x.chain, e)
	switch {
	case own == nil || sc == nil:
		p.raw(`This version is not scored yet.`)
	case e.none():
		p.raw(`As the model wrote it, the chain earns `, number(own.R), `.`)
	default:
		p.text(s.said(x.chain, e))
	}
	p.raw(`</b></p><p class="moved cap">`)
	switch {
	case x.refused != "":
		p.text(x.refused)
	case !known && s.refused[s.Edit.key(x.chain)]:
		p.raw(`The server did not score your version.`)
	case !known && s.Link != Live:
		p.raw(needsServer)
	case !known || x.typed:
		p.raw(`<span aria-hidden="true">Scoring your version …</span>`)
	case own == nil || e.none():
		p.raw(`The reward follows as you write.`)
	default:
		s.movedWords(p, own.C, sc.C)
	}
	p.raw(`</p></div><button type="button" class="btn" id="edit-undo" data-act="undo"`, when(len(s.drafts[x.chain].past) == 0, ` disabled`), `>`).icon(iconUndo)
	p.raw(`Undo</button><button type="button" class="btn" id="edit-switch" data-act="switch">Switch `, either(s.Edit.off(x.at), `on`, `off`), `</button>`)
}

// mostMoved is how many words the sheet names.
const mostMoved = 3

// movedWords names the answer's words whose probability changed most from c to tried, of
// those whose per cents show it.
func (s *State) movedWords(p *page, c, tried []float64) {
	change := func(k int) float64 { return tried[k] - c[k] }
	var list []int
	for k := range c {
		if points(c[k], tried[k]) != 0 {
			list = append(list, k)
		}
	}
	slices.SortStableFunc(list, func(a, b int) int { return cmp.Compare(math.Abs(change(b)), math.Abs(change(a))) })
	if len(list) == 0 {
		p.raw(`No word of the answer moved by a whole per cent.`)
		return
	}
	p.raw(`Moved most: `)
	for n, k := range list[:min(len(list), mostMoved)] {
		p.raw(when(n > 0, `<span class="vh">, </span>`))
		before, after := percent(c[k]), percent(tried[k])
		p.raw(`<span class="mv"><bdi><b>`).text(s.answerWord(k)).raw(`</b></bdi><span class="vh"> from `, before, ` to `, after, ` %</span><span aria-hidden="true"> `).text(before).raw(` → <b>`).text(after).raw(` %</b> </span>`)
		changeMark(p, c[k], tried[k])
		p.raw(`</span>`)
	}
}
