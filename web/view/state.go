// Package view is the page as functions: what the reader chose and what the
// server said go in, HTML comes out. The server renders a saved example with it,
// the WebAssembly client everything that follows, so that the client takes over
// without a jump.
//
//	state.go     what there is: choices, the question read, the link, the runs
//	example.go   saved examples, replayed as if they came over the wire
//	reduce.go    what the server's messages do to it
//	act.go       what the reader's actions do to it
//	whatif.go    the reader's variants of the chains
//	sheet.go     a sentence while it is rewritten
//	tries.go     what the server is asked about them
//	afresh.go    chains that the model writes afresh from a sentence on
//	through.go   the same chains, read by the models of other steps
//	score.go     rewards, ranks and advantages, by trainer/reward
//	formulas.go  what the page says of a reward formula
//	sentences.go where a chain is cut into sentences
//	hash.go      choices as the address's #…
//	lessons.go   a tour through the saved examples
//	export.go    what is shown, as CSV
//	fragment.go  the list of containers, and numbers and text as HTML
//	typed.go chains.go strip.go card.go reading.go why.go worth.go ranks.go pipeline.go train.go life.go notes.go
//
// A State is a value: each function returns the next one and leaves the old one
// as it was. States follow each other in a line; two futures of one state share
// memory and must not both receive tokens.
//
// # Actions
//
// An element with data-act="name" acts when it is clicked, data-change when its
// value changes, data-input while it is typed into, data-submit when its form is
// sent; data-value is the argument, or the element's own value. [Actions] lists
// the names.
package view

import (
	"maps"
	"math"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// Choice is all that the reader chose. It is the address of the page: the hash.
type Choice struct {
	Example string // name of a saved example, "" with an own question

	Question, Answer string // an own question; as typed
	Model            string // wire.Model's Name, "" is the server's default
	K                int
	Temperature      float64
	TopP             float64
	Seed             uint64
	MaxChain         int

	Mode      reward.Mode
	Clip      bool
	Normalize bool
	Colour    Colour

	Chain    int  // index, −1: the best
	Word     int  // index into the answer's tokens, −1: where most changed
	Sentence int  // index, −1: none
	Edit     Edit // the reader's variant of Chain
	Phase    int  // 0 to 6: question … gradient
	Fresh    int  // the chain whose sentences the reader has written afresh, −1: none

	Reader    string // the model that reads the chains, "" is the one that wrote them
	NewChains bool   // a step of the slider is shown by new chains, not by the same ones
}

// Colour says what the answer's words are coloured by.
type Colour int

// The four colourings.
const (
	BySure   Colour = iota // c
	ByChange               // c − c_base
	ByWeight               // w
	ByAdds                 // w·c, the word's part of R
	colours
)

var colourNames = [colours]string{"sure", "change", "weight", "adds"}

// String is the colouring's name in the hash.
func (c Colour) String() string {
	if c < 0 || c >= colours {
		return "?"
	}
	return colourNames[c]
}

// DefaultChoice is what a reader without a hash sees.
func DefaultChoice() Choice {
	return Choice{K: 8, Temperature: 1, TopP: 1, Seed: 42, MaxChain: 64,
		Mode: reward.WSLogP, Clip: true, Chain: -1, Word: -1, Sentence: -1, Phase: 3, Fresh: -1}
}

// Options are the reward's options that the choice stands for.
func (c Choice) Options() reward.Options {
	return reward.Options{Mode: c.Mode, Clip: c.Clip, NormalizeWeights: c.Normalize}
}

// Status says how far a question has come.
type Status int

// The statuses of a Reading.
const (
	Idle Status = iota
	Asked
	Queued
	Writing
	Complete
	Cancelled
	Failed
)

// Token is one token of a chain.
type Token struct {
	ID               int32
	Text             string
	LogProb, Entropy float64 // nats
}

// Chain is one chain and what followed it.
type Chain struct {
	Tokens []Token
	Forced bool      // the server had to close it
	Ref    []float64 // log c, as far as known
	Done   bool
	Finish string // of wire.Done
	Answer string // the model's own answer
	Match  bool   // which equals the reference
	Right  bool   // it ends at the right answer: known of the small world alone, and not to the reward
}

// Reading is one question put to one model, and all that came back.
type Reading struct {
	Ask     wire.Ask
	Status  Status
	Place   int     // Queued: how many are before
	Wait    float64 // Queued: seconds, 0 unknown
	Plain   string  // the question in everyday English, "" where it is already
	Prompt  []wire.Piece
	Answer  []wire.Piece
	Base    []float64 // log b
	Chains  []Chain
	Seconds float64
	Saved   bool // from a saved example

	By     string            // the model that reads: whose log b and log c these are; "" is the one that wrote
	tried  map[tryKey]Try    // the reader's variants of the chains
	fresh  map[place][]Fresh // what the model wrote afresh
	sights map[string]sight  // what other models make of the chains
}

// ready reports whether every chain has been scored, so that ranks exist.
func (r *Reading) ready() bool {
	if r == nil || len(r.Chains) == 0 || r.Status != Complete && r.Status != Cancelled {
		return false
	}
	return r.done() > 0
}

// done counts the scored chains.
func (r *Reading) done() int {
	n := 0
	for i := range r.Chains {
		if r.scored(i) {
			n++
		}
	}
	return n
}

// scored reports whether chain i has its reward.
func (r *Reading) scored(i int) bool {
	return r.Chains[i].Done && len(r.Answer) > 0 && len(r.Base) == len(r.Answer) && len(r.Chains[i].Ref) == len(r.Answer)
}

// Link is the connection to the server.
type Link int

// The states of the link.
const (
	Saved     Link = iota // no client yet: the page is the saved example
	Loading               // the client is being fetched or connects
	Live                  // connected
	Waiting               // lost, trying again
	Offline               // given up until the reader or the browser says so
	Locked                // the server asks for a token that this browser has not
	NoControl             // the client cannot run here
)

// Run is a training run as the page follows it.
type Run struct {
	wire.State
	Steps []wire.Point
	Evals []wire.Point
}

// Size is what the charts are drawn to, in CSS pixels.
type Size struct {
	Slope, Dots int
	Phone       bool
}

// Notice is a thing that went wrong, said once, until it is dismissed or over.
type Notice struct {
	Code, Text, Field string
	Retry             float64 // seconds
}

// State is the whole page.
type State struct {
	Choice
	Examples []Example
	World    []WorldQuestion // more to ask, by the server
	Models   []wire.Model
	Limits   wire.Limits
	Link     Link
	Retry    int // Waiting: seconds until the next try
	Session  string
	Seq      uint64 // last message of the session

	Reading *Reading
	kept    []*Reading // complete ones, latest last

	Runs      []Run
	Run       string // the run that the training panel follows
	Against   string // the run drawn beside it
	AtStep    int    // the step that the slider shows, −1: the latest
	TrainID   string // a train request without answer
	Notice    *Notice
	Say       string  // for the status region
	Playing   bool    // the pipeline plays
	Pace      float64 // of the shown chain, tokens a second, as the client sees them come; 0 unknown
	Hover     int     // word under the pointer, −1
	Card      int     // word whose card is open, −1
	Pinned    bool    // it stays open
	Size      Size
	asked     int                     // requests made, to name them
	drafts    map[int]draft           // by chain: what the reader made of it
	waiting   map[string]waitingTries // variants that the server is asked for
	worth     map[int]bool            // chains whose sentences the reader wants to know the worth of
	refused   map[tryKey]bool         // and that it would not score
	sheet     *sheet                  // the sentence that is being rewritten, nil without
	rewriting rewriting               // what is written afresh now
	tired     map[int]bool            // chains that are not to be, for now
	through   rereading               // what other models are asked about the chains
	unread    map[string]bool         // models that would not read them
	course    bool                    // the reader wants them read at all kept steps, whatever it costs
	Typing    Typing
	back      *State // before the question that is asked: where a refusal leads
	stopped   string // a request that was stopped and that the server does not know of
	doubt     doubt
	sc        *scores
}

// doubt is, after a reconnection, what the server may never have heard of, until it has
// sent all that it had to say.
type doubt struct {
	until    uint64 // the number of its first message that will be new; 0: no doubt
	ask, run string // requests
}

// with is a copy of a map with one entry more, without one with an entry less: states
// that were left stay as they were.
func with[K comparable, V any](m map[K]V, key K, value V) map[K]V {
	next := maps.Clone(m)
	if next == nil {
		next = map[K]V{}
	}
	next[key] = value
	return next
}

func without[K comparable, V any](m map[K]V, key K) map[K]V {
	if _, has := m[key]; !has {
		return m
	}
	next := maps.Clone(m)
	delete(next, key)
	return next
}

// request names the next request; letter tells what it is about.
func (s *State) request(letter string) wire.Head {
	s.asked++
	return wire.Head{ID: letter + intText(s.asked)}
}

// Typing is an own question while it is typed, cut into tokens.
type Typing struct {
	Question, Answer             string
	QuestionPieces, AnswerPieces []wire.Piece
	Known                        bool   // false: the vocabulary is not loaded yet
	Takes, Reads                 int    // tokens of both with their frame, and that the model reads in all; 0 unknown
	Words                        int    // that the model knows
	Refused                      bool   // it was sent while a part was missing
	told                         string // what was said to be wrong
}

// Missing says what is still to be written, "" if nothing is.
func (t *Typing) Missing() string {
	question, answer := strings.TrimSpace(t.Question) == "", strings.TrimSpace(t.Answer) == ""
	switch {
	case question && answer:
		return "Write a question and its reference answer first."
	case question:
		return "Write a question first."
	case answer:
		return "Write a reference answer first: the reward is the model's certainty of it."
	}
	return t.tooLong()
}

// tooLong says that the model cannot read it all, "" if it can or that is not known.
func (t *Typing) tooLong() string {
	if !t.Known || t.Reads == 0 || t.Takes < t.Reads {
		return ""
	}
	return "Too long: question and answer take " + intText(t.Takes) + " tokens, and this model reads " + intText(t.Reads) + " in all, reasoning included."
}

// New is the page with its saved examples, the first of them open.
func New(examples []Example) State {
	s := State{Choice: DefaultChoice(), Examples: examples, AtStep: -1, Hover: -1, Card: -1, Size: Size{Slope: 352, Dots: 318}}
	for _, e := range examples {
		for i := range e.Runs {
			if s.run(e.Runs[i].Run) == nil {
				s.Runs = append(s.Runs, Run{State: e.Runs[i]})
			}
		}
	}
	s.Run, s.Against = s.firstRuns()
	if len(examples) > 0 {
		s = s.openExample(examples[0].Name)
	}
	return s
}

// chain is the index of the chain that the page shows, −1 without chains.
func (s *State) chain() int {
	r := s.Reading
	if r == nil || len(r.Chains) == 0 {
		return -1
	}
	if s.Chain >= 0 && s.Chain < len(r.Chains) {
		return s.Chain
	}
	if sc := s.scores(); sc.ready {
		return sc.order[0]
	}
	// The longest unfinished chain would change all the time; the first stays.
	return 0
}

// word is the index of the answer's word that the page points at, −1 without.
func (s *State) word() int {
	r := s.Reading
	if r == nil || len(r.Answer) == 0 {
		return -1
	}
	if s.Hover >= 0 && s.Hover < len(r.Answer) {
		return s.Hover
	}
	if s.Word >= 0 && s.Word < len(r.Answer) {
		return s.Word
	}
	sc := s.chainScore(s.chain())
	most, at := -1.0, 0
	for i := range r.Answer {
		if sc == nil {
			// Before there is a chain: the word that the model knows least.
			if i < len(r.Base) && -r.Base[i] > most {
				most, at = -r.Base[i], i
			}
			continue
		}
		if x := math.Abs(sc.Contribution[i] - sc.W[i]*s.baseTerm(i)); x > most {
			most, at = x, i
		}
	}
	return at
}
