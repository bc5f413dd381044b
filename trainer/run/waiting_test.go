package run

import (
	"strings"
	"testing"
	"time"
)

func TestWaiting(t *testing.T) {
	var out strings.Builder
	now := time.Unix(0, 0)
	l := NewLoading(&out, true, func() time.Time { return now })
	const all = 16e9
	show := func(seconds float64, done int64) string {
		now = time.Unix(0, int64(seconds*1e9))
		before := out.Len()
		l.Show(done, all)
		return out.String()[before:]
	}
	if s := show(0.9, 2e9); s != "" {
		t.Errorf("before a second is over: %q", s)
	}
	if s := show(2, 4e9); s != "\rloading  █████░░░░░░░░░░░░░░░  4.0 of 16.0 GB  2.00 GB/s  6s left" {
		t.Errorf("a quarter: %q", s)
	}
	if s := show(2.1, 5e9); s != "" {
		t.Errorf("a tenth of a second later: %q", s)
	}
	if s := show(4, 12e9); !strings.Contains(s, "███████████████░░░░░") || !strings.Contains(s, "3.00 GB/s  1s left") {
		t.Errorf("three quarters: %q", s)
	}
	if s := show(9, all); s != "" {
		t.Errorf("all: %q", s)
	}
	l.Done()
	if lines := strings.Split(out.String(), "\r"); strings.TrimSpace(lines[len(lines)-2]) != "" || lines[len(lines)-1] != "" {
		t.Errorf("the line stays: %q", out.String())
	}
	quick := NewLoading(&out, true, func() time.Time { return now })
	before := out.Len()
	quick.Show(1, 2)
	quick.Show(2, 2)
	quick.Done()
	if out.Len() != before {
		t.Errorf("what is quick shows %q", out.String()[before:])
	}
}

// TestWaitingPrinted: where no line can be rewritten, one is printed now and then.
func TestWaitingPrinted(t *testing.T) {
	var out strings.Builder
	now := time.Unix(0, 0)
	w := NewEvaluating(&out, false, func() time.Time { return now })
	for range 250 { // tenths of a second
		now = now.Add(100 * time.Millisecond)
		w.Show(int64(now.Unix()), 100)
	}
	w.Done()
	want := "evaluating  ██░░░░░░░░░░░░░░░░░░  10 of 100 chains  1/s  1m30s left\n" +
		"evaluating  ████░░░░░░░░░░░░░░░░  20 of 100 chains  1/s  1m20s left\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	w = NewEvaluating(&out, true, func() time.Time { return now })
	now = now.Add(3 * time.Second)
	w.Show(0, 4)
	if out.String() != "\revaluating  ░░░░░░░░░░░░░░░░░░░░  0 of 4 chains  0/s" {
		t.Errorf("before the first: %q", out.String())
	}
}
