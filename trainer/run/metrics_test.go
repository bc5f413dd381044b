package run

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"nrt/trainer/objective"
)

func openMetrics(t *testing.T, dir string, step int) *Metrics {
	t.Helper()
	m, err := OpenMetrics(dir, step)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func logged(t *testing.T, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	m := openMetrics(t, dir, -1)
	check(t,
		m.Log(1, Values{"loss": 0.1, "kl": math.NaN(), "completions/mean_length": 12, "a\"<b>": math.Inf(1)}),
		m.Log(2, nil), m.Sync(), m.Close())
	want := `{"step": 1, "a\"<b>": null, "completions/mean_length": 12, "kl": null, "loss": 0.1}` + "\n{\"step\": 2}\n"
	if got := logged(t, dir); got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
	all, err := ReadMetrics(dir)
	if err != nil || len(all) != 2 || all[0]["loss"] != 0.1 || all[0]["step"] != 1 || !math.IsNaN(all[0]["kl"]) {
		t.Errorf("have %v, %v", all, err)
	}
}

// Every number comes back with its last bit.
func TestNumbers(t *testing.T) {
	for _, x := range []float64{0, 1, -1, 0.1, 1.0 / 3, 1e15, 1e15 - 1, -1e16, 1e300, 5e-324, math.MaxFloat64, 123456789.125, 1 << 53} {
		got, err := json.Marshal(Values{"x": x})
		if err != nil {
			t.Fatal(err)
		}
		var v Values
		if err := json.Unmarshal(got, &v); err != nil || v["x"] != x {
			t.Errorf("%v became %s: %v", x, got, err)
		}
	}
	var v Values
	if err := json.Unmarshal([]byte("null"), &v); err != nil || v != nil {
		t.Errorf("null: %v, %v", v, err)
	}
	if err := json.Unmarshal([]byte(`{"a": "b"}`), &v); err == nil {
		t.Error("a string is taken for a number")
	}
}

func TestMetricsResume(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "metrics.jsonl")
	// An evaluation shares its step's number; a crash has torn the last line.
	const old = "{\"step\": 0, \"eval/x\": 1}\n{\"step\": 1}\n{\"step\": 2}\nnot JSON\n{\"loss\": 1}\n{\"step\": 2, \"eval/x\": 1}\n{\"step\": 3}\n{\"step\": 2"
	check(t, os.WriteFile(path, []byte(old), 0o644))
	if all, err := ReadMetrics(dir); err == nil || !strings.Contains(err.Error(), "metrics.jsonl:4: ") {
		t.Errorf("have %v, %v", all, err)
	}
	m := openMetrics(t, dir, 2)
	check(t, m.Log(3, Values{"loss": 2}), m.Close())
	want := "{\"step\": 0, \"eval/x\": 1}\n{\"step\": 1}\n{\"step\": 2}\n{\"step\": 2, \"eval/x\": 1}\n{\"step\": 3, \"loss\": 2}\n"
	if got := logged(t, dir); got != want {
		t.Errorf("have %q\nwant %q", got, want)
	}
	check(t, openMetrics(t, dir, -1).Close())
	if got := logged(t, dir); got != "" {
		t.Errorf("a fresh run keeps %q", got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("leftovers: %v, %v", entries, err)
	}
	if _, err := OpenMetrics(filepath.Join(dir, "none"), -1); err == nil || !strings.Contains(err.Error(), "open log: ") {
		t.Errorf("have %v", err)
	}
	if _, err := ReadMetrics(filepath.Join(dir, "none")); err == nil {
		t.Error("no error")
	}
}

// Whatever a crash has left in a log, opening it keeps whole lines of steps up
// to the one resumed from and nothing else, and opening again changes nothing.
func FuzzCutLines(f *testing.F) {
	f.Add([]byte("{\"step\": 1}\n{\"step\": 5}\n{\"st"), 3)
	f.Add([]byte("{\"step\": 1e0}\n{\"step\": 1, \"step\": 9}\n{\"step\": null}\n{\"step\": 2, \"x\": 0}\n{\"x\": 0}\n"), 3)
	f.Add([]byte("\n\n{}\r\n{\"step\": null}\n[1]\n"), 0)
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		var once, twice strings.Builder
		check(t, copyLines(&once, strings.NewReader(string(raw)), step))
		for _, line := range strings.SplitAfter(once.String(), "\n") {
			var v struct{ Step *int }
			if line != "" && (json.Unmarshal([]byte(line), &v) != nil || v.Step == nil || *v.Step > step || !strings.Contains(string(raw), line)) {
				t.Fatalf("kept %q", line)
			}
		}
		check(t, copyLines(&twice, strings.NewReader(once.String()), step))
		if once.String() != twice.String() {
			t.Fatalf("%q, then %q", once.String(), twice.String())
		}
	})
}

func TestCompletions(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenCompletions(dir, -1, 2, 10)
	check(t, err)
	long := "ééééééééé" // 18 bytes; the 10th is within a character
	list := []Completion{
		{Question: "1+1?", Group: 0, Chain: 1, Text: "<think> & so\n", Reference: "2", Closed: true, Earned: objective.Earned{Reward: 0.123456789, Base: 1.0 / 3, Trace: math.NaN()}, C: []float64{0.5, 1e-12}, B: []float64{0.25}},
		{Question: long, Text: long + "é", Reference: "2", Answer: "3", Matched: new(bool), Earned: objective.Earned{Reward: -12345678}, C: nil},
		{Question: "over the limit"},
	}
	check(t, c.Log(7, list), c.Log(8, nil), c.Sync(), c.Close())
	raw, err := os.ReadFile(filepath.Join(dir, "completions.jsonl"))
	check(t, err)
	want := `{"step":7,"group":0,"chain":1,"question":"1+1?","completion":"<think> &  … (3 more bytes)","closed":true,"reference":"2","reward":0.123457,"reward_base":0.333333,"reward_clipped":0,"advantage":null,"c":[0.5,1e-12],"b":[0.25]}
{"step":7,"group":0,"chain":0,"question":"ééééé … (8 more bytes)","completion":"ééééé … (10 more bytes)","closed":false,"reference":"2","answer":"3","matched":false,"reward":-1.23457e+07,"reward_base":0,"reward_clipped":0,"advantage":0,"c":[]}
`
	if string(raw) != want {
		t.Errorf("have %s\nwant %s", raw, want)
	}
	// It is cut at a resume like the metrics.
	c, err = OpenCompletions(dir, 6, 2, 0)
	check(t, err)
	check(t, c.Log(7, []Completion{{Text: long}}), c.Close())
	raw, err = os.ReadFile(filepath.Join(dir, "completions.jsonl"))
	check(t, err)
	if strings.Count(string(raw), "\n") != 1 || !strings.Contains(string(raw), long) {
		t.Errorf("have %s", raw)
	}
}

func TestCutAtCharacters(t *testing.T) {
	s := "a😀é\u0301b…"
	for n := 1; n < len(s); n++ {
		got := (&Completions{maxText: n}).cut(s)
		if !utf8.ValidString(got) {
			t.Errorf("%d: %q", n, got)
		}
	}
}

// brokenDisk writes nothing any more.
type brokenDisk struct{ osDisk }

type brokenFile struct{ diskFile }

var errBroken = errors.New("no space left")

func (brokenFile) Write([]byte) (int, error) { return 0, errBroken }
func (brokenFile) Sync() error               { return errBroken }

func (d brokenDisk) OpenAppend(path string) (diskFile, error) {
	f, err := d.osDisk.OpenAppend(path)
	return brokenFile{f}, err
}

func TestLogErrors(t *testing.T) {
	l, err := openLines(brokenDisk{}, filepath.Join(t.TempDir(), "x.jsonl"), -1)
	check(t, err)
	for _, err := range []error{(&Metrics{l}).Log(1, nil), l.Sync(), (&Completions{lines: l, perStep: 1}).Log(1, []Completion{{}}), l.Close()} {
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "x.jsonl") {
			t.Errorf("have %v", err)
		}
	}
}
