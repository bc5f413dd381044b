package world

import "slices"

// booleans are boolean expressions read from left to right.
func booleans() *family {
	const no, yes = 0, 1
	bit := func(b bool) int {
		if b {
			return yes
		}
		return no
	}
	f := &family{
		name: "bool", group: "bool", states: []string{"false", "true"}, ask: []string{"?"},
		form: []slot{
			{formal: []string{"the value is"}, casual: []string{"so that is"}},
			fixed(keyMark), marks,
		},
	}
	for _, c := range []struct {
		word  string
		value int
	}{{"false", no}, {"true", yes}} {
		f.ops = append(f.ops,
			table("and-"+c.word, 2, func(s int) int { return bit(s == yes && c.value == yes) }),
			table("or-"+c.word, 2, func(s int) int { return bit(s == yes || c.value == yes) }),
			table("xor-"+c.word, 2, func(s int) int { return bit(s != c.value) }))
	}
	// Only xor-true flips; the others fix the value or leave it. Were all equally
	// likely, a third of the answers could be read off the last operation.
	f.ops[slices.IndexFunc(f.ops, func(o op) bool { return o.word == "xor-true" })].weight = 3
	return f
}
