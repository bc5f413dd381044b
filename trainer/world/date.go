package world

import "strconv"

// date moves forward and back through the week.
func date() *family {
	days := []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	f := &family{
		name: "date", group: "date", states: days, ask: []string{"which", "day", "?"},
		form: []slot{
			{formal: []string{"in total", "in sum", "in short"}, casual: []string{"well ,", "well ok", "well so"}},
			{
				formal: []string{"the day is " + keyMark, "the result is " + keyMark, "the date is " + keyMark},
				casual: []string{"it makes " + keyMark, "it must be " + keyMark, "it ends with " + keyMark},
			},
			tails, marks,
		},
	}
	for k := 1; k <= maxShift; k++ {
		f.ops = append(f.ops,
			table("forward-"+strconv.Itoa(k), 7, func(s int) int { return (s + k) % 7 }),
			table("back-"+strconv.Itoa(k), 7, func(s int) int { return (s + 7 - k) % 7 }))
	}
	return f
}
