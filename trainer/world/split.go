package world

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
)

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
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.triple, b.triple))
	})
	h := &holdout{ops: ops, inSet: make([]bool, len(all))}
	for _, a := range all[:int(heldOutShare*float64(len(all))+.5)] {
		h.inSet[a.triple] = true
	}
	return h
}

// has reports whether ops contains a held-out triple anywhere.
func (h *holdout) has(ops []int) bool {
	for i := 0; i+3 <= len(ops); i++ {
		if h.ends(ops[:i+2], ops[i+2]) {
			return true
		}
	}
	return false
}

// ends reports whether operation o after ops completes a held-out triple.
func (h *holdout) ends(ops []int, o int) bool {
	n := len(ops)
	return n >= 2 && h.inSet[(ops[n-2]*h.ops+ops[n-1])*h.ops+o]
}

// mix is the finaliser of splitmix64: nearby inputs, unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
