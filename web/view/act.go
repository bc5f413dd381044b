package view

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// Actions are the names of data-act, data-change, data-input and data-submit,
// and what their value is.
var Actions = map[string]string{
	"mode":      "change: reward formula, as trainer/reward names it; keys 1 to 6",
	"clip":      "change, click: true or false",
	"clip-off":  "click: the clip off",
	"normalize": "change: true or false",
	"colour":    "change: sure, change, weight or adds",

	"chain":      "click: index of a chain; it stays chosen",
	"next":       "click: next chain in the order shown; key n",
	"prev":       "click: the one before; key p",
	"word":       "click and arrow keys: index of an answer word; it stays chosen",
	"hover":      "the pointer over a word: its index, empty when it leaves",
	"pin":        "click on a word of the strip: its index; it stays chosen and its card open, or is closed again",
	"peek":       "pointer or focus rest on a word of the strip: its index, empty when they leave; opens its card",
	"unpin":      "click: closes the card",
	"sentence":   "click: index of a sentence, which is switched off, or on again",
	"pick":       "index of a sentence: chosen, and not changed",
	"switch":     "click, key Delete: the chosen sentence off, or on again",
	"sheet":      "the sheet opens in which the chosen sentence is rewritten",
	"edit-typed": "the reader types there",
	"edit-try":   "and pauses: the text so far",
	"edit":       "submit: the reader's text for the sentence; the sheet closes",
	"edit-leave": "the sheet is left, and the sentence is what it was",
	"slide":      "click: same or new, the chains that a step of the slider shows",
	"through":    "click: has the chains read at all kept steps",
	"worth":      "click: asks what each sentence of a long chain is worth",
	"fresh":      "click: has each sentence of the shown chain written afresh",
	"fresh-stop": "click: calls that off",
	"try":        "click: asks once more for the reward of what the reader wrote",
	"undo":       "click, key Ctrl+Z: takes the last change of the chain back",
	"release":    "click: lets go of word and card, else of word and sentence; key Esc",
	"phase":      "click: 0 to 6",
	"step":       "click: one phase further, key Space; change: index of a kept training step",
	"play":       "click: plays the phases, or stops",
	"tick":       "the client's clock while it plays",

	"example":     "change: name of a saved example, or world:N for a question of the small world",
	"model":       "change: name of a model; the same question is asked again",
	"k":           "change: chains",
	"temperature": "change",
	"top_p":       "change",
	"seed":        "change",
	"max_chain":   "change: tokens",
	"question":    "input: an own question",
	"answer":      "input: its reference answer",
	"rest":        "the reader pauses there",
	"pattern":     "click: name of a saved example, whose question and answer are to be started from",
	"ask":         "submit: asks the own question, if both parts are written",
	"retry":       "click: asks the shown question again",
	"again":       "click: the same question with the next seed",
	"cancel":      "click: stops or leaves the queue",
	"dismiss":     "click: closes the notice",
	"reconnect":   "click: connects now",

	"train":        "submit: starts a run; value is a JSON object of the form's fields",
	"train-pause":  "click",
	"train-resume": "click",
	"train-stop":   "click",
	"train-read":   "click: the question by the run's last model",
	"train-next":   "key N: next kept step",
	"train-prev":   "key P: the one before",
	"run":          "change: the run that is followed",
	"against":      "change: the run drawn beside it, empty for none",

	"open":   "click: opens the dialog of data-dialog; the client's own business",
	"share":  "click: copies the address; the client's own business",
	"export": "click: saves the numbers; the client's own business",
	"upload": "change: a file; the client's own business",
}

// Do is the state after an action, and the messages to send for it. Actions that
// cannot be done change nothing.
func (s State) Do(name, value string) (State, []wire.Message) {
	old := s
	old.back = nil
	s, out := s.do(name, value)
	if n := s.Notice; n != nil && n != old.Notice && n.Code == codeOffline {
		s.Say = n.Text
		if old.Reading != nil && s.Reading == old.Reading && n.Field == "" {
			// What cannot be asked is not shown either: the page stays with what it has.
			s.Choice, s.AtStep = old.Choice, old.AtStep
		}
	}
	if r := old.Reading; s.Reading != nil && s.Reading != r && s.Reading.Status == Asked && r != nil && !r.under() {
		s.back = &old
	}
	return s.wants(out)
}

func (s State) do(name, value string) (State, []wire.Message) {
	index, err := strconv.Atoi(value)
	if err != nil {
		index = -1
	}
	switch name {
	case "mode", "clip", "clip-off", "normalize":
		// The shown chain stays where it was the best that was shown, so that another
		// formula moves it and does not put another text in its place.
		i := s.chain()
		rank := s.rank(s.Mode, i)
		switch name {
		case "mode":
			m, err := reward.ParseMode(value)
			if err != nil {
				return s, nil
			}
			s.Mode = m
		case "normalize":
			s.Normalize = value == "true"
		default:
			s.Clip = value == "true"
		}
		if rank > 0 {
			s.Chain = i
		}
		s.Say = s.modeSaid(rank)
	case "colour":
		if i := slices.Index(colourNames[:], value); i >= 0 {
			s.Colour = Colour(i)
		}
	case "chain":
		if r := s.Reading; r != nil && index >= 0 && index < len(r.Chains) {
			s = s.choose(index)
			s.Say = s.chainSaid()
		}
	case "next":
		return s.turn(1), nil
	case "prev":
		return s.turn(-1), nil
	case "word":
		if r := s.Reading; r != nil && index >= 0 && index < len(r.Answer) {
			s.Word = index
		}
	case "sentence", "pick", "switch", "undo", "worth", "try":
		return s.doWhatIf(name, value), nil
	case "sheet", "edit-typed", "edit-try", "edit", "edit-leave":
		return s.doSheet(name, value), nil
	case "fresh":
		return s.askFresh(), nil
	case "fresh-stop":
		return s.stopFresh()
	case "hover":
		s.Hover = -1
		if r := s.Reading; r != nil && index >= 0 && index < len(r.Answer) {
			s.Hover = index
		}
	case "pin", "peek", "unpin":
		return s.doCard(name, index), nil
	case "release":
		if s.card() >= 0 {
			s.Word, s.Hover, s.Card, s.Pinned = -1, -1, -1, false
			return s, nil
		}
		s.Word, s.Sentence, s.Hover, s.Playing = -1, -1, -1, false
	case "phase":
		if index >= 0 && index < Phases {
			s.Phase, s.Playing = index, false
			s.Say = s.phaseSaid()
		}
	case "step":
		if value != "" {
			return s.toCheckpoint(index)
		}
		s.Phase = (s.Phase + 1) % Phases
		s.Say = s.phaseSaid()
	case "play":
		s.Playing = !s.Playing
		if s.Playing {
			s.Phase = 0
		}
	case "tick":
		if s.Playing {
			s.Phase++
			if s.Phase >= Phases-1 {
				s.Phase, s.Playing = Phases-1, false
			}
			s.Say = s.phaseSaid()
		}
	case "dismiss":
		s.Notice = nil
	case "k", "temperature", "top_p", "seed", "max_chain":
		if err := s.Choice.set(name, value); err != nil {
			s.Notice = &Notice{Code: wire.CodeBadMessage, Text: fieldName(name) + ": " + err.Error() + ".", Field: name}
		} else if s.Notice != nil && s.Notice.Field == name {
			s.Notice = nil
		}
	case "pattern":
		if e := s.example(value); e != nil {
			s.Typing.Question, s.Typing.Answer, s.Typing.Refused = e.Ask.Question, e.Ask.Answer, false
		}
	case "question":
		s.Typing.Question = value
		s.Typing.Refused = s.Typing.Refused && s.Typing.Missing() != ""
	case "answer":
		s.Typing.Answer = value
		s.Typing.Refused = s.Typing.Refused && s.Typing.Missing() != ""
	case "rest":
		return s.rest(), nil
	default:
		return s.doAsk(name, value)
	}
	return s, nil
}

func fieldName(name string) string {
	return map[string]string{"k": "Chains", "temperature": "Temperature", "top_p": "Top-p", "seed": "Seed", "max_chain": "Longest chain"}[name]
}

// doAsk are the actions that talk to the server.
func (s State) doAsk(name, value string) (State, []wire.Message) {
	switch name {
	case "example":
		if q := s.worldQuestion(value); q != nil {
			s.Example, s.Question, s.Answer = "", q.Question, q.Answer
			return s.ask(s.again())
		}
		if s.example(value) == nil {
			return s, nil
		}
		s, out := s.leave()
		s.Notice = nil
		s = s.openExample(value)
		s.Say = s.endText()
		return s, out
	case "model":
		if value == s.Model {
			return s, nil
		}
		s.Model = value
		if s.Reading == nil {
			return s, nil
		}
		return s.ask(s.again())
	case "ask":
		if s.Typing.Missing() != "" {
			s.Typing.Refused = true
			return s, nil
		}
		s.Example, s.Question, s.Answer = "", strings.TrimSpace(s.Typing.Question), strings.TrimSpace(s.Typing.Answer)
		return s.ask(s.again())
	case "retry":
		return s.ask(s.again())
	case "again":
		s.Seed = (s.Seed + 1) & wire.MaxSafe
		return s.ask(s.again())
	case "cancel":
		return s.stop()
	case "train":
		return s.train(value)
	case "train-pause":
		return s, s.runMessage(&wire.TrainPause{Run: s.Run})
	case "train-resume":
		return s, s.runMessage(&wire.TrainResume{Run: s.Run})
	case "train-stop":
		return s, s.runMessage(&wire.TrainStop{Run: s.Run})
	case "train-read":
		if r := s.run(s.Run); r != nil && len(r.Checkpoints) > 0 {
			c := r.Checkpoints[len(r.Checkpoints)-1]
			s.AtStep = c.Step
			return s.newChains(c.Model)
		}
	case "slide":
		return s.setSlide(value)
	case "through":
		s.course, s.unread = true, nil
		s.Say = "All steps are to read these chains."
	case "train-next":
		return s.besideCheckpoint(1)
	case "train-prev":
		return s.besideCheckpoint(-1)
	case "run":
		if s.run(value) != nil {
			if s.Against == value {
				s.Against = s.Run
			}
			s.Run, s.AtStep = value, -1
			return s, []wire.Message{s.watch(value)}
		}
	case "against":
		if s.run(value) != nil || value == "" {
			s.Against = value
			if value != "" {
				return s, []wire.Message{s.watch(value)}
			}
		}
	}
	return s, nil
}

// watch asks for what a run did since the page last heard of it.
func (s *State) watch(name string) wire.Message {
	m := &wire.Watch{Run: name}
	if r := s.run(name); r != nil && len(r.Steps) > 0 {
		m.After = r.Steps[len(r.Steps)-1].Step
	}
	return m
}

// watches are the messages that make the server send the runs that are drawn.
func (s *State) watches() []wire.Message {
	var list []wire.Message
	for _, name := range []string{s.Run, s.Against} {
		if s.run(name) != nil {
			list = append(list, s.watch(name))
		}
	}
	return list
}

func (s *State) runMessage(m wire.Message) []wire.Message {
	if s.run(s.Run) == nil {
		return nil
	}
	return []wire.Message{m}
}

// turn goes to the next chain in the order that is shown.
func (s State) turn(by int) State {
	r := s.Reading
	if r == nil || len(r.Chains) == 0 {
		return s
	}
	list := s.listed()
	at := slices.Index(list, s.chain())
	s = s.choose(list[((at+by)%len(list)+len(list))%len(list)])
	s.Say = s.chainSaid()
	return s
}

func (s *State) chainSaid() string {
	i := s.chain()
	text := "Chain " + intText(i+1)
	if k := s.rank(s.Mode, i); k > 0 {
		sc := s.chainScore(i)
		text += ", rank " + intText(k) + ", reward " + number(sc.R) + ", advantage " + signed(sc.Advantage)
	}
	return text + "."
}

// modeSaid says what the formula did to the shown chain, whose rank was was.
func (s *State) modeSaid(was int) string {
	sc := s.scores()
	text := "Formula " + modeLabel(s.Mode) + "."
	if !sc.ready || was == 0 {
		return text
	}
	now := s.rank(s.Mode, s.chain())
	text += " Chain " + intText(s.chain()+1) + either(now == was, " stays rank "+intText(now), ": rank "+intText(was)+" → "+intText(now)) + "."
	if now != 1 {
		text += " First: " + sc.first(s.Mode) + "."
	}
	return text
}

func (s *State) phaseSaid() string {
	x := s.phases()[s.Phase]
	return x.label + ": " + when(x.big != unknownNumber, strings.TrimSpace(x.big+" "+x.unit)+". ") + x.detail + "."
}

// again is the request for what is shown, by the choices as they are.
func (s *State) again() wire.Ask {
	a := wire.Ask{Model: s.Model, Question: s.Question, Answer: s.Answer, K: s.K,
		Temperature: s.Temperature, TopP: s.TopP, Seed: s.Seed, MaxChain: s.MaxChain}
	if e := s.example(s.Example); e != nil {
		a.Question, a.Answer = e.Ask.Question, e.Ask.Answer
	}
	if a.Model == "" && len(s.Models) > 0 {
		a.Model = s.Models[0].Name
	}
	return a
}

// leave gives up a request that is under way.
func (s State) leave() (State, []wire.Message) {
	s, out := s.callOffAll()
	if r := s.Reading; r != nil && !r.Saved && r.under() {
		out = append(out, cancel(r.Ask.ID))
	}
	return s, out
}

// ask puts a request to the server, unless its answer is known already.
func (s State) ask(a wire.Ask) (State, []wire.Message) {
	s, out := s.leave()
	s.Notice = nil
	if r := s.recall(&a); r != nil {
		s = s.show(r)
		s.Say = s.endText()
		return s, out
	}
	// While the page connects, the question waits for the welcome.
	if s.Link != Live && s.Link != Loading {
		s.Notice = &Notice{Code: codeOffline, Text: "New chains need the server. The page stays with those that it has."}
		return s, out
	}
	a.Head = s.request("q")
	m, check := &a, a
	unnamed := a.Model == "" && s.Link == Loading // the welcome names it, and has it asked
	if unnamed {
		check.Model = "?"
	}
	if err := check.Validate(); err != nil {
		text := err.Error()
		field := ""
		if e, ok := err.(*wire.Error); ok {
			field, text = e.Field, strings.ToUpper(e.Field[:1])+e.Field[1:]+": "+e.Reason+"."
		}
		s.Notice = &Notice{Code: wire.CodeBadMessage, Text: text, Field: field}
		return s, out
	}
	s.Say = "Asked."
	r := &Reading{Ask: a, Status: Asked}
	if s.Reading != nil && s.Reading.Ask.Question == a.Question {
		r.Plain = s.Reading.Plain // until the server says it again
	}
	if unnamed {
		return s.show(r), out
	}
	return s.show(r), append(out, m)
}

// CodeShared marks the notice that the address was copied: it warns of nothing.
const CodeShared = "shared"

// codeOffline marks the notice that a connection takes back.
const codeOffline = "offline"

// WorldQuestion is a question of the small world that can be asked.
type WorldQuestion struct {
	Question string `json:"question"`
	Plain    string `json:"plain"` // the same in everyday English
	Answer   string `json:"answer"`
}

// worldQuestion finds the question that the picker calls world:N.
func (s *State) worldQuestion(value string) *WorldQuestion {
	n, ok := strings.CutPrefix(value, "world:")
	i, err := strconv.Atoi(n)
	if !ok || err != nil || i < 0 || i >= len(s.World) {
		return nil
	}
	return &s.World[i]
}

// trainForm are the fields of the training form, as its inputs are named.
type trainForm struct {
	Method    string `json:"method"`
	Mode      string `json:"train-mode"`
	Steps     string `json:"steps"`
	Questions string `json:"questions"`
	K         string `json:"train-k"`
	LR        string `json:"lr"`
	Seed      string `json:"train-seed"`
	Upload    string `json:"upload"` // the file's text
}

// train starts a run by the form's fields.
func (s State) train(value string) (State, []wire.Message) {
	refuse := func(text, field string) (State, []wire.Message) {
		s.Notice = &Notice{Code: wire.CodeBadMessage, Text: text, Field: field}
		return s, nil
	}
	var f trainForm
	if err := json.Unmarshal([]byte(value), &f); err != nil {
		return refuse("The form cannot be read.", "")
	}
	if s.Link != Live {
		return refuse("Training needs the server.", "")
	}
	m := &wire.Train{Head: s.request("t"), Method: f.Method, Mode: f.Mode, Upload: f.Upload}
	if m.Method != "nrt" {
		m.Mode = ""
	}
	for _, x := range []struct {
		name, value string
		dst         *int
	}{{"Steps", f.Steps, &m.Steps}, {"Questions a step", f.Questions, &m.Questions}, {"Chains a question", f.K, &m.K}} {
		n, err := strconv.Atoi(strings.TrimSpace(x.value))
		if err != nil {
			return refuse(x.name+": want a whole number.", x.name)
		}
		*x.dst = n
	}
	var err error
	if m.LR, err = strconv.ParseFloat(strings.TrimSpace(f.LR), 64); err != nil && strings.TrimSpace(f.LR) != "" || math.IsNaN(m.LR) {
		return refuse("Learning rate: want a number.", "lr")
	}
	if m.Seed, err = strconv.ParseUint(strings.TrimSpace(f.Seed), 10, 64); err != nil {
		return refuse("Seed: want a whole number, 0 or more.", "seed")
	}
	if err := m.Validate(); err != nil {
		return refuse(strings.TrimPrefix(err.Error(), "wire: ")+".", "")
	}
	s.Notice = nil
	s.TrainID = m.ID
	s.Say = "Training run requested."
	return s, []wire.Message{m}
}

// Open is the state that an address asks for: its choices, and their example or
// the request for their question.
func (s State) Open(c Choice) (State, []wire.Message) {
	lost := c.Example != "" && s.example(c.Example) == nil
	if lost {
		c = DefaultChoice() // what else it says is of that question
	}
	if c.Example == "" && c.Question == "" && len(s.Examples) > 0 {
		c.Example = s.Examples[0].Name
	}
	if e := s.example(c.Example); e != nil {
		// An address that names an example alone means it as it was saved.
		d := DefaultChoice()
		saved(&c.Model, d.Model, e.Ask.Model)
		saved(&c.K, d.K, e.Ask.K)
		saved(&c.MaxChain, d.MaxChain, e.Ask.MaxChain)
		saved(&c.Seed, d.Seed, e.Ask.Seed)
		saved(&c.Temperature, d.Temperature, e.Ask.Temperature)
		saved(&c.TopP, d.TopP, e.Ask.TopP)
	} else {
		c.Example = ""
	}
	s.Choice, s.AtStep = c, -1
	s.Typing.Question, s.Typing.Answer = c.Question, c.Answer
	if c.Example == "" && c.Question == "" {
		return s, nil
	}
	a := s.again()
	var out []wire.Message
	if r := s.recall(&a); r != nil {
		if s = s.show(r); s.Say != "" { // of what was shown
			s.Say = s.endText()
		}
		if lost {
			s.Say = "This page does not have the question that its address names. It shows the first that it has."
			s.Notice = &Notice{Code: wire.CodeBadMessage, Text: s.Say}
		}
	} else if s, out = s.ask(a); s.Reading == nil || !same(&s.Reading.Ask, &a) {
		s.Edit, s.Reader = Edit{}, ""
		if s.Reading != nil {
			s.Reader = s.Reading.By
		}
		return s, out // it cannot be asked now
	}
	s.Chain, s.Word, s.Sentence, s.Fresh, s.Reader = c.Chain, c.Word, c.Sentence, c.Fresh, c.Reader
	if !c.Edit.none() && c.Chain >= 0 {
		s = s.draft(c.Chain, draft{c.Edit, []Edit{{}}})
	}
	return s.wants(out)
}

// saved puts a saved example's value in the place of the default.
func saved[T comparable](have *T, otherwise, saved T) {
	if *have == otherwise {
		*have = saved
	}
}
