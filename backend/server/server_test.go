package server

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nrt/backend/cpu"
	"nrt/trainer/world"
	"nrt/web/view"
	"nrt/web/wire"
)

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
	r := start(t, func(o *Options) { o.Frame = time.Hour })
	c := r.reader(nil)
	c.say(question())
	f := expect[*wire.Frame](c)
	if n := len(f.Tokens); n != 1 || len(f.Tokens[0].IDs) != 1 {
		t.Errorf("the first frame has %+v, want one token", f.Tokens)
	}
	frames := 1
	for {
		m := c.next()
		if _, ok := m.(*wire.Frame); ok {
			frames++
		}
		if _, ok := m.(*wire.End); ok {
			break
		}
	}
	if frames != 2 {
		t.Errorf("%d frames, want one at once and one of all that came within the hour", frames)
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
	x := r.session(c.welcome.Session)
	x.received(x.connection(), c.seen)
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

func (s *session) connection() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

func TestSecondConnectionTakesOver(t *testing.T) {
	r := start(t, nil)
	a := r.reader(nil)
	x := r.session(a.welcome.Session)
	first := x.connection()
	x.say(fail("", wire.CodeRate, "said to the first"))
	b := r.reader(a)
	x.received(first, 1)
	if list, lost := x.since(0); lost || len(list) != 1 {
		t.Error("the second connection lost what the first one has")
	}
	if !b.welcome.Resumed {
		t.Fatal("not resumed")
	}
	a.next() // what was said
	if _, err := a.read(); !websocket.IsCloseError(err, closeTaken) {
		t.Errorf("the first connection: %v, want code %d", err, closeTaken)
	}
	b.say(question())
	expect[*wire.End](b)
}

func TestCancel(t *testing.T) {
	r := start(t, func(o *Options) { o.Slots = 1; o.onToken = func() { time.Sleep(20 * time.Millisecond) } })
	c := r.reader(nil)
	running, waiting := question(), question()
	running.K, waiting.ID = 16, "q2"
	c.say(running)
	expect[*wire.Frame](c) // the rest takes ten seconds
	c.say(waiting)
	if q := expect[*wire.Queued](c); q.ID != "q2" || q.Place != 0 {
		t.Errorf("have %+v", q)
	}
	c.say(&wire.Cancel{Head: wire.Head{ID: "q2"}})
	if e := expect[*wire.End](c); e.ID != "q2" || !e.Cancelled {
		t.Errorf("have %+v", e)
	}
	c.say(&wire.Cancel{Head: wire.Head{ID: "q1"}})
	if e := expect[*wire.End](c); e.ID != "q1" || !e.Cancelled {
		t.Errorf("have %+v", e)
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
	over := make(chan struct{})
	defer close(over)
	r := start(t, func(o *Options) {
		o.Slots, o.Queue, o.QueueEach = 1, 3, 2
		o.onToken = func() { <-over }
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
	r := start(t, func(o *Options) { o.onToken = func() { time.Sleep(20 * time.Millisecond) } })
	c := r.reader(nil)
	c.say(question())
	expect[*wire.Start](c)
	c.say(question())
	if f := expect[*wire.Failed](c); f.Code != wire.CodeBadMessage || !strings.Contains(f.Message, "under way") {
		t.Errorf("have %+v", f)
	}
}

func TestQuestionsAreRated(t *testing.T) {
	r := start(t, still)
	c := r.reader(nil)
	for i := range 60 {
		ask := question()
		ask.ID, ask.K, ask.MaxChain = fmt.Sprint(i), 1, 1
		c.say(ask)
		for {
			m := c.next()
			if f, ok := m.(*wire.Failed); ok {
				if f.Code != wire.CodeRate || f.Retry <= 0 || i != askBurst {
					t.Fatalf("question %d: %+v", i, f)
				}
				return
			}
			if _, ok := m.(*wire.End); ok {
				break
			}
		}
	}
	t.Error("sixty questions at once were all taken")
}

func TestBake(t *testing.T) {
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	ask := question()
	var sources []Source
	for _, name := range []string{"world:base", "world:nrt@10", "world:nrt"} {
		sources = append(sources, Source{Name: name, Files: embedded(t, name), World: true})
	}
	course := []SavedRun{{State: wire.State{Run: "world:nrt", Method: "nrt", Mode: "ws-logp", Status: wire.StatusDone, Step: 80, Of: 80,
		Checkpoints: []wire.Checkpoint{{Model: "world:base"}, {Step: 10, Model: "world:nrt@10"}, {Step: 80, Model: "world:nrt"}}}}}
	list, err := Bake(context.Background(), dev, world.New(1), sources, course, []Wanted{{Name: "one", Title: "One", Ask: *ask, Seeds: 3}})
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
	reading := got.Reading()
	for i := range reading.Chains {
		if have, want := len(got.Without[i]), len(reading.Without(i)); have != want {
			t.Errorf("chain %d: %d of %d sentences are scored", i, have, want)
		}
		for _, v := range got.Without[i] {
			if len(v.LogProbs) != len(want.Baseline) {
				t.Errorf("chain %d: the reference has %d of %d tokens", i, len(v.LogProbs), len(want.Baseline))
			}
		}
	}
	for i, list := range got.Fresh {
		if have, want := len(list), len(reading.Places(i)); have != want {
			t.Errorf("chain %d: %d of %d sentences are written afresh", i, have, want)
		}
		for _, fresh := range list {
			if len(fresh) != 8 || len(fresh[7].LogProbs) != len(want.Baseline) {
				t.Errorf("chain %d was written afresh as %+v", i, fresh)
			}
		}
	}
	// The trained model's own chains are those that it writes when it is asked so.
	if len(got.Anew) != 1 || got.Anew[0].Ask.Model != "world:nrt" {
		t.Fatalf("asked anew: %+v", got.Anew)
	}
	anew := got.Anew[0].Reading()
	if own, _, _ := direct(t, &got.Anew[0].Ask); len(own.Chains) != len(anew.Chains) {
		t.Errorf("the trained model wrote %d chains, want %d", len(anew.Chains), len(own.Chains))
	} else {
		for k, c := range own.Chains {
			for j, x := range c.Tokens {
				if have := anew.Chains[k].Tokens[j]; have.ID != x.ID || math.Abs(have.LogProb-x.LogProb) > 1e-4 {
					t.Errorf("anew, chain %d, token %d: have %d at %g, want %d at %g", k+1, j, have.ID, have.LogProb, x.ID, x.LogProb)
				}
			}
		}
	}
	if len(got.Runs) != 1 || !got.Runs[0].Saved || len(got.Reads) != 2 {
		t.Fatalf("%d models of %+v have read the chains", len(got.Reads), got.Runs)
	}
	var chains [][]int32
	for i := range reading.Chains {
		var list []int32
		for _, x := range reading.Chains[i].Tokens {
			list = append(list, x.ID)
		}
		chains = append(chains, list)
	}
	for i, name := range []string{"world:nrt@10", "world:nrt"} {
		for k, want := range readBy(t, name, &got.Ask, chains) {
			for j, w := range want.Reference {
				if have := got.Reads[i].Variants[k].LogProbs[j]; got.Reads[i].Model != name || math.Abs(have-w.LogProb) > 1e-4 {
					t.Errorf("%s, chain %d, token %d: have %g, want %g", got.Reads[i].Model, k+1, j, have, w.LogProb)
				}
			}
		}
	}
	if data, err := view.WriteExamples(list); err != nil {
		t.Error(err)
	} else if _, err := view.ReadExamples(data); err != nil {
		t.Error(err)
	}
	if len(got.Frame.Done) != ask.K {
		t.Errorf("%d chains are done, want %d", len(got.Frame.Done), ask.K)
	}
}

func TestServeStopsInOrder(t *testing.T) {
	r := start(t, func(o *Options) { o.onToken = func() { time.Sleep(20 * time.Millisecond) } })
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
			if !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
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

// TestStopWithoutHello: a connection that says nothing does not keep the server from
// stopping.
func TestStopWithoutHello(t *testing.T) {
	r := start(t, func(o *Options) { o.HelloWithin = patience })
	c := r.dial()
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience / 2):
		t.Fatal("it still waits")
	}
	if f := expect[*wire.Failed](c); f.Code != wire.CodeStopping {
		t.Errorf("have %+v", f)
	}
	if _, err := c.read(); !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
		t.Errorf("closed with %v", err)
	}
}

// TestServeEndsWithoutError: a client that is still at it when the server has stopped
// does not make that a failure.
func TestServeEndsWithoutError(t *testing.T) {
	r := start(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Serve(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
	settled(t, "requests", func() bool {
		r.rates.mu.Lock()
		defer r.rates.mu.Unlock()
		return len(r.rates.of) > 0
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the connection stays open")
	}
}

// An answer's word that the vocabulary lacks is told as it was written, and a model
// tells how much it reads.
func TestUnknownWordsAreAsWritten(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	if c.welcome.Models[0].Reads < 64 {
		t.Errorf("the model says %+v", c.welcome.Models[0])
	}
	m := question()
	m.K, m.Answer = 1, "that zebra is gnu ."
	c.say(m)
	var unknown []string
	for _, p := range expect[*wire.Start](c).Answer {
		if p.Unknown {
			unknown = append(unknown, p.Text)
		}
	}
	if len(unknown) != 2 || unknown[0] != "zebra" || unknown[1] != "gnu" {
		t.Errorf("have %q", unknown)
	}
	expect[*wire.End](c)
}
