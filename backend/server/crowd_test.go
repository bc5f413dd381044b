package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nrt/web/wire"
)

// TestCloseWithOneComingBack: a reader whose connection broke and who comes back
// while the server stops is refused, and the server stops.
func TestCloseWithOneComingBack(t *testing.T) {
	r := start(t, func(o *Options) { o.PingEvery = 50 * time.Millisecond })
	a := r.reader(nil)
	late, fresh := r.dial(), r.dial() // no hello yet
	a.ws.NetConn().Close()
	settled(t, "away", func() bool {
		x := r.session(a.welcome.Session)
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.conn == nil
	})
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	settled(t, "closed", func() bool { return r.running() != nil })
	late.say(&wire.Hello{Resume: a.welcome.Session, After: a.seen})
	fresh.say(&wire.Hello{})
	for _, c := range []*client{late, fresh} {
		if f, ok := c.next().(*wire.Failed); !ok || f.Code != wire.CodeStopping {
			t.Errorf("have %+v", f)
		}
	}
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Close does not return")
		late.ws.Close()
		<-closed
	}
}

// TestCloseTwice: whoever closes a server that is being closed waits for its end too.
func TestCloseTwice(t *testing.T) {
	over := make(chan struct{})
	r := start(t, func(o *Options) { o.onToken = func() { <-over } })
	c := r.reader(nil)
	c.say(question())
	expect[*wire.Start](c)
	ended := make(chan bool, 2)
	for range 2 {
		go func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			r.hub.mu.Lock()
			defer r.hub.mu.Unlock()
			ended <- r.hub.closed
		}()
	}
	settled(t, "closed", func() bool { return r.running() != nil })
	time.Sleep(20 * time.Millisecond) // for the one that would not wait
	close(over)
	for range 2 {
		if !<-ended {
			t.Error("Close returned before the end")
		}
	}
}

// TestV1ClassBehindOneAddress: thirty programs behind one address ask once each, at
// the same time, and are all answered.
func TestV1ClassBehindOneAddress(t *testing.T) {
	r := start(t, func(o *Options) { o.onToken = func() { time.Sleep(100 * time.Microsecond) } })
	var all sync.WaitGroup
	for range askBurst {
		all.Go(func() {
			resp, err := r.open(t.Context(), "completions", textRequest(object{"max_tokens": 4}))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
		})
	}
	all.Wait()
}

// TestTrustedProxy: only what a proxy says that is named counts.
func TestTrustedProxy(t *testing.T) {
	s := &Server{o: Options{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}
	for _, c := range []struct {
		remote string
		said   []string
		want   string
	}{
		{"192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1"},
		{"10.1.2.3:5", nil, "10.1.2.3"},
		{"10.1.2.3:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"10.1.2.3:5", []string{"1.1.1.1, 198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		{"10.1.2.3:5", []string{"1.1.1.1", "198.51.100.7"}, "198.51.100.7"},
		{"10.1.2.3:5", []string{"nonsense"}, "10.1.2.3"},
		{"[::1]:5", []string{"[2001:db8:1:2:3::4]:99"}, "2001:db8:1:2::/64"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.said}}
		if have := s.reader(r); have != c.want {
			t.Errorf("%s %q: have %s, want %s", c.remote, c.said, have, c.want)
		}
	}
}

// TestCookieOfTLS: the cookie of a reader who came by TLS is never sent without; only a
// proxy that is trusted may say so of one.
func TestCookieOfTLS(t *testing.T) {
	s := &Server{o: Options{Token: "sesame", Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	for _, c := range []struct {
		remote, proto string
		tls, want     bool
	}{
		{"192.0.2.1:5", "", false, false},
		{"192.0.2.1:5", "", true, true},
		{"192.0.2.1:5", "https", false, false},
		{"10.1.2.3:5", "", false, false},
		{"10.1.2.3:5", "http", false, false},
		{"10.1.2.3:5", "https", false, true},
		{"10.1.2.3:5", "HTTPS , http", false, true},
		{"10.1.2.3:5", "http, https", false, false},
	} {
		r, w := httptest.NewRequest(http.MethodGet, "/?token=sesame", nil), httptest.NewRecorder()
		r.RemoteAddr, r.TLS = c.remote, nil
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if c.proto != "" {
			r.Header.Set("X-Forwarded-Proto", c.proto)
		}
		if !s.admit(w, r) {
			t.Fatal("not admitted")
		}
		if list := w.Result().Cookies(); len(list) != 1 || list[0].Secure != c.want {
			t.Errorf("%+v: the cookies are %v", c, list)
		}
	}
}

// from dials as a reader at an address, through a proxy on this machine.
func (r *rig) from(address string) (*client, error) {
	ws, resp, err := websocket.DefaultDialer.Dial(r.url(), http.Header{"X-Forwarded-For": {address}})
	if resp != nil && resp.Body != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	c := &client{t: r.t, ws: ws}
	r.t.Cleanup(func() { ws.Close() })
	c.say(&wire.Hello{})
	var ok bool
	if c.welcome, ok = c.next().(*wire.Welcome); !ok {
		return nil, fmt.Errorf("want welcome first")
	}
	return c, nil
}

// TestStrangerLeavesRoom: whoever connects and asks as much as it can, from one
// address, leaves connections and places in the queue to others.
func TestStrangerLeavesRoom(t *testing.T) {
	r := start(t, func(o *Options) {
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		o.Queue, o.ConnsEach = 8, 6
		o.onToken = func() { time.Sleep(50 * time.Millisecond) }
	})
	taken := 0
	for range 9 {
		c, err := r.from("192.0.2.1")
		if err != nil {
			continue
		}
		taken++
		for j := range 4 {
			a := question()
			a.ID, a.K, a.MaxChain = fmt.Sprint("q", j), 16, 100
			c.say(a)
		}
	}
	if taken != 6 {
		t.Errorf("%d connections of one address, want 6", taken)
	}
	settled(t, "queue", func() bool { _, n := r.sched.load(); return n == 6 })
	c, err := r.from("192.0.2.2")
	if err != nil {
		t.Fatal(err)
	}
	c.say(question())
	switch m := c.next().(type) {
	case *wire.Failed:
		t.Errorf("another address is told %s: %s", m.Code, m.Message)
	}
}

// TestAwayMakeRoom: readers who left without a word are forgotten when another one
// comes, the one that left first.
func TestAwayMakeRoom(t *testing.T) {
	r := start(t, func(o *Options) { o.Conns = 2 })
	var gone []*client
	for range 7 {
		c := r.reader(nil)
		gone = append(gone, c)
		c.ws.NetConn().Close()
		settled(t, "connections", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.conns == 0 })
	}
	if n := len(r.everyone()); n != 4 {
		t.Errorf("%d sessions, want 4", n)
	}
	if r.session(gone[2].welcome.Session) != nil || r.session(gone[6].welcome.Session) == nil {
		t.Error("want the latest to be kept")
	}
}

// TestLogsAreBoundedTogether: readers who take nothing, each within its own bound, hold no
// more than all may; who keeps to its share loses nothing by them.
func TestLogsAreBoundedTogether(t *testing.T) {
	const all, share = 40_000, 10_000 // of the four sessions
	r := start(t, func(o *Options) { o.Conns, o.AllLogBytes = 2, all })
	var list []*session
	for range 4 {
		x, err := r.newSession("", false)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, x)
	}
	modest, greedy := list[0], list[1:]
	fill := strings.Repeat("x", 900)
	for i := range 100 {
		for _, x := range greedy {
			x.say(fail("", wire.CodeInternal, "%s", fill))
		}
		if i < 9 {
			modest.say(fail("", wire.CodeInternal, "%s", fill))
		}
		if n := r.logs.Load(); n > all+4*share {
			t.Fatalf("all logs hold %d bytes, want at most %d", n, all+4*share)
		}
	}
	if have, lost := modest.since(0); lost || len(have) != 9 {
		t.Errorf("of 9 messages %d are kept", len(have))
	}
	for _, x := range list {
		x.close()
	}
	if n := r.logs.Load(); n != 0 {
		t.Errorf("%d bytes are held of no session", n)
	}
}

// TestWatchLatest: of many watched runs the latest are told about.
func TestWatchLatest(t *testing.T) {
	r := start(t, nil)
	x := r.session(r.reader(nil).welcome.Session)
	for i := range 18 {
		x.watch(fmt.Sprint("run", i))
		x.watch("run17")
	}
	for i := range 18 {
		if n := fmt.Sprint("run", i); x.watches(n) != (i >= 2) {
			t.Errorf("%s: %v", n, x.watches(n))
		}
	}
}

// TestSlotsPassOver: tickets that wait for a model's only replica hold no slots.
func TestSlotsPassOver(t *testing.T) {
	s := newSched(2, 10)
	large, small := make(chan struct{}, 1), make(chan struct{}, 2)
	large <- struct{}{}
	small <- struct{}{}
	small <- struct{}{}
	enter := func(reader string, room chan struct{}) *ticket {
		x, err := s.enter(&ticket{reader: reader, room: room}, 10)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	at := func(x *ticket) bool {
		select {
		case <-x.ready:
			return true
		default:
			return false
		}
	}
	a, b, c := enter("a", large), enter("b", large), enter("c", small)
	if !at(a) || at(b) || !at(c) {
		t.Errorf("slots: %v %v %v, want the first and the third", at(a), at(b), at(c))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.abandon(a) // its slot and its room go on
	if !at(b) {
		t.Error("the second has no slot though there is room")
	}
	if _, err := s.wait(ctx, enter("d", large), nil); err == nil {
		t.Error("want an error")
	}
	large <- struct{}{}
	s.leave("b", 0)
	if s.leave("c", 0); len(large) != 1 || len(small) != 1 {
		t.Errorf("room left: %d, %d", len(large), len(small))
	}
}
