package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// What would not fit into the memory that is free is refused before it is
// allocated, with the flags that make it smaller.
func TestNoRoom(t *testing.T) {
	dir := wordModel(t)
	in := filepath.Join(t.TempDir(), "questions.jsonl")
	writeFile(t, in, `{"question": "who is bob ?", "answer": "no ."}`+"\n")
	many := filepath.Join(t.TempDir(), "many.jsonl")
	writeFile(t, many, strings.Repeat(`{"question": "who is bob ?", "answer": "no ."}`+"\n", 130))
	crowd := filepath.Join(t.TempDir(), "crowd.jsonl")
	writeFile(t, crowd, `{"question": "who is bob ?", "answer": "no .", "chains": [`+strings.Repeat(`"it was bob", `, 2000)+`"no"]}`+"\n")
	out := filepath.Join(t.TempDir(), "out")
	for args, want := range map[string]string{
		"explain --question who --answer no --k 1024 --model " + dir:                      "memory: 1024 chains of up to 5",
		"generate --prompt who --n 512 --model " + dir:                                    "lower --n or --max-tokens",
		"generate --question who --n 512 --model " + dir:                                  "lower --n, --max-chain or --max-tokens",
		"eval --temperature 1 --k 700 --model " + dir + " --data " + in:                   "lower --k, --max-chain or --max-answer",
		"eval --temperature 1 --k 8 --max-chain 40 --model " + dir + " --data " + many:    "memory: 1024 chains of up to 40 tokens",
		"score --model " + dir + " --in " + crowd:                                         crowd + ":1: chains: memory: 2001 chains of up to 3 tokens would take",
		"train --hidden 16000 --layers 100 --vocab 300 --data " + in + " --output " + out: "memory: the run would hold",
		"train --k 1024 --vocab 300 --data " + in + " --output " + out:                    "memory: the run would hold",
	} {
		code, text, errs := setting{free: 1 << 20}.nrt(t, strings.Fields(args)...)
		if code != exitFailure || !strings.Contains(errs, want) || text != "" {
			t.Errorf("%s: exit %d, %q, %q; want %q", args, code, text, errs, want)
		}
	}
	s := setting{free: 1 << 30}
	s.ok(t, "explain", "--question", "who", "--answer", "no", "--k", "3", "--model", dir)
	s.ok(t, "eval", "--temperature", "1", "--k", "3", "--model", dir, "--data", in)
	s.ok(t, "score", "--model", dir, "--in", crowd)
	// Where one cache for all would be too large, they take turns in a smaller one.
	setting{free: 10 << 20}.ok(t, "eval", "--temperature", "1", "--k", "32", "--max-chain", "40", "--model", dir, "--data", many)
}

// Lengths that the model has no positions for are refused by the flag's name,
// before anything is printed.
func TestTooLong(t *testing.T) {
	dir := wordModel(t) // 64 positions
	in := filepath.Join(t.TempDir(), "questions.jsonl")
	writeFile(t, in, `{"question": "who is bob ?", "answer": "no ."}`+"\n")
	long := strings.Repeat("no ", 70)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"explain", "--question", "who", "--answer", "no", "--max-chain", "100000"}, exitUsage, "--max-chain: want at most 5"},
		{[]string{"generate", "--prompt", "who", "--max-tokens", "99999"}, exitUsage, "--max-tokens: want at most 62, since the model has 64 positions (max_position_embeddings) and 2 are taken, have 99999"},
		{[]string{"generate", "--question", "who", "--max-tokens", "99999"}, exitUsage, "--max-tokens: want at most"},
		{[]string{"generate", "--question", "who", "--max-tokens", "9", "--max-chain", "60"}, exitUsage, "--max-chain: want at most"},
		{[]string{"eval", "--data", in, "--max-chain", "100000"}, exitUsage, "--max-chain: want at most"},
		{[]string{"eval", "--data", in, "--max-answer", "100000"}, exitUsage, "--max-answer: want at most"},
		{[]string{"explain", "--question", long, "--answer", "no"}, exitFailure, "leaves no room"},
		{[]string{"generate", "--question", long}, exitFailure, "leaves no room"},
		{[]string{"generate", "--prompt", long}, exitFailure, "leaves no room"},
		{[]string{"explain", "--question", "who", "--answer", "no", "--format", "x"}, exitUsage, "--format: "},
	} {
		code, out, errs := setting{}.nrt(t, append(c.args, "--model", dir)...)
		if code != c.code || !strings.Contains(errs, c.want) || strings.Contains(errs, "request 0") || out != "" {
			t.Errorf("%.50q: exit %d, %q, %q; want %d, %q", c.args, code, out, errs, c.code, c.want)
		}
	}
	setting{}.ok(t, "generate", "--prompt", "who", "--max-tokens", "62", "--model", dir)
}

// What is asked is checked as a line of nrt score is.
func TestBadText(t *testing.T) {
	dir := wordModel(t)
	for _, c := range []struct {
		stdin string
		args  []string
		code  int
		want  string
	}{
		{"", []string{"explain", "--question", "", "--answer", "no"}, exitUsage, "--question: is empty"},
		{"", []string{"explain", "--question", "who", "--answer", " \n"}, exitUsage, "--answer: is empty"},
		{"", []string{"explain", "--question", "who", "--answer", "a\xff"}, exitUsage, "--answer: byte 2 (0xff) is not UTF-8"},
		{" \n", []string{"explain", "--question", "-", "--answer", "no"}, exitFailure, "--question: standard input: is empty"},
		{"wh\xffo", []string{"explain", "--question", "-", "--answer", "no"}, exitFailure, "--question: standard input: byte 3 (0xff) is not UTF-8"},
		{"", []string{"generate", "--question", ""}, exitUsage, "--question: is empty"},
		{"\xfe", []string{"generate", "--prompt", "-"}, exitFailure, "--prompt: standard input: byte 1 (0xfe) is not UTF-8"},
	} {
		code, out, errs := setting{stdin: c.stdin}.nrt(t, append(c.args, "--model", dir)...)
		if code != c.code || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("%q: exit %d, %q, %q; want %d, %q", c.args, code, out, errs, c.code, c.want)
		}
	}
	if problem := textProblem("é🙂 \uFFFD", false); problem != "" {
		t.Error(problem)
	}
}

// A question that is piped is the one that a flag names: what ends its line is not asked.
// A text to go on with is taken as it stands.
func TestPipedQuestion(t *testing.T) {
	dir := byteModel(t)
	for _, args := range [][]string{
		{"explain", "--answer", "no", "--k", "2", "--max-chain", "4", "--json"},
		{"generate", "--max-chain", "4", "--max-tokens", "4", "--json"},
	} {
		args = append(args, "--model", dir, "--question")
		want := setting{}.ok(t, append(args, "who is ann ?")...)
		for _, end := range []string{"", "\n", "\r\n"} {
			if have := (setting{stdin: "who is ann ?" + end}).ok(t, append(args, "-")...); have != want {
				t.Errorf("%s with %q at its end: have\n%s\nwant\n%s", args[0], end, have, want)
			}
		}
	}
	var r generateResult
	decode(t, setting{stdin: "who\n"}.ok(t, "generate", "--max-tokens", "2", "--json", "--model", dir, "--prompt", "-"), &r)
	if r.Prompt != "who\n" {
		t.Errorf("the prompt is %q", r.Prompt)
	}
}

// A model of words warns, once and with their number, of words that it lacks.
func TestUnknownWords(t *testing.T) {
	dir := wordModel(t)
	folder := t.TempDir()
	chains, pairs, out := filepath.Join(folder, "chains.jsonl"), filepath.Join(folder, "pairs.jsonl"), filepath.Join(folder, "out")
	writeFile(t, chains, `{"question": "who is zoe ?", "answer": "no .", "chains": ["it was max", "no"]}`+"\n"+
		`{"question": "who is bob ?", "answer": "it was eve .", "chains": ["no", "yes"]}`+"\n")
	writeFile(t, pairs, `{"question": "who is zoe ?", "answer": "it was eve ."}`+"\n")
	for _, c := range []struct {
		args string
		n    int
	}{
		{"generate --max-tokens 2 --prompt who", 0},
		{"generate --max-tokens 2 --prompt zoe", 1},
		{"generate --max-tokens 2 --question zoe", 1},
		{"explain --k 2 --max-chain 2 --question who --answer no", 0},
		{"explain --k 2 --max-chain 2 --question zoe --answer eve", 2},
		{"score --in " + chains, 3},
		{"score --json --in " + chains, 3},
		{"eval --data " + pairs, 2},
		{"train --method sft --steps 1 --questions 1 --data " + pairs + " --output " + out, 2},
	} {
		code, text, errs := setting{}.nrt(t, append(strings.Fields(c.args), "--model", dir)...)
		words := "words are"
		if c.n == 1 {
			words = "word is"
		}
		want := fmt.Sprintf("warning: %d %s not in the model's vocabulary", c.n, words)
		if n := strings.Count(errs, "not in the model's vocabulary"); code != exitOK || n != min(c.n, 1) || n > 0 && !strings.Contains(errs, want) || strings.Contains(text, "warning") {
			t.Errorf("%s: exit %d, %q; want %q", c.args, code, errs, want)
		}
	}
	code, _, errs := setting{}.nrt(t, "explain", "--model", byteModel(t), "--question", "zoe é", "--answer", "eve", "--k", "2", "--max-chain", "2")
	if code != exitOK || errs != "" {
		t.Errorf("a tokenizer that spells everything: exit %d, %q", code, errs)
	}
}
