package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"nrt/backend/safetensors"
)

// A run of hours should not end at its first checkpoint for want of room on the disk: what
// it will write is compared with what is free before its first step.

// written is what a run writes.
type written struct {
	checkpoint, final int64 // bytes of each
	at                int   // checkpoints at once, beside those that lie there
}

// willWrite is what is still to be written, with so many checkpoints there.
func (t *trainer) willWrite(there int) (w written) {
	learned, perMoment := int64(t.model.Flat().Len()), int64(4)
	if t.c.Optim.Moments == 8 {
		perMoment = 1
	}
	w.checkpoint = learned * (4 + 2*perMoment)
	if _, err := os.Stat(filepath.Join(t.c.Output.Dir, finalName)); errors.Is(err, fs.ErrNotExist) {
		w.final = int64(t.model.NumParams()) * int64(saveTypes[t.c.Model.SaveDType].Size())
	}
	o := t.c.Output
	if w.at = 1; o.SaveEvery > 0 {
		w.at = (t.total - t.state.Step + o.SaveEvery - 1) / o.SaveEvery
	}
	if most := o.Keep + 1; o.Keep > 0 { // one is written before another goes
		if len(t.exam) > 0 {
			most++ // the best
		}
		w.at = min(w.at, max(most-there, 1))
	}
	return w
}

// warnRoom warns of a disk that has not the room.
func (t *trainer) warnRoom(free int64) error {
	steps, err := t.checkpoints.Steps()
	if err != nil || t.state.Step == t.total {
		return err
	}
	w := t.willWrite(len(steps))
	if need := int64(w.at)*w.checkpoint + w.final; free > 0 && free < need {
		t.note("warning: %s are free in %s, and the run will write %s: %d × %s of checkpoints and %s of final/. A run whose disk is full ends: a smaller --keep or a larger --save-every takes less",
			size(free), t.c.Output.Dir, size(need), w.at, size(w.checkpoint), size(w.final))
	}
	return nil
}

// saveTypes are the types of final/'s weights by their names in the configuration.
var saveTypes = map[string]safetensors.DType{"float32": safetensors.F32, "bfloat16": safetensors.BF16, "float16": safetensors.F16}
