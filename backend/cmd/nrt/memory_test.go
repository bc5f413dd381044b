package main

import (
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
	out := filepath.Join(t.TempDir(), "out")
	for args, want := range map[string]string{
		"explain --question who --answer no --k 1024 --model " + dir:                      "memory: 1024 chains of up to 5",
		"generate --prompt who --n 512 --model " + dir:                                    "lower --n or --max-tokens",
		"generate --question who --n 512 --model " + dir:                                  "lower --n, --max-chain or --max-tokens",
		"eval --k 700 --model " + dir + " --data " + in:                                   "lower --k, --max-chain or --max-answer",
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
	s.ok(t, "eval", "--k", "3", "--model", dir, "--data", in)
}
