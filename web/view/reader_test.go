package view

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"nrt/web/wire"
)

// following is a page that follows the test's course while a question is under way.
func following(t *testing.T) (State, string) {
	t.Helper()
	s, id := live(t)
	for _, step := range testSteps {
		s.Models = append(s.Models, wire.Model{Name: step.model, Vocab: s.Models[0].Vocab})
	}
	st := testCourse
	st.Checkpoints = slices.Clone(st.Checkpoints)
	st.Checkpoints[0].Model = s.Reading.Ask.Model
	s = s.receives(&st)
	s, _ = s.Do("run", "r")
	return s, id
}

// While chains are written, the step that is to read them waits, and says so. Where none
// comes to be read, it waits no longer.
func TestReaderWaits(t *testing.T) {
	s, id := following(t)
	all := pieces(id)
	s = s.receives(all[0])
	s, _ = s.Do("step", "1")
	wants(t, Fragment(&s, "train"), "step 10 <small>of 20", " · waits to read these chains")
	for name, end := range map[string]wire.Message{
		"stopped": &wire.End{Head: wire.Head{ID: id}, Cancelled: true},
		"failed":  &wire.Failed{Head: wire.Head{ID: id}, Code: wire.CodeInternal, Message: "It broke."},
	} {
		over := s.receives(end)
		if over.Reader != "" || strings.Contains(Fragment(&over, "train"), "these chains are") || strings.Contains(Fragment(&over, "train"), "waits") {
			t.Errorf("%s: read by %q: %s", name, over.Reader, Fragment(&over, "train"))
		}
		if over, out := over.Do("step", "2"); over.Reader != "" || over.Reading.Ask.Model != "r@20" || len(out) == 0 {
			t.Errorf("%s: the next step is shown by %q, read by %q", name, over.Reading.Ask.Model, over.Reader)
		}
	}
	s.Link = Waiting
	wants(t, Fragment(&s, "train"), " · waits to read these chains")
	s.Link = Live
	for _, m := range all[1:] {
		s = s.receives(m)
	}
	wants(t, Fragment(&s, "train"), " · is reading these chains")
	s.Link = Waiting
	wants(t, Fragment(&s, "train"), " · waits to read these chains")
}

// Of a group that was stopped the complete chains are read, also while the page shows
// one that is not.
func TestReaderOfStoppedGroup(t *testing.T) {
	s, id := following(t)
	for _, m := range pieces(id) {
		if f, ok := m.(*wire.Frame); ok {
			f.Done = slices.DeleteFunc(slices.Clone(f.Done), func(d wire.Done) bool { return d.Chain == 2 })
		}
		if _, ok := m.(*wire.End); ok {
			m = &wire.End{Head: wire.Head{ID: id}, Cancelled: true}
		}
		s = s.receives(m)
	}
	if s.Reading.Status != Cancelled || s.Reading.scored(2) || s.Reading.done() != len(testC)-1 {
		t.Fatalf("%v, %d chains", s.Reading.Status, s.Reading.done())
	}
	s = s.throughOver() // as if nothing had been asked yet
	s.unread = nil
	s, _ = s.Do("chain", "2")
	s = s.throughOver()
	s, out := s.Do("step", "1")
	m := reread(t, out)
	x := readOf(m.ID, 0)
	x.Variants = slices.Delete(x.Variants, 2, 3)
	if s = s.receives(x); s.Reading.By != "r@10" || s.chain() != 2 {
		t.Errorf("shown by %q, chain %d", s.Reading.By, s.chain()+1)
	}
}

// What cannot be had without a server is said aloud, and nothing else is.
func TestRefusedStepIsSaid(t *testing.T) {
	s := New([]Example{courseExample()})
	s.Link = Waiting
	s, _ = s.Do("slide", "new")
	for _, a := range [][2]string{{"step", "1"}, {"again", ""}} {
		s.Say, s.Notice = "", nil
		now, out := s.Do(a[0], a[1])
		if len(out) != 0 || now.Notice == nil || now.Say != now.Notice.Text || now.stepAt(now.run("r")) != 0 {
			t.Errorf("%s: asks %v, says %q, notes %v", a[0], out, now.Say, now.Notice)
		}
	}
	r := *s.Reading
	r.sights = nil
	s.Reading, s.Say = &r, ""
	s, _ = s.Do("slide", "same")
	if s, _ = s.Do("step", "2"); s.Notice == nil || s.Say != s.Notice.Text || s.Reader != "" {
		t.Errorf("read by %q, says %q", s.Reader, s.Say)
	}
}

// Read at all steps, the chain's way is said; where the steps will not read, the page
// does not ask on.
func TestCourseIsSaid(t *testing.T) {
	e := testExample()
	e.End.Seconds = 30
	first, _ := New([]Example{e}).Receive(courseWelcome())
	s, out := first.Do("through", "")
	m := reread(t, out)
	if s.Say != "All steps are to read these chains." {
		t.Errorf("says %q", s.Say)
	}
	for k := range testSteps {
		s = s.receives(readOf(m.ID, k))
	}
	s = s.receives(&wire.End{Head: wire.Head{ID: m.ID}})
	if !strings.HasPrefix(s.Say, "All is read. From step 0 to 20 its gain falls from ") {
		t.Errorf("says %q", s.Say)
	}
	s, out = first.Do("through", "")
	s = s.receives(&wire.Failed{Head: wire.Head{ID: reread(t, out).ID}, Code: wire.CodeTooLong, Message: "too long"})
	wants(t, Fragment(&s, "train"), "The other steps cannot read these chains.")
	if strings.Contains(Fragment(&s, "train"), `data-act="through"`) {
		t.Error("it can be asked for once more at once")
	}
	s, out = first.Do("step", "1")
	s = s.receives(&wire.Failed{Head: wire.Head{ID: reread(t, out).ID}, Code: wire.CodeTooLong, Message: "variant 2 has 160 tokens"})
	if want := "Step 10 cannot read these chains: variant 2 has 160 tokens."; s.Say != want || s.Notice.Text != want {
		t.Errorf("says %q, notes %q", s.Say, s.Notice.Text)
	}
}

// What the words are said to have come to do is true of gains below nought, too.
func TestVerdictBelowNothing(t *testing.T) {
	s := New([]Example{courseExample()})
	for _, x := range []struct {
		before, after float64
		ends          string
	}{
		{0.1, 0.1, "the same words help about as much."}, {0.1, 0.2, "the same words came to help more."},
		{-0.2, -0.2, "the same words still do not help."}, {-0.2, -0.1, "the same words came to hurt less."},
		{-0.2, 0.1, "the same words came to help more."}, {0.2, -0.1, "the same words came to help less."},
	} {
		l := &life{steps: []int{0, 20}, r: []float64{0.5 + x.before, 0.5 + x.after}, base: []float64{0.5, 0.5}, sure: []float64{0.5, 0.5}}
		if have := s.lifeVerdict(l, 0, 1); !strings.HasSuffix(have, x.ends) {
			t.Errorf("%v to %v: %q", x.before, x.after, have)
		}
	}
	// Under weights of its own no reasoning may earn less the surer the model is.
	l := &life{steps: []int{0, 20}, r: []float64{0.5, 0.3}, base: []float64{0.3, 0.2}, sure: []float64{0.5, 0.7}}
	if have := s.lifeVerdict(l, 0, 1); !strings.HasSuffix(have, "the model came to be surer without them.") {
		t.Errorf("surer: %q", have)
	}
	l.base, l.sure = []float64{0.2, 0.25}, []float64{0.7, 0.5}
	if have := s.lifeVerdict(l, 0, 1); !strings.HasSuffix(have, "the same words came to help less.") {
		t.Errorf("less sure: %q", have)
	}
}

// Under another reader nothing pulls: the page says so where it shows the pull.
func TestPullOfAnotherReader(t *testing.T) {
	s := New([]Example{courseExample()})
	s, _ = s.Do("phase", "6")
	const whatIf = "A what-if: nothing trains on this."
	if strings.Contains(Fragment(&s, "pipeline"), whatIf) {
		t.Error("what the model trains on is called a what-if")
	}
	s, _ = s.Do("step", "2")
	wants(t, Fragment(&s, "pipeline"), whatIf)
}

// A change in points is the difference of the two per cents beside it.
func TestPointsAreOfWhatIsShown(t *testing.T) {
	per := func(text string) int {
		n, err := strconv.Atoi(strings.TrimLeft(text, "<>"))
		switch {
		case err != nil:
			t.Fatalf("no per cent: %q", text)
		case text == "<1":
			return 0
		case text == ">99":
			return 100
		}
		return n
	}
	mark := regexp.MustCompile(`(±|▲ |▼ )(\d+)<`)
	for i := range 40 {
		for j := range 40 {
			before, after := math.Pow(float64(i)/39, 1.3), math.Pow(float64(j)/39, 0.7)
			p := &page{}
			changeMark(p, before, after)
			m := mark.FindStringSubmatch(p.String())
			if m == nil {
				t.Fatalf("%q", p)
			}
			have := per(m[2])
			if m[1] == "▼ " {
				have = -have
			}
			if want := per(percent(after)) - per(percent(before)); have != want {
				t.Fatalf("%s → %s is marked %s%s", percent(before), percent(after), m[1], m[2])
			}
		}
	}
	if points(0.366, 0.374) != 0 || points(0.374, 0.376) != 1 {
		t.Error("a change that the per cents do not show is one")
	}
}

// A link with a question and without a model is asked of the server's first.
func TestLinkWithoutModel(t *testing.T) {
	c, err := ParseHash("q=Who%3F&a=hana&z=2&read=r%4010")
	if err != nil {
		t.Fatal(err)
	}
	s := New([]Example{courseExample()})
	s.Link = Loading
	s, out := s.Open(c)
	if len(out) != 0 || s.Notice != nil || s.Reading.Ask.Question != "Who?" || s.Reading.Status != Asked {
		t.Fatalf("asks %v, notes %v, shows %q", out, s.Notice, s.Reading.Ask.Question)
	}
	s, out = s.Receive(courseWelcome())
	i := slices.IndexFunc(out, func(m wire.Message) bool { return m.Type() == "ask" })
	if i < 0 || out[i].(*wire.Ask).Model != "test" || s.Model != "test" || s.Chain != 1 || s.Reader != "r@10" {
		t.Errorf("asks %v of %q; chain %d, read by %q", out, s.Model, s.Chain, s.Reader)
	}
	// What is wrong with it otherwise is said at once.
	c.Answer = strings.Repeat("x ", wire.MaxAnswer)
	s = New([]Example{courseExample()})
	s.Link = Loading
	if s, out = s.Open(c); len(out) != 0 || s.Notice == nil || s.Reading.Status != Complete {
		t.Errorf("asks %v, notes %v", out, s.Notice)
	}
}

// A link that cannot be asked now puts no reader before the chains that stay.
func TestLinkOffline(t *testing.T) {
	s := New([]Example{courseExample()})
	s.Link = Waiting
	s, _ = s.Do("step", "1")
	c, err := ParseHash("q=Who%3F&a=hana&model=test&read=r%4020")
	if err != nil {
		t.Fatal(err)
	}
	s, _ = s.Open(c)
	s = s.receives(&wire.Models{Models: courseWelcome().Models})
	if s.Reader != "r@10" || s.Reading.By != "r@10" {
		t.Errorf("read by %q, shown by %q", s.Reader, s.Reading.By)
	}
}

// What the status region says is of the question that is shown, however it came.
func TestStatusIsOfWhatIsShown(t *testing.T) {
	other := courseExample()
	other.Name, other.Ask.Seed = "other", 7
	s := New([]Example{courseExample(), other})
	if s.Say != "" {
		t.Errorf("says %q before anything happened", s.Say)
	}
	const all = "All 8 chains ready. Best: chain 5, "
	step := func() {
		t.Helper()
		if s, _ = s.Do("step", "2"); !strings.HasPrefix(s.Say, "Step 20 reads") {
			t.Fatalf("says %q", s.Say)
		}
	}
	step()
	if s, _ = s.Do("example", "other"); !strings.HasPrefix(s.Say, all) {
		t.Errorf("another example: says %q", s.Say)
	}
	step()
	if s, _ = s.Do("seed", "7"); s.Notice != nil {
		t.Fatal(s.Notice)
	}
	if s, _ = s.Do("retry", ""); !strings.HasPrefix(s.Say, all) {
		t.Errorf("what is known already: says %q", s.Say)
	}
	step()
	c := DefaultChoice()
	c.Example = s.Examples[0].Name
	if s, _ = s.Open(c); !strings.HasPrefix(s.Say, all) {
		t.Errorf("an address: says %q", s.Say)
	}
	if first, _ := New([]Example{courseExample()}).Open(c); first.Say != "" {
		t.Errorf("the first address: says %q", first.Say)
	}
}

// What shows as no change has the colour of none, and no arrow.
func TestNoChangeHasNoColour(t *testing.T) {
	for _, x := range []struct {
		text         string
		loss         float64
		class, arrow string
	}{{"0.000", -0.0003, "num", ""}, {"0.000", 0.0003, "num", ""}, {"−0.180", -0.18, "down", "▼"}, {"+0.001", 0.001, "up", "▲"}} {
		if have := direction(shownLoss(x.text, x.loss)); have != x.class {
			t.Errorf("%s is coloured %s", x.text, have)
		}
		p := &page{}
		lossMark(p, x.text, x.loss, true)
		wants(t, p.String(), `class="dr `+x.class+`"`, x.arrow)
		if x.arrow == "" && strings.ContainsAny(p.String(), "▲▼") {
			t.Errorf("%s has an arrow: %s", x.text, p)
		}
	}
	// In the table it is so, too.
	s := testState()
	r := *s.Reading
	tried := map[tryKey]Try{}
	for key, x := range r.tried {
		x.Ref = slices.Clone(r.Chains[key.chain].Ref)
		x.Ref[0] -= 1e-5
		tried[key] = x
	}
	r.tried = tried
	s.Reading = &r
	losses := s.losses(s.chain())
	if losses == nil || losses[0] >= 0 {
		t.Fatalf("losses %v", losses)
	}
	wants(t, Fragment(&s, "why"), `<span class="e e1 num">0.000</span>`)
	s.Sentence = 0
	wants(t, Fragment(&s, "chain"), `Without sentence 1 the reward would stay 0.372.`)
}

// On a narrow phone the three advantages of the first lane leave the next its room.
func TestAdvantagesOnNarrowPhone(t *testing.T) {
	for width, want := range map[int]bool{288: false, 358: true} {
		s := testState()
		s.Size = Size{Slope: width, Dots: width, Phone: true}
		if have := strings.Contains(Fragment(&s, "slope"), `>A `); have != want {
			t.Errorf("%d px: the row is named: %t", width, have)
		}
	}
}
