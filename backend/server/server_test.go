package server

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
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

// embedded opens a built-in model.
func embedded(t testing.TB, name string) fs.FS {
	t.Helper()
	list, err := models.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if m.Name == name {
			files, err := models.Open(m)
			if err != nil {
				t.Fatal(err)
			}
			return files
		}
	}
	t.Fatalf("no embedded model %s", name)
	return nil
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
		World:  world.New(1), Device: dev, Version: "test", Grace: 5 * time.Second,
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

// settled waits for something that must come true by itself.
func settled(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
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
	if err := c.ws.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
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

func question() *wire.Ask {
	item := world.New(1).HeldOut(1, 3)[0]
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
	files := embedded(t, ask.Model)
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
	req, err := request(ask, form, m.Config.MaxPositions)
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
		if text := tok.Decode(ids(list), false); text != h.texts[key] {
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
		if text := form.AnswerText(ids(c.Answer)); d.Answer != text || d.Match != (text == ask.Answer) {
			t.Errorf("chain %d: answer %q match %v, want %q", i, d.Answer, d.Match, text)
		}
	}
	if n := len(h.start.Answer); n != len(want.Baseline) {
		t.Errorf("start: %d answer tokens, want %d", n, len(want.Baseline))
	}
}

func TestStreamEqualsEngine(t *testing.T) {
	r := start(t, nil)
	for _, change := range []func(*wire.Ask){
		func(*wire.Ask) {},
		func(a *wire.Ask) { a.K, a.Seed = 16, 99 },
		func(a *wire.Ask) { a.K, a.Temperature = 1, 0 },
		func(a *wire.Ask) { a.MaxChain, a.TopP = 2, 0.5 },
		func(a *wire.Ask) { a.MaxChain = 500 }, // more than the model has room for
	} {
		ask := question()
		change(ask)
		c := r.reader(nil)
		c.say(ask)
		h := newHeard()
		for !h.take(t, c.next()) {
		}
		h.same(t, ask)
		if h.end.Cancelled {
			t.Error("end: cancelled")
		}
	}
}

func TestFirstTokenComesAtOnce(t *testing.T) {
	r := start(t, func(o *Options) {
		o.Frame = 300 * time.Millisecond
		o.onToken = func() { time.Sleep(time.Millisecond) }
	})
	c := r.reader(nil)
	began := time.Now()
	c.say(question())
	f := expect[*wire.Frame](c)
	if took := time.Since(began); took > 250*time.Millisecond {
		t.Errorf("the first frame took %v", took)
	}
	if n := len(f.Tokens); n != 1 {
		t.Errorf("the first frame has %d entries, want 1", n)
	}
	frames := 1
	for h := newHeard(); ; {
		m := c.next()
		if _, ok := m.(*wire.Frame); ok {
			frames++
		}
		if _, ok := m.(*wire.End); ok {
			break
		}
		_ = h
	}
	if frames > 10 {
		t.Errorf("%d frames: they are not batched", frames)
	}
}

// TestResume kills the connection again and again while chains stream.
func TestResume(t *testing.T) {
	r := start(t, func(o *Options) {
		o.Frame = 2 * time.Millisecond
		o.onToken = func() { time.Sleep(500 * time.Microsecond) }
	})
	ask := question()
	c := r.reader(nil)
	c.say(ask)
	h, kills := newHeard(), 0
	for n := 0; ; n++ {
		if h.take(t, c.next()) {
			break
		}
		if n%7 == 6 && kills < 6 {
			kills++
			c.ws.NetConn().Close()
			session := c.welcome.Session
			c = r.reader(c)
			if !c.welcome.Resumed || c.welcome.Session != session {
				t.Fatalf("kill %d: not resumed: %+v", kills, c.welcome)
			}
		}
	}
	if kills == 0 {
		t.Fatal("the connection was never killed")
	}
	h.same(t, ask)
}

func TestResumeAfterItIsAllOver(t *testing.T) {
	r := start(t, nil)
	ask := question()
	c := r.reader(nil)
	c.say(ask)
	h := newHeard()
	h.take(t, expect[*wire.Start](c))
	c.ws.NetConn().Close()
	settled(t, "questions", func() bool { busy, _ := r.sched.load(); return busy == 0 })
	c = r.reader(c)
	if !c.welcome.Resumed {
		t.Fatal("not resumed")
	}
	for !h.take(t, c.next()) {
	}
	h.same(t, ask)
}

func TestResumeOfWhatIsForgottenStartsAfresh(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	c.say(question())
	expect[*wire.End](c)
	r.session(c.welcome.Session).received(c.seen)
	old := *c
	old.seen = 1
	fresh := r.reader(&old)
	if fresh.welcome.Resumed || fresh.welcome.Session == c.welcome.Session {
		t.Errorf("have %+v, want a new session", fresh.welcome)
	}
	unknown := *c
	unknown.welcome = &wire.Welcome{Session: "0123456789abcdef"}
	if w := r.reader(&unknown).welcome; w.Resumed {
		t.Errorf("an unknown session was resumed: %+v", w)
	}
}

func TestSecondConnectionTakesOver(t *testing.T) {
	r := start(t, nil)
	a := r.reader(nil)
	b := r.reader(a)
	if !b.welcome.Resumed {
		t.Fatal("not resumed")
	}
	if _, err := a.read(); !websocket.IsCloseError(err, closeTaken) {
		t.Errorf("the first connection: %v, want code %d", err, closeTaken)
	}
	b.say(question())
	expect[*wire.End](b)
}

func TestCancel(t *testing.T) {
	r := start(t, func(o *Options) { o.Slots = 1; o.onToken = func() { time.Sleep(5 * time.Millisecond) } })
	c := r.reader(nil)
	running, waiting := question(), question()
	running.K, waiting.ID = 16, "q2"
	c.say(running)
	expect[*wire.Frame](c)
	c.say(waiting)
	if q := expect[*wire.Queued](c); q.ID != "q2" || q.Place != 0 {
		t.Errorf("have %+v", q)
	}
	c.say(&wire.Cancel{Head: wire.Head{ID: "q2"}})
	if e := expect[*wire.End](c); e.ID != "q2" || !e.Cancelled {
		t.Errorf("have %+v", e)
	}
	began := time.Now()
	c.say(&wire.Cancel{Head: wire.Head{ID: "q1"}})
	if e := expect[*wire.End](c); e.ID != "q1" || !e.Cancelled {
		t.Errorf("have %+v", e)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("cancelling took %v", took)
	}
	c.say(&wire.Cancel{Head: wire.Head{ID: "never"}}) // no answer, no harm
	again := question()
	again.K, again.MaxChain = 1, 2
	c.say(again)
	if e := expect[*wire.End](c); e.Cancelled {
		t.Errorf("have %+v", e)
	}
}

// TestLeavingCancels: a reader who says goodbye frees its slot at once, one whose
// connection broke when the grace period is over.
func TestLeavingCancels(t *testing.T) {
	for _, goodbye := range []bool{true, false} {
		r := start(t, func(o *Options) {
			o.Grace = 50 * time.Millisecond
			o.onToken = func() { time.Sleep(20 * time.Millisecond) }
		})
		c := r.reader(nil)
		c.say(question())
		expect[*wire.Frame](c)
		if goodbye {
			msg := websocket.FormatCloseMessage(websocket.CloseGoingAway, "")
			if err := c.ws.WriteControl(websocket.CloseMessage, msg, time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
		} else {
			c.ws.NetConn().Close()
		}
		settled(t, "slots and sessions", func() bool {
			busy, _ := r.sched.load()
			return busy == 0 && len(r.everyone()) == 0
		})
	}
}

func TestRefusedQuestions(t *testing.T) {
	r := start(t, func(o *Options) { o.Chain = 100 })
	c := r.reader(nil)
	for _, x := range []struct {
		code   string
		change func(*wire.Ask)
	}{
		{wire.CodeNoModel, func(a *wire.Ask) { a.Model = "../../etc/passwd" }},
		{wire.CodeBadMessage, func(a *wire.Ask) { a.MaxChain = 101 }},
		{wire.CodeTooLong, func(a *wire.Ask) { a.Question = strings.Repeat("one ", 500) }},
	} {
		ask := question()
		x.change(ask)
		c.say(ask)
		if f := expect[*wire.Failed](c); f.Code != x.code || f.ID != "q1" || f.Message == "" {
			t.Errorf("have %+v, want code %s", f, x.code)
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	r := start(t, func(o *Options) {
		o.Slots, o.Queue, o.QueueEach = 1, 3, 2
		o.onToken = func() { time.Sleep(5 * time.Millisecond) }
	})
	a, b := r.reader(nil), r.reader(nil)
	for i := range 4 { // one at work, two waiting, one too many
		ask := question()
		ask.ID = fmt.Sprint("a", i)
		a.say(ask)
	}
	if f := expect[*wire.Failed](a); f.Code != wire.CodeRate || f.ID != "a3" || f.Retry <= 0 {
		t.Errorf("have %+v", f)
	}
	for i := range 2 {
		ask := question()
		ask.ID = fmt.Sprint("b", i)
		b.say(ask)
	}
	if f := expect[*wire.Failed](b); f.Code != wire.CodeBusy || f.ID != "b1" {
		t.Errorf("have %+v", f)
	}
}

func TestTwiceTheSameRequest(t *testing.T) {
	r := start(t, func(o *Options) { o.onToken = func() { time.Sleep(2 * time.Millisecond) } })
	c := r.reader(nil)
	c.say(question())
	expect[*wire.Start](c)
	c.say(question())
	if f := expect[*wire.Failed](c); f.Code != wire.CodeBadMessage || !strings.Contains(f.Message, "under way") {
		t.Errorf("have %+v", f)
	}
}

func TestQuestionsAreRated(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	for i := range 20 {
		ask := question()
		ask.ID, ask.K, ask.MaxChain = fmt.Sprint(i), 1, 1
		c.say(ask)
		for {
			m := c.next()
			if f, ok := m.(*wire.Failed); ok {
				if f.Code != wire.CodeRate || f.Retry <= 0 || i < 12 {
					t.Fatalf("question %d: %+v", i, f)
				}
				return
			}
			if _, ok := m.(*wire.End); ok {
				break
			}
		}
	}
	t.Error("twenty questions at once were all taken")
}

func TestBake(t *testing.T) {
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	ask := question()
	source := Source{Name: "world:base", Files: embedded(t, "world:base"), World: true}
	list, err := Bake(context.Background(), dev, source, []Wanted{{Name: "one", Title: "One", Ask: *ask, Seeds: 3}})
	if err != nil {
		t.Fatal(err)
	}
	got := list[0]
	want, _, _ := direct(t, &got.Ask)
	i := slices.IndexFunc(got.Frame.Tokens, func(e wire.Tokens) bool { return e.Part == wire.PartBaseline })
	if i < 0 || len(got.Frame.Tokens[i].IDs) != len(want.Baseline) {
		t.Fatalf("baseline: entry %d", i)
	}
	for j, w := range want.Baseline {
		if d := got.Frame.Tokens[i].LogProbs[j] - w.LogProb; d > 1e-6 || d < -1e-6 {
			t.Errorf("baseline %d: off by %g", j, d)
		}
	}
	if len(got.Frame.Done) != ask.K {
		t.Errorf("%d chains are done, want %d", len(got.Frame.Done), ask.K)
	}
}

func TestServeStopsInOrder(t *testing.T) {
	r := start(t, func(o *Options) { o.onToken = func() { time.Sleep(5 * time.Millisecond) } })
	c := r.reader(nil)
	c.say(question())
	expect[*wire.Frame](c)
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	if f := expect[*wire.Failed](c); f.Code != wire.CodeStopping {
		t.Errorf("have %+v", f)
	}
	for {
		if _, err := c.read(); err != nil {
			if !websocket.IsCloseError(err, closeRestart) {
				t.Errorf("closed with %v", err)
			}
			break
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	resp, err := http.Get(r.http.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d", resp.StatusCode)
	}
}
