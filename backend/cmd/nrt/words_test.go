package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nrt/trainer/eval"
	"nrt/trainer/objective"
	"nrt/trainer/reward"
	"nrt/trainer/run"
)

// chainsOf is a run's folder whose chains say "hmm" in the first half of so many steps and
// "so it is" after it; of a question's two chains the one with the longer text is right.
func chainsOf(t *testing.T, steps int) string {
	t.Helper()
	var b strings.Builder
	for s := 1; s <= steps; s++ {
		text := "hmm"
		if s > steps/2 {
			text = "so it is"
		}
		for q := range 2 {
			fmt.Fprintf(&b, `{"step":%d,"group":%d,"chain":0,"completion":"%s</think>","c":[0.25,1],"b":[0.25,1]}`+"\n", s, q, text)
			fmt.Fprintf(&b, `{"step":%d,"group":%d,"chain":1,"completion":"%s ann","c":[0.5,1],"b":[0.25,1]}`+"\n", s, q, text)
		}
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "completions.jsonl"), b.String())
	return dir
}

// What chains earn is told under the reward that they were trained with.
func TestWordsTakeTheRunsReward(t *testing.T) {
	dir := chainsOf(t, 20)
	c := run.Default(objective.NRT)
	c.Objective.Reward = reward.Options{Mode: reward.LogP, NoStd: true}
	raw, err := json.Marshal(run.State{Format: 1, MaxSteps: 20, Config: c})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "run.json"), string(raw))
	for args, want := range map[string]string{"": "+0.69", "--mode logp --no-std --clip=false": "+0.69", "--mode ws-logp": "+0.71"} { // log 2, and 1/√2
		var r compared
		decode(t, setting{}.ok(t, append([]string{"words", "--json", "--in", dir}, strings.Fields(args)...)...), &r)
		for _, w := range r.Words {
			if w.Word == "ann" && signed(w.Advantage) != want {
				t.Errorf("%q: want %s, have %+v", args, want, w)
			}
		}
	}
	if text := (setting{}).ok(t, "words", "--in", dir); !strings.Contains(text, "\nA       under logp (the run's own)\n") {
		t.Errorf("have %s", text)
	}
}

func TestWordsOfARun(t *testing.T) {
	dir := chainsOf(t, 20)
	var r compared
	decode(t, setting{}.ok(t, "words", "--in", dir, "--json"), &r)
	if r.Before.From != 1 || r.Before.To != 4 || r.After.From != 17 || r.After.To != 20 || r.Before.Chains != 16 || r.After.Questions != 8 {
		t.Errorf("a fifth of the steps: %+v, %+v", r.Before, r.After)
	}
	by := map[string]int{}
	for i, w := range r.Words {
		by[w.Word] = i + 1
	}
	if w := r.Words[by["so"]-1]; w.Before != 0 || w.After != 1 || w.Z < 2 || w.Questions != 0 {
		t.Errorf("came: %+v", w)
	}
	// The chains with "ann" gain, the others do not: among two, A is ±1/√2.
	if w := r.Words[by["ann"]-1]; w.Before != 0.5 || w.After != 0.5 || w.Z != 0 || w.Questions != 16 || signed(w.Advantage) != "+0.71" {
		t.Errorf("stayed: %+v", w)
	}
	if r.Words[len(r.Words)-1].Word != "hmm" {
		t.Errorf("went: %+v", r.Words)
	}

	text := setting{}.ok(t, "words", "--in", dir, "--steps", "10", "--n", "2")
	for _, want := range []string{
		"before  " + filepath.Join(dir, "completions.jsonl") + ", steps 1 to 10: 40 chains of 20 questions\n", ", steps 11 to 20: 40 chains of 20 questions\nA       under ws-logp (--mode)\n",
		"came                   before    after       A\nis                      0.0 %  100.0 %        \n", "… and 1 more\n",
		"went                   before    after       A\nhmm                   100.0 %    0.0 %",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}

	// A chain's reward follows --mode: without a baseline to beat, both are worth the same.
	decode(t, setting{}.ok(t, "words", "--in", dir, "--before", dir, "--mode", "logp", "--no-std", "--json"), &r)
	if r.Before != r.After || r.Before.From != 17 {
		t.Errorf("ends of two runs: %+v, %+v", r.Before, r.After)
	}
	for _, w := range r.Words {
		if w.Z != 0 {
			t.Errorf("nothing changed, but %+v", w)
		}
		if w.Word == "ann" && signed(w.Advantage) != "+0.69" { // log 2
			t.Errorf("under logp: %+v", w)
		}
	}
}

func TestWordsErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, text)
		return path
	}
	const good = `{"group":0,"completion":"a","c":[1],"b":[1]}` + "\n"
	plain := file("plain.jsonl", good+good)
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "want --in", nil},
		{exitUsage, `--mode: `, []string{"--in", plain, "--mode", "x"}},
		{exitUsage, "plain.jsonl has no steps, so no beginning: name with --before", []string{"--in", plain}},
		{exitUsage, "--steps: the chains of " + plain + " have no steps", []string{"--in", plain, "--before", plain, "--steps", "3"}},
		{exitUsage, "has the chains of 20 steps: too few for a beginning and an end of 11", []string{"--in", chainsOf(t, 20), "--steps", "11"}},
		{exitUsage, "has the chains of 1 step: too few", []string{"--in", chainsOf(t, 1)}},
		{exitFailure, "none.jsonl: no such file", []string{"--in", filepath.Join(dir, "none.jsonl")}},
		{exitFailure, "completions.jsonl: no such file", []string{"--in", dir}},
		{exitFailure, "empty.jsonl: no chains in it", []string{"--in", file("empty.jsonl", "")}},
		{exitFailure, "torn.jsonl: no chains in it", []string{"--in", file("torn.jsonl", `{"completion":"a`)}},
		{exitFailure, "bad.jsonl:2: not a line of chains", []string{"--in", file("bad.jsonl", good+"x\n"+good)}},
		{exitFailure, "other.jsonl:1: completion: is missing", []string{"--in", file("other.jsonl", `{"question":"a"}`+"\n")}},
		{exitFailure, "typed.jsonl:1: not a line of chains", []string{"--in", file("typed.jsonl", `{"completion":3}`+"\n")}},
	} {
		code, _, errs := setting{}.nrt(t, append([]string{"words"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit %d, %s; want %q", c.args, code, errs, c.want)
		}
	}

	// Numbers that are none, or missing, leave the advantage out, not the words.
	var r compared
	odd := file("odd.jsonl", good+`{"group":0,"completion":"b","c":[null],"b":[1]}`+"\n"+`{"group":1,"completion":"b"}`)
	decode(t, setting{}.ok(t, "words", "--in", odd, "--before", odd, "--json"), &r)
	if r.After.Questions != 2 || r.After.Chains != 3 || len(r.Words) != 2 || r.Words[0].Questions != 0 {
		t.Errorf("%+v", r)
	}
}

// What a run says of a chain that it cut is no word of the chain.
func TestWordsOfCutChains(t *testing.T) {
	dir := t.TempDir()
	log, err := run.OpenCompletions(dir, -1, 1, 16)
	if err != nil {
		t.Fatal(err)
	}
	for step := 1; step <= 20; step++ {
		text := "it is so"
		if step > 10 {
			text = "it is so (bytes) and on it goes"
		}
		if err := log.Log(step, []run.Completion{{Text: text}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	var r compared
	decode(t, setting{}.ok(t, "words", "--in", dir, "--json"), &r)
	var words []string
	for _, w := range r.Words {
		words = append(words, w.Word)
	}
	if have := strings.Join(words, " "); have != "( ) bytes is it so" {
		t.Errorf("have %q", have)
	}
}

// Words stand in columns, however wide they are, and do not drive the terminal.
func TestWordsAreVisible(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chains.jsonl")
	var b strings.Builder
	for step := range 20 {
		text := ""
		if step >= 10 {
			text = "\\u001b[2J 答 " + strings.Repeat("x", 60)
		}
		fmt.Fprintf(&b, `{"step":%d,"completion":"%s"}`+"\n", step+1, text)
	}
	writeFile(t, path, b.String())
	text := setting{}.ok(t, "words", "--in", path)
	for _, want := range []string{"\n\uFFFD[  ", "\n答" + strings.Repeat(" ", 18) + "    0.0 %", "\n" + strings.Repeat("x", 19) + "…    0.0 %"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%q", want, text)
		}
	}
}

// A long file is left when the command is interrupted; what cannot be read twice is refused.
func TestWordsReadsFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chains.jsonl")
	writeFile(t, path, `{"group":0,"completion":"a"}`+"\nx\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, _, errs := (setting{ctx: ctx}).nrt(t, "words", "--in", path); code != exitFailure || !strings.Contains(errs, "interrupted") {
		t.Errorf("interrupted: exit %d, %s", code, errs)
	}
	if code, _, errs := (setting{}).nrt(t, "words", "--in", os.DevNull); code != exitUsage || !strings.Contains(errs, os.DevNull+": want a file") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// What an evaluation writes is what it reports, and words reads it.
func TestEvalCompletions(t *testing.T) {
	dir := wordModel(t)
	in := lines(t, whoIs, `{"question": "who is the father of ann ?", "answer": "it was bob .", "family": "kin"}`)
	path := filepath.Join(t.TempDir(), "chains.jsonl")
	call := []string{"eval", "--model", dir, "--data", in, "--temperature", "1", "--k", "3", "--json"}
	report := setting{}.ok(t, call...)
	if with := (setting{}).ok(t, append(call, "--completions", path)...); with != report {
		t.Errorf("writing them changes the report: %s, %s", report, with)
	}
	var r eval.Report
	decode(t, report, &r)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var right, closed, after, want float64
	list := strings.Split(strings.TrimSpace(string(content)), "\n")
	for i, text := range list {
		var l evalLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		if l.Group != i/3 || l.Chain != i%3 || l.Matched == nil || *l.Matched != (l.Answer == l.Reference) || len(l.B) != len(l.C) ||
			l.Reference != []string{"no .", "it was bob ."}[i/3] || !strings.Contains(l.Question, "who is") {
			t.Errorf("line %d: %s", i+1, text)
		}
		if *l.Matched {
			right++
		}
		if l.Closed {
			closed++
		}
		for _, c := range l.C {
			after += c
		}
	}
	for _, h := range r.Hardness {
		want += float64(h.Tokens) * h.After
	}
	if len(list) != 6 || right/6 != r.Accuracy || closed/6 != r.ClosedShare || after < want-1e-9 || after > want+1e-9 {
		t.Errorf("%d chains, %g right, %g closed, Σc %g; the report says %s", len(list), right, closed, after, report)
	}
	setting{}.ok(t, "words", "--in", path, "--before", path)

	// A file that exists stays, and after an error there is none.
	if code, _, errs := (setting{}).nrt(t, append(call, "--completions", path)...); code != exitFailure || !strings.Contains(errs, "exists; name a new file") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(content) {
		t.Errorf("the file changed: %v", err)
	}
	place := filepath.Join(dir, "none", "f")
	code, _, errs := setting{}.nrt(t, "eval", "--model", filepath.Join(dir, "no-model"), "--completions", place) // said before a model is read
	if code != exitFailure || !strings.Contains(errs, "--completions: open "+place+":") {
		t.Errorf("no such folder: exit %d, %s", code, errs)
	}
}
