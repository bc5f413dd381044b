package world

import "strconv"

// step is the word problem: somebody has coins, gains and loses some.
func step() *family {
	return &family{
		name: "step", group: "events", states: numbers(maxNumber), ops: events(),
		subject: true, ask: []string{"how", "many", "?"},
		form: []slot{
			{formal: []string{"in total", "in sum", "in short"}, casual: []string{"well ,", "well ok", "well so"}},
			{
				formal: []string{
					nameMark + " has " + keyMark + " coins",
					nameMark + " holds " + keyMark + " coins",
					nameMark + " owns " + keyMark + " coins",
				},
				casual: []string{
					"it makes " + keyMark + " coins",
					"it leaves " + keyMark + " coins",
					"it ends with " + keyMark + " coins",
				},
			},
			tails, marks,
		},
	}
}

// why asks whether a price can be paid after the same events, and for the
// reason. Two key words: the verdict and the number that explains it.
func why() *family {
	return &family{
		name: "why", group: "events", states: numbers(maxNumber), ops: events(),
		subject: true, price: true, ask: []string{"?"},
		form: []slot{
			fixed(verdictMark),
			{formal: []string{"because", "because indeed", "because then"}, casual: []string{"well ,", "well ok", "well so"}},
			{
				formal: []string{
					nameMark + " has " + onlyMark + " " + keyMark,
					nameMark + " holds " + onlyMark + " " + keyMark,
					nameMark + " owns " + onlyMark + " " + keyMark,
				},
				casual: []string{
					"it makes " + onlyMark + " " + keyMark,
					"it leaves " + onlyMark + " " + keyMark,
					"it ends with " + onlyMark + " " + keyMark,
				},
			},
			tails, marks,
		},
	}
}

// events are the operations of step and why. Doubling and halving (rounded
// down) make the order matter: without them the answer is one sum, which can be
// had without the steps.
func events() []op {
	const n = maxNumber + 1
	var ops []op
	for k := 1; k <= maxAmount; k++ {
		ops = append(ops,
			table("gets-"+strconv.Itoa(k), n, func(s int) int { return s + k }),
			table("loses-"+strconv.Itoa(k), n, func(s int) int { return s - k }))
	}
	return append(ops,
		table("doubles", n, func(s int) int { return 2 * s }),
		table("halves", n, func(s int) int { return s / 2 }))
}

// verdict answers whether s coins pay a price.
func verdict(s, price int) string {
	if s >= price {
		return "yes"
	}
	return "no"
}
