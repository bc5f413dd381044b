package engine

import (
	"math/rand/v2"
	"slices"

	"nrt/backend/device"
	"nrt/backend/llama"
)

// phase is what a branch does next.
//
//	phase      in a step it reads             and then                    until
//	sampling   the token drawn before         a token is drawn            the chain ends: Close, StopText, Stop, MaxChain
//	tail       given tokens, as far as there  those that are wanted are   all are read and scored
//	           is room                        scored
//	answering  the token drawn before         a token is drawn            AnswerStop, MaxAnswer
//	finished   nothing; its rows are free
//
// A sampled chain goes through them in this order; a forced one, and the baseline, begin
// in the tail. Where no answer is asked for, the tail is the end.
type phase uint8

const (
	sampling phase = iota
	tail
	answering
	finished
)

// group is one request in the batch.
type group struct {
	index    int
	req      *Request
	prompt   device.Span // its rows of the cache
	read     int         // tokens of the prompt read so far
	branches []*branch
	live     int
}

// branch is one chain of a group (or its baseline, chain −1): what it has
// stored in the cache, and the tokens it still has to read.
type branch struct {
	g     *group
	chain int
	phase phase
	span  device.Span // reserved rows; the first `used` hold tokens
	used  int
	keep  int            // rows up to and including the boundary: where an answer begins
	past  [2]device.Span // prompt and used rows, for the step in progress
	ids   []int32        // read in the step in progress

	// What grows: the token drawn last, while it is not read.
	rng  *rand.Rand
	next int32
	has  bool

	// The tail: what is read of it, and what is scored.
	given given
	score score
	first *Token // of the answer: drawn where the boundary was read, which may be steps before the tail ends
}

// grows tells whether a token is drawn for the branch in every step.
func (br *branch) grows() bool { return br.phase == sampling || br.phase == answering }

// given are tokens that a branch has to read: a forced chain, the boundary, the
// reference. It may take several steps.
type given struct {
	ids     []int32
	read    int // of ids
	closing int // of ids: those up to the boundary, after which an answer begins
}

func (g *given) rest() []int32 { return g.ids[g.read:] }

// score is the tokens whose probability is asked for: the given ones without the
// baseline's boundary, and a forced chain's stop token, which is not read.
type score struct {
	want  []want
	known int // of want
}

func (s *score) rest() []want { return s.want[s.known:] }

// want is a token to be scored, after so many of a branch's given ones.
type want struct {
	id    int32
	after int
	kind  Part
	index int
}

// batch runs requests over the engine's cache.
type batch struct {
	e       *Engine
	emit    func(Event)
	waiting []*group
	active  []*group
	results []Result

	// What a step is made of, kept for its memory, and how many tokens it may still
	// read beside those that growing chains do.
	room     int
	in       llama.Batch
	picks    []pick
	readings []reading
	targets  llama.Targets
	rows     []int32
	how      []device.SampleRow

	odd bool // a token's log-probability was not finite
}

func newBatch(e *Engine, reqs []Request, emit func(Event)) *batch {
	b := &batch{e: e, emit: emit, results: make([]Result, len(reqs))}
	for i := range reqs {
		b.results[i].Chains = make([]Chain, reqs[i].N)
		b.waiting = append(b.waiting, &group{index: i, req: &reqs[i]})
	}
	return b
}

func (b *batch) done() bool { return len(b.waiting) == 0 && len(b.active) == 0 }

// release gives all rows back, also of chains that were cut short.
func (b *batch) release() {
	for _, g := range b.active {
		for _, br := range g.branches {
			b.e.spans.give(br.span)
		}
		b.e.spans.give(g.prompt)
	}
	b.active = nil
}

// admit lets waiting groups in, in order, while cache and batch have room.
func (b *batch) admit() {
	rows := 0
	for _, g := range b.active {
		rows += g.live
	}
	for len(b.waiting) > 0 {
		g := b.waiting[0]
		entering := len(g.req.Prompt)
		for _, f := range g.req.Forced {
			entering += len(f) + len(g.req.Close) + len(g.req.Reference)
		}
		entering = max(entering, g.req.N) // they grow at once
		if len(b.active) > 0 && rows+entering > b.e.opts.BatchRows || !b.place(g) {
			return
		}
		rows += entering
		b.waiting = b.waiting[1:]
		b.active = append(b.active, g)
	}
}

// place reserves the group's rows, all or none, and makes its branches.
func (b *batch) place(g *group) bool {
	r := g.req
	sizes := append([]int{len(r.Prompt)}, slices.Repeat([]int{r.branchRows()}, r.N)...)
	if r.Baseline {
		sizes = append(sizes, len(r.Close)+len(r.Reference))
	}
	rows := b.e.spans.takeAll(sizes)
	if rows == nil {
		return false
	}
	g.prompt, rows = rows[0], rows[1:]
	for i := range r.N {
		rng := rand.New(rand.NewPCG(r.Seed, uint64(i)*0x9e3779b97f4a7c15+1))
		g.branches = append(g.branches, &branch{g: g, chain: i, span: rows[i], rng: rng})
	}
	if r.Baseline {
		br := &branch{g: g, chain: -1, phase: tail, span: rows[r.N]}
		br.force(r.Close, PartEnd)
		br.force(r.Reference, PartBaseline)
		g.branches = append(g.branches, br)
	}
	g.live = len(g.branches)
	for i, ids := range r.Forced {
		b.forceChain(g.branches[i], ids)
	}
	return true
}

// forceChain gives a branch a chain instead of drawing one.
func (b *batch) forceChain(br *branch, ids []int32) {
	r, c := br.g.req, &b.results[br.g.index].Chains[br.chain]
	c.Closed = endsWith(ids, r.Close) || r.StopText != "" && b.closes(r, ids)
	c.Finish = "length"
	if c.Closed {
		c.Finish = "close"
	}
	if n := len(ids) - 1; n >= 0 && !c.Closed && slices.Contains(r.Stop, ids[n]) {
		c.Finish = "stop"
		br.force(ids[:n], PartChain)
		br.score.want = append(br.score.want, want{ids[n], n, PartChain, n})
	} else {
		br.force(ids, PartChain)
	}
	b.endChain(br)
}

// force queues ids to be read, and scored as kind (PartEnd: read only).
func (br *branch) force(ids []int32, kind Part) {
	f := &br.given
	for i, id := range ids {
		if kind != PartEnd {
			br.score.want = append(br.score.want, want{id, len(f.ids) + i, kind, i})
		}
	}
	f.ids = append(f.ids, ids...)
	if kind != PartReference && kind != PartBaseline {
		f.closing = len(f.ids)
	}
}

// pick is a token to draw for a branch from a row of the batch.
type pick struct {
	row int32
	br  *branch
}

// reading is how far a branch got with its given tokens in a step: those from
// `from` on are in row first and the next ones, and row before (−1 for none)
// predicts the first of them.
type reading struct {
	br            *branch
	from          int
	before, first int
}

// row is the one that predicts what comes after so many given tokens, if this
// step has it.
func (r reading) row(after int) (row int32, ok bool) {
	switch {
	case after == r.from:
		return int32(r.before), r.before >= 0
	case after > r.from && after <= r.br.given.read:
		return int32(r.first + after - r.from - 1), true
	}
	return 0, false
}

// scorable are the wanted tokens whose row this step has.
func (r reading) scorable() []want {
	list := r.br.score.rest()
	n := 0
	for ; n < len(list); n++ {
		if _, ok := r.row(list[n].after); !ok {
			break
		}
	}
	return list[:n]
}

// step reads one token of every growing chain, and new prompts and given tokens
// as far as there is room, in one pass; then it draws and scores. All chains may
// end at once, at the longest they may be: their references then wait for each
// other.
func (b *batch) step() {
	b.admit()
	b.in.IDs, b.in.Pos, b.in.Seqs = b.in.IDs[:0], b.in.Pos[:0], b.in.Seqs[:0]
	b.picks, b.readings = b.picks[:0], b.readings[:0]
	b.room = b.e.opts.BatchRows
	for _, g := range b.active {
		for _, br := range g.branches {
			if br.has && br.grows() {
				b.room--
			}
		}
	}
	for _, g := range b.active {
		last, whole := b.readPrompt(g)
		if !whole {
			continue
		}
		for _, br := range g.branches {
			if br.phase != finished {
				b.readBranch(br, last)
			}
		}
	}
	b.e.cache.Extend(b.in)
	b.classify()
	b.draw()
	for len(b.readings) > 0 { // of chains that just stopped
		b.classify()
		b.draw()
	}
	b.active = slices.DeleteFunc(b.active, func(g *group) bool {
		if g.live > 0 {
			return false
		}
		b.e.spans.give(g.prompt)
		return true
	})
}

// readPrompt reads as much of a prompt as there is room for. last is the row of its
// last token, −1 where an earlier step read that; whole is false while some is left.
func (b *batch) readPrompt(g *group) (last int, whole bool) {
	rest := g.req.Prompt[g.read:]
	if len(rest) == 0 {
		return -1, true
	}
	if rest = rest[:max(0, min(len(rest), b.room))]; len(rest) == 0 {
		return -1, false
	}
	var past []device.Span
	if g.read > 0 {
		past = []device.Span{{Start: g.prompt.Start, Len: g.read}}
	}
	last = b.read(rest, g.read, past, g.prompt.Start+g.read) + len(rest) - 1
	b.room -= len(rest)
	g.read += len(rest)
	return last, g.read == len(g.req.Prompt)
}

// readBranch reads what a branch stands before: the token drawn for it, and as many
// of its given ones as there is room for. Where it has none to read, the prompt's
// last row predicts what comes.
func (b *batch) readBranch(br *branch, last int) {
	g, f := br.g, &br.given
	ids := br.ids[:0]
	if br.has {
		ids = append(ids, br.next)
	}
	ids = append(ids, f.rest()...)
	br.ids = ids
	if !br.grows() {
		ids = ids[:max(0, min(len(ids), b.room))]
		b.room -= len(ids)
	}
	first := -1
	if len(ids) > 0 {
		br.past = [2]device.Span{g.prompt, {Start: br.span.Start, Len: br.used}}
		past := br.past[:]
		if br.used == 0 {
			past = past[:1]
		}
		first = b.read(ids, g.prompt.Len+br.used, past, br.span.Start+br.used)
		br.used += len(ids)
	}
	if br.grows() {
		br.has = false
		b.picks = append(b.picks, pick{int32(max(last, first)), br})
		return
	}
	r := reading{br: br, from: f.read, before: last, first: first}
	if br.has && len(ids) > 0 {
		br.has, ids = false, ids[1:]
		r.before, r.first = first, first+1
	}
	f.read += len(ids)
	b.readings = append(b.readings, r)
}

// read adds a sequence to the step: ids at positions from pos on, which see the rows
// of the cache in past and are stored from row own on. It returns the first's row.
func (b *batch) read(ids []int32, pos int, past []device.Span, own int) int {
	in := &b.in
	first := len(in.IDs)
	in.IDs = append(in.IDs, ids...)
	for i := range ids {
		in.Pos = append(in.Pos, int32(pos+i))
	}
	in.Seqs = append(in.Seqs, device.Seq{Q: device.Span{Start: first, Len: len(ids)}, Past: past, Own: own})
	return first
}

// classify scores what this step can score, and lets the branches go on.
func (b *batch) classify() {
	t := &b.targets
	t.Rows, t.IDs = t.Rows[:0], t.IDs[:0]
	for _, r := range b.readings {
		for _, w := range r.scorable() {
			row, _ := r.row(w.after)
			t.Rows, t.IDs = append(t.Rows, row), append(t.IDs, w.id)
		}
	}
	got := b.classified(*t)
	at := 0
	for _, r := range b.readings {
		list := r.scorable()
		for _, w := range list {
			b.put(r.br, w.kind, w.index, Token{ID: w.id, LogProb: got.LogProb[at], Entropy: got.Entropy[at]})
			at++
		}
		r.br.score.known += len(list)
		b.goOn(r)
	}
	b.readings = b.readings[:0]
}

// goOn sends a branch that has read and scored its tail to its answer, whose first
// token is drawn from the boundary's row, or to its end.
func (b *batch) goOn(r reading) {
	br := r.br
	answers := br.chain >= 0 && br.g.req.MaxAnswer > 0
	if row, ok := r.row(br.given.closing); ok && answers {
		b.picks = append(b.picks, pick{row, br})
	}
	if br.has || len(br.given.rest()) > 0 || len(br.score.rest()) > 0 {
		return // in the next step
	}
	if !answers {
		b.finish(br)
		return
	}
	br.used, br.phase = br.keep, answering
	first := br.first
	br.given, br.score, br.first = given{}, score{}, nil
	if first != nil {
		b.answer(br, *first)
	}
}

// classified scores targets, as many at a time as may be read in a step.
func (b *batch) classified(t llama.Targets) device.Classified {
	n := b.e.opts.BatchRows
	if len(t.IDs) <= n {
		return b.e.cache.Classify(t)
	}
	var all device.Classified
	for from := 0; from < len(t.IDs); from += n {
		to := min(from+n, len(t.IDs))
		got := b.e.cache.Classify(llama.Targets{Rows: t.Rows[from:to], IDs: t.IDs[from:to]})
		all.LogProb, all.Entropy = append(all.LogProb, got.LogProb...), append(all.Entropy, got.Entropy...)
	}
	return all
}

// draw samples a token for every pick.
func (b *batch) draw() {
	if len(b.picks) == 0 {
		return
	}
	b.rows, b.how = b.rows[:0], b.how[:0]
	for _, p := range b.picks {
		s := p.br.g.req.Sampling
		b.rows = append(b.rows, p.row)
		b.how = append(b.how, device.SampleRow{Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, U: p.br.rng.Float64(), Top: s.Top})
	}
	for i, got := range b.e.cache.Sample(b.rows, b.how) {
		p := b.picks[i]
		tok := Token{ID: got.ID, LogProb: got.LogProb, Entropy: got.Entropy, Top: got.Top}
		switch p.br.phase {
		case sampling:
			b.grow(p, tok)
		case tail:
			first := tok // only this one outlives the step
			p.br.first = &first
		case answering:
			b.answer(p.br, tok)
		}
	}
	b.picks = b.picks[:0]
}

// grow adds a token to a chain. A stop token is not read: where it was drawn the
// boundary is forced, so that what follows a chain that stopped is what would follow
// if it had closed itself there, and the boundary's log-probability is that of closing
// instead of stopping.
func (b *batch) grow(p pick, tok Token) {
	br := p.br
	br.next, br.has = tok.ID, true
	r, c := br.g.req, &b.results[br.g.index].Chains[br.chain]
	b.put(br, PartChain, len(c.Tokens), tok)
	switch {
	case endsWith(IDsOf(c.Tokens[max(0, len(c.Tokens)-len(r.Close)):]), r.Close), r.StopText != "" && b.endsChain(r, c.Tokens):
		c.Closed, c.Finish = true, "close"
	case slices.Contains(r.Stop, tok.ID):
		c.Finish, br.has = "stop", false
	case len(c.Tokens) >= r.MaxChain:
		c.Finish = "length"
	default:
		return
	}
	b.endChain(br)
	if c.Finish == "stop" && br.phase == tail {
		b.readings = append(b.readings, reading{br: br, before: int(p.row)})
	}
}

// answer adds a token to a branch's answer.
func (b *batch) answer(br *branch, tok Token) {
	r, c := br.g.req, &b.results[br.g.index].Chains[br.chain]
	br.next, br.has = tok.ID, true
	b.put(br, PartAnswer, len(c.Answer), tok)
	if slices.Contains(r.AnswerStop, tok.ID) || len(c.Answer) >= r.MaxAnswer {
		b.finish(br)
	}
}

// endChain queues what follows a finished chain: boundary and reference.
func (b *batch) endChain(br *branch) {
	r := br.g.req
	br.phase = tail
	if !b.results[br.g.index].Chains[br.chain].Closed {
		br.force(r.Close, PartBoundary)
	}
	br.keep = br.used + br.given.closing
	if br.has {
		br.keep++
	}
	br.force(r.Reference, PartReference)
	if len(br.score.want) == 0 && r.MaxAnswer == 0 {
		b.finish(br)
	}
}

// put stores a token in the results and reports it.
func (b *batch) put(br *branch, kind Part, i int, t Token) {
	res := &b.results[br.g.index]
	if kind == PartBaseline {
		res.Baseline = append(res.Baseline, t)
	} else {
		c := &res.Chains[br.chain]
		switch kind {
		case PartChain:
			c.Tokens = append(c.Tokens, t)
		case PartBoundary:
			c.Boundary = append(c.Boundary, t)
		case PartReference:
			c.Reference = append(c.Reference, t)
		case PartAnswer:
			c.Answer = append(c.Answer, t)
		}
	}
	b.odd = b.odd || !t.finite()
	b.report(Event{Request: br.g.index, Chain: br.chain, Part: kind, Index: i, Token: t})
}

// report hands an event out, unless the step has found numbers that are not finite.
func (b *batch) report(ev Event) {
	if b.emit != nil && !b.odd {
		b.emit(ev)
	}
}

// finish frees a branch's rows.
func (b *batch) finish(br *branch) {
	br.phase = finished
	br.has = false
	br.g.live--
	b.e.spans.give(br.span)
	br.span = device.Span{}
	b.report(Event{Request: br.g.index, Chain: br.chain, Part: PartEnd})
}
