package run

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"strings"
	"testing"
)

// alike compares values, of which NaN is like NaN.
func alike(a, b Values) bool {
	return maps.EqualFunc(a, b, func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) })
}

// FuzzLine: a line that is read without package json says what that finds in it.
func FuzzLine(f *testing.F) {
	for _, line := range []string{
		`{"step": 1, "loss": 0.1, "kl": null, "nrt/x": -1e-07}`, `{"step": 1,"loss": 2}`, `{"a\u0041": 1}`, `{"x": 01}`, `{"x": .5}`, `{"x": 1.}`,
		`{"x": 0x1p3}`, `{"x": 1e999}`, `{"x": 1, "x": 2}`, `{"x": 1}}`, `{"x": 1} `, `{}`, `{"x": Inf}`, `{"x": -}`, `{"x": 1e}`, `{"é": 1}`, `{"x": "1"}`, `{"x": 1, }`, `null`,
	} {
		f.Add(line)
	}
	r := newLineReader(nil)
	f.Fuzz(func(t *testing.T, line string) {
		if !r.parse([]byte(line + "\n")) {
			return
		}
		var want Values
		if err := json.Unmarshal([]byte(line), &want); err != nil || !alike(r.v, want) {
			t.Fatalf("%q: have %v, want %v, %v", line, r.v, want, err)
		}
	})
}

// TestLinesAreReadFast: what a run logs is read without package json, whatever its numbers
// are; long lines and those of other programs are read all the same.
func TestLinesAreReadFast(t *testing.T) {
	dir := t.TempDir()
	m := openMetrics(t, dir, -1)
	list := []Values{{"loss": 0.1, "kl": math.NaN(), "completions/mean_length": 12}, {}, {"x": 5e-324, "y": -math.MaxFloat64, "z": 1e15, "zero": math.Copysign(0, -1)}, {}}
	for range 3000 {
		list[3]["nrt/"+strings.Repeat("long", len(list[3])%40)+string(rune('a'+len(list[3])%26))] = float64(len(list[3]))
	}
	for i := range 3000 {
		list[3][strings.Repeat("x", 20)+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))] = float64(i) / 7
	}
	for i, v := range list {
		check(t, m.Log(i, v))
		v["step"] = float64(i)
	}
	check(t, m.Close())
	raw := logged(t, dir)
	for i, line := range strings.SplitAfter(strings.TrimSuffix(raw, "\n"), "\n") {
		if r := newLineReader(nil); !r.parse([]byte(strings.TrimSuffix(line, "\n")+"\n")) || !alike(r.v, list[i]) {
			t.Errorf("line %d of %d bytes is not read fast", i+1, len(line))
		}
	}
	r := newLineReader(strings.NewReader(raw + `{"step":4,"a\u0062":2}` + "\n" + `{"step": 5`))
	list = append(list, Values{"step": 4, "ab": 2})
	for i, want := range list {
		line, v, err := r.next()
		if err != nil || !alike(v, want) || line[len(line)-1] != '\n' {
			t.Errorf("line %d: %v, %v", i+1, v, err)
		}
	}
	if _, _, err := r.next(); err != io.EOF {
		t.Errorf("a line without its end: %v", err)
	}
}
