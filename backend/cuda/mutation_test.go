//go:build cuda

package cuda

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nrt/backend/cuda/internal/emu"
)

// A mutation puts a fault into a kernel: the nth time (from 0) that a file has the
// text old, it is new. Those of the conformance suite that are named, under the
// check that is named, must fail then. Statements end with a semicolon; other
// texts are expressions.
type mutation struct {
	file     string
	nth      int
	old, new string
	check    emu.Check
	tests    string // float type/operation
}

var mutations = []mutation{
	// A barrier is missing.
	{"reduce.cu", 0, "sync();", ";", emu.Races, "f32/SumSquares"},
	{"reduce.cu", 1, "sync();", ";", emu.Races, "bf16/SumSquares"},
	{"norm.cu", 0, "sync();", ";", emu.Races, "f32/RMSNorm"},
	{"gemm_f32.cu", 0, "sync();", ";", emu.Races, "f32/MatMul"},
	{"gemm_f32.cu", 1, "sync();", ";", emu.Races, "f32/MatMul"},
	{"gemm_bf16.cu", 0, "sync();", ";", emu.Races, "bf16/MatMul"},
	{"gemm_bf16.cu", 1, "sync();", ";", emu.Races, "bf16/MatMul"},
	{"gemm_few_f32.cu", 0, "sync();", ";", emu.Races, "f32/MatMulKeptWeights"},
	{"gemm_few.cu", 0, "sync();", ";", emu.Races, "bf16/Project"},
	{"gemm_few.cu", 1, "sync();", ";", emu.Races, "bf16/MatMulKeptWeights"},
	{"sample.h", 0, "sync();", ";", emu.Races, "f32/Sample"},
	{"sample.h", 4, "sync();", ";", emu.Races, "f32/Sample"},
	{"sample.cu", 3, "sync();", ";", emu.Races, "f32/Sample"},
	{"attention_forward_f32.cu", 1, "sync();", ";", emu.Races, "f32/Attention"},
	{"attention_forward_f32.cu", 0, "sync_warp();", ";", emu.Races, "f32/Attention"},
	{"attention_backward_f32.cu", 0, "sync();", ";", emu.Races, "f32/Attention"},
	{"attention_backward_bf16.cu", 0, "sync();", ";", emu.Races, "bf16/Attention"},
	{"attention_forward_bf16.cu", 0, "sync();", ";", emu.Races, "bf16/Attention"},

	// A copy is not waited for.
	{"gemm_bf16.cu", 0, "cp_async_wait<STAGES - 2>();", ";", emu.Plain, "bf16/MatMul"},
	{"gemm_f32.cu", 0, "cp_async_wait<STAGES - 2>();", ";", emu.Plain, "f32/MatMul"},
	{"gemm_few.cu", 0, "arrived(in.stages - 2);", ";", emu.Plain, "bf16/MatMulKeptWeights"},
	{"attention_forward_f32.cu", 0, "cp_async_wait<0>();", ";", emu.Plain, "f32/Attention"},

	// A lane takes another's number.
	{"sample.h", 0, "shfl_xor(count, d)", "shfl_xor(count, 1)", emu.Plain, "f32/Sample"},
	{"attention_forward_f32.cu", 0, "shfl_xor(high, m)", "shfl_xor(high, m * 2)", emu.Plain, "f32/Attention"},
	{"attention_forward_f32.cu", 0, "shfl_xor(sum[i], m)", "shfl_xor(sum[i], 1)", emu.Plain, "f32/Attention"},
	{"attention_forward_bf16.cu", 0, "shfl_xor(total, 2)", "shfl_xor(total, 4)", emu.Plain, "bf16/Attention"},

	// A bound is off by one.
	{"rope.cu", 0, "t < heads * runs", "t <= heads * runs", emu.Plain, "f32/RoPE"},
	{"norm.cu", 0, "warp() != 0 || j >= dim", "warp() != 0 || j > dim", emu.Races, "f32/RMSNorm"},
	{"classifier.cu", 0, "i < count", "i <= count", emu.Races, "f32/Classifier"},
	{"classifier.cu", 0, "row * to_pitch", "row * pitch", emu.Plain, "bf16/Classifier"},
	{"sample.h", 0, "id<T>(i, e) >= end", "id<T>(i, e) > end", emu.Races, "f32/Sample"},
	{"rows.cu", 0, "j + i < width", "j + i <= width", emu.Races, "f32/Rows"},
	{"attention.h", 0, "head < h.group", "head <= h.group", emu.Plain, "bf16/Attention"},
	{"attention_bf16.h", 0, "p >= end", "p > end", emu.Plain, "bf16/Attention"},
}

// mutate copies the kernels to a folder, with all mutations in it, each behind a
// condition on its number, so that one library has them all: NRT_EMU_MUTANT chooses
// the one at work, from 1.
func mutate(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob("kernels/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text, changed := string(raw), false
		type edit struct {
			at, end int
			text    string
		}
		var edits []edit
		for i, m := range mutations {
			if m.file != filepath.Base(name) {
				continue
			}
			at := -1
			for range m.nth + 1 {
				next := strings.Index(text[at+1:], m.old)
				if next < 0 {
					t.Fatalf("%s has %q not so many times as %d", m.file, m.old, m.nth+1)
				}
				at += 1 + next
			}
			new := fmt.Sprintf("(emu::mutant == %d ? (%s) : (%s))", i+1, m.new, m.old)
			if strings.HasSuffix(m.old, ";") {
				new = fmt.Sprintf("if (emu::mutant == %d) { %s } else { %s }", i+1, m.new, m.old)
			}
			edits = append(edits, edit{at, at + len(m.old), new})
		}
		slices.SortFunc(edits, func(a, b edit) int { return b.at - a.at })
		for _, e := range edits {
			text, changed = text[:e.at]+e.text+text[e.end:], true
		}
		if changed {
			last := regexp.MustCompile(`(?m)^#include .*\n`).FindAllStringIndex(text, -1)
			at := last[len(last)-1][1]
			text = text[:at] + "namespace emu { extern int mutant; }\n" + text[at:]
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// The suite notices faults in the kernels themselves, not only in examples.
func TestSuiteCatchesMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("one run of a part of the suite for each mutation")
	}
	emulator(t) // skips the test without it
	dir := t.TempDir()
	mutate(t, dir)
	run := func(check emu.Check, tests string, mutant int) (string, error) {
		dtype, operation, _ := strings.Cut(tests, "/")
		out, err := emu.Again(t, check, "^TestConformance$/^("+dtype+")_/^("+operation+")$", emu.EnvKernels+"="+dir, fmt.Sprintf("NRT_EMU_MUTANT=%d", mutant))
		return string(out), err
	}
	// None of them at work: what is run for them passes.
	type group struct {
		check emu.Check
		dtype string
	}
	all := map[group]map[string]bool{}
	for _, m := range mutations {
		dtype, operation, _ := strings.Cut(m.tests, "/")
		g := group{m.check, dtype}
		if all[g] == nil {
			all[g] = map[string]bool{}
		}
		all[g][operation] = true
	}
	for g, operations := range all {
		t.Run(fmt.Sprintf("none, %v, %s", g.check, g.dtype), func(t *testing.T) {
			t.Parallel()
			out, err := run(g.check, g.dtype+"/"+strings.Join(slices.Sorted(maps.Keys(operations)), "|"), 0)
			if err != nil || !strings.Contains(out, "--- PASS: TestConformance ") {
				t.Errorf("without mutation: %v\n%s", err, out)
			}
		})
	}
	for i, m := range mutations {
		t.Run(fmt.Sprintf("%s/%s/%d", m.file, m.old, m.nth), func(t *testing.T) {
			t.Parallel()
			out, err := run(m.check, m.tests, i+1)
			if failed := strings.Replace(m.tests, "/", "_.*/", 1); err == nil || !regexp.MustCompile("--- FAIL: TestConformance/"+failed).MatchString(out) {
				t.Errorf("as %q in %s it passed %s, %v: %v\n%s", m.new, m.file, m.tests, m.check, err, out)
			}
		})
	}
}
