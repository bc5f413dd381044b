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

// Targets asks for log-probabilities: row Rows[i] of the batch predicts IDs[i].
// A row may predict several tokens (the last row of a shared prompt predicts
// the first token of every chain). InvTemp scales the logits; 0 means 1.
type Targets struct {
	Rows, IDs []int32
	InvTemp   float64
}

func (t Targets) invTemp() float64 {
	if t.InvTemp == 0 {
		return 1
	}
	return t.InvTemp
}

// Loss is a weighted sum of log-probabilities and entropies,
// −Σ (LogProb_i·log π_i + Entropy_i·H_i), over targets classified before.
type Loss struct {
	Targets Targets
	Fwd     device.Classified
	LogProb []float64 // the weight on each token's log-probability
	Entropy []float64 // the weight on each row's entropy; nil for none
}

// Pass is one forward pass with what its backward needs. It keeps its memory
// between uses; one Pass serves a whole training run.
type Pass struct {
	// Recompute, set before the first Forward, keeps no more of a layer than its
	// input; Backward computes the rest again, for a third more time and a
	// fraction of the memory. The gradient has the same bits.
	Recompute bool
	// KeepLogits, set before the first Forward, is how many targets' logits are kept
	// after a Forward, so that Backward need not compute them again: one of four
	// products with the output table, for the memory of LogitsFloats. A Classify that
	// has more targets than are left keeps none. The gradient has the same bits, unless
	// a library's products depend on their shape.
	KeepLogits int

	m     *Model
	arena arena
	rows  int // that the memory is laid out for
	b     Batch
	passActs

	picked, dpicked scratch // classified rows and their gradient (targets, hidden)
	logits          keptLogits
}

// passActs is the memory of a forward and backward over N rows. With Recompute
// all layers have the same mid and acts.
type passActs struct {
	in, mid []device.Buffer // residual stream before and inside each layer (N, hidden)
	acts    []acts
	last    device.Buffer // residual stream after the last layer (N, hidden)
	hidden  device.Buffer // RMSNorm of last (N, hidden)
	rstd    device.Buffer // (N)
	dhidden device.Buffer // (N, hidden)
	grads   gradActs
}

// NewPass prepares a pass; memory is taken at the first Forward.
func (m *Model) NewPass() *Pass {
	return &Pass{m: m, arena: newArena(m.dev), picked: scratch{dev: m.dev}, dpicked: scratch{dev: m.dev},
		logits: keptLogits{memory: scratch{dev: m.dev, kind: device.Wide}}}
}

// Free gives the pass's memory back.
func (p *Pass) Free() {
	p.arena.free()
	p.rows = 0
	p.picked.free()
	p.dpicked.free()
	p.logits.free()
}

// Forward runs the model over a packed batch and keeps the activations: the table's
// rows, block after block, and hidden = RMSNorm(last). In a training batch Seq.Own is
// Seq.Q.Start.
func (p *Pass) Forward(b Batch) {
	m, c, n := p.m, p.m.Config, b.Rows()
	p.b = b
	if n != p.rows {
		p.arena.layout(func(a *arena) { p.passActs = c.layPass(a, n, p.Recompute) })
		p.rows = n
	}
	p.logits.begin()
	m.rope.cover(m.dev, int(slices.Max(b.Pos))+1)
	m.dev.Embed(p.in[0], m.w.embed, b.IDs, c.Hidden)
	for l := range c.Layers {
		out := p.last
		if l+1 < c.Layers {
			out = p.in[l+1]
		}
		m.block(l, p.in[l], p.mid[l], out, &p.acts[l], b, nil)
	}
	m.dev.RMSNorm(p.hidden, p.rstd, p.last, m.w.norm, n, c.Hidden, c.RMSEps)
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

// Backward adds the gradient of the summed losses to g. It may be called once
// per Forward. It begins at the logits of each target y, hidden·Wheadᵀ, where the
// derivative of −w·log π(y) is −w·(1[v = y] − π_v) (see device.ClassifierBackward), and
// goes through Forward from its last line to its first.
func (p *Pass) Backward(g *Grad, losses ...Loss) {
	m, c, n := p.m, p.m.Config, p.b.Rows()
	dev, d, dx := m.dev, c.Hidden, p.grads.dx

	dev.Zero(p.dhidden)
	for _, l := range losses {
		k := len(l.Targets.IDs)
		if k == 0 {
			continue
		}
		rows, drows := p.picked.take(k*d), p.dpicked.take(k*d)
		dev.GatherRows(rows, p.hidden, l.Targets.Rows, d)
		dev.ClassifierBackward(drows, g.w.head, rows, m.w.head, l.Targets.IDs, c.Vocab, d, l.Targets.invTemp(), l.Fwd, l.LogProb, l.Entropy)
		dev.ScatterAddRows(p.dhidden, drows, l.Targets.Rows, d)
	}

	dev.Zero(dx)
	dev.RMSNormBackward(dx, g.w.norm, p.dhidden, p.last, m.w.norm, p.rstd, n, d)
	for l := c.Layers - 1; l >= 0; l-- {
		if p.Recompute && l < c.Layers-1 { // Forward left those of the last layer
			m.block(l, p.in[l], p.mid[l], nil, &p.acts[l], p.b, nil)
		}
		m.blockBackward(l, p.in[l], p.mid[l], &p.acts[l], &p.grads, p.b, &g.w.layers[l])
	}
	if g.w.embed != nil {
		dev.EmbedBackward(g.w.embed, dx, p.b.IDs, d)
	}
}

// layPass takes the memory of a forward and backward over n rows out of an arena.
func (c Config) layPass(a *arena, n int, recompute bool) (s passActs) {
	for l := range c.Layers {
		s.in = append(s.in, a.take(n*c.Hidden))
		if l > 0 && recompute {
			s.mid, s.acts = append(s.mid, s.mid[0]), append(s.acts, s.acts[0])
			continue
		}
		s.mid = append(s.mid, a.take(n*c.Hidden))
		s.acts = append(s.acts, c.layActs(a, n))
	}
	s.last, s.hidden, s.rstd = a.take(n*c.Hidden), a.take(n*c.Hidden), a.wide(n)
	s.dhidden, s.grads = a.take(n*c.Hidden), c.layGradActs(a, n)
	return s
}

// PassFloats is the memory that a Pass takes for a forward and backward over so
// many rows, of which at most so many targets are classified at a time.
func (c Config) PassFloats(rows, targets int, recompute bool) Floats {
	a := arena{dry: true}
	c.layPass(&a, rows, recompute)
	return Floats{Compute: a.narrow.used + 2*targets*c.Hidden, Wide: a.broad.used}
}

// LogitsFloats is the memory that a Pass takes besides to keep the logits of so many
// targets (Pass.KeepLogits).
func (c Config) LogitsFloats(targets int) Floats {
	return Floats{Wide: device.LogitsLen(targets, c.Vocab)}
}
