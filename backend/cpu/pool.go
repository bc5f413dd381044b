package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// pool runs the tasks of one operation at a time on the caller and on
// threads−1 persistent workers. Workers spin for a short while after an
// operation, so that the dozens of operations of a training step start at once,
// and then park, so that an idle device costs nothing.
//
// Tasks are claimed from shares: worker w begins with the w-th share and helps
// the others when it is through. So the same rows meet the same core, and its
// caches, from operation to operation, and yet nobody waits for a thread that
// the system has taken away.
type pool struct {
	threads int

	// The operation in progress: n items, cut into tasks.
	job      job
	n, tasks int
	shares   []share

	_       [64]byte // what the caller alone writes, apart from what all write
	left    atomic.Int32
	waiting atomic.Bool // the caller has gone to sleep until left is 0
	_       [56]byte

	finished chan struct{}
	round    atomic.Uint32 // counts operations
	closed   atomic.Bool
	parked   atomic.Int32
	mu       sync.Mutex
	wake     *sync.Cond
	done     sync.WaitGroup
}

// job is the work of one operation: do computes the items [lo, hi) with the
// memory of the given worker. It must treat every item alone, and not let
// results depend on who computes it. A device keeps its jobs and uses them
// again, so that starting one allocates nothing.
type job interface {
	do(worker, lo, hi int)
}

// share is a run of tasks, claimed from its front: one word holds the next task
// and the end. The word alone says what may be claimed, and the pool's other
// fields belong to it from before it is set until the last task is finished; so
// a worker that comes late finds nothing, or honestly joins the next operation.
type share struct {
	word atomic.Uint64
	_    [56]byte // a cache line each
}

func (s *share) set(lo, hi int) { s.word.Store(uint64(lo)<<32 | uint64(hi)) }

// claim takes the next task.
func (s *share) claim() (task int, ok bool) {
	for {
		w := s.word.Load()
		if w>>32 >= w&(1<<32-1) {
			return 0, false
		}
		if s.word.CompareAndSwap(w, w+1<<32) {
			return int(w >> 32), true
		}
	}
}

const (
	// spin is how long a worker looks for the next operation before it parks.
	spin = 200 * time.Microsecond
	// patience is how long the caller looks for the end of the last tasks
	// before it sleeps. When they take longer, the system has taken a worker's
	// processor away, and will rather give it this one than a busy one.
	patience = 50 * time.Microsecond
)

func newPool(threads int) *pool {
	p := &pool{threads: threads, shares: make([]share, threads), finished: make(chan struct{}, 1)}
	p.wake = sync.NewCond(&p.mu)
	for w := 1; w < threads; w++ {
		p.done.Add(1)
		go p.live(w)
	}
	return p
}

// start computes the n items of j in so many tasks.
func (p *pool) start(n, tasks int, j job) {
	if tasks <= 1 || p.threads == 1 || p.closed.Load() {
		for t := range tasks {
			j.do(0, n*t/tasks, n*(t+1)/tasks)
		}
		return
	}
	p.job, p.n, p.tasks = j, n, tasks
	p.left.Store(int32(tasks))
	for w := range p.shares {
		p.shares[w].set(tasks*w/p.threads, tasks*(w+1)/p.threads)
	}
	p.round.Add(1)
	if p.parked.Load() > 0 {
		p.mu.Lock()
		p.wake.Broadcast()
		p.mu.Unlock()
	}
	p.work(0)
	p.wait()
	p.job = nil
}

// work runs tasks until none is left, those of the worker's own share first.
func (p *pool) work(worker int) {
	for i := range p.threads {
		s := &p.shares[(worker+i)%p.threads]
		for {
			t, ok := s.claim()
			if !ok {
				break
			}
			p.job.do(worker, p.n*t/p.tasks, p.n*(t+1)/p.tasks)
			if p.left.Add(-1) == 0 && p.waiting.CompareAndSwap(true, false) {
				p.finished <- struct{}{}
			}
		}
	}
}

// wait returns when the last task is finished.
func (p *pool) wait() {
	if p.spin(patience, func() bool { return p.left.Load() == 0 }) {
		return
	}
	p.waiting.Store(true)
	if p.left.Load() == 0 && p.waiting.CompareAndSwap(true, false) {
		return // finished meanwhile, and nobody saw that we wait
	}
	<-p.finished
}

// spin looks for so long whether f holds. It gives way to other goroutines.
func (p *pool) spin(long time.Duration, f func() bool) bool {
	var start time.Time
	for i := 1; ; i++ {
		if f() {
			return true
		}
		if i%512 != 0 {
			continue
		}
		runtime.Gosched()
		if now := time.Now(); start.IsZero() {
			start = now
		} else if now.Sub(start) > long {
			return false
		}
	}
}

// live is the life of one worker.
func (p *pool) live(worker int) {
	defer p.done.Done()
	for last := uint32(0); p.await(last); {
		last = p.round.Load()
		p.work(worker)
	}
}

// await returns true when a round after last has begun, false once the pool is
// closed.
func (p *pool) await(last uint32) bool {
	if p.spin(spin, func() bool { return p.round.Load() != last || p.closed.Load() }) {
		return !p.closed.Load()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The order matters: announce, then look. start begins the round, then looks
	// for parked workers, so one of the two sees the other.
	p.parked.Add(1)
	defer p.parked.Add(-1)
	for p.round.Load() == last && !p.closed.Load() {
		p.wake.Wait()
	}
	return !p.closed.Load()
}

// close stops the workers and waits for them. Later operations are serial.
func (p *pool) close() {
	p.closed.Store(true)
	p.mu.Lock()
	p.wake.Broadcast()
	p.mu.Unlock()
	p.done.Wait()
}

// each calls f for ranges of [0, n); see divide.
func (p *pool) each(n, cost int, f func(worker, lo, hi int)) { p.divide(n, cost, ranger(f)) }

// divide computes the n items of j, in parallel when n·cost (in simple
// operations) is worth it.
func (p *pool) divide(n, cost int, j job) {
	const small = 1 << 14 // operations; starting workers costs about as much
	tasks := min(n, 4*p.threads, n*max(cost, 1)/small)
	if tasks <= 1 || p.threads == 1 {
		if n > 0 {
			j.do(0, 0, n)
		}
		return
	}
	p.start(n, tasks, j)
}

// ranger is a job written as a function of a range.
type ranger func(worker, lo, hi int)

func (f ranger) do(worker, lo, hi int) { f(worker, lo, hi) }
