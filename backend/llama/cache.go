package llama

import (
	"errors"
	"fmt"
	"slices"

	"nrt/backend/device"
)

// Cache holds the keys and values of tokens already read, per layer, as rows.
// Which rows belong to whom is the caller's business: device.Seq names them.
type Cache struct {
	m    *Model
	rows int
	all  scratch
	k, v []device.Buffer // views of all, per layer (rows, kv·dim)

	arena arena
	read  int // rows that the memory is laid out for
	extendActs
	at     []int32          // rows that append stores to
	stored []device.Scatter // and what it stores, the keys and the values
	picked scratch          // rows to classify or sample from (n, hidden)
	logits scratch          // (n, vocab)
}

// extendActs is the memory of reading N rows.
type extendActs struct {
	x      device.Buffer // residual stream (N, hidden)
	hidden device.Buffer // its RMSNorm (N, hidden)
	rstd   device.Buffer // (N)
	acts   acts          // of all layers in turn
}

// NewCache makes a cache of so many rows (tokens). The error is device.ErrNoMemory, or
// another of a device that has failed.
func (m *Model) NewCache(rows int) (*Cache, error) {
	c := &Cache{m: m, arena: newArena(m.dev), all: scratch{dev: m.dev}, picked: scratch{dev: m.dev}, logits: scratch{dev: m.dev, kind: device.Wide}}
	if err := c.Reserve(rows, 0, 0); err != nil {
		c.Free()
		return nil, err
	}
	return c, nil
}

// Reserve takes the memory that CacheFloats counts, where the cache has less, before the
// next Extend. What was stored is lost where there are more rows than before. Errors are
// NewCache's; with one the cache may have no rows left.
//
// Memory for reading and drawing is otherwise taken when it is needed, by which time a
// lack is a failure of the device. One that is lazy has no lack, and is spared what would
// mostly not be needed.
func (c *Cache) Reserve(rows, read, drawn int) error {
	cfg := c.m.Config
	c.read = 0 // what is laid out moves
	if rows > c.rows {
		c.rows, c.k, c.v = 0, nil, nil
		n := rows * cfg.KVHeads * cfg.HeadDim
		if err := c.all.reserve(2 * cfg.Layers * n); err != nil {
			return fmt.Errorf("keys and values of %d tokens: %w", rows, err)
		}
		c.rows = rows
		for l := range cfg.Layers {
			c.k = append(c.k, c.all.buf.View(2*l*n, n))
			c.v = append(c.v, c.all.buf.View((2*l+1)*n, n))
		}
	}
	if read+drawn == 0 || c.m.dev.Lazy() {
		return nil
	}
	if err := errors.Join(
		c.arena.reserve(func(a *arena) { cfg.layExtend(a, read) }),
		c.picked.reserve(max(read, drawn)*cfg.Hidden),
		c.logits.reserve(drawn*cfg.Vocab),
	); err != nil {
		return fmt.Errorf("reading %d tokens at a time and drawing %d: %w", read, drawn, err)
	}
	return nil
}

// Rows is the cache's capacity in tokens.
func (c *Cache) Rows() int { return c.rows }

// Free gives the cache's memory back.
func (c *Cache) Free() {
	c.all.free()
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
	if n != c.read {
		c.arena.layout(func(a *arena) { c.extendActs = m.Config.layExtend(a, n) })
		c.read = n
	}
	m.rope.cover(m.dev, int(slices.Max(b.Pos))+1)
	m.dev.Embed(c.x, m.w.embed, b.IDs, m.Config.Hidden)
	for l := range m.Config.Layers {
		m.block(l, c.x, c.x, c.x, &c.acts, b, c)
	}
	m.dev.RMSNorm(c.hidden, c.rstd, c.x, m.w.norm, n, m.Config.Hidden, m.Config.RMSEps)
}

// layExtend takes the memory of reading n rows out of an arena.
func (c Config) layExtend(a *arena, n int) extendActs {
	return extendActs{x: a.take(n * c.Hidden), hidden: a.take(n * c.Hidden), rstd: a.wide(n), acts: c.layActs(a, n)}
}

// CacheFloats is the memory of a cache of so many rows, of which at most `read`
// are read and classified and `drawn` sampled at a time.
func (c Config) CacheFloats(rows, read, drawn int) Floats {
	a := arena{dry: true}
	c.layExtend(&a, read)
	return Floats{
		Compute: 2*c.Layers*rows*c.KVHeads*c.HeadDim + a.narrow.used + max(read, drawn)*c.Hidden,
		Wide:    a.broad.used + drawn*c.Vocab,
	}
}

// Floats is the memory that the cache holds.
func (c *Cache) Floats() Floats {
	return Floats{
		Compute: c.all.held() + c.arena.narrow.memory.held() + c.picked.held(),
		Wide:    c.arena.broad.memory.held() + c.logits.held(),
	}
}

// append stores the new rows of k and v of one layer and returns the whole.
func (c *Cache) append(l int, k, v device.Buffer, seqs []device.Seq) (device.Buffer, device.Buffer) {
	width := c.m.Config.KVHeads * c.m.Config.HeadDim
	if l == 0 {
		n := k.Len() / width
		c.at = slices.Grow(c.at[:0], n)[:n]
		for _, s := range seqs {
			for i := range s.Q.Len {
				c.at[s.Q.Start+i] = int32(s.Own + i)
			}
		}
	}
	c.stored = append(c.stored[:0], device.Scatter{Dst: c.k[l], Src: k}, device.Scatter{Dst: c.v[l], Src: v})
	c.m.dev.ScatterRows(c.stored, c.at, width)
	return c.k[l], c.v[l]
}

// Classify computes log-probabilities of targets from the last Extend.
func (c *Cache) Classify(t Targets) device.Classified {
	return c.m.classify(&c.picked, c.hidden, t, nil)
}

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
