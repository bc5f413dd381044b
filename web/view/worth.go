package view

import (
	"math"
	"slices"

	"nrt/trainer/reward"
)

// worthTable is the change of the reward if a sentence of the shown chain is left
// out, and if the chain is written afresh from there, sentence by sentence.
func (s *State) worthTable(p *page) {
	i := s.chain()
	list := s.Reading.sentences(i)
	score := s.chainScore(i)
	if score == nil || len(list) == 0 {
		return
	}
	losses, fresh := s.losses(i), s.freshScores(i)
	two := fresh != nil || s.writingAfresh(i) // columns
	p.raw(`<details open id="why-sents"><summary>`, either(two,
		`<h3>Change in reward if a sentence is …</h3><span class="key sp"><span><i class="del"></i>deleted</span><span><i class="res"></i>rewritten</span></span>`,
		`<h3>Change in reward if a sentence is deleted</h3>`)).icon(iconDown).raw(`</summary>`)
	n := s.Reading.worthTokens(i)
	if losses == nil && n > autoTokens && !s.worth[i] && s.Fresh != i {
		p.raw(`<p class="cap foot-note">Each of `).text(count(len(list), "sentence")).raw(` is left out in turn and the rest read again: `).int(n).raw(` tokens.</p>`)
		p.raw(`<p class="foot-note"><button type="button" class="btn" id="act-worth" data-act="worth"`, when(s.Link != Live || !s.Reading.ready(), ` disabled`), `>Work it out</button></p></details>`)
		return
	}
	at, scale, shown := s.sentence(), newWorthScale(score.R, losses, fresh), s.Reading.Chains[i].shown()
	for k, x := range s.Reading.changeable(i) {
		tried := s.freshAt(i, k)
		p.raw(`<button type="button" class="sb`, when(two, ` two`), when(k == at, ` on`), `" id="loss-`).int(k).raw(`" data-act="pick" data-value="`).int(k).raw(`"`, when(losses == nil && fresh == nil, ` disabled`),
			`><span class="no">`).int(k + 1).raw(`</span><span class="tx">`).text(textOf(shown[x.from:x.to])).raw(`</span>`)
		if losses == nil && tried == nil {
			p.raw(`<span class="skel" aria-hidden="true"></span>`)
		} else {
			p.raw(`<span class="sbar" aria-hidden="true" style="--z:`).unit(scale.at(0)).raw(`">`)
			if losses != nil {
				scale.bar(p, losses[k])
			}
			if tried != nil {
				scale.whisker(p, tried.lo-score.R, tried.mean-score.R, tried.hi-score.R)
			}
			p.raw(`</span>`)
		}
		p.raw(when(two, `<span class="vh">, deleted: </span>`))
		if losses != nil {
			text := lossText(score, losses[k])
			p.raw(`<span class="e e1 `, direction(shownLoss(text, losses[k])), `">`, text, `</span>`)
		} else {
			p.raw(`<span class="e e1">?</span>`)
		}
		switch {
		case tried != nil:
			p.raw(`<span class="vh">, rewritten: </span><span class="e e2">`, lossText(score, tried.mean-score.R), `</span><span class="vh">, from `, lossText(score, tried.lo-score.R), ` to `, lossText(score, tried.hi-score.R), `</span>`)
		case two:
			p.raw(`<span class="e e2" aria-hidden="true">…</span>`)
		}
		p.raw(`</button>`)
	}
	if losses == nil || s.freshAt(i, at) == nil && !s.writingAfresh(i) { // else the texts are, or will be, named below
		s.worthNote(p, i, two)
	}
	if losses != nil || two {
		s.freshRow(p, i)
	}
	s.freshTexts(p, i, at)
	p.raw(`</details>`)
}

// worthNote says what the columns are, or why there are none.
func (s *State) worthNote(p *page, i int, two bool) {
	known := s.losses(i) != nil
	switch {
	case known && two:
		p.raw(`<p class="cap foot-note">Deleted: the rest stays. Rewritten: it goes on afresh (mean of `).int(freshN).raw(`).</p>`)
	case known:
		p.raw(`<p class="cap foot-note">Deleted: the rest stays, and the reference is read again after it.</p>`)
	case s.refused[Edit{}.key(i)] && s.Link == Live:
		p.raw(`<p class="cap foot-note">What each sentence is worth could not be told.</p><p class="foot-note"><button type="button" class="btn" id="act-worth" data-act="worth">Try again</button></p>`)
	case s.Link == Live:
		p.raw(`<p class="cap foot-note">Each sentence is left out in turn; the rewards are being worked out.</p>`)
	default:
		p.raw(`<p class="cap foot-note">What each sentence is worth needs the server.</p>`)
	}
}

// freshRow is how far chain i is written afresh, or the way to have that done.
func (s *State) freshRow(p *page, i int) {
	r, w := s.Reading, &s.rewriting
	missing := r.unwritten(i)
	switch {
	case s.writingAfresh(i):
		all := len(r.Places(i))
		done := all - len(missing)
		p.raw(`<div class="fresh"><div class="prog" role="progressbar" aria-label="Sentences written afresh" aria-valuemin="0" aria-valuemax="`).int(all).raw(`" aria-valuenow="`).int(done).raw(`" style="--p:`).int(100 * done / all).raw(`%"><i></i></div><span class="cap">`)
		if w.queued && w.chain == i {
			p.text(queueText(w.before, w.wait))
		} else {
			p.raw(`Rewriting: `).int(done).raw(` of `).text(count(all, "sentence"))
		}
		p.raw(`</span><button type="button" class="btn" id="act-fresh-stop" data-act="fresh-stop">Cancel</button></div>`)
	case len(missing) == 0 || s.Link != Live || !r.ready():
	case s.tired[i] || !r.quick(i):
		p.raw(`<div class="fresh"><button type="button" class="btn" id="act-fresh" data-act="fresh">Rewrite each sentence `).int(freshN).raw(` times</button><span class="cap">about `).int(r.freshTokens(i, missing)).raw(` tokens</span></div>`)
	}
}

// freshTexts are what the model wrote afresh from sentence k on and what that earned,
// the best first, under what the two columns are.
func (s *State) freshTexts(p *page, i, k int) {
	x := s.freshAt(i, k)
	if x == nil {
		return
	}
	r := s.Reading
	cut := r.Places(i)[k]
	p.raw(`<details id="why-fresh" class="tries"><summary>Deleted: the rest stays. Rewritten by `).text(s.freshBy()).raw(`: mean of `).int(len(x.r)).raw(`</summary><ol>`)
	line := func(class, note string, reward float64, text string) {
		p.raw(`<li`, class, `><b>`, number(reward), `</b> <span>`, when(text == "", `<i class="cap">nothing: it answered at once</i>`)).text(text).raw(`</span>`)
		if note != "" {
			p.raw(` <span class="cap">`, note, `</span>`)
		}
		p.raw(`</li>`)
	}
	line(` class="was"`, "as it was, from sentence "+intText(k+1)+" on", s.chainScore(i).R, textOf(r.Chains[i].shown()[cut:]))
	list := r.fresh[place{i, cut}]
	order := rising(x.r)
	slices.Reverse(order)
	for n := 0; n < len(order); n++ {
		j, same := order[n], 1
		for n+1 < len(order) && list[order[n+1]].Text == list[j].Text && x.r[order[n+1]] == x.r[j] {
			n++
			same++
		}
		line("", when(same > 1, intText(same)+" times"), x.r[j], list[j].Text)
	}
	p.raw(`</ol></details>`)
}

// freshBy is the model that wrote afresh: the one that reads.
func (s *State) freshBy() string {
	if s.Reading.By != "" {
		return s.stepName(s.Reading.By)
	}
	return "the model"
}

// worthScale maps changes of the reward to places on the rows' bars, 0 to 1: from the
// largest loss to the largest gain, with room at the ends.
type worthScale struct{ lo, hi float64 }

func newWorthScale(r float64, losses []float64, fresh []afresh) worthScale {
	var w worthScale
	see := func(x float64) { w.lo, w.hi = min(w.lo, x), max(w.hi, x) }
	for _, x := range losses {
		see(x)
	}
	for _, f := range fresh {
		if len(f.r) > 0 {
			see(f.lo - r)
			see(f.hi - r)
		}
	}
	if w.lo == w.hi {
		w.lo = -1
	}
	return w
}

func (w worthScale) at(x float64) float64 {
	const edge = 0.06
	return edge + (1-2*edge)*(x-w.lo)/(w.hi-w.lo)
}

// bar is a change from nought.
func (w worthScale) bar(p *page, x float64) {
	from, to := w.at(min(x, 0)), w.at(max(x, 0))
	p.raw(`<i class="`, either(x > 0, "p", "n"), `" style="--x:`).unit(from).raw(`;--w:`).unit(to - from).raw(`"></i>`)
}

// whisker is a mean between the least and the most.
func (w worthScale) whisker(p *page, lo, mean, hi float64) {
	p.raw(`<i class="wh" style="--x:`).unit(w.at(lo)).raw(`;--w:`).unit(w.at(hi) - w.at(lo)).raw(`"></i><u style="--x:`).unit(w.at(mean)).raw(`"></u>`)
}

// shownLoss is a change of a reward, nought where its text says so.
func shownLoss(text string, loss float64) float64 {
	if text == "0.000" {
		return 0
	}
	return loss
}

// lossText is a change of a reward, as the difference of the two as they are shown.
func lossText(score *reward.Scored, loss float64) string {
	if math.Abs(score.R) >= 0.01 && math.Abs(loss) < 0.0005 && thousandths(score.R+loss) == thousandths(score.R) {
		return "0.000"
	}
	text := gain(score.R+loss, score.R)
	if loss > 0 && text != "0.000" {
		text = "+" + text
	}
	return text
}
