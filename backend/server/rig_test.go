package server

import (
	"context"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nrt/backend/cpu"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/world"
	"nrt/trainer/world/models"
	"nrt/web/wire"
)

var smallWorld = world.New(1)

// patience is how long a test waits for what must come. A machine may be slow and busy,
// and who waits in vain has failed anyway.
const patience = 2 * time.Minute

// embedded opens a built-in model.
func embedded(t testing.TB, name string) fs.FS {
	t.Helper()
	files, err := models.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// rig is a server in this process.
type rig struct {
	t testing.TB
	*Server
	http *httptest.Server
}

// start serves world:base; change may alter the options. When the test ends,
// every goroutine that the server made must have ended.
func start(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	before := runtime.NumGoroutine()
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Models: []Source{{Name: "world:base", About: "base", Files: embedded(t, "world:base"), World: true}},
		World:  smallWorld, Device: dev, Version: "test", Limits: Limits{Grace: patience},
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, Server: s, http: httptest.NewServer(s.Handler())}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		r.http.Close()
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		if _, ok := t.(*testing.T); ok { // fuzzing starts goroutines of its own
			settled(t, "goroutines", func() bool { return runtime.NumGoroutine() <= before })
		}
	})
	return r
}

// still is a server for which no time passes, so that no allowance grows.
func still(o *Options) {
	began := time.Now()
	o.now = func() time.Time { return began }
}

// settled waits for something that must come true by itself.
func settled(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%s do not settle\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

// client is a reader.
type client struct {
	t       testing.TB
	ws      *websocket.Conn
	welcome *wire.Welcome
	seen    uint64 // last seq
}

func (r *rig) url() string { return "ws" + strings.TrimPrefix(r.http.URL, "http") + "/ws" }

// dial connects without hello.
func (r *rig) dial() *client {
	r.t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial(r.url(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	c := &client{t: r.t, ws: ws}
	r.t.Cleanup(func() { ws.Close() })
	return c
}

// reader connects and says hello; from names a client whose session goes on.
func (r *rig) reader(from *client) *client {
	r.t.Helper()
	c := r.dial()
	h := &wire.Hello{}
	if from != nil {
		h.Resume, h.After = from.welcome.Session, from.seen
		c.seen = from.seen
	}
	c.say(h)
	var ok bool
	if c.welcome, ok = c.next().(*wire.Welcome); !ok {
		r.t.Fatal("want welcome first")
	}
	return c
}

func (c *client) say(m wire.Message) {
	c.t.Helper()
	data, err := wire.Encode(m)
	if err != nil {
		c.t.Fatal(err)
	}
	c.raw(websocket.TextMessage, data)
}

func (c *client) raw(kind int, data []byte) {
	c.t.Helper()
	if err := c.ws.WriteMessage(kind, data); err != nil {
		c.t.Fatal(err)
	}
}

// read is the next message, or why there is none.
func (c *client) read() (wire.Message, error) {
	if err := c.ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	_, data, err := c.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	m, err := wire.DecodeServer(data)
	if err != nil {
		c.t.Fatalf("the server sent %q: %v", data, err)
	}
	h := m.Header()
	if _, first := m.(*wire.Welcome); !first && h.Seq > 0 {
		if h.Seq != c.seen+1 {
			c.t.Fatalf("message %d (%s) after %d", h.Seq, h.T, c.seen)
		}
		c.seen = h.Seq
	}
	return m, nil
}

func (c *client) next() wire.Message {
	c.t.Helper()
	m, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// expect is the next message of type T; those of other types are left out.
func expect[T wire.Message](c *client) T {
	c.t.Helper()
	for {
		if m, ok := c.next().(T); ok {
			return m
		}
	}
}

// away is the reader who asked something, lost the connection, and came back after all
// was said.
func (r *rig) away(c *client) *client {
	r.t.Helper()
	x := r.session(c.welcome.Session)
	settled(r.t, "requests", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return len(x.asks) == 1 || x.last > 0 })
	c.ws.NetConn().Close()
	settled(r.t, "requests", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return len(x.asks) == 0 && x.last > 0 })
	if c = r.reader(c); !c.welcome.Resumed {
		r.t.Fatal("not resumed")
	}
	return c
}

// cancelled asks m, which ends when it is told to: first waiting for the only slot, which
// the request running has, then at work there.
func (r *rig) cancelled(c *client, running string, m wire.Message) {
	r.t.Helper()
	id := m.Header().ID
	for _, works := range []bool{false, true} {
		c.say(m)
		if works {
			settled(r.t, "slots", func() bool { busy, _ := r.sched.load(); return busy == 1 })
		} else if q := expect[*wire.Queued](c); q.ID != id || q.Place != 0 {
			r.t.Errorf("have %+v", q)
		}
		c.say(&wire.Cancel{Head: wire.Head{ID: id}})
		if e := expect[*wire.End](c); e.ID != id || !e.Cancelled || (e.Seconds > 0) != works {
			r.t.Errorf("have %+v", e)
		}
		if !works {
			c.say(&wire.Cancel{Head: wire.Head{ID: running}})
			expect[*wire.End](c)
		}
	}
}

func question() *wire.Ask {
	item := smallWorld.HeldOut(1, 3)[0]
	return &wire.Ask{
		Head: wire.Head{ID: "q1"}, Model: "world:base", Question: item.Question, Answer: item.Answer,
		K: 4, Temperature: 1, TopP: 1, Seed: 7, MaxChain: 24,
	}
}

// heard is all that a reader was told about one question.
type heard struct {
	start  *wire.Start
	tokens map[string][]engine.Token // "chain/part"
	texts  map[string]string
	done   map[int]wire.Done
	end    *wire.End
}

func newHeard() *heard {
	return &heard{tokens: map[string][]engine.Token{}, texts: map[string]string{}, done: map[int]wire.Done{}}
}

// take adds a message; it reports whether that was the end.
func (h *heard) take(t testing.TB, m wire.Message) bool {
	t.Helper()
	switch m := m.(type) {
	case *wire.Start:
		h.start = m
	case *wire.Frame:
		for _, e := range m.Tokens {
			k := fmt.Sprintf("%d/%s", e.Chain, e.Part)
			if e.At != len(h.tokens[k]) {
				t.Fatalf("%s: tokens at %d after %d", k, e.At, len(h.tokens[k]))
			}
			for i := range e.IDs {
				h.tokens[k] = append(h.tokens[k], engine.Token{ID: e.IDs[i], LogProb: e.LogProbs[i], Entropy: e.Entropies[i]})
				h.texts[k] += e.Texts[i]
			}
		}
		for _, d := range m.Done {
			h.done[d.Chain] = d
		}
	case *wire.End:
		h.end = m
		return true
	case *wire.Failed:
		t.Fatalf("failed: %s: %s", m.Code, m.Message)
	}
	return false
}

// direct asks the engine without a server.
func direct(t testing.TB, ask *wire.Ask) (engine.Result, *token.Tokenizer, *token.Format) {
	t.Helper()
	return alone(t, ask.Model, func(form *token.Format, positions int) (engine.Request, error) {
		return request(ask, form, positions)
	})
}

// alone has a model answer one request without a server.
func alone(t testing.TB, model string, ask func(form *token.Format, positions int) (engine.Request, error)) (engine.Result, *token.Tokenizer, *token.Format) {
	t.Helper()
	files := embedded(t, model)
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	m, err := llama.Load(dev, files)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	tok, err := token.LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	form, err := tok.Format("")
	if err != nil {
		t.Fatal(err)
	}
	req, err := ask(form, m.Config.MaxPositions)
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(m, tok, engine.Options{})
	defer e.Close()
	results, err := e.Generate(context.Background(), []engine.Request{req}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return results[0], tok, form
}

// same compares what was heard with what the engine says, number for number.
func (h *heard) same(t *testing.T, ask *wire.Ask) {
	t.Helper()
	want, tok, form := direct(t, ask)
	check := func(key string, list []engine.Token) {
		t.Helper()
		have := h.tokens[key]
		if len(have) != len(list) {
			t.Errorf("%s: %d tokens, want %d", key, len(have), len(list))
			return
		}
		for i, w := range list {
			if have[i].ID != w.ID || have[i].LogProb != w.LogProb || have[i].Entropy != w.Entropy {
				t.Errorf("%s: token %d: have %+v, want %+v", key, i, have[i], w)
			}
		}
		if text := tok.Decode(engine.IDsOf(list), false); text != h.texts[key] {
			t.Errorf("%s: have text %q, want %q", key, h.texts[key], text)
		}
	}
	check("-1/baseline", want.Baseline)
	for i, c := range want.Chains {
		check(fmt.Sprintf("%d/chain", i), c.Tokens)
		check(fmt.Sprintf("%d/boundary", i), c.Boundary)
		check(fmt.Sprintf("%d/reference", i), c.Reference)
		check(fmt.Sprintf("%d/answer", i), c.Answer)
		d, ok := h.done[i]
		if !ok || d.Finish != c.Finish {
			t.Errorf("chain %d: done %v %+v, want finish %q", i, ok, d, c.Finish)
		}
		if text := form.AnswerText(engine.IDsOf(c.Answer)); d.Answer != text || d.Match != (text == ask.Answer) {
			t.Errorf("chain %d: answer %q match %v, want %q", i, d.Answer, d.Match, text)
		}
	}
	if n := len(h.start.Answer); n != len(want.Baseline) {
		t.Errorf("start: %d answer tokens, want %d", n, len(want.Baseline))
	}
}
