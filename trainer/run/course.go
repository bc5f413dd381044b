package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// Course is what a run's output folder tells of it, also while another process trains
// it: Look sees what came since. It opens no weights and changes nothing.
type Course struct {
	Config   Config
	Step     int      // of the last line of metrics, or of the last model
	Steps    int      // that the run has in all
	Training bool     // a process is at work on it, or, where that cannot be seen, has logged something within a minute
	Means    []Values // of what its steps logged, each of those since the one before; not of every step of a long run
	Evals    []Values // what its evaluations logged; not of every one of many
	Kept     []Kept   // models, by step

	dir   string
	curve curve
	read  metricsRead
	locks bool // the lock is seen here: not so where the folder is of another computer
}

// metricsRead is how far metrics.jsonl has been read.
type metricsRead struct {
	bytes int64
	lines int
	last  []byte // line, which tells whether the file is the same still
	step  int    // of it
}

// Kept is a model of a run.
type Kept struct {
	Step int
	Path string    // of its folder
	Made time.Time // another one may come to lie there
}

// OpenCourse is the course of the run in dir.
func OpenCourse(dir string, now time.Time) (*Course, error) {
	c := &Course{dir: dir}
	return c, c.Look(now)
}

// Look reads what is new. The model in final/ takes the place of the last step's
// checkpoint when the run is over. After an error the course is to be looked at again:
// its folder may be changing.
func (c *Course) Look(now time.Time) error {
	held := Locked(filepath.Join(c.dir, lockFile)) // first: what is then read is complete if it is not
	folder := &Checkpoints{dir: c.dir}
	steps, err := folder.Steps()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", c.dir, because(err), wantRun)
	}
	s, err := c.began(steps)
	if err != nil {
		return err
	}
	saved := 0
	if n := len(steps); n > 0 {
		saved = steps[n-1]
		if _, err := os.Stat(filepath.Join(c.dir, metricsFile)); err != nil {
			return fmt.Errorf("%s: %w: %s", filepath.Join(c.dir, metricsFile), because(err), wantRun)
		}
	}
	final := filepath.Join(c.dir, finalName)
	_, noFinal := os.Stat(filepath.Join(final, "tokenizer.json")) // which comes after the weights
	if len(steps) == 0 && noFinal == nil && !held {               // somebody has removed the checkpoints
		saved = s.MaxSteps
		steps = append(steps, saved)
	}
	over := saved >= s.MaxSteps && !held
	c.Config, c.Steps, c.Kept = s.Config, s.MaxSteps, nil
	for _, step := range steps {
		path := folder.Path(step)
		if over && step == saved && noFinal == nil {
			path = final
		}
		if info, err := os.Stat(path); err == nil { // it may just have been removed
			c.Kept = append(c.Kept, Kept{step, path, info.ModTime()})
		}
	}
	if len(c.Kept) == 0 && len(steps) > 0 {
		return fmt.Errorf("%s: its checkpoints have just been removed: try again", c.dir)
	}
	last, grown, err := c.readMetrics()
	if err != nil {
		return err
	}
	c.Step = max(saved, last)
	c.locks = c.locks || held
	c.Training = held || !c.locks && saved < s.MaxSteps && now.Sub(grown) < time.Minute
	if !c.Training {
		c.curve.close() // nothing more comes for a while
	}
	c.Means = c.curve.values
	return nil
}

// began is what the run is, as it was when it was last started. Folders of older versions
// say it in their checkpoints, of which these are the steps.
func (c *Course) began(steps []int) (State, error) {
	s, err := readStateFile(filepath.Join(c.dir, beginFile))
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return s, err
	case len(steps) > 0:
		return readState((&Checkpoints{dir: c.dir}).Path(steps[len(steps)-1]))
	}
	return s, fmt.Errorf("%s holds no run: %s", c.dir, wantRun)
}

const wantRun = "want the folder that nrt train --output names, which holds one as soon as data and model have been read"

// readMetrics reads the lines that are new, and says of which step the last one of the
// file is, and when it was written. Where the lines before are no longer what they were,
// all are: a run that goes on after a crash replaces the file by its beginning.
func (c *Course) readMetrics() (step int, grown time.Time, err error) {
	f, err := os.Open(filepath.Join(c.dir, metricsFile))
	if errors.Is(err, fs.ErrNotExist) { // a run makes it next
		c.Evals, c.curve, c.read = nil, curve{}, metricsRead{}
		return 0, grown, nil
	}
	if err != nil {
		return 0, grown, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return 0, grown, err
	}
	r := &c.read
	before := make([]byte, len(r.last))
	if _, err := f.ReadAt(before, r.bytes-int64(len(before))); err != nil && err != io.EOF {
		return 0, grown, err
	}
	if !bytes.Equal(before, r.last) {
		c.Evals, c.curve, *r = nil, curve{}, metricsRead{}
	}
	if _, err := f.Seek(r.bytes, io.SeekStart); err != nil {
		return 0, grown, err
	}
	for in := newLineReader(f); ; {
		line, v, err := in.next()
		if err == io.EOF {
			return r.step, info.ModTime(), nil // a line without its end is read when it has one
		}
		if err != nil {
			return 0, grown, fmt.Errorf("%s:%d: %w", f.Name(), r.lines+1, err)
		}
		r.bytes, r.lines, r.last, r.step = r.bytes+int64(len(line)), r.lines+1, append(r.last[:0], line...), int(v["step"])
		c.take(v)
	}
}

// take is the next line of metrics, which is not kept.
func (c *Course) take(v Values) {
	if _, trained := v["loss"]; trained {
		c.curve.add(v)
		return
	}
	if len(c.Evals) == mostPoints { // every other one stays
		var half []Values
		for i := 0; i < mostPoints; i += 2 {
			half = append(half, c.Evals[i])
		}
		c.Evals = half
	}
	c.Evals = append(c.Evals, maps.Clone(v))
}

// readState reads a checkpoint's trainer_state.json.
func readState(path string) (State, error) { return readStateFile(filepath.Join(path, stateFile)) }

func readStateFile(file string) (s State, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	if err := s.check(); err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}
