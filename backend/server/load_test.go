package server

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"nrt/web/wire"
)

// TestTwoHundredReaders connects 190 readers who only listen and 10 who ask
// without pause, and states how late frames arrive: from a frame's oldest token
// to the reader, the 25 ms of batching included.
func TestTwoHundredReaders(t *testing.T) {
	const idle, streaming = 190, 10
	questions := 6
	if testing.Short() {
		questions = 2
	}
	r := start(t, func(o *Options) {
		o.Slots, o.Grace, o.ConnsEach = streaming, 50*time.Millisecond, 1000
		o.PingEvery = 500 * time.Millisecond
		o.onToken = func() { time.Sleep(200 * time.Microsecond) } // a larger model
	})
	goroutines := runtime.NumGoroutine()
	readers(t, r, idle, streaming, 1, goroutines) // loads the ten replicas, which stay
	before := heap()
	readers(t, r, idle, streaming, questions, goroutines)
	after := heap()
	t.Logf("heap %.1f MB before they came, %.1f MB after they left", before, after)
	if after > before+8 { // the test itself remembers its connections
		t.Errorf("%.1f MB are left over", after-before)
	}
}

// heap is the live heap in megabytes.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

// readers come, listen or ask, and leave without a word.
func readers(t *testing.T, r *rig, idle, streaming, questions, goroutines int) {
	t.Helper()
	var all []*client
	var quiet sync.WaitGroup
	for range idle {
		c := r.reader(nil)
		all = append(all, c)
		quiet.Go(func() {
			for {
				if _, _, err := c.ws.ReadMessage(); err != nil { // answers pings
					return
				}
			}
		})
	}
	var mu sync.Mutex
	var delays []time.Duration
	tokens := 0
	began := time.Now()
	var busy sync.WaitGroup
	for n := range streaming {
		c := r.reader(nil)
		all = append(all, c)
		x := r.session(c.welcome.Session)
		busy.Go(func() {
			for q := range questions {
				ask := question()
				ask.ID, ask.K, ask.Seed = fmt.Sprint("q", q), 8, uint64(100*n+q)
				c.say(ask)
				for over := false; !over; {
					m := c.next()
					now := time.Now()
					switch m := m.(type) {
					case *wire.Frame:
						born, ok := x.bornOf(m.Seq)
						mu.Lock()
						if ok {
							delays = append(delays, now.Sub(born))
						}
						for _, e := range m.Tokens {
							tokens += len(e.IDs)
						}
						mu.Unlock()
					case *wire.End:
						over = true
					case *wire.Failed:
						t.Errorf("reader %d: %+v", n, m)
						over = true
					}
				}
			}
		})
	}
	busy.Wait()
	took := time.Since(began)
	slices.Sort(delays)
	at := func(q float64) time.Duration {
		return delays[int(q*float64(len(delays)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("%d readers, %d streaming: %d frames, %d tokens in %v; frame delay p50 %v, p99 %v, most %v",
		idle+streaming, streaming, len(delays), tokens, took.Round(time.Millisecond), at(0.5), at(0.99), at(1))
	// Where others compute too, at most half as late as an answer takes as a whole.
	if most := max(2*time.Second, took/time.Duration(2*questions)); at(0.99) > most {
		t.Errorf("p99 frame delay %v, want at most %v", at(0.99), most)
	}
	if n := len(r.everyone()); n != idle+streaming {
		t.Errorf("%d sessions, want %d", n, idle+streaming)
	}

	for _, c := range all {
		c.ws.NetConn().Close()
	}
	quiet.Wait()
	settled(t, "sessions and goroutines", func() bool {
		return len(r.everyone()) == 0 && runtime.NumGoroutine() <= goroutines+4 // idle HTTP connections end by themselves
	})
}

// bornOf is when a message's oldest event happened.
func (s *session) bornOf(seq uint64) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.log {
		if e.seq == seq {
			return e.born, true
		}
	}
	return time.Time{}, false
}
