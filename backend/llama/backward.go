package llama

import "nrt/backend/device"

// backwardActs is the scratch of the backward pass for N rows.
type backwardActs struct {
	dhidden    device.Buffer // (N, hidden)
	dx         device.Buffer // gradient of the residual stream (N, hidden)
	dh         device.Buffer // gradient of a norm's output (N, hidden)
	dq, datt   device.Buffer // (N, heads·dim)
	dk, dv     device.Buffer // (N, kv·dim)
	dq0, dk0   device.Buffer // before the norms of heads, else dq and dk themselves
	dgate, dup device.Buffer // (N, ffn)
	dffn       device.Buffer // (N, ffn)

	turn []device.Rotation // what RoPE turns back, dq and dk
}

func (c Config) planBackward(a *arena, n int) backwardActs {
	d, dq, dkv, f := c.Hidden, c.Heads*c.HeadDim, c.KVHeads*c.HeadDim, c.Intermediate
	s := backwardActs{
		dhidden: a.take(n * d),
		dx:      a.take(n * d), dh: a.take(n * d),
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

// Loss is a weighted sum of log-probabilities and entropies,
// −Σ (LogProb_i·log π_i + Entropy_i·H_i), over targets classified before.
type Loss struct {
	Targets Targets
	Fwd     device.Classified
	LogProb []float64 // the weight on each token's log-probability
	Entropy []float64 // the weight on each row's entropy; nil for none
}

// Backward adds the gradient of the summed losses to g. It may be called once
// per Forward.
func (p *Pass) Backward(g *Grad, losses ...Loss) {
	m, c, n, s := p.m, p.m.Config, p.b.Rows(), p.back
	dev, d := m.dev, c.Hidden

	dev.Zero(s.dhidden)
	for _, l := range losses {
		if len(l.Targets.IDs) == 0 {
			continue
		}
		k := len(l.Targets.IDs)
		rows, drows := p.picked.take(k*d), p.dpicked.take(k*d)
		dev.GatherRows(rows, p.hidden, l.Targets.Rows, d)
		dev.ClassifierBackward(drows, g.w.head, rows, m.w.head, l.Targets.IDs, c.Vocab, d, l.Targets.invTemp(), l.Fwd, l.LogProb, l.Entropy)
		dev.ScatterAddRows(s.dhidden, drows, l.Targets.Rows, d)
	}

	dev.Zero(s.dx)
	dev.RMSNormBackward(s.dx, g.w.norm, s.dhidden, p.last, m.w.norm, p.rstd, n, d)
	for l := c.Layers - 1; l >= 0; l-- {
		if p.Recompute && l < c.Layers-1 { // Forward left those of the last layer
			m.block(l, p.in[l], p.mid[l], nil, p.acts[l], p.b, nil)
		}
		p.blockBackward(l, &g.w.layers[l])
	}
	if g.w.embed != nil {
		dev.EmbedBackward(g.w.embed, s.dx, p.b.IDs, d)
	}
}

// blockBackward takes dx from the gradient of the block's output to that of its
// input. Both residual connections pass dx through unchanged and the branches
// add to it.
func (p *Pass) blockBackward(l int, g *layerTensors) {
	m, c, n, s, a := p.m, p.m.Config, p.b.Rows(), p.back, p.acts[l]
	w, dev, d := &m.w.layers[l], m.dev, c.Hidden

	// out = mid + Wdown·ffn
	m.back(s.dffn, s.dx, a.ffn, n, w.down, g.down, false)
	dev.SwiGLUBackward(s.dgate, s.dup, s.dffn, a.gate, a.up)
	m.back(s.dh, s.dgate, a.h2, n, w.gate, g.gate, false)
	m.back(s.dh, s.dup, a.h2, n, w.up, g.up, true)
	dev.RMSNormBackward(s.dx, g.mlpNorm, s.dh, p.mid[l], w.mlpNorm, a.rstd2, n, d)

	// mid = in + Wo·att
	m.back(s.datt, s.dx, a.att, n, w.o, g.o, false)
	dev.Zero(s.dk)
	dev.Zero(s.dv)
	dev.AttentionBackward(s.dq, s.dk, s.dv, s.datt, a.q, a.k, a.v, a.att, a.lse, p.b.Seqs, m.heads())
	dev.RoPE(s.turn, m.rope.cos, m.rope.sin, p.b.Pos, c.HeadDim, true)
	if w.qNorm != nil {
		dev.Zero(s.dq0)
		dev.Zero(s.dk0)
		dev.RMSNormBackward(s.dq0, g.qNorm, s.dq, a.q0, w.qNorm, a.rq, n*c.Heads, c.HeadDim)
		dev.RMSNormBackward(s.dk0, g.kNorm, s.dk, a.k0, w.kNorm, a.rk, n*c.KVHeads, c.HeadDim)
	}
	m.back(s.dh, s.dq0, a.h1, n, w.q, g.q, false)
	m.back(s.dh, s.dk0, a.h1, n, w.k, g.k, true)
	m.back(s.dh, s.dv, a.h1, n, w.v, g.v, true)
	dev.RMSNormBackward(s.dx, g.attnNorm, s.dh, p.in[l], w.attnNorm, a.rstd1, n, d)
}
