package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// pool runs the tasks of one operation at a time on the caller and on
// threads−1 persistent workers. Workers spin for a short while after a job, so
// that the dozens of jobs of a training step start at once, and then park, so
// that an idle device costs nothing.
type pool struct {
	threads int
	cur     atomic.Pointer[job]
	closed  atomic.Bool
	parked  atomic.Int32
	mu      sync.Mutex
	wake    *sync.Cond
	done    sync.WaitGroup
}

// job is one call of run. Tasks are claimed through next; left counts those
// not finished. Jobs are never reused, so a late worker only finds nothing to do.
type job struct {
	f       func(worker, task int)
	n       int32
	next    atomic.Int32
	left    atomic.Int32
	waiting atomic.Int32 // 0, 1 once the caller waits on ch, 2 once finished
	ch      chan struct{}
}

const spin = 200 * time.Microsecond

func newPool(threads int) *pool {
	p := &pool{threads: threads}
	p.wake = sync.NewCond(&p.mu)
	for w := 1; w < threads; w++ {
		p.done.Add(1)
		go p.work(w)
	}
	return p
}

// run calls f(worker, task) for every task in [0, n). Which worker runs which
// task is left to chance; f must not let results depend on it.
func (p *pool) run(n int, f func(worker, task int)) {
	if n <= 1 || p.threads == 1 || p.closed.Load() {
		for t := range n {
			f(0, t)
		}
		return
	}
	j := &job{f: f, n: int32(n), ch: make(chan struct{}, 1)}
	j.left.Store(int32(n))
	p.cur.Store(j)
	if p.parked.Load() > 0 {
		p.mu.Lock()
		p.wake.Broadcast()
		p.mu.Unlock()
	}
	j.work(0)
	for i := 0; j.left.Load() > 0; i++ {
		if i < 1<<10 {
			continue
		}
		if i < 1<<12 {
			runtime.Gosched()
			continue
		}
		if j.waiting.CompareAndSwap(0, 1) {
			<-j.ch
		}
	}
}

// work claims tasks until none is left.
func (j *job) work(worker int) {
	for {
		t := j.next.Add(1) - 1
		if t >= j.n {
			return
		}
		j.f(worker, int(t))
		if j.left.Add(-1) == 0 && j.waiting.Swap(2) == 1 {
			j.ch <- struct{}{}
		}
	}
}

// work is the life of one worker.
func (p *pool) work(worker int) {
	defer p.done.Done()
	var last *job
	for {
		j := p.await(last)
		if j == nil {
			return
		}
		j.work(worker)
		last = j
	}
}

// await returns the first job that is not last, or nil once the pool is closed.
func (p *pool) await(last *job) *job {
	start := time.Now()
	for i := 1; ; i++ {
		if j := p.cur.Load(); j != last {
			return j
		}
		if p.closed.Load() {
			return nil
		}
		if i%256 == 0 {
			runtime.Gosched()
			if time.Since(start) > spin {
				break
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The order matters: announce, then look. run stores the job, then looks
	// for parked workers, so one of the two sees the other.
	p.parked.Add(1)
	defer p.parked.Add(-1)
	for p.cur.Load() == last && !p.closed.Load() {
		p.wake.Wait()
	}
	if p.closed.Load() {
		return nil
	}
	return p.cur.Load()
}

// close stops the workers and waits for them. Later runs are serial.
func (p *pool) close() {
	p.closed.Store(true)
	p.mu.Lock()
	p.wake.Broadcast()
	p.mu.Unlock()
	p.done.Wait()
}

// each splits [0, n) into ranges and calls f for each, in parallel when n·cost
// (in simple operations) is worth it. f must treat every index alone.
func (p *pool) each(n, cost int, f func(worker, lo, hi int)) {
	const small = 1 << 14 // operations; starting workers costs about as much
	tasks := min(n, 4*p.threads, n*max(cost, 1)/small)
	if tasks <= 1 || p.threads == 1 {
		if n > 0 {
			f(0, 0, n)
		}
		return
	}
	p.run(tasks, func(w, t int) { f(w, n*t/tasks, n*(t+1)/tasks) })
}
