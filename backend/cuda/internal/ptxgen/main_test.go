package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	sources   = "../../kernels"
	committed = "../../ptx"
)

// complete names the modules, of which each has its source and no source lacks one.
func complete(t *testing.T) []string {
	t.Helper()
	want, err := modules(sources, ".cu")
	if err != nil {
		t.Fatal(err)
	}
	have, err := modules(committed, ".ptx")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(have, want) {
		t.Fatalf("ptx/ has %v, kernels/ has %v: run go generate ./backend/cuda", have, want)
	}
	return want
}

// The hash in each file is that of the sources as they are. That every byte is what
// clang-16 writes, `make check-generated` sees where it is found.
func TestPTXIsOfTheseSources(t *testing.T) {
	for _, name := range complete(t) {
		text, err := os.ReadFile(filepath.Join(committed, name+".ptx"))
		if err != nil {
			t.Fatal(err)
		}
		begin, err := head(sources, name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), begin) {
			t.Errorf("ptx/%s.ptx is not of kernels/%s.cu as it is: run go generate ./backend/cuda", name, name)
		}
	}
}

// A driver refuses PTX of a later version than its own, which is 7.4 for CUDA 11.4, the
// oldest that docs/gpu.md and the errors of package driver name.
func TestPTXIsForTheOldestDriver(t *testing.T) {
	for _, name := range complete(t) {
		text, err := os.ReadFile(filepath.Join(committed, name+".ptx"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\n.version 7.4\n") {
			t.Errorf("ptx/%s.ptx is not of version 7.4", name)
		}
	}
}

// NVIDIA's assembler, where it is installed, takes every module for each
// architecture that there is a difference to.
func TestPTXAssembles(t *testing.T) {
	if _, err := exec.LookPath("ptxas"); err != nil {
		t.Skip("needs ptxas")
	}
	names, err := modules(committed, ".ptx")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		for _, arch := range []string{"sm_80", "sm_89", "sm_90"} {
			file := filepath.Join(committed, name+".ptx")
			if text, err := exec.Command("ptxas", "-arch", arch, file, "-o", filepath.Join(t.TempDir(), "out")).CombinedOutput(); err != nil {
				t.Errorf("ptxas -arch %s %s.ptx: %v\n%s", arch, name, err, text)
			}
		}
	}
}

// LLVM counts some loops down past zero and ends them by an unsigned comparison with
// a negative number (while n−8 < 2³²−2). ptxas of CUDA 13.0 takes that for a signed
// one where it unrolls, and goes round too often: tokens with equal logits were drawn
// wrongly on a card, and nowhere else. A kernel that comes to have such a loop is
// written in another way.
func TestLoopsEndAtZero(t *testing.T) {
	wraps := regexp.MustCompile(`setp\.\w+\.u(32|64)\s.*, -\d+;`)
	for _, name := range complete(t) {
		text, err := os.ReadFile(filepath.Join(committed, name+".ptx"))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if wraps.MatchString(line) {
				t.Errorf("ptx/%s.ptx:%d: %s: an unsigned comparison with a negative number", name, i+1, strings.TrimSpace(line))
			}
		}
	}
}

// A change of a source, of a header it includes or of a flag changes the hash;
// another file does not.
func TestHashFollowsTheSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	hash := func() string {
		t.Helper()
		h, err := head(dir, "a")
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^// Code generated .* DO NOT EDIT\.\n// sources [0-9a-f]{64}\n$`).MatchString(h) {
			t.Fatalf("head is %q", h)
		}
		return h
	}
	write("a.cu", "#include \"a.h\"\n#include \"../elsewhere.h\"\n")
	write("a.h", "#include \"b.h\"\n")
	write("b.h", "1\n")
	first := hash()
	write("c.h", "not included\n")
	if hash() != first {
		t.Error("a file that is not included changed the hash")
	}
	write("b.h", "2\n")
	second := hash()
	if second == first {
		t.Error("a header that a header includes did not change the hash")
	}
	defer func(f []string) { flags = f }(flags)
	flags = append(slices.Clone(flags), "-g")
	if hash() == second {
		t.Error("a flag did not change the hash")
	}
	if err := os.Remove(filepath.Join(dir, "b.h")); err != nil {
		t.Fatal(err)
	}
	if _, err := head(dir, "a"); err == nil {
		t.Error("a missing header is no error")
	}
}
