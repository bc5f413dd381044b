package eval

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
)

// Vocabulary is which words the chains of a model use, and what chains that use them earn.
// The paper reads its chains so too: which words did training bring, which did it drop?
type Vocabulary struct {
	Questions, Chains int
	words             map[string]*use
}

// use is sums over questions.
type use struct {
	share, square float64 // of the question's chains, how many have the word
	chains        int     // that have the word
	advantage     float64 // mean of the chains with the word
	both          int     // questions with chains of both sorts, over which that is summed
}

// Add takes in the chains of one question and their advantages, nil where these are not
// known.
func (v *Vocabulary) Add(chains []string, advantages []float64) {
	if len(chains) == 0 {
		return
	}
	if v.words == nil {
		v.words = map[string]*use{}
	}
	v.Questions++
	v.Chains += len(chains)
	having := map[string][]int{} // places of the chains with the word
	for i, text := range chains {
		for _, w := range Words(text) {
			if in := having[w]; len(in) == 0 || in[len(in)-1] != i {
				having[w] = append(in, i)
			}
		}
	}
	for w, in := range having {
		u := v.words[w]
		if u == nil {
			u = &use{}
			v.words[w] = u
		}
		u.chains += len(in)
		share := float64(len(in)) / float64(len(chains))
		u.share += share
		u.square += share * share
		if advantages == nil || len(in) == len(chains) {
			continue
		}
		sum := 0.0
		for _, i := range in {
			sum += advantages[i]
		}
		u.advantage += sum / float64(len(in))
		u.both++
	}
}

// share is the mean share of a question's chains that have the word, and the variance of
// that mean. Chains of one question are alike, so questions are what is counted; and one
// more is, with the word in half of its chains, so that of a few questions nothing is
// taken as certain.
func (v *Vocabulary) share(u *use) (mean, variance float64) {
	n := float64(v.Questions) + 1
	mean = (u.share + 0.5) / n
	return mean, max(0, u.square+0.25-n*mean*mean) / (n * (n - 1))
}

// Word is how the use of a word differs between two vocabularies.
type Word struct {
	Word   string  `json:"word"`
	Before float64 `json:"before"` // share of chains that have it
	After  float64 `json:"after"`
	// Z is the difference in standard errors, above 0 where the word came.
	Z float64 `json:"z"`
	// Advantage is that of chains with the word, the mean over the Questions of both
	// sides that have chains with and without it: above 0, training repeats them.
	Advantage float64 `json:"advantage"`
	Questions int     `json:"advantage_questions"`
}

// Changes are the words of both vocabularies, those that came the most first, those that
// went the most last. There are none where one of the two is empty.
func Changes(before, after *Vocabulary) []Word {
	if before.Chains == 0 || after.Chains == 0 {
		return nil
	}
	var list []Word
	change := func(w string) {
		x, y := before.words[w], after.words[w]
		if x == nil {
			x = &use{}
		}
		if y == nil {
			y = &use{}
		}
		m, s := before.share(x)
		n, t := after.share(y)
		c := Word{
			Word: w, Before: float64(x.chains) / float64(before.Chains), After: float64(y.chains) / float64(after.Chains),
			Questions: x.both + y.both,
		}
		if n != m {
			c.Z = (n - m) / math.Sqrt(s+t)
		}
		c.Advantage = (x.advantage + y.advantage) / float64(max(1, c.Questions))
		list = append(list, c)
	}
	for w := range before.words {
		change(w)
	}
	for w := range after.words {
		if before.words[w] == nil {
			change(w)
		}
	}
	slices.SortFunc(list, func(a, b Word) int { return cmp.Or(cmp.Compare(b.Z, a.Z), strings.Compare(a.Word, b.Word)) })
	return list
}

// Words are the words of a text in lower case: runs of letters and digits, with the
// apostrophes within; a mark in angle brackets such as </think>; and runs of other signs,
// such as ####. Scripts that are written without spaces give one word a character.
func Words(text string) []string {
	var list []string
	r := []rune(strings.ToLower(text))
	for i := 0; i < len(r); {
		from := i
		switch {
		case unicode.IsSpace(r[i]):
			i++
			continue
		case mark(r[i:]) > 0:
			i += mark(r[i:])
		case unicode.In(r[i], spaceless...):
			for i++; i < len(r) && unicode.IsMark(r[i]); i++ {
			}
		case letter(r[i]):
			for i++; i < len(r) && !unicode.In(r[i], spaceless...) &&
				(letter(r[i]) || (r[i] == '\'' || r[i] == '’') && i+1 < len(r) && letter(r[i+1])); i++ {
			}
		default:
			for i++; i < len(r) && !letter(r[i]) && !unicode.IsSpace(r[i]) && mark(r[i:]) == 0; i++ {
			}
		}
		list = append(list, string(r[from:i]))
	}
	return list
}

// spaceless are scripts that put no space between words.
var spaceless = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar}

func letter(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r) }

// mark is how long the mark is with which a text begins, 0 if with none: up to 32
// characters from < to >, with nothing within that marks do not have.
func mark(r []rune) int {
	if r[0] != '<' {
		return 0
	}
	for i, c := range r[1:min(len(r), 33)] {
		switch {
		case c == '>' && i > 0:
			return i + 2
		case !letter(c) && !strings.ContainsRune("/|_-｜▁", c): // the last two are DeepSeek's
			return 0
		}
	}
	return 0
}
