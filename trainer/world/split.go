package world

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
)

// window is the length of the operation sequences that are held out.
const window = 3

// holdout is the set of operation triples of one group kept for the tests.
type holdout struct {
	ops   int
	inSet []bool // (ops, ops, ops)
}

// newHoldout keeps heldOutShare of all triples over ops operations, those of
// the lowest hash: which ones depends on the world's seed and the group alone.
func newHoldout(seed uint64, group string, ops int) *holdout {
	type ranked struct {
		hash   uint64
		triple int
	}
	all := make([]ranked, ops*ops*ops)
	for t := range all {
		h := fnv.New64a()
		h.Write(binary.LittleEndian.AppendUint64(nil, seed)) // fnv never fails
		h.Write([]byte(group))
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(t)))
		all[t] = ranked{mix(h.Sum64()), t}
	}
	slices.SortFunc(all, func(a, b ranked) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return a.triple - b.triple
	})
	h := &holdout{ops: ops, inSet: make([]bool, len(all))}
	for _, a := range all[:int(heldOutShare*float64(len(all))+.5)] {
		h.inSet[a.triple] = true
	}
	return h
}

// has reports whether ops contains a held-out triple anywhere.
func (h *holdout) has(ops []int) bool {
	for i := 0; i+window <= len(ops); i++ {
		if h.inSet[(ops[i]*h.ops+ops[i+1])*h.ops+ops[i+2]] {
			return true
		}
	}
	return false
}

// mix is the finaliser of splitmix64: nearby inputs, unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
