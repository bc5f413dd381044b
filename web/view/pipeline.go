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
	short     string // on a phone
	detail    string
	say       string // the sentence below, on a phone
	figure    string // SVG
}

// Pipeline is the strip from words to gradient, with the chosen chain's numbers.
func Pipeline(s *State) string {
	p := &page{}
	p.raw(`<div class="pipe-ctl"><h2 class="only-phone">From words to gradient</h2><button type="button" class="btn primary" id="act-play" data-act="play">`)
	if s.Playing {
		p.icon(iconPause).raw(`Pause`)
	} else {
		p.icon(iconPlay).raw(`Play`)
	}
	p.raw(`</button><button type="button" class="btn icon" id="act-step" data-act="step" aria-label="One phase further (Space)" title="Step (Space)">`).icon(iconStep).raw(`</button></div><ol class="phases">`)
	list := s.phases()
	for i, x := range list {
		p.raw(`<li class="ph"`)
		if i == s.Phase {
			p.raw(` aria-current="step"`)
		}
		p.raw(`><button type="button" id="phase-`).int(i).raw(`" data-act="phase" data-value="`).int(i).raw(`"><span class="l"><span class="v">`, x.v, `</span> `, x.label, `</span><span class="n"><span class="only-desk">`).text(x.big)
		if x.unit != "" {
			p.raw(` <small>`).text(x.unit).raw(`</small>`)
		}
		p.raw(`</span><span class="only-phone">`).text(x.short).raw(`</span></span>`, x.figure, `<span class="d">`).text(x.detail).raw(`</span></button></li>`)
	}
	x := list[s.Phase]
	p.raw(`</ol><p class="pipe-say"><b>`, x.v, ` · `, x.label)
	if x.big != unknownNumber {
		p.raw(` `).text(strings.TrimSpace(x.big + " " + x.unit))
	}
	p.raw(`.</b> `).text(x.say).raw(`</p>`)
	return p.String()
}

// unknownNumber stands where a phase's number is not known yet.
const unknownNumber = "·"

func (s *State) phases() [Phases]phase {
	list := [Phases]phase{
		{v: "x", label: "Question", say: "The question goes in as tokens."},
		{v: "z", label: "Reasoning", say: "The model writes a chain of thought, freely."},
		{v: "c", label: "How sure", say: "Then it reads the reference answer: how probable is each word?"},
		{v: "R", label: "Reward", say: rewardSay(s.Mode)},
		{v: "R′", label: "Gain", say: "What counts is the gain over no reasoning."},
		{v: "A", label: "Advantage", say: "A chain is judged against the others of its group."},
		{v: "∇", label: "Gradient", say: "Every answer word pulls on the model; hard words pull most."},
	}
	for i := range list {
		list[i].big, list[i].short, list[i].detail = unknownNumber, unknownNumber, "not known yet"
	}
	r := s.Reading
	i := s.chain()
	if r == nil {
		return list
	}
	if n := len(r.Prompt); n > 0 {
		list[0].big, list[0].short, list[0].unit = intText(n), intText(n), plural(n, "token")
		list[0].detail = count(words(r.Ask.Question), "word") + " and the frame"
	}
	if i < 0 {
		return list
	}
	c := &r.Chains[i]
	n := len(c.shown())
	list[1].big, list[1].short, list[1].unit = intText(n), intText(n), plural(n, "token")
	list[1].detail = "chain " + intText(i+1) + ", written freely"
	if !c.Done && r.under() {
		list[1].detail = "chain " + intText(i+1) + ", being written"
	}
	sc := s.chainScore(i)
	if sc == nil {
		return list
	}
	k := s.word()
	w := s.answerWord(k)
	list[2].big, list[2].short = percent(sc.C[k])+" %", percent(sc.C[k])+" %"
	list[2].detail = "of “" + w + "”, was " + percent(s.scores().b[k]) + " %"
	list[2].figure = s.sureFigure(sc)
	list[3].big, list[3].short = number(sc.R), brief(sc.R)
	list[3].detail = rewardDetail(s.Mode)
	list[3].say += " Without any reasoning it would be " + number(sc.Base) + "."
	list[3].figure = s.rewardFigure(sc, false)
	list[4].big, list[4].short = number(sc.Clipped), brief(sc.Clipped)
	if s.Clip && !sc.Harmful {
		list[4].big = gain(sc.R, sc.Base)
	}
	list[4].figure = s.rewardFigure(sc, true)
	switch {
	case !s.Clip:
		list[4].label = "Counts"
		list[4].detail = "clip is off: R as it is"
		list[4].say = "The clip is off, so R goes on as it is."
	case sc.Harmful:
		list[4].detail = number(sc.R) + " is below " + number(sc.Base)
		if number(sc.R) == number(sc.Base) {
			list[4].detail = number(sc.R) + " is not above " + number(sc.Base)
		}
		list[4].say = "This chain does not beat no reasoning: its gain is clipped to 0."
	default:
		list[4].detail = minusText(sc.R, sc.Base) + ", at least 0"
	}
	if !s.scores().ready {
		list[5].detail = "waits for the group"
		return list
	}
	g := s.group()
	list[5].big, list[5].short = signed(sc.Advantage), signed(sc.Advantage)
	list[5].detail = "group mean " + number(g.Mean)
	switch {
	case len(r.Chains) == 1:
		list[5].detail = "no group"
	case g.AllHarmful:
		list[5].detail = "all gains are 0"
	case g.ZeroVariance:
		list[5].detail = "the group ties"
	case r.By != "":
		list[5].detail = "what-if: trains nothing"
	}
	if r.By != "" {
		list[5].say = "A what-if: " + s.stepName(r.By) + " did not write these chains, so nothing would train on this."
	}
	list[5].figure = s.advantageFigure(sc)
	top := 0
	for j, x := range sc.TokenWeight {
		if math.Abs(x) > math.Abs(sc.TokenWeight[top]) {
			top = j
		}
	}
	list[6].big, list[6].short = two(sc.TokenWeight[top]), two(sc.TokenWeight[top])
	list[6].detail = "strongest pull: “" + s.answerWord(top) + "”"
	list[6].figure = s.pullFigure(sc)
	switch {
	case samePull(sc.TokenWeight) && len(sc.TokenWeight) > 1 && sc.TokenWeight[top] != 0:
		list[6].detail = "the same pull on every word"
		list[6].say = "Every answer word pulls on the model, each as hard as the others."
	case sc.TokenWeight[top] == 0:
		list[6].detail = "no pull on any word"
		list[6].say = "No answer word pulls: there is nothing to gain from this chain."
	case r.By != "":
		list[6].say = "A what-if: nothing trains on this. So hard would each answer word pull."
	}
	return list
}

// samePull reports whether all pulls are equal but for rounding, as the formulas
// that multiply all words make them.
func samePull(list []float64) bool {
	for _, x := range list {
		if math.Abs(x-list[0]) > 1e-9*math.Abs(list[0]) {
			return false
		}
	}
	return true
}

func words(s string) int { return len(strings.Fields(s)) }

// brief is a reward in the width of a phone's box.
func brief(x float64) string {
	if a := math.Abs(x); a != 0 && a < 0.00995 {
		return number(x)
	}
	return two(x)
}

// minusText is "a − b".
func minusText(a, b float64) string {
	if b < 0 {
		return number(a) + " + " + number(-b)
	}
	return number(a) + " − " + number(b)
}

func rewardDetail(m reward.Mode) string {
	return [...]string{"log of the answer's chance", "chance of the whole answer", "geometric mean of the words", "mean of the words", "rare words count more", "rare words count more"}[m]
}

func rewardSay(m reward.Mode) string {
	return [...]string{
		"The logarithm of the probability of the whole answer.",
		"The probability of the whole answer.",
		"The geometric mean of the words' probabilities.",
		"The mean of the words' probabilities.",
		"The certainty of all answer words, each divided by how sure the model was before.",
		"The certainty of all answer words, where rare words count more.",
	}[m]
}

const figureHead = `<svg class="m" width="54" height="22" viewBox="0 0 54 22" aria-hidden="true">`

// figureBars is how many bars a box holds.
const figureBars = 12

// stretches cuts n values into at most figureBars.
func stretches(n int, draw func(i, m, from, to int)) {
	m := min(n, figureBars)
	for i := range m {
		draw(i, m, i*n/m, (i+1)*n/m)
	}
}

func (p *page) rect(x, y, w, h float64, fill string) {
	if w > 0 && h > 0 {
		p.raw(`<rect x="`, chart.Num(x), `" y="`, chart.Num(y), `" width="`, chart.Num(w), `" height="`, chart.Num(h), `" fill="var(--`, fill, `)"/>`)
	}
}

// sureFigure is the strip in small.
func (s *State) sureFigure(sc *reward.Scored) string {
	p := &page{}
	p.raw(figureHead)
	b := s.scores().b
	stretches(len(sc.C), func(i, m, from, to int) {
		step := 54 / float64(m)
		bar := chart.NewBar(mean(b[from:to]), mean(sc.C[from:to]))
		fill := "up-fill"
		if bar.Less {
			fill = "down-hole"
		}
		x, w := float64(i)*step, min(step-1, 8)
		p.rect(x, 22-22*bar.Lo, w, 22*bar.Lo, "slate")
		p.rect(x, 22-22*bar.Hi, w, 22*(bar.Hi-bar.Lo), fill)
	})
	return p.raw(`</svg>`).String()
}

// rewardFigure is R on the axis of the group's rewards, gain set off.
func (s *State) rewardFigure(sc *reward.Scored, gain bool) string {
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
	p := &page{}
	p.raw(figureHead)
	p.rect(0, 7, 54, 8, "line")
	if !gain {
		p.rect(0, 7, min(base, r), 8, "slate")
	}
	if sc.Harmful {
		p.rect(r, 7, base-r, 8, "down-hole")
	} else {
		p.rect(base, 7, r-base, 8, "up-fill")
	}
	if gain {
		p.raw(`<path d="M`, chart.Num(base), ` 3v16" stroke="var(--ink-2)" stroke-width="1.5"/>`)
	}
	return p.raw(`</svg>`).String()
}

func (s *State) advantageFigure(sc *reward.Scored) string {
	p := &page{}
	p.raw(figureHead, `<path d="M27 2v18" stroke="var(--edge)"/>`)
	w := 26 * math.Abs(sc.Advantage) / s.widest()
	if sc.Advantage < 0 {
		p.rect(27-w, 7, w, 8, "down-fill")
	} else {
		p.rect(27, 7, w, 8, "up-fill")
	}
	return p.raw(`</svg>`).String()
}

func (s *State) pullFigure(sc *reward.Scored) string {
	p := &page{}
	p.raw(figureHead, `<path d="M0 21.5h54" stroke="var(--edge)"/>`)
	most := 0.0
	for _, x := range sc.TokenWeight {
		most = max(most, math.Abs(x))
	}
	if most > 0 {
		stretches(len(sc.C), func(i, m, from, to int) {
			step, top := 54/float64(m), 0.0
			for _, x := range sc.TokenWeight[from:to] {
				top = max(top, math.Abs(x))
			}
			h := 20 * top / most
			p.rect(float64(i)*step, 21-h, min(step-1, 8), max(h, 0.3), "up-fill")
		})
	}
	return p.raw(`</svg>`).String()
}
