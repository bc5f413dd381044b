package world

import "math/rand/v2"

// names are the people of the world: kin's states, step's and why's subjects.
var names = []string{"anna", "ben", "carl", "dora", "emil", "fay", "gus", "hana", "ivan", "jane", "kurt", "lena"}

// kin is multi-hop kinship: each relation is a fixed permutation of the names,
// drawn from r, in which nobody is his own father.
func kin(r *rand.Rand) *family {
	f := &family{
		name: "kin", group: "kin", states: names, ask: []string{"who", "?"},
		form: []slot{
			{formal: []string{"one finds that", "one reads that"}, casual: []string{"well you see", "well you know"}},
			{formal: []string{"the person"}, casual: []string{"that guy"}},
			{formal: []string{"is called", "is named"}, casual: []string{"must be", "must surely be"}},
			fixed(keyMark), tails, marks,
		},
	}
	for _, relation := range []string{"father", "mother", "boss", "friend"} {
		p := derangement(r, len(names))
		f.ops = append(f.ops, table(relation, len(names), func(s int) int { return p[s] }))
	}
	return f
}

// derangement is a uniform permutation of n ≥ 2 without a fixed point, by
// rejection (about one in e is accepted).
func derangement(r *rand.Rand, n int) []int {
draw:
	for {
		p := r.Perm(n)
		for i, v := range p {
			if i == v {
				continue draw
			}
		}
		return p
	}
}
