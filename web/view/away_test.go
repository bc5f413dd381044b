package view

import (
	"strings"
	"testing"

	"nrt/web/wire"
)

// Without a server no sheet opens, and the page says why; it takes that back when the
// server is there.
func TestSheetNeedsTheServer(t *testing.T) {
	for _, link := range []Link{Waiting, Offline} {
		s := testState()
		s.Link = link
		s, _ = s.Do("pick", "1")
		wants(t, Fragment(&s, "chain"), "Editing needs the server.", "Switch off")
		s, out := s.Do("sheet", "")
		if s.Rewriting() || len(out) != 0 || s.Notice == nil || s.Sentence != 1 {
			t.Fatalf("link %d: the sheet is open: %t, %+v", link, s.Rewriting(), s.Notice)
		}
		wants(t, s.Say, "Rewriting a sentence needs the server.")
		wants(t, Fragment(&s, "notes"), "Rewriting a sentence needs the server.")
		if s = s.receives(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}}}); s.Notice != nil {
			t.Errorf("connected, the page says %q", s.Notice.Text)
		}
		if s, _ = s.Do("sheet", ""); !s.Rewriting() {
			t.Error("connected, no sheet opens")
		}
	}
	// What was not scored before cannot be switched off: that is said where it was tried.
	s := testState()
	s.Link = Offline
	s, _ = s.Do("sentence", "1")
	s, _ = s.Do("sentence", "2")
	if s.Edit.off(2) {
		t.Fatal("the test needs a variant that is not known")
	}
	wants(t, Fragment(&s, "chain"), "Without sentence 2 the reward")
	e := testExample()
	e.Without = nil
	s = New([]Example{e})
	s.Link = Offline
	s, _ = s.Do("sentence", "1")
	wants(t, Fragment(&s, "chain"), "Switching it off needs the server.", "Let go")
}

// A question that no server answers can be stopped: the page goes back to what it
// showed, or keeps the chains that are complete, and the server, when it is back, is
// told and not asked again.
func TestStopWithoutTheServer(t *testing.T) {
	told := func(what string, s State, id string, resumed bool) {
		t.Helper()
		s, out := s.Receive(&wire.Welcome{Session: s.Session, Head: wire.Head{Seq: s.Seq}, Resumed: resumed, Models: []wire.Model{{Name: "test"}, {Name: "other"}}})
		stops := 0
		for _, m := range out {
			switch {
			case m.Type() == "ask":
				t.Errorf("%s: asked again", what)
			case m.Type() == "cancel" && m.Header().ID == id:
				stops++
			}
		}
		if want := map[bool]int{true: 1}[resumed]; stops != want {
			t.Errorf("%s: the server is told %d times, want %d", what, stops, want)
		}
		before := s.Reading
		s.Seq = 0 // all of it
		for _, m := range pieces(id) {
			s = s.receives(m)
		}
		if s.Reading.Status != before.Status || s.Reading.done() != before.done() {
			t.Errorf("%s: what the server still sends is shown", what)
		}
	}
	for _, link := range []Link{Loading, Waiting, Offline} {
		s, id := live(t) // asked of another model, after an example
		s.Link = link
		back := s.back.Choice
		s, out := s.Do("cancel", "")
		if len(out) != 0 || !s.Reading.ready() || s.Model != back.Model || !strings.HasPrefix(s.Say, "Stopped.") {
			t.Errorf("link %d: %v, model %q, says %q", link, out, s.Model, s.Say)
		}
		told("before the first chain", s, id, link != Loading)
	}
	s, id := live(t)
	list := pieces(id)
	for _, m := range list[:len(list)-2] {
		s = s.receives(m)
	}
	s = s.receives(&wire.Frame{Head: wire.Head{ID: id, Seq: s.Seq + 1}, Done: testExample().Frame.Done[:3]})
	s.Link = Waiting
	s, _ = s.Do("cancel", "")
	if s.Reading.Status != Cancelled || s.Reading.done() != 3 || s.Model != "other" {
		t.Errorf("status %d, %d chains of %q", s.Reading.Status, s.Reading.done(), s.Model)
	}
	wants(t, Fragment(&s, "chains"), "stopped, 3 chains complete")
	told("with three chains", s, id, true)

	// A page that opened on the question has nothing to go back to.
	c := DefaultChoice()
	c.Question, c.Answer = "Who?", "Me."
	first := New(nil)
	first.Link = Loading
	s, _ = first.Open(c)
	s.Link = Waiting
	if s, _ = s.Do("cancel", ""); s.Say != "Stopped. No chain was written." {
		t.Errorf("says %q", s.Say)
	}
	wants(t, Fragment(&s, "chains"), "No chain was written.", `data-act="retry"`)
}

// What the server refuses is said as a sentence; a model that is not there is not asked
// again, but another one chosen.
func TestRefusalsAreSentences(t *testing.T) {
	c := DefaultChoice()
	c.Question, c.Answer, c.Model = "Who?", "Me.", "nobody"
	first := New(nil)
	first.Link = Live
	s, out := first.Open(c)
	s = s.receives(&wire.Failed{Head: wire.Head{ID: out[0].Header().ID}, Code: wire.CodeNoModel, Message: "there is no model “nobody” here"})
	const want = "There is no model “nobody” here. Choose another one in the list of models."
	if s.Say != want || s.Notice == nil || s.Notice.Text != want || strings.Contains(Fragment(&s, "notes"), `data-act="retry"`) {
		t.Errorf("says %q, notes %s", s.Say, Fragment(&s, "notes"))
	}
	if have := Fragment(&s, "pipeline"); strings.Contains(have, "Reward ·") || !strings.Contains(have, "· Reward.</b>") {
		t.Errorf("a number that is not known is said: %s", have)
	}
	for text, want := range map[string]string{"": "", "it is full": "It is full.", "Try again.": "Try again.", "ärger": "ärger.", "upload:4: no answer": "upload:4: no answer."} {
		if have := sentenceOf(text); have != want {
			t.Errorf("%q: %q, want %q", text, have, want)
		}
	}
}

// What else the server had to say does not mean that it heard of a question, or of a run.
func TestWhatNeverArrivedBesideARun(t *testing.T) {
	s, id := live(t)
	s.TrainID = "t9"
	s.Seq = 4
	s, out := s.Receive(&wire.Welcome{Head: wire.Head{Seq: 6}, Session: "s1", Resumed: true, Models: s.Models})
	if len(out) != 0 || s.TrainID == "" {
		t.Fatalf("while two messages are to come: %v, run %q", out, s.TrainID)
	}
	s, out = s.Receive(&wire.Models{Head: wire.Head{Seq: 5}, Models: s.Models})
	if len(out) != 0 {
		t.Fatalf("while one is to come: %v", out)
	}
	s, out = s.Receive(&wire.Models{Head: wire.Head{Seq: 6}, Models: s.Models})
	if len(out) != 2 || out[0].Type() != "cancel" || out[0].Header().ID != id || out[1].Type() != "ask" {
		t.Errorf("have %v, want the question asked again", out)
	}
	if s.TrainID != "" || s.Notice == nil || !strings.Contains(s.Notice.Text, "Start it again") {
		t.Errorf("the run %q is still waited for; said is %+v", s.TrainID, s.Notice)
	}
	if s, out = s.Receive(&wire.Models{Head: wire.Head{Seq: 7}, Models: s.Models}); len(out) != 0 || s.Reading.Status != Asked {
		t.Errorf("it is asked a third time: %v", out)
	}

	// What is asked meanwhile is not in doubt.
	s, _ = live(t)
	s, _ = s.Receive(&wire.Welcome{Head: wire.Head{Seq: 1}, Session: "s1", Resumed: true, Models: s.Models})
	s.TrainID = "t9"
	s, out = s.Do("again", "")
	if s, out = s.Receive(&wire.Models{Head: wire.Head{Seq: 1}, Models: s.Models}); len(out) != 0 || s.TrainID == "" {
		t.Errorf("have %v, run %q", out, s.TrainID)
	}

	// What it did hear of is answered by then.
	s, id = live(t)
	s.TrainID = "t9"
	s, _ = s.Receive(&wire.Welcome{Head: wire.Head{Seq: 2}, Session: "s1", Resumed: true, Models: s.Models})
	s = s.receives(&wire.State{Head: wire.Head{ID: "t9", Seq: 1}, Run: "run1", Method: "nrt", Status: wire.StatusRunning, Of: 4})
	s, out = s.Receive(&wire.Queued{Head: wire.Head{ID: id, Seq: 2}})
	if len(out) != 0 || s.Notice != nil || s.Run != "run1" {
		t.Errorf("have %v, %+v, run %q", out, s.Notice, s.Run)
	}
}

// An address is all of a view, also where its question has to be asked again once the
// server is there.
func TestAddressOfOwnQuestionKeepsWhatIsChosen(t *testing.T) {
	const hash = "q=who&a=me&model=m&k=2&mode=am&z=2&w=1&s=3&phase=5&fresh=2&off=3"
	c, err := ParseHash(hash)
	if err != nil {
		t.Fatal(err)
	}
	s := testState()
	s.Link = Loading
	s, _ = s.Open(c)
	s, out := s.Receive(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "m"}}})
	if len(out) == 0 || out[len(out)-1].Type() != "ask" {
		t.Fatalf("have %v, want the question asked", out)
	}
	if have := s.Hash(); have != hash {
		t.Errorf("have %s\nwant %s", have, hash)
	}
}

// A reader who hears the page is told that the server is back, and nothing is left of what
// it said when it went; a question that it failed can still be tried again.
func TestServerIsBack(t *testing.T) {
	for _, id := range []string{"", "q"} {
		s := testState()
		r := *s.Reading
		r.Saved, r.Status, r.Ask.ID = false, Complete, "q"
		s.Reading = &r
		s.Link = Live
		s = s.receives(&wire.Failed{Head: wire.Head{ID: id}, Code: wire.CodeStopping, Message: "the server is stopping"})
		s.Link, s.Say = Waiting, "Connection lost. Trying again."
		s = s.receives(&wire.Welcome{Session: "s2", Models: []wire.Model{{Name: "test"}}})
		if s.Say != "Connected." {
			t.Errorf("the status says %q", s.Say)
		}
		if kept := s.Notice != nil; kept != (id != "") {
			t.Errorf("request %q: the notice of the server that stopped is there: %t", id, kept)
		}
	}
}

// An address may name an example of another build: the page says so, and what it shows
// instead can be asked again.
func TestAddressOfAnExampleThatIsNotThere(t *testing.T) {
	c, err := ParseHash("e=gone&model=other&k=2&z=2&mode=am")
	if err != nil {
		t.Fatal(err)
	}
	s, out := testState().Open(c)
	if first := s.Examples[0]; len(out) != 0 || s.Example != first.Name || s.Model != first.Ask.Model || s.Reading == nil || s.Notice == nil {
		t.Fatalf("have example %q, model %q, notice %+v, messages %v", s.Example, s.Model, s.Notice, out)
	}
	wants(t, Fragment(&s, "notes"), "does not have the question")
	s.Link = Live
	if s, out = s.Do("again", ""); len(out) != 1 || s.Notice != nil {
		t.Errorf("new chains are asked for with %v, notice %+v", out, s.Notice)
	}
}
