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

// job is a request that waits for a slot and computes there.
type job struct {
	of interface { // the message; its String is for the log
		wire.Message
		fmt.Stringer
	}
	x       *session
	model   string
	results *prometheus.CounterVec // how such requests ended

	// work computes; what it returns without an error closes the request.
	work func(ctx context.Context, j *job, r *replica) (wire.Message, error)

	asked time.Time
	began time.Time // of computing
}

func (j *job) id() string { return j.of.Header().ID }

// seconds is how long the job has computed.
func (j *job) seconds() float64 {
	if j.began.IsZero() {
		return 0
	}
	return time.Since(j.began).Seconds()
}

// allowed takes from the reader's allowance, or says when there is some again.
func (s *Server) allowed(x *session, b *bucket, id string) bool {
	retry, ok := x.allow(b)
	if !ok {
		f := fail(id, wire.CodeRate, "too many questions; the next one can be asked in %.0f s", math.Ceil(retry))
		f.Retry = retry
		x.say(f)
	}
	return ok
}

// enqueue queues a job and lets it go on in the background.
func (s *Server) enqueue(j *job) {
	known := s.hub.find(j.model)
	if known == nil {
		f := fail(j.id(), wire.CodeNoModel, "there is no model %q here", clip(j.model, 200))
		f.Field = "model"
		j.x.say(f)
		return
	}
	ctx, err := j.x.begin(j.id())
	if err != nil {
		j.x.say(fail(j.id(), wire.CodeBadMessage, "%s: id: %v", j.of.Type(), err))
		return
	}
	place, err := s.sched.enter(&ticket{reader: j.x.id, from: j.x.address(), room: known.room}, s.o.QueueEach)
	if err != nil {
		s.finish(ctx, j, nil, err)
		return
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		last, err := s.compute(ctx, j, known, place)
		s.finish(ctx, j, last, err)
	}()
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
	defer release()
	s.metrics.queued.Observe(time.Since(j.asked).Seconds())
	j.began = time.Now()
	r, err := s.hub.get(known)
	if err != nil {
		return nil, err
	}
	var last wire.Message
	err = s.use(r, func() (err error) {
		last, err = j.work(ctx, j, r)
		return err
	})
	return last, err
}

// use lets work have a replica, which goes back afterwards. A panic is a mistake of
// the program: it is logged, and the replica, whose state nobody knows, is freed.
func (s *Server) use(r *replica, work func() error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			s.hub.give(r)
			return
		}
		s.log.Error("panic", "model", r.of.Name, "error", fmt.Sprint(p), "stack", string(debug.Stack()))
		s.hub.lose(r)
		err = errMistake
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
		b := fail(id, f.code, "%s", f.text)
		b.Field = f.field
		last = b
	default:
		s.log.Error("question", j.of.Type(), j.of.String(), "error", err)
		last = fail(id, wire.CodeInternal, "%v", err)
	}
	j.results.WithLabelValues(result).Inc() // before anybody hears of it
	if last != nil {
		x.say(last)
	}
}
