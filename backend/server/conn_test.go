package server

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nrt/web/wire"
)

// TestBadMessages: each is answered with a reason, and the connection goes on.
func TestBadMessages(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	for _, x := range []struct {
		kind        int
		text, field string
		want        string
	}{
		{websocket.TextMessage, `{`, "", "unexpected"},
		{websocket.TextMessage, `[]`, "", ""},
		{websocket.TextMessage, "\xff\xfe", "", "invalid"},
		{websocket.TextMessage, `{"v":2,"t":"ask"}`, "v", "version"},
		{websocket.TextMessage, `{"v":1,"t":"welcome"}`, "t", "unknown message"},
		{websocket.TextMessage, `{"v":1,"t":"ask","id":"a","k":"many"}`, "k", "want int"},
		{websocket.TextMessage, `{"v":1,"t":"cancel","id":"a","file":"/etc/passwd"}`, "file", "unknown field"},
		{websocket.TextMessage, `{"v":1,"t":"hello"}`, "", "once"},
		{websocket.BinaryMessage, `{"v":1,"t":"cancel","id":"a"}`, "", "binary"},
	} {
		c.raw(x.kind, []byte(x.text))
		f := expect[*wire.Failed](c)
		if f.Code != wire.CodeBadMessage || f.Field != x.field || !strings.Contains(f.Message, x.want) {
			t.Errorf("%q: have %+v, want field %q and %q", x.text, f, x.field, x.want)
		}
	}
	c.say(question())
	expect[*wire.End](c)
}

func TestOversizedMessageIsAnswered(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	c.raw(websocket.TextMessage, []byte(`{"v":1,"t":"cancel","id":"`+strings.Repeat("x", wire.MaxClient)+`"}`))
	if f := expect[*wire.Failed](c); f.Code != wire.CodeBadMessage || !strings.Contains(f.Message, "bytes") {
		t.Errorf("have %+v", f)
	}
	if _, err := c.read(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
		t.Errorf("closed with %v", err)
	}
}

func TestTooManyBadMessagesClose(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	for range maxBad {
		c.raw(websocket.TextMessage, []byte("nonsense"))
	}
	for {
		if _, err := c.read(); err != nil {
			if !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
				t.Errorf("closed with %v", err)
			}
			return
		}
	}
}

// TestLooksAreBounded: an address may start runs and be sent their values so often. Either
// takes a thousand times what it takes to ask, and waits in no queue.
func TestLooksAreBounded(t *testing.T) {
	r := start(t, func(o *Options) { still(o); o.ConnsEach = 1 })
	c := r.reader(nil)
	for i, m := range []wire.Message{&wire.Watch{Run: "run1"}, short(1), &wire.Watch{Run: "run1"}, short(1)} {
		m.Header().ID = "w1"
		c.say(m)
		if f := expect[*wire.Failed](c); (f.Code == wire.CodeRate) != (i >= 2) || f.ID != "w1" {
			t.Errorf("message %d: %+v", i, f)
		}
	}
}

func TestHelloComesFirst(t *testing.T) {
	r := start(t, func(o *Options) { o.HelloWithin = patience })
	for _, x := range []struct {
		kind int
		text string
	}{
		{websocket.TextMessage, `{"v":1,"t":"cancel","id":"a"}`},
		{websocket.TextMessage, `nonsense`},
		{websocket.BinaryMessage, `{"v":1,"t":"hello"}`},
	} {
		c := r.dial()
		c.raw(x.kind, []byte(x.text))
		f, ok := c.next().(*wire.Failed)
		if !ok || f.Code != wire.CodeBadMessage || f.Seq != 0 {
			t.Errorf("%q: have %+v", x.text, f)
		}
		if _, err := c.read(); !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
			t.Errorf("%q: closed with %v", x.text, err)
		}
	}
	settled(t, "connections", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.conns == 0 })
	if _, body := r.get("/metrics"); !strings.Contains(body, "nrt_bad_messages_total 3\n") {
		t.Error("the three bad messages are not counted")
	}
	r = start(t, func(o *Options) { o.HelloWithin = 200 * time.Millisecond })
	if _, err := r.dial().read(); err == nil {
		t.Error("a silent connection stays open")
	}
}

func TestTooManyMessagesAreRated(t *testing.T) {
	r := start(t, still)
	c := r.reader(nil)
	for range 200 {
		c.say(&wire.Cancel{Head: wire.Head{ID: "x"}})
	}
	if f := expect[*wire.Failed](c); f.Code != wire.CodeRate || f.Retry <= 0 {
		t.Errorf("have %+v", f)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	r := start(t, func(o *Options) { o.Conns = 2 })
	r.reader(nil)
	b := r.reader(nil)
	_, resp, err := websocket.DefaultDialer.Dial(r.url(), nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("have %v, %v", resp, err)
	}
	resp.Body.Close()
	b.ws.NetConn().Close()
	settled(t, "connections", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.conns == 1 })
	r.reader(nil)
}

// TestSilentReaderIsDropped: one that answers no pings.
func TestSilentReaderIsDropped(t *testing.T) {
	r := start(t, func(o *Options) {
		o.Silence, o.PingEvery, o.Grace = 2*time.Second, 50*time.Millisecond, 10*time.Millisecond
	})
	alive := r.reader(nil)
	go func() {
		for {
			if _, _, err := alive.ws.ReadMessage(); err != nil { // answers pings
				return
			}
		}
	}()
	r.reader(nil) // reads nothing, so answers nothing
	settled(t, "silent readers", func() bool { return len(r.everyone()) == 1 })
	if r.session(alive.welcome.Session) == nil {
		t.Error("the one that answers is gone")
	}
}

// TestPongForgets: what a reader has confirmed is not kept.
func TestPongForgets(t *testing.T) {
	r := start(t, func(o *Options) { o.PingEvery = 20 * time.Millisecond })
	c := r.reader(nil)
	c.say(question())
	expect[*wire.End](c)
	go func() {
		for {
			if _, _, err := c.ws.ReadMessage(); err != nil {
				return
			}
		}
	}()
	x := r.session(c.welcome.Session)
	settled(t, "logs", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return len(x.log) == 0 && x.bytes == 0 })
}

// TestSlowReaderIsDropped: one that does not read falls off the log's end while
// another gets all of it.
func TestSlowReaderIsDropped(t *testing.T) {
	r := start(t, func(o *Options) {
		o.LogBytes, o.SocketBytes, o.WriteWithin, o.Grace = 32<<10, 4<<10, 500*time.Millisecond, 10*time.Millisecond
	})
	x := r.stalled()
	for range 20_000 { // 20 MB, more than all buffers between
		x.say(fail("", wire.CodeInternal, "%s", fill))
		x.mu.Lock()
		over := x.closed || x.conn == nil
		if x.bytes > r.o.LogBytes {
			t.Fatalf("the log holds %d bytes", x.bytes)
		}
		x.mu.Unlock()
		if over {
			break
		}
	}
	fine := r.reader(nil)
	fine.say(question())
	expect[*wire.End](fine)
	settled(t, "slow readers", func() bool { return r.session(x.id) == nil })
}

// stalled is a reader who takes next to nothing.
func (r *rig) stalled() *session {
	r.t.Helper()
	c := r.dial()
	if err := c.ws.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		r.t.Fatal(err)
	}
	c.say(&wire.Hello{})
	return r.session(c.next().(*wire.Welcome).Session)
}

// fill is a message of a kilobyte.
var fill = strings.Repeat("x", 1000)

// TestStopWithAStalledReader: whoever does not take what was said does not keep the
// server from stopping.
func TestStopWithAStalledReader(t *testing.T) {
	r := start(t, func(o *Options) { o.SocketBytes, o.WriteWithin = 4<<10, patience })
	x := r.stalled()
	for range 1500 {
		x.say(fail("", wire.CodeInternal, "%s", fill))
	}
	began := time.Now()
	if err := r.Close(); err != nil || time.Since(began) > patience/2 {
		t.Errorf("it took %v, %v", time.Since(began), err)
	}
}

func TestDroppedReaderIsToldWhy(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	x := r.session(c.welcome.Session)
	x.mu.Lock() // a hole in the log, as a slow reader finds it
	x.last += 5
	x.mu.Unlock()
	x.say(fail("", wire.CodeInternal, "later"))
	if f := expect[*wire.Failed](c); f.Code != wire.CodeSlow || f.Seq != 0 {
		t.Errorf("have %+v", f)
	}
	if _, err := c.read(); !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
		t.Errorf("closed with %v", err)
	}
}

// FuzzHandle feeds whatever decodes to the handlers, with training in reach.
func FuzzHandle(f *testing.F) {
	mixed := whatIfs(question(), nil)
	mixed.Own, mixed.Variants[0].Parts = true, []wire.ChainPart{{IDs: []int32{5}}, {Text: " one"}}
	for _, m := range []wire.Message{
		&wire.Hello{Resume: "x", After: 3}, question(), &wire.Cancel{Head: wire.Head{ID: "q1"}},
		whatIfs(question(), nil, []int32{5, 6}), mixed, whatIfs(question(), make([]int32, 9), []int32{1 << 20}), through(question(), []string{"world:base", "world:base"}, []int32{5, 6}),
		&wire.Train{Head: wire.Head{ID: "t"}, Method: "nrt", Mode: "gm", Steps: 2, Questions: 1, K: 2},
		&wire.Train{Head: wire.Head{ID: "t"}, Method: "sft", Steps: 1, Questions: 1, K: 1, Upload: `{"question":"one","answer":"two"}` + "\n"},
		&wire.TrainPause{Run: "run1"}, &wire.TrainResume{Run: "run1"}, &wire.TrainStop{Run: "../run1"}, &wire.Watch{Run: "run1", After: 1},
	} {
		data, err := wire.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"v":1,"t":"train","id":"t","method":"nrt","mode":"p","steps":1,"questions":1,"k":2,"upload":"{\"question\":1}"}`))
	r := start(f, func(o *Options) {
		o.Train.Device, o.Train.Dir, o.KeepRuns, o.Steps, o.Chain = o.Device, f.TempDir(), 2, 2, 4
		o.LogBytes = 1 << 20
	})
	r.o.Runs = 0 // runs are made, none trains
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := wire.DecodeClient(data)
		if err != nil {
			return
		}
		if a, ok := m.(*wire.Ask); ok {
			a.K = min(a.K, 2)
		}
		if a, ok := m.(*wire.Score); ok {
			a.Variants, a.Models = a.Variants[:min(len(a.Variants), 4)], a.Models[:min(len(a.Models), 4)]
		}
		if a, ok := m.(*wire.Train); ok {
			a.Questions = min(a.Questions, 2)
		}
		x, err := r.newSession("", false)
		if err != nil {
			t.Fatal(err)
		}
		defer x.close()
		r.handle(x, m)
		settled(t, "questions", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return len(x.asks) == 0 })
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, e := range x.log {
			if _, err := wire.DecodeServer(e.data); err != nil {
				t.Errorf("%s: answered %s: %v", data, e.data, err)
			}
		}
	})
}

// FuzzUpload: uploaded lines are taken or refused with a line's number.
func FuzzUpload(f *testing.F) {
	f.Add(`{"question":"ben","answer":"anna"}`)
	f.Add("{\"question\":\"ben\",\"answer\":\"anna\"}\n\n{\"text\":\"x\"}")
	f.Add(`{"prompt":"ben","completion":"a"}`)
	f.Add("\x00\xff")
	tok := smallWorld.Tokenizer()
	form, err := tok.Format("world")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readUpload(text, tok, form, 60)
		if err == nil && len(list) == 0 {
			t.Error("nothing, and no error")
		}
		if err != nil && !strings.Contains(err.Error(), "the file") {
			t.Errorf("error without its place: %v", err)
		}
	})
}

// TestMistakeEndsTheConnectionAlone: a message that the server cannot bear costs its
// reader the connection; the session ends like any whose reader does not come back.
func TestMistakeEndsTheConnectionAlone(t *testing.T) {
	r := start(t, func(o *Options) { o.Grace = time.Millisecond })
	sched := r.sched
	r.sched = nil
	c := r.reader(nil)
	c.say(question())
	if m, err := c.read(); err == nil {
		t.Errorf("have %+v", m)
	}
	settled(t, "sessions", func() bool { return r.session(c.welcome.Session) == nil })
	r.sched = sched
	asked(t, r.reader(nil), question())
}
