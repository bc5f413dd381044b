package run

import (
	"encoding/json"
	"fmt"
	"maps"

	"nrt/trainer/data"
)

// State is trainer_state.json: everything a run needs to go on, beside the model
// and the optimizer. Names that Hugging Face's trainer_state.json also has mean
// the same.
type State struct {
	Format    int     `json:"format"` // of this file; see stateFormat
	Step      int     `json:"global_step"`
	MaxSteps  int     `json:"max_steps"`
	Epoch     float64 `json:"epoch"`
	NumTokens int64   `json:"num_tokens"`
	// Updates counts optimizer steps; several may follow one rollout.
	Updates int `json:"updates"`
	// Data is the position in the training data. Together with Step it stands
	// for all random numbers: see Seed.
	Data data.Position `json:"data"`
	// Objective is the objective's own state (moving averages).
	Objective json.RawMessage `json:"objective,omitempty"`
	// Unevaluated says that the run was stopped in the evaluation after Step.
	Unevaluated bool `json:"unevaluated,omitempty"`
	// Exam is what evaluations ask; nil where they ask nothing, and in files of older
	// versions.
	Exam *Exam `json:"exam,omitempty"`
	// Best is the best evaluation so far of these questions, nil before the first.
	Best *Best `json:"best,omitempty"`
	// LogHistory is the tail of the metrics.
	LogHistory []Values `json:"log_history,omitempty"`
	// Origin is what the run started from; nil in files of older versions.
	Origin *Origin `json:"origin,omitempty"`
	// Config is the whole configuration of the run.
	Config Config `json:"config"`
}

// Exam tells apart evaluations that asked different questions.
type Exam struct {
	Fingerprint string `json:"fingerprint"` // of the questions
	From        int    `json:"from"`        // the first step that they may have been asked at
}

// Best is the step with the best evaluation.
type Best struct {
	Step   int     `json:"step"`
	Metric string  `json:"metric"`
	Value  float64 `json:"value"`
}

// stateFormat is the version of trainer_state.json that this package writes and
// the only one it reads.
const stateFormat = 1

// historyTail is how many lines of metrics a state keeps, or as many as one line of
// the log sums up.
const historyTail = 100

// Remember adds a line to the history and forgets the oldest beyond its tail.
func (s *State) Remember(step int, v Values) {
	line := maps.Clone(v)
	line["step"] = float64(step)
	s.LogHistory = append(s.LogHistory, line)
	if over := len(s.LogHistory) - max(historyTail, s.Config.Output.LogEvery); over > 0 {
		s.LogHistory = append([]Values(nil), s.LogHistory[over:]...)
	}
}

// Recent sums up the last n steps of the history, as far as it goes back: the last
// value of what counts or says how far the run is, of all else the mean over the
// steps that have it. A run that is resumed has the same history.
func (s *State) Recent(n int) Values {
	recent := s.LogHistory[max(0, len(s.LogHistory)-n):]
	out, of := Values{}, map[string]int{}
	for _, line := range recent {
		for name, x := range line {
			switch name {
			case "num_tokens", "epoch", "learning_rate":
				out[name], of[name] = x, 1
			case "step":
			default:
				out[name] += x
				of[name]++
			}
		}
	}
	for name, n := range of {
		out[name] /= float64(n)
	}
	return out
}

// check finds what cannot be true of a state.
func (s *State) check() error {
	switch {
	case s.Format != stateFormat:
		return fmt.Errorf("format: want %d, have %d: it was written by another version", stateFormat, s.Format)
	case s.Step < 0:
		return fmt.Errorf("global_step: want >= 0, have %d", s.Step)
	case s.Updates < 0:
		return fmt.Errorf("updates: want >= 0, have %d", s.Updates)
	}
	return nil
}
