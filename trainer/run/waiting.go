package run

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Waiting shows how far something has come that has no lines of its own: on a terminal,
// once it has taken a second, a line that is rewritten, and gone at the end; elsewhere
// a line every ten seconds.
type Waiting struct {
	terminalLine
	terminal     bool
	what         string
	amounts      func(done, all int64, perSecond float64) string
	now          func() time.Time
	begun, shown time.Time
}

// NewLoading is for reading a model. It starts the clock.
func NewLoading(out io.Writer, terminal bool, now func() time.Time) *Waiting {
	return newWaiting(out, terminal, now, "loading", func(done, all int64, perSecond float64) string {
		return fmt.Sprintf("%.1f of %.1f GB  %.2f GB/s", float64(done)/1e9, float64(all)/1e9, perSecond/1e9)
	})
}

// NewEvaluating is for the chains of an evaluation. It starts the clock.
func NewEvaluating(out io.Writer, terminal bool, now func() time.Time) *Waiting {
	return newWaiting(out, terminal, now, "evaluating", func(done, all int64, perSecond float64) string {
		often := fmt.Sprintf("%.3g", perSecond)
		if perSecond > 100 {
			often = rate(perSecond)
		}
		return fmt.Sprintf("%d of %d chains  %s/s", done, all, often)
	})
}

func newWaiting(out io.Writer, terminal bool, now func() time.Time, what string, amounts func(done, all int64, perSecond float64) string) *Waiting {
	begun := now()
	return &Waiting{terminalLine: terminalLine{out: out}, terminal: terminal, what: what, amounts: amounts, now: now, begun: begun, shown: begun}
}

// Show is told how much is done.
func (w *Waiting) Show(done, all int64) {
	const patience, rewritten, printed = time.Second, 200 * time.Millisecond, 10 * time.Second
	now := w.now()
	took, since := now.Sub(w.begun), now.Sub(w.shown)
	if done >= all || took < patience || since < rewritten || !w.terminal && since < printed {
		return
	}
	w.shown = now
	text := fmt.Sprintf("%s  %s  %s", w.what, bar(done, all), w.amounts(done, all, float64(done)/took.Seconds()))
	if done > 0 {
		text += "  " + span(time.Duration(float64(all-done)/float64(done)*float64(took))) + " left"
	}
	if w.terminal {
		w.rewrite(text)
	} else {
		w.print(text + "\n")
	}
}

// Done takes the line away.
func (w *Waiting) Done() {
	if w.width > 0 {
		w.rewrite("")
		w.print("\r")
	}
}

// bar is twenty places, filled as far as it got.
func bar(done, all int64) string {
	const places = 20
	n := int(places * done / all)
	return strings.Repeat("█", n) + strings.Repeat("░", places-n)
}
