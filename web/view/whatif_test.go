package view

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"nrt/web/wire"
)

// listening is a page that shows the saved example and has a server.
func listening(t *testing.T) State {
	t.Helper()
	s, out := testState().Receive(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}}})
	if len(out) != 0 {
		t.Fatalf("a saved example is asked about: %v", out)
	}
	return s
}

// A sentence that is switched off takes its share of the reward away, beside the
// group and not in it; Undo brings the chain back.
func TestSwitchingASentenceOff(t *testing.T) {
	for _, link := range []Link{Live, Offline} {
		s := listening(t)
		s.Link = link
		was := *s.group()
		full := s.chainScore(4)
		s, out := s.Do("sentence", "2")
		if link == Offline && len(out) != 0 {
			t.Errorf("offline it sends %v", out)
		}
		if s.chain() != 4 || s.Chain != 4 || !s.Edit.off(2) {
			t.Fatalf("have chain %d, %+v", s.Chain, s.Edit)
		}
		sc := s.whatIf()
		if sc == nil || !(sc.R < full.R) || math.Abs(sc.R-(full.Base+0.15*(full.R-full.Base))) > 1e-9 {
			t.Fatalf("without sentence 3: %+v, with it %g, base %g", sc, full.R, full.Base)
		}
		if !reflect.DeepEqual(*s.group(), was) {
			t.Error("the what-if changed the group")
		}
		wants(t, ChainText(&s), `class="sent is-on off neg"`, "<s> Ruth is the mother of Leo", "Without sentence 3 the reward falls from 0.372 to 0.1", "▼ 0.2", `data-act="undo"`, "Switch on")
		wants(t, Chains(&s), `class="chain ghost"`, "What-if: chain 5 without sentence 3")
		wants(t, Strip(&s), `class="b2"`, "% without sentence 3")
		wants(t, Dots(&s), `class="dot gh"`)
		wants(t, s.Say, "Without sentence 3 the reward falls")
		c, err := ParseHash(s.Hash())
		if err != nil || !reflect.DeepEqual(c, s.Choice) {
			t.Errorf("%s: have %+v (%v)", s.Hash(), c, err)
		}
		opened, _ := testState().Open(c)
		if opened.whatIf() == nil {
			t.Error("the address does not open the what-if")
		}
		s, _ = s.Do("undo", "")
		if !s.Edit.none() || strings.Contains(Chains(&s), "ghost") || strings.Contains(Strip(&s), `class="b2"`) {
			t.Errorf("Undo left %+v", s.Edit)
		}
	}
}

// What the reader does to a chain stays with it while others are read.
func TestEditsStayWithTheirChain(t *testing.T) {
	s := listening(t)
	s, _ = s.Do("sentence", "2")
	s, _ = s.Do("next", "")
	if !s.Edit.none() {
		t.Fatalf("the next chain has %+v", s.Edit)
	}
	s, _ = s.Do("prev", "")
	if s.Chain != 4 || !s.Edit.off(2) {
		t.Errorf("back at chain %d it is %+v", s.Chain+1, s.Edit)
	}
	s, _ = s.Do("mode", "p")
	if s.edited() != 4 || s.whatIf() == nil {
		t.Error("another formula lost it")
	}
}

// A rewritten sentence goes to the server as text, what stands around it as the
// tokens that were sampled.
func TestRewritingASentence(t *testing.T) {
	s := listening(t)
	s, _ = s.Do("pick", "1")
	if k, text, before, after, ok := s.SentenceText(); !ok || k != 1 || text != "Leo is the brother of Ana." || !strings.HasPrefix(before, "Ben is the son") || !strings.HasPrefix(after, "Ruth is the mother") {
		t.Errorf("have %q, %q, %q", text, before, after)
	}
	s, out := s.Do("edit", "Leo is a stranger.")
	if len(out) != 1 {
		t.Fatalf("have %v", out)
	}
	ask := out[0].(*wire.Score)
	list := s.Reading.sentences(4)
	all := s.Reading.Chains[4].Tokens
	parts := ask.Variants[0].Parts
	if !ask.Own || len(parts) != 3 || parts[1].Text != " Leo is a stranger." || len(parts[0].IDs) != list[1].from || len(parts[2].IDs) != len(all)-list[1].to {
		t.Fatalf("have %+v", ask)
	}
	if err := ask.Validate(); err != nil {
		t.Error(err)
	}
	wants(t, ChainText(&s), "is being worked out", `class="sent is-on own neg"`, "Leo is a stranger.")
	if _, again := s.Do("colour", "weight"); len(again) != 0 {
		t.Errorf("asked twice: %v", again)
	}
	s = s.receives(&wire.Scored{Head: wire.Head{ID: ask.ID}, Variants: []wire.ScoredVariant{{LogProbs: s.Reading.Base, Answer: "Nobody."}}})
	if sc := s.whatIf(); sc == nil || math.Abs(sc.R-sc.Base) > 1e-12 {
		t.Errorf("have %+v", s.whatIf())
	}
	wants(t, ChainText(&s), "With your sentence 2 the reward falls", "It then answers “Nobody.”")
	c, err := ParseHash(s.Hash())
	if err != nil || !reflect.DeepEqual(c, s.Choice) {
		t.Errorf("%s: have %+v (%v)", s.Hash(), c, err)
	}
	// Its own words again, and the chain is as it was.
	s, _ = s.Do("edit", "Leo is the brother of Ana.")
	if !s.Edit.none() {
		t.Errorf("have %+v", s.Edit)
	}
	s, _ = s.Do("undo", "")
	if text, _ := s.Edit.text(1); text != " Leo is a stranger." || s.whatIf() == nil {
		t.Errorf("have %+v", s.Edit)
	}
}

// The page asks what each sentence is worth, once; a refusal is not repeated; and
// what comes for a question that was left changes nothing.
func TestWhatSentencesAreWorthIsAskedOnce(t *testing.T) {
	e := testExample()
	e.Without = nil
	s, out := New([]Example{e}).Receive(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}}})
	if len(out) != 1 {
		t.Fatalf("have %v", out)
	}
	ask := out[0].(*wire.Score)
	if len(ask.Variants) != 5 || ask.Own {
		t.Fatalf("have %+v", ask)
	}
	if err := ask.Validate(); err != nil {
		t.Error(err)
	}
	for k, x := range s.Reading.sentences(4) {
		n := 0
		for _, p := range ask.Variants[k].Parts {
			n += len(p.IDs)
		}
		if want := len(s.Reading.Chains[4].Tokens) - (x.to - x.from); n != want {
			t.Errorf("without sentence %d: %d tokens, want %d", k+1, n, want)
		}
	}
	wants(t, Why(&s), "are being worked out")
	if _, out := s.Do("colour", "weight"); len(out) != 0 {
		t.Errorf("asked again: %v", out)
	}
	refused := s.receives(&wire.Failed{Head: wire.Head{ID: ask.ID}, Code: wire.CodeRate, Message: "too many"})
	if _, out := refused.Do("colour", "weight"); len(out) != 0 || refused.Notice != nil {
		t.Errorf("after a refusal: %v, %+v", out, refused.Notice)
	}
	answer := &wire.Scored{Head: wire.Head{ID: ask.ID}, Variants: testExample().Without[4]}
	left, _ := s.Do("again", "")
	if after := left.receives(answer); len(after.Reading.tried) != 0 {
		t.Error("an answer for another question was taken")
	}
	short := &wire.Scored{Head: wire.Head{ID: ask.ID}, Variants: []wire.ScoredVariant{{LogProbs: []float64{-1}}}}
	if after := s.receives(short); len(after.Reading.tried) != 0 {
		t.Error("an answer of another length was taken")
	}
	s = s.receives(answer)
	if losses, ok := s.losses(4); !ok || !(losses[2] < losses[0]) || !(losses[3] > 0) {
		t.Errorf("have %v", losses)
	}
	wants(t, Why(&s), "Deleted: the rest stays", `class="sbar"`)
}

// Whatever is done to sentences, states before stay as they were, Undo leads back
// to the chain as it was written, and the address says what is shown.
func TestAnyEditsCanBeUndone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		s := listening(t)
		first := s
		for range 1 + r.IntN(20) {
			name := []string{"sentence", "switch", "edit", "pick", "undo", "release"}[r.IntN(6)]
			value := []string{"0", "2", "4", "9", "", "x", "text"}[r.IntN(7)]
			s, _ = s.Do(name, value)
			c, err := ParseHash(s.Hash())
			if err != nil || !reflect.DeepEqual(c, s.Choice) {
				t.Fatalf("%s: have %+v, want %+v (%v)", s.Hash(), c, s.Choice, err)
			}
			Fragments(&s)
		}
		for range 40 {
			s, _ = s.Do("undo", "")
		}
		if !s.Edit.none() || !first.Edit.none() || len(first.drafts) != 0 {
			t.Fatalf("have %+v", s.Edit)
		}
	}
}

// What a long chain's sentences are worth is much to read: the reader asks for it.
func TestLongChainsAreReadWhenAsked(t *testing.T) {
	e := testExample()
	e.Without = nil
	for i := range e.Frame.Tokens {
		if x := &e.Frame.Tokens[i]; x.Chain == 4 && x.Part == wire.PartChain {
			n := len(x.IDs) - 1
			long := tokens(4, wire.PartChain, append(cutWords(strings.Repeat(testChain+" ", 12)), x.Texts[n]), nil)
			*x = long
		}
	}
	s, out := New([]Example{e}).Receive(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}}})
	if len(out) != 0 {
		t.Fatalf("asked by itself: %v", out)
	}
	wants(t, Why(&s), `data-act="worth">Work it out`)
	s, out = s.Do("worth", "")
	if len(out) != 1 || len(out[0].(*wire.Score).Variants) != maxSentences {
		t.Fatalf("have %v", out)
	}
	if err := out[0].(*wire.Score).Validate(); err != nil {
		t.Error(err)
	}
	s = s.receives(&wire.Failed{Head: wire.Head{ID: out[0].Header().ID}, Code: wire.CodeBusy, Message: "busy"})
	wants(t, Why(&s), `data-act="worth">Try again`)
	if _, out = s.Do("worth", ""); len(out) != 1 {
		t.Errorf("have %v", out)
	}
}

// A refused edit says so and can be tried again.
func TestARefusedEditCanBeTriedAgain(t *testing.T) {
	s := listening(t)
	s, _ = s.Do("pick", "0")
	s, out := s.Do("edit", "Ana is nobody.")
	s = s.receives(&wire.Failed{Head: wire.Head{ID: out[0].Header().ID}, Code: wire.CodeBusy, Message: "The queue is full. Wait."})
	wants(t, Notes(&s), "The queue is full.")
	wants(t, ChainText(&s), `data-act="try"`, "did not score it", `data-act="undo"`)
	if _, again := s.Do("colour", "weight"); len(again) != 0 {
		t.Errorf("asked again: %v", again)
	}
	s, again := s.Do("try", "")
	if len(again) != 1 || s.Notice != nil {
		t.Errorf("have %v, %+v", again, s.Notice)
	}
}
