package view

import (
	"math"
	"strconv"

	"nrt/web/chart"
	"nrt/web/heat"
)

func intText(n int) string     { return strconv.Itoa(n) }
func uintText(n uint64) string { return strconv.FormatUint(n, 10) }

// question is the question as it was asked; its last sentence stands out. One in a
// language of its own is said in plain words first.
func (p *page) question(s *State) {
	if s.Reading == nil {
		return
	}
	q := s.Reading.Ask.Question
	if plain := s.Reading.Plain; plain != "" {
		p.emphasis("plain", plain)
		p.raw(`<span class="cap">The model is asked: <span class="asked">`).text(q).raw(`</span></span>`)
	} else {
		p.emphasis("asked", q)
	}
}

// emphasis is a text whose last sentence stands out.
func (p *page) emphasis(class, text string) {
	at := lastSentence(text)
	p.raw(`<span class="`, class, `">`).text(text[:at]).raw(`<b>`).text(text[at:]).raw(`</b></span>`)
}

// lastSentence is where the last sentence of a text begins.
func lastSentence(q string) int {
	at := 0
	for i := 0; i+2 < len(q); i++ {
		if (q[i] == '.' || q[i] == '!' || q[i] == '?' || q[i] == '\n') && (q[i+1] == ' ' || q[i+1] == '\n') {
			at = i + 2
		}
	}
	return at
}

// strip is the reference answer word by word: how sure the model was before and
// after the chosen chain.
func (p *page) strip(s *State) {
	r := s.Reading
	p.raw(`<div class="strip-h"><h2>`)
	i := s.chain()
	score := s.chainScore(i)
	switch {
	case r == nil || len(r.Answer) == 0:
		p.raw(`How sure is the model of each answer word?`)
	case score != nil && r.By != "":
		p.raw(`How sure is `).text(s.modelOf(r.By)).raw(` of each answer word, before and after this reasoning?`)
	case score != nil:
		p.raw(`How sure was the model of each answer word, before and after this reasoning?`)
	case len(r.Chains) == 0 || !r.under():
		p.raw(`How sure was the model of each answer word?`)
	default:
		p.raw(`How sure was the model before? After comes when chain `).int(i + 1).raw(` is complete.`)
	}
	p.raw(`</h2>`)
	legend(s, p)
	p.raw(`</div>`)
	if r == nil {
		return
	}
	most, on := s.mostWeight(), s.word()
	p.raw(`<ol dir="auto" class="toks`, crowd(len(r.Answer)), `" aria-label="Reference answer. Left and right arrow keys move between words.">`)
	for k := range r.Answer {
		s.stripWord(p, k, k == on, most)
	}
	p.raw(`</ol>`)
}

// crowd is how closely n words stand.
func crowd(n int) string {
	switch {
	case n >= 19:
		return " many more most"
	case n >= 15:
		return " many more"
	case n >= 10:
		return " many"
	}
	return ""
}

// stripWord is one word: a bar, the word on its colour, the change, the numbers.
func (s *State) stripWord(p *page, k int, on bool, most float64) {
	r, score := s.Reading, s.chainScore(s.chain())
	w := s.answerWord(k)
	known := k < len(r.Base)
	before := 0.0
	if known {
		before = math.Exp(min(r.Base[k], 0))
	}
	p.raw(`<li class="tok`, when(on, ` on`), when(s.answerEnd(k), ` end`), when(r.Answer[k].Unknown, ` unk`), `"`)
	if score != nil {
		paint := heat.Sure.At(score.C[k])
		switch s.Colour {
		case ByChange:
			paint = heat.Change.At(score.C[k] - before)
		case ByWeight:
			paint = heat.Sure.At(score.W[k] / most)
		case ByAdds:
			paint = heat.Sure.At(math.Abs(score.Contribution[k]) / most)
		}
		p.raw(` style="`).paint(paint).raw(`"`)
	}
	p.raw(`><button type="button" id="word-`).int(k).raw(`" data-act="pin" data-value="`).int(k).raw(`" tabindex="`, either(on, "0", "-1"), `" aria-pressed="`, strconv.FormatBool(on), `" aria-haspopup="dialog" aria-expanded="`, strconv.FormatBool(k == s.card()), `"><span class="sky">`)
	// The button's name is what a screen reader says: the word, then the numbers in
	// words. What is drawn instead is hidden from it.
	said := either(known, percent(before)+" % before", "not known yet")
	if score == nil {
		if known {
			p.raw(`<i class="g" style="--lo:`).unit(before).raw(`;--hi:`).unit(before).raw(`"></i>`)
		}
		p.raw(`</span><span class="chip none">`).text(w).raw(`</span><span class="pct" aria-hidden="true">`).text(when(known, percent(before)+" → ")).raw(`?</span>`)
	} else {
		after := score.C[k]
		said += ", " + percent(after) + " % after"
		bar := chart.NewBar(before, after)
		p.raw(`<i class="`, either(bar.Less, `l`, `g`), `" style="--lo:`).unit(bar.Lo).raw(`;--hi:`).unit(bar.Hi).raw(`"></i>`)
		if tried := s.whatIf(); tried != nil {
			said += ", " + percent(tried.C[k]) + " % " + s.Edit.editName()
			if math.Abs(tried.C[k]-after) >= 0.005 {
				p.raw(`<i class="b2" style="--o:`).unit(tried.C[k]).raw(`"></i>`)
			}
		}
		p.raw(`</span><span class="chip">`).text(w).raw(`</span>`)
		changeMark(p, before, after)
		p.raw(`<span class="pct" aria-hidden="true">`).text(percent(before)).raw(` → <b>`).text(percent(after)).raw(` %</b></span>`)
	}
	p.raw(`<span class="vh">: `).text(said).raw(`</span></button></li>`)
}

// bigChange is the change of probability from which a word's mark has a ground.
const bigChange = 0.1

// points is a change of probability, so that it is the difference of the two per cents
// as they are shown.
func points(before, after float64) int {
	return int(math.Round(100*after) - math.Round(100*before))
}

// changeMark is ▲ or ▼ and the change in points.
func changeMark(p *page, before, after float64) {
	change, n := after-before, points(before, after)
	switch {
	case n == 0:
		p.raw(`<span class="ar cap" aria-hidden="true">±0</span>`)
		return
	case change >= bigChange || change <= -bigChange:
		p.raw(`<span class="ar big" aria-hidden="true" style="`).ground(heat.Change.At(change)).raw(`">`)
	default:
		p.raw(`<span class="ar `, direction(change), `" aria-hidden="true">`)
	}
	p.raw(either(n > 0, `▲ `, `▼ `)).int(max(n, -n)).raw(`</span>`)
}

// mostWeight is the largest weight or contribution: the end of their scale.
func (s *State) mostWeight() float64 {
	switch score := s.chainScore(s.chain()); {
	case score == nil:
		return 1
	case s.Colour == ByAdds:
		return largest(score.Contribution)
	default:
		return largest(score.W)
	}
}

// legend explains bars and colours; its ends come from the scale's domain.
func legend(s *State, p *page) {
	p.raw(`<div class="key" id="legend"><span aria-hidden="true"><i class="b0"></i>sure already</span><span aria-hidden="true"><i class="b1"></i>added by reasoning</span><span aria-hidden="true"><i class="b3"></i>taken away</span>`)
	if s.whatIf() != nil {
		p.raw(`<span aria-hidden="true"><i class="b2"></i>`).text(s.Edit.editName()).raw(`</span>`)
	}
	p.raw(`<span class="sp">`)
	scale := heat.Sure
	lo, hi := scale.Ends()
	switch s.Colour {
	case ByChange:
		scale = heat.Change
		lo, hi = scale.Ends()
		hi = "+" + hi + " points"
	case BySure:
		hi += " % sure"
	case ByWeight, ByAdds:
		lo, hi = "0", decimals(s.mostWeight())
		if s.Colour == ByWeight && s.chainScore(s.chain()) != nil {
			hi = two(s.mostWeight() * s.times())
		}
	}
	p.raw(`<label class="vh" for="colour">Words are coloured by</label><select id="colour" class="mini" data-change="colour">`)
	for c, name := range [colours]string{"how sure", "change", "weight", "part of R"} {
		p.raw(`<option value="`, Colour(c).String(), `"`, when(s.Colour == Colour(c), ` selected`), `>`, name, `</option>`)
	}
	p.raw(`</select>`).text(lo).raw(` <i class="ramp" style="background:linear-gradient(to right,`, scale.Ramp(), `)"></i> `).text(hi).raw(`</span></div>`)
}

// times is what a weight is multiplied with to be read: the division by T is
// written once, not in every weight.
func (s *State) times() float64 {
	if s.divided() {
		return float64(len(s.Reading.Answer))
	}
	return 1
}
