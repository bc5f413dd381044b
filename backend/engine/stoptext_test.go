package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

type letters struct{}

func (letters) Decode(ids []int32, _ bool) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteByte('a' + byte(id))
	}
	return b.String()
}

func (letters) Special(int32) bool { return false }

// words have a space before them, which a text does not begin with. The prompt's
// first token is special.
type words struct{}

func (words) Decode(ids []int32, _ bool) string {
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, " %c", 'a'+rune(id))
	}
	return strings.TrimPrefix(b.String(), " ")
}

func (words) Special(id int32) bool { return id == 0 }

// TestStopTextAtOnce: a text that goes on is spelt after its prompt, in which no stop
// text is looked for.
func TestStopTextAtOnce(t *testing.T) {
	m := newModel(t, false)
	for name, c := range map[string]struct {
		prompt []int32
		close  []int32
		cut    int // of the first word: its space
		want   int // tokens
	}{
		"goes on":              {[]int32{0, 5, 3, 7}, nil, 0, 1},
		"without its space":    {[]int32{0, 5, 3, 7}, nil, 1, 1},
		"nothing goes before":  {[]int32{0}, nil, 1, 1},
		"and so no space":      {[]int32{0}, nil, 0, 12},
		"a chain begins anew":  {[]int32{0, 5, 3, 7}, []int32{12}, 0, 12},
		"and has no space":     {[]int32{0, 5, 3, 7}, []int32{12}, 1, 1},
		"not within a prompt":  {[]int32{0, 5, 3, 7}, nil, -1, 12},
		"nor across its bound": {[]int32{0, 5, 7, 3}, nil, -2, 12},
	} {
		r := Request{Prompt: c.prompt, N: 1, MaxChain: 12}
		first := generate(t, New(m, nil, Options{}), []Request{r}, nil)[0].Chains[0].Tokens[0].ID
		again := 0
		for _, tok := range generate(t, New(m, nil, Options{}), []Request{r}, nil)[0].Chains[0].Tokens {
			if tok.ID == first {
				again++
			}
		}
		word := fmt.Sprintf(" %c", 'a'+rune(first))
		switch c.cut {
		case -1:
			word = " d h"
		case -2:
			word = " h d" + word
		default:
			word = word[c.cut:]
		}
		r.Close, r.StopText = c.close, word
		e := New(m, words{}, Options{})
		got := generate(t, e, []Request{r}, nil)[0].Chains[0]
		if c.want == 1 && len(got.Tokens) != 1 || c.want > 1 && (again == 1 || c.cut < 0) && len(got.Tokens) != c.want {
			t.Errorf("%s: stop text %q, %d tokens, want %d: %+v", name, word, len(got.Tokens), c.want, got)
		}
		e.Close()
		if c.want > 1 {
			continue
		}
		var ids []int32
		for _, tok := range got.Tokens {
			ids = append(ids, tok.ID)
		}
		r.Forced = [][]int32{ids}
		e = New(m, words{}, Options{})
		if given := generate(t, e, []Request{r}, nil)[0].Chains[0]; !given.Closed {
			t.Errorf("%s: stop text %q, given: %+v", name, word, given)
		}
		e.Close()
	}
}

func TestStopText(t *testing.T) {
	m := newModel(t, false)
	r := request(1, 1)
	r.Baseline, r.MaxAnswer, r.Close, r.MaxChain = false, 0, []int32{11, 12}, 30
	plain := generate(t, New(m, nil, Options{}), []Request{r}, nil)[0].Chains[0]
	if len(plain.Tokens) < 4 {
		t.Fatalf("chain too short for the test: %+v", plain)
	}
	r.StopText = letters{}.Decode([]int32{plain.Tokens[2].ID, plain.Tokens[3].ID}, false)
	got := generate(t, New(m, letters{}, Options{}), []Request{r}, nil)[0].Chains[0]
	if !got.Closed || got.Finish != "close" || len(got.Tokens) > 4 || len(got.Boundary) != 0 || len(got.Reference) != 4 {
		t.Errorf("stop text %q: %+v", r.StopText, got)
	}
	// The same chain, given: closed by its text, and not when it goes on after it.
	var ids []int32
	for _, tok := range got.Tokens {
		ids = append(ids, tok.ID)
	}
	r.Forced = [][]int32{ids, append(slices.Clone(ids), 1), ids[:1], {}}
	given := generate(t, New(m, letters{}, Options{}), []Request{r}, nil)[0].Chains
	for i, c := range given {
		if closed := i == 0; c.Closed != closed || (len(c.Boundary) == 0) != closed {
			t.Errorf("stop text %q, given chain %d: %+v", r.StopText, i, c)
		}
	}
	for i, tok := range given[0].Reference {
		if math.Abs(tok.LogProb-got.Reference[i].LogProb) > 1e-5 {
			t.Errorf("reference %d: given %g, sampled %g", i, tok.LogProb, got.Reference[i].LogProb)
		}
	}
}
