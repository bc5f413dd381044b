package run

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Loading shows how far a model has been read, once that has taken a second: a
// line on a terminal that is rewritten, and gone when all is there.
type Loading struct {
	terminalLine
	now          func() time.Time
	begun, shown time.Time
}

// NewLoading starts the clock. out is a terminal that can rewrite a line.
func NewLoading(out io.Writer, now func() time.Time) *Loading {
	return &Loading{terminalLine: terminalLine{out: out}, now: now, begun: now()}
}

// Show is told what llama.Progress is.
func (l *Loading) Show(done, all int64) {
	const patience, every = time.Second, 200 * time.Millisecond
	now := l.now()
	if took := now.Sub(l.begun); took >= patience && now.Sub(l.shown) >= every && done < all {
		l.shown = now
		perSecond := float64(done) / took.Seconds()
		left := time.Duration(float64(all-done) / perSecond * float64(time.Second))
		l.rewrite(fmt.Sprintf("loading  %s  %.1f of %.1f GB  %.2f GB/s  %s left", bar(done, all), float64(done)/1e9, float64(all)/1e9, perSecond/1e9, span(left)))
	}
}

// Done takes the line away.
func (l *Loading) Done() {
	if l.width > 0 {
		l.rewrite("")
		l.print("\r")
	}
}

// bar is twenty places, filled as far as it got.
func bar(done, all int64) string {
	const places = 20
	n := int(places * done / all)
	return strings.Repeat("█", n) + strings.Repeat("░", places-n)
}
