package world

// cups tracks a ball under one of four cups while pairs of cups are swapped.
func cups() *family {
	states := []string{"red", "blue", "green", "white"}
	f := &family{
		name: "cups", group: "cups", states: states, ask: []string{"where", "?"},
		form: []slot{
			{formal: []string{"one finds that", "one reads that"}, casual: []string{"well you see", "well you know"}},
			{formal: []string{"the ball"}, casual: []string{"that thing"}},
			{formal: []string{"is under the", "is below the"}, casual: []string{"must be in", "must hide in"}},
			fixed(keyMark), tails, marks,
		},
	}
	for i := range states {
		for j := i + 1; j < len(states); j++ {
			f.ops = append(f.ops, table(states[i]+"-"+states[j], len(states), func(s int) int {
				switch s {
				case i:
					return j
				case j:
					return i
				}
				return s
			}))
		}
	}
	return f
}
