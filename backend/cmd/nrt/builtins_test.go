package main

import (
	"testing"
)

// Every model inside the program can be read and asked, the default one first.
func TestBuiltinModels(t *testing.T) {
	list, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	s := setting{builtins: list}
	if find := (&env{builtins: list}).builtin(defaultModel); find == nil {
		t.Errorf("no built-in model %s", defaultModel)
	}
	for _, b := range list {
		d, err := describe(b.Name, b.Files)
		if err != nil {
			t.Error(err)
			continue
		}
		if d.Format != "world" || b.About == "" || len(b.Samples) == 0 {
			t.Errorf("%s: have %+v, about %q, %d samples", b.Name, d, b.About, len(b.Samples))
		}
		s.ok(t, "explain", "--model", b.Name, "--k", "2", "--sample", "2")
		s.ok(t, "generate", "--model", b.Name, "--question", b.Samples[0].Question)
	}
}
