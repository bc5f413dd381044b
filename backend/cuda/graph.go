//go:build cuda

package cuda

import (
	"bytes"
	"hash/maphash"
	"slices"
	"unsafe"

	"nrt/backend/cuda/internal/driver"
)

// graphs replays lists that come again. A step of cached decode is a few hundred
// launches that differ from the last step's in what the uploaded arrays hold
// alone; replayed as a graph it is one call of the driver, and the card starts
// each kernel sooner.
//
// A list is compared whole, with kernels, grids, addresses and parameters, so
// that a replay does exactly what launching its items would. It is recorded when
// it comes for the second time: most lists of a training run never do.
type graphs struct {
	seed  maphash.Seed
	seen  []uint64 // hashes of lists that came once, the newest last
	known []*graph // the least recently used first
	off   bool     // recording failed once

	captured, replayed int // for tests
}

// The bounds of what is remembered, and the length from which a graph pays.
const (
	maxSeen    = 64
	maxGraphs  = 32
	worthGraph = 4
)

type graph struct {
	hash   uint64
	items  []item
	params []byte
	calls  []*libraryCall
	exec   driver.Graph
}

func (g *graph) destroy() error { return g.exec.Destroy() }

func (g *graph) is(hash uint64, l *list) bool {
	return g.hash == hash && bytes.Equal(itemBytes(g.items), itemBytes(l.items)) &&
		bytes.Equal(g.params, l.params) && slices.Equal(g.calls, l.calls)
}

func itemBytes(items []item) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(items))), len(items)*int(unsafe.Sizeof(item{})))
}

// run enqueues a list, as a graph if it can.
func (gs *graphs) run(x *executor, l *list) error {
	if gs.off || len(l.items) < worthGraph {
		return x.enqueue(l)
	}
	hash := gs.hash(l)
	for i, g := range gs.known {
		if g.is(hash, l) {
			gs.known = append(append(gs.known[:i], gs.known[i+1:]...), g)
			gs.replayed++
			return g.exec.Launch(x.stream)
		}
	}
	if i := slices.Index(gs.seen, hash); i >= 0 {
		gs.seen = append(gs.seen[:i], gs.seen[i+1:]...)
		return gs.capture(x, l, hash)
	}
	if len(gs.seen) == maxSeen {
		gs.seen = append(gs.seen[:0], gs.seen[1:]...)
	}
	gs.seen = append(gs.seen, hash)
	return x.enqueue(l)
}

// capture records a list and enqueues it.
func (gs *graphs) capture(x *executor, l *list, hash uint64) error {
	if len(gs.known) == maxGraphs {
		g := gs.known[0]
		gs.known = append(gs.known[:0], gs.known[1:]...)
		// It may be under way.
		if err := x.stream.Synchronize(); err != nil {
			return driver.Wrap("cuStreamSynchronize", err)
		}
		if err := g.destroy(); err != nil {
			return err
		}
	}
	exec, err := driver.Capture(x.stream, func() error { return x.enqueue(l) })
	if err != nil {
		// Nothing of the list was executed. Some work can be launched but not
		// recorded; what cannot be launched either fails again.
		gs.off = true
		return x.enqueue(l)
	}
	gs.captured++
	gs.known = append(gs.known, &graph{hash: hash, items: slices.Clone(l.items), params: slices.Clone(l.params),
		calls: slices.Clone(l.calls), exec: exec})
	return exec.Launch(x.stream)
}

func (gs *graphs) hash(l *list) uint64 {
	if gs.seed == (maphash.Seed{}) {
		gs.seed = maphash.MakeSeed()
	}
	var h maphash.Hash
	h.SetSeed(gs.seed)
	h.Write(itemBytes(l.items))
	h.Write(l.params)
	return h.Sum64()
}
