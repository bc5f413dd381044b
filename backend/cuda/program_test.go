//go:build cuda

package cuda

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nrt/backend/cuda/internal/driver"
	"nrt/backend/cuda/internal/emu"
)

// TestProgram: the program built with the tag starts without a driver, computes on
// the CPU and says so; with one it computes and trains on the card.
func TestProgram(t *testing.T) {
	if testing.Short() || onCard() {
		t.Skip("builds the program")
	}
	library := emu.Library(t, false)
	nrt := filepath.Join(t.TempDir(), "nrt")
	if out, err := exec.Command("go", "build", "-tags", "cuda", "-o", nrt, "nrt/backend/cmd/nrt").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	run := func(library string, args ...string) (stdout, stderr string, err error) {
		var out, errs bytes.Buffer
		c := exec.Command(nrt, args...)
		c.Env = append(os.Environ(), driver.Env+"="+library)
		c.Stdout, c.Stderr = &out, &errs
		err = c.Run()
		return out.String(), errs.String(), err
	}
	logProbs := func(library string, args ...string) []float64 {
		out, _, err := run(library, append([]string{"logprobs", "--ids", "1,5,9,12,7,3", "--json"}, args...)...)
		var r struct{ Tokens []struct{ LogProb *float64 } }
		if err = firstOf(err, json.Unmarshal([]byte(out), &r)); err != nil || len(r.Tokens) != 6 {
			t.Fatalf("logprobs %v: %v\n%s", args, err, out)
		}
		var list []float64
		for _, x := range r.Tokens[1:] {
			list = append(list, *x.LogProb)
		}
		return list
	}
	const nowhere = "/nowhere/libcuda.so.1"
	_, said, err := run(nowhere, "logprobs", "--ids", "1,5")
	if err != nil || !strings.HasPrefix(said, "nrt: computing on the CPU: cuda: ") || !strings.Contains(said, nowhere) || strings.Count(said, "\n") != 1 {
		t.Errorf("without a driver: %v, %q", err, said)
	}
	if _, said, err = run(nowhere, "logprobs", "--ids", "1,5", "--device", "cuda"); err == nil || !strings.Contains(said, nowhere) {
		t.Errorf("a card that is not there: %v, %q", err, said)
	}
	want := logProbs(nowhere, "--device", "cpu")
	for typ, most := range map[string]float64{"f32": 1e-3, "bf16": 0.1} {
		for i, x := range logProbs(library, "--device", "cuda", "--dtype", typ) {
			if !(math.Abs(x-want[i]) <= most) {
				t.Errorf("%s: token %d has log-probability %g, on the CPU %g", typ, i+1, x, want[i])
			}
		}
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data.jsonl")
	if err := os.WriteFile(data, []byte(`{"question": "one and one", "answer": "two"}`+"\n"+`{"question": "one and two", "answer": "three"}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	train := strings.Fields("train --device cuda --vocab 300 --hidden 32 --layers 1 --heads 2 --positions 48 --k 2 --questions 2 --steps 2 --max-chain 6 --mini-batch 0 --moments 8")
	_, said, err = run(library, append(train, "--data", data, "--output", filepath.Join(dir, "out"))...)
	if err != nil || !strings.Contains(said, "bf16") || !strings.Contains(said, "in bfloat16, with a copy in float32") || !strings.Contains(said, "step 2/2") {
		t.Errorf("training: %v\n%s", err, said)
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
