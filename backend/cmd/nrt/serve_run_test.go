package main

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nrt/trainer/run"
	"nrt/web/wire"
)

// TestShownRun trains a few steps and shows the run on a page: its curves, its models by
// step and the model that it started from are those of the folder, and its last model
// is the one that is asked first.
func TestShownRun(t *testing.T) {
	known, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	s, dir := setting{builtins: known}, t.TempDir()
	s.ok(t, "world", "--out", filepath.Join(dir, "w"), "--docs", "1", "--train", "40", "--tests", "8")
	out := filepath.Join(dir, "study", "nrt")
	_, _, said := s.nrt(t, "train", "--model", "world:base", "--data", filepath.Join(dir, "w", "train.jsonl"), "--eval-data", filepath.Join(dir, "w", "heldout.jsonl"),
		"--eval-every", "2", "--answer-regex", `(\w+)`, "--questions", "2", "--k", "2", "--steps", "4", "--save-every", "1", "--keep", "0", "--output", out)
	// Its last words are commands that work as they stand.
	_, after, _ := strings.Cut(said, "\nnext: nrt ")
	for _, line := range strings.Split(strings.TrimSpace(after), "\n")[1:] {
		if words := strings.Fields(line); words[1] == "explain" {
			s.ok(t, append(words[1:], "--k", "1")...)
		} else if words[1] != "eval" || !strings.HasPrefix(after, "serve --show-run "+out+"\n") {
			t.Errorf("the run ends with %q", said)
		}
	}
	if code, _, stderr := s.nrt(t, "serve", "--model", out); code != exitFailure || !strings.Contains(stderr, "try "+filepath.Join(out, "final")) {
		t.Errorf("a run's folder as a model: exit %d, %s", code, stderr)
	}
	if code, _, stderr := s.nrt(t, "serve", "--show-run", dir); code != exitFailure || !strings.Contains(stderr, "--show-run: ") || !strings.Contains(stderr, "holds no run") {
		t.Errorf("a folder without a run: exit %d, %s", code, stderr)
	}
	if code, _, stderr := s.nrt(t, "serve", "--show-run", out, "--show-run", out+"/"); code != exitUsage || !strings.Contains(stderr, "study/nrt") {
		t.Errorf("a run twice: exit %d, %s", code, stderr)
	}
	address, stop := serving(t, "--addr", "127.0.0.1:0", "--no-train", "--show-run", out)
	get := func(path string, to any) {
		t.Helper()
		resp, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode == http.StatusOK {
			err = json.Unmarshal(raw, to)
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s %v", path, resp.Status, raw, err)
		}
	}
	var r struct {
		State        wire.State
		Steps, Evals []wire.Point
	}
	get("api/runs/"+url.PathEscape("study/nrt"), &r)
	if err := r.State.Validate(); err != nil {
		t.Error(err)
	}
	var kept []string
	for _, c := range r.State.Checkpoints {
		kept = append(kept, strconv.Itoa(c.Step)+" "+c.Model)
	}
	want := "0 world:base, 1 study/nrt/checkpoint-1, 2 study/nrt/checkpoint-2, 3 study/nrt/checkpoint-3, 4 study/nrt/final"
	if have := strings.Join(kept, ", "); have != want || r.State.Method != "nrt" || r.State.Mode != "ws-logp" || r.State.Step != 4 || r.State.Of != 4 || !r.State.Saved {
		t.Errorf("have %s of %+v\nwant %s", have, r.State, want)
	}
	if len(r.Evals) != 3 || r.Evals[2].Step != 4 {
		t.Errorf("its measurements are %+v", r.Evals)
	}
	lines, err := run.ReadMetrics(out)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for _, v := range lines {
		if raw, ok := v["nrt/reward_raw"]; ok {
			if i >= len(r.Steps) || r.Steps[i].Step != int(v["step"]) || math.Abs(r.Steps[i].Values[wire.ValueReward]-raw) > 1e-12 {
				t.Fatalf("step %v has the reward %v, the page %+v", v["step"], raw, r.Steps)
			}
			i++
		}
	}
	if i != 4 || len(r.Steps) != i {
		t.Errorf("%d steps, %d on the page", i, len(r.Steps))
	}
	var models []wire.Model
	get("api/models", &models)
	if models[0].Name != "study/nrt/final" || !slices.ContainsFunc(models, func(m wire.Model) bool { return m.Name == "study/nrt/checkpoint-2" }) {
		t.Errorf("the models are %+v", models)
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// TestShownRunGrows plays a run's folder again as its trainer left it step by step, and
// looks at it as the server does.
func TestShownRunGrows(t *testing.T) {
	known, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	s, from := setting{builtins: known}, t.TempDir()
	out := filepath.Join(from, "out")
	s.ok(t, "world", "--out", from, "--docs", "1", "--train", "40", "--tests", "8")
	s.ok(t, "train", "--model", "world:base", "--data", filepath.Join(from, "train.jsonl"), "--eval-data", filepath.Join(from, "heldout.jsonl"),
		"--eval-every", "1", "--answer-regex", `(\w+)`, "--questions", "2", "--k", "2", "--steps", "20", "--save-every", "1", "--keep", "0", "--output", out)
	all, err := os.ReadFile(filepath.Join(out, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(all), "\n")
	dir := filepath.Join(t.TempDir(), "study", "grows")
	moves := func(name string) {
		t.Helper()
		if err := os.Rename(filepath.Join(out, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	logs := func(text string) (now time.Time) { // and when that was
		t.Helper()
		path := filepath.Join(dir, "metrics.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	e := &env{ctx: t.Context(), err: io.Discard, builtins: known}
	if _, _, err := e.shownRuns([]string{dir}, time.Now()); err == nil || !strings.Contains(err.Error(), "holds no run") {
		t.Errorf("before it begins: %v", err)
	}
	moves("run.json")
	now := logs("")
	list, models, err := e.shownRuns([]string{dir}, now)
	if err != nil || len(list) != 1 || len(models) != 0 {
		t.Fatalf("%v, %v, %v", list, models, err)
	}
	r := list[0]
	stands := func(what, status string, step, points, evals, kept int, last string) {
		t.Helper()
		st := r.State
		if err := st.Validate(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if st.Status != status || st.Step != step || st.Of != 20 || len(r.Metrics) != points || len(r.Evals) != evals ||
			len(st.Checkpoints) != kept+1 || len(r.Models) != kept || st.Checkpoints[0].Model != "world:base" {
			t.Errorf("%s: %d points, %d evaluations, %+v", what, len(r.Metrics), len(r.Evals), st)
		}
		if kept > 0 && (r.Models[0].Name != "study/grows/"+last || !r.Models[0].World || st.Checkpoints[kept].Model != r.Models[0].Name) {
			t.Errorf("%s: its last model is %+v, want %s", what, r.Models[0], last)
		}
	}
	stands("at first", wire.StatusRunning, 0, 0, 0, 0, "")
	look := func() {
		t.Helper()
		if r, err = r.Look(now); err != nil {
			t.Fatal(err)
		}
	}
	now = logs(strings.Join(lines[:3], "")) // an evaluation before, a step, an evaluation
	look()
	stands("before its first checkpoint", wire.StatusRunning, 1, 1, 2, 0, "")
	moves("checkpoint-1")
	look()
	stands("with one", wire.StatusRunning, 1, 1, 2, 1, "checkpoint-1")
	now = logs(strings.Join(lines[:5], "") + lines[5][:20])
	moves("checkpoint-2")
	look()
	stands("a step more", wire.StatusRunning, 2, 2, 3, 2, "checkpoint-2")
	if err := os.RemoveAll(filepath.Join(dir, "checkpoint-1")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Minute)
	look()
	stands("a model less, and nobody at work", wire.StatusStopped, 2, 2, 3, 1, "checkpoint-2")
	logs(strings.Join(lines[:3], "")) // it goes on from step 1, as after a crash
	look()
	stands("cut back", wire.StatusStopped, 2, 1, 2, 1, "checkpoint-2")
	shown := map[string]bool{}
	for n := 3; n <= 20; n++ {
		logs(strings.Join(lines[:2*n+1], ""))
		moves("checkpoint-" + strconv.Itoa(n))
		look()
		for _, m := range r.Models {
			shown[m.Name] = true
		}
		if n == 17 { // two too many
			stands("at step 17", wire.StatusStopped, 17, 17, 18, mostKept/2+1, "checkpoint-17")
		}
	}
	stands("at its end", wire.StatusDone, 20, 20, 21, mostKept/2+4, "checkpoint-20")
	if len(shown) != 19 {
		t.Errorf("%d models were shown, want each when it was new", len(shown))
	}
	moves("final")
	look()
	stands("with its final model", wire.StatusDone, 20, 20, 21, mostKept/2+4, "final")
}

func TestEvenly(t *testing.T) {
	if list := evenly([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 4); !slices.Equal(list, []int{0, 3, 6, 9}) {
		t.Errorf("have %v", list)
	}
	if list := evenly([]int{0, 1}, 4); !slices.Equal(list, []int{0, 1}) {
		t.Errorf("have %v", list)
	}
}
