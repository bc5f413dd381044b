package llama

import (
	"slices"

	"nrt/backend/device"
)

// Batch is packed rows: row i holds token IDs[i] at position Pos[i]; Seqs cover
// the rows and say what each sees.
type Batch struct {
	IDs, Pos []int32
	Seqs     []device.Seq
}

// Rows is the number of tokens in the batch.
func (b Batch) Rows() int { return len(b.IDs) }

// acts are the activations of one block for N rows. Training keeps one set per
// layer; decode reuses one set for all.
type acts struct {
	h1, rstd1 device.Buffer // RMSNorm of the input: (N, hidden), (N)
	q0, k0    device.Buffer // Qwen3's q and k before their norm, else q and k themselves
	q, k, v   device.Buffer // after RoPE: (N, heads·dim), (N, kv·dim) twice
	rq, rk    device.Buffer // rstd of each head: (N·heads), (N·kv)
	att, lse  device.Buffer // attention's output (N, heads·dim), (N, heads)
	h2, rstd2 device.Buffer // RMSNorm after attention: (N, hidden), (N)
	gate, up  device.Buffer // (N, ffn)
	ffn       device.Buffer // SwiGLU's output (N, ffn)

	turn []device.Rotation // what RoPE turns, q and k: a call must not allocate
}

// planActs takes one block's activations for n rows out of an arena.
func (c Config) planActs(a *arena, n int) acts {
	d, dq, dkv, f := c.Hidden, c.Heads*c.HeadDim, c.KVHeads*c.HeadDim, c.Intermediate
	s := acts{
		h1: a.take(n * d), rstd1: a.wide(n),
		q: a.take(n * dq), k: a.take(n * dkv), v: a.take(n * dkv),
		att: a.take(n * dq), lse: a.wide(n * c.Heads),
		h2: a.take(n * d), rstd2: a.wide(n),
		gate: a.take(n * f), up: a.take(n * f), ffn: a.take(n * f),
	}
	s.q0, s.k0 = s.q, s.k
	if c.headNorms() {
		s.q0, s.k0 = a.take(n*dq), a.take(n*dkv)
		s.rq, s.rk = a.wide(n*c.Heads), a.wide(n*c.KVHeads)
	}
	s.turn = []device.Rotation{{X: s.q, Heads: c.Heads}, {X: s.k, Heads: c.KVHeads}}
	return s
}

// block is one decoder layer:
//
//	mid = in + Wo·attention(RoPE(Wq·norm(in)), RoPE(Wk·norm(in)), Wv·norm(in))
//	out = mid + Wdown·(silu(Wgate·norm(mid)) ⊙ Wup·norm(mid))
//
// where each W may add a bias, and Qwen3 normalises the heads of q and k before RoPE.
// in, mid and out are (N, hidden) and may be one buffer when no backward
// follows; out is nil when only the activations are wanted. cache, if not nil,
// receives the new keys and values and is what attention reads; Seq.Own then
// counts rows of the cache.
func (m *Model) block(l int, in, mid, out device.Buffer, a acts, b Batch, cache *Cache) {
	c, w, dev, n, d := m.Config, &m.w.layers[l], m.dev, b.Rows(), m.Config.Hidden

	dev.RMSNorm(a.h1, a.rstd1, in, w.attnNorm, n, d, c.RMSEps)
	m.project(a.h1, n, output{a.q0, w.q}, output{a.k0, w.k}, output{a.v, w.v})
	if w.qNorm != nil {
		dev.RMSNorm(a.q, a.rq, a.q0, w.qNorm, n*c.Heads, c.HeadDim, c.RMSEps)
		dev.RMSNorm(a.k, a.rk, a.k0, w.kNorm, n*c.KVHeads, c.HeadDim, c.RMSEps)
	}
	dev.RoPE(a.turn, m.rope.cos, m.rope.sin, b.Pos, c.HeadDim, false)
	k, v := a.k, a.v
	if cache != nil {
		k, v = cache.append(l, a.k, a.v, b.Seqs)
	}
	dev.Attention(a.att, a.lse, a.q, k, v, b.Seqs, m.heads())
	if mid != in {
		dev.Copy(mid, in)
	}
	m.add(mid, a.att, n, w.o)

	dev.RMSNorm(a.h2, a.rstd2, mid, w.mlpNorm, n, d, c.RMSEps)
	m.project(a.h2, n, output{a.gate, w.gate}, output{a.up, w.up})
	dev.SwiGLU(a.ffn, a.gate, a.up)
	if out == nil {
		return
	}
	if out != mid {
		dev.Copy(out, mid)
	}
	m.add(out, a.ffn, n, w.down)
}

// Pass is one forward pass with what its backward needs. It keeps its memory
// between uses; one Pass serves a whole training run.
type Pass struct {
	// Recompute, set before the first Forward, keeps no more of a layer than its
	// input; Backward computes the rest again, for a third more time and a
	// fraction of the memory. The gradient has the same bits.
	Recompute bool
	// KeepLogits, set before the first Forward, is of how many targets after a Forward
	// Classify keeps the logits, so that Backward need not compute them again: one of
	// four products with the output table, for the memory of LogitsFloats. A Classify
	// that would take them beyond does without. The gradient has the same bits, unless
	// a library's products depend on their shape.
	KeepLogits int

	m     *Model
	arena arena
	rows  int // that the memory is laid out for
	b     Batch
	passActs

	picked, dpicked scratch // classified rows and their gradient (targets, hidden)
	logits          logits
}

// passActs is the memory of a forward and backward over N rows. With Recompute
// all layers have the same mid and acts.
type passActs struct {
	in, mid []device.Buffer // residual stream before and inside each layer (N, hidden)
	acts    []acts
	last    device.Buffer // residual stream after the last layer (N, hidden)
	hidden  device.Buffer // RMSNorm of last (N, hidden)
	rstd    device.Buffer // (N)
	back    backwardActs
}

// NewPass prepares a pass; memory is taken at the first Forward.
func (m *Model) NewPass() *Pass {
	return &Pass{m: m, arena: arena{dev: m.dev}, picked: scratch{dev: m.dev}, dpicked: scratch{dev: m.dev},
		logits: logits{memory: scratch{dev: m.dev, kind: device.Wide}}}
}

// Free gives the pass's memory back.
func (p *Pass) Free() {
	p.arena.free()
	p.rows = 0
	p.picked.free()
	p.dpicked.free()
	p.logits.free()
}

// Forward runs the model over a packed batch and keeps the activations. In a
// training batch Seq.Own is Seq.Q.Start.
func (p *Pass) Forward(b Batch) {
	m, c, n := p.m, p.m.Config, b.Rows()
	p.b = b
	p.plan(n)
	p.logits.begin()
	m.rope.cover(m.dev, int(slices.Max(b.Pos))+1)
	m.dev.Embed(p.in[0], m.w.embed, b.IDs, c.Hidden)
	for l := range c.Layers {
		out := p.last
		if l+1 < c.Layers {
			out = p.in[l+1]
		}
		m.block(l, p.in[l], p.mid[l], out, p.acts[l], b, nil)
	}
	m.dev.RMSNorm(p.hidden, p.rstd, p.last, m.w.norm, n, c.Hidden, c.RMSEps)
}

// plan lays out all memory of a forward and backward over n rows, if it is not
// laid out so already.
func (p *Pass) plan(n int) {
	if n != p.rows {
		p.arena.layout(func(a *arena) { p.passActs.lay(p.m.Config, a, n, p.Recompute) })
		p.rows = n
	}
}

func (s *passActs) lay(c Config, a *arena, n int, recompute bool) {
	s.in, s.mid, s.acts = s.in[:0], s.mid[:0], s.acts[:0]
	for l := range c.Layers {
		s.in = append(s.in, a.take(n*c.Hidden))
		if l > 0 && recompute {
			s.mid, s.acts = append(s.mid, s.mid[0]), append(s.acts, s.acts[0])
			continue
		}
		s.mid = append(s.mid, a.take(n*c.Hidden))
		s.acts = append(s.acts, c.planActs(a, n))
	}
	s.last, s.hidden, s.rstd = a.take(n*c.Hidden), a.take(n*c.Hidden), a.wide(n)
	s.back = c.planBackward(a, n)
}

// Floats counts numbers by the kind of buffer that holds them.
type Floats struct{ Compute, Wide int }

// PassFloats is the memory that a Pass takes for a forward and backward over so
// many rows, of which at most so many targets are classified at a time.
func (c Config) PassFloats(rows, targets int, recompute bool) Floats {
	a := arena{dry: true}
	new(passActs).lay(c, &a, rows, recompute)
	return Floats{Compute: a.narrow.used + 2*targets*c.Hidden, Wide: a.broad.used}
}

// LogitsFloats is the memory that a Pass takes besides to keep the logits of so many
// targets (Pass.KeepLogits).
func (c Config) LogitsFloats(targets int) Floats {
	return Floats{Wide: device.LogitsLen(targets, c.Vocab)}
}

// Targets asks for log-probabilities: row Rows[i] of the batch predicts IDs[i].
// A row may predict several tokens (the last row of a shared prompt predicts
// the first token of every chain). InvTemp scales the logits; 0 means 1.
type Targets struct {
	Rows, IDs []int32
	InvTemp   float64
}

// Classify computes the log-probability and entropy of each target from the
// last Forward; its Logits, if kept, are there until the next one.
func (p *Pass) Classify(t Targets) device.Classified {
	return p.m.classify(&p.picked, p.hidden, t, p.logits.next(len(t.IDs), p.KeepLogits, p.m.Config.Vocab))
}

// classify gathers the rows of hidden into picked and classifies them.
func (m *Model) classify(picked *scratch, hidden device.Buffer, t Targets, logits device.Buffer) device.Classified {
	n, c := len(t.IDs), m.Config
	out := device.Classified{LogProb: make([]float64, n), Entropy: make([]float64, n), LSE: make([]float64, n), Logits: logits}
	if n == 0 {
		return out
	}
	rows := picked.take(n * c.Hidden)
	m.dev.GatherRows(rows, hidden, t.Rows, c.Hidden)
	m.dev.Classifier(out, rows, m.w.head, t.IDs, c.Vocab, c.Hidden, t.invTemp())
	return out
}

func (t Targets) invTemp() float64 {
	if t.InvTemp == 0 {
		return 1
	}
	return t.InvTemp
}

// logits is memory for those of all that is classified after a Forward.
type logits struct {
	memory scratch
	all    device.Buffer
	used   int        // numbers of all since begin
	calls  int        // of next since begin
	parts  []keptPart // what each call got: often the same after the next Forward
}

// keptPart is the numbers from first on.
type keptPart struct {
	first int
	device.Buffer
}

func (l *logits) begin() { l.used, l.calls = 0, 0 }

// next returns a buffer for the logits of n targets, or nil if they would be more
// than most since begin.
func (l *logits) next(n, most, vocab int) device.Buffer {
	size := device.LogitsLen(n, vocab)
	if n == 0 || l.used+size > device.LogitsLen(most, vocab) {
		return nil
	}
	if all := l.memory.take(device.LogitsLen(most, vocab)); all != l.all {
		l.all, l.parts = all, nil
	}
	if l.calls == len(l.parts) {
		l.parts = append(l.parts, keptPart{})
	}
	p := &l.parts[l.calls]
	if p.Buffer == nil || p.first != l.used || p.Len() != size {
		*p = keptPart{l.used, l.all.View(l.used, size)}
	}
	l.used += size
	l.calls++
	return p.Buffer
}

func (l *logits) free() {
	l.memory.free()
	l.all, l.parts = nil, nil
}

// arena is two device buffers, of kinds Compute and Wide, that a layout function
// divides. Laying out for a larger size replaces a buffer; a smaller one reuses
// it.
type arena struct {
	dev           device.Device
	narrow, broad run
	dry           bool // only counting
}

// run is one buffer of an arena and how much of it is handed out.
type run struct {
	buf  device.Buffer
	used int
}

// held is how many numbers its memory has room for.
func (r *run) held() int {
	if r.buf == nil {
		return 0
	}
	return r.buf.Len()
}

func (a *arena) layout(divide func(*arena)) {
	a.narrow.used, a.broad.used, a.dry = 0, 0, true
	divide(a)
	a.cover(&a.narrow, device.Compute)
	a.cover(&a.broad, device.Wide)
	a.narrow.used, a.broad.used, a.dry = 0, 0, false
	divide(a)
}

// cover makes the buffer of r as long as was counted.
func (a *arena) cover(r *run, k device.Kind) {
	if r.buf == nil || r.buf.Len() < r.used {
		a.drop(r)
		r.buf = a.dev.AllocAs(k, r.used)
	}
}

// take returns the next n floats, wide the next n of kind Wide; their content is
// undefined.
func (a *arena) take(n int) device.Buffer { return a.next(&a.narrow, n) }
func (a *arena) wide(n int) device.Buffer { return a.next(&a.broad, n) }

func (a *arena) next(r *run, n int) device.Buffer {
	// Whole cache lines, and some between one and the next: rows of a power of two
	// in size would otherwise all begin at the same place of a cache.
	const line, apart = 16, 37 // floats, lines
	off := r.used
	r.used += ((n+line-1)/line + apart) * line
	if a.dry {
		return nil
	}
	return r.buf.View(off, n)
}

func (a *arena) free() {
	a.drop(&a.narrow)
	a.drop(&a.broad)
}

func (a *arena) drop(r *run) {
	if r.buf != nil {
		a.dev.Free(r.buf)
		r.buf = nil
	}
}

// scratch is a buffer that grows to the largest size asked for.
type scratch struct {
	dev  device.Device
	kind device.Kind
	buf  device.Buffer
	view device.Buffer // of what was asked for last
}

// take returns n floats of undefined content; the next take reuses them.
func (s *scratch) take(n int) device.Buffer {
	if s.buf == nil || s.buf.Len() < n {
		s.free()
		s.buf = s.dev.AllocAs(s.kind, n)
	}
	if s.view == nil || s.view.Len() != n {
		s.view = s.buf.View(0, n)
	}
	return s.view
}

// held is how many numbers its memory has room for.
func (s *scratch) held() int {
	if s.buf == nil {
		return 0
	}
	return s.buf.Len()
}

func (s *scratch) free() {
	if s.buf != nil {
		s.dev.Free(s.buf)
		s.buf, s.view = nil, nil
	}
}
