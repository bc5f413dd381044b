package view

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// unwritten is a page with a server on which nothing was written afresh yet. The
// chains took so many seconds.
func unwritten(t *testing.T, seconds float64) (State, []wire.Message) {
	t.Helper()
	e := testExample()
	e.Fresh, e.End.Seconds = nil, seconds
	return New([]Example{e}).Receive(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}}})
}

// freshOf is the server's answer to one place.
func freshOf(m *wire.Resample, cut int) *wire.Resampled {
	e := testExample()
	k := slices.Index(e.Reading().Places(m.Of), cut)
	return &wire.Resampled{Head: wire.Head{ID: m.ID}, Cut: cut, Fresh: e.Fresh[m.Of][k]}
}

// What is shown of chains written afresh is what trainer/reward says of each, under
// every formula: the mean, the least and the most.
func TestFreshNumbersAreTheRewardsOwn(t *testing.T) {
	for _, o := range []reward.Options{{Clip: true}, {Clip: true, NormalizeWeights: true}} {
		for _, o.Mode = range reward.Modes() {
			s := testState()
			s, _ = s.Do("normalize", strconv.FormatBool(o.NormalizeWeights))
			s, _ = s.Do("mode", o.Mode.String())
			s, _ = s.Do("chain", "4")
			s, _ = s.Do("pick", "2")
			score := s.chainScore(4)
			why := Fragment(&s, "why")
			for k, list := range testExample().Fresh[4] {
				sum, lo, hi := 0.0, math.Inf(1), math.Inf(-1)
				for _, f := range list {
					sc, err := reward.Score(f.LogProbs, logs(testBase), o)
					if err != nil {
						t.Fatal(err)
					}
					sum += sc.R
					lo, hi = min(lo, sc.R), max(hi, sc.R)
					if k == 2 {
						wants(t, why, "<b>"+number(sc.R)+"</b> <span> Ruth, says try")
					}
				}
				x := s.freshAt(4, k)
				if x == nil || math.Abs(x.mean-sum/freshN) > 1e-12 || x.lo != lo || x.hi != hi {
					t.Fatalf("%s: sentence %d: have %+v", o.Mode, k+1, x)
				}
				wants(t, why, `<span class="e e2">`+lossText(score, x.mean-score.R)+`</span><span class="vh">, from `+lossText(score, lo-score.R)+` to `+lossText(score, hi-score.R)+`<`)
			}
			wants(t, why, "mean of 8", "deleted</span>", "rewritten</span>", "Rewritten by the model: mean of 8", "as it was, from sentence 3 on", "&lt;i&gt;")
		}
	}
}

// The bars' scale holds all that it shows, and nought is where the scale has it.
func TestTheWorthScale(t *testing.T) {
	s := testState()
	losses := s.losses(4)
	fresh := s.freshScores(4)
	r := s.chainScore(4).R
	w := newWorthScale(r, losses, fresh)
	last := 0.0
	for _, x := range []float64{w.lo, w.lo / 2, 0, w.hi / 2, w.hi} {
		if at := w.at(x); at < last || at > 1 {
			t.Errorf("%g is at %g", x, at)
		}
		last = w.at(x)
	}
	for _, f := range fresh {
		if w.at(f.lo-r) < 0.05 || w.at(f.hi-r) > 0.95 || !(f.lo <= f.mean && f.mean <= f.hi) {
			t.Errorf("%+v reaches out of the scale %+v", f, w)
		}
	}
	if none := newWorthScale(1, []float64{0}, nil); math.IsNaN(none.at(0)) {
		t.Error("a chain without any change has no scale")
	}
}

// On a fast model the page has each sentence of the shown chain written afresh by
// itself, once, after it knows what they are worth; one chain at a time.
func TestWritingAfreshByItself(t *testing.T) {
	s, out := unwritten(t, 0.1)
	if len(out) != 1 {
		t.Fatalf("have %v", out)
	}
	m := out[0].(*wire.Resample)
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	r := s.Reading
	if m.Of != 4 || m.N != freshN || m.Seed != 42 || m.MaxChain != 96 || m.Temperature != 1 || m.TopP != 1 || len(m.Chain) != len(r.Chains[4].Tokens) || !reflect.DeepEqual(m.Cuts, r.Places(4)) || m.Cuts[0] != 0 {
		t.Fatalf("have %+v", m)
	}
	wants(t, Fragment(&s, "why"), `aria-valuenow="0"`, `aria-valuemax="5"`, "0 of 5 sentences", `data-act="fresh-stop"`, "if a sentence is …")
	if _, again := s.Do("colour", "weight"); len(again) != 0 {
		t.Errorf("asked twice: %v", again)
	}
	s = s.receives(&wire.Queued{Head: wire.Head{ID: m.ID}, Place: 2, Seconds: 12})
	wants(t, Fragment(&s, "why"), "2 questions are before you. About 12 s.")
	s = s.receives(freshOf(m, m.Cuts[2]))
	wants(t, Fragment(&s, "why"), `aria-valuenow="1"`, "1 of 5 sentences")
	if s.freshAt(4, 2) == nil || s.freshAt(4, 1) != nil {
		t.Error("the sentence that came is not the one that is known")
	}
	// Another chain is shown: its turn comes when this one is done.
	s, out = s.Do("next", "")
	if len(out) != 0 {
		t.Fatalf("have %v", out)
	}
	for _, cut := range m.Cuts {
		s = s.receives(freshOf(m, cut))
	}
	s, out = s.Receive(&wire.End{Head: wire.Head{ID: m.ID}})
	if len(out) != 1 || out[0].(*wire.Resample).Of != s.chain() || s.chain() == 4 {
		t.Fatalf("have %v", out)
	}
	s = s.answers(out)
	if s, out = s.Do("prev", ""); len(out) != 0 {
		t.Fatalf("asked twice: %v", out)
	}
	if strings.Contains(Fragment(&s, "why"), "progressbar") || len(s.Reading.unwritten(4)) != 0 {
		t.Error("it does not end")
	}
	want := testState()
	want.Link = Live
	if Fragment(&s, "why") != Fragment(&want, "why") {
		t.Errorf("asked, the table differs from the saved one:\n%s", Fragment(&s, "why"))
	}
}

// On a slow model the reader asks, may stop it and go on, and the address says so.
func TestWritingAfreshWhenAsked(t *testing.T) {
	s, out := unwritten(t, 30)
	if len(out) != 0 {
		t.Fatalf("asked by itself: %v", out)
	}
	wants(t, Fragment(&s, "why"), `data-act="fresh">Rewrite each sentence 8 times`, "if a sentence is deleted")
	s, out = s.Do("fresh", "")
	m := out[0].(*wire.Resample)
	c, err := ParseHash(s.Hash())
	if err != nil || c.Fresh != 4 {
		t.Errorf("%s: %v", s.Hash(), err)
	}
	again, _ := unwritten(t, 30)
	if _, out := again.Open(c); len(out) != 1 || out[0].Type() != "resample" {
		t.Errorf("the address asks %v", out)
	}
	s = s.receives(freshOf(m, m.Cuts[1]))
	s, out = s.Do("fresh-stop", "")
	if len(out) != 1 || out[0].Type() != "cancel" || out[0].Header().ID != m.ID || s.Fresh != -1 {
		t.Fatalf("have %v", out)
	}
	s = s.receives(&wire.End{Head: wire.Head{ID: m.ID}, Cancelled: true})
	wants(t, Fragment(&s, "why"), `data-act="fresh"`, `class="sbar"`, `class="e e2"`)
	s, out = s.Do("fresh", "")
	if len(out) != 1 || len(out[0].(*wire.Resample).Cuts) != 4 {
		t.Fatalf("it goes on with %v", out)
	}
	// The reader's own wish is not called off by looking elsewhere, and is told.
	m = out[0].(*wire.Resample)
	if s, out = s.Do("next", ""); len(out) != 0 {
		t.Errorf("have %v", out)
	}
	other, out := s.Do("fresh", "")
	if len(out) != 2 || out[0].Header().ID != m.ID || out[1].(*wire.Resample).Of != other.chain() {
		t.Errorf("another wish: %v", out)
	}
	if late := other.receives(freshOf(m, m.Cuts[0])); late.Reading.fresh[place{4, m.Cuts[0]}] != nil {
		t.Error("an answer that was called off was taken")
	}
	s, _ = s.Do("prev", "")
	for _, cut := range m.Cuts {
		s = s.receives(freshOf(m, cut))
	}
	s = s.receives(&wire.End{Head: wire.Head{ID: m.ID}})
	wants(t, s.Say, "Every sentence of chain 5 was written afresh", "on average of 8")
}

// A refusal is said if the reader asked, and not repeated; odd answers are not asked
// for again; a lost connection asks for what is missing.
func TestWritingAfreshThatFails(t *testing.T) {
	for _, mine := range []bool{false, true} {
		s, out := unwritten(t, map[bool]float64{false: 0.1, true: 30}[mine])
		if mine {
			s, out = s.Do("fresh", "")
		}
		m := out[0].(*wire.Resample)
		s, out = s.Receive(&wire.Welcome{Session: "s1", Resumed: true, Models: s.Models})
		if len(out) != 2 || out[0].Header().ID != m.ID || out[1].Type() != "resample" {
			t.Fatalf("after a reconnection: %v", out)
		}
		m = out[1].(*wire.Resample)
		odd := freshOf(m, m.Cuts[0])
		odd.Fresh = slices.Clone(odd.Fresh)
		odd.Fresh[3].LogProbs = []float64{-1}
		s = s.receives(odd)
		odd = freshOf(m, m.Cuts[0])
		odd.Fresh = odd.Fresh[1:]
		s = s.receives(odd)
		if len(s.Reading.fresh) != 0 {
			t.Error("an answer that does not fit was taken")
		}
		s, out = s.Receive(&wire.End{Head: wire.Head{ID: m.ID}})
		if len(out) != 0 {
			t.Errorf("asked again: %v", out)
		}
		wants(t, Fragment(&s, "why"), `data-act="fresh"`)
		s, out = s.Do("fresh", "")
		if len(out) != 1 {
			t.Fatalf("have %v", out)
		}
		s, out = s.Receive(&wire.Failed{Head: wire.Head{ID: out[0].Header().ID}, Code: wire.CodeBusy, Message: "The queue is full. Wait.", Retry: 5})
		if len(out) != 0 || s.Notice == nil {
			t.Errorf("have %v, %+v", out, s.Notice)
		}
		wants(t, Fragment(&s, "why"), `data-act="fresh"`)
		left, out := s.Do("again", "")
		if left.rewriting.id != "" || len(out) != 1 {
			t.Errorf("another question: %+v, %v", left.rewriting, out)
		}
	}
}

// A chain of many sentences is asked for in parts that the protocol allows.
func TestManySentencesAreWrittenInParts(t *testing.T) {
	e := testExample()
	e.Without, e.Fresh, e.Ask.MaxChain = nil, nil, 1024
	for i := range e.Frame.Tokens {
		if x := &e.Frame.Tokens[i]; x.Chain == 4 && x.Part == wire.PartChain {
			*x = tokens(4, wire.PartChain, append(cutWords(strings.Repeat(testChain+" ", 12)), "</think>"), nil)
		}
	}
	s, out := New([]Example{e}).Receive(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}}})
	if len(out) != 0 {
		t.Fatalf("have %v", out)
	}
	s, out = s.Do("fresh", "") // which asks what they are worth, too
	if len(out) != 1 || out[0].Type() != "score" {
		t.Fatalf("have %v", out)
	}
	answer := &wire.Scored{Head: wire.Head{ID: out[0].Header().ID}}
	for range out[0].(*wire.Score).Variants {
		answer.Variants = append(answer.Variants, wire.ScoredVariant{LogProbs: logs(testBase)})
	}
	s, out = s.Receive(answer)
	var asked []int
	for range 20 {
		if len(out) == 0 {
			break
		}
		m := out[0].(*wire.Resample)
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
		asked = append(asked, m.Cuts...)
		for _, cut := range m.Cuts {
			x := freshOf(&wire.Resample{Head: m.Head, Of: 4}, 0)
			x.Cut = cut
			s = s.receives(x)
		}
		s, out = s.Receive(&wire.End{Head: wire.Head{ID: m.ID}})
	}
	if want := s.Reading.Places(4); !slices.Equal(asked, want) || len(want) != maxSentences {
		t.Errorf("asked for %v, want %v", asked, want)
	}
	if x := s.freshAt(4, maxSentences-1); x == nil {
		t.Error("the last one is not known")
	}
	wants(t, Fragment(&s, "why"), fmt.Sprintf(`id="loss-%d"`, maxSentences-1))
}
