package world

import (
	"strconv"
	"strings"
)

// Plain says a question of this world in everyday English, and false for a text
// that is no question of it.
func (w *World) Plain(question string) (string, bool) {
	p, err := w.parse(question)
	if err != nil {
		return "", false
	}
	ops := make([]string, len(p.seq))
	for i, o := range p.seq {
		ops[i] = p.ops[o].word
	}
	start := p.states[p.start]
	switch p.name {
	case "kin":
		// In the order of the question, which is that of the steps. Who is whom is said
		// nowhere but in the text that a model reads.
		return "From memory: who is " + capital(start) + "’s " + strings.Join(ops, "’s ") + "?", true
	case "cups":
		return "A ball lies under the " + start + " cup. " + capital(list(ops, plainSwap)) + ". Where is the ball?", true
	case "calc":
		return "Start with " + start + " and always keep the last digit only: " + list(ops, plainSum) + ". What comes out?", true
	case "bool":
		return "Start with " + start + ": " + list(ops, plainBool) + ". What comes out?", true
	case "step":
		return capital(p.subjectName) + " has " + coins(start) + ": " + list(ops, plainEvent) + ". How many are left?", true
	case "why":
		return capital(p.subjectName) + " has " + coins(start) + ": " + list(ops, plainEvent) + ". Is that enough to pay " + p.states[p.paying] + ", and why?", true
	case "date":
		return "Today is " + capital(start) + ". Go " + list(ops, plainShift) + ". Which day is it?", true
	}
	panic("world: Plain: " + p.name) // a new family needs words here
}

// list is "a, b and c" of the operations' words, each made plain.
func list(ops []string, plain func(word string) string) string {
	var b strings.Builder
	for i, o := range ops {
		switch {
		case i == 0:
		case i == len(ops)-1:
			b.WriteString(" and then ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(plain(o))
	}
	return b.String()
}

func plainSwap(word string) string {
	a, b, _ := strings.Cut(word, "-")
	return "swap " + a + " and " + b
}

func plainSum(word string) string {
	if n, ok := strings.CutPrefix(word, "*"); ok {
		return "times " + n
	}
	return "plus " + word[1:]
}

func plainBool(word string) string {
	op, value, _ := strings.Cut(word, "-")
	if op == "xor" {
		op = "either-or"
	}
	return op + " " + value
}

func plainEvent(word string) string {
	verb, n, amount := strings.Cut(word, "-")
	switch {
	case amount:
		return verb + " " + n
	case verb == "halves":
		return "halves them, rounded down"
	}
	return verb + " them"
}

func plainShift(word string) string {
	way, n, _ := strings.Cut(word, "-")
	if n == "1" {
		return way + " a day"
	}
	return way + " " + n + " days"
}

func coins(n string) string {
	switch n {
	case "0":
		return "no coins"
	case "1":
		return "a coin"
	}
	if _, err := strconv.Atoi(n); err != nil {
		panic("world: coins(" + n + ")")
	}
	return n + " coins"
}

// capital is a text with a capital first letter; the world's words are ASCII.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
