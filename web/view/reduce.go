package view

import (
	"fmt"
	"slices"

	"nrt/web/wire"
)

// Receive is the state after a message of the server, and what to say to it:
// after a welcome, which runs to watch and the question that got lost. Messages
// of requests that the page no longer waits for change nothing but the sequence
// number.
func (s State) Receive(m wire.Message) (State, []wire.Message) {
	var out []wire.Message
	if w, ok := m.(*wire.Welcome); ok {
		s, out = s.welcome(w)
	} else {
		s = s.receive(m)
	}
	if d := s.doubt; d.until > 0 && d.until <= s.Seq+1 {
		s.doubt = doubt{}
		s, out = s.unheard(d, out)
	}
	return s.wants(out)
}

func (s State) receive(m wire.Message) State {
	h := m.Header()
	if h.Seq != 0 {
		if h.Seq <= s.Seq {
			return s // seen before: resent after a reconnection
		}
		s.Seq = h.Seq
	}
	switch m := m.(type) {
	case *wire.Models:
		s.Models = s.models(m.Models)
	case *wire.State:
		return s.runState(m)
	case *wire.Step:
		return s.runPoints(m.Run, func(r *Run) { r.Steps = merge(r.Steps, m.Points, m.Whole) })
	case *wire.Eval:
		return s.runPoints(m.Run, func(r *Run) { r.Evals = merge(r.Evals, m.Points, m.Whole) })
	case *wire.Scored:
		if m.ID == s.through.id {
			return s.reread(m)
		}
		return s.scored(m)
	case *wire.Resampled:
		return s.resampled(m)
	case *wire.Failed:
		return s.failed(m)
	case *wire.End:
		if m.ID != "" && m.ID == s.through.id {
			return s.throughOver()
		}
	}
	if w := &s.rewriting; w.id != "" && h.ID == w.id {
		switch m := m.(type) {
		case *wire.Queued:
			w.queued, w.before, w.wait = true, m.Place, m.Seconds
		case *wire.End:
			return s.freshOver()
		}
		return s
	}
	r := s.Reading
	if r == nil || r.Saved || h.ID == "" || h.ID != r.Ask.ID {
		return s
	}
	switch m := m.(type) {
	case *wire.Queued:
		next := *r
		next.Status, next.Place, next.Wait = Queued, m.Place, m.Seconds
		s.Reading = &next
		s.Say = queueText(m.Place, m.Seconds)
	case *wire.Start:
		s.Reading = r.start(m)
		s.Say = fmt.Sprintf("Writing %s.", count(m.K, "chain"))
	case *wire.Frame:
		before := r.done()
		s.Reading = r.frame(m)
		if n := s.Reading.done(); n > before {
			s.Say = fmt.Sprintf("%d of %s ready.", n, count(len(r.Chains), "chain"))
		}
	case *wire.End:
		next := *r
		next.Status, next.Seconds = Complete, m.Seconds
		if m.Cancelled {
			next.Status = Cancelled
		}
		s.Reading = &next
		s.sc = nil
		s = s.keep(&next)
		s.Say = s.endText()
	}
	return s
}

// start begins the chains.
func (r *Reading) start(m *wire.Start) *Reading {
	next := *r
	next.Status, next.Place, next.Wait = Writing, 0, 0
	next.Plain, next.Prompt, next.Answer = m.Plain, m.Prompt, m.Answer
	next.Ask.Seed = m.Seed
	next.Base = nil
	next.Chains = make([]Chain, m.K)
	return &next
}

// frame adds tokens. Entries that do not continue what is there are dropped: a
// token is never doubled, and a gap never closed by the wrong token.
func (r *Reading) frame(m *wire.Frame) *Reading {
	next := *r
	next.Chains = slices.Clone(r.Chains)
	for i := range m.Tokens {
		next.add(&m.Tokens[i])
	}
	for _, d := range m.Done {
		if d.Chain < len(next.Chains) {
			c := &next.Chains[d.Chain]
			c.Done, c.Finish, c.Answer, c.Match, c.Right = true, d.Finish, d.Answer, d.Match, d.Right
		}
	}
	return &next
}

func (r *Reading) add(t *wire.Tokens) {
	if t.Part == wire.PartBaseline {
		r.Base = continued(r.Base, t.At, t.LogProbs, len(r.Answer))
		return
	}
	if t.Chain < 0 || t.Chain >= len(r.Chains) {
		return
	}
	c := &r.Chains[t.Chain]
	switch t.Part {
	case wire.PartChain:
		for i, text := range t.Texts {
			if t.At+i == len(c.Tokens) {
				c.Tokens = append(c.Tokens, Token{ID: t.IDs[i], Text: text, LogProb: t.LogProbs[i], Entropy: t.Entropies[i]})
			}
		}
	case wire.PartBoundary:
		c.Forced = true
	case wire.PartReference:
		c.Ref = continued(c.Ref, t.At, t.LogProbs, len(r.Answer))
	}
}

// continued appends what follows list, at most to n entries.
func continued(list []float64, at int, more []float64, n int) []float64 {
	for i, x := range more {
		if at+i == len(list) && len(list) < n {
			list = append(list, x)
		}
	}
	return list
}

// keepReadings is how many complete readings the page can go back to.
const keepReadings = 24

// keep remembers a complete reading, so that going back to its question and
// model costs nothing.
func (s State) keep(r *Reading) State {
	if r.Status != Complete || r.Saved {
		return s
	}
	list := append(slices.DeleteFunc(slices.Clone(s.kept), func(k *Reading) bool { return same(&k.Ask, &r.Ask) }), r)
	s.kept = list[max(0, len(list)-keepReadings):]
	return s
}

// same reports whether two requests have the same answer.
func same(a, b *wire.Ask) bool {
	x, y := *a, *b
	x.Head, y.Head = wire.Head{}, wire.Head{}
	return x == y
}

// recall finds the complete reading of a request, also among the examples.
func (s *State) recall(a *wire.Ask) *Reading {
	for _, r := range s.kept {
		if same(&r.Ask, a) {
			return r.by("")
		}
	}
	for i := range s.Examples {
		e := &s.Examples[i]
		if same(&e.Ask, a) {
			return e.Reading()
		}
		for k := range e.Anew {
			if same(&e.Anew[k].Ask, a) {
				return e.Anew[k].Reading()
			}
		}
	}
	return nil
}

// welcome takes up the session. A question that the server never heard of, or
// forgot because it started again, is asked again: the same seed gives the same
// chains.
func (s State) welcome(w *wire.Welcome) (State, []wire.Message) {
	resumed := w.Resumed && w.Session == s.Session
	away := s.Link == Waiting || s.Link == Offline
	s.Link, s.Retry = Live, 0
	s.Models, s.Limits = w.Models, w.Limits
	if n := s.Notice; n != nil && (n.Code == codeOffline || n.Code == wire.CodeStopping && (s.Reading == nil || s.Reading.Status != Failed)) {
		s.Notice = nil
	}
	s.doubt = doubt{}
	if !resumed {
		s.Seq, s.TrainID = 0, ""
	}
	known := s.Session != ""
	s.Session = w.Session
	said := either(away, "Connected.", s.Say)
	// Runs that came with the page, and that this server does not have.
	s.Runs = slices.DeleteFunc(slices.Clone(s.Runs), func(r Run) bool {
		return r.Saved && !slices.ContainsFunc(w.Runs, func(x wire.State) bool { return x.Run == r.State.Run })
	})
	for i := range w.Runs {
		s = s.runState(&w.Runs[i])
	}
	s.Say = said // what came with the welcome is no news
	if !known || s.run(s.Run) == nil {
		s.Run, s.Against = s.firstRuns()
	}
	// What-ifs that were under way may be lost, and cost little: they are asked for
	// again.
	out := s.watches()
	s, off := s.callOffAll()
	if resumed {
		out = append(out, off...)
		if s.stopped != "" {
			out = append(out, cancel(s.stopped))
		}
	}
	s.stopped = ""
	if r := s.Reading; !resumed && r != nil && !r.Saved && r.under() {
		return s.askAgain(out)
	}
	if resumed {
		s.doubt = doubt{until: w.Seq + 1, run: s.TrainID}
		if s.Reading != nil {
			s.doubt.ask = s.Reading.Ask.ID
		}
	}
	return s, out
}

// unheard is when all has come that the server had to say, and nothing of what was in
// doubt. A question is asked again; a run is the reader's to start.
func (s State) unheard(d doubt, out []wire.Message) (State, []wire.Message) {
	if r := s.Reading; r != nil && !r.Saved && r.Status == Asked && r.Ask.ID == d.ask {
		s, out = s.askAgain(append(out, cancel(r.Ask.ID)))
	}
	if d.run != "" && s.TrainID == d.run {
		s.TrainID, s.Say = "", "The connection was lost before the training run was asked for. Start it again."
		s.Notice = &Notice{Code: codeOffline, Text: s.Say}
	}
	return s, out
}

// askAgain asks the question that is under way anew; what the reader chose of its chains
// stays chosen.
func (s State) askAgain(out []wire.Message) (State, []wire.Message) {
	a := s.Reading.Ask
	s.Reading = nil
	if a.Model == "" && len(s.Models) > 0 {
		a.Model = s.Models[0].Name
		s.Model = a.Model
	}
	next, more := s.ask(a)
	next.Choice, next.drafts, next.AtStep = s.Choice, s.drafts, s.AtStep
	return next, append(out, more...)
}

// firstRuns are the run that the page follows at first and the one drawn beside it:
// the reader's own latest, and what came with the program to compare it with; without
// one, the two saved runs. Other readers' runs are for who picks them.
func (s *State) firstRuns() (run, against string) {
	own := ""
	for i := range s.Runs {
		r := &s.Runs[i].State
		if r.Saved {
			run, against = r.Run, run
		}
		if r.Mine {
			own = r.Run
		}
	}
	switch {
	case own != "":
		return own, run
	case run == "" && len(s.Runs) > 0:
		return s.Runs[len(s.Runs)-1].State.Run, "" // nothing came with the program
	}
	return run, against
}

// under reports whether the server still works on it.
func (r *Reading) under() bool {
	return r.Status == Asked || r.Status == Queued || r.Status == Writing
}

// goBack shows what was shown before the question.
func (s State) goBack() State {
	s.Choice, s.AtStep, s.Reading, s.drafts, s.sc = s.back.Choice, s.back.AtStep, s.back.Reading, s.back.drafts, nil
	s.back = nil
	return s
}

// stop ends the question that is under way. Where no server hears of it now, the page
// stays with the chains that it has, or, without one, with what it showed before; the
// server is told when it is back.
func (s State) stop() (State, []wire.Message) {
	r := s.Reading
	if r == nil || r.Saved || !r.under() {
		return s, nil
	}
	if s.Link == Live {
		return s, []wire.Message{cancel(r.Ask.ID)}
	}
	s.stopped = r.Ask.ID
	if s.back != nil && r.done() == 0 {
		s = s.goBack()
		s.Say = "Stopped. The page shows what it showed before."
		return s, nil
	}
	next := *r
	next.Status, next.Ask.ID = Cancelled, "" // whatever still comes is not for it
	s.Reading, s.sc = &next, nil
	s.Say = s.endText()
	return s, nil
}

func (s State) failed(m *wire.Failed) State {
	if _, ok := s.waiting[m.ID]; ok {
		return s.tryFailed(m)
	}
	if m.ID != "" && m.ID == s.through.id {
		return s.throughFailed(m)
	}
	if m.ID != "" && m.ID == s.rewriting.id {
		return s.freshFailed(m)
	}
	r := s.Reading
	mine := r != nil && m.ID == r.Ask.ID && !r.Saved
	if m.ID != "" && !mine && m.ID != s.TrainID {
		return s // of a request that the page gave up
	}
	text := sentenceOf(m.Message)
	if mine && m.Code == wire.CodeNoModel {
		for _, run := range s.Runs {
			if slices.ContainsFunc(run.Checkpoints, func(c wire.Checkpoint) bool { return c.Model == r.Ask.Model }) {
				text = "The training run " + run.State.Run + " is not kept any more, and its models have gone with it."
			}
		}
		text += " Choose another one in the list of models."
	}
	s = s.told(m, text)
	switch {
	case m.ID == "":
	case mine && s.back != nil && r.under() && len(r.Chains) == 0 && (m.Code == wire.CodeTooLong || m.Code == wire.CodeBadMessage || m.Code == wire.CodeNoModel):
		// It will not be answered: what was shown comes back, beside the reason.
		s = s.goBack()
	case mine:
		next := *r
		next.Status = Failed
		s.Reading = &next
	default:
		s.TrainID = ""
	}
	return s
}

// told says what the server would not do.
func (s State) told(m *wire.Failed, text string) State {
	s.Notice = &Notice{Code: m.Code, Text: text, Field: m.Field, Retry: m.Retry}
	s.Say = text
	return s
}

func (s State) runState(m *wire.State) State {
	s.Runs = slices.Clone(s.Runs)
	i := s.runAt(m.Run)
	if i < 0 {
		s.Runs = append(s.Runs, Run{})
		i = len(s.Runs) - 1
	}
	before := s.Runs[i].Status
	s.Runs[i].State = *m
	if m.ID != "" && m.ID == s.TrainID {
		s.TrainID = ""
		if s.Run != m.Run {
			s.Against, s.Run, s.AtStep = s.Run, m.Run, -1
		}
	}
	if before != m.Status && (m.Mine || m.Run == s.Run) && !embedded(m) {
		s.Say = fmt.Sprintf("Training run %s: %s.", m.Run, m.Status)
	}
	return s
}

// models is a new list, with what the page shows from the one before: a run may have
// removed the model that wrote its chains, or reads them.
func (s *State) models(list []wire.Model) []wire.Model {
	for _, m := range s.Models {
		shown := m.Name == s.Model || m.Name == s.Reader || s.Reading != nil && m.Name == s.Reading.Ask.Model
		if shown && !slices.ContainsFunc(list, func(x wire.Model) bool { return x.Name == m.Name }) {
			list = append(slices.Clone(list), m)
		}
	}
	return list
}

// runPoints adds values to a run.
func (s State) runPoints(run string, add func(r *Run)) State {
	i := s.runAt(run)
	if i < 0 {
		return s
	}
	s.Runs = slices.Clone(s.Runs)
	r := &s.Runs[i]
	add(r)
	if n := len(r.Steps); n > 0 {
		r.Step = max(r.Step, r.Steps[n-1].Step)
	}
	return s
}

// merge adds points, in the place of all that there are if they are whole; a step that is
// there already is replaced.
func merge(list, more []wire.Point, whole bool) []wire.Point {
	if whole {
		list = nil
	}
	for _, p := range more {
		n := len(list)
		if n == 0 || list[n-1].Step < p.Step {
			list = append(list, p)
			continue
		}
		at, found := slices.BinarySearchFunc(list, p.Step, func(q wire.Point, step int) int { return q.Step - step })
		list = slices.Clone(list)
		if found {
			list[at] = p
		} else {
			list = slices.Insert(list, at, p)
		}
	}
	return list
}
