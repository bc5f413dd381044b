package run

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nrt/trainer/objective"
)

// TestRoomOnTheDisk: a run says before its first step that the disk has not the room for
// what it will write, which is what it then writes.
func TestRoomOnTheDisk(t *testing.T) {
	dev := newCPU(t)
	bytes := func(paths ...string) (n float64) {
		for _, path := range paths {
			info, err := os.Stat(path)
			check(t, err)
			n += float64(info.Size())
		}
		return n
	}
	for _, k := range []struct{ moments, keep, every, at int }{{32, 0, 2, 4}, {8, 1, 2, 3}, {32, 1, 0, 1}, {32, 9, 3, 3}} {
		c := tinyRun(t, objective.NRT) // of 7 steps
		c.Optim.Moments, c.Output.Keep, c.Output.SaveEvery = k.moments, k.keep, k.every
		c.settle()
		var log strings.Builder
		x := &trainer{c: c, dev: dev, env: Env{Device: dev, Log: &log}}
		check(t, x.env.defaults(), x.open(t.Context()))
		w := x.willWrite(0)
		if need := int64(w.at)*w.checkpoint + w.final; w.at != k.at {
			t.Errorf("%+v: %d checkpoints at once", k, w.at)
		} else {
			check(t, x.warnRoom(need), x.warnRoom(0))
			if strings.Contains(log.String(), "are free in") {
				t.Errorf("%+v: it warns of what has room: %s", k, log.String())
			}
			if check(t, x.warnRoom(need-1)); !strings.Contains(log.String(), "warning: "+size(need-1)+" are free in "+c.Output.Dir) {
				t.Errorf("%+v: no warning: %s", k, log.String())
			}
		}
		check(t, x.loop(t.Context()), x.close())
		at := filepath.Join(c.Output.Dir, "checkpoint-7")
		if have := bytes(filepath.Join(at, "model.safetensors"), filepath.Join(at, optimizerFile)); math.Abs(have-float64(w.checkpoint)) > have/8+2048 {
			t.Errorf("%+v: a checkpoint has %v bytes, said were %d", k, have, w.checkpoint)
		}
		if have := bytes(filepath.Join(c.Output.Dir, finalName, "model.safetensors")); math.Abs(have-float64(w.final)) > 2048 {
			t.Errorf("%+v: the final model has %v bytes, said were %d", k, have, w.final)
		}
		left := log.Len()
		if check(t, x.warnRoom(1)); log.Len() > left {
			t.Errorf("%+v: a run that is over warns", k)
		}
	}
	if free := freeDisk(t.TempDir()); free < 0 {
		t.Errorf("%d bytes are free", free)
	}
}
