package cpu

import (
	"fmt"
	"runtime"
	"runtime/debug"
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
//
// A cache line takes a third of a microsecond to another core where the two have
// no cache in common, and a decoded token has dozens of operations of a few
// microseconds each. So a start writes one line, which workers read, and an end
// is one line of each worker, which it writes and the caller reads.
type pool struct {
	threads  int
	finished chan struct{}
	closed   atomic.Bool
	mu       sync.Mutex
	wake     *sync.Cond
	done     sync.WaitGroup
	shares   []share

	_     apart         // what start writes
	order atomic.Uint64 // the round, an operation, and below it the number of its tasks
	n     int           // items, cut into tasks
	job   job

	_       apart // what is read often, and written when somebody sleeps
	parked  atomic.Int32
	waiting atomic.Bool            // the caller has gone to sleep until
	target  atomic.Uint32          // the shares' ends sum to this
	failure atomic.Pointer[string] // of a task that panicked
	_       apart
}

// apart keeps what is written by different threads apart: no cache line, nor two
// neighbours that a processor fetches together, has both.
type apart [128]byte

// job is the work of one operation: do computes the items [lo, hi) with the
// memory of the given worker. It must treat every item alone, and not let
// results depend on who computes it. A device keeps its jobs and uses them
// again, so that starting one allocates nothing.
type job interface {
	do(worker, lo, hi int)
}

// share is the run of tasks that one worker begins with, claimed from its front.
// The word of the last round stands until somebody claims a task of the next.
//
// A claim is what makes an operation last: a worker that has one may read the
// pool's job, which stays until all tasks have ended; a worker that comes late
// finds nothing to claim and has read nothing but atomic numbers.
type share struct {
	claimed atomic.Uint64 // the last round of a claim, and below it the tasks that are claimed
	_       apart
	ended   atomic.Uint32 // tasks that this worker has finished, ever
	_       apart
}

// claim takes the next of so many tasks in a round.
func (s *share) claim(round uint64, tasks int) (task int, ok bool) {
	for {
		word, next := s.claimed.Load(), uint64(0)
		if at := word >> taskBits; at == round {
			next = word & maxTasks
		} else if at > round {
			return 0, false // too late
		}
		if int(next) >= tasks {
			return 0, false
		}
		if s.claimed.CompareAndSwap(word, round<<taskBits|(next+1)) {
			return int(next), true
		}
	}
}

const (
	// taskBits are those of the number of tasks in a word; rounds have the rest,
	// enough for decades.
	taskBits = 16
	maxTasks = 1<<taskBits - 1
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

// start computes the n items of j in so many tasks. A panic in one of them is the
// caller's, once all have ended.
func (p *pool) start(n, tasks int, j job) {
	if tasks <= 1 || p.threads == 1 || p.closed.Load() {
		for t := range tasks {
			j.do(0, n*t/tasks, n*(t+1)/tasks)
		}
		return
	}
	tasks = min(tasks, maxTasks)
	p.job, p.n = j, n
	target := p.ended() + uint32(tasks)
	order := (p.order.Load()>>taskBits+1)<<taskBits | uint64(tasks)
	p.order.Store(order)
	if p.parked.Load() > 0 {
		p.mu.Lock()
		p.wake.Broadcast()
		p.mu.Unlock()
	}
	p.work(0, order)
	p.wait(target)
	if f := p.failure.Load(); f != nil {
		p.failure.Store(nil)
		panic(*f)
	}
}

// ended is how many tasks have ended, ever.
func (p *pool) ended() uint32 {
	var n uint32
	for w := range p.shares {
		n += p.shares[w].ended.Load()
	}
	return n
}

// work runs tasks of a round until none is left to claim, those of the worker's
// own share first.
func (p *pool) work(worker int, order uint64) {
	round, tasks := order>>taskBits, int(order&maxTasks)
	own := &p.shares[worker]
	for i := range p.threads {
		w := (worker + i) % p.threads
		first, end := tasks*w/p.threads, tasks*(w+1)/p.threads
		for {
			t, ok := p.shares[w].claim(round, end-first)
			if !ok {
				break
			}
			t += first
			p.task(worker, p.n*t/tasks, p.n*(t+1)/tasks)
			own.ended.Store(own.ended.Load() + 1)
			if p.waiting.Load() && p.ended() == p.target.Load() && p.waiting.CompareAndSwap(true, false) {
				p.finished <- struct{}{}
			}
		}
	}
}

// task does one, and keeps the first panic with where it was.
func (p *pool) task(worker, lo, hi int) {
	defer func() {
		if v := recover(); v != nil {
			text := fmt.Sprintf("%v\n%s", v, debug.Stack())
			p.failure.CompareAndSwap(nil, &text)
		}
	}()
	p.job.do(worker, lo, hi)
}

// wait returns when so many tasks have ended.
func (p *pool) wait(target uint32) {
	if p.spin(patience, func() bool { return p.ended() == target }) {
		return
	}
	p.target.Store(target)
	p.waiting.Store(true)
	if p.ended() == target && p.waiting.CompareAndSwap(true, false) {
		return // ended meanwhile, and nobody saw that we wait
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
		if i%4096 != 0 {
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
	for last := uint64(0); p.await(last); {
		last = p.order.Load()
		p.work(worker, last)
	}
}

// await returns true when another round than the last has begun, false once the
// pool is closed.
func (p *pool) await(last uint64) bool {
	if p.spin(spin, func() bool { return p.order.Load() != last || p.closed.Load() }) {
		return !p.closed.Load()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The order matters: announce, then look. start begins the round, then looks
	// for parked workers, so one of the two sees the other.
	p.parked.Add(1)
	defer p.parked.Add(-1)
	for p.order.Load() == last && !p.closed.Load() {
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
func (p *pool) each(n, cost int, f func(worker, lo, hi int)) {
	p.divide(n, cost, ranger(f))
	p.job = nil // and with it what f refers to
}

// divide computes the n items of j, in parallel when n·cost (in simple
// operations) is worth it, and in tasks of a few milliseconds: assembly is not
// interrupted, and whatever else wants its processor, or to stop the world, waits.
func (p *pool) divide(n, cost int, j job) {
	const (
		small = 1 << 12 // operations: starting workers costs about as much, and so do rows that lie in another's cache
		large = 1 << 22
	)
	work, tasks := n*max(cost, 1), 1
	if p.threads > 1 {
		tasks = min(4*p.threads, work/small)
		if tasks > p.threads {
			tasks -= tasks % p.threads // each thread as many
		}
	}
	tasks = min(n, max(tasks, work/large))
	if tasks <= 1 {
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
