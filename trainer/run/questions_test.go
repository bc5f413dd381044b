package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/objective"
)

// jsonl writes lines to a file and returns its name.
func jsonl(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "data.jsonl")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const (
	goodTurns = `{"messages":[{"role":"user","content":"what is 1 plus 2 ?"},{"role":"assistant","content":"it is 3"}]}`
	toolTurn  = `{"messages":[{"role":"user","content":"what is 1 plus 2 ?"},{"role":"tool","content":"3"},{"role":"assistant","content":"it is 3"}]}`
	twoTurns  = `{"messages":[{"role":"user","content":"what is 2 plus 2 ?"},{"role":"assistant","content":"it is"},{"role":"assistant","content":"it is 4"}]}`
)

// Lines that only the layout finds bad are skipped, counted and named like the
// others, in training files and in evaluation files.
func TestSkippedLines(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.SFT)
	c.Train.Steps, c.Data.HeldOut, c.Data.BadLines = 1, 0, "skip"
	c.Data.Train = []string{jsonl(t, goodTurns, toolTurn, twoTurns, "garbage")}
	c.Data.Eval = []string{jsonl(t, `{"question":"what is 1 plus 1 ?","answer":"it is 2"}`, `{"question":"what is 1 plus 1 ?","answer":7}`, "garbage")}
	var log strings.Builder
	if err := train(context.Background(), dev, c, &log); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"3 training examples; skipped 1 of 4 lines:",
		"1 evaluation examples; skipped 2 of 3 lines:\n  " + c.Data.Eval[0] + ":2: answer:",
		"training examples: skipped 2 of 3 lines:\n  " + c.Data.Train[0] + ":2: chat format \"plain\": messages[1].role: unsupported \"tool\"",
		c.Data.Train[0] + ":3: chat format",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("want %q in\n%s", want, log.String())
		}
	}
	c.Data.BadLines, c.Data.Train, c.Data.Eval = "stop", []string{jsonl(t, goodTurns, toolTurn)}, nil
	c.Output.Dir = t.TempDir()
	if err := train(context.Background(), dev, c, io.Discard); err == nil || !strings.Contains(err.Error(), c.Data.Train[0]+":2: chat format") {
		t.Errorf("stopping: %v", err)
	}
	c = tinyRun(t, objective.SFT)
	c.Train.Steps, c.Data.BadLines, c.Data.HeldOut = 1, "skip", 0
	c.Data.Train = []string{jsonl(t, goodTurns), jsonl(t, `{"text":"it is"}`)}
	log.Reset()
	if err := train(context.Background(), dev, c, &log); err != nil || !strings.Contains(log.String(), "data.jsonl:1: text: --method sft needs questions and answers") {
		t.Errorf("a text among questions: %v\n%s", err, log.String())
	}
}

// A file with the fields of several forms says which of them is taken.
func TestSeveralForms(t *testing.T) {
	dev := newCPU(t)
	for form, want := range map[string]bool{"auto": true, "question": false} {
		c := tinyRun(t, objective.SFT)
		c.Train.Steps, c.Data.HeldOut, c.Data.Form = 1, 0, form
		c.Data.Train = []string{jsonl(t, `{"question":"what is 1 plus 1 ?","answer":"it is 2","messages":[{"role":"user","content":"and ?"},{"role":"assistant","content":"3"}]}`)}
		var log strings.Builder
		if err := train(context.Background(), dev, c, &log); err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(log.String(), c.Data.Train[0]+" has the fields of several forms, [messages question]: the first is taken, and --form names another\n"); said != want {
			t.Errorf("%s: %s", form, log.String())
		}
	}
}

// What reads files or encodes texts before a run begins ends with the run's context,
// and says nothing else.
func TestOpeningStops(t *testing.T) {
	dev, c := newCPU(t), tinyRun(t, objective.SFT)
	c.Train.Steps = 2
	if err := train(t.Context(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	c.Output.Resume = "latest"
	c.settle()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tr := &trainer{c: c, env: Env{Device: dev, Log: io.Discard, Now: time.Now}, dev: dev}
	defer tr.close()
	for _, step := range []struct {
		name  string
		open  func(context.Context) error
		stops bool
	}{
		{"checkpoint", tr.openStart, true}, {"chain", tr.openChain, false}, {"data", tr.openData, true}, {"model", tr.openModel, true},
		{"questions", tr.openQuestions, true}, {"plan", tr.planRun, false}, {"learner", tr.openLearner, false}, {"moments", tr.openOutput, true},
	} {
		if err := step.open(ended); step.stops && !OnlyStopped(err) {
			t.Errorf("%s, stopped: %v", step.name, err)
		}
		if err := step.open(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	tr = &trainer{c: c, env: tr.env, dev: dev, train: tr.train}
	if _, err := tr.start(ended); !OnlyStopped(err) { // a tokenizer made of the data
		t.Errorf("tokenizer, stopped: %v", err)
	}
}

// TestExampleThatFills: an example is trained on that leaves just room for the longest
// chain in the model's positions, and one with a token more is left out.
func TestExampleThatFills(t *testing.T) {
	dev, c := newCPU(t), tinyRun(t, objective.NRT)
	c.Model.Path = tinyBase(t, 1)
	c.Data.HeldOut, c.Train.Steps, c.Rollout.Questions = 0, 1, 1
	tok, err := token.LoadDir(c.Model.Path)
	check(t, err)
	form, err := tok.Format("")
	check(t, err)
	shape, err := llama.ReadConfig(os.DirFS(c.Model.Path))
	check(t, err)
	e := data.Example{Answer: "it is 3"}
	size := func() int {
		q, err := Ask(form, e, 0)
		check(t, err)
		return len(q.Prompt) + len(q.Answer)
	}
	room := shape.MaxPositions - c.Rollout.MaxChain - len(form.Close)
	for size() < room {
		e.Question += "x" // a token each
	}
	for more, left := range []string{"", "no example is left to train on"} {
		c.Output.Dir = t.TempDir()
		c.Data.Train = []string{jsonl(t, fmt.Sprintf(`{"question":%q,"answer":%q}`, e.Question, e.Answer))}
		if n := size(); n != room+more {
			t.Fatalf("%d tokens, want %d", n, room+more)
		}
		if err := train(t.Context(), dev, c, io.Discard); left == "" && err != nil || left != "" && (err == nil || !strings.Contains(err.Error(), left)) {
			t.Errorf("%d tokens where there is room for %d: %v", size(), room, err)
		}
		e.Question += "x"
	}
}

// TestLimit: it is of the examples to train on.
func TestLimit(t *testing.T) {
	c := tinyRun(t, objective.SFT)
	c.Data.HeldOut, c.Data.Limit, c.Data.Eval, c.Train.Steps = 0, 3, c.Data.Train, 1
	var log strings.Builder
	check(t, train(t.Context(), newCPU(t), c, &log))
	for _, want := range []string{"3 training examples\n", "24 evaluation examples\n"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("want %q in\n%s", want, log.String())
		}
	}
}

// As many evaluation questions are asked as were asked for, although some of the
// file are too long; which ones, the seed decides.
func TestExamIsDrawn(t *testing.T) {
	var lines []string
	for i := range 40 {
		long := ""
		if i%2 == 0 {
			long = strings.Repeat("what is ", 200)
		}
		lines = append(lines, fmt.Sprintf(`{"question":"%swhat is %d ?","answer":"it is %d"}`, long, i, i))
	}
	file := jsonl(t, lines...)
	asked := func(seed uint64, n int) ([]int, string) {
		c := tinyRun(t, objective.SFT)
		c.Data.Eval, c.Data.HeldOut, c.Eval.N, c.Train.Seed, c.Train.Steps = []string{file}, 0, n, seed, 1
		var log strings.Builder
		if err := train(context.Background(), newCPU(t), c, &log); err != nil {
			t.Fatal(err)
		}
		// What the run asks, from the same steps.
		tr := &trainer{c: c, env: Env{Device: newCPU(t), Log: io.Discard}, dev: newCPU(t)}
		for _, open := range []func(context.Context) error{tr.openStart, tr.openChain, tr.openData, tr.openModel, tr.openQuestions} {
			if err := open(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		defer tr.close()
		var list []int
		for _, q := range tr.exam {
			list = append(list, q.Index)
		}
		return list, log.String()
	}
	one, log := asked(1, 10)
	if len(one) != 10 || !slices.IsSorted(one) || !strings.Contains(log, "20 of 40 evaluation examples are left out") ||
		!strings.Contains(log, "ask 10 of 20 questions (--eval-n), drawn by the seed") || !strings.Contains(log, "step 0: 10 held-out questions") {
		t.Errorf("asked %v\n%s", one, log)
	}
	if same, _ := asked(1, 10); !slices.Equal(same, one) {
		t.Errorf("the same seed asks %v and %v", one, same)
	}
	if other, _ := asked(2, 10); slices.Equal(other, one) {
		t.Errorf("seeds 1 and 2 ask the same %v", one)
	}
	if all, _ := asked(1, 30); len(all) != 20 {
		t.Errorf("30 of 20: %v", all)
	}
}

// What leaves no example says what of the method's own would help, and a step
// of more questions than there are says what that does.
func TestTooFewExamples(t *testing.T) {
	for m, chain := range map[objective.Method]bool{objective.SFT: false, objective.NRT: true} {
		c := tinyRun(t, m)
		c.Data.MaxPrompt = 2
		err := train(context.Background(), newCPU(t), c, io.Discard)
		if err == nil || strings.Contains(err.Error(), "--max-chain") != chain || !strings.Contains(err.Error(), "--max-prompt") {
			t.Errorf("%s: %v", m, err)
		}
	}
	c := tinyRun(t, objective.SFT)
	c.Data.HeldOut, c.Rollout.Questions, c.Train.Steps = 0, 256, 0
	var log strings.Builder
	if err := train(context.Background(), newCPU(t), c, &log); err != nil || !strings.Contains(log.String(), "a step takes 256 questions and there are 24") || !strings.Contains(log.String(), "the run has 1 step: --questions 24 or less") {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// Cut into windows, every token but the first is predicted once and in order.
func TestWindows(t *testing.T) {
	for n := 2; n < 40; n++ {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(i)
		}
		for most := 2; most < 12; most++ {
			var predicted []int32
			for _, w := range stretches(Question{Prompt: ids[:1], Answer: ids[1:], Index: 7}, most) {
				if len(w.Prompt) != 1 || len(w.Answer) == 0 || len(w.Prompt)+len(w.Answer) > most || w.Prompt[0] != w.Answer[0]-1 || w.Index != 7 {
					t.Fatalf("%d tokens in windows of %d: %+v", n, most, w)
				}
				predicted = append(predicted, w.Answer...)
			}
			if !slices.Equal(predicted, ids[1:]) {
				t.Fatalf("%d tokens in windows of %d: predicted %v", n, most, predicted)
			}
		}
	}
}

// A run says how many examples it holds out, and when those of a file are trained on.
func TestHeldOutNotes(t *testing.T) {
	dev := newCPU(t)
	lines := make([]string, 40)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"question":"what is %d plus 1 ?","answer":"it is %d"}`, i, i+1)
	}
	c := tinyRun(t, objective.SFT)
	c.Train.Steps, c.Data.Train = 1, []string{jsonl(t, lines...)}
	for _, x := range []struct {
		eval []string
		want string
	}{
		{nil, " of them are held out for evaluations\n"},
		{append([]string{`{"question":"what is 7 plus 1 ?","answer":"8"}`}, lines[:2]...), "warning: 3 of the 3 evaluation examples have a question that is trained on too"},
		{[]string{`{"question":"what is 7 plus 2 ?","answer":"it is 9"}`}, ""},
	} {
		c.Output.Dir, c.Data.HeldOut, c.Data.Eval = t.TempDir(), 0.2, nil
		if x.eval != nil {
			c.Data.HeldOut, c.Data.Eval = 0, []string{jsonl(t, x.eval...)}
		}
		var log strings.Builder
		if err := train(context.Background(), dev, c, &log); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), x.want) || x.want == "" && strings.Contains(log.String(), "trained on too") {
			t.Errorf("want %q in\n%s", x.want, log.String())
		}
	}
}
