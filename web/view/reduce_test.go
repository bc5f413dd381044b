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

// live is a page that is connected and has asked; id names the request.
func live(t *testing.T) (s State, id string) {
	t.Helper()
	s, out := testState().Receive(&wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}, {Name: "other"}}})
	if len(out) != 0 {
		t.Fatalf("a welcome without work is answered by %v", out)
	}
	s, out = s.Do("model", "other")
	if len(out) != 1 || out[0].Type() != "ask" {
		t.Fatalf("have %v, want an ask", out)
	}
	return s, out[0].Header().ID
}

// pieces cuts the example's frame into one message a token.
func pieces(id string) []wire.Message {
	e := testExample()
	e.Start.ID, e.End.ID = id, id
	list := []wire.Message{&e.Start}
	for _, x := range e.Frame.Tokens {
		for i := range x.IDs {
			y := x
			y.At, y.IDs, y.Texts, y.LogProbs, y.Entropies = i, x.IDs[i:i+1], x.Texts[i:i+1], x.LogProbs[i:i+1], x.Entropies[i:i+1]
			list = append(list, &wire.Frame{Head: wire.Head{ID: id}, Tokens: []wire.Tokens{y}})
		}
	}
	list = append(list, &wire.Frame{Head: wire.Head{ID: id}, Done: e.Frame.Done}, &e.End)
	for i, m := range list {
		m.Header().Seq = uint64(i + 1)
	}
	return list
}

func TestStreamedEqualsSaved(t *testing.T) {
	s, id := live(t)
	for _, m := range pieces(id) {
		s = s.receives(m)
	}
	want := testState()
	for _, f := range []string{"strip", "chain", "chains", "why", "slope", "dots", "pipeline"} {
		if have := Fragment(&s, f); have != Fragment(&want, f) {
			t.Errorf("%s differs from the saved example's:\n%s", f, have)
		}
	}
}

// A connection that breaks at any message, resends some and goes on, neither
// loses nor doubles a token.
func TestResentMessagesChangeNothing(t *testing.T) {
	s, id := live(t)
	list := pieces(id)
	for i, m := range list {
		s = s.receives(m)
		if i%7 == 0 {
			from := max(0, i-5)
			s, _ = s.Receive(&wire.Welcome{Head: wire.Head{Seq: uint64(len(list))}, Session: "s1", Resumed: true, Models: s.Models})
			for _, again := range list[from : i+1] {
				s = s.receives(again)
			}
		}
	}
	want := testState()
	for k := range want.Reading.Chains {
		if !reflect.DeepEqual(s.Reading.Chains[k], want.Reading.Chains[k]) {
			t.Errorf("chain %d: have %+v", k+1, s.Reading.Chains[k])
		}
	}
}

func TestGapsAreNotClosedByTheWrongToken(t *testing.T) {
	s, id := live(t)
	for _, m := range pieces(id) {
		if f, ok := m.(*wire.Frame); ok && len(f.Tokens) > 0 && f.Tokens[0].Part == wire.PartReference && f.Tokens[0].Chain == 2 && f.Tokens[0].At == 3 {
			continue
		}
		s = s.receives(m)
	}
	if s.Reading.scored(2) || !s.Reading.scored(1) {
		t.Error("chain 3 lost a token and is scored")
	}
	if html := Fragment(&s, "chains"); !strings.Contains(html, "Chain 3, not scored") {
		t.Errorf("have %s", html)
	}
}

func TestServerThatForgotIsAskedAgain(t *testing.T) {
	s, id := live(t)
	list := pieces(id)
	for _, m := range list[:40] {
		s = s.receives(m)
	}
	s, out := s.Receive(&wire.Welcome{Session: "s2", Models: s.Models})
	if len(out) != 1 || out[0].Type() != "ask" || out[0].Header().ID == id {
		t.Fatalf("have %v, want a new ask", out)
	}
	if s.Seq != 0 || s.Reading.Status != Asked {
		t.Errorf("seq %d, status %d", s.Seq, s.Reading.Status)
	}
	for _, m := range pieces(out[0].Header().ID) {
		s = s.receives(m)
	}
	if s.Reading.Status != Complete || s.Reading.done() != 8 {
		t.Error("the question did not come through")
	}
}

func TestAskThatNeverArrivedIsAskedAgain(t *testing.T) {
	s, id := live(t)
	s, out := s.Receive(&wire.Welcome{Session: "s1", Resumed: true, Models: s.Models})
	if len(out) != 2 || out[0].Type() != "cancel" || out[0].Header().ID != id || out[1].Type() != "ask" {
		t.Fatalf("have %v", out)
	}
	// What the server says about the old one is of no interest any more.
	s = s.receives(&wire.Failed{Head: wire.Head{ID: id, Seq: 1}, Code: wire.CodeBadMessage, Message: "no such request"})
	if s.Notice != nil || s.Reading.Status != Asked {
		t.Errorf("have %+v", s.Notice)
	}
}

func TestGoingBackCostsNothing(t *testing.T) {
	s, id := live(t)
	for _, m := range pieces(id) {
		s = s.receives(m)
	}
	s, out := s.Do("model", "test")
	if len(out) != 0 || s.Reading.Ask.Model != "test" {
		t.Fatalf("the saved example is asked again: %v", out)
	}
	s, out = s.Do("model", "other")
	if len(out) != 0 || s.Reading.Status != Complete {
		t.Fatalf("a complete reading is asked again: %v", out)
	}
	s, out = s.Do("again", "")
	if len(out) != 1 || out[0].(*wire.Ask).Seed != 43 {
		t.Fatalf("have %v", out)
	}
	_, out = s.Do("example", "kinship")
	if len(out) != 1 || out[0].Type() != "cancel" {
		t.Fatalf("leaving does not cancel: %v", out)
	}
}

func TestBadFieldsAreNamed(t *testing.T) {
	s, _ := live(t)
	s, _ = s.Do("k", "99")
	if s.Notice == nil || s.Notice.Field != "k" || s.K != 8 {
		t.Errorf("have %+v", s.Notice)
	}
	s, _ = s.Do("k", "4")
	if s.Notice != nil || s.K != 4 {
		t.Errorf("have %+v", s.Notice)
	}
	s, out := s.Do("train", `{"method":"nrt","train-mode":"gm","steps":"x"}`)
	if len(out) != 0 || s.Notice == nil || !strings.HasPrefix(s.Notice.Text, "Steps:") {
		t.Errorf("have %+v", s.Notice)
	}
	s, out = s.Do("train", `{"method":"rlpr","train-mode":"gm","steps":"5","questions":"4","train-k":"4","lr":"","train-seed":"1"}`)
	if len(out) != 1 || out[0].(*wire.Train).Mode != "" || s.TrainID == "" {
		t.Fatalf("have %v, %+v", out, s.Notice)
	}
	s = s.receives(&wire.State{Head: wire.Head{ID: s.TrainID}, Run: "r9", Method: "rlpr", Status: wire.StatusRunning, Of: 5})
	if s.Run != "r9" || s.TrainID != "" {
		t.Errorf("the run is not followed: %q", s.Run)
	}
}

func TestTurningGoesByRank(t *testing.T) {
	s := testState()
	var seen []int
	for range 9 {
		seen = append(seen, s.chain()+1)
		s, _ = s.Do("next", "")
	}
	if want := []int{5, 6, 2, 7, 3, 4, 1, 8, 5}; !reflect.DeepEqual(seen, want) {
		t.Errorf("have %v, want %v", seen, want)
	}
	s, _ = s.Do("prev", "")
	if s.chain()+1 != 5 {
		t.Errorf("back at %d", s.chain()+1)
	}
}

// Another formula moves the shown chain and says so; it does not swap it, whether it
// was chosen or shown as the best.
func TestFormulaKeepsTheChain(t *testing.T) {
	for _, chosen := range []bool{false, true} {
		s := testState()
		if chosen {
			s, _ = s.Do("chain", intText(s.chain()))
		}
		i, moved := s.chain(), false
		text := Fragment(&s, "chain")
		for _, m := range reward.Modes() {
			was := s.rank(s.Mode, i)
			s, _ = s.Do("mode", m.String())
			now := s.rank(m, i)
			moved = moved || was != now
			if s.chain() != i {
				t.Fatalf("%s shows chain %d instead of %d", m, s.chain()+1, i+1)
			}
			if want := "rank " + intText(was) + " → " + intText(now); was != now && !strings.Contains(s.Say, want) {
				t.Errorf("%s says %q, want %q", m, s.Say, want)
			}
		}
		s, _ = s.Do("clip", "false")
		s, _ = s.Do("mode", "ws-logp")
		s, _ = s.Do("clip", "true")
		if s.chain() != i || Fragment(&s, "chain") != text || !moved {
			t.Errorf("chain %d, moved %v", s.chain()+1, moved)
		}
	}
}

func TestPhasesPlayOnceAndStop(t *testing.T) {
	s := testState()
	s, _ = s.Do("play", "")
	for range 20 {
		s, _ = s.Do("tick", "")
	}
	if s.Playing || s.Phase != Phases-1 {
		t.Errorf("playing %v at %d", s.Playing, s.Phase)
	}
	s, _ = s.Do("step", "")
	if s.Phase != 0 {
		t.Errorf("at %d", s.Phase)
	}
}

func TestOldStatesStay(t *testing.T) {
	s, id := live(t)
	list := pieces(id)
	var states []State
	var drawn []string
	for _, m := range list {
		states, drawn = append(states, s), append(drawn, Fragment(&s, "chains")+Fragment(&s, "chain"))
		s = s.receives(m)
	}
	for i := range states {
		if Fragment(&states[i], "chains")+Fragment(&states[i], "chain") != drawn[i] {
			t.Fatalf("state %d changed after it was left", i)
		}
	}
}

func TestPointsComeInAnyOrder(t *testing.T) {
	s := testState().receives(&wire.State{Run: "r", Method: "sft", Status: wire.StatusRunning, Of: 9})
	point := func(step int, x float64) wire.Point {
		return wire.Point{Step: step, Values: map[string]float64{wire.ValueLoss: x}}
	}
	s = s.receives(&wire.Step{Run: "r", Of: 9, Points: []wire.Point{point(1, 1), point(3, 3)}})
	s = s.receives(&wire.Step{Run: "r", Of: 9, Points: []wire.Point{point(2, 2), point(3, 9), point(4, 4)}})
	var have []float64
	for _, p := range s.run("r").Steps {
		have = append(have, p.Values[wire.ValueLoss])
	}
	if !reflect.DeepEqual(have, []float64{1, 2, 9, 4}) {
		t.Errorf("have %v", have)
	}
	s = s.receives(&wire.Step{Run: "r", Of: 9, Whole: true, Points: []wire.Point{point(2, 5)}})
	if list := s.run("r").Steps; len(list) != 1 || list[0].Values[wire.ValueLoss] != 5 {
		t.Errorf("what is whole leaves %v", list)
	}
}

func TestHashKeepsEveryChoice(t *testing.T) {
	c := Choice{Question: "Is 1 & 2 < 3 #?", Answer: "ja, né", Model: "run1@40", K: 16, Temperature: 0.7, TopP: 0.9, Seed: wire.MaxSafe, MaxChain: 99,
		Mode: reward.GM, Clip: false, Normalize: true, Colour: ByAdds, Chain: 0, Word: 3, Sentence: 2, Phase: 6}
	have, err := ParseHash("#" + c.Hash())
	if err != nil || !reflect.DeepEqual(have, c) {
		t.Errorf("have %+v (%v), want %+v", have, err, c)
	}
	// Whatever is taken in the page is taken in its address.
	c.Question, c.Answer = strings.Repeat("щ", wire.MaxQuestion/2), strings.Repeat("щ", wire.MaxAnswer/2)
	for k := range maxSentences {
		c.Edit = c.Edit.rewrite(k, strings.Repeat("щ", maxRewrite/2), false)
	}
	if have, err = ParseHash("#" + c.Hash()); err != nil || !reflect.DeepEqual(have, c) {
		t.Errorf("the longest address is not read: %v", err)
	}
	if h := DefaultChoice().Hash(); h != "" {
		t.Errorf("the default choice has the hash %q", h)
	}
	have, err = ParseHash("#k=8&mode=ppo&t=-1&zz=1&w=%zz&seed=7")
	if err == nil || have.Seed != 7 || have.Mode != DefaultChoice().Mode {
		t.Errorf("have %+v (%v)", have, err)
	}
	for _, key := range []string{"mode", "t:", "zz", "w"} {
		if !strings.Contains(err.Error(), "address: "+key) {
			t.Errorf("%s is not named: %v", key, err)
		}
	}
}

func TestAddressOpensTheSameView(t *testing.T) {
	s := testState()
	for _, a := range [][2]string{{"mode", "am"}, {"chain", "1"}, {"word", "0"}, {"clip", "false"}, {"phase", "5"}, {"colour", "change"}} {
		s, _ = s.Do(a[0], a[1])
	}
	c, err := ParseHash(s.Choice.Hash())
	if err != nil {
		t.Fatal(err)
	}
	have, out := testState().Open(c)
	if len(out) != 0 {
		t.Errorf("asks %v", out)
	}
	for id, html := range Fragments(&have) {
		if want := Fragment(&s, id); id != "status" && html != want {
			t.Errorf("%s differs", id)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("e=kinship&mode=am&z=3&w=1")
	f.Add("e=kinship&read=r%4010&slide=new&z=5&off=2")
	f.Add("q=a%20b&a=%F0%9F%8D%8E&k=16&t=0.5")
	f.Fuzz(func(t *testing.T, hash string) {
		c, _ := ParseHash(hash)
		again, err := ParseHash(c.Hash())
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%q: have %+v (%v), want %+v", hash, again, err, c)
		}
		s, _ := testState().Open(c)
		for _, id := range Containers {
			Fragment(&s, id)
		}
	})
}

// FuzzDo: no action with any value breaks the page.
func FuzzDo(f *testing.F) {
	for name := range Actions {
		f.Add(name, "1", "next", "")
	}
	f.Fuzz(func(t *testing.T, a, x, b, y string) {
		s := testState().receives(&wire.Welcome{Session: "s", Models: []wire.Model{{Name: "test"}}, Runs: []wire.State{{Run: "r", Method: "sft", Status: wire.StatusPaused, Of: 3, Checkpoints: []wire.Checkpoint{{Model: "r@0"}, {Step: 2, Model: "r@2"}}}}})
		s, out := s.Do(a, x)
		s, more := s.Do(b, y)
		for _, m := range append(out, more...) {
			if _, err := wire.Encode(m); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range Containers {
			Fragment(&s, id)
		}
	})
}

func TestCurvesHoldTheRunsValues(t *testing.T) {
	s := moments(t)["training"]
	want := `{"runs":[{"name":"NRT ws-logp · r1","short":"NRT","own":"r1","formula":"NRT ws-logp","steps":[0,1,2],"reward":[null,0.1,0.2],"entropy":[null,null,null],"length":[null,null,3],"zero":[null,null,null]}],"at":10,"newest":true,"marks":[],"why":""}`
	if have := Curves(&s); have != want {
		t.Errorf("have %s", have)
	}
	s = testState()
	if have := Curves(&s); have != `{"runs":[],"at":null,"newest":false,"marks":[],"why":"no run yet"}` {
		t.Errorf("have %s", have)
	}
}

// The charts speak of the newest step of a run until the reader picks a step; when it
// is done, its last model is offered to read the question by.
func TestARunShowsWhatIsLearned(t *testing.T) {
	s := testState().receives(&wire.Welcome{Session: "s", Limits: wire.Limits{Steps: 9}, Models: []wire.Model{{Name: "test"}, {Name: "r@9", Run: "r", Step: 9}}})
	st := wire.State{Run: "r", Method: "sft", Status: wire.StatusRunning, Mine: true, Step: 9, Of: 9, Checkpoints: []wire.Checkpoint{{Model: "test"}, {Step: 9, Model: "r@9"}}}
	s = s.receives(&st)
	s, _ = s.Do("run", "r")
	if have := Curves(&s); !strings.Contains(have, `"newest":true`) {
		t.Errorf("have %s", have)
	}
	if strings.Contains(Fragment(&s, "train"), "train-read") {
		t.Error("a run at work offers its trained model")
	}
	st.Status = wire.StatusDone
	s = s.receives(&st)
	if !strings.Contains(Fragment(&s, "train"), `data-act="train-read">Ask the trained model<`) {
		t.Errorf("a run that is done says %s", Fragment(&s, "train"))
	}
	s, out := s.Do("train-read", "")
	// What the other step was asked about the chains before is called off.
	if len(out) != 2 || out[0].Type() != "cancel" || out[1].(*wire.Ask).Model != "r@9" || strings.Contains(Fragment(&s, "train"), "train-read") || !strings.Contains(Curves(&s), `"at":9,"newest":false`) {
		t.Errorf("asks %v, the charts say %s", out, Curves(&s))
	}
}

// Saved runs are there to be compared: the last is followed, the one before drawn
// beside it. A run of one's own is what is followed once there is one.
func TestSavedRunsAreDrawnTogether(t *testing.T) {
	saved := func(name, method string) wire.State {
		return wire.State{Run: name, Method: method, Status: wire.StatusDone, Step: 2, Of: 2, Saved: true}
	}
	list := []wire.State{saved("world:rlpr", "rlpr"), saved("world:nrt", "nrt")}
	s := testState().receives(&wire.Welcome{Session: "s", Limits: wire.Limits{Steps: 9}, Runs: list})
	if s.Run != "world:nrt" || s.Against != "world:rlpr" {
		t.Errorf("followed: %q, beside it: %q", s.Run, s.Against)
	}
	if have := Fragment(&s, "train"); !strings.Contains(have, `data-act="open" data-dialog="traindlg">`) || strings.Contains(have, "train-resume") {
		t.Errorf("a saved run offers %s", have)
	}
	list = append(list, wire.State{Run: "run1", Method: "nrt", Status: wire.StatusPaused, Of: 2, Mine: true})
	s = testState().receives(&wire.Welcome{Session: "s", Runs: list})
	if s.Run != "run1" || s.Against != "world:nrt" {
		t.Errorf("with a run of one's own, followed: %q, beside it: %q", s.Run, s.Against)
	}
	if s.Say != "" {
		t.Errorf("what came with the welcome is announced: %q", s.Say)
	}
}

// Another reader's run is listed and can be watched; it takes over neither the panel
// nor the badge nor the status region, and offers no Pause and no Stop.
func TestOthersRunsStayTheirs(t *testing.T) {
	list := []wire.State{
		{Run: "world:rlpr", Method: "rlpr", Status: wire.StatusDone, Step: 2, Of: 2, Saved: true},
		{Run: "world:nrt", Method: "nrt", Status: wire.StatusDone, Step: 2, Of: 2, Saved: true},
		{Run: "run1", Method: "nrt", Mode: "gm", Status: wire.StatusDone, Step: 9, Of: 9},
	}
	s := testState().receives(&wire.Welcome{Session: "s", Limits: wire.Limits{Steps: 9}, Runs: list})
	if s.Run != "world:nrt" || s.Against != "world:rlpr" {
		t.Errorf("followed: %q, beside it: %q", s.Run, s.Against)
	}
	theirs := wire.State{Run: "run2", Method: "nrt", Mode: "gm", Status: wire.StatusRunning, Step: 1, Of: 9}
	s = s.receives(&theirs)
	if s.Say != "" || !strings.HasSuffix(Fragment(&s, "badge"), "Live") {
		t.Errorf("another reader's run says %q, the badge %q", s.Say, Fragment(&s, "badge"))
	}
	s, out := s.Do("run", "run2")
	if len(out) != 1 || out[0].(*wire.Watch).Run != "run2" {
		t.Fatalf("it is not watched: %v", out)
	}
	have := Fragment(&s, "train")
	if strings.Contains(have, "train-pause") || strings.Contains(have, "train-stop") || !strings.Contains(have, "traindlg") || !strings.Contains(have, "NRT gm · run2 of another reader") {
		t.Errorf("the panel reads %s", have)
	}
	if strings.HasSuffix(Fragment(&s, "badge"), "step 1") {
		t.Errorf("the badge tells of it: %q", Fragment(&s, "badge"))
	}
	theirs.Run, theirs.Mine = "run3", true
	s = s.receives(&theirs)
	if s.Say != "Training run run3: running." || !strings.HasSuffix(Fragment(&s, "badge"), "Training, step 1") {
		t.Errorf("one's own run says %q, the badge %q", s.Say, Fragment(&s, "badge"))
	}
}

// The question in plain words comes with the first chain and stays while the same
// question is asked again.
func TestPlainWordsStay(t *testing.T) {
	s := testState()
	s.Link = Live
	s, out := s.Do("again", "")
	id := out[len(out)-1].Header().ID
	s = s.receives(&wire.Start{Head: wire.Head{ID: id}, K: 8, Plain: "Who <is> it?", Answer: []wire.Piece{{ID: 1, Text: "me"}}})
	if have := Fragment(&s, "question"); !strings.HasPrefix(have, `<span class="plain"><b>Who &lt;is&gt; it?</b></span>`) || !strings.Contains(have, `The model is asked: <span class="asked">`) {
		t.Errorf("the question reads %s", have)
	}
	s, _ = s.Do("again", "")
	if have := Fragment(&s, "question"); !strings.Contains(have, "Who &lt;is&gt; it?") {
		t.Errorf("asked again, the question reads %s", have)
	}
}

// A word that the vocabulary lacks is called unknown wherever it stands, and only
// the token that ends the answer is called its end.
func TestUnknownWordsAreNotTheEnd(t *testing.T) {
	s := testState()
	r := *s.Reading
	r.Answer = slices.Clone(r.Answer)
	r.Answer[0] = wire.Piece{ID: 3, Text: "<unk>", Special: true, Unknown: true}
	r.Answer[1] = wire.Piece{ID: 4, Text: "<mask>", Special: true}
	s.Reading = &r
	r.Answer[2] = wire.Piece{ID: 3, Text: "zebra", Unknown: true}
	last := len(r.Answer) - 1
	for i, want := range map[int]string{0: "unknown", 1: "<mask>", 2: "zebra?", last: "end"} {
		if have := s.answerWord(i); have != want {
			t.Errorf("word %d is called %q, want %q", i, have, want)
		}
	}
	if have := Fragment(&s, "strip"); strings.Count(have, `class="tok end"`)+strings.Count(have, `class="tok on end"`) != 1 || !strings.Contains(have, "unk\"") {
		t.Errorf("the strip reads %s", have)
	}
}

func TestExportHasEveryNumber(t *testing.T) {
	s := testState()
	name, text := Export(&s)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	const fresh = 5 * freshN * 8 // of chain 5
	if name != "nrt-ws-logp-42.csv" || len(lines) != 1+8*8+fresh {
		t.Fatalf("%s: %d lines", name, len(lines))
	}
	if !strings.HasPrefix(lines[1], "test,test,ws-logp,true,false,42,5,,1,0.3715239463") {
		t.Errorf("have %s", lines[1])
	}
	mean := 0.0
	for n := range freshN {
		f := strings.Split(lines[1+8*8+(2*freshN+n)*8], ",") // its third sentence
		if want := fmt.Sprintf("written afresh from sentence 3 on; %d of 8", n+1); f[7] != want || f[8] != "" || f[12] != "" {
			t.Errorf("have %v, want %s without rank and advantage", f, want)
		}
		r, err := strconv.ParseFloat(f[9], 64)
		if err != nil {
			t.Fatal(err)
		}
		mean += r / freshN
	}
	if want := s.freshAt(4, 2).mean; math.Abs(mean-want) > 1e-12 {
		t.Errorf("their mean is %g, the page's %g", mean, want)
	}
	s, _ = s.Do("sentence", "2")
	_, text = Export(&s)
	lines = strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; len(lines) != 1+9*8+fresh || !strings.HasPrefix(last, "test,test,ws-logp,true,false,42,5,without sentence 3,,0.15") || strings.Count(last, ",") != strings.Count(lines[0], ",") {
		t.Errorf("the what-if reads %s", last)
	}
	s = New(nil)
	if _, text := Export(&s); text != "" {
		t.Errorf("have %q", text)
	}
}

// What cannot be asked without the server leaves the page as it is, choices included.
func TestOfflineKeepsTheChoice(t *testing.T) {
	for _, a := range [][2]string{{"model", "other"}, {"example", "world:0"}, {"again", ""}} {
		s := testState()
		s.World = []WorldQuestion{{Question: "q", Answer: "a"}}
		s.Link = Offline
		before := s.Choice
		s, out := s.Do(a[0], a[1])
		if !reflect.DeepEqual(s.Choice, before) || s.Notice == nil || s.Notice.Code != codeOffline || len(out) != 0 {
			t.Errorf("%s: %+v, %+v", a[0], s.Choice, s.Notice)
		}
		// The notice is said once; what works goes on.
		if s, _ = s.Do("mode", "am"); s.Mode != reward.AM {
			t.Errorf("%s: the formula does not change beside the notice", a[0])
		}
	}
}

// A question that is refused does not empty the page: what was shown comes back.
func TestARefusalKeepsTheReading(t *testing.T) {
	s := testState().receives(&wire.Welcome{Session: "s", Models: []wire.Model{{Name: "test"}}})
	before, reading := s.Choice, s.Reading
	s, _ = s.Do("question", "long")
	s, _ = s.Do("answer", "too")
	s, out := s.Do("ask", "")
	id := out[len(out)-1].Header().ID
	s = s.receives(&wire.Queued{Head: wire.Head{ID: id, Seq: 1}})
	s = s.receives(&wire.Failed{Head: wire.Head{ID: id, Seq: 2}, Code: wire.CodeTooLong, Message: "question (200 tokens) is too long"})
	if !reflect.DeepEqual(s.Choice, before) || s.Reading != reading || s.Notice == nil || s.Notice.Code != wire.CodeTooLong {
		t.Errorf("have %+v, %+v", s.Choice, s.Notice)
	}
	if s.Typing.Question != "long" {
		t.Error("what was typed is gone")
	}
}

// With the clip off there is a way to switch it on, and R′ is not called a gain.
func TestClipIsASwitch(t *testing.T) {
	s := testState()
	if strings.Contains(Fragment(&s, "notes"), "note-clip") || !strings.Contains(Fragment(&s, "pipeline"), "Gain") {
		t.Error("with the clip on")
	}
	s, _ = s.Do("clip-off", "")
	if have := Fragment(&s, "notes"); !strings.Contains(have, `data-act="clip" data-value="true">Switch the clip on<`) || strings.Contains(Fragment(&s, "pipeline"), "Gain") {
		t.Errorf("with the clip off: %s", have)
	}
	s, _ = s.Do("clip", "true")
	if !s.Clip || strings.Contains(Fragment(&s, "notes"), "note-clip") {
		t.Error("the clip stays off")
	}
}
