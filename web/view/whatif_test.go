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
		wants(t, Fragment(&s, "chain"), `class="sent is-on off neg"`, "<s>Ruth is the mother of Leo", "Without sentence 3 the reward falls from 0.372 to 0.1", "▼ 0.2", `data-act="undo"`, "Switch on")
		wants(t, Fragment(&s, "chains"), `class="chain ghost"`, "What-if: chain 5 without sentence 3")
		wants(t, Fragment(&s, "strip"), `class="b2"`, "% without sentence 3")
		wants(t, Fragment(&s, "dots"), `class="dot gh"`)
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
		if !s.Edit.none() || strings.Contains(Fragment(&s, "chains"), "ghost") || strings.Contains(Fragment(&s, "strip"), `class="b2"`) {
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
	wants(t, Fragment(&s, "chain"), "is being worked out", `class="sent is-on own neg"`, "Leo is a stranger.")
	if _, again := s.Do("colour", "weight"); len(again) != 0 {
		t.Errorf("asked twice: %v", again)
	}
	s = s.receives(&wire.Scored{Head: wire.Head{ID: ask.ID}, Variants: []wire.ScoredVariant{{LogProbs: s.Reading.Base, Answer: "Nobody."}}})
	if sc := s.whatIf(); sc == nil || math.Abs(sc.R-sc.Base) > 1e-12 {
		t.Errorf("have %+v", s.whatIf())
	}
	wants(t, Fragment(&s, "chain"), "With your sentence 2 the reward falls", "It then answers “<bdi>Nobody.</bdi>”")
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
	wants(t, Fragment(&s, "why"), "are being worked out")
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
	if losses := s.losses(4); losses == nil || !(losses[2] < losses[0]) || !(losses[3] > 0) {
		t.Errorf("have %v", losses)
	}
	wants(t, Fragment(&s, "why"), "Deleted: the rest stays", `class="sbar"`)
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
		for range 20 { // as many as there can be
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
	wants(t, Fragment(&s, "why"), `data-act="worth">Work it out`)
	s, out = s.Do("worth", "")
	if len(out) != 1 || len(out[0].(*wire.Score).Variants) != maxSentences {
		t.Fatalf("have %v", out)
	}
	if err := out[0].(*wire.Score).Validate(); err != nil {
		t.Error(err)
	}
	s = s.receives(&wire.Failed{Head: wire.Head{ID: out[0].Header().ID}, Code: wire.CodeBusy, Message: "busy"})
	wants(t, Fragment(&s, "why"), `data-act="worth">Try again`)
	if _, out = s.Do("worth", ""); len(out) != 1 {
		t.Errorf("have %v", out)
	}
}

// An edit that cannot be taken leaves the chain alone and says why, until one can.
func TestAnEditThatIsNotTaken(t *testing.T) {
	s := listening(t)
	s, _ = s.Do("pick", "0")
	s.Link = Waiting
	s, _ = s.Do("edit", "Ana is nobody.")
	if !s.Edit.none() || !strings.Contains(s.EditRefused(), "needs the server") {
		t.Errorf("offline: %+v, %q", s.Edit, s.EditRefused())
	}
	s.Link = Live
	s, _ = s.Do("edit", strings.Repeat("ana ", 2000))
	if !s.Edit.none() || !strings.Contains(s.EditRefused(), "at most") {
		t.Errorf("too long: %+v, %q", s.Edit, s.EditRefused())
	}
	if s, _ = s.Do("edit", "Ana is nobody."); s.Edit.none() || s.EditRefused() != "" {
		t.Errorf("then: %+v, %q", s.Edit, s.EditRefused())
	}
}

// A refused edit says so and can be tried again.
func TestARefusedEditCanBeTriedAgain(t *testing.T) {
	s := listening(t)
	s, _ = s.Do("pick", "0")
	s, out := s.Do("edit", "Ana is nobody.")
	s = s.receives(&wire.Failed{Head: wire.Head{ID: out[0].Header().ID}, Code: wire.CodeBusy, Message: "The queue is full. Wait."})
	wants(t, Fragment(&s, "notes"), "The queue is full.")
	wants(t, Fragment(&s, "chain"), `data-act="try"`, "did not score it", `data-act="undo"`)
	if _, again := s.Do("colour", "weight"); len(again) != 0 {
		t.Errorf("asked again: %v", again)
	}
	s, again := s.Do("try", "")
	if len(again) != 1 || s.Notice != nil {
		t.Errorf("have %v, %+v", again, s.Notice)
	}
}

// A boundary of several tokens is no part of the last sentence, and goes to the
// server as it was sampled.
func TestABoundaryOfSeveralTokens(t *testing.T) {
	e := testExample()
	e.Without = nil
	for i := range e.Frame.Tokens {
		if x := &e.Frame.Tokens[i]; x.Chain == 4 && x.Part == wire.PartChain {
			*x = tokens(4, wire.PartChain, append(cutWords(testChain), " </", "think", ">"), nil)
		}
	}
	s := New([]Example{e})
	r := s.Reading
	if text := Fragment(&s, "chain"); strings.Contains(text, "think") {
		t.Errorf("have %s", text)
	}
	n := len(r.Chains[4].Tokens)
	list := r.Without(4)
	last := list[len(list)-1].Parts
	ids := last[len(last)-1].IDs
	for k := range 3 {
		if have, want := ids[len(ids)-3+k], r.Chains[4].Tokens[n-3+k].ID; have != want {
			t.Errorf("the boundary's token %d is %d, want %d", k, have, want)
		}
	}
}

// After any welcome what was under way is asked for again, and what the server
// answers to the old request changes nothing.
func TestWhatIfsAfterAReconnection(t *testing.T) {
	for _, resumed := range []bool{true, false} {
		s := listening(t)
		s, _ = s.Do("pick", "0")
		s, out := s.Do("edit", "Ana is nobody.")
		lost := out[0].Header().ID
		s, out = s.Receive(&wire.Welcome{Session: "s1", Resumed: resumed, Models: s.Models})
		n := len(out)
		if n == 0 || out[n-1].Type() != "score" || out[n-1].Header().ID == lost || (n == 2 && out[0].Type() == "cancel") != resumed {
			t.Fatalf("resumed %t: have %v", resumed, out)
		}
		if after := s.receives(&wire.Scored{Head: wire.Head{ID: lost}, Variants: []wire.ScoredVariant{{LogProbs: s.Reading.Base}}}); after.whatIf() != nil {
			t.Errorf("resumed %t: the lost request was answered", resumed)
		}
	}
}

// Whatever a server answers, the page does not ask for ever.
func TestOddAnswersAreNotAskedForAgain(t *testing.T) {
	e := testExample()
	e.Without = nil
	high := make([]float64, len(testWords))
	for i := range high {
		high[i] = 1
	}
	for name, v := range map[string]wire.ScoredVariant{"no log-probabilities": {LogProbs: high}, "too few": {LogProbs: []float64{-1}}} {
		for _, mine := range []bool{false, true} {
			s, out := New([]Example{e}).Receive(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}}})
			if mine {
				s, out = listening(t).Do("sentence", "2") // its reward is known, its answer is not
			}
			for round := 0; len(out) > 0; round++ {
				if round == 3 {
					t.Fatalf("%s, by the reader %t: asked again and again", name, mine)
				}
				ask := out[0].(*wire.Score)
				answer := &wire.Scored{Head: wire.Head{ID: ask.ID}}
				for range ask.Variants {
					answer.Variants = append(answer.Variants, v)
				}
				s, out = s.Receive(answer)
			}
			if mine && s.whatIf() == nil {
				t.Error("what was known is gone")
			}
		}
	}
}

// A refusal of what is known already, the model's own answer aside, is no news.
func TestARefusedAnswerIsNoError(t *testing.T) {
	s, out := listening(t).Do("sentence", "2")
	s = s.receives(&wire.Failed{Head: wire.Head{ID: out[0].Header().ID}, Code: wire.CodeBusy, Message: "busy"})
	if s.Notice != nil || s.whatIf() == nil {
		t.Errorf("have %+v", s.Notice)
	}
}

// One edit is under way at a time, and none when the question is left.
func TestOldWhatIfsAreCancelled(t *testing.T) {
	s, out := listening(t).Do("sentence", "2")
	first := out[0].Header().ID
	s, out = s.Do("sentence", "1")
	if len(out) != 2 || out[0].Type() != "cancel" || out[0].Header().ID != first {
		t.Fatalf("have %v", out)
	}
	second := out[1].Header().ID
	s, out = s.Do("again", "")
	if len(out) != 2 || out[0].Type() != "cancel" || out[0].Header().ID != second || len(s.waiting) != 0 {
		t.Errorf("have %v", out)
	}
}

// The editor's text goes to the chain that it was opened on, though others are
// ranked before it meanwhile.
func TestTheEditorKeepsItsChain(t *testing.T) {
	s, id := live(t)
	list := pieces(id)
	for _, m := range list[:len(list)-2] {
		s = s.receives(m)
	}
	if _, _, _, _, ok := s.SentenceText(); ok || strings.Contains(Fragment(&s, "chain"), `id="act-edit"`) {
		t.Error("a chain can be edited before all are written")
	}
	s, _ = s.Do("pick", "0")
	for _, m := range list[len(list)-2:] {
		s = s.receives(m)
	}
	if s, _ = s.Do("edit", "Nothing."); s.edited() != 0 {
		t.Errorf("the edit is of chain %d", s.edited()+1)
	}
}

// An address may name chains and sentences that are not there.
func TestAddressesOfWhatIsNotThere(t *testing.T) {
	for hash, want := range map[string]Choice{
		"e=kinship&z=16&off=1.2": {Chain: -1},
		"e=kinship&z=5&off=1.40": {Chain: 4, Edit: Edit{Off: 1}},
		"e=kinship&z=5&off=40":   {Chain: 4},
	} {
		c, err := ParseHash(hash)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := listening(t).Open(c)
		if s.Chain != want.Chain || !reflect.DeepEqual(s.Edit, want.Edit) {
			t.Errorf("%s: have chain %d, %+v", hash, s.Chain, s.Edit)
		}
		if !want.Edit.none() != strings.Contains(Fragment(&s, "chain"), `data-act="undo"`) {
			t.Errorf("%s: %s", hash, Fragment(&s, "chain"))
		}
		s, _ = s.Do("sentence", "3")
		if want := want.Edit.Off | 1<<3; s.Edit.Off != want {
			t.Errorf("%s: then %b, want %b", hash, s.Edit.Off, want)
		}
	}
	// A question that cannot be asked leaves what is shown alone.
	s := listening(t)
	s.Link = Offline
	s, _ = s.Open(Choice{Question: "Who?", Answer: "Ruth", K: 8, Chain: 4, Edit: Edit{Off: 1}, Seed: 1, MaxChain: 9})
	if s.edited() >= 0 {
		t.Error("an edit of another question shows")
	}
}
