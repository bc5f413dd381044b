package run

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// clock is a time that only the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time               { return c.t }
func (c *clock) after(d time.Duration) *clock { c.t = c.t.Add(d); return c }
func newClock() *clock                        { return &clock{time.Unix(1_700_000_000, 0)} }
func status(step int) Status {
	return Status{Step: step, Reward: 0.41239, Entropy: 1.8346, Tokens: 6420}
}
func lastLine(b *strings.Builder) (line string) {
	l := strings.Split(b.String(), "\r")
	return l[len(l)-1]
}

func TestProgressTerminal(t *testing.T) {
	var out strings.Builder
	c := newClock()
	p := NewProgress(&out, true, 100, c.now)
	c.after(2 * time.Second)
	p.Step(status(1))
	if got, want := out.String(), "\rstep 1/100  reward 0.4124 (lately 0.4124)  entropy 1.83  3.21k tok/s  3m18s left"; got != want {
		t.Errorf("have %q\nwant %q", got, want)
	}
	// A shorter line leaves nothing of the longer one.
	c.after(2 * time.Second)
	p.Step(Status{Step: 2, Reward: math.NaN(), Loss: 2.5, Entropy: math.NaN(), Tokens: 0})
	line := lastLine(&out)
	if !strings.HasPrefix(line, "step 2/100  loss 2.5  2.89k tok/s  3m16s left  ") || len(line) != len("step 1/100  reward 0.4124 (lately 0.4124)  entropy 1.83  3.21k tok/s  3m18s left") {
		t.Errorf("have %q", line)
	}
	// A note stands above the line, which comes back.
	out.Reset()
	p.Note("saved %s", "checkpoint-2")
	if got := out.String(); !strings.HasPrefix(got, "\rsaved checkpoint-2 ") || !strings.HasSuffix(got, "\nstep 2/100  loss 2.5  2.89k tok/s  3m16s left") {
		t.Errorf("have %q", got)
	}
	// An evaluation does not count as training time.
	boom := errors.New("boom")
	if err := p.Pause(func() error { c.after(time.Hour); return boom }); err != boom {
		t.Error(err)
	}
	c.after(2 * time.Second)
	p.Step(status(3))
	if line := lastLine(&out); !strings.Contains(line, "3m14s left") {
		t.Errorf("have %q", line)
	}
	p.Done()
	p.Done()
	if got := out.String(); !strings.HasSuffix(got, "left\n") {
		t.Errorf("have %q", got)
	}
	out.Reset()
	p.Note("after")
	if out.String() != "after\n" {
		t.Errorf("have %q", out.String())
	}
}

func TestProgressLog(t *testing.T) {
	var out strings.Builder
	c := newClock()
	p := NewProgress(&out, false, 20, c.now)
	p.Note("hello")
	for i := 1; i <= 14; i++ {
		c.after(time.Second)
		p.Step(status(i))
	}
	p.Done()
	var have []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		have = append(have, strings.Fields(line + " -")[0]+" "+strings.Fields(line + " - -")[1])
	}
	if got := strings.Join(have, ", "); got != "hello -, step 1/20, step 6/20, step 11/20, step 14/20" {
		t.Errorf("have %s\n%s", got, out.String())
	}
	if strings.Contains(out.String(), "\r") {
		t.Error("a log has no carriage returns")
	}
	// The last step is always shown.
	out.Reset()
	p = NewProgress(&out, false, 2, c.now)
	p.Step(status(1))
	p.Step(status(2))
	p.Done()
	if got := strings.Count(out.String(), "\n"); got != 2 || !strings.Contains(out.String(), "0s left") {
		t.Errorf("have %q", out.String())
	}
}

// A reader that has gone away does not stop a run.
func TestProgressBrokenPipe(t *testing.T) {
	w := &full{}
	p := NewProgress(w, false, 2, newClock().now)
	p.Step(status(1))
	p.Step(status(2))
	p.Done()
	if w.tries != 1 {
		t.Errorf("%d tries", w.tries)
	}
}

type full struct{ tries int }

func (f *full) Write([]byte) (int, error) { f.tries++; return 0, errors.New("broken pipe") }

func TestNotTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	check(t, err)
	if IsTerminal(f) {
		t.Error("a file is a terminal")
	}
	check(t, f.Close())
	if IsTerminal(f) {
		t.Error("a closed file is a terminal")
	}
}

func TestUnits(t *testing.T) {
	for want, have := range map[string]string{
		"0": rate(0), "987": rate(987.4), "1k": rate(999.6), "3.21k": rate(3210), "99.9k": rate(99_900), "1M": rate(999_900), "1.2M": rate(1.2e6),
		"0s": span(0), "59s": span(59 * time.Second), "1m00s": span(59600 * time.Millisecond), "4m10s": span(250 * time.Second),
		"3h05m": span(3*time.Hour + 5*time.Minute), "47h00m": span(47 * time.Hour), "2d04h": span(52 * time.Hour),
	} {
		if have != want {
			t.Errorf("have %s, want %s", have, want)
		}
	}
}

// What a run has gained is said by its own metrics; a short one says nothing of tenths.
func TestGains(t *testing.T) {
	var lines []Values
	for i := range 20 {
		lines = append(lines, Values{"step": float64(i + 1), "reward": float64(i)})
	}
	lines = append(lines[:5:5], append([]Values{{"step": 5, "eval/reference_logprob": -2}}, lines[5:]...)...)
	lines = append(lines, Values{"step": 20, "eval/reference_logprob": -1.25})
	want := []string{"reward 0.5 → 18.5, means of the first and last tenth of the steps", "held-out reference log-prob -2.0000 → -1.2500 a token, step 5 → 20"}
	gains := func(lines []Values) []string {
		var g gains
		for _, v := range lines {
			g.add(v)
		}
		return g.text()
	}
	if have := gains(lines); !slices.Equal(have, want) {
		t.Errorf("have %q\nwant %q", have, want)
	}
	if have := gains(lines[:6]); len(have) != 0 {
		t.Errorf("of five steps: %q", have)
	}
}
