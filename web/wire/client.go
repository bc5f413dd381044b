package wire

import (
	"cmp"
	"fmt"
)

// Bounds of a page's messages. A server may set narrower ones (Limits).
const (
	MaxQuestion = 8 << 10 // bytes
	MaxAnswer   = 4 << 10
	MaxUpload   = 1 << 20
	MaxChains   = 16
	MaxVariants = 64      // of chains, in one score
	MaxReaders  = 16      // models that read them
	MaxThrough  = 1 << 18 // tokens that several models read in all, in one score
	MaxFresh    = 16      // chains from one place on, in one resample
	MaxAfresh   = 1 << 16 // tokens that one resample may sample in all
	MaxChain    = 2048    // tokens
	MaxHeat     = 4       // temperature
	MaxSteps    = 10000   // of a run that a reader starts, and points of its curves
	MaxStep     = 1 << 30 // of a run from elsewhere
)

// Methods lists the training methods that a page can start.
func Methods() []string { return []string{"nrt", "rlpr", "verifree", "sft"} }

// Modes lists the reward formulas by the names that trainer/reward gives them.
func Modes() []string { return []string{"logp", "p", "gm", "am", "ws-1/p", "ws-logp"} }

// Type implements Message.
func (*Hello) Type() string       { return "hello" }
func (*Ask) Type() string         { return "ask" }
func (*Score) Type() string       { return "score" }
func (*Resample) Type() string    { return "resample" }
func (*Cancel) Type() string      { return "cancel" }
func (*Train) Type() string       { return "train" }
func (*TrainPause) Type() string  { return "train_pause" }
func (*TrainResume) Type() string { return "train_resume" }
func (*TrainStop) Type() string   { return "train_stop" }
func (*Watch) Type() string       { return "watch" }

// The page's messages: one of each, to be told apart by Type.
var fromPage = []Message{&Hello{}, &Ask{}, &Score{}, &Resample{}, &Cancel{}, &Train{}, &TrainPause{}, &TrainResume{}, &TrainStop{}, &Watch{}}

// Hello opens a connection. With Resume the server sends every message of that
// session after seq After, if it still has them; Welcome says whether it does.
// Owner is a secret of the browser's, the same in all its sessions: who starts a run
// under it can pause and stop it under it. Without one, the session can.
type Hello struct {
	Head
	Resume string `json:"resume,omitempty"`
	After  uint64 `json:"after,omitempty"`
	Owner  string `json:"owner,omitempty"`
}

// Validate implements Message.
func (m *Hello) Validate() error {
	return cmp.Or(text("resume", m.Resume, 64), within("after", m.After, 0, MaxSafe), text("owner", m.Owner, 64))
}

// Ask asks a model for K chains, and for the reference answer's probabilities
// after each of them and after no chain. The head's ID names the request.
type Ask struct {
	Head
	Model       string  `json:"model"` // a Model's Name
	Question    string  `json:"question"`
	Answer      string  `json:"answer"` // the reference
	K           int     `json:"k"`
	Temperature float64 `json:"temperature"` // 0 is greedy
	TopP        float64 `json:"top_p"`       // 0 and 1 are off
	Seed        uint64  `json:"seed"`
	MaxChain    int     `json:"max_chain"` // tokens
}

// Validate implements Message.
func (m *Ask) Validate() error {
	return cmp.Or(
		some("id", m.ID, 64),
		some("model", m.Model, 200),
		some("question", m.Question, MaxQuestion),
		some("answer", m.Answer, MaxAnswer),
		within("k", m.K, 1, MaxChains),
		within("temperature", m.Temperature, 0, MaxHeat),
		within("top_p", m.TopP, 0, 1),
		within("seed", m.Seed, 0, MaxSafe),
		within("max_chain", m.MaxChain, 1, MaxChain),
	)
}

// Score asks for the reference answer's probabilities after chains that the page
// gives: a reader's variants of what a model wrote. They are answered together, by
// one scored of the same ID.
//
// Models in the place of Model asks several models that share a vocabulary, such as
// the steps of a training run, one after the other: each is answered by a scored that
// names it, in their order, and then comes end.
type Score struct {
	Head
	Model    string    `json:"model,omitempty"`
	Models   []string  `json:"models,omitempty"`
	Question string    `json:"question"`
	Answer   string    `json:"answer"` // the reference
	Variants []Variant `json:"variants"`
	Own      bool      `json:"own,omitempty"` // what the model then answers itself, too
}

// Variant is a chain in parts that follow one another; none is the empty chain.
type Variant struct {
	Parts []ChainPart `json:"parts"`
}

// ChainPart is either: tokens that the reader left alone, as ids, so that they
// stay what they were, or text to be cut into tokens.
type ChainPart struct {
	IDs  []int32 `json:"ids,omitempty"`
	Text string  `json:"text,omitempty"`
}

// Validate implements Message.
func (m *Score) Validate() error {
	err := cmp.Or(
		some("id", m.ID, 64),
		count("models", len(m.Models), MaxReaders),
		some("question", m.Question, MaxQuestion),
		some("answer", m.Answer, MaxAnswer),
		within("variants", len(m.Variants), 1, MaxVariants),
		each("variants", m.Variants, (*Variant).validate),
	)
	if len(m.Models) == 0 {
		return cmp.Or(err, some("model", m.Model, 200))
	}
	if err == nil && m.Model != "" {
		err = bad("model", "want model or models, and not both")
	}
	for i, name := range m.Models {
		if err == nil {
			err = some(fmt.Sprintf("models[%d]", i), name, 200)
		}
	}
	if n := m.Tokens(); err == nil && n > MaxThrough {
		err = bad("models", "%d tokens to read; want at most %d", n, MaxThrough)
	}
	return err
}

// Readers are the models that m asks, in their order.
func (m *Score) Readers() []string {
	if len(m.Models) > 0 {
		return m.Models
	}
	return []string{m.Model}
}

// Tokens is how many tokens of chains are read for m at most.
func (m *Score) Tokens() int {
	n := 0
	for _, v := range m.Variants {
		n += v.size()
	}
	return n * len(m.Readers())
}

// size is how many tokens a variant has at most: ids, and bytes of text.
func (m *Variant) size() int {
	n := 0
	for _, p := range m.Parts {
		n += len(p.IDs) + len(p.Text)
	}
	return n
}

func (m *Variant) validate() error {
	return cmp.Or(count("parts", len(m.Parts), 256), each("parts", m.Parts, (*ChainPart).validate), count("parts", m.size(), 32*MaxChain))
}

func (p *ChainPart) validate() error {
	if (len(p.IDs) > 0) == (p.Text != "") {
		return bad("ids", "want ids or text, and not both")
	}
	return vocabulary("ids", p.IDs...)
}

// Resample asks a model to write a chain afresh, N times from each of some places
// on, and for the reference answer's probabilities after each of these. What comes
// before the place stays, token by token. One resampled comes for each place, in any
// order, then end.
//
// The random numbers are a function of Seed, Of and the place, whatever else is
// asked: the same place is answered alike in any resample.
type Resample struct {
	Head
	Model       string  `json:"model"`
	Question    string  `json:"question"`
	Answer      string  `json:"answer"` // the reference
	Chain       []int32 `json:"chain"`  // as it was sampled
	Of          int     `json:"of"`     // its number in its group, from 0
	Cuts        []int   `json:"cuts"`   // the places: how many tokens stay; ascending
	N           int     `json:"n"`
	Temperature float64 `json:"temperature"` // this and the rest as in the ask of the chain
	TopP        float64 `json:"top_p"`
	Seed        uint64  `json:"seed"`
	MaxChain    int     `json:"max_chain"`
}

// Validate implements Message.
func (m *Resample) Validate() error {
	err := cmp.Or(
		some("id", m.ID, 64),
		some("model", m.Model, 200),
		some("question", m.Question, MaxQuestion),
		some("answer", m.Answer, MaxAnswer),
		within("chain", len(m.Chain), 1, MaxChain),
		within("of", m.Of, 0, MaxChains-1),
		within("cuts", len(m.Cuts), 1, MaxVariants),
		within("n", m.N, 1, MaxFresh),
		within("temperature", m.Temperature, 0, MaxHeat),
		within("top_p", m.TopP, 0, 1),
		within("seed", m.Seed, 0, MaxSafe),
		within("max_chain", m.MaxChain, 1, MaxChain),
		vocabulary("chain", m.Chain...),
	)
	least := 0
	for _, cut := range m.Cuts {
		if err == nil {
			err = within("cuts", cut, least, min(len(m.Chain), m.MaxChain)-1)
		}
		least = cut + 1
	}
	if n := m.Tokens(); err == nil && n > MaxAfresh {
		err = bad("cuts", "%d tokens to sample; want at most %d", n, MaxAfresh)
	}
	return err
}

// Tokens is how many tokens are sampled for m at most.
func (m *Resample) Tokens() int {
	n := 0
	for _, cut := range m.Cuts {
		n += m.N * (m.MaxChain - cut)
	}
	return n
}

// Cancel ends the request of the head's ID: an ask, a score or a resample, queued or
// running. The server answers with end (Cancelled) as soon as it has stopped.
type Cancel struct{ Head }

// Validate implements Message.
func (m *Cancel) Validate() error { return some("id", m.ID, 64) }

// Train starts a run on the small world's questions, or on Upload. The answer is
// a State with the run's name, under the head's ID.
type Train struct {
	Head
	Method    string  `json:"method"`          // one of Methods
	Mode      string  `json:"mode,omitempty"`  // one of Modes; nrt only
	Model     string  `json:"model,omitempty"` // where to start, default: the base model
	Steps     int     `json:"steps"`
	Questions int     `json:"questions"`    // of one step
	K         int     `json:"k"`            // chains of one question
	LR        float64 `json:"lr,omitempty"` // 0: the method's default
	Seed      uint64  `json:"seed"`
	// Upload is JSONL: {"question":"…","answer":"…"} a line.
	Upload string `json:"upload,omitempty"`
}

// Validate implements Message.
func (m *Train) Validate() error {
	err := cmp.Or(
		some("id", m.ID, 64),
		oneOf("method", m.Method, Methods()...),
		text("model", m.Model, 200),
		within("steps", m.Steps, 1, MaxSteps),
		within("questions", m.Questions, 1, 256),
		within("k", m.K, 1, MaxChains),
		within("lr", m.LR, 0, 1),
		within("seed", m.Seed, 0, MaxSafe),
		text("upload", m.Upload, MaxUpload),
	)
	if err == nil && m.Mode != "" {
		err = oneOf("mode", m.Mode, Modes()...)
	}
	if err == nil && m.Mode == "" && m.Method == "nrt" {
		err = bad("mode", "missing: nrt needs a reward formula")
	}
	return err
}

// TrainPause pauses a run; its State follows.
type TrainPause struct {
	Head
	Run string `json:"run"`
}

// Validate implements Message.
func (m *TrainPause) Validate() error { return some("run", m.Run, 64) }

// TrainResume goes on with a paused or stopped run; its State follows.
type TrainResume struct {
	Head
	Run string `json:"run"`
}

// Validate implements Message.
func (m *TrainResume) Validate() error { return some("run", m.Run, 64) }

// TrainStop ends a run; its State follows. Kept checkpoints stay.
type TrainStop struct {
	Head
	Run string `json:"run"`
}

// Validate implements Message.
func (m *TrainStop) Validate() error { return some("run", m.Run, 64) }

// Watch asks for a run's state, for its values after step After, and for all
// that follow.
type Watch struct {
	Head
	Run   string `json:"run"`
	After int    `json:"after,omitempty"` // 0: from the start
}

// Validate implements Message.
func (m *Watch) Validate() error {
	return cmp.Or(some("run", m.Run, 64), within("after", m.After, 0, MaxStep))
}

// String is what a log says of an ask: no text of the reader.
func (m *Ask) String() string {
	return fmt.Sprintf("ask %s: %d chains of %s, seed %d", m.ID, m.K, m.Model, m.Seed)
}

// String is what a log says of a resample: no text of the reader.
func (m *Resample) String() string {
	return fmt.Sprintf("resample %s: %d chains from each of %d places of one of %s, seed %d", m.ID, m.N, len(m.Cuts), m.Model, m.Seed)
}

// String is what a log says of a score: no text of the reader.
func (m *Score) String() string {
	return fmt.Sprintf("score %s: %d variants of a chain by %v", m.ID, len(m.Variants), m.Readers())
}
