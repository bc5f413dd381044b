package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nrt/trainer/eval"
	"nrt/trainer/world"
)

// lines writes a file of JSON lines.
func lines(t *testing.T, list ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.jsonl")
	writeFile(t, path, strings.Join(list, "\n")+"\n")
	return path
}

const whoIs = `{"question": "who is bob ?", "answer": "no ."}`

// The whole of a file is asked unless --n says otherwise, and the report says how
// many that is.
func TestEvalAsksTheWholeFile(t *testing.T) {
	dir := wordModel(t)
	in := lines(t, strings.Split(strings.Repeat(whoIs+"\n", 430)+whoIs, "\n")...)
	var r struct {
		eval.Report
		Families map[string]any `json:"by_family"`
	}
	decode(t, setting{}.ok(t, "eval", "--model", dir, "--data", in, "--max-chain", "1", "--max-answer", "2", "--json"), &r)
	if r.N != 431 || r.Families != nil {
		t.Errorf("%d questions, families %v", r.N, r.Families)
	}
	decode(t, setting{}.ok(t, "eval", "--model", dir, "--data", in, "--n", "7", "--json"), &r)
	if r.N != 7 {
		t.Errorf("%d questions of --n 7", r.N)
	}
	if text := (setting{}).ok(t, "eval", "--model", dir, "--data", lines(t, whoIs, whoIs)); !strings.Contains(text, ", 2 questions\n") {
		t.Errorf("have %s", text)
	}
}

// A question that the model has no room for is left out and named, and a long one
// shortens no other's chain.
func TestEvalRoom(t *testing.T) {
	dir := wordModel(t) // 64 positions
	question := func(words int) string {
		return fmt.Sprintf(`{"question": "%s", "answer": "no ."}`, strings.TrimSpace(strings.Repeat("who ", words)))
	}
	in := lines(t, whoIs, question(70), whoIs, question(48))
	code, text, errs := setting{}.nrt(t, "eval", "--model", dir, "--data", in, "--max-chain", "30")
	for _, want := range []string{"left out, since they do not fit the model's 64 positions (max_position_embeddings): 1 question\n  " + in + ":2: 7", "1 question of 3 have room for shorter chains than 30 only"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in %s", want, errs)
		}
	}
	if code != exitOK || !strings.Contains(text, ", 3 of 4 questions\n") {
		t.Errorf("exit %d: %s", code, text)
	}
	// Without the long one the short ones' chains are the same.
	length := func(list ...string) float64 {
		var r eval.Report
		decode(t, setting{}.ok(t, "eval", "--model", dir, "--data", lines(t, list...), "--json"), &r)
		return r.ChainLength
	}
	short, both := length(whoIs), length(whoIs, question(48))
	if long := 64. - 48 - 3 - 1 - 3; both < (short+1)/2 || both > (short+long)/2 {
		t.Errorf("chains of %g tokens, %g with a long question beside", short, both)
	}
	code, _, errs = setting{}.nrt(t, "eval", "--model", dir, "--data", lines(t, question(70)))
	if code != exitFailure || !strings.Contains(errs, "no question fits the model's 64 positions") {
		t.Errorf("none fits: exit %d, %s", code, errs)
	}
}

// The chains of a trained model are as long as they were in training, also once
// it has been exported.
func TestEvalTakesTheTrainedLength(t *testing.T) {
	dir := t.TempDir()
	in := lines(t, whoIs, `{"question": "who is ann ?", "answer": "yes ."}`)
	out := filepath.Join(dir, "out")
	setting{}.ok(t, "train", "--model", wordModel(t), "--data", in, "--steps", "1", "--questions", "2", "--k", "2", "--max-chain", "3", "--output", out)
	copied := filepath.Join(dir, "copy")
	setting{}.ok(t, "export", "--model", filepath.Join(out, "final"), "--output", copied)
	for _, model := range []string{filepath.Join(out, "final"), filepath.Join(out, "checkpoint-1"), copied} {
		var r eval.Report
		decode(t, setting{}.ok(t, "eval", "--model", model, "--data", in, "--temperature", "1", "--k", "50", "--json"), &r)
		if r.ChainLength > 3 || r.ChainLength < 1 {
			t.Errorf("%s: chains of %g tokens", model, r.ChainLength)
		}
	}
}

// What chains do is told by how sure the model is without one.
func TestEvalShowsWhereChainsHelp(t *testing.T) {
	var out strings.Builder
	e := &env{out: bufio.NewWriter(&out)}
	e.printReport("m", "f.jsonl", "1 question", eval.Report{ReferenceToks: 8, Hardness: []eval.Hardness{
		{From: 0.9, To: 1, Tokens: 7, Base: 0.95, After: 0.96}, {From: 0.01, To: 0.05, Tokens: 1, Base: 0.02, After: 0.5},
	}})
	if err := e.out.Flush(); err != nil {
		t.Fatal(err)
	}
	const want = `
  sure of a token                 mean
  without a chain    tokens    without     with
  90 % to 100 %      87.5 %     95.0 %   96.0 %
  1 % to 5 %         12.5 %      2.0 %   50.0 %
`
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("have %s\nwant %s", out.String(), want)
	}
}

// An evaluation is interrupted while its questions are drawn, too.
func TestEvalIsInterrupted(t *testing.T) {
	known, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	e := &env{ctx: ctx, err: io.Discard, builtins: known}
	begun := time.Now()
	err = e.eval(modelFlags{name: "world:base"}, evalArgs{data: "world", worldSeed: worldSeed, k: 1, n: mostQuestions})
	if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
}

// A model whose numbers overflow is told of, whatever it is asked.
func TestEvalOfNoNumbers(t *testing.T) {
	dir := wordModel(t)
	path := filepath.Join(dir, "model.safetensors")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 8 + int(binary.LittleEndian.Uint64(raw)); i < len(raw); i += 4 {
		if x := raw[i:]; math.Float32frombits(binary.LittleEndian.Uint32(x)) == 1 { // a norm's
			binary.LittleEndian.PutUint32(x, math.Float32bits(3e38))
		}
	}
	writeFile(t, path, string(raw))
	refused := func(args ...string) {
		t.Helper()
		code, out, errs := setting{}.nrt(t, append([]string{args[0], "--model", dir}, args[1:]...)...)
		if code != exitFailure || out != "" || !strings.Contains(errs, "log-probabilities are not finite") {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
		}
	}
	for _, args := range [][]string{{"--json"}, {"--no-chain"}, {"--completions", filepath.Join(t.TempDir(), "chains.jsonl")}} {
		refused(append([]string{"eval", "--data", lines(t, whoIs)}, args...)...)
	}
	refused("generate", "--prompt", "who is", "--json")
	refused("logprobs", "--text", "who is bob ?")
	refused("score", "--in", lines(t, `{"question": "who is bob ?", "answer": "no .", "chains": ["it was ann"]}`))
}

// No question of the small world is asked twice, and how many were is said.
func TestEvalAsksNothingTwice(t *testing.T) {
	known, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	w := world.New(worldSeed)
	differ := map[string]bool{}
	for _, item := range w.HeldOut(1600, 1) {
		differ[item.Question] = true
	}
	n := len(differ)
	code, text, errs := setting{builtins: known}.nrt(t, "eval", "--n", "1600", "--no-chain", "--max-answer", "1")
	if code != exitOK || n == 1600 || !strings.Contains(text, fmt.Sprintf(", %d of 1600 questions\n", n)) || !strings.Contains(errs, fmt.Sprintf("came before: %d questions; ", 1600-n)) {
		t.Errorf("exit %d, %d differ: %s%s", code, n, errs, text)
	}
}

func TestEvalFields(t *testing.T) {
	dir := wordModel(t)
	in := lines(t, `{"problem": "who is bob ?", "gold": "it was ann"}`)
	setting{}.ok(t, "eval", "--model", dir, "--data", in, "--question-field", "problem", "--answer-field", "gold", "--answer-regex", "was (.*)")
	for args, want := range map[string]string{
		"--data " + in:                  "want question and answer",
		"--k 8":                         "--k: all chains of a question are the same at --temperature 0: name a higher one",
		"--no-chain --k 8":              "--k: there is no chain with --no-chain",
		"--no-chain --max-chain 8":      "--max-chain: there is no chain with --no-chain",
		"--answer-regex x --data " + in: "--answer-regex: want one group",
		"--answer-regex (x)":            "--answer-regex: is for a file, not for the small world",
		"--exact --data " + in:          "--exact: is for the small world, not for a file",
		"--n 1000001":                   "--n: want 0 to 1000000 of the small world, have 1000001",
		"--answer-field gold --question-field problem --answer-regex (x) --data " + in: in + ":1: the reference holds nothing that --answer-regex (x) matches",
	} {
		if code, _, errs := (setting{}).nrt(t, append([]string{"eval", "--model", dir}, strings.Fields(args)...)...); code == exitOK || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q; want %q", args, code, errs, want)
		}
	}
}
