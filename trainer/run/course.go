package run

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Course is what a run's output folder tells of it, also while it trains.
type Course struct {
	Config  Config
	Step    int      // of the last line of metrics
	Steps   int      // that the run has in all
	Metrics []Values // lines of metrics.jsonl, each with its "step"
	Kept    []Kept   // models, by step
}

// Kept is a model of a run.
type Kept struct {
	Step int
	Path string // of its folder
}

// ReadCourse reads the course of the run in dir. It opens no weights and changes
// nothing. The model in final/ takes the place of the last step's checkpoint.
func ReadCourse(dir string) (c Course, err error) {
	if c.Metrics, err = ReadMetrics(dir); err != nil {
		return c, fmt.Errorf("%w: want the folder that a run's --output names", err)
	}
	steps, err := (&Checkpoints{dir: dir}).Steps()
	if err != nil {
		return c, err
	}
	if len(steps) == 0 {
		return c, fmt.Errorf("%s holds no checkpoint yet", dir)
	}
	for _, step := range steps {
		c.Kept = append(c.Kept, Kept{step, (&Checkpoints{dir: dir}).Path(step)})
	}
	last := &c.Kept[len(c.Kept)-1]
	s, err := readState(last.Path)
	if err != nil {
		return c, err
	}
	c.Config, c.Steps, c.Step = s.Config, s.MaxSteps, s.Step
	if n := len(c.Metrics); n > 0 {
		c.Step = max(c.Step, int(c.Metrics[n-1]["step"]))
	}
	final := filepath.Join(dir, finalName)
	if _, err := os.Stat(filepath.Join(final, "config.json")); err == nil && last.Step == c.Steps {
		last.Path = final
	}
	return c, nil
}

// readState reads a checkpoint's trainer_state.json.
func readState(path string) (s State, err error) {
	file := filepath.Join(path, stateFile)
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
