package llama

import "nrt/backend/device"

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

	turn []device.Rotation // q and k for RoPE: kept, since a step must not allocate
}

// gradActs are the gradients of one block's activations, of their shapes, and of the
// residual stream. All layers use the same set in turn.
type gradActs struct {
	dx         device.Buffer // of the residual stream (N, hidden)
	dh         device.Buffer // of h1 and of h2 (N, hidden)
	dq, dk, dv device.Buffer // (N, heads·dim), (N, kv·dim) twice
	dq0, dk0   device.Buffer // before the norms of heads, else dq and dk themselves
	datt       device.Buffer // (N, heads·dim)
	dgate, dup device.Buffer // (N, ffn)
	dffn       device.Buffer // (N, ffn)

	turn []device.Rotation // dq and dk, for RoPE to turn back
}

// block is one decoder layer, from in to out:
//
//	h1       = RMSNorm(in)                   (N, hidden)
//	q, k, v  = h1·Wqᵀ, h1·Wkᵀ, h1·Wvᵀ        (N, heads·dim), (N, kv·dim) twice
//	q, k     = RoPE(q), RoPE(k)              for Qwen3 of RMSNorm of each head
//	att      = softmax(q·kᵀ/√dim)·v          (N, heads·dim)
//	mid      = in + att·Woᵀ                  (N, hidden)
//	h2       = RMSNorm(mid)                  (N, hidden)
//	gate, up = h2·Wgateᵀ, h2·Wupᵀ            (N, ffn) twice
//	ffn      = silu(gate) ⊙ up               (N, ffn)
//	out      = mid + ffn·Wdownᵀ              (N, hidden)
//
// where each product may add a bias. in, mid and out may be one buffer when no backward
// follows; out is nil when only the activations are wanted. cache, if not nil,
// receives the new keys and values and is what attention reads; Seq.Own then
// counts rows of the cache.
func (m *Model) block(l int, in, mid, out device.Buffer, a *acts, b Batch, cache *Cache) {
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
	m.projectAdd(mid, a.att, n, w.o)

	dev.RMSNorm(a.h2, a.rstd2, mid, w.mlpNorm, n, d, c.RMSEps)
	m.project(a.h2, n, output{a.gate, w.gate}, output{a.up, w.up})
	dev.SwiGLU(a.ffn, a.gate, a.up)
	if out == nil {
		return
	}
	if out != mid {
		dev.Copy(out, mid)
	}
	m.projectAdd(out, a.ffn, n, w.down)
}

// blockBackward is block by the chain rule, last line first. It computes ∂L/∂x, of x's
// shape, for each activation x, and calls it dx; s.dx is dout before and din after.
//
//	dffn       = dout·Wdown
//	dgate      = dffn ⊙ up ⊙ silu′(gate)      silu′(z) = σ(z)·(1 + z·(1 − σ(z)))
//	dup        = dffn ⊙ silu(gate)
//	dh2        = dgate·Wgate + dup·Wup        since gate and up both read h2
//	dmid       = dout + RMSNorm′(dh2)         since mid goes on to out and into h2
//	datt       = dmid·Wo
//	dq, dk, dv = attention backwards          dk and dv summed over the rows that see them
//	dq, dk     = RoPE⁻¹(dq), RoPE⁻¹(dk)       since a rotation's transpose is its inverse
//	dh1        = dq·Wq + dk·Wk + dv·Wv
//	din        = dmid + RMSNorm′(dh1)
//
// Each product y = x·Wᵀ adds dyᵀ·x (out, in) to the gradient of W; see linear. For
// y = x·r·w with r = 1/√(mean x² + ε), RMSNorm′(dy) = r·(w⊙dy − x·r²·mean(x⊙w⊙dy)),
// and the gradient of w is Σ dy⊙x·r over the rows.
func (m *Model) blockBackward(l int, in, mid device.Buffer, a *acts, s *gradActs, b Batch, g *layer) {
	c, w, dev, n, d := m.Config, &m.w.layers[l], m.dev, b.Rows(), m.Config.Hidden

	m.projectBackward(s.dffn, s.dx, a.ffn, n, w.down, g.down, false)
	dev.SwiGLUBackward(s.dgate, s.dup, s.dffn, a.gate, a.up)
	m.projectBackward(s.dh, s.dgate, a.h2, n, w.gate, g.gate, false)
	m.projectBackward(s.dh, s.dup, a.h2, n, w.up, g.up, true)
	dev.RMSNormBackward(s.dx, g.mlpNorm, s.dh, mid, w.mlpNorm, a.rstd2, n, d)

	m.projectBackward(s.datt, s.dx, a.att, n, w.o, g.o, false)
	dev.Zero(s.dk)
	dev.Zero(s.dv)
	dev.AttentionBackward(s.dq, s.dk, s.dv, s.datt, a.q, a.k, a.v, a.att, a.lse, b.Seqs, m.heads())
	dev.RoPE(s.turn, m.rope.cos, m.rope.sin, b.Pos, c.HeadDim, true)
	if w.qNorm != nil {
		dev.Zero(s.dq0)
		dev.Zero(s.dk0)
		dev.RMSNormBackward(s.dq0, g.qNorm, s.dq, a.q0, w.qNorm, a.rq, n*c.Heads, c.HeadDim)
		dev.RMSNormBackward(s.dk0, g.kNorm, s.dk, a.k0, w.kNorm, a.rk, n*c.KVHeads, c.HeadDim)
	}
	m.projectBackward(s.dh, s.dq0, a.h1, n, w.q, g.q, false)
	m.projectBackward(s.dh, s.dk0, a.h1, n, w.k, g.k, true)
	m.projectBackward(s.dh, s.dv, a.h1, n, w.v, g.v, true)
	dev.RMSNormBackward(s.dx, g.attnNorm, s.dh, in, w.attnNorm, a.rstd1, n, d)
}

// layActs takes one block's activations for n rows out of an arena.
func (c Config) layActs(a *arena, n int) acts {
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

// layGradActs takes the gradients of activations for n rows out of an arena.
func (c Config) layGradActs(a *arena, n int) gradActs {
	d, dq, dkv, f := c.Hidden, c.Heads*c.HeadDim, c.KVHeads*c.HeadDim, c.Intermediate
	s := gradActs{
		dx: a.take(n * d), dh: a.take(n * d),
		dq: a.take(n * dq), datt: a.take(n * dq), dk: a.take(n * dkv), dv: a.take(n * dkv),
		dgate: a.take(n * f), dup: a.take(n * f), dffn: a.take(n * f),
	}
	s.dq0, s.dk0 = s.dq, s.dk
	if c.headNorms() {
		s.dq0, s.dk0 = a.take(n*dq), a.take(n*dkv)
	}
	s.turn = []device.Rotation{{X: s.dq, Heads: c.Heads}, {X: s.dk, Heads: c.KVHeads}}
	return s
}
