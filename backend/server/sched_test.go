package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// shared is a sched in whose queue each reader may have so many tickets.
type shared struct {
	*sched
	each int
}

func newShared(slots, queue, each int) shared { return shared{newSched(slots, queue), each} }

// acquire enters the queue and waits for a slot.
func (s shared) acquire(ctx context.Context, reader string, told func(place int, seconds float64)) (release func(), err error) {
	t, err := s.enter(&ticket{reader: reader}, s.each)
	if err != nil {
		return nil, err
	}
	return s.wait(ctx, t, told)
}

// TestSlotsGoRound: one reader asks five times, then two others once each; they
// do not wait for all five.
func TestSlotsGoRound(t *testing.T) {
	s := newShared(1, 100, 100)
	first, err := s.acquire(context.Background(), "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	var all sync.WaitGroup
	ask := func(reader string, n int) {
		_, before := s.load()
		all.Go(func() {
			release, err := s.acquire(context.Background(), reader, nil)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, fmt.Sprint(reader, n))
			mu.Unlock()
			release()
		})
		settled(t, "tickets", func() bool { _, n := s.load(); return n == before+1 })
	}
	for i := range 3 {
		ask("a", i)
	}
	ask("b", 0)
	ask("c", 0)
	first()
	all.Wait()
	if want := []string{"a0", "b0", "c0", "a1", "a2"}; !slices.Equal(order, want) {
		t.Errorf("have %v, want %v", order, want)
	}
	if busy, waiting := s.load(); busy != 0 || waiting != 0 || len(s.held) != 0 {
		t.Errorf("left over: %d busy, %d waiting, held %v", busy, waiting, s.held)
	}
}

func TestHoldersWaitForOthers(t *testing.T) {
	s := newShared(2, 10, 10)
	a1, _ := s.acquire(context.Background(), "a", nil)
	b1, _ := s.acquire(context.Background(), "b", nil)
	got := make(chan string, 2)
	go func() {
		if release, err := s.acquire(context.Background(), "a", nil); err == nil {
			got <- "a"
			release()
		}
	}()
	settled(t, "tickets", func() bool { _, n := s.load(); return n == 1 })
	go func() {
		if release, err := s.acquire(context.Background(), "c", nil); err == nil {
			got <- "c"
			release()
		}
	}()
	settled(t, "tickets", func() bool { _, n := s.load(); return n == 2 })
	b1()
	if first := <-got; first != "c" {
		t.Errorf("%s came first, though it holds a slot", first)
	}
	<-got
	a1()
}

func TestPlacesAreTold(t *testing.T) {
	s := newShared(1, 10, 10)
	hold, err := s.acquire(context.Background(), "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	places := make(chan int, 10)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	over := make(chan error, 2)
	go func() {
		release, err := s.acquire(ctx, "a", nil)
		if err == nil {
			release()
		}
		over <- err
	}()
	settled(t, "tickets", func() bool { _, n := s.load(); return n == 1 })
	go func() {
		release, err := s.acquire(context.Background(), "b", func(place int, seconds float64) { places <- place })
		if err == nil {
			release()
		}
		over <- err
	}()
	if p := <-places; p != 1 {
		t.Errorf("place %d, want 1", p)
	}
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("have %v", err)
	}
	if p := <-places; p != 0 {
		t.Errorf("place %d, want 0", p)
	}
	hold()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestQueueLimits(t *testing.T) {
	s := newShared(1, 2, 1)
	hold, _ := s.acquire(context.Background(), "x", nil)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, reader := range []string{"a", "b"} {
		all.Go(func() {
			if _, err := s.acquire(ctx, reader, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("have %v", err)
			}
		})
	}
	settled(t, "tickets", func() bool { _, n := s.load(); return n == 2 })
	if _, err := s.acquire(ctx, "a", nil); !errors.Is(err, errTooMany) {
		t.Errorf("have %v", err)
	}
	if _, err := s.acquire(ctx, "c", nil); !errors.Is(err, errQueueFull) {
		t.Errorf("have %v", err)
	}
	cancel()
	all.Wait()
	hold()
}

func TestBucket(t *testing.T) {
	b := newBucket(2, 4)
	now := time.Now()
	for i, want := range []bool{true, true, false, false} {
		if _, ok := b.take(now); ok != want {
			t.Errorf("take %d: %v", i, ok)
		}
	}
	retry, _ := b.take(now)
	if retry != 0.25 {
		t.Errorf("retry in %g s, want 0.25", retry)
	}
	if _, ok := b.take(now.Add(250 * time.Millisecond)); !ok {
		t.Error("nothing after a quarter of a second")
	}
}
