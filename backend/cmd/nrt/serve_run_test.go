package main

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

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
	if code, _, stderr := s.nrt(t, "serve", "--show-run", dir); code != exitFailure || !strings.Contains(stderr, "--show-run") || !strings.Contains(stderr, "metrics.jsonl") {
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

func TestMeans(t *testing.T) {
	nan := math.NaN()
	have := means([]run.Values{{"step": 1, "loss": 2}, {"step": 2, "loss": 4, "entropy": 1}, {"step": 3, "loss": nan, "entropy": 3}}, 2)
	if len(have) != 2 || have[0]["step"] != 2 || have[0]["loss"] != 3 || have[0]["entropy"] != 1 || have[1]["step"] != 3 || have[1]["entropy"] != 3 {
		t.Errorf("have %v", have)
	}
	if _, ok := have[1]["loss"]; ok {
		t.Errorf("a mean of nothing: %v", have[1])
	}
	if list := evenly([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 4); !slices.Equal(list, []int{0, 3, 6, 9}) {
		t.Errorf("have %v", list)
	}
	if list := evenly([]int{0, 1}, 4); !slices.Equal(list, []int{0, 1}) {
		t.Errorf("have %v", list)
	}
}
