package view

import (
	"math"
	"slices"
	"strings"

	"nrt/web/chart"
)

// Chains is the list of chains: rank, a bar for each word, R, A. While chains are
// written rows keep their place; when the last is in, they sort, once.
func Chains(s *State) string {
	p := &page{}
	r := s.Reading
	if r == nil || len(r.Chains) == 0 {
		return chainsEmpty(s)
	}
	sc := s.scores()
	n := len(r.Chains)
	p.raw(`<div class="bar"><h2>`).text(count(n, "chain")).raw(`</h2>`)
	switch {
	case r.under():
		p.raw(`<span class="cap">`).int(r.done()).raw(` of `).int(n).raw(` ready</span><button type="button" class="btn sp" id="act-cancel" data-act="cancel">`)
		p.icon(iconStop).raw(`Stop</button>`)
	default:
		p.raw(`<span class="cap only-desk">`).text(chainsCaption(s)).raw(`</span><span class="cap only-phone">`)
		if r.By != "" {
			p.text(chainsCaption(s))
		} else {
			p.raw(`bar up: encouraged, down: discouraged`)
		}
		p.raw(`</span>`)
		p.raw(`<button type="button" class="btn quiet icon sp" id="act-again" data-act="again" aria-label="Write `).text(count(n, "new chain")).raw(` (next seed)" title="New chains, next seed">`)
		p.icon(iconAgain).raw(`</button>`)
	}
	p.raw(`</div><div class="hd" aria-hidden="true"><span></span><span></span><span class="l">each word</span><span>R</span><span class="l">`)
	if sc.ready {
		p.raw(`vs. group`)
	}
	p.raw(`</span><span>A</span></div><div class="rows">`)
	if sc.ready {
		chainsSorted(s, p)
	} else {
		p.raw(`<ol>`)
		for i := range r.Chains {
			chainRow(s, p, i)
		}
		p.raw(`</ol>`)
	}
	p.raw(`</div>`)
	ghostRow(s, p)
	if !sc.ready && r.under() {
		p.raw(`<p class="cap foot-note">Rank and advantage need all `, count(n, "chain"), `: a chain is judged against its group.</p>`)
	}
	pager(s, p)
	return p.String()
}

// chainsEmpty stands before the first chain begins.
func chainsEmpty(s *State) string {
	p := &page{}
	p.raw(`<div class="bar"><h2>`).text(count(s.K, "chain")).raw(`</h2>`)
	if r := s.Reading; r != nil && r.under() {
		p.raw(`<span class="cap">not begun</span><button type="button" class="btn sp" id="act-cancel" data-act="cancel">`).icon(iconStop).raw(`Stop</button>`)
	}
	p.raw(`</div><p class="cap foot-note">`)
	switch r := s.Reading; {
	case r != nil && r.Status == Cancelled:
		p.raw(`No chain was written. <button type="button" class="btn" id="act-retry" data-act="retry">Ask again</button>`)
	case r != nil && r.Status == Failed:
		p.raw(`No chain was written.`)
	default:
		p.raw(`Chains appear here as they are written.`)
	}
	return p.raw(`</p>`).String()
}

func chainsCaption(s *State) string {
	r := s.Reading
	g := s.group()
	switch {
	case r.By != "":
		return s.stepName(r.By) + " reads; A is a what-if" // no policy's own samples
	case r.Status == Cancelled:
		return "stopped, " + count(r.done(), "chain") + " complete"
	case r.Status == Failed:
		return "interrupted"
	case g != nil && g.AllHarmful && len(r.Chains) > 1:
		return "all gains are 0"
	case g != nil && g.ZeroVariance && len(r.Chains) > 1:
		return "all tie"
	}
	return "same question, seed " + uintText(r.Ask.Seed)
}

// chainsSorted lists the ranked chains, with the line of no reasoning between
// those above and below it, then what has no reward.
func chainsSorted(s *State, p *page) {
	sc, g := s.scores(), s.group()
	above := 0
	for _, i := range sc.order {
		if !s.chainScore(i).Harmful {
			above++
		}
	}
	cut := func() {
		p.raw(`<p class="cut">no reasoning `, number(g.Base))
		if s.Clip {
			p.raw(` · below here no gain`)
		}
		p.raw(`</p>`)
	}
	if above > 0 {
		p.raw(`<ol>`)
		for _, i := range sc.order[:above] {
			chainRow(s, p, i)
		}
		p.raw(`</ol>`)
	}
	cut()
	if above < len(sc.order) {
		p.raw(`<ol class="clipped" start="`).int(above + 1).raw(`">`)
		for _, i := range sc.order[above:] {
			chainRow(s, p, i)
		}
		p.raw(`</ol>`)
	}
	if len(sc.order) < len(s.Reading.Chains) {
		p.raw(`<ol>`)
		for i, at := range sc.at {
			if at < 0 {
				chainRow(s, p, i)
			}
		}
		p.raw(`</ol>`)
	}
}

// ghostRow is the reader's variant of the shown chain, which is in no group.
func ghostRow(s *State, p *page) {
	sc := s.whatIf()
	if sc == nil {
		return
	}
	i := s.edited()
	p.raw(`<div class="chain ghost"><span class="vh">What-if: chain `).int(i+1).raw(` `).text(s.Edit.editName()).raw(`, reward `, number(sc.R), `, not in the group</span><span class="rk" aria-hidden="true"></span><span class="zn" aria-hidden="true"><span class="v">z</span><sub>`)
	p.int(i + 1).raw(`</sub>′</span>`)
	sparkline(s, p, sc.C)
	p.raw(`<span class="r" aria-hidden="true">`, number(sc.R), `</span><span class="a" aria-hidden="true">what-if, not counted</span></div>`)
}

// chainRow is one chain: scored and ranked, scored and waiting, or being written.
func chainRow(s *State, p *page, i int) {
	r, c := s.Reading, &s.Reading.Chains[i]
	sc, score := s.scores(), s.chainScore(i)
	rank := s.rank(s.Mode, i)
	label := "Chain " + intText(i+1)
	switch {
	case rank > 0:
		label += ", rank " + intText(rank) + " of " + intText(sc.done) + ", reward " + number(score.R) + ", advantage " + signed(score.Advantage)
	case score != nil:
		label += ", reward " + number(score.R)
	case c.Done || !r.under():
		label += ", not scored"
	default:
		label += ", being written"
	}
	on := i == s.chain()
	p.raw(`<li><button type="button" class="chain`)
	if score == nil {
		p.raw(` live`)
	}
	p.raw(`" id="chain-`).int(i).raw(`" data-act="chain" data-value="`).int(i).raw(`" aria-pressed="`, boolText(on), `"><span class="vh">`).text(label).raw(`</span>`)
	p.raw(`<span class="rk" aria-hidden="true">`)
	if rank > 0 {
		p.int(rank)
	} else {
		p.raw(`·`)
	}
	p.raw(`</span><span class="zn" aria-hidden="true"><span class="v">z</span><sub>`).int(i + 1).raw(`</sub></span>`)
	if score == nil {
		share := float64(len(c.Tokens)) / float64(max(r.Ask.MaxChain, 1))
		p.raw(`<span class="wide" aria-hidden="true"><span class="prog" style="--p:`, chart.Num(100*min(share, 1)), `%"><i></i></span><span>`)
		switch {
		case len(c.Tokens) == 0 && r.under():
			p.raw(`waits`)
		default:
			p.text(count(len(c.shown()), "token"))
		}
		p.raw(`</span></span></button></li>`)
		return
	}
	sparkline(s, p, score.C)
	p.raw(`<span class="r" aria-hidden="true">`, number(score.R), `</span>`)
	if rank == 0 {
		p.raw(`<span class="adiv" aria-hidden="true"></span><span class="a" aria-hidden="true">waits</span></button></li>`)
		return
	}
	p.raw(`<span class="adiv" aria-hidden="true"><i class="`)
	if score.Advantage < 0 {
		p.raw(`n`)
	} else {
		p.raw(`p`)
	}
	p.raw(`" style="--a:`).unit(math.Abs(score.Advantage)/s.widest()).raw(`"></i></span><span class="a" aria-hidden="true">`, signed(score.Advantage), `</span></button></li>`)
}

// widest is the advantage that fills half a row: at least 1.7, so that small
// ones look small.
func (s *State) widest() float64 {
	w := 1.7
	for i := range s.group().Chains {
		w = max(w, math.Abs(s.group().Chains[i].Advantage))
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
	b := s.scores().b
	n := len(c)
	m := min(n, sparkWords)
	// Four paths, however many words: sixteen rows are drawn in every frame.
	var known, added, lost, edge []byte
	step := sparkWidth / float64(m)
	for i := range m {
		from, to := i*n/m, (i+1)*n/m
		bar := chart.NewBar(mean(b[from:to]), mean(c[from:to]))
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
		p.raw(` · rank `).int(k).raw(` of `).int(s.scores().done)
	}
	p.raw(`</b><span class="cap">`)
	switch {
	case score != nil && s.scores().ready:
		p.raw(`reward `, number(score.R), ` · advantage <span class="`, direction(score.Advantage), `">`, signed(score.Advantage), `</span>`)
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

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// sentence is a stretch of a chain's tokens.
type sentence struct{ from, to int }

// sentences cuts a chain where a sentence or a step ends: after . ! ? and line
// breaks, and before a label such as “b)”.
func sentences(tokens []Token) []sentence {
	var list []sentence
	from := 0
	for i := 1; i < len(tokens); i++ {
		if stepLabel(tokens[i].Text) || endsSentence(tokens[i-1].Text, tokens[i].Text) {
			list = append(list, sentence{from, i})
			from = i
		}
	}
	if from < len(tokens) {
		list = append(list, sentence{from, len(tokens)})
	}
	return list
}

func stepLabel(text string) bool {
	t := strings.TrimSpace(text)
	return len(t) >= 2 && len(t) <= 3 && t[len(t)-1] == ')' && !strings.ContainsAny(t[:len(t)-1], "()")
}

func endsSentence(text, next string) bool {
	if strings.Contains(text, "\n") {
		return strings.TrimSpace(next) != ""
	}
	t := strings.TrimSpace(text)
	if t == "" || !strings.ContainsRune(".!?", rune(t[len(t)-1])) {
		return false
	}
	return next != "" && (next[0] == ' ' || next[0] == '\n')
}

// shown are the tokens of a chain that are its text: without the boundary that
// ends it.
func (c *Chain) shown() []Token {
	t := c.Tokens
	for len(t) > 0 {
		last := strings.TrimSpace(t[len(t)-1].Text)
		if len(t) == len(c.Tokens) && c.Done && c.Finish != "length" || last == "" || strings.HasPrefix(last, "</") {
			t = t[:len(t)-1]
			if last != "" {
				break
			}
			continue
		}
		break
	}
	if c.Finish == "length" || c.Finish == "stop" {
		return t
	}
	// A boundary of several tokens goes with all of them, and from the one in which it
	// begins.
	end := ""
	for k := len(t) - 1; k >= 0; k-- {
		end = t[k].Text + end
		switch i := strings.LastIndex(end, "</"); {
		case strings.ContainsAny(end[max(i, 0):], " \n"):
			return t
		case i >= 0 && strings.TrimSpace(end[:i]) == "":
			return t[:k]
		case i >= 0:
			t = slices.Clone(t[:k+1])
			t[k].Text = end[:i]
			return t
		}
	}
	return t
}
