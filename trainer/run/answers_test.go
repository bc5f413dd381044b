package run

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"nrt/trainer/objective"
)

// evals are the values of a name in the lines of evaluations, by step.
func evals(t *testing.T, c Config, name string) map[int]float64 {
	t.Helper()
	metrics, err := ReadMetrics(c.Output.Dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]float64{}
	for _, v := range metrics {
		if x, ok := v[name]; ok {
			all[int(v["step"])] = x
		}
	}
	return all
}

// Plain text is evaluated like the rest, on what training has not seen, and a
// document longer than the positions is.
func TestTextIsEvaluated(t *testing.T) {
	var lines []string
	for i := range 30 {
		lines = append(lines, fmt.Sprintf(`{"text":"%s %d"}`, strings.Repeat("word after word ", 1+i%12), i))
	}
	c := tinyRun(t, objective.LM)
	c.Data.Train, c.Data.HeldOut, c.Train.Steps, c.Optim.LR = []string{jsonl(t, lines...)}, 0.3, 6, 1e-2
	c.Model.Positions, c.Optim.Warmup = 12, 0
	var log strings.Builder
	if err := train(context.Background(), newCPU(t), c, &log); err != nil {
		t.Fatal(err)
	}
	got := evals(t, c, "eval/reference_logprob")
	if len(got) != 3 || !(got[6] > got[0]) || !(got[0] < 0) {
		t.Errorf("log-probability of held-out text by step: %v", got)
	}
	for _, want := range []string{"training documents are longer than 12 tokens and are cut into windows", "held-out texts: log-prob"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in\n%s", want, log.String())
		}
	}
}

// Evaluations report how many answers are right, by a part of them if asked, and
// leave the rest of the run as it is.
func TestAnswersAreEvaluated(t *testing.T) {
	dev := newCPU(t)
	var lines []string
	for i := range 24 {
		lines = append(lines, fmt.Sprintf(`{"question":"what is %d ?","answer":"well %d, so #### 7"}`, i, i))
	}
	c := tinyRun(t, objective.SFT)
	c.Data.Train, c.Train.Steps, c.Optim.LR, c.Optim.Warmup, c.Eval.Every = []string{jsonl(t, lines...)}, 60, 3e-2, 0, 0
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	whole := evals(t, c, "eval/accuracy")
	_, weights, _ := outcome(t, c)
	part := c
	part.Output.Dir, part.Data.AnswerRegex = t.TempDir(), "#### (.*)"
	if err := train(context.Background(), dev, part, io.Discard); err != nil {
		t.Fatal(err)
	}
	parts := evals(t, part, "eval/accuracy")
	if _, w, _ := outcome(t, part); len(whole) != 2 || len(parts) != 2 || parts[0] != 0 || !(parts[60] > 0.3) || parts[60] < whole[60] || string(w) != string(weights) {
		t.Errorf("accuracy by step: %v of the whole, %v of the part", whole, parts)
	}
	none := c
	none.Output.Dir, none.Eval.Answers = t.TempDir(), false
	if err := train(context.Background(), dev, none, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := evals(t, none, "eval/accuracy"); len(got) > 0 {
		t.Errorf("switched off: %v", got)
	}
	if a, b := fmt.Sprint(evals(t, none, "eval/reference_logprob")), fmt.Sprint(evals(t, c, "eval/reference_logprob")); a != b {
		t.Errorf("without answers the log-probability is %s, with them %s", a, b)
	}
}

// Evaluations draw as the run does: from the likeliest token alone, the temperature
// makes no difference.
func TestEvaluationsDrawAsTheRun(t *testing.T) {
	dev := newCPU(t)
	start := func(topK int, temperature float64) float64 {
		c := tinyRun(t, objective.NRT)
		c.Train.Steps, c.Rollout.TopK, c.Rollout.Temperature = 1, topK, temperature
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		return evals(t, c, "eval/reference_logprob")[0]
	}
	if hot, cool := start(1, 1), start(1, 0.5); hot != cool {
		t.Errorf("with --top-k 1: %g at temperature 1, %g at 0.5", hot, cool)
	}
	if hot, cool := start(0, 1), start(0, 0.5); hot == cool {
		t.Errorf("with all tokens: %g at both temperatures", hot)
	}
}

// rlvr and star reward what the expression takes from answer and reference; a
// reference from which it takes nothing is a bad line.
func TestAnswerRegexRewards(t *testing.T) {
	dev := newCPU(t)
	lines := []string{}
	for i := range 20 {
		lines = append(lines, fmt.Sprintf(`{"question":"what is %d ?","answer":"it is %d"}`, i, i))
	}
	for _, m := range []objective.Method{objective.RLVR, objective.STaR} {
		c := tinyRun(t, m)
		c.Data.Train, c.Train.Steps = []string{jsonl(t, lines...)}, 2
		c.Data.AnswerRegex = "^()" // nothing is the same everywhere
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		if got := evals(t, c, "reward"); got[1] != 1 || got[2] != 1 {
			t.Errorf("%s: rewards %v, want 1", m, got)
		}
		c.Output.Dir, c.Data.AnswerRegex = t.TempDir(), "is ([1-9].*)"
		err := train(context.Background(), dev, c, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "data.jsonl:1: the reference holds nothing that --answer-regex is ([1-9].*) matches") {
			t.Errorf("%s: %v", m, err)
		}
		var log strings.Builder
		c.Data.BadLines = "skip"
		if err := train(context.Background(), dev, c, &log); err != nil || !strings.Contains(log.String(), "skipped 1 of ") {
			t.Errorf("%s: %v\n%s", m, err, log.String())
		}
	}
	c := Default(objective.RLVR)
	c.Data.AnswerRegex = "####"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "data.answer_regex (--answer-regex): want one group") {
		t.Error(err)
	}
}
