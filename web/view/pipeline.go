package view

import (
	"math"
	"strconv"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/chart"
)

func fixed(x float64, decimals int) string { return strconv.FormatFloat(x, 'f', decimals, 64) }

// Phases is the number of boxes from question to gradient.
const Phases = 7

// phase is one box of the strip.
type phase struct {
	v, label  string
	big, unit string // the number and its unit
	short     string // the number on a phone, "" if it is the same
	detail    string
	say       string      // the sentence below, on a phone
	figure    func(*page) // nil without
}

// pipeline is the strip from words to gradient, with the chosen chain's numbers.
func (p *page) pipeline(s *State) {
	p.raw(`<div class="pipe-ctl"><h2 class="only-phone">From words to gradient</h2><button type="button" class="btn primary" id="act-play" data-act="play">`).icon(either(s.Playing, iconPause, iconPlay)).raw(either(s.Playing, `Pause`, `Play`))
	p.raw(`</button><button type="button" class="btn icon" id="act-step" data-act="step" aria-label="One phase further (Space)" title="Step (Space)">`).icon(iconStep).raw(`</button></div><ol class="phases">`)
	list := s.phases()
	for i, x := range list {
		now := i == s.Phase
		p.raw(`<li class="ph`, when(now, ` on`), `"><button type="button" id="phase-`).int(i).raw(`" data-act="phase" data-value="`).int(i)
		p.raw(`"`, when(now, ` aria-current="step"`), `><span class="l"><span class="v">`, x.v, `</span> `, x.label, `</span><span class="n"><span class="only-desk">`).text(x.big)
		p.raw(when(x.unit != "", ` <small>`+x.unit+`</small>`), `</span><span class="only-phone">`).text(either(x.short != "", x.short, x.big)).raw(`</span></span>`)
		if x.figure != nil {
			p.raw(`<svg class="m" width="54" height="22" viewBox="0 0 54 22" aria-hidden="true">`)
			x.figure(p)
			p.raw(`</svg>`)
		}
		p.raw(`<span class="d">`).text(x.detail).raw(`</span></button></li>`)
	}
	x := list[s.Phase]
	p.raw(`</ol><p class="pipe-say"><b>`, x.v, ` · `, x.label)
	if x.big != unknownNumber {
		p.raw(` `).text(strings.TrimSpace(x.big + " " + x.unit))
	}
	p.raw(`.</b> `).text(x.say).raw(`</p>`)
}

// unknownNumber stands where a phase's number is not known yet.
const unknownNumber = "·"

// phases are the boxes with as much as is known of the chosen chain.
func (s *State) phases() [Phases]phase {
	list := [Phases]phase{
		{v: "x", label: "Question", say: "The question goes in as tokens."},
		{v: "z", label: "Reasoning", say: "The model writes a chain of thought, freely."},
		{v: "c", label: "How sure", say: "Then it reads the reference answer: how probable is each word?"},
		{v: "R", label: "Reward", say: Formulas[s.Mode].say},
		{v: "R′", label: "Gain", say: "What counts is the gain over no reasoning."},
		{v: "A", label: "Advantage", say: "A chain is judged against the others of its group."},
		{v: "∇", label: "Gradient", say: "Every answer word pulls on the model; hard words pull most."},
	}
	for i := range list {
		list[i].big, list[i].detail = unknownNumber, "not known yet"
	}
	r, i := s.Reading, s.chain()
	if r == nil {
		return list
	}
	if n := len(r.Prompt); n > 0 {
		x := &list[0]
		x.big, x.unit, x.detail = intText(n), plural(n, "token"), count(len(strings.Fields(r.Ask.Question)), "word")+" and the frame"
	}
	if i < 0 {
		return list
	}
	c := &r.Chains[i]
	n := len(c.shown())
	list[1].big, list[1].unit = intText(n), plural(n, "token")
	list[1].detail = "chain " + intText(i+1) + either(!c.Done && r.under(), ", being written", ", written freely")
	sc := s.chainScore(i)
	if sc == nil {
		return list
	}
	k := s.word()
	list[2].big = percent(sc.C[k]) + " %"
	list[2].detail = "of “" + s.answerWord(k) + "”, was " + percent(s.scores().b[k]) + " %"
	list[2].figure = func(p *page) { s.sureFigure(p, sc) }
	list[3].big, list[3].short, list[3].detail = number(sc.R), brief(sc.R), Formulas[s.Mode].detail
	list[3].say += " Without any reasoning it would be " + number(sc.Base) + "."
	list[3].figure = func(p *page) { s.rewardFigure(p, sc, false) }
	s.gained(&list[4], sc)
	if !s.scores().ready {
		list[5].detail = "waits for the group"
		return list
	}
	s.compared(&list[5], sc)
	s.pulled(&list[6], sc)
	return list
}

// gained says what of the reward counts.
func (s *State) gained(x *phase, sc *reward.Scored) {
	x.big, x.short = number(sc.Clipped), brief(sc.Clipped)
	x.figure = func(p *page) { s.rewardFigure(p, sc, true) }
	r, base := number(sc.R), number(sc.Base)
	switch {
	case !s.Clip:
		x.label, x.detail = "Counts", "clip is off: R as it is"
		x.say = "The clip is off, so R goes on as it is."
	case sc.Harmful:
		how := either(r == base, " is not above ", " is below ")
		x.detail = r + how + base
		x.say = "R = " + r + how + "the " + base + " of no reasoning: the gain is clipped to 0."
	default:
		x.big = gain(sc.R, sc.Base)
		x.detail = r + either(sc.Base < 0, " + "+number(-sc.Base), " − "+base) + ", at least 0"
	}
}

// compared says what the chain is worth in its group.
func (s *State) compared(x *phase, sc *reward.Scored) {
	r, g := s.Reading, s.group()
	x.big, x.detail = signed(sc.Advantage), "group mean "+number(g.Mean)
	x.figure = func(p *page) { s.advantageFigure(p, sc) }
	switch {
	case len(r.Chains) == 1:
		x.detail = "no group"
	case g.AllHarmful:
		x.detail = "all gains are 0"
	case g.ZeroVariance:
		x.detail = "the group ties"
	case r.By != "":
		x.detail = "what-if: trains nothing"
	}
	if r.By != "" {
		x.say = "A what-if: " + s.stepName(r.By) + " did not write these chains, so nothing would train on this."
	}
}

// pulled says how hard the words pull on the model.
func (s *State) pulled(x *phase, sc *reward.Scored) {
	list, top := sc.TokenWeight, 0
	same := true // but for rounding, as the formulas that multiply all words make them
	for j, w := range list {
		if math.Abs(w) > math.Abs(list[top]) {
			top = j
		}
		same = same && math.Abs(w-list[0]) <= 1e-9*math.Abs(list[0])
	}
	x.big, x.detail = two(list[top]), "strongest pull: “"+s.answerWord(top)+"”"
	x.figure = func(p *page) { pullFigure(p, list, math.Abs(list[top])) }
	switch {
	case list[top] == 0:
		x.detail, x.say = "no pull on any word", "No answer word pulls: there is nothing to gain from this chain."
	case same && len(list) > 1:
		x.detail, x.say = "the same pull on every word", "Every answer word pulls on the model, each as hard as the others."
	case s.Reading.By != "":
		x.say = "A what-if: nothing trains on this. So hard would each answer word pull."
	}
}

// brief is a reward in the width of a phone's box.
func brief(x float64) string {
	if a := math.Abs(x); a != 0 && a < 0.00995 {
		return number(x)
	}
	return two(x)
}

// figureBars is how many bars a box holds.
const figureBars = 12

func (p *page) rect(x, y, w, h float64, fill string) {
	if w > 0 && h > 0 {
		p.raw(`<rect x="`, chart.Num(x), `" y="`, chart.Num(y), `" width="`, chart.Num(w), `" height="`, chart.Num(h), `" fill="var(--`, fill, `)"/>`)
	}
}

// sureFigure is the strip in small.
func (s *State) sureFigure(p *page, sc *reward.Scored) {
	list := bars(s.scores().b, sc.C, figureBars)
	step := 54 / float64(len(list))
	for i, bar := range list {
		x, w := float64(i)*step, min(step-1, 8)
		p.rect(x, 22-22*bar.Lo, w, 22*bar.Lo, "slate")
		p.rect(x, 22-22*bar.Hi, w, 22*(bar.Hi-bar.Lo), either(bar.Less, "down-hole", "up-fill"))
	}
}

// rewardFigure is R on the axis of the group's rewards, gain set off.
func (s *State) rewardFigure(p *page, sc *reward.Scored, gain bool) {
	g := s.group()
	values := make([]float64, len(g.Chains))
	for i := range g.Chains {
		values[i] = g.Chains[i].R
	}
	lo, hi := chart.Axis(values, g.Base)
	if lo > 0 && hi > 0 {
		lo = 0
	}
	scale := chart.Scale{Lo: lo, Hi: hi, From: 0, To: 54}
	base, r := scale.At(sc.Base), scale.At(sc.R)
	p.rect(0, 7, 54, 8, "line")
	if !gain {
		p.rect(0, 7, min(base, r), 8, "slate")
	}
	if sc.Harmful {
		p.rect(r, 7, base-r, 8, "down-hole")
	} else {
		p.rect(base, 7, r-base, 8, "up-fill")
	}
	p.raw(when(gain, `<path d="M`+chart.Num(base)+` 3v16" stroke="var(--ink-2)" stroke-width="1.5"/>`))
}

func (s *State) advantageFigure(p *page, sc *reward.Scored) {
	p.raw(`<path d="M27 2v18" stroke="var(--edge)"/>`)
	w := 26 * math.Abs(sc.Advantage) / s.widest()
	if sc.Advantage < 0 {
		p.rect(27-w, 7, w, 8, "down-fill")
	} else {
		p.rect(27, 7, w, 8, "up-fill")
	}
}

// pullFigure is how hard the words pull, of a long answer the hardest of each stretch.
func pullFigure(p *page, list []float64, most float64) {
	p.raw(`<path d="M0 21.5h54" stroke="var(--edge)"/>`)
	if most == 0 {
		return
	}
	n, m := len(list), min(len(list), figureBars)
	for i := range m {
		step, top := 54/float64(m), 0.0
		for _, x := range list[i*n/m : (i+1)*n/m] {
			top = max(top, math.Abs(x))
		}
		h := 20 * top / most
		p.rect(float64(i)*step, 21-h, min(step-1, 8), max(h, 0.3), "up-fill")
	}
}
