package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"nrt/trainer/run"
	"nrt/web/wire"
)

// nudge is the log of a run: whatever is written says that there is news.
type nudge struct{ c chan struct{} }

func (n *nudge) Write(p []byte) (int, error) {
	ring(n.c)
	return len(p), nil
}

// follow passes on what the run writes to its folder.
func (t *training) follow(news, over <-chan struct{}, judge *judge) {
	var in reader
	look := func() {
		if err := errors.Join(t.readMetrics(&in), t.findKept()); err != nil {
			t.runs.server.log.Error("training run", "run", t.name(), "error", err)
		}
		judge.look()
	}
	for {
		select {
		case <-news:
			look()
		case <-over:
			look()
			return
		}
	}
}

// reader is how far metrics.jsonl has been read.
type reader struct {
	file fs.FileInfo
	at   int64
}

// readMetrics reads the lines that are new. A run that goes on replaces the file
// by its beginning; the steps it does again give the same values.
func (t *training) readMetrics(in *reader) (err error) {
	f, err := os.Open(filepath.Join(t.out(), "metrics.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if in.file == nil || !os.SameFile(in.file, info) {
		in.at = 0
	}
	in.file = info
	if _, err := f.Seek(in.at, io.SeekStart); err != nil {
		return err
	}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil // a line without its end is read when it has one
		}
		if err != nil {
			return err
		}
		in.at += int64(len(line))
		var v run.Values
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("metrics.jsonl: %w", err)
		}
		t.addPoint(shown(v))
	}
}

// shown picks what readers see of a step.
func shown(v run.Values) wire.Point {
	p := wire.Point{Step: int(v["step"]), Values: map[string]float64{}}
	for _, n := range []struct{ to, from, or string }{
		{wire.ValueReward, "nrt/reward_raw", "reward"},
		{wire.ValueBase, "nrt/reward_base", ""},
		{wire.ValueEntropy, "entropy", ""},
		{wire.ValueLength, "completions/mean_length", ""},
		{wire.ValueZeroVariance, "frac_reward_zero_std", ""},
		{wire.ValueLoss, "loss", ""},
	} {
		x, ok := v[n.from]
		if !ok {
			x, ok = v[n.or]
		}
		if ok && finite(x) == x {
			p.Values[n.to] = x
		}
	}
	return p
}

// addPoint takes a step that is new and sends it to those who watch.
func (t *training) addPoint(p wire.Point) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.points); n > 0 && p.Step <= t.points[n-1].Step {
		return
	}
	t.points = append(t.points, p)
	if t.taken != nil {
		t.taken()
	}
	t.runs.server.metrics.steps.WithLabelValues(t.info.Method).Inc()
	t.runs.server.toWatchers(t.name(), func() wire.Message {
		return &wire.Step{Run: t.name(), Of: t.info.Steps, Points: []wire.Point{p}}
	})
}

// findKept makes new checkpoints known as models.
func (t *training) findKept() error {
	entries, err := os.ReadDir(t.out())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.mu.Lock()
	label := strings.ToUpper(t.info.Method)
	if t.info.Mode != "" {
		label += " " + t.info.Mode
	}
	known, world := slices.Clone(t.steps), t.info.World
	t.mu.Unlock()
	if m := t.runs.server.hub.find(t.info.Model); m != nil {
		world = m.World
	}
	var errs []error
	var fresh []int
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), "checkpoint-")
		step, err := strconv.Atoi(text)
		if !ok || err != nil || slices.Contains(known, step) {
			continue
		}
		_, err = t.runs.server.hub.add(Source{
			Name: t.modelName(step), About: fmt.Sprintf("%s: %s after %d steps", t.name(), label, step),
			Files: os.DirFS(filepath.Join(t.out(), e.Name())), World: world,
		}, t.name(), step)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fresh = append(fresh, step)
	}
	if len(fresh) > 0 {
		t.mu.Lock()
		t.steps = append(t.steps, fresh...)
		slices.Sort(t.steps)
		t.mu.Unlock()
		if t.runs.server.runs != nil { // nobody to tell while the folder is opened
			t.runs.server.tellModels()
			t.runs.tell(t, nil)
		}
	}
	return errors.Join(errs...)
}
