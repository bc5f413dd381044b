package cpu

// packCache keeps transposed weights in panels from call to call, so that
// decoding does not pack the same weights for every token.
//
// A matrix is kept once it is multiplied by a second time without its
// allocation having been written to in between: weights are, activations are
// not. The cache holds at most packLimit floats; what does not fit is packed
// again at every call.
type packCache[T real] struct {
	entries map[packKey[T]]*packEntry[T]
	floats  int
}

type packKey[T real] struct {
	mem       *memory[T]
	off, n, k int
}

type packEntry[T real] struct {
	version uint64
	data    []T // nil when only seen once
}

const (
	packLimit   = 1 << 28 // floats
	packEntries = 4096
)

// lookup returns b (n, k) transposed and packed if it is worth keeping, or nil.
func (c *packCache[T]) lookup(d *dev[T], b *buffer[T], n, k int) []T {
	key := packKey[T]{b.mem, b.off, n, k}
	e := c.entries[key]
	if e == nil {
		if c.entries == nil || len(c.entries) >= packEntries {
			c.clear()
		}
		c.entries[key] = &packEntry[T]{version: b.mem.version}
		return nil
	}
	if e.version != b.mem.version {
		e.version = b.mem.version
		if e.data == nil {
			return nil
		}
		d.packBuffer(e.data, b.data, n, k)
		return e.data
	}
	if e.data == nil {
		nr := d.k.nr
		size := (n + nr - 1) / nr * nr * d.depth(k)
		if c.floats+size > packLimit {
			return nil
		}
		e.data = make([]T, size)
		c.floats += size
		d.packBuffer(e.data, b.data, n, k)
	}
	return e.data
}

// kept returns b (n, k) transposed and packed if it is in the cache as it stands.
func (c *packCache[T]) kept(b *buffer[T], n, k int) []T {
	if e := c.entries[packKey[T]{b.mem, b.off, n, k}]; e != nil && e.version == b.mem.version {
		return e.data
	}
	return nil
}

// drop forgets everything made from an allocation.
func (c *packCache[T]) drop(m *memory[T]) {
	for key, e := range c.entries {
		if key.mem == m {
			c.floats -= len(e.data)
			delete(c.entries, key)
		}
	}
}

func (c *packCache[T]) clear() {
	c.entries, c.floats = map[packKey[T]]*packEntry[T]{}, 0
}
