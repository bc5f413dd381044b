package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"nrt/web/wire"
)

// Server is the page with all behind it. Close it.
type Server struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	hub     *hub
	sched   *sched
	rates   allowances // of programs
	looks   allowances // of readers, to start runs and to be sent their values
	streams shelf      // of their streams
	runs    *runs      // nil without training
	saved   []*savedRun
	static  *static
	page    *page
	buffers sync.Pool    // of websocket writers
	logs    atomic.Int64 // bytes of all sessions' logs

	shut    func() error    // Close, once
	serving context.Context // ends when Close begins
	unserve context.CancelFunc
	ctx     context.Context // ends when Close has seen readers and runs off
	stop    context.CancelFunc
	work    sync.WaitGroup // questions at work, models being read

	mu       sync.Mutex
	sessions map[string]*session
	conns    int
	near     map[string]int // connections by address
	empty    *sync.Cond     // conns == 0
}

// New makes a server, and goes on with the training runs that its state folder
// holds.
func New(o Options) (*Server, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	s := &Server{o: o, log: o.Log, sessions: map[string]*session{}, near: map[string]int{}, saved: newSaved(o.Saved)}
	s.empty = sync.NewCond(&s.mu)
	s.shut = sync.OnceValue(s.shutDown)
	s.serving, s.unserve = context.WithCancel(context.Background())
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.metrics = newMetrics(s)
	s.rates.burst, s.streams.most = float64(o.Burst), o.StreamBytes
	s.looks.burst = float64(2 * o.ConnsEach) // all of an address come back at once, and each draws two runs
	s.sched = newSched(o.Slots, o.Queue)
	var err error
	if s.hub, err = newHub(o); err != nil {
		return nil, err
	}
	s.hub.freed = s.sched.kick
	for _, r := range s.saved {
		s.look(r) // time has passed since it was first looked at
	}
	if s.static, err = loadStatic(); err != nil {
		return nil, err
	}
	if s.page, err = newPage(s); err != nil {
		return nil, err
	}
	if o.Train.Device != nil && o.Train.Dir != "" {
		if s.runs, err = openRuns(s); err != nil {
			return nil, err
		}
		s.runs.dispatch()
	}
	if slices.ContainsFunc(s.saved, func(r *savedRun) bool { return r.look != nil }) {
		s.work.Go(s.follow)
	}
	return s, nil
}

// Close tells the readers, stops what computes, saves the training runs, and
// returns when all of it has ended, however often it is called.
func (s *Server) Close() error { return s.shut() }

func (s *Server) shutDown() error {
	s.mu.Lock()
	s.unserve()
	var conns []*conn
	for _, x := range s.sessions {
		x.mu.Lock()
		if x.conn != nil {
			conns = append(conns, x.conn)
		}
		x.mu.Unlock()
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.session.say(fail("", wire.CodeStopping, "the server is stopping; it may be back in a moment"))
		c.leave(websocket.CloseServiceRestart, "the server is stopping")
	}
	var err error
	if s.runs != nil {
		err = s.runs.close()
	}
	late := time.AfterFunc(lastWords, func() {
		for _, c := range conns {
			c.ws.Close()
		}
	})
	defer late.Stop()
	s.mu.Lock()
	for s.conns > 0 {
		s.empty.Wait()
	}
	s.mu.Unlock()
	for _, x := range s.everyone() {
		x.close()
	}
	s.stop()
	s.work.Wait()
	s.hub.close()
	return err
}

// lastWords is how long readers have, when all else is saved, to take what was said.
const lastWords = 3 * time.Second

// enter counts a connection from an address, if there is room for it.
func (s *Server) enter(from string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.serving.Err() != nil:
		return errNotRunning
	case s.conns >= s.o.Conns:
		return errors.New("as many readers are connected as the server takes; try again in a moment")
	case s.near[from] >= s.o.ConnsEach:
		return fmt.Errorf("%d readers are connected from your address, as many as the server takes; behind a proxy it is to be told so, with --trusted-proxy", s.near[from])
	}
	s.conns++
	s.near[from]++
	return nil
}

func (s *Server) exit(from string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.near[from]--; s.near[from] == 0 {
		delete(s.near, from)
	}
	if s.conns--; s.conns == 0 {
		s.empty.Broadcast()
	}
}

// makeRoom ends sessions whose readers are away where a new one would be too many:
// of the same address if that has more than its share, then of all. Whoever has been
// away for longest goes first.
func (s *Server) makeRoom(from string) {
	longest := func(count func(x *session) bool, most int) *session {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := 0
		var out *session
		var since time.Time
		for _, x := range s.sessions {
			if !count(x) {
				continue
			}
			n++
			x.mu.Lock()
			if x.conn == nil && x.away != nil && (out == nil || x.left.Before(since)) {
				out, since = x, x.left
			}
			x.mu.Unlock()
		}
		if n < most {
			return nil
		}
		return out
	}
	for _, x := range []*session{
		longest(func(x *session) bool { return x.address() == from }, 2*s.o.ConnsEach),
		longest(func(*session) bool { return true }, 2*s.o.Conns),
	} {
		if x != nil {
			x.close()
		}
	}
}

// session finds a reader's session, nil if there is none.
func (s *Server) session(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

func (s *Server) newSession(owner string, manager bool) (*session, error) {
	x := &session{
		id: rand.Text(), server: s,
		asks: map[string]context.CancelCauseFunc{},
		rate: newBucket(askBurst, askRate), scores: newBucket(askBurst, askRate), fresh: newBucket(askBurst, askRate),
	}
	if owner == "" {
		owner = x.id
	}
	x.owner, x.manager = ownerOf(owner), manager
	x.ctx, x.end = context.WithCancel(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	// Readers who are away count, so that reconnecting cannot fill the memory.
	switch {
	case s.serving.Err() != nil:
		x.end()
		return nil, errNotRunning
	case len(s.sessions) >= 2*s.o.Conns:
		x.end()
		return nil, errQueueFull
	}
	s.sessions[x.id] = x
	return x, nil
}

func (s *Server) forget(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, x.id)
}

// running is nil until Close has begun.
func (s *Server) running() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving.Err() != nil {
		return errNotRunning
	}
	return nil
}

// everyone is all sessions.
func (s *Server) everyone() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.sessions))
	for _, x := range s.sessions {
		list = append(list, x)
	}
	return list
}

// tell sends everybody a message of their own.
func (s *Server) tell(make func(x *session) wire.Message) {
	for _, x := range s.everyone() {
		x.say(make(x))
	}
}

// tellModels sends the new list of models to everybody.
func (s *Server) tellModels() {
	list := s.models()
	s.tell(func(*session) wire.Message { return &wire.Models{Models: list} })
}

// toWatchers sends values to those who watch the run.
func (s *Server) toWatchers(name string, make func() wire.Message) {
	for _, x := range s.everyone() {
		if x.watches(name) {
			x.say(make())
		}
	}
}

// welcome is what a new connection is told first.
func (s *Server) welcome(x *session, last uint64, resumed bool) *wire.Welcome {
	return &wire.Welcome{
		Head: wire.Head{Seq: last}, Session: x.id, Resumed: resumed, Server: clip(s.o.Version, 64),
		Models: s.models(), Runs: s.states(x), Limits: s.limits(),
	}
}

func (s *Server) limits() wire.Limits {
	l := wire.Limits{K: wire.MaxChains, Chain: s.o.Chain, Question: wire.MaxQuestion, Answer: wire.MaxAnswer}
	if s.runs != nil {
		l.Steps, l.Upload = s.o.Steps, wire.MaxUpload
	}
	return l
}

// models is the list that readers choose from: what is served, then what the
// runs have kept.
func (s *Server) models() []wire.Model {
	list := s.hub.list()
	if s.runs != nil {
		list = append(list, s.runs.models()...)
	}
	return list
}

// handle does what a message asks for. It does not wait.
func (s *Server) handle(x *session, m wire.Message) {
	s.metrics.messages.WithLabelValues(m.Type()).Inc()
	switch m := m.(type) {
	case *wire.Hello:
		x.say(fail(m.ID, wire.CodeBadMessage, "hello comes once, first"))
	case *wire.Ask:
		s.ask(x, m)
	case *wire.Score:
		s.score(x, m)
	case *wire.Resample:
		s.resample(x, m)
	case *wire.Cancel:
		// The request itself answers. One that is over needs no answer.
		x.cancel(m.ID)
	case *wire.Train, *wire.TrainPause, *wire.TrainResume, *wire.TrainStop, *wire.Watch:
		s.train(x, m)
	default:
		x.say(fail(m.Header().ID, wire.CodeBadMessage, "the server does not know what to do with %q", m.Type()))
	}
}

// train answers the messages about training runs.
func (s *Server) train(x *session, m wire.Message) {
	id := m.Header().ID
	if retry, ok := s.looks.take(x.address(), s.o.now()); !ok {
		x.say(tooMany(id, retry))
		return
	}
	if w, ok := m.(*wire.Watch); ok {
		if r := s.savedRun(w.Run); r != nil {
			r.watch(x, id, w.After)
			return
		}
	}
	if s.runs == nil {
		x.say(fail(id, wire.CodeForbidden, "this server does not train"))
		return
	}
	if _, reads := m.(*wire.Watch); !reads && !s.allowed(x, &x.rate, id) {
		return
	}
	var err error
	switch m := m.(type) {
	case *wire.Train:
		err = s.runs.start(x, m)
	case *wire.TrainPause:
		err = s.runs.halt(x, m.Run, id, wire.StatusPaused)
	case *wire.TrainStop:
		err = s.runs.halt(x, m.Run, id, wire.StatusStopped)
	case *wire.TrainResume:
		err = s.runs.resume(x, m.Run, id)
	case *wire.Watch:
		err = s.runs.watch(x, m.Run, id, m.After)
	}
	var f *failure
	switch {
	case errors.As(err, &f):
		x.say(f.message(id))
	case err != nil:
		s.log.Error("training command", "type", m.Type(), "error", err)
		// Where the server keeps its runs is nobody's business.
		x.say(fail(id, wire.CodeInternal, "%s", strings.ReplaceAll(err.Error(), s.o.Train.Dir+string(filepath.Separator), "")))
	}
}

// failure is an error with a code for the reader, and the field that it is about
// if there is one.
type failure struct{ code, text, field string }

func (f *failure) Error() string { return f.text }

// message tells who asked as id.
func (f *failure) message(id string) *wire.Failed {
	m := fail(id, f.code, "%s", f.text)
	m.Field = f.field
	return m
}

func failed(code, format string, args ...any) *failure {
	return failedAt("", code, format, args...)
}

func failedAt(field, code, format string, args ...any) *failure {
	return &failure{code: code, text: fmt.Sprintf(format, args...), field: field}
}
