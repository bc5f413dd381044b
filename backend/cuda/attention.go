//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

// attentionShape is how the attention kernels of one head width work: elements
// of a row in shared memory, and how many rows stand there.
type attentionShape struct {
	t           dtype
	width       int // of the heads at most
	rows        int // query rows of a block that decodes, 16 for each warp
	each        int // times 16 rows for each warp of the other bf16 kernels
	keys        int // keys of a tile, forward
	backKeys    int // keys of a tile of the backward kernel of the queries
	backQueries int // query rows of a tile of the backward kernel of the keys
	stages      int // tiles in shared memory, of the latter
	split       int // blocks of the latter for one tile of keys: block_z

	forward, long, combine, delta, queries, keyed, reduce string // the kernels
}

var attentionShapes = named([]attentionShape{
	{t: dtBF16, width: 32, rows: 64, each: 2, keys: 64, backKeys: 32, backQueries: 32, stages: 2, split: 1},
	{t: dtBF16, width: 64, rows: 64, each: 2, keys: 64, backKeys: 32, backQueries: 32, stages: 2, split: 1},
	{t: dtBF16, width: 128, rows: 64, each: 1, keys: 64, backKeys: 32, backQueries: 32, stages: 2, split: 1},
	{t: dtBF16, width: 256, rows: 64, each: 1, keys: 32, backKeys: 16, backQueries: 16, stages: 1, split: 2},
	{t: dtF32, width: 32, rows: 64, each: 1, keys: 32, backKeys: 32, backQueries: 16, stages: 1, split: 1},
	{t: dtF32, width: 64, rows: 64, each: 1, keys: 32, backKeys: 32, backQueries: 16, stages: 1, split: 1},
	{t: dtF32, width: 128, rows: 64, each: 1, keys: 32, backKeys: 16, backQueries: 16, stages: 1, split: 1},
	{t: dtF32, width: 256, rows: 16, each: 1, keys: 16, backKeys: 16, backQueries: 16, stages: 1, split: 8},
})

func named(shapes []attentionShape) []attentionShape {
	for i := range shapes {
		s := &shapes[i]
		t, w := s.t.suffix(), fmt.Sprint(s.width)
		s.forward, s.queries, s.keyed = "attention_forward_"+t+"_"+w, "attention_queries_"+t+"_"+w, "attention_keys_"+t+"_"+w
		s.long = s.forward
		if s.each > 1 {
			s.long = "attention_long_" + t + "_" + w
		}
		s.combine, s.delta, s.reduce = "attention_combine_"+t, "attention_delta_"+t, "attention_reduce_"+t
	}
	return shapes
}

// shapeFor is the narrowest shape that heads fit.
func shapeFor(op string, t dtype, dim int) *attentionShape {
	for i := range attentionShapes {
		if s := &attentionShapes[i]; s.t == t && dim <= s.width {
			return s
		}
	}
	panic(fmt.Sprintf("cuda: %s: heads of dimension %d, want at most 256", op, dim))
}

// bytes of shared memory: rows of heads, then rows of other things.
func (s *attentionShape) bytes(rows int) int { return rows * (s.width*s.t.size() + 16) }

// tile is the query rows of a block that does not decode.
func (s *attentionShape) tile() int { return s.each * s.rows }

// forwardBytes, queriesBytes and keysBytes are the shared memory of the kernels.
func (s *attentionShape) forwardBytes(rows int) int {
	switch {
	case s.t == dtF32:
		return s.bytes(rows+2*s.keys) + rows*(s.keys+4)*4
	case s.width > 128 || rows > s.rows:
		return s.bytes(rows + 4*s.keys)
	}
	return s.bytes(4 * s.keys)
}

func (s *attentionShape) queriesBytes() int {
	if s.t == dtF32 {
		return s.bytes(2*s.rows+2*s.backKeys) + s.rows*(s.backKeys+4)*4
	}
	return s.bytes(2*s.tile() + 4*s.backKeys)
}

func (s *attentionShape) keysBytes() int {
	if s.t == dtF32 {
		return s.bytes(2*s.rows+2*s.backQueries) + 2*s.rows*(s.backQueries+4)*4
	}
	return s.bytes(2*keyTile + 2*s.stages*s.backQueries)
}

// attentionCall is one call's shapes, checked.
type attentionCall struct {
	h          device.Heads
	shape      *attentionShape
	rows, keys int // of q; of k and v
	q, k, v    *buffer
}

// attentionCall checks what Attention and AttentionBackward have in common.
func (d *dev) attentionCall(op string, q, k, v device.Buffer, seqs []device.Seq, h device.Heads) attentionCall {
	if h.Query <= 0 || h.KV <= 0 || h.Dim <= 0 || h.Query%h.KV != 0 || h.Window < 0 {
		panic(fmt.Sprintf("cuda: %s: heads %+v", op, h))
	}
	c := attentionCall{h: h, shape: shapeFor(op, d.dt, h.Dim),
		q: d.in(op, "q", q, q.Len(), d.dt), k: d.in(op, "k", k, k.Len(), d.dt), v: d.in(op, "v", v, k.Len(), d.dt)}
	qw, kw := h.Query*h.Dim, h.KV*h.Dim
	if q.Len()%qw != 0 || k.Len()%kw != 0 {
		panic(fmt.Sprintf("cuda: %s: q and k have %d and %d floats for heads %+v", op, q.Len(), k.Len(), h))
	}
	c.rows, c.keys = q.Len()/qw, k.Len()/kw
	inside := func(s device.Span, n int) bool { return s.Start >= 0 && s.Len >= 0 && s.Start+s.Len <= n }
	longest := 0
	for i, s := range seqs {
		n := s.Q.Len
		ok := inside(s.Q, c.rows) && inside(device.Span{Start: s.Own, Len: s.Q.Len}, c.keys)
		for _, p := range s.Past {
			ok = ok && inside(p, c.keys)
			n += p.Len
		}
		longest = max(longest, n)
		if !ok {
			panic(fmt.Sprintf("cuda: %s: seq %d: %+v outside %d query rows and %d key rows", op, i, s, c.rows, c.keys))
		}
	}
	// A window that no Seq reaches is none: the plan and the kernels add positions to
	// it, and multiply, in 32 bits.
	if h.Window >= longest {
		c.h.Window = 0
	}
	return c
}

// wide tells whether all rows, those of others too, can be moved 16 bytes at a time.
func (c *attentionCall) wide(others ...*buffer) int {
	low := devptr(c.h.Dim*c.shape.t.size()) | c.q.ptr() | c.k.ptr() | c.v.ptr()
	for _, b := range others {
		low |= b.ptr()
	}
	if low%16 == 0 {
		return 1
	}
	return 0
}

// heads are the last parameters of the big kernels.
func (c *attentionCall) heads(ps []param, wide int) []param {
	return append(ps, i32(c.h.Query), i32(c.h.Dim), i32(c.h.Window), i32(wide), f32(1/math.Sqrt(float64(c.h.Dim))))
}

// Attention. See kernels/attention_forward_bf16.cu for the method, attentionPlan
// for how the work is cut.
func (d *dev) Attention(out, lse, q, k, v device.Buffer, seqs []device.Seq, h device.Heads) {
	const op = "Attention"
	d.lock()
	defer d.unlock()
	c := d.attentionCall(op, q, k, v, seqs, h)
	o, l := d.out(op, "out", out, q.Len(), d.dt), d.out(op, "lse", lse, c.rows*h.Query, dtF32)
	w := &d.attention.forward
	w.forward(seqs, c.h, c.shape)
	if len(w.plan.items)+len(w.plan.decoding) == 0 {
		return
	}
	w.send(d)
	slots := coarse(w.plan.slots) * h.Query
	sums, partial := d.workspace("attention sums", slots*8), d.workspace("attention partial", slots*h.Dim*4)
	launch := func(kernel string, list, rows int) {
		w.params = c.heads(append(w.params[:0], p(o), p(l), at(sums), at(partial), p(c.q), p(c.k), p(c.v),
			param{}, w.at(listPieces), w.at(listTable)), c.wide(o))
		w.launch(d, kernel, list, 7, grid(h.KV, 0), 2*c.shape.rows, c.shape.forwardBytes(rows))
	}
	launch(c.shape.long, listItems, c.shape.tile())
	launch(c.shape.forward, listDecoding, c.shape.rows)
	if w.plan.slots > 0 {
		w.params = append(w.params[:0], p(o), p(l), at(sums), at(partial), w.at(listJoins), i32(h.Query), i32(h.Dim))
		d.launch(c.shape.combine, grid(w.len(listJoins), (h.Query+3)/4), 128, 0, w.params...)
	}
}

// AttentionBackward. See kernels/attention_backward_bf16.cu.
func (d *dev) AttentionBackward(dq, dk, dv, dout, q, k, v, out, lse device.Buffer, seqs []device.Seq, h device.Heads) {
	const op = "AttentionBackward"
	d.lock()
	defer d.unlock()
	c := d.attentionCall(op, q, k, v, seqs, h)
	do, o := d.in(op, "dout", dout, q.Len(), d.dt), d.in(op, "out", out, q.Len(), d.dt)
	l := d.in(op, "lse", lse, c.rows*h.Query, dtF32)
	gq, gk, gv := d.out(op, "dq", dq, q.Len(), d.dt), d.out(op, "dk", dk, k.Len(), d.dt), d.out(op, "dv", dv, k.Len(), d.dt)
	w := &d.attention.backward
	w.backward(seqs, c.h, c.shape)
	if len(w.plan.items) == 0 {
		return
	}
	w.send(d)
	rows := c.rows * h.Query
	delta, partial := d.workspace("attention delta", rows*4), d.workspace("attention partial", w.plan.slots*h.KV*2*keyTile*h.Dim*4)
	wide := c.wide(do, gq, gk, gv)

	lanes := min(c.shape.width*c.shape.t.size()/16, 32) // of a row
	w.params = append(w.params[:0], at(delta), p(do), p(o), i32(rows), i32(h.Dim), i32(lanes), i32(c.wide(do, o)))
	d.launch(c.shape.delta, grid((rows*lanes+127)/128), 128, 0, w.params...)

	w.params = c.heads(append(w.params[:0], p(gq), p(do), p(c.q), p(c.k), p(c.v), p(l), at(delta),
		param{}, w.at(listPieces)), wide)
	w.launch(d, c.shape.queries, listItems, 7, grid(h.KV, 0), 2*c.shape.rows, c.shape.queriesBytes())

	w.params = c.heads(append(w.params[:0], p(gk), p(gv), at(partial), p(do), p(c.q), p(c.k), p(c.v), p(l), at(delta),
		param{}, w.at(listEntries)), wide)
	w.launch(d, c.shape.keyed, listTiles, 9, grid(h.KV, 0, c.shape.split), 2*c.shape.rows/c.shape.each, c.shape.keysBytes())

	if w.plan.slots > 0 {
		w.params = append(w.params[:0], p(gk), p(gv), at(partial), w.at(listReduces), i32(h.Dim))
		d.launch(c.shape.reduce, grid(w.len(listReduces), h.KV), 256, 0, w.params...)
	}
}
