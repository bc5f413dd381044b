package view

import (
	"cmp"
	"slices"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// The step slider goes through the models that a training run has kept. Each of them
// can read the chains that are on the page, token by token as they are: what would
// they have earned from it? Only then is it seen whether a chain came to help more or
// the model came to be surer with and without it. Chains that are written anew by each
// of the models show something else, namely what it would write.

// sight is what one model makes of a reading's chains.
type sight struct {
	base  []float64   // log b
	refs  [][]float64 // log c of each chain; nil where the chain has no reward
	tried map[tryKey]Try
	fresh map[place][]Fresh
}

// rereading is a request for what models make of the shown chains.
type rereading struct {
	id     string // "" for none
	models []string
}

// reader is the model whose numbers the reading has.
func (r *Reading) reader() string {
	return cmp.Or(r.By, r.Ask.Model)
}

// sightOf is what a model makes of the chains, as far as it is known.
func (r *Reading) sightOf(model string) (sight, bool) {
	if model == r.Ask.Model {
		model = ""
	}
	if model != r.By {
		x, known := r.sights[model]
		return x, known
	}
	x := sight{base: r.Base, refs: make([][]float64, len(r.Chains)), tried: r.tried, fresh: r.fresh}
	for i := range r.Chains {
		x.refs[i] = r.Chains[i].Ref
	}
	return x, true
}

// by is the reading with the numbers of another model, nil while they are not known;
// "" is the one that wrote the chains.
func (r *Reading) by(model string) *Reading {
	x, known := r.sightOf(model)
	switch {
	case !known:
		return nil
	case model == r.Ask.Model:
		model = ""
	}
	if model == r.By {
		return r
	}
	next := *r
	own, _ := r.sightOf(r.By)
	next.sights = with(r.sights, r.By, own)
	delete(next.sights, model)
	next.By, next.Base, next.tried, next.fresh = model, x.base, x.tried, x.fresh
	next.Chains = slices.Clone(r.Chains)
	for i := range next.Chains {
		next.Chains[i].Ref = x.refs[i]
	}
	return &next
}

// Reread asks models for what they make of the chains: of each that has its reward,
// and of none.
func (r *Reading) Reread(models ...string) *wire.Score {
	m := &wire.Score{Models: models, Question: r.Ask.Question, Answer: r.Ask.Answer}
	for i := range r.Chains {
		if r.scored(i) {
			m.Variants = append(m.Variants, r.variant(i, Edit{}))
		}
	}
	m.Variants = append(m.Variants, wire.Variant{Parts: []wire.ChainPart{}})
	return m
}

// read is the reading with a model's answer to Reread; one that does not fit it is
// left out.
func (r *Reading) read(m *wire.Scored) *Reading {
	n := len(m.Variants) - 1
	if m.Model == "" || m.Model == r.Ask.Model || n != r.done() {
		return r
	}
	x := sight{base: m.Variants[n].LogProbs, refs: make([][]float64, len(r.Chains))}
	var list [][]float64
	for _, v := range m.Variants {
		if len(v.LogProbs) != len(r.Answer) {
			return r
		}
		list = append(list, v.LogProbs)
	}
	if _, err := reward.ScoreGroup(list[:n], x.base, DefaultChoice().Options()); err != nil {
		return r
	}
	for i := range r.Chains {
		if r.scored(i) {
			x.refs[i], list = list[0], list[1:]
		}
	}
	next := *r
	next.sights = with(r.sights, m.Model, x)
	return &next
}

// readTokens is how many tokens one model reads for that.
func (r *Reading) readTokens() int {
	n := len(r.Answer)
	for i := range r.Chains {
		if r.scored(i) {
			n += len(r.Chains[i].Tokens) + len(r.Answer)
		}
	}
	return n
}

// toCheckpoint shows the i-th kept step: by what its model makes of the shown chains,
// or by new ones that it writes.
func (s State) toCheckpoint(i int) (State, []wire.Message) {
	run := s.run(s.Run)
	if run == nil || i < 0 || i >= len(run.Checkpoints) {
		return s, nil
	}
	c := run.Checkpoints[i]
	s.AtStep = c.Step
	if s.NewChains || s.Reading == nil || !s.Reading.under() && !s.Reading.ready() {
		return s.newChains(c.Model)
	}
	return s.readBy(c.Model), nil
}

func (s State) besideCheckpoint(by int) (State, []wire.Message) {
	r := s.run(s.Run)
	if r == nil || len(r.Checkpoints) == 0 {
		return s, nil
	}
	at := s.stepAt(r)
	i := slices.IndexFunc(r.Checkpoints, func(c wire.Checkpoint) bool { return c.Step == at })
	return s.toCheckpoint(min(max(i+by, 0), len(r.Checkpoints)-1))
}

// newChains has a model write chains to the shown question.
func (s State) newChains(model string) (State, []wire.Message) {
	if s.Model == model && s.Reader == "" {
		return s, nil
	}
	s.Model, s.Reader = model, ""
	chain := s.Chain
	s, out := s.ask(s.again())
	s.Chain = chain      // the same chain's number, by another model
	if s.Notice == nil { // it was not refused
		s.Say = capital(s.stepName(model)) + "."
	}
	return s, out
}

// readBy has a model read the shown chains. Until it has, the page stays with the
// numbers that it has; see settled.
func (s State) readBy(model string) State {
	r := s.Reading
	if model == r.Ask.Model {
		model = ""
	}
	s.Reader = model
	s.unread = without(s.unread, model)
	switch {
	case r.by(model) != nil && !r.under():
	case s.Link != Live && s.Link != Loading:
		s.Notice = &Notice{Code: codeOffline, Text: "Reading these chains at another step needs the server. The page stays with the numbers that it has."}
	case r.under():
		s.Say = capital(s.stepName(model)) + " reads these chains when they are complete."
	default:
		s.Say = capital(s.stepName(model)) + " is reading these chains."
	}
	return s
}

// setSlide chooses what the slider shows of a step. Where a step's model has only read
// the chains, new ones are its own.
func (s State) setSlide(value string) (State, []wire.Message) {
	s.NewChains = value == "new"
	if s.NewChains && s.Reader != "" {
		return s.newChains(s.Reader)
	}
	return s, nil
}

// settled shows the chains by the chosen reader as soon as its numbers are known. What
// was asked about them of the one before is called off; what the reader made of the
// chains stays.
func (s State) settled(out []wire.Message) (State, []wire.Message) {
	r := s.Reading
	if s.Reader == r.Ask.Model {
		s.Reader = ""
	}
	next := r.by(s.Reader)
	if next == nil || next == r {
		return s, out
	}
	s.Chain = s.chain()
	s, off := s.callOff()
	s.refused, s.worth, s.tired, s.Fresh = nil, nil, nil, -1
	s.Reading = next
	s.Say = capital(s.stepName(next.reader())) + " reads these chains. " + s.chainSaid()
	return s, append(out, off...)
}

// unknown are the models of the followed run's kept steps that have not read the
// chains, the chosen reader first.
func (s *State) unknown() (list []string) {
	add := func(model string) {
		if _, known := s.Reading.sightOf(model); !known && !s.unread[model] && !slices.Contains(list, model) && len(list) < wire.MaxReaders {
			list = append(list, model)
		}
	}
	if s.Reader != "" {
		add(s.Reader)
	}
	if run := s.run(s.Run); run != nil {
		for _, c := range run.Checkpoints {
			if s.alike(c.Model) {
				add(c.Model)
			}
		}
	}
	return list
}

// alike reports whether a model cuts text into the tokens that the chains are of.
func (s *State) alike(model string) bool {
	vocab := ""
	for _, m := range s.Models {
		if m.Name == s.Reading.Ask.Model {
			vocab = m.Vocab
		}
	}
	return slices.ContainsFunc(s.Models, func(m wire.Model) bool { return m.Name == model && m.Vocab == vocab })
}

// wantsThrough adds to out the request for what the page lacks of the shown chains
// from the models of other steps, of which there is one at a time.
func (s State) wantsThrough(out []wire.Message) (State, []wire.Message) {
	list := s.unknown()
	need := len(list) > 0 && list[0] == s.Reader
	if w := s.through; w.id != "" {
		if !need || slices.Contains(w.models, s.Reader) {
			return s, out
		}
		out = append(out, cancel(w.id))
		s.through = rereading{}
	}
	if !s.readsAll(list) {
		list = list[:min(len(list), 1)]
		if !need {
			return s, out
		}
	}
	if len(list) == 0 {
		return s, out
	}
	m := s.Reading.Reread(list...)
	for m.Tokens() > wire.MaxThrough && len(m.Models) > 1 {
		m.Models = m.Models[:len(m.Models)-1]
	}
	m.Head = s.request("r")
	s.through = rereading{id: m.ID, models: m.Models}
	if m.Validate() != nil {
		return s.throughOver(), out
	}
	return s, append(out, m)
}

// readsAll reports whether all these models are to read the chains: the reader asked
// for it, or it costs little by the time that the chains took.
func (s *State) readsAll(models []string) bool {
	return s.course || s.Reading.cheap(s.Reading.readTokens()*len(models), autoThrough)
}

// reread takes what a model made of the chains.
func (s State) reread(m *wire.Scored) State {
	if s.Reading == nil || !slices.Contains(s.through.models, m.Model) {
		return s
	}
	s.Reading = s.Reading.read(m)
	return s.keep(s.Reading)
}

// throughOver ends the request that is under way. Models that it left out are not
// asked again by themselves, and one that the reader chose is given up.
func (s State) throughOver() State {
	w := s.through
	s.through = rereading{}
	for _, model := range w.models {
		if _, known := s.Reading.sightOf(model); !known {
			s.unread = with(s.unread, model, true)
		}
	}
	if s.unread[s.Reader] {
		s.Reader, s.AtStep = s.Reading.By, -1
	}
	if x := s.life(); s.course && x != nil && len(s.unknown()) == 0 {
		if first, last := x.ends(); first < last {
			s.Say = "All is read. " + s.lifeVerdict(x, first, last)
		}
	}
	return s
}

// throughFailed is the state after the server refused.
func (s State) throughFailed(m *wire.Failed) State {
	chosen := s.Reader
	if s = s.throughOver(); s.Reader != chosen {
		s = s.told(m, capital(s.stepName(chosen))+" cannot read these chains: "+strings.TrimSuffix(m.Message, ".")+".")
	}
	return s
}

// stepName is a model as a moment of the training that it is of: "step 10", with the
// run where that is not the one that is followed; else its name.
func (s *State) stepName(model string) string {
	if model == "" {
		model = s.Reading.Ask.Model
	}
	name := model
	for i := range s.Runs {
		r := &s.Runs[i].State
		for _, c := range r.Checkpoints {
			switch {
			case c.Model != model:
			case r.Run == s.Run:
				return "step " + intText(c.Step)
			case name == model: // the first other run
				name = "step " + intText(c.Step) + " of " + either(embedded(r), methodLabel(r), runLabel(r))
			}
		}
	}
	return name
}

// capital begins a sentence with text; names of models stay as they are.
func capital(text string) string {
	if strings.HasPrefix(text, "step ") {
		return "S" + text[1:]
	}
	return text
}

// through says what the slider does, and of chains that another model reads who wrote
// them.
func (p *page) through(s *State) {
	r := s.Reading
	switch {
	case r != nil && r.By != "":
		these, are := "This chain", "is"
		if n := len(r.Chains); n > 1 {
			these, are = "These "+numeral(n)+" chains", "are"
		}
		name, label := s.stepName(""), s.ModelLabel(r.Ask.Model)
		written := when(label == r.Ask.Model && name != label, "at "+name+" ") + "by " + label
		p.text(these + ", written " + either(strings.HasSuffix(label, beforeTraining), beforeTraining, written) + ", " + are + " read by " + s.modelOf(r.By) + ".")
	case s.NewChains:
		p.raw(`Drag the step: the model of that step writes new chains for the question above.`)
	default:
		p.raw(`Drag the step: the model of that step reads the very same chains.`)
	}
}

// modelOf is a model in a sentence: "the model of step 10".
func (s *State) modelOf(model string) string {
	if name := s.stepName(model); name != model {
		return "the model of " + name
	}
	return model
}
