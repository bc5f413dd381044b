package server

import (
	"slices"

	"nrt/trainer/run"
	"nrt/web/wire"
)

// SavedRun is a training run that ended before this server was built: how its
// models came to be. Readers see it like a run of their own; it cannot go on.
type SavedRun struct {
	State   wire.State   // Checkpoints name served models
	Metrics []run.Values // of every step, under package run's names
	Evals   []wire.Point
}

// newSaved prepares the saved runs for readers.
func newSaved(list []SavedRun) []runReport {
	out := make([]runReport, len(list))
	for i, r := range list {
		out[i] = runReport{State: r.State, Evals: r.Evals}
		out[i].State.Saved = true
		for _, v := range r.Metrics {
			out[i].Steps = append(out[i].Steps, shown(v))
		}
	}
	return out
}

// savedRun is the saved run of that name.
func (s *Server) savedRun(name string) (runReport, bool) {
	i := slices.IndexFunc(s.saved, func(r runReport) bool { return r.State.Run == name })
	if i < 0 {
		return runReport{}, false
	}
	return s.saved[i], true
}

// states is every run as x sees it, the saved ones first, then oldest first.
func (s *Server) states(x *session) []wire.State {
	list := []wire.State{}
	for _, r := range s.saved {
		list = append(list, r.State)
	}
	if s.runs != nil {
		list = append(list, s.runs.states(x)...)
	}
	return list
}

// watchSaved sends a saved run to a reader; there is nothing to follow.
func watchSaved(x *session, r runReport, id string, after int) {
	head := wire.Head{ID: id}
	st := r.State
	st.Head = head
	x.say(&st)
	if after > 0 {
		return // the reader has it
	}
	x.say(&wire.Step{Head: head, Run: st.Run, Of: st.Of, Points: r.Steps})
	x.say(&wire.Eval{Head: head, Run: st.Run, Points: r.Evals})
}
