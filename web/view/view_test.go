package view

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

var update = flag.Bool("update", false, "write the golden fragments again")

// golden compares a text with testdata/name.
func golden(t *testing.T, name, have string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	// One element a line, so that a difference can be read.
	have = strings.ReplaceAll(have, "><", ">\n<") + "\n"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if have != string(want) {
		t.Errorf("%s differs; go test -update writes it again. Have:\n%s", path, have)
	}
}

func TestFragmentsAreAsTheyWere(t *testing.T) {
	s := testState()
	for id, html := range Fragments(&s) {
		golden(t, id+".html", html)
	}
}

func TestExamplesSurviveTheirFile(t *testing.T) {
	data, err := WriteExamples([]Example{testExample()})
	if err != nil {
		t.Fatal(err)
	}
	list, err := ReadExamples(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := WriteExamples(list)
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("differs after a round (%v)", err)
	}
	e := testExample()
	e.Frame.Done = e.Frame.Done[1:]
	data, err = WriteExamples([]Example{e})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadExamples(data); err == nil || !strings.Contains(err.Error(), "kinship: frame: 7 of 8 chains") {
		t.Errorf("have %v", err)
	}
}

// Every number of the chains list is the one that trainer/reward computes, under
// every formula, with and without clip and normalisation.
func TestNumbersAreTheRewardsOwn(t *testing.T) {
	row := regexp.MustCompile(`class="vh">Chain (\d), rank (\d) of 8, reward ([^,]+), advantage ([^<]+)<`)
	var refs [][]float64
	for _, c := range testC {
		refs = append(refs, logs(c))
	}
	for _, o := range []reward.Options{{Clip: true}, {}, {Clip: true, NormalizeWeights: true}} {
		for _, o.Mode = range reward.Modes() {
			s := testState()
			s, _ = s.Do("mode", o.Mode.String())
			s, _ = s.Do("clip", strconv.FormatBool(o.Clip))
			s, _ = s.Do("normalize", strconv.FormatBool(o.NormalizeWeights))
			g, err := reward.ScoreGroup(refs, logs(testBase), o)
			if err != nil {
				t.Fatal(err)
			}
			ranks := g.Ranks()
			rows := row.FindAllStringSubmatch(Fragment(&s, "chains"), -1)
			if len(rows) != 8 {
				t.Fatalf("%s: %d rows", o.Mode, len(rows))
			}
			last := 0
			for _, r := range rows {
				k := int(r[1][0] - '1')
				want := []string{intText(ranks[k]), number(g.Chains[k].R), signed(g.Chains[k].Advantage)}
				for i := range want {
					if r[2+i] != want[i] {
						t.Errorf("%s %+v chain %d: have %q, want %q", o.Mode, o, k+1, r[2:], want)
						break
					}
				}
				if ranks[k] < last {
					t.Errorf("%s: chain %d stands below a worse one", o.Mode, k+1)
				}
				last = ranks[k]
			}
			best := g.Chains[4]
			s, _ = s.Do("chain", "4")
			why := Fragment(&s, "why")
			adds := parts(best.Contribution, s.total(&best))
			for i := range best.C {
				for _, want := range []string{">" + percentText(best.C[i]) + " %</b>", adds[i] + "</td>", two(best.TokenWeight[i]) + "</td>"} {
					if !strings.Contains(why, want) {
						t.Errorf("%s: word %d: no %q in the table", o.Mode, i, want)
					}
				}
			}
			if !strings.Contains(why, "<b>"+number(best.R)+"</b> − no reasoning <b>"+number(best.Base)) {
				t.Errorf("%s: sum of the table", o.Mode)
			}
		}
	}
}

// receives is the state after a message. What it asks about a chain's sentences is
// answered as the example has it.
func (s State) receives(m wire.Message) State {
	s, out := s.Receive(m)
	return s.answers(out)
}

func (s State) answers(out []wire.Message) State {
	for _, m := range out {
		if ask, ok := m.(*wire.Score); ok && !ask.Own && len(ask.Models) == 0 {
			s = s.receives(&wire.Scored{Head: wire.Head{ID: ask.ID}, Variants: testExample().Without[s.waiting[ask.ID].keys[0].chain]})
		}
		if ask, ok := m.(*wire.Resample); ok {
			for j, cut := range s.Reading.Places(ask.Of) {
				if slices.Contains(ask.Cuts, cut) {
					s = s.receives(&wire.Resampled{Head: wire.Head{ID: ask.ID}, Cut: cut, Fresh: testExample().Fresh[ask.Of][j]})
				}
			}
			s = s.receives(&wire.End{Head: wire.Head{ID: ask.ID}})
		}
	}
	return s
}

func percentText(p float64) string {
	return strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(percent(p))
}

// Nothing that a reader or a model writes gets into the page as markup.
func TestEverythingIsEscaped(t *testing.T) {
	const evil = `"><img src=x onerror=alert(1)>'`
	e := testExample()
	e.Title, e.Ask.Question, e.Ask.Model = evil, evil+". "+evil, evil
	for i := range e.Start.Answer {
		e.Start.Answer[i].Text = evil
	}
	for i := range e.Frame.Tokens {
		texts := make([]string, len(e.Frame.Tokens[i].Texts))
		for j := range texts {
			texts[j] = evil
		}
		e.Frame.Tokens[i].Texts = texts
	}
	for i := range e.Frame.Done {
		e.Frame.Done[i].Answer = evil
	}
	s := New([]Example{e})
	s.Notice = &Notice{Text: evil + ". " + evil}
	s.Say = evil
	s.Typing = Typing{Question: evil, Answer: evil, Known: true, QuestionPieces: []wire.Piece{{Text: evil, Unknown: true}}, AnswerPieces: []wire.Piece{{Text: evil}}}
	s = s.receives(&wire.State{Run: evil, Method: "nrt", Mode: "gm", Status: wire.StatusFailed, Of: 3, Message: evil, Data: evil})
	s = s.receives(&wire.State{Run: "b", Method: "nrt", Mode: "gm", Status: wire.StatusFailed, Of: 3, Message: evil, Data: evil})
	s.Run = evil
	s, _ = s.Do("sentence", "0")
	for id, html := range Fragments(&s) {
		if strings.Contains(html, "<img") || strings.Contains(html, "alert(1)>") {
			t.Errorf("%s: %s", id, html)
		}
	}
}

// Fragments are well formed: every element that is opened is closed.
func TestFragmentsAreWellFormed(t *testing.T) {
	void := map[string]bool{"br": true, "input": true, "img": true}
	tag := regexp.MustCompile(`<(/?)([a-z0-9]+)((?:[^<>"]|"[^"]*")*?)(/?)>`)
	check := func(name string, s State) {
		for id, html := range Fragments(&s) {
			var open []string
			for _, m := range tag.FindAllStringSubmatch(html, -1) {
				switch {
				case m[1] == "/":
					if len(open) == 0 || open[len(open)-1] != m[2] {
						t.Fatalf("%s: %s: </%s> closes %v", name, id, m[2], open)
					}
					open = open[:len(open)-1]
				case m[4] != "/" && !void[m[2]]:
					open = append(open, m[2])
				}
			}
			if len(open) > 0 {
				t.Errorf("%s: %s: %v stay open", name, id, open)
			}
		}
	}
	for name, s := range moments(t) {
		check(name, s)
	}
}

// Ids are unique over the whole page, and every act is one of Actions.
func TestIDsAndActions(t *testing.T) {
	id := regexp.MustCompile(` id="([^"]+)"`)
	act := regexp.MustCompile(` data-(?:act|change|input|submit)="([^"]+)"`)
	for name, s := range moments(t) {
		seen := map[string]string{}
		for at, html := range Fragments(&s) {
			for _, m := range id.FindAllStringSubmatch(html, -1) {
				if seen[m[1]] != "" {
					t.Errorf("%s: id %s in %s and %s", name, m[1], seen[m[1]], at)
				}
				seen[m[1]] = at
			}
			for _, m := range act.FindAllStringSubmatch(html, -1) {
				if Actions[m[1]] == "" {
					t.Errorf("%s: %s: unknown action %s", name, at, m[1])
				}
			}
			if tabs := strings.Count(html, `tabindex="0"`); (at == "strip" || at == "chain") && tabs > 1 {
				t.Errorf("%s: %s has %d tab stops", name, at, tabs)
			}
		}
	}
}

// poorExample is testExample with chains that are all worse than none.
func poorExample() Example {
	poor := testExample()
	for i := range poor.Frame.Tokens {
		if poor.Frame.Tokens[i].Part == wire.PartReference {
			lp := logs(testBase)
			for j := range lp {
				lp[j] -= 0.1
			}
			poor.Frame.Tokens[i].LogProbs = lp
		}
	}
	return poor
}

// TestNoGradient: it is said of a whole group; of one that was stopped nothing is trained.
func TestNoGradient(t *testing.T) {
	const said = "No gradient from this group."
	e := poorExample()
	s := New([]Example{e})
	if !strings.Contains(Fragment(&s, "notes"), said) || !strings.Contains(s.endText(), said) {
		t.Errorf("nothing is said of a group without a gradient, or %q alone", s.endText())
	}
	if ready := testState(); strings.Contains(ready.endText(), said) {
		t.Errorf("of a group with a gradient it is said %q", ready.endText())
	}
	s = testState().receives(&wire.Welcome{Session: "s", Models: []wire.Model{{Name: "test"}, {Name: "other"}}})
	s, out := s.Do("model", "other")
	id := out[0].Header().ID
	e.Start.ID, e.Frame.ID = id, id
	e.Frame.Done = e.Frame.Done[:2]
	s = s.receives(&e.Start)
	s = s.receives(&e.Frame)
	s = s.receives(&wire.End{Head: wire.Head{ID: id}, Cancelled: true})
	if sc := s.scores(); !sc.ready || len(sc.chains) != 2 || !s.group().AllHarmful {
		t.Fatalf("%d chains have a score", len(s.scores().chains))
	}
	if strings.Contains(Fragment(&s, "notes"), said) {
		t.Error("it is said of a group that was stopped")
	}
}

// moments are states of the page that matter.
func moments(t *testing.T) map[string]State {
	t.Helper()
	e := testExample()
	m := map[string]State{"empty": New(nil), "saved": testState()}
	s := testState().receives(&wire.Welcome{Session: "s", Models: []wire.Model{{Name: "test"}, {Name: "other"}}})
	s, out := s.Do("model", "other")
	if len(out) != 1 {
		t.Fatalf("sent %v", out)
	}
	id := out[0].Header().ID
	m["asked"] = s
	m["queued"] = s.receives(&wire.Queued{Head: wire.Head{ID: id, Seq: 1}, Place: 3, Seconds: 12})
	e.Start.ID, e.Frame.ID, e.End.ID = id, id, id
	s = s.receives(&e.Start)
	m["started"] = s
	part := e.Frame
	part.Tokens, part.Done = e.Frame.Tokens[:6], e.Frame.Done[:2]
	s = s.receives(&part)
	m["writing"] = s
	m["stopped"] = s.receives(&wire.End{Head: wire.Head{ID: id}, Cancelled: true})
	m["failed"] = s.receives(&wire.Failed{Head: wire.Head{ID: id}, Code: wire.CodeBusy, Message: "The queue is full. Wait.", Retry: 60})
	waiting := s
	waiting.Link, waiting.Retry = Waiting, 4
	m["lost"] = waiting
	rest := e.Frame
	rest.Tokens, rest.Done = e.Frame.Tokens[4:], e.Frame.Done[2:]
	s = s.receives(&rest)
	s = s.receives(&e.End)
	m["complete"] = s
	s = s.receives(&wire.State{Run: "r1", Method: "nrt", Mode: "ws-logp", Mine: true, Status: wire.StatusRunning, Step: 20, Of: 60, Checkpoints: []wire.Checkpoint{{Step: 0, Model: "r1@0"}, {Step: 10, Model: "r1@10"}}})
	s = s.receives(&wire.State{Run: "r2", Method: "rlpr", Status: wire.StatusPaused, Step: 20, Of: 60})
	s.Run = "r1"
	s = s.receives(&wire.Step{Run: "r1", Of: 60, Points: []wire.Point{{Step: 1, Values: map[string]float64{wire.ValueReward: .1}}, {Step: 2, Values: map[string]float64{wire.ValueReward: .2, wire.ValueLength: 3}}}})
	s = s.receives(&wire.Eval{Run: "r1", Points: []wire.Point{{Step: 0, Values: map[string]float64{wire.ValueAccuracy: .5, wire.ValueLow: .4, wire.ValueHigh: .6}}}})
	m["training"] = s
	for _, mode := range reward.Modes() {
		x := testState()
		x, _ = x.Do("mode", mode.String())
		x, _ = x.Do("sentence", "2")
		x, _ = x.Do("colour", Colour(int(mode)%4).String())
		x.Size.Phone = true
		m["mode "+mode.String()] = x
	}
	m["no gradient"] = New([]Example{poorExample()})
	sheet := listening(t)
	sheet, _ = sheet.Do("pick", "1")
	sheet, _ = sheet.Do("sheet", "")
	m["sheet"] = sheet
	sheet, out = sheet.Do("edit-try", "Leo <is> far.")
	m["sheet, asked"] = sheet
	m["sheet, scored"] = sheet.hears(t, out, sheet.Reading.Base)
	return m
}
