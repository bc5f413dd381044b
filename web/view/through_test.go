package view

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// What the models of steps 10 and 20 make of the test's chains: of each certainty so
// much of what was missing, without reasoning and after it.
var testSteps = []struct {
	model       string
	base, after float64
}{{"r@10", 0.5, 0.2}, {"r@20", 0.1, 0.6}}

func closer(p []float64, share float64) []float64 {
	out := make([]float64, len(p))
	for i, x := range p {
		out[i] = math.Log(x + share*(1-x))
	}
	return out
}

// readOf is the server's answer of one of these models.
func readOf(id string, k int) *wire.Scored {
	m := &wire.Scored{Head: wire.Head{ID: id}, Model: testSteps[k].model}
	for _, c := range testC {
		m.Variants = append(m.Variants, wire.ScoredVariant{LogProbs: closer(c, testSteps[k].after)})
	}
	m.Variants = append(m.Variants, wire.ScoredVariant{LogProbs: closer(testBase, testSteps[k].base)})
	return m
}

var testCourse = wire.State{Run: "r", Method: "nrt", Mode: "ws-logp", Status: wire.StatusDone, Step: 20, Of: 20, Saved: true,
	Checkpoints: []wire.Checkpoint{{Model: "test"}, {Step: 10, Model: "r@10"}, {Step: 20, Model: "r@20"}}}

// courseExample is the test's example as the models of a run have read it.
func courseExample() Example {
	e := testExample()
	e.Runs = []wire.State{testCourse}
	for k := range testSteps {
		e.Reads = append(e.Reads, *readOf("", k))
	}
	return e
}

func courseWelcome() *wire.Welcome {
	return &wire.Welcome{Session: "s1", Models: []wire.Model{{Name: "test"}, {Name: "r@10"}, {Name: "r@20"}}, Runs: []wire.State{testCourse}}
}

// The slider changes the numbers to those of the step's model, under every formula and
// by trainer/reward, and nothing of the chains; back at its start all is as it was.
func TestSliderReadsTheSameChains(t *testing.T) {
	s := New([]Example{courseExample()})
	first := s
	before := Fragments(&first)
	for k := range testSteps {
		now, out := s.Do("step", intText(k+1))
		if len(out) != 0 {
			t.Fatalf("asks %v", out)
		}
		for _, o := range []reward.Options{{Clip: true}, {}, {Clip: true, NormalizeWeights: true}} {
			for _, o.Mode = range reward.Modes() {
				x, _ := now.Do("clip", strconv.FormatBool(o.Clip))
				x, _ = x.Do("normalize", strconv.FormatBool(o.NormalizeWeights))
				x, _ = x.Do("mode", o.Mode.String())
				var refs [][]float64
				for _, c := range testC {
					refs = append(refs, closer(c, testSteps[k].after))
				}
				want, err := reward.ScoreGroup(refs, closer(testBase, testSteps[k].base), o)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(*x.group(), want) {
					t.Errorf("%s, %+v: the group is not that of its numbers", testSteps[k].model, o)
				}
			}
		}
		step := "step " + intText(10*(k+1))
		if now.Reader != testSteps[k].model || now.Model != "test" || !strings.HasPrefix(now.Say, "Step "+intText(10*(k+1))+" reads these chains. Chain 5, rank ") {
			t.Errorf("read by %q, written by %q, says %q", now.Reader, now.Model, now.Say)
		}
		if have, want := Fragment(&now, "through"), "These eight chains, written before training, are read by the model of "+step+"."; have != want {
			t.Errorf("have %q, want %q", have, want)
		}
		wants(t, Fragment(&now, "strip"), "How sure is the model of "+step+" of each answer word")
		wants(t, Fragment(&now, "chains"), step+" reads; A is a what-if")
		wants(t, Fragment(&now, "train"), step+" <small>of 20 · done · reads these chains", `aria-valuetext="`+step+`"`)
		for i := range now.Reading.Chains {
			have, want := now.Reading.Chains[i], s.Reading.Chains[i]
			if have.Ref = want.Ref; !reflect.DeepEqual(have, want) {
				t.Errorf("%s: chain %d is another one", step, i+1)
			}
		}
		if Fragment(&now, "strip") == before["strip"] || Fragment(&now, "why") == before["why"] || Fragment(&now, "dots") == before["dots"] {
			t.Errorf("%s shows the numbers of the start", step)
		}
		s = now
	}
	s, out := s.Do("step", "0")
	if len(out) != 0 || s.Reader != "" {
		t.Fatalf("asks %v, read by %q", out, s.Reader)
	}
	for id, html := range Fragments(&s) {
		if id != "status" && html != before[id] {
			t.Errorf("back at the start %s differs:\n%s\n%s", id, html, before[id])
		}
	}
	for id, html := range Fragments(&first) {
		if html != before[id] {
			t.Errorf("%s of the state before changed", id)
		}
	}
}

// Under another reader the best chain is another one; the shown one stays.
func TestSliderKeepsTheShownChain(t *testing.T) {
	e := courseExample()
	x := e.Reads[0].Variants
	x[4], x[5] = x[5], x[4] // for step 10, chain 6 is what chain 5 was
	s := New([]Example{e})
	text := Fragment(&s, "chain")
	s, _ = s.Do("step", "1")
	if s.scores().order[0] != 5 || s.chain() != 4 || !strings.Contains(s.Say, "Chain 5, rank 2") {
		t.Errorf("first is chain %d, shown chain %d, says %q", s.scores().order[0]+1, s.chain()+1, s.Say)
	}
	if !strings.Contains(Fragment(&s, "chain"), "Chain 5") || !strings.Contains(text, "Chain 5") {
		t.Error("another text is shown")
	}
}

// What was asked stays the writer's: the marks at the steps, and the answer that is
// gone back to.
func TestOtherReadersAreNoAnswers(t *testing.T) {
	s, id := live(t)
	for _, m := range pieces(id) {
		s = s.receives(m)
	}
	st := testCourse
	st.Checkpoints = []wire.Checkpoint{{Model: "other"}, {Step: 10, Model: "r@10"}, {Step: 20, Model: "r@20"}}
	s.Models = append(s.Models, wire.Model{Name: "r@10"}, wire.Model{Name: "r@20"})
	s = s.receives(&st)
	s, out := s.Do("run", "r")
	m := reread(t, out)
	s = s.receives(readOf(m.ID, 0))
	marks := s.marks(s.run("r"))
	s, _ = s.Do("step", "1")
	s = s.receives(readOf(m.ID, 1)) // kept while another reads
	if s.Reading.By != "r@10" || len(marks) != 1 || !reflect.DeepEqual(s.marks(s.run("r")), marks) {
		t.Errorf("shown by %q, the marks are %v, were %v", s.Reading.By, s.marks(s.run("r")), marks)
	}
	s, _ = s.Do("model", "test")
	if s, _ = s.Do("model", "other"); !strings.HasPrefix(s.Say, "All 8 chains ready. Best: chain 5, ") || s.Reading.By != "" || s.Reading.Ask.Model != "other" || s.Reader != "" {
		t.Errorf("gone back to, it is shown by %q", s.Reading.By)
	}
	// An address leaves the step of the slider behind.
	s, _ = s.Do("step", "1")
	c, err := ParseHash("e=kinship")
	if err != nil {
		t.Fatal(err)
	}
	c.Model = "other"
	if s, _ = s.Open(c); s.stepAt(s.run("r")) != 0 {
		t.Errorf("the slider is at %d", s.stepAt(s.run("r")))
	}
}

// The keys go along the steps as the slider does, and stop at its ends.
func TestKeysGoAlongTheSteps(t *testing.T) {
	s := New([]Example{courseExample()})
	for i, x := range []struct{ act, reader string }{{"train-next", "r@10"}, {"train-next", "r@20"}, {"train-next", "r@20"}, {"train-prev", "r@10"}, {"train-prev", ""}, {"train-prev", ""}} {
		if s, _ = s.Do(x.act, ""); s.Reader != x.reader || s.Reading.By != x.reader {
			t.Errorf("%d: %s: read by %q, shown by %q", i, x.act, s.Reader, s.Reading.By)
		}
	}
}

// An address says who reads, and what the slider does; one from before says neither.
func TestAddressSaysWhoReads(t *testing.T) {
	s := New([]Example{courseExample()})
	for _, a := range [][2]string{{"mode", "gm"}, {"step", "2"}, {"chain", "2"}} {
		s, _ = s.Do(a[0], a[1])
	}
	hash := s.Choice.Hash()
	wants(t, hash, "read=r%4020")
	c, err := ParseHash(hash)
	if err != nil || !reflect.DeepEqual(c, s.Choice) {
		t.Fatalf("have %+v (%v)", c, err)
	}
	have, out := New([]Example{courseExample()}).Open(c)
	if len(out) != 0 {
		t.Errorf("asks %v", out)
	}
	for id, html := range Fragments(&have) {
		if want := Fragment(&s, id); id != "status" && html != want {
			t.Errorf("%s differs:\n%s\n%s", id, html, want)
		}
	}
	old, err := ParseHash("e=kinship&model=test&mode=am&z=3")
	if err != nil || old.Reader != "" || old.NewChains {
		t.Errorf("an old address reads %+v (%v)", old, err)
	}
	if _, err := ParseHash("slide=maybe"); err == nil {
		t.Error("slide=maybe is taken")
	}
	if c, err := ParseHash("slide=new"); err != nil || !c.NewChains || !strings.Contains(c.Hash(), "slide=new") {
		t.Errorf("have %+v (%v)", c, err)
	}
	// An address is opened before the server is there: who is to read waits for it.
	c.Reader = "r@10"
	s, _ = New([]Example{testExample()}).Open(c)
	s, out = s.Receive(courseWelcome())
	m := reread(t, out)
	if s.Reading.By != "" || m.Models[0] != "r@10" {
		t.Errorf("shown by %q, asks %v", s.Reading.By, m.Models)
	}
	if s = s.receives(readOf(m.ID, 0)); s.Reading.By != "r@10" {
		t.Errorf("shown by %q", s.Reading.By)
	}
}

// reread is the one request in out that asks models for what they make of the chains.
func reread(t *testing.T, out []wire.Message) *wire.Score {
	t.Helper()
	var list []*wire.Score
	for _, m := range out {
		if x, ok := m.(*wire.Score); ok && len(x.Models) > 0 {
			list = append(list, x)
		}
	}
	if len(list) != 1 {
		t.Fatalf("have %v, want one request of several models", out)
	}
	if err := list[0].Validate(); err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// On a fast model the chains are read at all kept steps without being asked: the ids
// as they were sampled, then none. Each answer is there as it comes, once.
func TestReadingThroughByItself(t *testing.T) {
	s, out := New([]Example{testExample()}).Receive(courseWelcome())
	m := reread(t, out)
	if !slices.Equal(m.Models, []string{"r@10", "r@20"}) || len(m.Variants) != 9 || len(m.Variants[8].Parts) != 0 {
		t.Fatalf("asks %v for %d variants", m.Models, len(m.Variants))
	}
	for i, c := range s.Reading.Chains {
		var ids []int32
		for _, x := range c.Tokens {
			ids = append(ids, x.ID)
		}
		if len(m.Variants[i].Parts) != 1 || !slices.Equal(m.Variants[i].Parts[0].IDs, ids) {
			t.Errorf("chain %d is sent as %+v", i+1, m.Variants[i])
		}
	}
	wants(t, Fragment(&s, "train"), "The other steps are reading these chains.")
	if _, again := s.Do("colour", "weight"); len(again) != 0 {
		t.Errorf("asked twice: %v", again)
	}
	// The slider is ahead of the answers: the page stays, and says so.
	s, out = s.Do("step", "2")
	if len(out) != 0 || s.Reading.By != "" || s.Say != "Step 20 is reading these chains." {
		t.Fatalf("asks %v, shown by %q, says %q", out, s.Reading.By, s.Say)
	}
	wants(t, Fragment(&s, "train"), "is reading these chains")
	s = s.receives(readOf(m.ID, 0))
	if s.Reading.By != "" {
		t.Errorf("shown by %q", s.Reading.By)
	}
	if s = s.receives(readOf(m.ID, 1)); s.Reading.By != "r@20" {
		t.Errorf("shown by %q", s.Reading.By)
	}
	s = s.receives(&wire.End{Head: wire.Head{ID: m.ID}})
	if s, out = s.Do("step", "1"); len(out) != 0 && out[0].(*wire.Score).Models != nil || s.Reading.By != "r@10" {
		t.Errorf("asks %v, shown by %q", out, s.Reading.By)
	}
	want := New([]Example{courseExample()})
	want, _ = want.Do("step", "1")
	for _, id := range []string{"strip", "chains", "dots", "slope", "through"} {
		if Fragment(&s, id) != Fragment(&want, id) {
			t.Errorf("asked, %s differs from the saved one", id)
		}
	}
}

// On a slow model a step reads as the slider comes to it, one request at a time, and
// all of them when that is asked for.
func TestReadingThroughWhenAsked(t *testing.T) {
	e := testExample()
	e.End.Seconds = 30
	s, out := New([]Example{e}).Receive(courseWelcome())
	for _, m := range out {
		if x, ok := m.(*wire.Score); ok && len(x.Models) > 0 {
			t.Fatalf("asked by itself: %v", x.Models)
		}
	}
	wants(t, Fragment(&s, "train"), `data-act="through">Read at all 3 steps</button>`)
	s, out = s.Do("step", "1")
	m := reread(t, out)
	if !slices.Equal(m.Models, []string{"r@10"}) {
		t.Fatalf("asks %v", m.Models)
	}
	s, out = s.Do("step", "2")
	next := reread(t, out)
	if !slices.Equal(next.Models, []string{"r@20"}) || !slices.ContainsFunc(out, func(x wire.Message) bool { return x.Type() == "cancel" && x.Header().ID == m.ID }) {
		t.Fatalf("have %v", out)
	}
	// What the first would have said comes too late.
	s = s.receives(readOf(m.ID, 0))
	if _, known := s.Reading.sightOf("r@10"); known {
		t.Error("an answer that was called off is taken")
	}
	s = s.receives(readOf(next.ID, 1))
	s = s.receives(&wire.End{Head: wire.Head{ID: next.ID}})
	s, out = s.Do("through", "")
	if all := reread(t, out); !slices.Equal(all.Models, []string{"r@10"}) {
		t.Errorf("asks %v", all.Models)
	}
}

// A step that will not read is said once, and the page stays with the step it has.
func TestReadingThroughRefused(t *testing.T) {
	s, out := New([]Example{testExample()}).Receive(courseWelcome())
	m := reread(t, out)
	s = s.receives(readOf(m.ID, 0))
	s, _ = s.Do("step", "1")
	s, _ = s.Do("step", "2")
	s, out = s.Receive(&wire.Failed{Head: wire.Head{ID: m.ID}, Code: wire.CodeNoModel, Message: `there is no model "r@20" here`, Field: "models[1]"})
	if s.Notice == nil || s.Reader != "r@10" || s.Reading.By != "r@10" || s.through.id != "" {
		t.Fatalf("have %+v, read by %q, shown by %q", s.Notice, s.Reader, s.Reading.By)
	}
	for _, m := range out {
		if x, ok := m.(*wire.Score); ok && len(x.Models) > 0 {
			t.Errorf("asks again by itself: %v", x.Models)
		}
	}
	wants(t, Fragment(&s, "train"), "step 10 <small>of 20")
	// Coming to it again is another try.
	_, out = s.Do("step", "2")
	if m := reread(t, out); !slices.Equal(m.Models, []string{"r@20"}) {
		t.Errorf("asks %v", m.Models)
	}
	// Answers that do not fit are none.
	for name, change := range map[string]func(*wire.Scored){
		"a chain less": func(m *wire.Scored) { m.Variants = m.Variants[1:] },
		"a word less in all": func(m *wire.Scored) {
			for i := range m.Variants {
				m.Variants[i].LogProbs = m.Variants[i].LogProbs[1:]
			}
		},
		"a word less":       func(m *wire.Scored) { m.Variants[3].LogProbs = m.Variants[3].LogProbs[1:] },
		"no number":         func(m *wire.Scored) { m.Variants[3].LogProbs[1] = math.NaN() },
		"the one who wrote": func(m *wire.Scored) { m.Model = "test" },
		"nobody":            func(m *wire.Scored) { m.Model = "" },
	} {
		x := readOf("", 1)
		change(x)
		if r := testState().Reading; r.read(x) != r {
			t.Errorf("%s is taken", name)
		}
	}
}

// Without a server the saved numbers work; what is not saved is said and not shown.
func TestReadingThroughOffline(t *testing.T) {
	e := courseExample()
	e.Reads = e.Reads[:1]
	s := New([]Example{e})
	s.Link = Offline
	s, _ = s.Do("step", "1")
	if s.Reading.By != "r@10" || s.Notice != nil {
		t.Fatalf("shown by %q, %+v", s.Reading.By, s.Notice)
	}
	hash := s.Hash()
	s, out := s.Do("step", "2")
	if len(out) != 0 || s.Reading.By != "r@10" || s.Notice == nil || s.Hash() != hash {
		t.Errorf("asks %v, shown by %q at %s, %+v", out, s.Reading.By, s.Hash(), s.Notice)
	}
	wants(t, Fragment(&s, "train"), "step 10 <small>of 20")
}

// New chains are the step's own, as they were before there was a choice; leaving
// chains that a step has only read for new ones asks that step.
func TestNewChains(t *testing.T) {
	s, _ := New([]Example{courseExample()}).Receive(courseWelcome())
	asks := func(out []wire.Message) string {
		for _, m := range out {
			if a, ok := m.(*wire.Ask); ok {
				return a.Model
			}
		}
		return ""
	}
	same, out := s.Do("slide", "new")
	if !same.NewChains || asks(out) != "" || same.Reading != s.Reading {
		t.Errorf("the choice alone asks %v", out)
	}
	wants(t, Fragment(&same, "train"), `id="slide-new" data-act="slide" data-value="new" aria-pressed="true"`)
	wants(t, Fragment(&same, "through"), "writes new chains")
	if next, out := same.Do("step", "1"); asks(out) != "r@10" || next.Model != "r@10" || next.Reader != "" {
		t.Errorf("asks %v, model %q, reader %q", out, next.Model, next.Reader)
	}
	s, _ = s.Do("step", "2")
	s, out = s.Do("slide", "new")
	if asks(out) != "r@20" || s.Model != "r@20" || s.Reader != "" || s.stepAt(s.run("r")) != 20 {
		t.Errorf("asks %v, model %q, reader %q", out, s.Model, s.Reader)
	}
	// Offline it cannot be: the page stays with what it has, the choice too.
	off := New([]Example{courseExample()})
	off.Link = Offline
	off, _ = off.Do("step", "2")
	if off, _ = off.Do("slide", "new"); off.NewChains || off.Reading.By != "r@20" || off.Notice == nil {
		t.Errorf("new %v, shown by %q, %+v", off.NewChains, off.Reading.By, off.Notice)
	}
}

// What is asked about sentences is asked of the model that reads, and what another one
// said of them is not shown as its; what the reader made of the chain stays.
func TestWhatIfsAreTheReaders(t *testing.T) {
	s, _ := New([]Example{courseExample()}).Receive(courseWelcome())
	s, out := s.Do("sentence", "2") // scored with the example: its answer alone is asked
	s = s.answers(out)
	wrote := s.whatIf()
	if wrote == nil {
		t.Fatal("the saved what-if is not known")
	}
	s, out = s.Do("step", "1")
	if s.whatIf() != nil {
		t.Error("the writer's what-if is shown as the reader's")
	}
	if s.losses(4) != nil || s.freshScores(4) != nil {
		t.Error("the writer's sentences are shown as the reader's")
	}
	own, parts := false, false
	for _, m := range out {
		if x, ok := m.(*wire.Score); ok {
			own, parts = own || x.Own, parts || !x.Own
			if x.Model != "r@10" {
				t.Errorf("%s asks %q", x.ID, x.Model)
			}
		}
	}
	if m := s.Reading.Resample(4, []int{0}); m.Model != "r@10" {
		t.Errorf("chains are written afresh by %q", m.Model)
	}
	if !own || !parts || s.Edit.none() || s.edited() != 4 {
		t.Errorf("the edit is %+v, asked %v", s.Edit, out)
	}
	s = s.answers(out)
	if s.losses(4) == nil {
		t.Error("the reader's sentences are not known")
	}
	s, _ = s.Do("step", "0")
	if have := s.whatIf(); have == nil || have.R != wrote.R {
		t.Errorf("back at the start the what-if is %+v, was %+v", have, wrote)
	}
}

// The picture has the reward of the shown chain and of none at every step, by
// trainer/reward, and says in words what became of the difference.
func TestTheLifeOfAChain(t *testing.T) {
	s := New([]Example{courseExample()})
	for _, mode := range reward.Modes() {
		s, _ = s.Do("mode", mode.String())
		x := s.life()
		if x == nil || !slices.Equal(x.steps, []int{0, 10, 20}) || x.at != 0 || x.wrote != 0 {
			t.Fatalf("have %+v", x)
		}
		table := Fragment(&s, "train")
		for k := range 3 {
			ref, base := logs(testC[4]), logs(testBase)
			if k > 0 {
				ref, base = closer(testC[4], testSteps[k-1].after), closer(testBase, testSteps[k-1].base)
			}
			sc, err := reward.Score(ref, base, s.Options())
			if err != nil {
				t.Fatal(err)
			}
			if x.r[k] != sc.R || x.base[k] != sc.Base {
				t.Errorf("%s, step %d: have %g and %g, want %g and %g", mode, x.steps[k], x.r[k], x.base[k], sc.R, sc.Base)
			}
			wants(t, table, "</th><td>"+number(sc.R)+"</td><td>"+number(sc.Base)+"</td>", "Step "+intText(x.steps[k])+": reward "+number(sc.R)+", no reasoning "+number(sc.Base)+".")
		}
	}
	s, _ = s.Do("mode", "am")
	x := s.life()
	if x.r[2]-x.base[2] <= x.r[0]-x.base[0] {
		t.Fatal("the test needs a gain that rises")
	}
	wants(t, Fragment(&s, "train"), "From step 0 to 20 its gain over no reasoning rises from "+gain(x.r[0], x.base[0])+" to "+gain(x.r[2], x.base[2])+": the same words came to help more.")
	// Where each step's model has weights of its own that is said, in the picture's table
	// too, and only there.
	for _, mode := range reward.Modes() {
		s, _ = s.Do("mode", mode.String())
		own := mode == reward.WSInvP || mode == reward.WSLogP
		for _, words := range []string{", each by its own weights: ", "rewards of two steps are not on one scale"} {
			if have := strings.Contains(Fragment(&s, "train"), words); have != own {
				t.Errorf("%s: %q is said: %t, want %t", mode, words, have, own)
			}
		}
	}
	// The other half: surer with and without it.
	e := courseExample()
	e.Reads = e.Reads[:1]
	s = New([]Example{e})
	s, _ = s.Do("mode", "am")
	wants(t, Fragment(&s, "train"), "From step 0 to 10 its gain over no reasoning falls", ": the model came to be surer without them.", "<td>not read yet</td>")
	s, _ = s.Do("step", "1")
	wants(t, Fragment(&s, "train"), `class="pt on"`, "<b>Chain 5</b> at 10")
	s = testState()
	if strings.Contains(Fragment(&s, "train"), `class="life"`) {
		t.Error("there is a picture without a run")
	}
}

// The runs that came with the page go where the server does not have them, and are not
// doubled where it has.
func TestRunsThatCameWithThePage(t *testing.T) {
	s := New([]Example{courseExample()})
	if s.Run != "r" || !strings.Contains(Fragment(&s, "train"), `id="step"`) || !strings.Contains(Fragment(&s, "train"), `aria-valuetext="step 0" disabled>`) {
		t.Errorf("before the server is there the panel says %s", Fragment(&s, "train"))
	}
	if have := Curves(&s); !strings.HasPrefix(have, `{"runs":[],`) {
		t.Errorf("curves without a value: %s", have)
	}
	if with := s.receives(courseWelcome()); len(with.Runs) != 1 || with.Run != "r" || !strings.Contains(Fragment(&with, "train"), `aria-valuetext="step 0">`) {
		t.Errorf("have %+v", with.Runs)
	}
	w := courseWelcome()
	w.Runs = nil
	if without := s.receives(w); len(without.Runs) != 0 || without.Run != "" || strings.Contains(Fragment(&without, "train"), `id="step"`) {
		t.Errorf("have %+v", without.Runs)
	}
}

// New chains by the same model end the reading by another; the slider is where that
// model is.
func TestNewChainsHaveNoOtherReader(t *testing.T) {
	s, _ := New([]Example{courseExample()}).Receive(courseWelcome())
	s, _ = s.Do("step", "2")
	s, out := s.Do("again", "")
	if s.Reader != "" || s.Model != "test" || s.stepAt(s.run("r")) != 0 || out[len(out)-1].(*wire.Ask).Model != "test" {
		t.Errorf("reader %q, model %q, step %d", s.Reader, s.Model, s.stepAt(s.run("r")))
	}
}

func TestExamplesWithReadsSurviveTheirFile(t *testing.T) {
	data, err := WriteExamples([]Example{courseExample()})
	if err != nil {
		t.Fatal(err)
	}
	list, err := ReadExamples(data)
	if err != nil || !reflect.DeepEqual(list[0].Reads, courseExample().Reads) {
		t.Fatalf("differs after a round (%v)", err)
	}
	e := courseExample()
	e.Reads[1].Variants = e.Reads[1].Variants[1:]
	if data, err = WriteExamples([]Example{e}); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadExamples(data); err == nil || !strings.Contains(err.Error(), "kinship: reads: 1 of 2 models fit") {
		t.Errorf("have %v", err)
	}
}
