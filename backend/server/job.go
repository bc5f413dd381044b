package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nrt/web/wire"
)

var (
	errCancelled = errors.New("cancelled by the reader")
	errMistake   = errors.New("the server made a mistake; its log says which")
)

// job is a request that waits for a slot and computes there, once for each of its
// models: between two of them others have their turn.
type job struct {
	of interface { // the message; its String is for the log
		wire.Message
		fmt.Stringer
	}
	x       *session
	models  []string
	results *prometheus.CounterVec // how such requests ended

	// work computes with one of the models; what it returns without an error is said,
	// and after the last model closes the request unless closes does.
	work   func(ctx context.Context, j *job, r *replica) (wire.Message, error)
	closes func() wire.Message // may be nil

	asked time.Time
	began time.Time     // of computing; zero while it waits
	spent time.Duration // before
}

func (j *job) id() string { return j.of.Header().ID }

// seconds is how long the job has computed.
func (j *job) seconds() float64 {
	spent := j.spent
	if !j.began.IsZero() {
		spent += time.Since(j.began)
	}
	return spent.Seconds()
}

// allowed takes from the reader's allowance, or says when there is some again.
func (s *Server) allowed(x *session, b *bucket, id string) bool {
	x.mu.Lock()
	retry, ok := b.take(s.o.now())
	x.mu.Unlock()
	if !ok {
		x.say(tooMany(id, retry))
	}
	return ok
}

// tooMany says that there is an allowance again in so many seconds.
func tooMany(id string, retry float64) *wire.Failed {
	f := fail(id, wire.CodeRate, "too many requests; the next one can be made in %.0f s", math.Ceil(retry))
	f.Retry = retry
	return f
}

// fits reports whether a request's longest chain is one that the server takes, or
// says that it is not.
func (s *Server) fits(x *session, m wire.Message, tokens int) bool {
	if tokens <= s.o.Chain {
		return true
	}
	x.say(failedAt("max_chain", wire.CodeBadMessage, "%s: max_chain: want 1 to %d, have %d", m.Type(), s.o.Chain, tokens).message(m.Header().ID))
	return false
}

// enqueue queues a job and lets it go on in the background.
func (s *Server) enqueue(j *job) {
	known := make([]*model, len(j.models))
	for i, name := range j.models {
		wrong, field := "", "model"
		if len(j.models) > 1 {
			field = fmt.Sprintf("models[%d]", i)
		}
		switch known[i] = s.hub.find(name); {
		case known[i] == nil:
			wrong = s.unknown(name)
		case known[i].vocab != known[0].vocab:
			wrong = fmt.Sprintf("%q and %q read by different vocabularies", clip(name, 200), clip(j.models[0], 200))
		}
		if wrong != "" {
			j.x.say(failedAt(field, wire.CodeNoModel, "%s", wrong).message(j.id()))
			return
		}
	}
	ctx, err := j.x.begin(j.id())
	if err != nil {
		j.x.say(fail(j.id(), wire.CodeBadMessage, "%s: id: %v", j.of.Type(), err))
		return
	}
	place, err := s.place(j, known[0], false)
	if err != nil {
		s.finish(ctx, j, nil, err)
		return
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		var last wire.Message
		for i, m := range known {
			if i > 0 {
				j.x.say(last)
				if place, err = s.place(j, m, true); err != nil {
					break
				}
			}
			if last, err = s.compute(ctx, j, m, place); err != nil {
				break
			}
		}
		if err == nil && j.closes != nil {
			j.x.say(last)
			last = j.closes()
		}
		s.finish(ctx, j, last, err)
	}()
}

// place enters the queue for m, for the first time or again.
func (s *Server) place(j *job, m *model, again bool) (*ticket, error) {
	return s.sched.enter(&ticket{reader: j.x.id, from: j.x.address(), room: m.room, again: again}, s.o.QueueEach)
}

// compute waits for a slot and a replica and does the work.
func (s *Server) compute(ctx context.Context, j *job, known *model, place *ticket) (wire.Message, error) {
	j.asked = time.Now()
	release, err := s.sched.wait(ctx, place, func(place int, seconds float64) {
		j.x.say(&wire.Queued{Head: wire.Head{ID: j.id()}, Place: place, Seconds: seconds})
	})
	if err != nil {
		return nil, err
	}
	s.metrics.queued.Observe(time.Since(j.asked).Seconds())
	j.began = time.Now()
	defer func() { j.spent, j.began = j.spent+time.Since(j.began), time.Time{} }()
	var last wire.Message
	err = s.use(ctx, known, release, func(r *replica) (err error) {
		last, err = j.work(ctx, j, r)
		return err
	})
	return last, err
}

// use lets work have a replica of a model that there is room for, in a slot; both go back
// afterwards. After a panic the replica is freed: nobody knows its state.
//
// Reading a large model takes minutes. Who is gone meanwhile is not kept waiting; the
// reading goes on, in its slot, for those who come after. It ends where the reader called
// the question off and nobody else waits for the model, and where the server stops.
func (s *Server) use(ctx context.Context, m *model, release func(), work func(r *replica) error) error {
	unwanted := func() error {
		if context.Cause(ctx) == errCancelled && !s.sched.awaited(m.room) {
			return errCancelled
		}
		return s.ctx.Err()
	}
	var r *replica
	got := make(chan error)
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		err := s.caught(m.Name, func() (err error) {
			r, err = s.hub.get(m, unwanted)
			return err
		})
		select {
		case got <- err:
			return
		case <-ctx.Done():
		}
		if err == nil {
			s.hub.give(r)
		}
		release()
	}()
	select {
	case err := <-got:
		defer release()
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	back := s.hub.lose
	defer func() { back(r) }()
	return s.caught(m.Name, func() error {
		err := work(r)
		back = s.hub.give
		return err
	})
}

// caught does work of a model or a run. A panic is a mistake of the program: it is
// logged, and takes nothing else with it.
func (s *Server) caught(of string, work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic", "of", of, "error", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errMistake
		}
	}()
	return work()
}

// finish says how a job ended, with last if all went well; from then on its name
// is free. A reader who left hears nothing.
func (s *Server) finish(ctx context.Context, j *job, last wire.Message, err error) {
	cause := context.Cause(ctx)
	x, id := j.x, j.id()
	x.finish(id)
	var f *failure
	result := "failed"
	switch {
	case err == nil:
		result = "done"
	case errors.Is(cause, errCancelled):
		result = "cancelled"
		last = &wire.End{Head: wire.Head{ID: id}, Seconds: j.seconds(), Cancelled: true}
	case cause != nil:
		result, last = "left", nil
	case errors.Is(err, errQueueFull):
		result = "busy"
		b := fail(id, wire.CodeBusy, "%v", errQueueFull)
		b.Retry = s.sched.retry()
		last = b
	case errors.Is(err, errTooMany):
		result = "busy"
		b := fail(id, wire.CodeRate, "%d of your questions are waiting already", s.o.QueueEach)
		b.Retry = s.sched.retry()
		last = b
	case errors.As(err, &f):
		last = f.message(id)
	default:
		s.log.Error("question", j.of.Type(), j.of.String(), "error", err)
		last = fail(id, wire.CodeInternal, "%v", err)
	}
	j.results.WithLabelValues(result).Inc() // before anybody hears of it
	if last != nil {
		x.say(last)
	}
}
