package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"nrt/web/wire"
)

// Reasons for closing that have no code of their own in RFC 6455.
const closeTaken = 4001

// maxBad is how many messages that cannot be read a connection may send.
const maxBad = 20

// conn is one websocket: a goroutine that reads, one that writes, and a cursor
// into the session's log.
type conn struct {
	server  *Server
	ws      *websocket.Conn
	from    string // the reader's address
	session *session
	wake    chan struct{} // capacity 1
	gone    chan struct{} // the reading side has ended
	manager bool          // a program that brought the token itself

	mu     sync.Mutex
	code   int // why to close; 0: stay
	reason string
}

// poke lets the writing goroutine look again. It never blocks.
func (c *conn) poke() { ring(c.wake) }

// leave asks the writing goroutine to close the connection. It never blocks.
func (c *conn) leave(code int, reason string) {
	c.mu.Lock()
	if c.code == 0 {
		c.code, c.reason = code, reason
	}
	c.mu.Unlock()
	c.poke()
}

func (c *conn) leaving() (int, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code, c.reason
}

// serveSocket is /ws.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		s.refuse(w, http.StatusUpgradeRequired, "this address speaks websocket only")
		return
	}
	from := s.reader(r)
	if err := s.enter(from); err != nil {
		w.Header().Set("Retry-After", "5")
		s.refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer s.exit(from)
	up := websocket.Upgrader{
		HandshakeTimeout: 5 * time.Second,
		ReadBufferSize:   2 << 10, WriteBufferSize: 4 << 10, WriteBufferPool: &s.buffers,
		CheckOrigin: sameOrigin,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			s.refuse(w, status, reason.Error())
		},
	}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // the client has been told
	}
	if t, ok := ws.NetConn().(*net.TCPConn); ok {
		// What the kernel holds for a reader who does not read is bounded too.
		if err := t.SetWriteBuffer(s.o.SocketBytes); err != nil {
			s.log.Debug("socket buffer", "error", err)
		}
	}
	c := &conn{server: s, ws: ws, from: from, wake: make(chan struct{}, 1), gone: make(chan struct{}), manager: s.manages(r)}
	c.serve()
}

// serve is the connection's life: hello, then reading here and writing there.
func (c *conn) serve() {
	defer c.ws.Close()
	welcome, after, err := c.greet()
	if err != nil {
		return
	}
	s := c.session
	c.ws.SetPongHandler(func(text string) error {
		if seq, err := strconv.ParseUint(text, 10, 64); err == nil {
			s.received(c, seq)
		}
		return c.ws.SetReadDeadline(time.Now().Add(c.server.o.Silence))
	})
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer c.ws.Close() // unblocks the reading side
		c.write(welcome, after)
	}()
	defer func() { // after a panic too, or the session would have this connection for ever
		close(c.gone)
		<-written
		s.detach(c, websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway))
	}()
	err = c.read()
}

// greet reads hello and finds or makes the session.
func (c *conn) greet() (*wire.Welcome, uint64, error) {
	if err := c.ws.SetReadDeadline(time.Now().Add(c.server.o.HelloWithin)); err != nil {
		return nil, 0, err
	}
	// Nobody who has not said hello keeps the server from stopping.
	defer context.AfterFunc(c.server.serving, func() { c.ws.SetReadDeadline(time.Now()) })()
	m, err := c.next(4 << 10)
	if err == nil {
		if _, ok := m.(*wire.Hello); !ok {
			err = &wire.Error{Type: m.Type(), Reason: "want hello first"}
		}
	}
	if err != nil {
		var bad *wire.Error
		if errors.As(err, &bad) {
			c.refuse(c.bad(bad), websocket.ClosePolicyViolation)
		} else if stop := c.server.running(); stop != nil {
			err = c.stopping(stop)
		}
		return nil, 0, err
	}
	hello := m.(*wire.Hello)
	if s := c.server.session(hello.Resume); s != nil {
		if last, ok := c.join(s, hello.After); ok {
			if err := c.server.running(); err != nil {
				return nil, 0, c.stopping(err)
			}
			c.server.metrics.resumed.Inc()
			return c.server.welcome(s, last, true), hello.After, nil
		}
		// Its log has a hole, so its requests cannot be shown whole.
		s.close()
	}
	c.server.makeRoom(c.from)
	s, err := c.server.newSession(hello.Owner, c.manager)
	switch {
	case errors.Is(err, errQueueFull):
		c.refuse(fail("", wire.CodeBusy, "as many readers are here as the server takes; try again in a moment"), websocket.CloseTryAgainLater)
		return nil, 0, err
	case err != nil:
		return nil, 0, c.stopping(err)
	}
	if _, ok := c.join(s, 0); !ok {
		return nil, 0, c.stopping(errNotRunning)
	}
	if err := c.server.running(); err != nil {
		return nil, 0, c.stopping(err)
	}
	return c.server.welcome(s, 0, false), 0, nil
}

// join attaches the connection to a session. Whoever then finds the server running
// is among those whom Close tells; whoever does not must leave by itself.
func (c *conn) join(s *session, after uint64) (last uint64, ok bool) {
	c.session = s
	return s.attach(c, after)
}

// stopping refuses a reader because of err: the server stops.
func (c *conn) stopping(err error) error {
	if c.session != nil {
		c.session.detach(c, false)
	}
	c.refuse(fail("", wire.CodeStopping, "the server is stopping; it may be back in a moment"), websocket.CloseServiceRestart)
	return err
}

// next reads one message of at most limit bytes. A *wire.Error is the reader's
// fault; any other error ends the connection.
func (c *conn) next(limit int64) (wire.Message, error) {
	kind, in, err := c.ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, &wire.Error{Reason: "want a text message, have a binary one"}
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &tooLarge{limit}
	}
	return wire.DecodeClient(data)
}

// tooLarge is a message whose rest is not read: the connection closes.
type tooLarge struct{ limit int64 }

func (t *tooLarge) Error() string {
	return fmt.Sprintf("a message has at most %d bytes", t.limit)
}

// read takes messages until the connection ends.
func (c *conn) read() error {
	if err := c.ws.SetReadDeadline(time.Now().Add(c.server.o.Silence)); err != nil {
		return err
	}
	flow, bad := newBucket(60, 30), 0
	for {
		m, err := c.next(wire.MaxClient)
		var wrong *wire.Error
		var large *tooLarge
		switch {
		case errors.As(err, &large):
			c.server.metrics.bad.Inc()
			c.session.say(fail("", wire.CodeBadMessage, "%v", large))
			c.leave(websocket.CloseMessageTooBig, large.Error())
			c.drain()
			return err
		case errors.As(err, &wrong):
			c.session.say(c.bad(wrong))
			if bad++; bad >= maxBad {
				c.leave(websocket.ClosePolicyViolation, "too many messages that cannot be read")
				c.drain()
				return err
			}
			continue
		case err != nil:
			return err
		}
		if retry, ok := flow.take(c.server.o.now()); !ok {
			f := fail(m.Header().ID, wire.CodeRate, "too many messages; slow down")
			f.Retry = retry
			c.session.say(f)
			continue
		}
		c.server.handle(c.session, m)
	}
}

// drain waits until the writing side has said why, but not for ever.
func (c *conn) drain() {
	time.AfterFunc(c.server.o.WriteWithin, func() { c.ws.Close() })
	for {
		if _, _, err := c.ws.NextReader(); err != nil {
			return
		}
	}
}

// write sends the welcome, then whatever the session says, until the connection
// is to end.
func (c *conn) write(welcome *wire.Welcome, cursor uint64) {
	data, err := wire.Encode(welcome)
	if err != nil {
		c.server.log.Error("welcome refused by its own codec", "error", err)
		return
	}
	if !c.send(data) {
		return
	}
	ping := time.NewTicker(c.server.o.PingEvery)
	defer ping.Stop()
	for {
		list, lost := c.session.since(cursor)
		if lost {
			c.slow()
			return
		}
		for _, e := range list {
			if !c.send(e.data) {
				return
			}
			c.server.metrics.delay.Observe(time.Since(e.born).Seconds())
			cursor = e.seq
		}
		if len(list) > 0 {
			continue
		}
		if code, reason := c.leaving(); code != 0 {
			c.bye(code, reason)
			return
		}
		select {
		case <-c.wake:
		case <-c.gone:
			return
		case <-c.session.ctx.Done():
			c.bye(websocket.CloseNormalClosure, "the session has ended")
			return
		case <-ping.C:
			// The reader's answer says that it has everything up to cursor.
			err := c.ws.WriteControl(websocket.PingMessage, strconv.AppendUint(nil, cursor, 10), time.Now().Add(c.server.o.WriteWithin))
			if err != nil {
				return
			}
		}
	}
}

// send writes one message in time.
func (c *conn) send(data []byte) bool {
	err := c.ws.SetWriteDeadline(time.Now().Add(c.server.o.WriteWithin))
	if err == nil {
		err = c.ws.WriteMessage(websocket.TextMessage, data)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.server.metrics.dropped.WithLabelValues("stalled").Inc()
	}
	return err == nil
}

// slow says goodbye to a reader who does not keep up.
func (c *conn) slow() {
	c.server.metrics.dropped.WithLabelValues("slow").Inc()
	c.refuse(fail("", wire.CodeSlow, "this connection did not keep up with what was sent; connect again"), websocket.ClosePolicyViolation)
}

// bad counts a message that cannot be read, and says why.
func (c *conn) bad(e *wire.Error) *wire.Failed {
	c.server.metrics.bad.Inc()
	return failedAt(clip(e.Field, 200), wire.CodeBadMessage, "%s", e.Error()).message("")
}

// refuse writes an uncounted failure and closes.
func (c *conn) refuse(f *wire.Failed, code int) {
	if data, err := wire.Encode(f); err != nil || !c.send(data) {
		return
	}
	c.bye(code, f.Message)
}

// bye sends the close frame; its reason has at most 123 bytes.
func (c *conn) bye(code int, reason string) {
	err := c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, clip(reason, 123)), time.Now().Add(time.Second))
	if err != nil {
		c.server.log.Debug("close frame", "error", err)
	}
}
