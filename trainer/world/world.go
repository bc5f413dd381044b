package world

import (
	"math/rand/v2"
	"strings"
	"sync"

	"nrt/backend/token"
)

// World is one drawing of the tables and the held-out triples.
type World struct {
	seed     uint64
	families []*family
	byName   map[string]*family
	words    []string
	// work are words that a chain works with: labels, operations, the price;
	// values are states and verdicts; idle are those of chatter and guesses.
	work, values, idle map[string]bool

	tokenizer func() *token.Tokenizer // made when first asked for
}

// New draws a world. The seed decides kin's relations and which triples of
// operations are held out; all else is the same in every world.
func New(seed uint64) *World {
	w := &World{seed: seed, byName: map[string]*family{}}
	w.families = []*family{kin(w.stream(streamKin, 0)), cups(), calc(), booleans(), step(), why(), date()}
	for _, f := range w.families {
		f.index()
		f.held = newHoldout(seed, f.group, len(f.ops))
		w.byName[f.name] = f
	}
	w.collectWords()
	w.tokenizer = sync.OnceValue(w.newTokenizer)
	return w
}

// Families names the families, in the order in which items take turns.
func (w *World) Families() []string {
	var all []string
	for _, f := range w.families {
		all = append(all, f.name)
	}
	return all
}

// The random streams. A stream's generator is PCG(mix(world seed + purpose),
// call seed): the same call seed for two purposes gives unrelated draws.
const (
	streamKin uint64 = iota + 1
	streamPretrain
	streamTrain
	streamHeldOut
	streamLonger
	streamGate
	streamDescribe
)

func (w *World) stream(purpose, seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(mix(w.seed+purpose), seed))
}

// pick draws an index with the given weights, one of which must be positive.
func pick(r *rand.Rand, weights []float64) int {
	total := 0.
	for _, x := range weights {
		total += x
	}
	at, last := r.Float64()*total, 0
	for i, x := range weights {
		if x <= 0 {
			continue
		}
		if at -= x; at < 0 {
			return i
		}
		last = i // if rounding leaves something over
	}
	return last
}

// chosen are the named families, all of them for no name. Unknown names panic.
func (w *World) chosen(families []string) []*family {
	if len(families) == 0 {
		return w.families
	}
	all := make([]*family, len(families))
	for i, name := range families {
		if all[i] = w.byName[name]; all[i] == nil {
			panic("world: no family " + name + ", have " + strings.Join(w.Families(), ", "))
		}
	}
	return all
}
