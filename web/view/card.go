package view

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/chart"
	"nrt/web/heat"
)

// The card of an answer word tells what all chains did to that one word. It opens
// beside the word that the pointer or the focus rests on and goes with them, unless
// a click has pinned it.

// card is the word whose card is open, −1 without.
func (s *State) card() int {
	if r := s.Reading; r != nil && s.Card >= 0 && s.Card < min(len(r.Answer), len(r.Base)) {
		return s.Card
	}
	return -1
}

// doCard are the actions on the card; k is the word that they name, −1 for none.
func (s State) doCard(name string, k int) State {
	if r := s.Reading; r == nil || k >= len(r.Answer) {
		return s
	}
	switch {
	case name == "peek" && s.Pinned:
	case name == "peek":
		s.Card = max(k, -1)
	case name == "pin" && k < 0:
	case name == "pin" && s.Pinned && s.Card == k:
		s.Card, s.Pinned = -1, false
	case name == "pin":
		s.Word, s.Card, s.Pinned = k, k, true
	case name == "unpin":
		s.Card, s.Pinned = -1, false
	}
	return s
}

// card is the open card, nothing without.
func (p *page) card(s *State) {
	k := s.card()
	if k < 0 {
		return
	}
	score := s.chainScore(s.chain())
	before := math.Exp(min(s.Reading.Base[k], 0))
	w := s.answerWord(k)
	p.raw(`<h2 class="vh" id="card-name">`).text(w).raw(`, in detail</h2><div class="hd"`)
	if score != nil {
		p.raw(` style="`).paint(heat.Sure.At(score.C[k])).raw(`"`)
	}
	p.raw(`><span class="chip`, when(score == nil, ` none`), `">`).text(w).raw(`</span><span>`).text(percent(before)).raw(` % before`)
	if score != nil {
		p.raw(`, <b>`).text(percent(score.C[k])).raw(` %</b> after`)
	}
	p.raw(`</span><button type="button" class="btn quiet icon sp" id="card-close" data-act="unpin" aria-label="Close" title="Close (Esc)">`).icon(iconClose).raw(`</button></div>`)
	s.cardPlot(p, k, before)
	p.raw(`<p class="cap">`).text(strings.Join(s.cardFacts(k, score), " ")).raw(`</p>`)
}

// The card's drawing: one line from 0 to 100 % sure, in a box of its own units.
const (
	cardWidth, cardHeight = 300, 64
	cardLine              = 26 // y
)

// cardPlot is how sure each chain made the model of word k.
func (s *State) cardPlot(p *page, k int, before float64) {
	sc, g := s.scores(), s.group()
	if g == nil {
		return
	}
	scale := chart.Scale{Lo: 0, Hi: 1, From: 8, To: cardWidth - 16}
	c := make([]float64, len(sc.chains))
	said := ""
	for j, i := range sc.chains {
		c[j] = g.Chains[j].C[k]
		said += " Chain " + intText(i+1) + ": " + percent(c[j]) + " %."
	}
	p.raw(`<svg width="100%" viewBox="0 0 `).int(cardWidth).raw(` `).int(cardHeight).raw(`" role="img" aria-label="How sure each of `).text(count(len(c), "chain") + " made the model of " + s.answerWord(k) + "." + said)
	p.raw(`"><path class="axis" d="M8 `).int(cardLine).raw(`H`).int(cardWidth-16).raw(`"/><path class="base" d="M`, chart.Num(scale.At(before)), ` 14v24"/>`)
	circle := func(class string, x, r float64) {
		p.raw(`<circle class="dot`, class, `" cx="`, chart.Num(scale.At(x)), `" cy="`).int(cardLine).raw(`" r="`, chart.Num(r), `"/>`)
	}
	on := s.chain()
	for j, i := range sc.chains {
		if i != on {
			circle("", c[j], 4.5)
		}
	}
	if tried := s.whatIf(); tried != nil {
		circle(" gh", tried.C[k], 5)
	}
	at := -1.0 // of the shown chain
	if j := sc.at[on]; j >= 0 {
		circle(" on", c[j], 6)
		at = scale.At(c[j])
		svgText(p, "mid strong", min(max(at, 22), cardWidth-24), 12, "chain "+intText(on+1))
	}
	if x := scale.At(before); at < 0 || math.Abs(x-at) > 48 {
		svgText(p, "mid ink2", min(max(x, 22), cardWidth-24), 9, "before")
	}
	for _, l := range crowdNames(sc.chains, c, on, scale) {
		svgText(p, "mid ink2", l.x, 48, l.text)
	}
	svgText(p, "s", 8, 62, "0")
	svgText(p, "e", cardWidth-16, 62, "100 % sure")
	p.raw(`</svg>`)
}

// label is a text below the middle of something.
type label struct {
	x    float64
	text string
}

// crowdNames are the numbers below the dots of the chains but one. Dots that stand
// too close for a number each share a text.
func crowdNames(chains []int, c []float64, but int, scale chart.Scale) (list []label) {
	const (
		near  = 12.0 // between two dots with a number each
		digit = 6.5  // width
	)
	end := -near // of the last text
	var x0, x1 float64
	var names []string
	flush := func() {
		if len(names) == 0 {
			return
		}
		text := strings.Join(names, ", ")
		if len(names) > 3 {
			text = intText(len(names)) + " chains"
		}
		half := digit / 2 * float64(len(text))
		x := min(max((x0+x1)/2, scale.From-6+half), scale.To+6-half)
		if x-half > end+4 {
			list = append(list, label{x, text})
			end = x + half
		}
		names = nil
	}
	for _, j := range rising(c) {
		if chains[j] == but {
			continue
		}
		x := scale.At(c[j])
		if len(names) > 0 && x-x1 >= near {
			flush()
		}
		if len(names) == 0 {
			x0 = x
		}
		x1 = x
		names = append(names, intText(chains[j]+1))
	}
	flush()
	return list
}

// rising are the indices of a list by value, the smallest first.
func rising(list []float64) []int {
	at := make([]int, len(list))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(i, j int) int { return cmp.Compare(list[i], list[j]) })
	return at
}

// cardFacts are sentences about word k after the shown chain.
func (s *State) cardFacts(k int, score *reward.Scored) (list []string) {
	r := s.Reading
	if hardest(r.Base) == k && len(r.Base) == len(r.Answer) {
		list = append(list, "The hardest word of this answer.")
	}
	if score == nil {
		if weights := s.weights(); weights != nil {
			list = append(list, "Its weight is "+s.weightText(weights[k])+".")
		}
		return append(list, "After comes when chain "+intText(s.chain()+1)+" is complete.")
	}
	total := s.total(score)
	of := number(total)
	if s.Mode == reward.P || s.Mode == reward.GM {
		of += ", the logarithm of R"
	}
	list = append(list, "Its weight is "+s.weightText(score.W[k])+"; it adds "+parts(score.Contribution, total)[k]+" of the "+of+".")
	if tried := s.whatIf(); tried != nil {
		list = append(list, percent(tried.C[k])+" % "+s.Edit.editName()+".")
	}
	return append(list, s.lessLikely(k))
}

// hardest is the word that the model knew least, −1 if several share that.
func hardest(base []float64) int {
	at := -1
	for i, x := range base {
		switch {
		case at < 0 || x < base[at]:
			at = i
		case x == base[at]:
			return -1
		}
	}
	return at
}

// lessLikely counts the chains that took from word k what shows in whole per cent.
func (s *State) lessLikely(k int) string {
	sc, g := s.scores(), s.group()
	before, n := sc.b[k], 0
	for j := range g.Chains {
		if points(before, g.Chains[j].C[k]) < 0 {
			n++
		}
	}
	x := numeral(n)
	who := strings.ToUpper(x[:1]) + x[1:] + " " + plural(n, "chain")
	switch all := len(g.Chains); {
	case n == 0 && all > 1:
		who = "No chain"
	case n == 0:
		return "The chain did not make it less likely."
	case n == all && all > 1:
		who = "All " + x + " chains"
	}
	return who + " made it less likely" + when(before < 0.5, " still") + "."
}

// numeral is a small number as a word.
func numeral(n int) string {
	words := [...]string{"no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"}
	if n >= 0 && n < len(words) {
		return words[n]
	}
	return intText(n)
}
