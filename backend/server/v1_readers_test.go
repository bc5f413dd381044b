package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Readers of a stream who are slow, and what it holds for them meanwhile.

// TestTray: what a reader leaves is bounded; writing it makes room, for which put
// waits, but not for ever.
func TestTray(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	all := &shelf{most: 1000}
	x := newTray(20, patience, all)
	if err := errors.Join(x.put(ctx, "</think>"), x.put(ctx, 1.5)); err != nil {
		t.Error(err)
	}
	if x.add([]byte(strings.Repeat("a", 10))) {
		t.Error("20 bytes hold 23")
	}
	waits := make(chan error)
	go func() { waits <- x.put(ctx, strings.Repeat("a", 10)) }()
	time.Sleep(10 * time.Millisecond)
	list, ended, err := x.take()
	if len(list) != 2 || string(list[0]) != `"</think>"` || ended || err != nil {
		t.Errorf("have %q, %v, %v", list, ended, err)
	}
	select {
	case err := <-waits:
		t.Errorf("room before anything is written: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	for _, e := range list {
		x.wrote(len(e))
	}
	if err := <-waits; err != nil {
		t.Errorf("no room after all was written: %v", err)
	}
	x.left = 50 * time.Millisecond
	if err := x.put(ctx, strings.Repeat("a", 10)); err != errCut {
		t.Errorf("have %v, want %v", err, errCut)
	}
	cancel()
	other := newTray(20, time.Minute, all)
	if err := other.put(ctx, strings.Repeat("a", 998)); err != nil {
		t.Errorf("an empty tray takes anything: %v", err)
	}
	if x.add([]byte("a")) {
		t.Error("all trays together hold 1000 bytes and more")
	}
	if other.clear(); !x.add([]byte("a")) {
		t.Error("no room after another tray was cleared")
	}
	if err := x.put(ctx, strings.Repeat("a", 10)); err == nil {
		t.Error("want an error from one who left")
	}
	x.end(errQueueFull)
	if list, ended, err = x.take(); len(list) != 2 || !ended || err != errQueueFull {
		t.Errorf("have %q, %v, %v", list, ended, err)
	}
	if x.clear(); all.held.Load() != 0 {
		t.Errorf("%d bytes are held of no tray", all.held.Load())
	}
}

// gated writes nothing more, after its first write, until the gate opens.
type gated struct {
	http.ResponseWriter
	gate  <-chan struct{}
	begun bool
}

func (g *gated) Write(p []byte) (int, error) {
	if g.begun {
		<-g.gate
		return g.ResponseWriter.Write(p)
	}
	g.begun = true
	n, err := g.ResponseWriter.Write(p)
	return n, errors.Join(err, http.NewResponseController(g.ResponseWriter).Flush())
}

func (g *gated) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// TestV1SlowReader: a reader who pauses gets the whole stream; one who pauses for
// too long sees a connection that broke, not the end of an answer.
func TestV1SlowReader(t *testing.T) {
	for _, patient := range []bool{true, false} {
		r := start(t, func(o *Options) {
			o.LogBytes = 1 << 10
			if o.WriteWithin = 20 * time.Second; !patient {
				o.WriteWithin = 100 * time.Millisecond
			}
		})
		gate := make(chan struct{})
		slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			r.Handler().ServeHTTP(&gated{ResponseWriter: w, gate: gate}, q)
		}))
		direct := r.http
		r.http = slow
		resp, err := r.open(t.Context(), "chat/completions", chatRequest(object{"n": 4, "stream": true, "logprobs": true}))
		r.http = direct
		if patient {
			time.Sleep(100 * time.Millisecond)
		} else {
			settled(t, "slots", func() bool { busy, _ := r.sched.load(); return busy == 0 })
		}
		close(gate)
		var body []byte
		if err == nil { // on a busy machine it breaks before anything came
			body, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if done := strings.HasSuffix(string(body), "data: [DONE]\n\n"); done != patient || (err == nil) != patient {
			t.Errorf("patient %v: %d bytes, to the end %v, %v", patient, len(body), done, err)
		}
		slow.Close()
	}
}

// TestV1Waiting: a stream that waits for its turn says that it is there, in comments, and
// then what it would have said; what it is refused with comes as an event then.
func TestV1Waiting(t *testing.T) {
	turn := make(chan struct{})
	r := start(t, func(o *Options) {
		o.Slots, o.silence = 1, 5*time.Millisecond
		o.onToken = func() { <-turn }
	})
	body := func(model string) (*bufio.Reader, io.Closer) {
		resp, err := r.open(t.Context(), "completions", textRequest(object{"stream": true, "model": model, "seed": 3}))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("a stream that waits: %s, %s", resp.Status, resp.Header)
		}
		in := bufio.NewReader(resp.Body)
		for range 3 {
			for _, want := range []string{": still there\n", "\n"} {
				if line, err := in.ReadString('\n'); line != want {
					t.Fatalf("have %q, %v, want %q", line, err, want)
				}
			}
		}
		return in, resp.Body
	}
	first, end := body("world:base")
	defer end.Close()
	second, end := body("world:base")
	defer end.Close()
	close(turn)
	said := func(in *bufio.Reader) []string {
		all, err := io.ReadAll(in)
		if err != nil {
			t.Error(err)
		}
		return events(t, strings.ReplaceAll(string(all), ": still there\n\n", ""))
	}
	want, have := said(first), said(second)
	if n := len(have); n < 2 || have[n-1] != "[DONE]" || len(want) != n {
		t.Errorf("%d events and %d, the last %q", len(want), n, have[n-1])
	}

	turn = make(chan struct{})
	defer close(turn)
	_, end = body("world:base") // has the slot
	defer end.Close()
	second, end = body("world:base")
	defer end.Close()
	r.stop()
	if have := said(second); len(have) != 1 || !strings.Contains(have[0], "the server is stopping") {
		t.Errorf("a server that stops: %q", have)
	}
}

// dripping pauses before every write.
type dripping struct{ http.ResponseWriter }

func (d dripping) Write(p []byte) (int, error) {
	time.Sleep(30 * time.Millisecond)
	return d.ResponseWriter.Write(p)
}

func (d dripping) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// TestV1DrippingReader: to take an event now and then does not keep a stream for ever,
// and what the streams of such readers hold is counted until they are gone.
func TestV1DrippingReader(t *testing.T) {
	r := start(t, func(o *Options) { o.WriteWithin = 300 * time.Millisecond })
	drip := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.Handler().ServeHTTP(dripping{w}, q)
	}))
	defer drip.Close()
	direct := r.http
	r.http = drip
	resp, err := r.open(t.Context(), "chat/completions", chatRequest(object{"n": 2, "stream": true}))
	r.http = direct
	var body []byte
	if err == nil { // on a busy machine it breaks before anything came
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil || strings.Contains(string(body), "[DONE]") {
		t.Errorf("to the end: %d bytes, %v", len(body), err)
	}
	settled(t, "streams", func() bool { return r.streams.held.Load() == 0 })
}

// TestV1EndlessPatience: the longest time there is to write in is no time in the past.
func TestV1EndlessPatience(t *testing.T) {
	r := start(t, func(o *Options) { o.WriteWithin = math.MaxInt64 })
	for _, stream := range []bool{false, true} {
		if resp, body := r.post("chat/completions", chatRequest(object{"stream": stream})); resp.StatusCode != http.StatusOK || body == "" {
			t.Errorf("stream %v: have status %d and %q", stream, resp.StatusCode, body)
		}
	}
}
