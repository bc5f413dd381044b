package view

import (
	"slices"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/chart"
)

// lane is a column of the slope graph: formulas that order alike share one.
type lane struct {
	label string
	modes []reward.Mode
}

// lanes are the slope graph's columns; the chosen formula is the last.
func (s *State) lanes() []lane {
	all := []lane{
		{"logP · P · GM", []reward.Mode{reward.LogP, reward.P, reward.GM}},
		{"AM", []reward.Mode{reward.AM}},
		{"WS 1/p", []reward.Mode{reward.WSInvP}},
		{"WS −log p", []reward.Mode{reward.WSLogP}},
	}
	at := slices.IndexFunc(all, func(l lane) bool { return slices.Contains(l.modes, s.Mode) })
	return append(slices.Delete(slices.Clone(all), at, at+1), all[at])
}

// Rows of both charts, so that a chain's dot stands where its lane ends.
const (
	chartTop    = 22
	chartHeight = 168
)

// slope is the graph of the ranks: the same chains under each formula.
func (p *page) slope(s *State) {
	sc := s.scores()
	if !sc.ready {
		p.raw(`<p class="cap foot-note">`, either(s.Reading != nil && s.Reading.under(), `Ranks come when all chains are in.`, `No chains to compare.`), `</p>`)
		return
	}
	w := float64(max(s.Size.Slope, 240))
	n := len(sc.chains)
	rows := chart.NewRows(n, chartTop, chartHeight)
	bottom := rows.Bottom(n)
	left, labels := 74.0, true
	if w < 340 || s.Size.Phone {
		left, labels = 46, false
	}
	lanes := s.lanes()
	x := chart.Lanes(len(lanes), left, w-34)
	p.raw(`<svg width="100%" viewBox="0 0 `, chart.Num(w), ` `, chart.Num(bottom+30), `" role="img" aria-label="`).text(slopeSummary(s)).raw(`">`)
	p.raw(`<rect class="lanebg" x="`, chart.Num(w-64), `" y="0" width="60" height="`, chart.Num(bottom+4), `" rx="6"/>`)
	for i, l := range lanes {
		svgText(p, "lane"+when(i == len(lanes)-1, " on"), x[i], 13, l.label)
	}
	places, shared := make([][]int, len(lanes)), make([][]int, len(lanes))
	last := 0 // row of the worst rank
	for i, l := range lanes {
		places[i], shared[i] = sc.places(l.modes[0]), sc.sharing(l.modes[0])
		last = max(last, slices.Max(sc.ranks[l.modes[0]])-1)
	}
	for k := range n {
		label := intText(k + 1)
		switch {
		case !slices.ContainsFunc(shared, func(n []int) bool { return n[k+1] > 0 }):
			continue // chains that tie have the rank of the first of their rows
		case labels && k == 0:
			label = "best 1"
		case labels && k == last:
			label = "worst " + label
		}
		svgText(p, "e", left-24, rows.At(k)+4, label)
	}
	on := s.chain()
	y := make([]float64, len(lanes))
	line := func(j int, class string) {
		for i := range lanes {
			y[i] = rows.At(places[i][j])
		}
		p.raw(`<path class="slope`, class, `" d="`, chart.Slope(x, y), `"/>`)
	}
	for j, c := range sc.chains {
		if c != on {
			line(j, "")
		}
	}
	if j := sc.at[on]; j >= 0 { // above the others
		line(j, " on")
	}
	for i, l := range lanes { // one bubble for the chains that share a rank
		for j, c := range sc.chains {
			rank := sc.ranks[l.modes[0]][c]
			if m := shared[i][rank]; m > 1 && places[i][j] == rank-1 {
				r := rows.Bubble
				p.raw(`<rect class="bub`, when(sc.groups[l.modes[0]].Chains[j].Harmful, " cl"), `" x="`, chart.Num(x[i]-r), `" y="`, chart.Num(rows.At(rank-1)-r),
					`" width="`, chart.Num(2*r), `" height="`, chart.Num(2*r+float64(m-1)*rows.Step), `" rx="`, chart.Num(r), `"/>`)
			}
		}
	}
	for j, c := range sc.chains {
		p.raw(`<g class="pickable" data-act="chain" data-value="`).int(c).raw(`">`)
		for i, l := range lanes {
			class, r := "", rows.Bubble
			if c == on {
				class = " on"
			} else if sc.groups[l.modes[0]].Chains[j].Harmful {
				class = " cl"
			}
			cy, bubble := rows.At(places[i][j]), class
			if shared[i][sc.ranks[l.modes[0]][c]] > 1 { // within the one that they share
				r -= 1.5
				bubble += when(c != on, " in")
			}
			p.raw(`<circle class="bub`, bubble, `" cx="`, chart.Num(x[i]), `" cy="`, chart.Num(cy), `" r="`, chart.Num(r), `"/>`)
			svgText(p, "bt"+class, x[i], cy+4, intText(c+1))
		}
		p.raw(`</g>`)
	}
	s.advantageRow(p, lanes, x, left, bottom+18)
	p.raw(`</svg>`)
}

// sharing counts the scored chains by their rank under a formula.
func (sc *scores) sharing(m reward.Mode) []int {
	n := make([]int, len(sc.chains)+1)
	for _, c := range sc.chains {
		n[sc.ranks[m][c]]++
	}
	return n
}

// places are the rows of the scored chains under a formula.
func (sc *scores) places(m reward.Mode) []int {
	ranks := make([]int, len(sc.chains))
	for j, c := range sc.chains {
		ranks[j] = sc.ranks[m][c]
	}
	return chart.Places(ranks)
}

// advantageRow stands under the lanes: the chosen chain's A by each formula.
func (s *State) advantageRow(p *page, lanes []lane, x []float64, left, y float64) {
	sc := s.scores()
	i := s.chain()
	if i < 0 || sc.at[i] < 0 {
		return
	}
	narrow := left < 60 // the label and the three of the first lane share one place
	if !narrow {
		p.raw(`<text class="s" x="0" y="`, chart.Num(y), `">A<tspan dy="2">`).int(i + 1).raw(`</tspan></text>`)
	}
	for k, l := range lanes {
		var list []string
		for _, m := range l.modes {
			list = append(list, signed(sc.groups[m].Chains[sc.at[i]].Advantage))
		}
		text := strings.Join(list, either(narrow, "·", " · "))
		switch last := k == len(lanes)-1; {
		case last: // where there is no room for three
			svgText(p, "mid strong", x[k], y, signed(s.chainScore(i).Advantage))
		case k == 0 && narrow: // three negative ones need all the room
			svgText(p, "s ink2", 0, y, when(x[1] >= 120, "A ")+text)
		default:
			svgText(p, "mid ink2", x[k], y, text)
		}
	}
}

//go:noinline
func svgText(p *page, class string, x, y float64, text string) {
	p.raw(`<text class="`, class, `" x="`, chart.Num(x), `" y="`, chart.Num(y), `">`).text(text).raw(`</text>`)
}

// slopeSummary is the slope graph in words: the winner under each formula.
func slopeSummary(s *State) string {
	sc := s.scores()
	text := "Ranks of " + count(len(sc.chains), "chain") + " under each formula."
	for _, l := range s.lanes() {
		text += " " + l.label + ": " + sc.first(l.modes[0]) + " first."
	}
	return text
}

// first names the chains that a formula puts first: "chain 6", or those that tie there.
func (sc *scores) first(m reward.Mode) string {
	var list []string
	for _, c := range sc.chains {
		if sc.ranks[m][c] == 1 {
			list = append(list, intText(c+1))
		}
	}
	return plural(len(list), "chain") + " " + enumerated(list)
}

// enumerated is "1", "1 and 2", "1, 2 and 3".
func enumerated(list []string) string {
	last := len(list) - 1
	if last < 1 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:last], ", ") + " and " + list[last]
}

// dots is the plot of the rewards, in the rows of the slope graph's last lane,
// with the line of no reasoning.
func (p *page) dots(s *State) {
	sc, g := s.scores(), s.group()
	if !sc.ready || g == nil {
		return
	}
	w := float64(max(s.Size.Dots, 200))
	n := len(sc.chains)
	rows := chart.NewRows(n, chartTop, chartHeight)
	bottom := rows.Bottom(n)
	values := make([]float64, n)
	for j := range g.Chains {
		values[j] = g.Chains[j].R
	}
	ghost := s.whatIf()
	if ghost != nil {
		values = append(values, ghost.R)
	}
	lo, hi := chart.Axis(values, g.Base)
	scale := chart.Scale{Lo: lo, Hi: hi, From: 22, To: w - 54}
	base := scale.At(g.Base)
	p.raw(`<svg width="100%" viewBox="0 0 `, chart.Num(w), ` `, chart.Num(bottom+30), `" role="img" aria-label="`).text(dotsSummary(s)).raw(`">`)
	if s.Clip && base > scale.From {
		p.raw(`<rect class="zone" x="`, chart.Num(scale.From), `" y="`, chart.Num(chartTop), `" width="`, chart.Num(base-scale.From), `" height="`, chart.Num(bottom-chartTop), `"/>`)
	}
	ticks, digits := chart.Ticks(lo, hi, 4)
	for _, t := range ticks {
		x := scale.At(t)
		p.raw(`<path class="grid" d="M`, chart.Num(x), ` `, chart.Num(chartTop), `V`, chart.Num(bottom), `"/>`)
		svgText(p, "mid", x, bottom+18, either(digits > 4, number(t), minus(fixed(t, digits))))
	}
	p.raw(`<path class="axis" d="M`, chart.Num(scale.From), ` `, chart.Num(bottom), `H`, chart.Num(scale.To), `"/>`)
	on := s.chain()
	saidClipped := false
	places := sc.places(s.Mode)
	for _, c := range sc.order {
		j := sc.at[c]
		x, y := scale.At(g.Chains[j].R), rows.At(places[j])
		p.raw(`<g class="pickable" data-act="chain" data-value="`).int(c).raw(`">`)
		svgText(p, "e ink2", 14, y+4, intText(c+1))
		clipped := s.Clip && g.Chains[j].Harmful
		class, r := "", min(4.5, rows.Bubble)
		if c == on {
			class, r = " on", r+1
		}
		if clipped {
			class = " cl" + class
		} else if x > base {
			p.raw(`<path class="lolli" d="M`, chart.Num(base), ` `, chart.Num(y), `H`, chart.Num(x), `"/>`)
		}
		if ghost != nil && c == on {
			to := scale.At(min(max(ghost.R, lo), hi))
			p.raw(`<path class="ghl" d="M`, chart.Num(x), ` `, chart.Num(y-7), `H`, chart.Num(to), `"/><circle class="dot gh" cx="`, chart.Num(to), `" cy="`, chart.Num(y), `" r="`, chart.Num(r), `"/>`)
		}
		p.raw(`<circle class="dot`, class, `" cx="`, chart.Num(x), `" cy="`, chart.Num(y), `" r="`, chart.Num(r), `"/>`)
		label := "s" + when(c == on, " strong")
		switch {
		case !clipped:
			svgText(p, label, max(x, base)+9, y+4, number(g.Chains[j].R))
		case !saidClipped:
			saidClipped = true
			svgText(p, label, base+8, y+4, "clipped to 0")
		}
		p.raw(`</g>`)
	}
	if s.Clip && g.AllHarmful && n > 4 { // below “clipped to 0”
		for j, line := range []string{"gains would", "be here:", "none"} {
			svgText(p, "s", base+8, rows.At(1)+4+16*float64(j), line)
		}
	}
	p.raw(`<path class="base" d="M`, chart.Num(base), ` 18V`, chart.Num(bottom), `"/>`)
	if base > w/2 {
		svgText(p, "e ink2", base, 13, "no reasoning "+number(g.Base))
	} else {
		svgText(p, "s ink2", max(base-40, 0), 13, "no reasoning "+number(g.Base))
		svgText(p, "e", w-2, 13, "reward R →")
	}
	p.raw(`</svg>`)
}

// dotsSummary is the dot plot in words.
func dotsSummary(s *State) string {
	sc := s.scores()
	text := "Rewards by " + modeLabel(s.Mode) + ". No reasoning: " + number(s.group().Base) + "; " + intText(s.helpful()) + " of " + count(len(sc.chains), "chain") + " above."
	for _, c := range sc.order {
		text += " Chain " + intText(c+1) + ": " + number(s.chainScore(c).R) + "."
	}
	if sc := s.whatIf(); sc != nil {
		text += " What-if, chain " + intText(s.edited()+1) + " " + s.Edit.editName() + ": " + number(sc.R) + "."
	}
	return text
}
