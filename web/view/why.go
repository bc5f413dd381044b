package view

import (
	"math"
	"slices"
	"unicode/utf8"

	"nrt/trainer/reward"
	"nrt/web/heat"
)

// why is the table word by word: before, after, weight, what the word adds to R,
// and its weight in the gradient. The last column but one adds up to R (for P and
// GM, to the logarithm of R).
func (p *page) why(s *State) {
	r := s.Reading
	score := s.chainScore(s.chain())
	p.raw(`<details open id="why-words"><summary><h3>Why`)
	switch {
	case score != nil:
		p.raw(` `, number(score.R), `, word by word</h3><span class="cap only-desk">`, either(s.ofLog(), "the column adds up to log R", "add up the column"), `</span>`)
	case r != nil && r.under() && s.chain() >= 0:
		p.raw(`, word by word</h3><span class="cap">chain `).int(s.chain() + 1).raw(` is still being written</span>`)
	default:
		p.raw(`, word by word</h3>`)
	}
	p.icon(iconDown).raw(`</summary>`)
	if r == nil || len(r.Answer) == 0 {
		p.raw(`<p class="cap foot-note">The answer's words come with the first chain.</p></details>`)
		return
	}
	weights, base, on := s.weights(), s.scores().b, s.word()
	var adds []string
	most := 0.0
	if score != nil {
		adds = parts(score.Contribution, s.total(score))
		for i := range score.C {
			most = max(most, math.Abs(score.Contribution[i]), math.Abs(score.W[i]*s.baseTerm(i)))
		}
	}
	long := slices.ContainsFunc(adds, func(x string) bool { return utf8.RuneCountInString(x) > 6 })
	p.raw(`<table class="words`, crowd(len(r.Answer)), when(long, ` long`), `"><thead><tr><th scope="col">answer word</th><th scope="col">before<br><span class="v">c</span><sub>base</sub></th><th scope="col">after<br><span class="v">c</span></th><th scope="col">weight<br><span class="v">w</span></th><th scope="col">`)
	p.raw(s.addsHead(), `</th><th scope="col" title="the word's weight in the gradient: ∂R′/∂log c, divided by σ">pull<br><span class="v">G</span></th></tr></thead><tbody>`)
	for k := range r.Answer {
		before, weight := "?", ""
		if k < len(base) {
			before = percent(base[k]) + " %"
		}
		if weights != nil {
			weight = "× " + s.weightText(weights[k])
		}
		p.raw(`<tr`, when(k == on, ` class="on"`), ` data-act="word" data-value="`).int(k).raw(`"><th scope="row">`).text(s.answerWord(k)).raw(`</th><td>`).text(before).raw(`</td><td class="c">`)
		if score != nil {
			p.raw(`<i style="`).paint(heat.Sure.At(score.C[k])).raw(`"></i> <b>`).text(percent(score.C[k])).raw(` %</b></td><td class="w">`, weight, `</td><td>`)
			s.addsBar(p, score, k, most)
			p.raw(adds[k], `</td><td class="w">`, two(score.TokenWeight[k]))
		} else {
			const skeleton = `<span class="skel" aria-hidden="true"></span>`
			p.raw(skeleton, `</td><td class="w">`, weight, `</td><td>`, skeleton, `</td><td class="w">`)
		}
		p.raw(`</td></tr>`)
	}
	p.raw(`</tbody><tfoot>`)
	if score != nil {
		s.whySum(p, score)
	}
	p.raw(`</tfoot></table>`)
	if score == nil && weights != nil && !s.Mode.Log() && s.Mode != reward.AM {
		s.weightsNote(p, weights)
	}
	p.raw(`</details>`)
	s.worthTable(p)
	// What the columns are, in words: on a desk it has one line.
	p.raw(`<p class="formula"><b class="only-phone">`, modeLabel(s.Mode), `. </b>`, Formulas[s.Mode].note, when(s.Normalize && s.ownWeights(), ` Scaled to add up to one.`),
		`<span class="only-phone"> <b>Pull</b> is how hard the gradient raises the word.</span></p>`)
}

// ofLog reports whether the words add up to log R and not to R.
func (s *State) ofLog() bool { return s.Mode == reward.P || s.Mode == reward.GM }

// total is what the column adds up to: R, or log R.
func (s *State) total(score *reward.Scored) float64 {
	if s.ofLog() {
		return score.LogR
	}
	return score.R
}

// parts are what the words add to the total as they are shown: with the total's own
// decimals, where it has some. What rounding leaves over goes to the largest part,
// so that the column adds up to the total that is shown.
func parts(of []float64, total float64) []string {
	list := make([]string, len(of))
	if math.Abs(total) < 0.01 {
		for i, x := range of {
			list[i] = number(x)
		}
		return list
	}
	rest, largest := thousandths(total), 0
	for i, x := range of {
		rest -= thousandths(x)
		list[i] = decimals(thousandths(x) / 1000)
		if math.Abs(x) > math.Abs(of[largest]) {
			largest = i
		}
	}
	if len(of) > 0 && math.Abs(rest) <= float64(len(of)) {
		list[largest] = decimals((thousandths(of[largest]) + rest) / 1000)
	}
	return list
}

// thousandths is a number as it is shown with three decimals.
func thousandths(x float64) float64 { return math.Round(1000 * x) }

// gain is R − base, so that it is the difference of the two as they are shown.
func gain(r, base float64) string {
	if math.Min(math.Abs(r), math.Abs(base)) >= 0.01 {
		d := (thousandths(r) - thousandths(base)) / 1000
		if d != 0 || math.Abs(r-base) >= 0.0005 {
			return decimals(d)
		}
	}
	return number(r - base)
}

// addsHead is the head of the column that adds up.
func (s *State) addsHead() string {
	head := `adds to ` + when(s.ofLog(), `log `) + `<span class="v">R</span><br>`
	if s.Mode.Log() {
		return head + when(s.Mode == reward.GM, signW+` `) + `log ` + signC
	}
	return head + signC + ` × ` + signW + when(s.divided(), ` ÷ `+intText(len(s.Reading.Answer)))
}

// weightText is a weight as it is read, with the digits that its size needs.
func (s *State) weightText(w float64) string {
	w *= s.times()
	switch {
	case w >= 1000:
		return intText(int(math.Round(min(w, 1e15))))
	case s.Mode == reward.GM || s.divided() || w >= 1:
		return two(w)
	}
	return decimals(w)
}

// addsBar is the word's part of R: grey as without reasoning, purple more,
// orange less. In the logarithmic formulas less negative is more.
func (s *State) addsBar(p *page, score *reward.Scored, k int, most float64) {
	before, after := math.Abs(score.W[k]*s.baseTerm(k)), math.Abs(score.Contribution[k])
	if most == 0 {
		most = 1
	}
	less := after < before
	if s.Mode.Log() {
		less = after > before
	}
	p.raw(`<span class="kb" aria-hidden="true"><i class="`, either(less, `l`, `g`), `" style="--lo:`).unit(min(before, after) / most).raw(`;--hi:`).unit(max(before, after) / most).raw(`"></i></span>`)
}

// whySum is the last row: R, R without reasoning, the gain.
func (s *State) whySum(p *page, score *reward.Scored) {
	p.raw(`<tr><td colspan="6"><div><span>Sum`, when(s.ofLog(), ` `+number(score.LogR)), `</span><span><span class="v">R</span> <b>`, number(score.R), `</b> − no reasoning <b>`, number(score.Base), `</b> = `)
	gain := gain(score.R, score.Base)
	if score.Harmful {
		p.raw(`<b class="down">`, gain, `</b>`, when(s.Clip, ` · clipped to 0`))
	} else {
		p.raw(`gain <b class="up">`, gain, `</b>`)
	}
	p.raw(`</span></div></td></tr>`)
}

// weightsNote says what the weights do, while the chain is not there yet.
func (s *State) weightsNote(p *page, weights []float64) {
	at := 0
	for i, w := range weights {
		if w > weights[at] {
			at = i
		}
	}
	p.raw(`<p class="cap foot-note">Weights are known already: they depend only on the model without reasoning. Common words count little, “`).text(s.answerWord(at)).raw(`” counts `, s.weightText(weights[at]), `.</p>`)
}
