package view

import (
	"strings"
	"testing"

	"nrt/web/wire"
)

// hears has the server say how probable the answer is after the version it was asked
// for, which must be the only message.
func (s State) hears(t *testing.T, out []wire.Message, logProbs []float64) State {
	t.Helper()
	if len(out) != 1 {
		t.Fatalf("have %v", out)
	}
	return s.receives(&wire.Scored{Head: wire.Head{ID: out[0].(*wire.Score).ID}, Variants: []wire.ScoredVariant{{LogProbs: logProbs, Answer: "Nobody."}}})
}

// What is typed in the sheet is scored there, at each pause: the latest known reward
// stays, marked as old, until the next is known, with the words that moved most.
func TestSheetSaysWhatIsEarned(t *testing.T) {
	s := listening(t)
	s, _ = s.Do("pick", "1")
	if have := Fragment(&s, "edit-score"); have != "" {
		t.Errorf("without a sheet: %s", have)
	}
	s, out := s.Do("sheet", "")
	if len(out) != 0 {
		t.Errorf("have %v", out)
	}
	wants(t, Fragment(&s, "edit-score"), "As the model wrote it, the chain earns 0.372.", `data-act="undo" disabled`, "Switch off", "The reward follows")
	s, out = s.Do("edit-typed", "")
	if len(out) != 0 {
		t.Errorf("typing asks the server: %v", out)
	}
	wants(t, Fragment(&s, "edit-score"), `<p class="old"><b>As the model wrote it`, "Scoring your version")
	s, out = s.Do("edit-try", "Leo is a stranger.")
	wants(t, Fragment(&s, "edit-score"), `<p class="old"><b>As the model wrote it`, "Scoring your version")
	s = s.hears(t, out, s.Reading.Base)
	have := Fragment(&s, "edit-score")
	wants(t, have, "<p><b>With your sentence 2 the reward falls from 0.372 to 0.114.", "Moved most: ", "Ruth</b></bdi><span class=\"vh\"> from 92 to 9 %", "▼ 83", `data-act="undo">`)
	if n := strings.Count(have, `class="mv"`); n != mostMoved {
		t.Errorf("%d words are named", n)
	}
	if strings.Index(have, "Ruth") > strings.Index(have, "grandmother") {
		t.Errorf("not the most moved first: %s", have)
	}
	s, out = s.Do("edit-try", "Leo is far.")
	wants(t, Fragment(&s, "edit-score"), `<p class="old"><b>With your sentence 2 the reward falls from 0.372 to 0.114.`, "Scoring")
	s = s.hears(t, out, s.Reading.Chains[4].Ref)
	wants(t, Fragment(&s, "edit-score"), "stays 0.372", "No word of the answer moved")

	// Once more the same: nothing is asked, nothing is scoring.
	s, _ = s.Do("edit-typed", "")
	s, out = s.Do("edit-try", "Leo is far. ")
	if len(out) != 0 || strings.Contains(Fragment(&s, "edit-score"), "Scoring") {
		t.Errorf("%v, %s", out, Fragment(&s, "edit-score"))
	}
}

// However often it was scored, what was typed in the sheet is one step for Undo; Cancel
// leaves the chain as it was, with the steps before.
func TestSheetIsOneStep(t *testing.T) {
	open := func(s State) State {
		s, _ = s.Do("sheet", "")
		for _, text := range []string{"Leo is a stranger.", "Leo is far.", "Leo is near."} {
			s, _ = s.Do("edit-try", text)
		}
		return s
	}
	text := func(s State) string { x, _ := s.Edit.text(1); return x }
	s := listening(t)
	s, _ = s.Do("sentence", "2") // before the sheet
	s, _ = s.Do("pick", "1")
	before := s.drafts[4]

	undone, _ := open(s).Do("undo", "")
	if text(undone) != "" || !undone.Edit.off(2) || len(undone.drafts[4].past) != len(before.past) {
		t.Errorf("Undo: %+v", undone.drafts[4])
	}
	if undone.sheet == nil {
		t.Error("Undo closes the sheet")
	}
	// What is typed after Undo is a step of its own.
	again, _ := undone.Do("edit-try", "Leo is here.")
	if n := len(again.drafts[4].past); n != len(before.past)+1 {
		t.Errorf("typed after Undo: %d steps", n)
	}
	// What Undo took back from before the sheet stays so when it is left.
	back, _ := s.Do("sheet", "")
	back, _ = back.Do("undo", "")
	back, _ = back.Do("edit-leave", "")
	if !back.Edit.none() || len(back.drafts[4].past) != 0 {
		t.Errorf("Undo, then Cancel: %+v", back.drafts[4])
	}
	left, _ := open(s).Do("edit-leave", "")
	if left.sheet != nil || left.Edit.key(4) != before.now.key(4) || len(left.drafts[4].past) != len(before.past) {
		t.Errorf("Cancel: %+v", left.drafts[4])
	}
	done, _ := open(s).Do("edit", "Leo is nobody.")
	if done.sheet != nil || text(done) != " Leo is nobody." || len(done.drafts[4].past) != len(before.past)+1 || !strings.Contains(done.Say, "being scored") {
		t.Errorf("Done: %q, %+v", done.Say, done.drafts[4])
	}
	if done, _ = done.Do("edit-leave", ""); text(done) == "" {
		t.Error("leaving after Done takes the edit back")
	}
	off, _ := open(s).Do("switch", "")
	if !off.Edit.off(1) || !off.SwitchedOff(1) || !strings.Contains(Fragment(&off, "edit-score"), "Switch on") {
		t.Errorf("Switch off: %+v", off.Edit)
	}
	// An emptied field switches off what it rewrote, and its own words leave no step.
	empty, _ := open(s).Do("edit-try", " ")
	own, _ := empty.Do("edit-try", "Leo is the brother of Ana.")
	if !empty.Edit.off(1) || own.Edit.off(1) || own.Edit.key(4) != before.now.key(4) || len(own.drafts[4].past) != len(before.past) {
		t.Errorf("emptied: %+v; its own words: %+v", empty.Edit, own.drafts[4])
	}
}

// What cannot be scored is not taken, and the sheet says why; it belongs to its chain.
func TestSheetRefuses(t *testing.T) {
	s := listening(t)
	s, _ = s.Do("pick", "1")
	s, _ = s.Do("sheet", "")
	long := strings.Repeat("far ", maxRewrite/4+1)
	try, out := s.Do("edit-try", long)
	if len(out) != 0 || !try.Edit.none() {
		t.Errorf("have %v, %+v", out, try.Edit)
	}
	wants(t, Fragment(&try, "edit-score"), "at most "+intText(maxRewrite)+" bytes")
	sent, _ := s.Do("edit", long)
	if sent.sheet == nil || !strings.Contains(sent.EditRefused(), "at most") {
		t.Errorf("sent: %q", sent.EditRefused())
	}
	away := s
	away.Link = Offline
	away, _ = away.Do("edit-try", "Leo is far.")
	wants(t, Fragment(&away, "edit-score"), needsServer)
	away, _ = away.Do("edit", "Leo is far.")
	if away.EditRefused() != needsServer || away.Notice.Code != codeOffline {
		t.Errorf("have %+v", away.Notice)
	}
	// By a server that does not score it.
	failed, out := s.Do("edit-try", "Leo is far.")
	failed = failed.receives(&wire.Failed{Head: wire.Head{ID: out[0].(*wire.Score).ID}, Code: wire.CodeBusy, Message: "The queue is full."})
	wants(t, Fragment(&failed, "edit-score"), "The server did not score your version", `class="old"`)

	for _, to := range []string{"next", "example"} {
		other, _ := s.Do(to, s.Example)
		if have := Fragment(&other, "edit-score"); have != "" {
			t.Errorf("%s: %s", to, have)
		}
		if other, out = other.Do("edit-try", "Leo is far."); len(out) != 0 || !other.Edit.none() {
			t.Errorf("%s: the sheet changes another chain: %v", to, out)
		}
	}
}

// While a sentence is written its version is scored alone; the model's own answer after
// it is asked for once, of the version that is kept, and shown.
func TestOnlyTheKeptVersionIsAnswered(t *testing.T) {
	asks := func(out []wire.Message) (own, plain []*wire.Score) {
		for _, m := range out {
			switch x, ok := m.(*wire.Score); {
			case ok && x.Own:
				own = append(own, x)
			case ok:
				plain = append(plain, x)
			}
		}
		return own, plain
	}
	typed := func() (State, []*wire.Score) {
		s := listening(t)
		s, _ = s.Do("pick", "1")
		s, _ = s.Do("sheet", "")
		var last []*wire.Score
		for _, text := range []string{"Leo is a stranger.", "Leo is far.", "Leo is near."} {
			next, out := s.Do("edit-try", text)
			own, plain := asks(out)
			if len(own) != 0 || len(plain) != 1 {
				t.Fatalf("%s: %d with an answer, %d without", text, len(own), len(plain))
			}
			s, last = next, plain
		}
		return s, last
	}
	answer := func(s State, ask *wire.Score) (State, []wire.Message) {
		v := wire.ScoredVariant{LogProbs: s.Reading.Base}
		if ask.Own {
			v.Answer = "Nobody."
		}
		return s.Receive(&wire.Scored{Head: wire.Head{ID: ask.ID}, Variants: []wire.ScoredVariant{v}})
	}
	kept := func(what string, s State, out []wire.Message) {
		t.Helper()
		own, plain := asks(out)
		if len(own) != 1 || len(plain) != 0 {
			t.Fatalf("%s: %d with an answer, %d without", what, len(own), len(plain))
		}
		s, out = answer(s, own[0])
		wants(t, Fragment(&s, "chain"), "It then answers “<bdi>Nobody.</bdi>”")
		if own, plain = asks(out); len(own)+len(plain) > 0 {
			t.Errorf("%s: asked again: %v", what, out)
		}
	}

	s, ask := typed()
	s, out := answer(s, ask[0])
	if own, plain := asks(out); len(own)+len(plain) > 0 {
		t.Errorf("in the sheet, scored: asked %v", out)
	}
	s, out = s.Do("edit", "Leo is near.")
	kept("Done, scored before", s, out)

	s, ask = typed()
	s, out = s.Do("edit", "Leo is near.")
	if own, plain := asks(out); len(own)+len(plain) > 0 {
		t.Errorf("Done while it is scored: asked %v", out)
	}
	s, out = answer(s, ask[0])
	kept("Done, scored after", s, out)

	s, _ = typed()
	s, out = s.Do("edit", "Leo is here.") // faster than any pause
	kept("Done at once", s, out)

	s, _ = typed()
	if _, out = s.Do("edit-leave", ""); len(out) > 0 {
		own, plain := asks(out)
		if len(own)+len(plain) > 0 {
			t.Errorf("Cancel: asked %v", out)
		}
	}
}
