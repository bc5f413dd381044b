package world

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// Marks in phrases that an answer fills in.
const (
	keyMark     = "%key"     // the final state
	nameMark    = "%name"    // whom the question is about
	verdictMark = "%verdict" // yes or no
	onlyMark    = "%only"    // "only" after no, "still" after yes
)

// slot is a place in an answer with a choice of phrases in two registers. One
// without casual phrases has no register. Formal phrases share their first word
// and casual ones theirs, so that the register is decided at one token.
type slot struct{ formal, casual []string }

func fixed(phrase string) slot { return slot{formal: []string{phrase}} }

// Slots that several families share.
var (
	tails = slot{
		formal: []string{"as counted", "as asked", "as stated"},
		casual: []string{"i guess", "i think", "i bet"},
	}
	marks = slot{formal: []string{"."}, casual: []string{"!"}}
)

// phrase draws a phrase, casual with the given probability.
func (s slot) phrase(r *rand.Rand, casual float64) string {
	choice := s.formal
	if len(s.casual) > 0 && r.Float64() < casual {
		choice = s.casual
	}
	return choice[r.IntN(len(choice))]
}

// fill replaces the marks of a phrase for an answer naming state final.
func (p problem) fill(words []string, phrase string, final int) []string {
	for _, word := range strings.Fields(phrase) {
		switch word {
		case keyMark:
			word = p.states[final]
		case nameMark:
			word = p.subjectName
		case verdictMark:
			word = verdict(final, p.paying)
		case onlyMark:
			word = "still"
			if verdict(final, p.paying) == "no" {
				word = "only"
			}
		}
		words = append(words, word)
	}
	return words
}

// answer draws an answer naming state final.
func (p problem) answer(r *rand.Rand, final int, casual float64) []string {
	var words []string
	for _, s := range p.form {
		words = p.fill(words, s.phrase(r, casual), final)
	}
	return words
}

// paraphrases are all answers naming state final.
func (p problem) paraphrases(final int) []string {
	all := [][]string{nil}
	for _, s := range p.form {
		var longer [][]string
		for _, words := range all {
			for _, phrase := range slices.Concat(s.formal, s.casual) {
				longer = append(longer, p.fill(slices.Clone(words), phrase, final))
			}
		}
		all = longer
	}
	texts := make([]string, len(all))
	for i, words := range all {
		texts[i] = strings.Join(words, " ")
	}
	return texts
}

// Key is a hard word of an answer: one that only the solution gives.
type Key struct {
	Word string `json:"word"`
	// Position is its index among the answer's words, from 0; with one token a
	// word, among its tokens too.
	Position int `json:"position"`
}

// keys finds the key words of an answer naming state final.
func (p problem) keys(answer []string, final int) []Key {
	var keys []Key
	for i, word := range answer {
		if s, ok := p.state[word]; (ok && s == final) || (p.price && isVerdict(word)) {
			keys = append(keys, Key{word, i})
		}
	}
	return keys
}

func isVerdict(word string) bool { return word == "yes" || word == "no" }
