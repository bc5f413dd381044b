package view

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// run is the training run that the panel follows, nil without one.
func (s *State) run(name string) *Run {
	if i := s.runAt(name); i >= 0 && name != "" {
		return &s.Runs[i]
	}
	return nil
}

func (s *State) runAt(name string) int {
	return slices.IndexFunc(s.Runs, func(r Run) bool { return r.State.Run == name })
}

// methodLabel names a run by its method, and its formula where it has one.
func methodLabel(r *wire.State) string {
	name := map[string]string{"nrt": "NRT", "rlpr": "RLPR", "verifree": "VeriFree", "sft": "SFT"}[r.Method]
	if name == "" {
		name = r.Method
	}
	return name + when(r.Method == "nrt" && r.Mode != "", " "+r.Mode)
}

func runLabel(r *wire.State) string {
	switch {
	case embedded(r):
		return methodLabel(r) + " · saved"
	case r.Saved:
		return methodLabel(r) + " · " + r.Run
	case !r.Mine:
		return methodLabel(r) + " · " + r.Run + " of another reader"
	}
	return methodLabel(r) + " · " + r.Run
}

// embedded tells a run that came with the program from one that the server was told of.
func embedded(r *wire.State) bool { return r.Saved && strings.HasPrefix(r.Run, "world:") }

// shortRun is a run's name where there is little room: of a folder's the last part, cut.
func shortRun(r *wire.State) string {
	if embedded(r) {
		return "saved"
	}
	name := []rune(r.Run[strings.LastIndexByte(r.Run, '/')+1:])
	return string(name[:min(len(name), 9)]) + when(len(name) > 9, "…")
}

// shortLabel is a run's method alone.
func shortLabel(r *wire.State) string {
	name, _, _ := strings.Cut(methodLabel(r), " ")
	return name
}

// beforeTraining labels the model that the saved runs start from.
const beforeTraining = "before training"

// ModelLabel is a model in a list to pick from, by the moment of training that it is of;
// one that is of none that the page knows goes by its name.
func (s *State) ModelLabel(name string) string {
	for i := range s.Runs {
		r := &s.Runs[i].State
		for _, c := range r.Checkpoints {
			switch {
			case !r.Saved || c.Model != name:
			case c.Step == 0:
				return when(!strings.HasPrefix(name, "world:"), name+", ") + beforeTraining
			default:
				return either(embedded(r), shortLabel(r), r.Run) + ", step " + intText(c.Step)
			}
		}
	}
	for _, m := range s.Models {
		if m.Name == name && m.Run != "" {
			return m.Run + ", step " + intText(m.Step)
		}
	}
	if method, ok := strings.CutPrefix(name, "world:"); ok {
		return methodLabel(&wire.State{Method: method})
	}
	return name
}

// ModelMenu is the models as a reader looks for them: in the server's order, those of a
// run together and step by step.
func (s *State) ModelMenu() []wire.Model {
	type place struct {
		run  string
		step int
	}
	of := func(m wire.Model) (list []place) { // several start from one model
		for i := range s.Runs {
			for _, c := range s.Runs[i].Checkpoints {
				if s.Runs[i].Saved && c.Model == m.Name {
					list = append(list, place{s.Runs[i].State.Run, c.Step})
				}
			}
		}
		if len(list) == 0 {
			list = append(list, place{cmp.Or(m.Run, "the model "+m.Name), m.Step})
		}
		return list
	}
	first := map[string]int{} // place in the server's order
	for i, m := range slices.Backward(s.Models) {
		for _, p := range of(m) {
			first[p.run] = i
		}
	}
	return slices.SortedStableFunc(slices.Values(s.Models), func(a, b wire.Model) int {
		by := func(x, y place) int { return cmp.Or(first[x.run]-first[y.run], x.step-y.step) }
		return by(slices.MinFunc(of(a), by), slices.MinFunc(of(b), by))
	})
}

// checkpoint is the kept step at or before at, the latest for −1, nil without
// any.
func (r *Run) checkpoint(at int) *wire.Checkpoint {
	list := r.Checkpoints
	if len(list) == 0 {
		return nil
	}
	best := 0
	for i := range list {
		if at < 0 || list[i].Step <= at {
			best = i
		}
	}
	return &list[best]
}

// train is the run's buttons, the slider over its kept steps, and which runs are
// drawn.
func (p *page) train(s *State) {
	r := s.run(s.Run)
	live := s.Link == Live && s.Limits.Steps > 0
	button := func(act, icon, label string, primary, off bool) {
		p.raw(`<button type="button" class="btn`, when(primary, ` primary`), `" id="act-`, act, `" data-act="`, act, `"`, when(act == "open", ` data-dialog="traindlg"`), when(off, ` disabled`), `>`)
		if icon != "" {
			p.icon(icon)
		}
		p.raw(label, `</button>`)
	}
	p.raw(`<div class="acts">`)
	switch {
	case s.TrainID != "":
		button("open", iconPlay, "Starting", true, true)
	case r == nil || r.Saved || !r.Mine:
		button("open", iconPlay, "Train", true, !live)
	case r.Status == wire.StatusRunning || r.Status == wire.StatusQueued:
		button("train-pause", iconPause, "Pause", true, !live)
		button("train-stop", iconStop, "Stop", false, !live)
	case r.Status == wire.StatusPaused:
		button("train-resume", iconPlay, "Train further", true, !live)
		button("train-stop", iconStop, "Stop", false, !live)
	case r.Status == wire.StatusStopped && r.Step < r.Of:
		button("train-resume", iconPlay, "Train further", true, !live)
		button("open", "", "New run", false, !live)
	default:
		button("open", iconPlay, "New run", true, !live)
	}
	p.raw(when(r != nil && s.learned(r), `<button type="button" class="btn" id="act-train-read" data-act="train-read">Ask the trained model</button>`), `</div>`)
	if r == nil {
		p.raw(`<span class="cap">`)
		switch {
		case live:
			p.raw(`No run yet. A run on the small world takes a minute or two.`)
		case s.Link == Live:
			p.raw(`This server does not train.`)
		default:
			p.raw(`Training needs the server.`)
		}
		p.raw(`</span>`)
		return
	}
	x := s.life()
	s.slides(p, r)
	s.lifeChart(p, x)
	s.slider(p, r)
	s.lifeTold(p, x)
	s.runPicks(p, r)
}

// newest reports whether the charts speak of the run's newest step: while it is at
// work, and after it, until the reader picks a step to read by.
func (s *State) newest(r *Run) bool { return !embedded(&r.State) && s.AtStep < 0 }

// learned reports whether a run has ended with a model that the page does not read by.
func (s *State) learned(r *Run) bool {
	n := len(r.Checkpoints)
	return !r.Saved && r.Status == wire.StatusDone && n > 1 && s.Reading != nil && r.Checkpoints[n-1].Model != s.Model
}

// slides chooses what a step of the slider shows.
func (s *State) slides(p *page, r *Run) {
	if len(r.Checkpoints) < 2 {
		return
	}
	button := func(value, label string, on bool) {
		p.raw(`<button type="button" id="slide-`, value, `" data-act="slide" data-value="`, value, `" aria-pressed="`, strconv.FormatBool(on), `">`, label, `</button>`)
	}
	p.raw(`<div class="seg slides" role="group" aria-label="What a step shows">`)
	button("same", "Same chains", !s.NewChains)
	button("new", "New chains", s.NewChains)
	p.raw(`</div>`)
}

// slider moves over the kept steps.
func (s *State) slider(p *page, r *Run) {
	list := r.Checkpoints
	at := s.stepAt(r)
	if len(list) > 1 {
		i := max(slices.IndexFunc(list, func(c wire.Checkpoint) bool { return c.Step == at }), 0)
		p.raw(`<input type="range" id="step" data-change="step" min="0" max="`).int(len(list) - 1).raw(`" step="1" value="`).int(i)
		p.raw(`" style="--at:`).int(100*i/(len(list)-1)).raw(`%" aria-label="Training step shown in the page" aria-valuetext="step `).int(at).raw(`"`, when(s.Link == Saved || s.Link == NoControl, ` disabled`), `>`)
	} else {
		share := 100 * float64(r.Step) / float64(max(r.Of, 1))
		p.raw(`<div class="prog" role="progressbar" aria-label="Steps done" aria-valuemin="0" aria-valuemax="`).int(r.Of).raw(`" aria-valuenow="`).int(r.Step).raw(`" style="--p:`, fixed(share, 1), `%"><i></i></div>`)
	}
	p.raw(`<span class="at">step `).int(at).raw(` <small>of `).int(r.Of).raw(` · `).text(statusText(r))
	if c := r.checkpoint(at); c != nil && s.Reading != nil && len(s.Reading.Chains) > 0 {
		removed := !slices.ContainsFunc(r.Checkpoints, func(c wire.Checkpoint) bool { return c.Model == s.Reading.reader() })
		switch {
		case c.Model == s.Reading.By:
			p.raw(` · reads these chains`)
		case c.Model == s.Reader:
			p.raw(either(s.Link == Live && s.through.id != "", ` · is reading these chains`, ` · waits to read these chains`))
		case c.Model == s.Reading.Ask.Model && !removed:
			p.raw(` · wrote these chains`)
		default:
			p.raw(` · the page shows `).text(s.ModelLabel(s.Reading.reader()))
		}
	}
	p.raw(`</small></span>`)
}

// stepAt is the step of the checkpoint that the page shows, or how far the run
// is while none is kept.
func (s *State) stepAt(r *Run) int {
	model := cmp.Or(s.Reader, s.Model)
	for _, c := range r.Checkpoints {
		if c.Model == model && s.AtStep < 0 {
			return c.Step
		}
	}
	if c := r.checkpoint(s.AtStep); c != nil {
		return c.Step
	}
	return r.Step
}

func statusText(r *Run) string {
	if embedded(&r.State) {
		return "saved"
	}
	switch r.Status {
	case wire.StatusQueued:
		return "waits for its turn"
	case wire.StatusRunning:
		if r.Step == 0 {
			return "training, no step done yet"
		}
		return "training, now at " + intText(r.Step)
	case wire.StatusPaused:
		return "paused at " + intText(r.Step)
	case wire.StatusStopped:
		return "stopped at " + intText(r.Step)
	case wire.StatusFailed:
		return strings.TrimSuffix("failed: "+r.Message, ": ")
	}
	return "done"
}

// runPicks choose the run that is followed and the one drawn beside it.
func (s *State) runPicks(p *page, r *Run) {
	p.raw(`<div class="runs">`)
	s.accuracies(p, r)
	if len(s.Runs) > 1 {
		pick := func(id, label, chosen string, none bool) {
			p.raw(`<label class="pick"><span class="k">`, label, `</span><select id="`, id, `" data-change="`, id, `">`, when(none, `<option value="">none</option>`))
			for i := range s.Runs {
				x := &s.Runs[i].State
				p.raw(`<option value="`).text(x.Run).raw(`"`, when(x.Run == chosen, ` selected`), `>`).text(runLabel(x)).raw(`</option>`)
			}
			p.raw(`</select></label>`)
		}
		pick("run", "Run", s.Run, false)
		pick("against", "Dashed", s.Against, true)
	} else {
		p.raw(`<span class="cap">`).text(runLabel(&r.State))
		if r.Data != "" {
			p.raw(` · `).text(r.Data)
		}
		p.raw(`</span>`)
	}
	p.raw(`</div>`)
}

// accuracies says what the runs that are drawn answer right, from the start to
// now; of one alone with its intervals.
func (s *State) accuracies(p *page, r *Run) {
	if len(r.Evals) == 0 {
		return
	}
	other := s.run(s.Against)
	if other != nil && other.State.Saved && len(other.Evals) == 0 {
		return // they are on their way: what is said of one alone is longer, and moves the page
	}
	if other == nil || other.State.Run == r.State.Run || len(other.Evals) == 0 {
		p.raw(`<span class="cap">Held-out questions right: <b>`).text(r.accuracy()).raw(`</b></span>`)
		return
	}
	names := []string{shortLabel(&r.State), shortLabel(&other.State)}
	if names[0] == names[1] {
		for i, x := range []*Run{r, other} {
			names[i] = shortRun(&x.State)
		}
	}
	p.raw(`<span class="cap">Held-out right: `)
	for i, x := range []*Run{r, other} {
		first, last := x.Evals[0].Values[wire.ValueAccuracy], x.Evals[len(x.Evals)-1].Values[wire.ValueAccuracy]
		p.raw(when(i > 0, `, `)).text(names[i]).raw(` <b>`).text(when(len(x.Evals) > 1, percent(first)+" → ") + percent(last)).raw(` %</b>`)
	}
	p.raw(`</span>`)
}

// accuracy is the latest measurement on held-out questions, with its interval.
func (r *Run) accuracy() string {
	text := func(v map[string]float64) string {
		lo, ok1 := v[wire.ValueLow]
		hi, ok2 := v[wire.ValueHigh]
		return percent(v[wire.ValueAccuracy]) + " %" + when(ok1 && ok2, " ("+percent(lo)+" to "+percent(hi)+")")
	}
	return when(len(r.Evals) > 1, text(r.Evals[0].Values)+" → ") + text(r.Evals[len(r.Evals)-1].Values)
}

// curve is a run as the chart library draws it; a missing value is null.
type curve struct {
	Name    string     `json:"name"`
	Short   string     `json:"short"`   // beside its numbers
	Own     string     `json:"own"`     // that where both are alike
	Formula string     `json:"formula"` // of its rewards
	Steps   []int      `json:"steps"`
	Reward  []*float64 `json:"reward"`
	Entropy []*float64 `json:"entropy"`
	Length  []*float64 `json:"length"`
	Zero    []*float64 `json:"zero"`
}

type mark struct {
	Step   int     `json:"step"`
	Reward float64 `json:"reward"`
}

// Curves is what the training charts draw, as JSON: the followed run, the one
// beside it, the step shown in the page and, as marks, the mean reward that the
// shown question earned at each kept step that was asked.
func Curves(s *State) string {
	var out struct {
		Runs   []curve `json:"runs"`
		At     *int    `json:"at"`
		Newest bool    `json:"newest"` // the captions are of the last step, whatever is shown
		Marks  []mark  `json:"marks"`
		Why    string  `json:"why"` // there is no curve
	}
	out.Runs, out.Marks = []curve{}, []mark{}
	for _, name := range []string{s.Run, s.Against} {
		r := s.run(name)
		if r == nil || r.Saved && len(r.Steps) == 0 || name == s.Against && s.Against == s.Run && len(out.Runs) > 0 {
			continue
		}
		c := curve{Name: runLabel(&r.State), Short: shortLabel(&r.State), Own: shortRun(&r.State), Formula: methodLabel(&r.State), Steps: []int{}}
		steps := r.Steps
		if len(steps) > 0 && steps[0].Step > 0 && len(r.Checkpoints) > 0 && r.Checkpoints[0].Step == 0 {
			// The start has no values, but the slider goes there.
			steps = append([]wire.Point{{}}, steps...)
		}
		for _, x := range steps {
			value := func(name string) *float64 {
				if v, ok := x.Values[name]; ok {
					return &v
				}
				return nil
			}
			c.Steps = append(c.Steps, x.Step)
			c.Reward = append(c.Reward, value(wire.ValueReward))
			c.Entropy = append(c.Entropy, value(wire.ValueEntropy))
			c.Length = append(c.Length, value(wire.ValueLength))
			c.Zero = append(c.Zero, value(wire.ValueZeroVariance))
		}
		out.Runs = append(out.Runs, c)
	}
	if r := s.run(s.Run); r != nil && len(r.Checkpoints) > 0 {
		at := s.stepAt(r)
		out.At = &at
		out.Marks = s.marks(r)
		out.Newest = s.newest(r)
	}
	if len(out.Runs) == 0 {
		out.Why = s.noCurve()
	}
	data, err := json.Marshal(out)
	if err != nil {
		return `{"runs":[],"at":null,"newest":false,"marks":[],"why":""}` // finite numbers and plain text: never
	}
	return string(data)
}

// noCurve says why none is drawn, "" while they are on their way.
func (s *State) noCurve() string {
	switch r := s.run(s.Run); {
	case r == nil:
		return "no run yet"
	case s.away():
		return "needs the server"
	case r.State.Saved && !embedded(&r.State) && r.State.Step == 0:
		return "no step yet"
	}
	return ""
}

// formula is what the run's reward is the mean of. ok is false where that is none of the
// page's formulas: right answers, a bound of several chains, or nothing.
func formula(r *wire.State) (m reward.Mode, ok bool) {
	switch r.Method {
	case "nrt":
		m, err := reward.ParseMode(r.Mode)
		return m, err == nil
	case "rlpr":
		return reward.AM, true
	case "verifree":
		return reward.P, true
	}
	return 0, false
}

// marks are the mean rewards of the shown question at the run's kept steps, as
// far as they were asked with the same seed, under the run's own formula.
func (s *State) marks(r *Run) []mark {
	list := []mark{}
	mode, ok := formula(&r.State)
	if s.Reading == nil || !ok {
		return list
	}
	for _, c := range r.Checkpoints {
		a := s.Reading.Ask
		a.Model = c.Model
		for _, k := range s.kept {
			if !same(&k.Ask, &a) {
				continue
			}
			sc := score(k.by(""), Choice{Mode: mode})
			if len(sc.chains) == 0 {
				continue
			}
			sum := 0.0
			for _, x := range sc.groups[mode].Chains {
				sum += x.R
			}
			list = append(list, mark{c.Step, sum / float64(len(sc.chains))})
		}
	}
	return list
}
