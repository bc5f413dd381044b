package engine

import (
	"math"
	"slices"
	"strings"
	"testing"

	"nrt/backend/token"
)

type letters struct{}

func (letters) Decode(ids []int32, _ bool) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteByte('a' + byte(id))
	}
	return b.String()
}

// bytes are tokens of a byte each: a character may take several.
type bytes struct{}

func (bytes) Decode(ids []int32, _ bool) string {
	text := make([]byte, len(ids))
	for i, id := range ids {
		text[i] = "0123456789\xc3\xa9\xe2"[id]
	}
	return token.Valid(string(text))
}

// TestStopTextOfParts: the token that completes a character completes the stop text that
// ends with it, and no token after it does.
func TestStopTextOfParts(t *testing.T) {
	e := New(newModel(t, false), bytes{}, Options{})
	defer e.Close()
	r := Request{Prompt: []int32{1}, Close: []int32{5}, StopText: "1é", Forced: [][]int32{{1, 10, 11}, {1, 10}, {1, 10, 11, 10}, {1, 10, 11, 2}, {1, 10, 11, 1, 10, 11}}}
	for i, c := range generate(t, e, []Request{r}, nil)[0].Chains {
		if want := i == 0 || i == 4; c.Closed != want {
			t.Errorf("chain %d, %v: closed %v", i, r.Forced[i], c.Closed)
		}
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

// TestLongBoundary: a chain that draws all tokens of a boundary has closed itself, as one
// has that is given with them, and what follows is scored alike.
func TestLongBoundary(t *testing.T) {
	e := New(newModel(t, false), nil, Options{})
	defer e.Close()
	r := request(3, 1)
	r.Close, r.Stop = []int32{11, 12}, nil
	free := IDsOf(generate(t, e, []Request{r}, nil)[0].Chains[0].Tokens)
	r.Close = free[3:6]
	drawn := generate(t, e, []Request{r}, nil)[0].Chains[0]
	if !drawn.Closed || drawn.Finish != "close" || len(drawn.Boundary) != 0 || !slices.Equal(IDsOf(drawn.Tokens), free[:6]) {
		t.Fatalf("%v with the boundary %v: closed %v, %q, %v", free, r.Close, drawn.Closed, drawn.Finish, IDsOf(drawn.Tokens))
	}
	r.Forced = [][]int32{free[:6]}
	given := generate(t, e, []Request{r}, nil)[0].Chains[0]
	if !given.Closed || !slices.Equal(LogProbsOf(given.Reference), LogProbsOf(drawn.Reference)) {
		t.Errorf("given: closed %v, the reference has %v, drawn %v", given.Closed, LogProbsOf(given.Reference), LogProbsOf(drawn.Reference))
	}
}
