package view

import (
	"math"

	"nrt/trainer/reward"
	"nrt/web/chart"
)

// life is what the shown chain earns at each kept step of the followed run, and what
// is earned there without any reasoning, under the chosen formula.
type life struct {
	steps   []int
	r, base []float64 // NaN where the step's model has not read the chain
	sure    []float64 // mean probability of the answer's words there without any reasoning
	at      int       // index of the step that reads the page's chains, −1: none of these
	wrote   int       // and of the one that wrote them
}

// life of the shown chain; nil where fewer than two steps are kept.
func (s *State) life() *life {
	run, r, i := s.run(s.Run), s.Reading, s.chain()
	if run == nil || len(run.Checkpoints) < 2 || i < 0 || !r.ready() || !r.scored(i) {
		return nil
	}
	x := &life{at: -1, wrote: -1}
	for k, c := range run.Checkpoints {
		now, base, sure := math.NaN(), math.NaN(), 0.0
		if sight, known := r.sightOf(c.Model); known {
			if sc, err := reward.Score(sight.refs[i], sight.base, s.Options()); err == nil {
				now, base = sc.R, sc.Base
			}
			for _, b := range sight.base {
				sure += math.Exp(min(b, 0)) / float64(len(sight.base))
			}
		}
		x.steps, x.r, x.base, x.sure = append(x.steps, c.Step), append(x.r, now), append(x.base, base), append(x.sure, sure)
		if c.Model == r.reader() {
			x.at = k
		}
		if c.Model == r.Ask.Model {
			x.wrote = k
		}
	}
	return x
}

// ends are the indices of the first and the last step that are known.
func (x *life) ends() (first, last int) {
	first, last = -1, -1
	for i := range x.r {
		if math.IsNaN(x.r[i]) {
			continue
		}
		if first < 0 {
			first = i
		}
		last = i
	}
	return first, last
}

// The picture's size in its own units: it is as wide as the slider below it, and each
// step stands over its place there.
const (
	lifeWidth  = 1000
	lifeHeight = 44
)

// lifeChart draws the shown chain's reward and that of no reasoning over the kept
// steps: what lies between them is what the chain is worth to the model of the step.
func (s *State) lifeChart(p *page, x *life) {
	if x == nil {
		return
	}
	n := len(x.steps)
	lo, hi := math.Inf(1), math.Inf(-1)
	for i := range x.r {
		if !math.IsNaN(x.r[i]) {
			lo, hi = min(lo, x.r[i], x.base[i]), max(hi, x.r[i], x.base[i])
		}
	}
	places := chart.Lanes(n, 0, lifeWidth)
	up := chart.Scale{Lo: lo, Hi: hi, From: lifeHeight - 6, To: 6}
	at := func(list []float64) []float64 {
		y := make([]float64, n)
		for i, v := range list {
			if y[i] = v; !math.IsNaN(v) {
				y[i] = up.At(v)
			}
		}
		return y
	}
	now, base := at(x.r), at(x.base)
	p.raw(`<div class="life" id="life"><svg viewBox="0 0 `).int(lifeWidth).raw(` `).int(lifeHeight).raw(`" preserveAspectRatio="none" role="img" aria-label="`).text(s.lifeSummary(x)).raw(`">`)
	if x.at >= 0 {
		p.raw(`<path class="now" d="M`, chart.Num(places[x.at]), ` 0v`).int(lifeHeight).raw(`"/>`)
	}
	for i := range now {
		if !math.IsNaN(now[i]) {
			p.raw(`<path class="gap `, either(x.r[i] < x.base[i], "n", "p"), `" d="`, chart.Line([]float64{places[i], places[i]}, []float64{base[i], now[i]}), `"/>`)
		}
	}
	p.raw(`<path class="none" d="`, chart.Line(places, base), `"/><path class="with" d="`, chart.Line(places, now), `"/>`)
	for i := range now {
		p.raw(`<g class="pickable" data-act="step" data-value="`).int(i).raw(`">`)
		half := lifeWidth / float64(2*max(n-1, 1))
		left := chart.Num(max(places[i]-half, 0))
		p.raw(`<path class="hit" d="M`, left, ` 0H`, chart.Num(min(places[i]+half, lifeWidth)), `V`).int(lifeHeight).raw(`H`, left, `z"/>`)
		if !math.IsNaN(now[i]) {
			// A line without length and with round ends is a dot, however the drawing is stretched.
			p.raw(`<path class="pt none" d="M`, chart.Num(places[i]), ` `, chart.Num(base[i]), `h0"/><path class="pt`, when(i == x.at, " on"), `" d="M`, chart.Num(places[i]), ` `, chart.Num(now[i]), `h0"/>`)
		}
		p.raw(`</g>`)
	}
	p.raw(`</svg><div class="vh"><table><caption>`).text(s.lifeName()).raw(` through the training`,
		when(s.ownWeights(), `. `+modeLabel(s.Mode)+` weighs each word by what that step’s model knew without reasoning: rewards of two steps are not on one scale.`),
		`</caption><tr><th scope="col">step</th><th scope="col">reward</th><th scope="col">no reasoning</th></tr>`)
	for i, step := range x.steps {
		p.raw(`<tr><th scope="row">`).int(step).raw(when(i == x.wrote, `, wrote it`), `</th>`)
		for _, v := range []float64{x.r[i], x.base[i]} {
			p.raw(`<td>`, either(math.IsNaN(v), `not read yet`, number(v)), `</td>`)
		}
		p.raw(`</tr>`)
	}
	p.raw(`</table></div></div><p class="lifesay"><b>`).text(s.lifeName()).raw(`</b>`)
	if x.at >= 0 {
		p.raw(` at `).int(x.steps[x.at])
	}
	sc := s.chainScore(s.chain())
	p.raw(` <i class="with"></i><span class="v">R</span> <b>`, number(sc.R), `</b> <span class="alone"><i class="none"></i>no reasoning `, number(sc.Base), `</span></p>`)
}

func (s *State) lifeName() string { return "Chain " + intText(s.chain()+1) }

// lifeTold says what became of the shown chain's worth, or how to have it told.
func (s *State) lifeTold(p *page, x *life) {
	if x == nil {
		return
	}
	p.raw(`<p class="told cap">`)
	switch first, last := x.ends(); {
	case first < last:
		p.text(s.lifeVerdict(x, first, last))
	case s.through.id != "":
		p.raw(`The other steps are reading these chains.`)
	case s.Link != Live:
		p.raw(`What the other steps make of these chains needs the server.`)
	case len(s.unknown()) == 0:
		p.raw(`The other steps cannot read these chains.`)
	default:
		p.raw(`What did this chain earn at the other steps?`)
	}
	if s.through.id == "" && s.Link == Live && len(s.unknown()) > 0 {
		p.raw(` <button type="button" class="btn" id="act-through" data-act="through">Read at all `).int(len(x.steps)).raw(` steps</button>`)
	}
	p.raw(`</p>`)
}

// ownWeights reports whether the formula weighs the words by what its reader knew
// without reasoning, so that the rewards of two readers are not on one scale.
func (s *State) ownWeights() bool { return s.Mode == reward.WSInvP || s.Mode == reward.WSLogP }

// alikeGains is the share of a gain within which another one is about the same.
const alikeGains = 0.1

// lifeVerdict compares what the shown chain adds for the models of two steps.
func (s *State) lifeVerdict(x *life, first, last int) string {
	before, after := x.r[first]-x.base[first], x.r[last]-x.base[last]
	text := "From step " + intText(x.steps[first]) + " to " + intText(x.steps[last]) + " its gain "
	if !s.ownWeights() {
		text += "over no reasoning "
	}
	text += goesAs(before, after, gain(x.r[first], x.base[first]), gain(x.r[last], x.base[last]))
	if s.ownWeights() {
		text += ", each by its own weights"
	}
	surer := x.base
	if s.ownWeights() { // whose R of no reasoning says nothing of that: −b log b is largest at 1/e
		surer = x.sure
	}
	alike := math.Abs(after-before) <= alikeGains*max(math.Abs(after), math.Abs(before))
	switch {
	case alike && after <= 0:
		return text + ": the same words still do not help."
	case alike:
		return text + ": the same words help about as much."
	case after > before && after <= 0:
		return text + ": the same words came to hurt less."
	case after > before:
		return text + ": the same words came to help more."
	case surer[last] > surer[first]:
		return text + ": the model came to be surer without them."
	}
	return text + ": the same words came to help less."
}

// lifeSummary is the picture in words.
func (s *State) lifeSummary(x *life) string {
	text := s.lifeName() + " read by the models of " + count(len(x.steps), "step") + " of the training."
	for i, step := range x.steps {
		if !math.IsNaN(x.r[i]) {
			text += " Step " + intText(step) + ": reward " + number(x.r[i]) + ", no reasoning " + number(x.base[i]) + "."
		}
	}
	return text
}
