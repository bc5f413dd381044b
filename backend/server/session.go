package server

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"nrt/web/wire"
)

// session is one reader across its connections: the log of what the server said
// to it, what it has asked, and which runs it watches.
type session struct {
	id      string
	server  *Server
	owner   string          // whose the runs are that it starts; see ownerOf
	manager bool            // may handle every reader's runs
	ctx     context.Context // ends with the session
	end     context.CancelFunc

	mu      sync.Mutex
	log     []entry // of consecutive numbers, oldest first
	bytes   int     // held by log
	last    uint64  // number of the latest message
	conn    *conn   // nil while the reader is away
	away    *time.Timer
	left    time.Time // when the reader went away
	from    string    // the address of its latest connection
	asks    map[string]context.CancelCauseFunc
	watched []string // runs whose values it is told, oldest first
	rate    bucket   // of asks and training commands
	scores  bucket   // of what-ifs: the page asks for some by itself
	fresh   bucket   // of chains written afresh: likewise
	closed  bool
}

// entry is one message as it goes over the wire. born is when the oldest event
// in it happened.
type entry struct {
	seq  uint64
	data []byte
	born time.Time
}

// say appends a message to the log and wakes the connection. The oldest messages
// are forgotten beyond the log's limit; a connection that has not sent them yet
// is then too slow.
func (s *session) say(m wire.Message) { s.sayBorn(m, time.Now()) }

func (s *session) sayBorn(m wire.Message, born time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	h := m.Header()
	h.Seq = s.last + 1
	data, err := wire.Encode(m)
	if err != nil {
		// What the server makes is within bounds by construction, except for a
		// model's numbers: say so instead of going silent.
		s.server.log.Error("message refused by its own codec", "type", m.Type(), "error", err)
		data, err = wire.Encode(&wire.Failed{
			Head: wire.Head{ID: h.ID, Seq: h.Seq}, Code: wire.CodeInternal,
			Message: "the server made a message that it may not send: " + clip(err.Error(), 200),
		})
		if err != nil {
			return
		}
	}
	s.last++
	s.log = append(s.log, entry{s.last, data, born})
	s.hold(len(data))
	for s.bytes > s.server.mostLog() && len(s.log) > 1 {
		s.forget(1)
	}
	if s.conn != nil {
		s.conn.poke()
	}
}

// hold counts bytes that came to the log or left it.
func (s *session) hold(n int) {
	s.bytes += n
	s.server.logs.Add(int64(n))
}

// mostLog is how many bytes a log may have: LogBytes, but its share of AllLogBytes while
// all logs, of 2·Conns sessions at most, have more than these.
func (s *Server) mostLog() int {
	if s.logs.Load() <= s.o.AllLogBytes {
		return s.o.LogBytes
	}
	return min(s.o.LogBytes, int(s.o.AllLogBytes)/(2*s.o.Conns))
}

// forget drops the n oldest messages.
func (s *session) forget(n int) {
	for i := range n {
		s.hold(-len(s.log[i].data))
		s.log[i] = entry{}
	}
	s.log = s.log[n:]
	if len(s.log) == 0 {
		s.log = nil // gives the array back
	}
}

// received forgets what the reader surely has, as it says by way of c: all up to seq.
func (s *session) received(c *conn, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return // what a connection has that was taken over is not what this one has
	}
	n := 0
	for n < len(s.log) && s.log[n].seq <= seq {
		n++
	}
	if n > 0 {
		s.forget(n)
	}
}

// since returns what follows message seq; lost says that some of it is forgotten.
func (s *session) since(seq uint64) (list []entry, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sinceLocked(seq)
}

func (s *session) sinceLocked(seq uint64) (list []entry, lost bool) {
	if seq >= s.last {
		return nil, false
	}
	if len(s.log) == 0 || s.log[0].seq > seq+1 {
		return nil, true
	}
	from := int(seq + 1 - s.log[0].seq)
	const most = 64 // so that a copy stays small; the writer comes again
	to := min(len(s.log), from+most)
	return append([]entry(nil), s.log[from:to]...), false
}

// attach makes c the session's connection, if the log still has all after seq.
// Another connection that held the session is closed.
func (s *session) attach(c *conn, seq uint64) (last uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || seq > s.last {
		return 0, false
	}
	if _, lost := s.sinceLocked(seq); lost {
		return 0, false
	}
	if s.conn != nil {
		s.conn.leave(closeTaken, "another connection has taken this session over")
	}
	if s.away != nil {
		s.away.Stop()
		s.away = nil
	}
	s.conn, s.from = c, c.from
	return s.last, true
}

func (s *session) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from
}

// detach is called when c has ended. A reader who said goodbye is gone; one
// whose connection broke may come back within the grace period.
func (s *session) detach(c *conn, goodbye bool) {
	s.mu.Lock()
	if s.conn != c || s.closed {
		s.mu.Unlock()
		return
	}
	s.conn = nil
	if goodbye {
		s.mu.Unlock()
		s.close()
		return
	}
	s.away, s.left = time.AfterFunc(s.server.o.Grace, s.expire), time.Now()
	s.mu.Unlock()
}

// expire ends a session whose reader has not come back.
func (s *session) expire() {
	s.mu.Lock()
	back := s.conn != nil
	s.mu.Unlock()
	if !back {
		s.close()
	}
}

// close ends the session and all that it asked.
func (s *session) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.hold(-s.bytes)
	s.log = nil
	if s.away != nil {
		s.away.Stop()
	}
	if s.conn != nil {
		s.conn.poke()
	}
	s.mu.Unlock()
	s.end()
	s.server.forget(s)
}

// begin notes a request, so that it can be cancelled.
func (s *session) begin(id string) (context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errNotRunning
	}
	if _, twice := s.asks[id]; twice {
		return nil, fmt.Errorf("request %q is under way already", clip(id, 64))
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	s.asks[id] = cancel
	return ctx, nil
}

// finish forgets a request.
func (s *session) finish(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.asks[id]; cancel != nil {
		cancel(nil)
		delete(s.asks, id)
	}
}

// cancel stops a request, if there is one of that name.
func (s *session) cancel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.asks[id]; cancel != nil {
		cancel(errCancelled)
	}
}

// watch subscribes to a run's values; of many runs to those of the latest.
func (s *session) watch(run string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.watched, run) {
		return
	}
	const most = 16
	if s.watched = append(s.watched, run); len(s.watched) > most {
		s.watched = s.watched[1:]
	}
}

func (s *session) watches(run string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.watched, run)
}

// fail is a failure as a message.
func fail(id, code, format string, args ...any) *wire.Failed {
	return &wire.Failed{Head: wire.Head{ID: id}, Code: code, Message: clip(fmt.Sprintf(format, args...), 1<<10)}
}

// clip bounds a text that goes back to a reader.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	end := most - len("…")
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return s[:end] + "…"
}
