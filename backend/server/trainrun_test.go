package server

import (
	"os"
	"testing"

	"nrt/web/wire"
)

// A run at rest takes the status that a reader gives it where that follows; one at work
// takes it when its work has ended.
func TestTurns(t *testing.T) {
	const queued, running, paused, stopped = wire.StatusQueued, wire.StatusRunning, wire.StatusPaused, wire.StatusStopped
	for _, c := range []struct {
		from, want, to string
		now, then      string // the status, and that after the work which is being stopped
	}{
		{queued, "", paused, paused, ""}, {queued, "", stopped, stopped, ""}, {queued, "", queued, queued, ""},
		{paused, "", paused, paused, ""}, {paused, "", stopped, stopped, ""}, {paused, "", queued, queued, ""},
		{stopped, "", paused, stopped, ""}, {stopped, "", stopped, stopped, ""}, {stopped, "", queued, queued, ""},
		{wire.StatusFailed, "", stopped, wire.StatusFailed, ""}, {wire.StatusFailed, "", queued, queued, ""},
		{wire.StatusDone, "", stopped, wire.StatusDone, ""}, {wire.StatusDone, "", queued, wire.StatusDone, ""},
		{running, "", paused, running, paused}, {running, paused, stopped, running, stopped},
		{running, paused, queued, running, queued}, {running, "", queued, running, ""},
	} {
		x := &training{runs: &runs{dir: t.TempDir()}, n: 1, want: c.want}
		if err := os.Mkdir(x.dir(), 0o700); err != nil {
			t.Fatal(err)
		}
		ended := false
		x.info.Status, x.info.Message, x.cancel = c.from, "what went wrong", func() { ended = true }
		changed := x.turn(c.to)
		if x.info.Status != c.now || x.want != c.then || changed != (c.now != c.from) || ended != (c.then != "") {
			t.Errorf("%s (then %q), told %s: %s (then %q), changed %v, cancelled %v", c.from, c.want, c.to, x.info.Status, x.want, changed, ended)
		}
		if again := changed && c.to == queued; again != (x.info.Message == "") {
			t.Errorf("%s, told %s: message %q", c.from, c.to, x.info.Message)
		}
		if _, err := os.Stat(x.file("run.json")); (err == nil) != changed {
			t.Errorf("%s, told %s: saved %v", c.from, c.to, err == nil)
		}
	}
}
