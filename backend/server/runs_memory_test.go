package server

import (
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"

	"nrt/backend/device"
	"nrt/web/wire"
)

// card is a device whose memory is its own.
type card struct{ device.Device }

func (card) Lazy() bool { return false }

// TestRunHasTheCard: models that lie idle on a card make room for a run; in the system's
// memory they stay.
func TestRunHasTheCard(t *testing.T) {
	for _, own := range []bool{true, false} {
		r := trainer(t, t.TempDir(), func(o *Options) {
			if own {
				o.Train.Device = card{o.Train.Device}
			}
		})
		good[textWhole](r, "completions", textRequest(nil))
		c := r.reader(nil)
		c.say(short(1))
		until(c, "run1", wire.StatusDone)
		if idle := r.idleOf("world:base"); (idle == 0) != own {
			t.Errorf("memory of its own %v: %d replicas lie idle", own, idle)
		}
	}
}

// TestTrainingIsMeasuredFirst: a run that needs more memory than the machine has left
// says so instead of taking it, where models that nobody asks do not leave enough.
func TestTrainingIsMeasuredFirst(t *testing.T) {
	r := trainer(t, t.TempDir())
	r.o.Train.Free = func() int64 { return 1 << 20 }
	c := r.reader(nil)
	c.say(short(1))
	if st := until(c, "run1", wire.StatusFailed); !strings.Contains(st.Message, "memory") && !strings.Contains(st.Message, "GB") {
		t.Errorf("have %+v", st)
	}
	good[textWhole](r, "completions", textRequest(nil))
	r.o.Train.Free = func() int64 { return 1<<20 + int64(1-r.idleOf("world:base"))<<30 }
	c.say(&wire.TrainResume{Head: wire.Head{ID: "t2"}, Run: "run1"})
	until(c, "run1", wire.StatusDone)
}

// TestTrainingTakesMemoryInTurn: what is free is asked for a run when the one before has
// taken what it needs, so that not both count on the same; what measures beside it is
// counted too.
func TestTrainingTakesMemoryInTurn(t *testing.T) {
	r := trainer(t, t.TempDir())
	running := make(chan struct{})
	var asked, early atomic.Int32
	r.o.Train.Free = func() int64 {
		if asked.Add(1) == 1 {
			<-running
		} else if len(r.report("run1").Steps) == 0 && len(r.report("run2").Steps) == 0 {
			early.Add(1)
		}
		return 1 << 40
	}
	c := r.reader(nil)
	c.say(short(2))
	until(c, "run1", wire.StatusRunning)
	c.say(short(2))
	until(c, "run2", wire.StatusRunning)
	close(running)
	for done := 0; done < 2; {
		if st, ok := c.next().(*wire.State); ok && st.Status == wire.StatusDone {
			done++
		}
	}
	if asked.Load() != 2 || early.Load() != 0 {
		t.Errorf("asked %d times what is free, %d of them before the other run's first step", asked.Load(), early.Load())
	}
	x := r.runs.all()[0]
	j, err := x.newJudge(r.hub.first())
	if err != nil {
		t.Fatal(err)
	}
	if most := r.hub.first().bytes; j.bytes < most || j.bytes > 4*most {
		t.Errorf("a model of %d bytes takes %d to measure", most, j.bytes)
	}
}

// TestTrainingAfterAnother: what the run before has given back counts as free.
func TestTrainingAfterAnother(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	r := trainer(t, t.TempDir())
	left := make([]byte, 1<<30)
	all := mapped()
	runtime.KeepAlive(left)
	r.o.Train.Free = func() int64 { return max(1, all-mapped()) }
	c := r.reader(nil)
	c.say(short(1))
	until(c, "run1", wire.StatusDone)
}
