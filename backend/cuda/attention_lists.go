//go:build cuda

package cuda

import (
	"slices"

	"nrt/backend/device"
)

// attentionWork is the work lists of one kind of call. All layers of a model call
// with the same Seqs, so the lists are made once and sent once to the card.
type attentionWork struct {
	plan  attentionPlan
	seqs  []device.Seq // what plan is for, with Past in spans
	spans []device.Span
	heads device.Heads

	data  []int32       // all lists, one after the other
	begin [numLists]int // of each in data
	count [numLists]int // entries of each
	base  devptr        // of data on the card
	sent  int           // when that was: dev.flushes

	params []param // of one launch
	most   int     // entries of one launch, 0 for mostEntries; tests lower it
}

// mostEntries is how large the second dimension of a grid can be.
const mostEntries = 65535

// The lists of a call: decoding, table and joins are Attention's, tiles, entries and
// reduces AttentionBackward's.
const (
	listItems = iota
	listDecoding
	listPieces
	listTable
	listJoins
	listTiles
	listEntries
	listReduces
	numLists
)

// same tells whether the lists are those of a call, and remembers it.
func (w *attentionWork) same(seqs []device.Seq, h device.Heads) bool {
	same := w.heads == h && slices.EqualFunc(w.seqs, seqs, func(a, b device.Seq) bool {
		return a.Q == b.Q && a.Own == b.Own && slices.Equal(a.Past, b.Past)
	})
	if same {
		return true
	}
	w.heads, w.seqs, w.spans, w.sent = h, append(w.seqs[:0], seqs...), w.spans[:0], 0
	for _, s := range seqs {
		w.spans = append(w.spans, s.Past...)
	}
	at := 0
	for i := range w.seqs {
		n := len(seqs[i].Past)
		w.seqs[i].Past = w.spans[at : at+n]
		at += n
	}
	return false
}

// forward makes the lists of Attention, backward those of AttentionBackward.
func (w *attentionWork) forward(seqs []device.Seq, h device.Heads, shape *attentionShape) {
	if w.same(seqs, h) {
		return
	}
	p := &w.plan
	p.forward(seqs, h, shape)
	w.data = w.data[:0]
	w.items(listItems, p.items)
	w.items(listDecoding, p.decoding)
	w.add(listPieces, p.pieces, 2)
	w.add(listTable, p.table, 4)
	w.add(listJoins, p.joins, 4)
}

func (w *attentionWork) backward(seqs []device.Seq, h device.Heads, shape *attentionShape) {
	if w.same(seqs, h) {
		return
	}
	p := &w.plan
	p.backward(seqs, h, shape)
	w.data = w.data[:0]
	w.items(listItems, p.items)
	w.add(listPieces, p.pieces, 2)
	w.tiles(p.keys)
	w.add(listEntries, p.entries, 8)
	w.add(listReduces, p.reduces, 4)
}

// add lays down a list with entries of width numbers. It is filled up with zeros,
// which are no work, to a length that seldom changes.
func (w *attentionWork) add(list int, x []int32, width int) {
	w.begin[list] = len(w.data)
	w.data = append(w.data, x...)
	w.fill(list, len(x)/width, width)
}

func (w *attentionWork) fill(list, n, width int) {
	w.count[list] = coarse(n)
	end := w.begin[list] + (w.count[list]*width+3)/4*4 // the next one at a multiple of 16 bytes
	w.data = slices.Grow(w.data, end-len(w.data))
	from := len(w.data)
	w.data = w.data[:end]
	clear(w.data[from:])
}

func (w *attentionWork) items(list int, x []workItem) {
	w.begin[list] = len(w.data)
	for _, i := range x {
		w.data = append(w.data, i.q, i.pos, i.m0, i.rows, i.table, i.piece, i.from, i.to)
	}
	w.fill(list, len(x), 8)
}

func (w *attentionWork) tiles(x []keyItem) {
	w.begin[listTiles] = len(w.data)
	for _, k := range x {
		w.data = append(w.data, k.row, k.n, k.entry, k.end, k.slot, 0, 0, 0)
	}
	w.fill(listTiles, len(x), 8)
}

// send makes sure that the lists are on the card.
func (w *attentionWork) send(d *dev) {
	if w.sent != d.flushes || w.sent == 0 {
		w.base, w.sent = d.upload32(w.data), d.flushes
	}
}

// at is a list's address as a parameter, len its entries.
func (w *attentionWork) at(list int) param { return at(w.base + devptr(4*w.begin[list])) }
func (w *attentionWork) len(list int) int  { return w.count[list] }

// launch launches w.params for each entry, of eight numbers, of a list, whose address
// is parameter i; g.y is to be filled in.
func (w *attentionWork) launch(d *dev, kernel string, list, i int, g dim3, threads, bytes int) {
	most := w.most
	if most == 0 {
		most = mostEntries
	}
	for from := 0; from < w.len(list); from += most {
		g.y = min(most, w.len(list)-from)
		w.params[i] = at(w.base + devptr(4*(w.begin[list]+8*from)))
		d.launch(kernel, g, threads, bytes, w.params...)
	}
}
