package server

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"
)

// sched gives a fixed number of slots to waiting tickets. A free slot goes to
// the reader who holds the fewest, then to a reader's first ticket before
// anybody's second, then to the reader who was served longest ago, then to the
// oldest ticket: a reader who asks ten questions at once waits, with nine of
// them, behind everyone who asks one. A ticket for a model all of whose replicas
// are at work is passed over, so that no slot is held idle.
type sched struct {
	mu       sync.Mutex
	slots    int
	queue    int // most tickets waiting, of all readers
	address  int // most tickets waiting, of one address
	busy     int
	held     map[string]int // slots by reader
	waiting  []*ticket      // by arrival
	served   map[string]int // when each reader got its last slot, while a queue lasts
	turn     int
	seconds  float64 // smoothed time that a slot is held
	measured bool
}

// ticket is one request for a slot.
type ticket struct {
	reader string
	from   string        // the reader's address
	room   chan struct{} // of the model; the ticket takes an entry with its slot; may be nil
	again  bool          // of a request that has computed: it is not turned away half-way
	ready  chan struct{} // closed when the slot is given
	moved  chan struct{} // something about the place changed
	place  int           // tickets before this one
	wait   float64       // seconds until the slot, about
}

var (
	errQueueFull  = errors.New("too many questions are waiting already; try again in a moment")
	errTooMany    = errors.New("too many requests of one reader are waiting")
	errNotRunning = errors.New("the server is stopping")
)

func newSched(slots, queue int) *sched {
	return &sched{slots: slots, queue: queue, address: queue - queue/4, held: map[string]int{}, served: map[string]int{}}
}

// wait waits for the slot of a ticket that has entered the queue. told, if not nil,
// hears the place in the queue (0 is next) and about how many seconds it takes,
// whenever that changes. release must be called once.
func (s *sched) wait(ctx context.Context, t *ticket, told func(place int, seconds float64)) (release func(), err error) {
	for {
		select {
		case <-t.ready:
			began := time.Now()
			return sync.OnceFunc(func() { s.leave(t.reader, time.Since(began).Seconds()) }), nil
		case <-t.moved:
			if told != nil {
				place, wait := s.where(t)
				if place >= 0 {
					told(place, wait)
				}
			}
		case <-ctx.Done():
			s.abandon(t)
			return nil, ctx.Err()
		}
	}
}

// enter takes a place in the queue, if the reader has fewer than each there; wait or
// abandon must follow. The entry of t.room that comes with the slot is the caller's
// to give back. One address leaves a quarter of the queue to the others. Requests that
// come again add as many as there are slots at most.
func (s *sched) enter(t *ticket, each int) (*ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.ready, t.moved, t.place = make(chan struct{}), make(chan struct{}, 1), -1
	if !t.again && (len(s.waiting) > 0 || s.busy >= s.slots) {
		own, near := 0, 0
		for _, w := range s.waiting {
			if w.reader == t.reader {
				own++
			}
			if w.from == t.from && t.from != "" {
				near++
			}
		}
		switch {
		case own >= each:
			return nil, errTooMany
		case len(s.waiting) >= s.queue:
			return nil, errQueueFull
		case near >= s.address:
			return nil, errQueueFull
		}
	}
	s.waiting = append(s.waiting, t)
	s.settle()
	return t, nil
}

// leave gives a slot back.
func (s *sched) leave(reader string, seconds float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.measured {
		s.seconds, s.measured = seconds, true
	}
	s.seconds += 0.2 * (seconds - s.seconds)
	s.free(reader)
}

func (s *sched) free(reader string) {
	s.busy--
	if s.held[reader]--; s.held[reader] == 0 {
		delete(s.held, reader)
	}
	s.settle()
}

// abandon takes a ticket out; its slot, if it got one meanwhile, goes on.
func (s *sched) abandon(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-t.ready:
		if t.room != nil {
			t.room <- struct{}{}
		}
		s.free(t.reader)
		return
	default:
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(w *ticket) bool { return w == t })
	s.settle()
}

// settle hands out free slots and tells the others where they stand.
func (s *sched) settle() {
	order := s.order()
	for s.busy < s.slots {
		i := slices.IndexFunc(order, (*ticket).enters)
		if i < 0 {
			break
		}
		t := order[i]
		s.busy++
		s.held[t.reader]++
		s.turn++
		s.served[t.reader] = s.turn
		s.waiting = slices.DeleteFunc(s.waiting, func(w *ticket) bool { return w == t })
		close(t.ready)
		order = s.order()
	}
	if len(order) == 0 {
		clear(s.served)
	}
	for i, t := range order {
		wait := s.seconds * float64(i+1) / float64(s.slots)
		if t.place == i && math.Abs(t.wait-wait) < 1 {
			continue
		}
		t.place, t.wait = i, wait
		select {
		case t.moved <- struct{}{}:
		default:
		}
	}
}

// enters takes room for a replica, if there is some.
func (t *ticket) enters() bool {
	if t.room == nil {
		return true
	}
	select {
	case <-t.room:
		return true
	default:
		return false
	}
}

// kick looks again: there is room for a replica.
func (s *sched) kick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
}

// awaited reports whether a ticket waits for that room.
func (s *sched) awaited(room chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.waiting, func(t *ticket) bool { return t.room == room })
}

// retry is about how many seconds the queue takes, 1 to 60: when it is worth another
// try.
func (s *sched) retry() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(60, max(1, math.Ceil(s.seconds*float64(len(s.waiting)+1)/float64(s.slots))))
}

// order is the waiting tickets, next first.
func (s *sched) order() []*ticket {
	type rank struct {
		t   *ticket
		key int // slots held plus own tickets before this one
	}
	before := map[string]int{}
	ranks := make([]rank, len(s.waiting))
	for i, t := range s.waiting {
		ranks[i] = rank{t, s.held[t.reader] + before[t.reader]}
		before[t.reader]++
	}
	slices.SortStableFunc(ranks, func(a, b rank) int {
		return cmp.Or(a.key-b.key, s.served[a.t.reader]-s.served[b.t.reader])
	})
	out := make([]*ticket, len(ranks))
	for i, r := range ranks {
		out[i] = r.t
	}
	return out
}

// where is the ticket's place, −1 once it has its slot.
func (s *sched) where(t *ticket) (int, float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-t.ready:
		return -1, 0
	default:
		return t.place, t.wait
	}
}

// load is how many slots are held and how many tickets wait.
func (s *sched) load() (busy, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy, len(s.waiting)
}
