package server

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"nrt/trainer/run"
	"nrt/web/wire"
)

// SavedRun is a training run that this server does not train. Readers see it like a
// run of their own; it cannot go on from here.
type SavedRun struct {
	State   wire.State   // Checkpoints name served models
	Metrics []run.Values // of every step or of some, under package run's names
	Evals   []wire.Point

	// Of a run that may be training elsewhere. Look says how it stands by now; Models are
	// those that it has kept, which stand one after another in Options.Models at first.
	Look   func(now time.Time) (SavedRun, error)
	Models []Source
}

// savedRun is a saved run for readers.
type savedRun struct {
	look func(now time.Time) (SavedRun, error) // nil: it has ended

	looking sync.Mutex
	listed  []string // models
	loaded  []string // models that are no longer listed, as long as they answer
	wrong   string   // at the last look

	mu     sync.Mutex // held while watchers are told, so that they miss nothing
	report runReport
}

// newSaved prepares the saved runs for readers.
func newSaved(list []SavedRun) []*savedRun {
	out := make([]*savedRun, len(list))
	for i, r := range list {
		out[i] = &savedRun{look: r.Look, report: r.report()}
		for _, m := range r.Models {
			out[i].listed = append(out[i].listed, m.Name)
		}
	}
	return out
}

func (r *SavedRun) report() runReport {
	out := runReport{State: r.State, Evals: r.Evals}
	out.State.Saved = true
	for _, v := range r.Metrics {
		out.Steps = append(out.Steps, shown(v))
	}
	return out
}

// now is the run as it was last seen.
func (r *savedRun) now() runReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report
}

// savedRun is the saved run of that name, or nil.
func (s *Server) savedRun(name string) *savedRun {
	i := slices.IndexFunc(s.saved, func(r *savedRun) bool { return r.now().State.Run == name })
	if i < 0 {
		return nil
	}
	return s.saved[i]
}

// states is every run as x sees it, the saved ones first, then oldest first.
func (s *Server) states(x *session) []wire.State {
	list := []wire.State{}
	for _, r := range s.saved {
		list = append(list, r.now().State)
	}
	if s.runs != nil {
		list = append(list, s.runs.states(x)...)
	}
	return list
}

// watch sends a saved run to a reader, who hears what follows if it may go on.
func (r *savedRun) watch(x *session, id string, after int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	head := wire.Head{ID: id}
	st := r.report.State
	st.Head = head
	x.say(&st)
	if r.look != nil {
		x.watch(st.Run)
	} else if after > 0 {
		return // the reader has it
	}
	x.say(&wire.Step{Head: head, Run: st.Run, Of: st.Of, Points: r.report.Steps, Whole: true})
	x.say(&wire.Eval{Head: head, Run: st.Run, Points: r.report.Evals, Whole: true})
}

// lookEvery is how often the folders of runs that train elsewhere are looked at.
const lookEvery = 2 * time.Second

// follow looks at the saved runs that may go on, until the server ends.
func (s *Server) follow() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			for _, r := range s.saved {
				s.look(r)
			}
		}
	}
}

// look takes up what has become of a saved run and tells the readers. What cannot be
// read leaves all as it was, until the next look.
func (s *Server) look(r *savedRun) {
	if r.look == nil {
		return
	}
	r.looking.Lock()
	defer r.looking.Unlock()
	next, err := r.look(s.o.now())
	if err == nil {
		err = next.validate()
	}
	relisted := false
	if err == nil {
		relisted, err = s.relist(r, &next)
	}
	if err != nil {
		if err.Error() != r.wrong {
			s.log.Warn("a shown run cannot be read now", "run", r.now().State.Run, "error", err)
		}
		r.wrong = err.Error()
		return
	}
	r.wrong = ""
	report := next.report()
	if r.turn(s, report) {
		s.tell(func(*session) wire.Message { st := report.State; return &st }) // first: it says of which steps the models are
	}
	if relisted {
		s.tellModels()
	}
}

// turn makes next the run's report, tells its watchers the points that are new, and
// reports whether its state is another.
func (r *savedRun) turn(s *Server, next runReport) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.report
	r.report = next
	st := next.State
	if list, whole := news(last.Steps, next.Steps); whole || len(list) > 0 {
		s.toWatchers(st.Run, func() wire.Message { return &wire.Step{Run: st.Run, Of: st.Of, Points: list, Whole: whole} })
	}
	if list, whole := news(last.Evals, next.Evals); whole || len(list) > 0 {
		s.toWatchers(st.Run, func() wire.Message { return &wire.Eval{Run: st.Run, Points: list, Whole: whole} })
	}
	return !reflect.DeepEqual(last.State, next.State)
}

// news are the points that come after the old ones, or, where these are not what they
// were, the whole list.
func news(old, list []wire.Point) (fresh []wire.Point, whole bool) {
	same := func(a, b wire.Point) bool { return a.Step == b.Step && maps.Equal(a.Values, b.Values) }
	if len(list) < len(old) || !slices.EqualFunc(old, list[:len(old)], same) {
		return list, true
	}
	return list[len(old):], false
}

// validate reports what readers could not be told: the folder is not ours.
func (r *SavedRun) validate() error {
	x := r.report()
	return errors.Join(x.State.Validate(),
		(&wire.Step{Run: x.State.Run, Of: x.State.Of, Points: x.Steps}).Validate(),
		(&wire.Eval{Run: x.State.Run, Points: x.Evals}).Validate())
}

// relist makes the run's models those of next, less what cannot be read, and reports
// whether the list that readers choose from is another. Models that the run has no more
// answer as long as they are loaded.
func (s *Server) relist(r *savedRun, next *SavedRun) (bool, error) {
	var names []string
	unread := map[string]bool{}
	var errs []error
	for _, m := range next.Models {
		if old := s.hub.find(m.Name); old == nil || !old.Made.Equal(m.Made) {
			if _, err := s.hub.add(m, "", 0); err != nil {
				unread[m.Name], errs = true, append(errs, err)
				continue
			}
		}
		names = append(names, m.Name)
	}
	if len(names) == 0 {
		return false, errors.Join(errs...)
	}
	next.State.Checkpoints = slices.DeleteFunc(next.State.Checkpoints, func(c wire.Checkpoint) bool { return unread[c.Model] })
	last := r.listed
	s.hub.relist(last, names)
	r.listed = names
	r.loaded = slices.DeleteFunc(slices.Concat(last, r.loaded), func(name string) bool {
		return slices.Contains(names, name) || s.hub.retire(name)
	})
	return !slices.Equal(last, names), nil
}

// unknown says that there is no model of that name.
func (s *Server) unknown(model string) string {
	model = clip(model, 200)
	for _, r := range s.saved {
		if name := r.now().State.Run; r.look != nil && strings.HasPrefix(model, name+"/") {
			return "“" + model + "” is no longer there: the training run " + name + " keeps only some of its models"
		}
	}
	return "there is no model “" + model + "” here"
}
