package engine

import (
	"math/rand/v2"
	"slices"
	"strings"

	"nrt/backend/device"
	"nrt/backend/llama"
)

// phase is what a branch does next.
type phase uint8

const (
	sampling  phase = iota // the chain grows token by token
	tail                   // forced tokens: rest of a scored chain, boundary, reference
	answering              // the answer grows token by token
	finished
)

// group is one request in the batch.
type group struct {
	index    int
	req      *Request
	prompt   device.Span // its rows of the cache
	prefill  bool        // the prompt is still to be read
	branches []*branch
	live     int
}

// branch is one chain of a group (or its baseline, chain −1): what it has
// stored in the cache, and the tokens it still has to read.
type branch struct {
	g      *group
	chain  int
	span   device.Span // reserved rows; the first `used` hold tokens
	used   int
	phase  phase
	rng    *rand.Rand
	next   int32          // sampled, not yet read
	has    bool           // next is valid
	keep   int            // rows up to and including the boundary: where an answer begins
	past   [2]device.Span // prompt and used rows, for the step in progress
	ids    []int32        // read in the step in progress
	forced []int32
	parts  []part
}

// part tells whose tokens the forced ones are.
type part struct {
	kind Part
	n    int
}

// batch runs requests over the engine's cache.
type batch struct {
	e       *Engine
	emit    func(Event)
	waiting []*group
	active  []*group
	results []Result

	// What a step is made of, kept for its memory.
	in      llama.Batch
	picks   []pick
	scores  []score
	targets llama.Targets
	rows    []int32
	how     []device.SampleRow
}

func newBatch(e *Engine, reqs []Request, emit func(Event)) *batch {
	b := &batch{e: e, emit: emit, results: make([]Result, len(reqs))}
	for i := range reqs {
		b.results[i].Chains = make([]Chain, reqs[i].N)
		b.waiting = append(b.waiting, &group{index: i, req: &reqs[i], prefill: true})
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
		if len(b.active) > 0 && rows+entering > b.e.opts.BatchRows || !b.place(g) {
			return
		}
		rows += entering
		b.waiting = b.waiting[1:]
		b.active = append(b.active, g)
	}
}

// place reserves the group's rows, all or none.
func (b *batch) place(g *group) bool {
	r, s := g.req, &b.e.spans
	var taken []device.Span
	take := func(n int) (device.Span, bool) {
		start := s.take(n)
		if start < 0 {
			for _, t := range taken {
				s.give(t)
			}
			return device.Span{}, false
		}
		taken = append(taken, device.Span{Start: start, Len: n})
		return taken[len(taken)-1], true
	}
	var ok bool
	if g.prompt, ok = take(len(r.Prompt)); !ok {
		return false
	}
	g.branches, g.live = nil, 0
	for i := range r.N {
		br := &branch{g: g, chain: i, rng: rand.New(rand.NewPCG(r.Seed, uint64(i)*0x9e3779b97f4a7c15+1))}
		if br.span, ok = take(r.branchRows()); !ok {
			return false
		}
		g.branches = append(g.branches, br)
	}
	if r.Baseline {
		br := &branch{g: g, chain: -1, phase: tail}
		if br.span, ok = take(len(r.Close) + len(r.Reference)); !ok {
			return false
		}
		br.force(r.Close, PartEnd)
		br.force(r.Reference, PartBaseline)
		g.branches = append(g.branches, br)
	}
	g.live = len(g.branches)
	for i, f := range r.Forced {
		g.branches[i].force(f, PartChain)
		b.endChain(g.branches[i])
	}
	return true
}

// force queues tokens to be read and scored as kind (PartEnd: read only).
func (br *branch) force(ids []int32, kind Part) {
	if len(ids) > 0 {
		br.forced = append(br.forced, ids...)
		br.parts = append(br.parts, part{kind, len(ids)})
	}
}

// pick is a token to draw for a branch from a row of the batch.
type pick struct {
	row int32
	br  *branch
}

// score is forced tokens of a branch, whose first is predicted by row `before`
// and whose others by the rows from first on.
type score struct {
	br            *branch
	before, first int
	ids           []int32
}

// step reads one token of every growing chain, all forced tokens and all new
// prompts in one pass, then draws and scores.
func (b *batch) step() {
	b.admit()
	in := &b.in
	in.IDs, in.Pos, in.Seqs = in.IDs[:0], in.Pos[:0], in.Seqs[:0]
	b.picks, b.scores = b.picks[:0], b.scores[:0]
	read := func(ids []int32, pos int, past []device.Span, own int) int {
		first := len(in.IDs)
		in.IDs = append(in.IDs, ids...)
		for i := range ids {
			in.Pos = append(in.Pos, int32(pos+i))
		}
		in.Seqs = append(in.Seqs, device.Seq{Q: device.Span{Start: first, Len: len(ids)}, Past: past, Own: own})
		return first
	}
	for _, g := range b.active {
		last := -1 // row of the prompt's last token, if read in this step
		if g.prefill {
			last = read(g.req.Prompt, 0, nil, g.prompt.Start) + len(g.req.Prompt) - 1
			g.prefill = false
		}
		for _, br := range g.branches {
			if br.phase == finished {
				continue
			}
			ids := br.ids[:0]
			if br.has {
				ids = append(ids, br.next)
			}
			ids = append(ids, br.forced...)
			br.ids = ids
			before := last // the row that predicts the first forced token
			first := -1
			if len(ids) > 0 {
				br.past = [2]device.Span{g.prompt, {Start: br.span.Start, Len: br.used}}
				past := br.past[:]
				if br.used == 0 {
					past = past[:1]
				}
				first = read(ids, g.prompt.Len+br.used, past, br.span.Start+br.used)
				br.used += len(ids)
			}
			own := first
			if br.has {
				before, own = first, first+1
			}
			br.has = false
			switch br.phase {
			case tail:
				b.scores = append(b.scores, score{br, before, own, br.forced})
				br.forced = nil
			default:
				b.picks = append(b.picks, pick{int32(max(last, first)), br})
			}
		}
	}
	b.e.cache.Extend(*in)
	b.take()
	b.draw()
	b.active = slices.DeleteFunc(b.active, func(g *group) bool {
		if g.live > 0 {
			return false
		}
		b.e.spans.give(g.prompt)
		return true
	})
}

// take scores the forced tokens and sends each branch on: to its answer, whose
// first token is drawn from the boundary's row, or to its end.
func (b *batch) take() {
	if len(b.scores) == 0 {
		return
	}
	t := &b.targets
	t.Rows, t.IDs = t.Rows[:0], t.IDs[:0]
	for _, s := range b.scores {
		for i, id := range s.ids {
			row := s.before
			if i > 0 {
				row = s.first + i - 1
			}
			t.Rows, t.IDs = append(t.Rows, int32(row)), append(t.IDs, id)
		}
	}
	got := b.e.cache.Classify(*t)
	at := 0
	for _, s := range b.scores {
		boundary := s.before // the last row before the reference
		i := 0
		for _, p := range s.br.parts {
			for j := range p.n {
				tok := Token{ID: s.ids[i], LogProb: got.LogProb[at], Entropy: got.Entropy[at]}
				if p.kind != PartEnd {
					b.put(s.br, p.kind, j, tok)
				}
				if p.kind != PartReference && p.kind != PartBaseline {
					boundary = s.first + i
				}
				i++
				at++
			}
		}
		s.br.parts = nil
		if s.br.chain >= 0 && s.br.g.req.MaxAnswer > 0 {
			s.br.used = s.br.keep
			s.br.phase = answering
			b.picks = append(b.picks, pick{int32(boundary), s.br})
			continue
		}
		b.finish(s.br)
	}
}

// draw samples a token for every growing chain or answer.
func (b *batch) draw() {
	b.rows, b.how = b.rows[:0], b.how[:0]
	for _, p := range b.picks {
		s := p.br.g.req.Sampling
		b.rows = append(b.rows, p.row)
		b.how = append(b.how, device.SampleRow{Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, U: p.br.rng.Float64(), Top: s.Top})
	}
	for i, got := range b.e.cache.Sample(b.rows, b.how) {
		br := b.picks[i].br
		br.next, br.has = got.ID, true
		tok := Token{ID: got.ID, LogProb: got.LogProb, Entropy: got.Entropy, Top: got.Top}
		r, c := br.g.req, &b.results[br.g.index].Chains[br.chain]
		if br.phase == answering {
			b.put(br, PartAnswer, len(c.Answer), tok)
			if slices.Contains(r.AnswerStop, got.ID) || len(c.Answer) >= r.MaxAnswer {
				b.finish(br)
			}
			continue
		}
		b.put(br, PartChain, len(c.Tokens), tok)
		switch {
		case len(r.Close) == 1 && got.ID == r.Close[0], r.StopText != "" && b.endsChain(c.Tokens, r.StopText):
			c.Closed, c.Finish = true, "close"
		case slices.Contains(r.Stop, got.ID):
			c.Finish = "stop"
		case len(c.Tokens) >= r.MaxChain:
			c.Finish = "length"
		default:
			continue
		}
		b.endChain(br)
	}
}

// endsChain looks for the boundary's text at the end of a chain.
func (b *batch) endsChain(tokens []Token, text string) bool {
	from := max(0, len(tokens)-len(text)-1) // a token is at least a byte long
	ids := make([]int32, 0, len(tokens)-from)
	for _, t := range tokens[from:] {
		ids = append(ids, t.ID)
	}
	return strings.Contains(b.e.text.Decode(ids, false), text)
}

// closes tells whether the last of the ids completes the boundary's text, as it
// does in a sampled chain that closed itself.
func (b *batch) closes(ids []int32, text string) bool {
	if len(ids) == 0 {
		return false
	}
	ids = ids[max(0, len(ids)-len(text)-1):]
	i := strings.LastIndex(b.e.text.Decode(ids, false), text)
	return i >= 0 && i+len(text) > len(b.e.text.Decode(ids[:len(ids)-1], false))
}

// endChain queues what follows a finished chain: boundary and reference.
func (b *batch) endChain(br *branch) {
	r, c := br.g.req, &b.results[br.g.index].Chains[br.chain]
	if r.Forced != nil {
		ids := r.Forced[br.chain]
		c.Closed = len(r.Close) > 0 && len(ids) >= len(r.Close) && slices.Equal(ids[len(ids)-len(r.Close):], r.Close) ||
			r.StopText != "" && b.closes(ids, r.StopText)
		c.Finish = "stop"
		if c.Closed {
			c.Finish = "close"
		}
	}
	br.phase = tail
	if !c.Closed {
		br.force(r.Close, PartBoundary)
	}
	br.keep = br.used + len(br.forced)
	if br.has {
		br.keep++
	}
	br.force(r.Reference, PartReference)
	if len(br.forced) == 0 && r.MaxAnswer == 0 {
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
	if b.emit != nil {
		b.emit(Event{Request: br.g.index, Chain: br.chain, Part: kind, Index: i, Token: t})
	}
}

// finish frees a branch's rows.
func (b *batch) finish(br *branch) {
	br.phase = finished
	br.has = false
	br.g.live--
	b.e.spans.give(br.span)
	br.span = device.Span{}
	if b.emit != nil {
		b.emit(Event{Request: br.g.index, Chain: br.chain, Part: PartEnd})
	}
}
