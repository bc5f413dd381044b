package llama

import (
	"fmt"
	"slices"

	"nrt/backend/device"
)

// Cache holds the keys and values of tokens already read, per layer, as rows.
// Which rows belong to whom is the caller's business: device.Seq names them.
type Cache struct {
	m    *Model
	rows int
	all  device.Buffer
	k, v []device.Buffer // views of all, per layer (rows, kv·dim)

	arena  arena
	x      device.Buffer // residual stream (N, hidden)
	hidden device.Buffer // its RMSNorm (N, hidden)
	rstd   device.Buffer
	acts   acts
	picked scratch // rows to classify or sample from (n, hidden)
	logits scratch // (n, vocab)
}

// NewCache makes a cache of so many rows (tokens).
func (m *Model) NewCache(rows int) *Cache {
	c := &Cache{m: m, rows: rows, arena: arena{dev: m.dev}, picked: scratch{dev: m.dev}, logits: scratch{dev: m.dev}}
	n := rows * m.Config.KVHeads * m.Config.HeadDim
	c.all = m.dev.Alloc(2 * m.Config.Layers * n)
	for l := range m.Config.Layers {
		c.k = append(c.k, c.all.View(2*l*n, n))
		c.v = append(c.v, c.all.View((2*l+1)*n, n))
	}
	return c
}

// Rows is the cache's capacity in tokens.
func (c *Cache) Rows() int { return c.rows }

// Free gives the cache's memory back.
func (c *Cache) Free() {
	c.m.dev.Free(c.all)
	c.arena.free()
	c.picked.free()
	c.logits.free()
}

// Extend reads the rows of b, with Past and Own counting rows of the cache: the
// keys and values of Q's rows are stored from Own on. The hidden states stay
// for Classify, Sample and the next call overwrites them.
func (c *Cache) Extend(b Batch) {
	m, n := c.m, b.Rows()
	for _, s := range b.Seqs {
		if s.Own < 0 || s.Own+s.Q.Len > c.rows {
			panic(fmt.Sprintf("llama: cache rows %d…%d of %d", s.Own, s.Own+s.Q.Len, c.rows))
		}
	}
	c.arena.layout(func(a *arena) {
		d := m.Config.Hidden
		c.x, c.hidden, c.rstd = a.take(n*d), a.take(n*d), a.take(n)
		c.acts = m.Config.planActs(a, n)
	})
	m.rope.cover(m.dev, int(slices.Max(b.Pos))+1)
	m.dev.Embed(c.x, m.w.embed, b.IDs, m.Config.Hidden)
	for l := range m.Config.Layers {
		m.block(l, c.x, c.x, c.x, c.acts, b, c)
	}
	m.dev.RMSNorm(c.hidden, c.rstd, c.x, m.w.norm, n, m.Config.Hidden, m.Config.RMSEps)
}

// append stores the new rows of k and v of one layer and returns the whole.
func (c *Cache) append(l int, k, v device.Buffer, seqs []device.Seq) (device.Buffer, device.Buffer) {
	width := c.m.Config.KVHeads * c.m.Config.HeadDim
	rows := make([]int32, k.Len()/width)
	for _, s := range seqs {
		for i := range s.Q.Len {
			rows[s.Q.Start+i] = int32(s.Own + i)
		}
	}
	c.m.dev.ScatterRows(c.k[l], k, rows, width)
	c.m.dev.ScatterRows(c.v[l], v, rows, width)
	return c.k[l], c.v[l]
}

// Classify computes log-probabilities of targets from the last Extend.
func (c *Cache) Classify(t Targets) device.Classified { return c.m.classify(&c.picked, c.hidden, t) }

// Sample draws a token from each of the given rows of the last Extend.
func (c *Cache) Sample(rows []int32, how []device.SampleRow) []device.Sampled {
	m, n := c.m, len(rows)
	out := make([]device.Sampled, n)
	if n == 0 {
		return out
	}
	d, vocab := m.Config.Hidden, m.Config.Vocab
	h, logits := c.picked.take(n*d), c.logits.take(n*vocab)
	m.dev.GatherRows(h, c.hidden, rows, d)
	m.dev.MatMul(logits, h, m.w.head, n, vocab, d, false, true, false)
	m.dev.Sample(out, logits, how, vocab)
	return out
}
