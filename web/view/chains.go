package view

import (
	"math"
	"slices"
	"strconv"

	"nrt/web/chart"
)

// chains is the list of chains: rank, a bar for each word, R, A. While chains are
// written rows keep their place; when the last is in, they sort, once.
func (p *page) chains(s *State) {
	r := s.Reading
	if r == nil || len(r.Chains) == 0 {
		chainsEmpty(s, p)
		return
	}
	sc, all := s.scores(), s.listed()
	chains := count(len(all), "chain")
	p.raw(`<div class="bar"><h2>`, chains, `</h2>`)
	if r.under() {
		p.raw(`<span class="cap">`).int(r.done()).raw(` of `).int(len(all)).raw(` ready</span>`)
		stopButton(p)
	} else {
		caption := chainsCaption(s)
		p.raw(`<span class="cap only-desk">`).text(caption).raw(`</span><span class="cap only-phone">`).text(either(r.By != "", caption, `bar up: encouraged, down: discouraged`))
		p.raw(`</span><button type="button" class="btn quiet icon sp" id="act-again" data-act="again" aria-label="Write `, count(len(all), "new chain"), ` (next seed)" title="New chains, next seed">`).icon(iconAgain).raw(`</button>`)
	}
	p.raw(`</div><div class="hd" aria-hidden="true"><span></span><span></span><span class="l">each word</span><span>R</span><span class="l">`, when(sc.ready, `vs. group`), `</span><span>A</span></div><div class="rows">`)
	rows := func(open string, list []int) {
		if len(list) == 0 {
			return
		}
		p.raw(open)
		for _, i := range list {
			chainRow(s, p, i)
		}
		p.raw(`</ol>`)
	}
	if sc.ready {
		// The line of no reasoning stands between those above and below it; what has no
		// reward comes last.
		above, ranked := s.helpful(), len(sc.order)
		rows(`<ol>`, all[:above])
		p.raw(`<p class="cut">no reasoning `, number(s.group().Base), when(s.Clip, ` · below here no gain`), `</p>`)
		rows(`<ol class="clipped" start="`+intText(above+1)+`">`, all[above:ranked])
		rows(`<ol>`, all[ranked:])
	} else {
		rows(`<ol>`, all)
	}
	p.raw(`</div>`)
	ghostRow(s, p)
	p.raw(when(s.rightChains() > 0, `<p class="cap foot-note only-desk"><span class="ok" aria-hidden="true">✓</span> `+endsRight+`; the reward never sees this</p>`))
	p.raw(when(!sc.ready && r.under(), `<p class="cap foot-note">Rank and advantage need all `+chains+`: a chain is judged against its group.</p>`))
	pager(s, p)
}

// listed are the chains in the order that is shown: ranked, then those without a reward.
func (s *State) listed() []int {
	var list []int
	if sc := s.scores(); sc.ready {
		list = slices.Clone(sc.order)
	}
	for i := range s.Reading.Chains {
		if !slices.Contains(list, i) {
			list = append(list, i)
		}
	}
	return list
}

func stopButton(p *page) {
	p.raw(`<button type="button" class="btn sp" id="act-cancel" data-act="cancel">`).icon(iconStop).raw(`Stop</button>`)
}

// chainsEmpty stands before the first chain begins.
func chainsEmpty(s *State, p *page) {
	r := s.Reading
	p.raw(`<div class="bar"><h2>`, count(s.K, "chain"), `</h2>`)
	if r != nil && r.under() {
		p.raw(`<span class="cap">not begun</span>`)
		stopButton(p)
	}
	p.raw(`</div><p class="cap foot-note">`)
	switch {
	case r != nil && r.Status == Cancelled:
		p.raw(`No chain was written. <button type="button" class="btn" id="act-retry" data-act="retry">Ask again</button>`)
	case r != nil && r.Status == Failed:
		p.raw(`No chain was written.`)
	default:
		p.raw(`Chains appear here as they are written.`)
	}
	p.raw(`</p>`)
}

func chainsCaption(s *State) string {
	r := s.Reading
	g := s.group()
	switch several := len(r.Chains) > 1; {
	case r.By != "":
		return s.stepName(r.By) + " reads; A is a what-if" // no policy's own samples
	case r.Status == Cancelled:
		return "stopped, " + count(r.done(), "chain") + " complete"
	case r.Status == Failed:
		return "interrupted"
	case g != nil && g.AllHarmful && several:
		return "all gains are 0"
	case g != nil && g.ZeroVariance && several:
		return "all tie"
	}
	return "same question, seed " + uintText(r.Ask.Seed)
}

// ghostRow is the reader's variant of the shown chain, which is in no group.
func ghostRow(s *State, p *page) {
	sc := s.whatIf()
	if sc == nil {
		return
	}
	i := s.edited()
	p.raw(`<div class="chain ghost"><span class="vh">What-if: chain `).int(i+1).raw(` `).text(s.Edit.editName()).raw(`, reward `, number(sc.R), `, not in the group</span><span class="rk" aria-hidden="true"></span><span class="zn" aria-hidden="true"><span class="v">z</span><sub>`).int(i + 1).raw(`</sub>′</span>`)
	sparkline(s, p, sc.C)
	p.raw(`<span class="r" aria-hidden="true">`, number(sc.R), `</span><span class="a" aria-hidden="true">what-if, not counted</span></div>`)
}

// endsRight is what the mark of a chain says that is known to be right.
const endsRight = "ends at the right answer"

// chainRow is one chain: scored and ranked, scored and waiting, or being written.
func chainRow(s *State, p *page, i int) {
	r, c := s.Reading, &s.Reading.Chains[i]
	sc, score := s.scores(), s.chainScore(i)
	rank := s.rank(s.Mode, i)
	label := "Chain " + intText(i+1)
	switch {
	case rank > 0:
		label += ", rank " + intText(rank) + " of " + intText(len(sc.chains)) + ", reward " + number(score.R) + ", advantage " + signed(score.Advantage)
	case score != nil:
		label += ", reward " + number(score.R)
	case c.Done || !r.under():
		label += ", not scored"
	default:
		label += ", being written"
	}
	label += when(c.Right, ", "+endsRight)
	p.raw(`<li><button type="button" class="chain`, when(score == nil, ` live`), `" id="chain-`).int(i).raw(`" data-act="chain" data-value="`).int(i).raw(`" aria-pressed="`, strconv.FormatBool(i == s.chain()),
		`"><span class="vh">`).text(label).raw(`</span><span class="rk" aria-hidden="true">`, either(rank > 0, intText(rank), `·`))
	p.raw(`</span><span class="zn" aria-hidden="true"><span class="v">z</span><sub>`).int(i+1).raw(`</sub>`, when(c.Right, `<span class="ok" title="`+endsRight+`; the reward never sees this">✓</span>`), `</span>`)
	if score == nil {
		share := float64(len(c.Tokens)) / float64(max(r.Ask.MaxChain, 1))
		p.raw(`<span class="wide" aria-hidden="true"><span class="prog" style="--p:`, chart.Num(100*min(share, 1)), `%"><i></i></span><span>`)
		p.raw(either(len(c.Tokens) == 0 && r.under(), `waits`, count(len(c.shown()), "token")), `</span></span></button></li>`)
		return
	}
	sparkline(s, p, score.C)
	p.raw(`<span class="r" aria-hidden="true">`, number(score.R), `</span>`)
	if rank == 0 {
		p.raw(`<span class="adiv" aria-hidden="true"></span><span class="a" aria-hidden="true">waits</span></button></li>`)
		return
	}
	p.raw(`<span class="adiv" aria-hidden="true"><i class="`, either(score.Advantage < 0, `n`, `p`), `" style="--a:`).unit(math.Abs(score.Advantage)/s.widest()).raw(`"></i></span><span class="a" aria-hidden="true">`, signed(score.Advantage), `</span></button></li>`)
}

// widest is the advantage that fills half a row: at least 1.7, so that small
// ones look small.
func (s *State) widest() float64 {
	w := 1.7
	for _, c := range s.group().Chains {
		w = max(w, math.Abs(c.Advantage))
	}
	return w
}

// sparkWords is how many bars fit a sparkline; longer answers are drawn as means
// of as many stretches.
const sparkWords = 28

// A sparkline's size in its own units.
const (
	sparkWidth  = 56.0
	sparkHeight = 22.0
)

// box appends a rectangle to a path.
func box(path []byte, x, y, w, h float64) []byte {
	if h <= 0 {
		return path
	}
	path = chart.AppendNum(append(path, 'M'), x)
	path = chart.AppendNum(append(path, ' '), y)
	path = chart.AppendNum(append(path, 'h'), w)
	path = chart.AppendNum(append(path, 'v'), h)
	path = chart.AppendNum(append(path, 'h'), -w)
	return append(path, 'z')
}

// sparkline is one bar a word: what was known in grey, what was added in purple,
// what was taken away as a hole.
func sparkline(s *State, p *page, c []float64) {
	list := bars(s.scores().b, c, sparkWords)
	// Four paths, however many words: sixteen rows are drawn in every frame.
	var known, added, lost, edge []byte
	step := sparkWidth / float64(len(list))
	for i, bar := range list {
		x, w := float64(i)*step, step-1
		lo, hi := sparkHeight*bar.Lo, sparkHeight*bar.Hi
		known = box(known, x, sparkHeight-lo, w, lo)
		switch {
		case bar.Less:
			lost = box(lost, x, sparkHeight-hi, w, hi-lo)
			edge = box(edge, x, sparkHeight-lo-1.5, w, 1.5)
		case hi-lo > 1:
			added = box(added, x, sparkHeight-hi, w, hi-lo-1)
		}
	}
	p.raw(`<svg class="spark" viewBox="0 0 56 22" preserveAspectRatio="none" aria-hidden="true">`)
	for _, x := range []struct {
		class string
		path  []byte
	}{{"s0", known}, {"s1", added}, {"s2", lost}, {"s3", edge}} {
		if len(x.path) > 0 {
			p.raw(`<path class="`, x.class, `" d="`, string(x.path), `"/>`)
		}
	}
	p.raw(`</svg>`)
}

// bars are those of the words; of a long answer, of the means of so many stretches.
func bars(before, after []float64, most int) []chart.Bar {
	n := len(after)
	list := make([]chart.Bar, min(n, most))
	for i := range list {
		from, to := i*n/len(list), (i+1)*n/len(list)
		list[i] = chart.NewBar(mean(before[from:to]), mean(after[from:to]))
	}
	return list
}

func mean(x []float64) float64 {
	t := 0.0
	for _, v := range x {
		t += v
	}
	return t / float64(len(x))
}

// pager is the phone's way through the chains.
func pager(s *State, p *page) {
	i := s.chain()
	score := s.chainScore(i)
	p.raw(`<div class="pager"><button type="button" class="btn quiet icon" id="act-prev" data-act="prev" aria-label="Previous chain">`).icon(iconLeft)
	p.raw(`</button><div><b>Chain `).int(i + 1)
	if k := s.rank(s.Mode, i); k > 0 {
		p.raw(` · rank `).int(k).raw(` of `).int(len(s.scores().chains))
	}
	p.raw(`</b><span class="cap">`)
	switch {
	case score != nil && s.scores().ready:
		p.raw(`reward `, number(score.R), ` · advantage <span class="`, direction(score.Advantage), `">`, signed(score.Advantage), `</span>`, when(s.Reading.Chains[i].Right, ` · <span class="ok">✓</span> right`))
	case score != nil:
		p.raw(`reward `, number(score.R))
	default:
		p.text(count(len(s.Reading.Chains[i].shown()), "token"))
	}
	p.raw(`</span></div><button type="button" class="btn quiet icon" id="act-next" data-act="next" aria-label="Next chain">`).icon(iconRight).raw(`</button></div>`)
}

// direction is the class of a text that says more or less.
func direction(x float64) string {
	switch {
	case x > 0:
		return "up"
	case x < 0:
		return "down"
	}
	return "num"
}
