package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// dated notes the deadline that an answer gets, and what is held while it is written.
type dated struct {
	*httptest.ResponseRecorder
	all   *shelf
	until time.Time
	held  int64
}

func (d *dated) SetWriteDeadline(at time.Time) error {
	d.until = at
	return nil
}

func (d *dated) Write(p []byte) (int, error) {
	d.held = d.all.held.Load()
	return d.ResponseRecorder.Write(p)
}

// TestV1WholeAnswersAreBounded: the answers that slow readers hold are counted with what
// streams hold; when that is too much, a long one has no more time than a short one.
func TestV1WholeAnswersAreBounded(t *testing.T) {
	r := start(t, func(o *Options) { o.StreamBytes = 100 << 10 })
	for _, crowded := range []int64{0, 50 << 10} {
		w := &dated{ResponseRecorder: httptest.NewRecorder(), all: &r.streams}
		r.streams.held.Add(crowded)
		began := time.Now()
		(&api{s: r.Server, w: w, out: http.NewResponseController(w)}).answer(http.StatusOK, strings.Repeat("a", 80<<10))
		ended := time.Now()
		r.streams.held.Add(-crowded)
		want := r.o.WriteWithin + 5*time.Second
		if crowded > 0 {
			want = r.o.WriteWithin
		}
		if w.until.Before(began.Add(want)) || w.until.After(ended.Add(want+time.Second)) {
			t.Errorf("beside %d bytes: %v to write, want %v", crowded, w.until.Sub(began), want)
		}
		if left := r.streams.held.Load(); w.held < crowded+80<<10 || left != 0 {
			t.Errorf("beside %d bytes: %d are held meanwhile, %d afterwards", crowded, w.held, left)
		}
	}
}
