package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"nrt/trainer/reward"
	"nrt/trainer/verdict"
)

const scoreLine = `{"question": "who is the father of ann ?", "answer": "it is bob .", "chains": ["ann is bob", "", "no no no", "yes"]}`

type scoreResult struct {
	Line int
	verdict.Verdict
}

// decodeScores reads one result a line.
func decodeScores(t *testing.T, text string) []scoreResult {
	t.Helper()
	var list []scoreResult
	for line := range strings.Lines(text) {
		var r scoreResult
		decode(t, line, &r)
		list = append(list, r)
	}
	return list
}

// TestScoreOfAPipeIsInterrupted: Ctrl-C ends the wait for a program that writes into a
// pipe, as <(…) names one.
func TestScoreOfAPipeIsInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	pipe := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if _, err := os.Stat(pipe); err != nil {
		t.Skip(err) // not on this system
	}
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		fmt.Fprint(w, strings.Repeat("\n", 1<<20)) // more than a pipe holds
		stop()
	}()
	if code, _, errs := (setting{ctx: ctx}).nrt(t, "score", "--model", wordModel(t), "--in", pipe); code != exitFailure || !strings.Contains(errs, "interrupted") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// The numbers that score prints are those of package reward, and hang together.
func TestScore(t *testing.T) {
	dir := wordModel(t)
	in := setting{stdin: scoreLine + "\n\n" + scoreLine + "\n"}
	for _, mode := range reward.Modes() {
		list := decodeScores(t, in.ok(t, "score", "--model", dir, "--in", "-", "--mode", mode.String(), "--json"))
		if len(list) != 2 || list[0].Line != 1 || list[1].Line != 3 {
			t.Fatalf("%v: have %+v", mode, list)
		}
		if !reflect.DeepEqual(list[0].Chains, list[1].Chains) {
			t.Errorf("%v: equal lines are scored differently", mode)
		}
		v := list[0]
		if v.Mode != mode.String() || len(v.Tokens) != 5 || len(v.B) != 5 || len(v.Chains) != 4 {
			t.Fatalf("%v: have %+v", mode, v)
		}
		s, logb := make([][]float64, 4), make([]float64, 5)
		ranks := map[int]bool{}
		for i, c := range v.Chains {
			ranks[c.Rank] = true
			for _, x := range c.C {
				s[i] = append(s[i], math.Log(float64(x)))
			}
			if c.Clipped < 0 || !near(c.Clipped, max(0, c.R-v.Base)) || !near(c.Base, v.Base) || !reflect.DeepEqual(c.B, v.B) {
				t.Errorf("%v: chain %d: R %v, R_base %v, R_clipped %v", mode, i, c.R, v.Base, c.Clipped)
			}
			sum := verdict.Number(0)
			for j := range c.Contribution {
				sum += c.Contribution[j]
			}
			if !mode.Log() && !near(sum, c.R) {
				t.Errorf("%v: chain %d: contributions sum to %v, R is %v", mode, i, sum, c.R)
			}
		}
		for i, x := range v.B {
			logb[i] = math.Log(float64(x))
		}
		if len(ranks) != 4 || !ranks[1] || !ranks[4] {
			t.Errorf("%v: ranks %v", mode, ranks)
		}
		g, err := reward.ScoreGroup(s, logb, reward.Options{Mode: mode, Clip: true})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range v.Chains {
			if math.Abs(float64(c.R)-g.Chains[i].R) > 1e-9 || math.Abs(float64(c.Advantage)-g.Chains[i].Advantage) > 1e-6 {
				t.Errorf("%v: chain %d: R %v, A %v; package reward says %v, %v", mode, i, c.R, c.Advantage, g.Chains[i].R, g.Chains[i].Advantage)
			}
		}
		// The empty chain is the baseline.
		if !near(v.Chains[1].R, v.Base) || v.Chains[1].Text != "" || !v.Chains[1].Closed && v.Chains[1].Finish == "" {
			t.Errorf("%v: the empty chain has R %v, R_base is %v", mode, v.Chains[1].R, v.Base)
		}
	}
	text := in.ok(t, "score", "--model", dir, "--in", "-")
	if strings.Count(text, "R_base") != 2 || strings.Count(text, "chain ") != 8 {
		t.Errorf("have\n%s", text)
	}
}

// An error names no flags that the command has not.
func TestScoreOtherFields(t *testing.T) {
	code, _, errs := setting{stdin: `{"input": "who ?", "output": "bob", "chains": ["no"]}`}.nrt(t, "score", "--model", wordModel(t), "--in", "-")
	if code != exitFailure || !strings.Contains(errs, "no form fits the fields chains, input, output: want question and answer") || strings.Contains(errs, "--question-field") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestScoreMalformedLines(t *testing.T) {
	dir := wordModel(t)
	long := strings.Repeat("no ", 70)
	for _, c := range []struct{ line, want string }{
		{`{"question": "who`, "bad.jsonl:2: "},
		{`[1]`, "bad.jsonl:2: "},
		{`{"question": "who ?", "chains": ["no"]}`, "bad.jsonl:2: answer"},
		{`{"answer": "bob", "chains": ["no"]}`, "bad.jsonl:2: question"},
		{`{"question": 1, "answer": "bob", "chains": ["no"]}`, "bad.jsonl:2: question"},
		{`{"question": "who ?", "answer": "bob"}`, "bad.jsonl:2: chains: is missing"},
		{`{"question": "who ?", "answer": "bob", "chains": null}`, "bad.jsonl:2: chains: is missing"},
		{`{"question": "who ?", "answer": "bob", "chains": "no"}`, "bad.jsonl:2: chains: want a list of strings, have a string"},
		{`{"question": "who ?", "answer": "bob", "chains": []}`, "bad.jsonl:2: chains: want a list of strings, have an empty list"},
		{`{"question": "who ?", "answer": "bob", "chains": ["no", 7]}`, "bad.jsonl:2: chains: item 2: want a string, have a number"},
		{`{"question": "who ?", "answer": "bob", "chains": ["no", "\ud83d"]}`, `bad.jsonl:2: chains: item 2: a \ud800–\udfff escape stands without its partner`},
		{`{"question": "who ?", "answer": "bob", "chains": ["no", "` + long + `"]}`, "bad.jsonl:2: chains[1]: question, chain and answer are"},
		{`{"text": "who"}`, "bad.jsonl:2: "},
		{"{\"question\": \"\xff\", \"answer\": \"bob\", \"chains\": []}", "bad.jsonl:2: byte 15 (0xff) is not UTF-8"},
	} {
		path := filepath.Join(t.TempDir(), "bad.jsonl")
		if err := os.WriteFile(path, []byte(scoreLine+"\n"+c.line+"\n"+scoreLine+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := setting{}.nrt(t, "score", "--model", dir, "--in", path, "--json")
		if code != exitFailure || !strings.Contains(errs, c.want) || len(decodeScores(t, out)) != 1 {
			t.Errorf("%s\nexit %d, %d lines, %q; want %q", c.line, code, strings.Count(out, "\n"), errs, c.want)
		}
		code, out, errs = setting{}.nrt(t, "score", "--model", dir, "--in", path, "--json", "--keep-going")
		list := decodeScores(t, out)
		if code != exitFailure || !strings.Contains(errs, c.want) || !strings.Contains(errs, "1 of 3 lines could not be scored") || len(list) != 2 || list[1].Line != 3 {
			t.Errorf("%s --keep-going\nexit %d, %d lines, %q; want %q", c.line, code, len(list), errs, c.want)
		}
	}
	if code, _, errs := (setting{stdin: "\n"}).nrt(t, "score", "--model", dir, "--in", "-"); code != exitFailure || !strings.Contains(errs, "standard input: no lines") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// Chains of the same reward share a rank, on the terminal as in JSON.
func TestTiesShareARank(t *testing.T) {
	dir := wordModel(t)
	in := setting{stdin: `{"question": "who is ann ?", "answer": "it is bob .", "chains": ["no no", "", "no no", ""]}` + "\n"}
	v := decodeScores(t, in.ok(t, "score", "--model", dir, "--in", "-", "--json"))[0]
	first, second := v.Chains[0].Rank, v.Chains[1].Rank
	if first+second != 4 || first == second || v.Chains[2].Rank != first || v.Chains[3].Rank != second {
		t.Errorf("ranks %d, %d, %d, %d; want two of 1 and two of 3", first, second, v.Chains[2].Rank, v.Chains[3].Rank)
	}
	if text := in.ok(t, "score", "--model", dir, "--in", "-"); strings.Count(text, "   1.  ") != 2 || strings.Count(text, "   3.  ") != 2 {
		t.Errorf("have\n%s", text)
	}
}

// Chains that tie have no advantage. Without std they teach the answer all the same,
// unless no chain does it any good.
func TestTiesWithoutStd(t *testing.T) {
	dir := wordModel(t)
	for _, c := range []struct{ chains, flags, note string }{
		{`["no"]`, "", "One chain has no others"},
		{`["no"]`, "--no-std", ""},
		{`["no", "no"]`, "", "All rewards are equal"},
		{`["no", "no"]`, "--no-std", ""},
		{`[""]`, "--no-std --clip", "Every chain scored no higher"},
	} {
		in := setting{stdin: `{"question": "who is ann ?", "answer": "it is bob .", "chains": ` + c.chains + "}\n"}
		args := append([]string{"score", "--model", dir, "--in", "-", "--clip=false", "--json"}, strings.Fields(c.flags)...)
		v := decodeScores(t, in.ok(t, args...))[0]
		weighs := v.Chains[0].TokenWeight[0] != 0
		if v.Gradient != (c.note == "") || v.Gradient != weighs || !strings.Contains(v.Note, c.note) || v.Gradient && v.Note != "" {
			t.Errorf("%s %s: gradient %t, token weight %v, %q", c.chains, c.flags, v.Gradient, v.Chains[0].TokenWeight[0], v.Note)
		}
	}
}

// A chain may be as long as a model reads: what is left out of it costs no more than
// reading it once.
func TestClip(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"abcd", 4, "abcd"},
		{"abcde", 4, "abc…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"ae\u0301iou", 3, "ae\u0301…"},
		{strings.Repeat("a", 1<<20), 4, "aaa…"},
	} {
		if have := clip(c.text, c.n); have != c.want {
			t.Errorf("%.20q in %d: have %q, want %q", c.text, c.n, have, c.want)
		}
	}
}
