package world

import "strconv"

// calc is arithmetic modulo 10. The factors are the units modulo 10: every
// operation is invertible, so no final digit is likelier than another.
func calc() *family {
	f := &family{
		name: "calc", group: "calc", states: numbers(9), ask: []string{"?"},
		form: []slot{
			{formal: []string{"the result is"}, casual: []string{"so that makes"}},
			fixed(keyMark), marks,
		},
	}
	for k := 1; k <= 5; k++ {
		f.ops = append(f.ops, table("+"+strconv.Itoa(k), 10, func(s int) int { return (s + k) % 10 }))
	}
	for _, k := range []int{3, 7, 9} {
		f.ops = append(f.ops, table("*"+strconv.Itoa(k), 10, func(s int) int { return s * k % 10 }))
	}
	return f
}
