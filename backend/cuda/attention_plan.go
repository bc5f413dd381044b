//go:build cuda

package cuda

import (
	"cmp"
	"math/bits"
	"slices"

	"nrt/backend/device"
)

// The work of an attention call is cut up here, on the host, into lists that the
// kernels read (kernels/attention.h says how). The keys that a Seq sees have
// positions: those of Past in their order, then its own. Where they stand in k
// and v is a list of pieces.
//
// How a Seq is cut depends on the Seq alone. Shared work changes who computes a
// row, never what is added to what: so its bits do not depend on the other Seqs
// of the call.

const (
	// fewQueries is how many queries a Seq may have to count as decoding: then its
	// keys are cut into chunks, which different blocks take.
	fewQueries = 8
	// chunkKeys is how many keys a chunk has at most. Chunks begin anew after the
	// first span of Past, which the chains of a prompt share.
	chunkKeys = 256
	// sharedRows is how many query rows the kernel of the keys takes in one block
	// before the next Seq that sees the same keys goes to another one. The chains
	// of a prompt would otherwise queue up for the few blocks that own its keys.
	sharedRows = 8192
	// keyTile is how many keys a block of that kernel owns.
	keyTile = 64
)

// workItem is Item of kernels/attention.h.
type workItem struct{ q, pos, m0, rows, table, piece, from, to int32 }

// keyItem is KeyTile of kernels/attention.h; work is to put long ones first.
type keyItem struct {
	row, n, entry, end, slot int32
	work                     int
}

// attentionPlan makes the lists. Its slices keep their memory from call to call.
type attentionPlan struct {
	heads device.Heads
	group int // query heads per key head
	tile  int // rows of a block's tile of queries
	few   int // of one that decodes
	// shared is sharedRows; tests lower it.
	shared int

	items    []workItem
	decoding []workItem
	pieces   []int32 // of all Seqs: where each piece ends, row − position
	table    []int32 // of decoding items: query row, position, slot, 0
	joins    []int32 // of decoding queries: query row, first slot, slots, 0
	slots    int

	chunks  []chunk
	queries []chunkQuery
	index   map[chunkKey]int32

	keys    []keyItem
	entries []int32 // query row, position, row → position, first m, last m, 0, 0, 0
	reduces []int32 // row, rows, first slot, slots
	spans   []keySpan
	active  []int32
	bounds  []int32
}

// chunkKey tells which Seqs may share a chunk: the same rows at the same
// positions. Chunks that are not one run of rows are one Seq's (own > 0).
type chunkKey struct{ row, from, to, own int32 }

type chunk struct{ piece, from, to, queries, first int32 }

// chunkQuery is one query of a chunk.
type chunkQuery struct{ chunk, q, pos, slot int32 }

// keySpan is rows [lo, hi) of k, of which the first is at position at of a Seq.
type keySpan struct{ lo, hi, at, seq, past int32 }

func (p *attentionPlan) begin(h device.Heads, shape *attentionShape) {
	p.heads, p.group, p.tile, p.few = h, h.Query/h.KV, shape.tile(), shape.rows
	if p.shared == 0 {
		p.shared = sharedRows
	}
	p.items, p.decoding, p.pieces, p.table, p.joins, p.slots = p.items[:0], p.decoding[:0], p.pieces[:0], p.table[:0], p.joins[:0], 0
}

// place lists the pieces of a Seq; it returns the first and the length of Past.
func (p *attentionPlan) place(s device.Seq) (piece, past int32) {
	piece = int32(len(p.pieces) / 2)
	for _, r := range s.Past {
		if r.Len > 0 {
			p.pieces = append(p.pieces, past+int32(r.Len), int32(r.Start)-past)
			past += int32(r.Len)
		}
	}
	p.pieces = append(p.pieces, past+int32(s.Q.Len), int32(s.Own)-past)
	return piece, past
}

// holding is the first piece from piece on that reaches beyond a position.
func (p *attentionPlan) holding(piece, position int32) int32 {
	for p.pieces[2*piece] <= position {
		piece++
	}
	return piece
}

// oldest is the first position that a query at pos sees.
func (p *attentionPlan) oldest(pos int32) int32 {
	if w := int32(p.heads.Window); w > 0 {
		return max(0, pos-w+1)
	}
	return 0
}

// forward lists the work of Attention.
func (p *attentionPlan) forward(seqs []device.Seq, h device.Heads, shape *attentionShape) {
	p.begin(h, shape)
	p.chunks, p.queries = p.chunks[:0], p.queries[:0]
	if p.index == nil {
		p.index = map[chunkKey]int32{}
	}
	clear(p.index)
	for i, s := range seqs {
		switch {
		case s.Q.Len == 0:
		case s.Q.Len <= fewQueries:
			p.decode(int32(i), s)
		default:
			p.rows(s)
		}
	}
	p.gather()
	longestFirst(p.items)
	longestFirst(p.decoding)
}

// backward lists the work of the kernels of the queries and of the keys.
func (p *attentionPlan) backward(seqs []device.Seq, h device.Heads, shape *attentionShape) {
	p.begin(h, shape)
	for _, s := range seqs {
		if s.Q.Len > 0 {
			p.rows(s)
		}
	}
	longestFirst(p.items)
	p.cutKeys(seqs)
}

func longestFirst(items []workItem) {
	slices.SortStableFunc(items, func(a, b workItem) int { return cmp.Compare(b.to-b.from, a.to-a.from) })
}

// rows cuts a Seq's queries into tiles that see all their keys.
func (p *attentionPlan) rows(s device.Seq) {
	piece, past := p.place(s)
	rows, group, tile := int32(s.Q.Len*p.group), int32(p.group), int32(p.tile)
	for m := (rows - 1) / tile * tile; m >= 0; m -= tile {
		n := min(tile, rows-m)
		from := p.oldest(past+m/group) / keyTile * keyTile
		p.items = append(p.items, workItem{q: int32(s.Q.Start), pos: past, m0: m, rows: n, table: -1,
			piece: p.holding(piece, from), from: from, to: past + (m+n-1)/group + 1})
	}
}

// decode cuts a Seq's keys into chunks.
func (p *attentionPlan) decode(seq int32, s device.Seq) {
	piece, past := p.place(s)
	total, first, oldest := past+int32(s.Q.Len), int32(0), p.oldest(past)
	if past > 0 {
		first = p.pieces[2*piece]
	}
	slot, n := int32(p.slots), int32(0)
	start := len(p.queries)
	for from, to := int32(0), int32(0); from < total; from = to {
		to = min(from+chunkKeys, total)
		if from < first {
			to = min(to, first)
		}
		if to <= oldest {
			continue
		}
		piece = p.holding(piece, from)
		key := chunkKey{p.pieces[2*piece+1] + from, from, to, 0}
		if p.pieces[2*piece] < to {
			key = chunkKey{0, from, to, seq + 1}
		}
		c, ok := p.index[key]
		if !ok {
			c = int32(len(p.chunks))
			p.index[key] = c
			p.chunks = append(p.chunks, chunk{piece: piece, from: from, to: to})
		}
		for i := range int32(s.Q.Len) {
			p.queries = append(p.queries, chunkQuery{c, int32(s.Q.Start) + i, past + i, n})
		}
		p.chunks[c].queries += int32(s.Q.Len)
		n++
	}
	// The chunks of a query have slots in a row.
	for i := range p.queries[start:] {
		q := &p.queries[start+i]
		q.slot += slot + int32(i%s.Q.Len)*n
	}
	for i := range int32(s.Q.Len) {
		p.joins = append(p.joins, int32(s.Q.Start)+i, slot+i*n, n, 0)
	}
	p.slots += s.Q.Len * int(n)
}

// gather makes the items of the chunks: the queries of each stand together in table.
func (p *attentionPlan) gather() {
	at := int32(0)
	for i := range p.chunks {
		c := &p.chunks[i]
		c.first = at
		rows, tile := c.queries*int32(p.group), int32(p.few)
		for m := int32(0); m < rows; m += tile {
			p.decoding = append(p.decoding, workItem{m0: m, rows: min(tile, rows-m), table: at, piece: c.piece, from: c.from, to: c.to})
		}
		at += c.queries
	}
	p.table = slices.Grow(p.table, 4*len(p.queries))[:4*len(p.queries)]
	for _, q := range p.queries {
		c := &p.chunks[q.chunk]
		copy(p.table[4*c.first:], []int32{q.q, q.pos, q.slot, 0})
		c.first++
	}
}

// cutKeys lists the work of the kernel of the keys. The rows of k are cut wherever
// the keys of a Seq begin or end: the same Seqs see all rows of a cut.
func (p *attentionPlan) cutKeys(seqs []device.Seq) {
	p.keys, p.entries, p.reduces = p.keys[:0], p.entries[:0], p.reduces[:0]
	p.spans, p.active, p.bounds = p.spans[:0], p.active[:0], p.bounds[:0]
	for i, s := range seqs {
		if s.Q.Len == 0 {
			continue
		}
		first, at := len(p.spans), int32(0)
		add := func(r device.Span) {
			if r.Len > 0 {
				p.spans = append(p.spans, keySpan{lo: int32(r.Start), hi: int32(r.Start + r.Len), at: at, seq: int32(i)})
				at += int32(r.Len)
			}
		}
		for _, r := range s.Past {
			add(r)
		}
		past := at
		add(device.Span{Start: s.Own, Len: s.Q.Len})
		for j := first; j < len(p.spans); j++ {
			p.spans[j].past = past
		}
	}
	order := make([]int32, len(p.spans)) // by where they begin
	for i, s := range p.spans {
		order[i] = int32(i)
		p.bounds = append(p.bounds, s.lo, s.hi)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(p.spans[a].lo, p.spans[b].lo) })
	slices.Sort(p.bounds)
	p.bounds = slices.Compact(p.bounds)
	for b := 0; b+1 < len(p.bounds); b++ {
		lo := p.bounds[b]
		p.active = slices.DeleteFunc(p.active, func(i int32) bool { return p.spans[i].hi <= lo })
		for ; len(order) > 0 && p.spans[order[0]].lo == lo; order = order[1:] {
			at, _ := slices.BinarySearch(p.active, order[0])
			p.active = slices.Insert(p.active, at, order[0])
		}
		if len(p.active) > 0 {
			p.cut(seqs, lo, p.bounds[b+1])
		}
	}
	slices.SortStableFunc(p.keys, func(a, b keyItem) int { return cmp.Compare(b.work, a.work) })
}

// cut lists the tiles of rows [lo, hi), which the active spans hold.
func (p *attentionPlan) cut(seqs []device.Seq, lo, hi int32) {
	first := int32(len(p.entries) / 8)
	ends, rows := []int32(nil), 0 // of the entries that a block takes
	for _, i := range p.active {
		if rows >= p.shared {
			ends, rows = append(ends, int32(len(p.entries)/8)), 0
		}
		s := p.spans[i]
		q := seqs[s.seq].Q
		p.entries = append(p.entries, int32(q.Start), s.past, s.at-s.lo, 0, int32(q.Len*p.group), 0, 0, 0)
		rows += q.Len * p.group
	}
	ends = append(ends, int32(len(p.entries)/8))
	for row := lo; row < hi; row += keyTile {
		n, slot := min(keyTile, hi-row), int32(-1)
		if len(ends) > 1 {
			slot = int32(p.slots)
			p.slots += len(ends)
			p.reduces = append(p.reduces, row, n, slot, int32(len(ends)))
		}
		from := first
		for _, end := range ends {
			item := keyItem{row: row, n: n, entry: from, end: end, slot: slot}
			for e := p.entries[8*from : 8*end]; len(e) > 0; e = e[8:] {
				item.work += int(e[4]) - int(max(0, row+e[2]-e[1]))*p.group
			}
			p.keys = append(p.keys, item)
			from = end
			if slot >= 0 {
				slot++
			}
		}
	}
}

// coarse rounds up to at most an eighth more, or 7, in steps that a slowly growing
// n seldom takes: sizes that stay the same let the driver repeat a step as a graph.
func coarse(n int) int {
	step := 8
	if n > 64 {
		step = 1 << (bits.Len(uint(n-1)) - 4)
	}
	return (n + step - 1) / step * step
}
