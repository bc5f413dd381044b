package wire

import (
	"cmp"
	"fmt"
)

// Type implements Message.
func (*Welcome) Type() string   { return "welcome" }
func (*Models) Type() string    { return "models" }
func (*Queued) Type() string    { return "queued" }
func (*Start) Type() string     { return "start" }
func (*Frame) Type() string     { return "frame" }
func (*End) Type() string       { return "end" }
func (*Scored) Type() string    { return "scored" }
func (*Resampled) Type() string { return "resampled" }
func (*Failed) Type() string    { return "failed" }
func (*Step) Type() string      { return "step" }
func (*Eval) Type() string      { return "eval" }
func (*State) Type() string     { return "state" }

// The server's messages, one of each.
var fromServer = []Message{&Welcome{}, &Models{}, &Queued{}, &Start{}, &Frame{}, &End{}, &Scored{}, &Resampled{}, &Failed{}, &Step{}, &Eval{}, &State{}}

// Model is a model that can be asked.
type Model struct {
	Name  string `json:"name"`            // as Ask.Model names it: "world:nrt", "run3@40"
	Label string `json:"label,omitempty"` // for people
	Vocab string `json:"vocab,omitempty"` // /vocab/{Vocab} is its tokenizer
	Run   string `json:"run,omitempty"`   // the training run that made it
	Step  int    `json:"step,omitempty"`
	Reads int    `json:"reads,omitempty"` // tokens in all, question, chain and answer; MaxReads for more
}

func (m *Model) validate() error {
	return cmp.Or(some("name", m.Name, 200), text("label", m.Label, 200), text("vocab", m.Vocab, 200),
		text("run", m.Run, 64), within("step", m.Step, 0, MaxStep), within("reads", m.Reads, 0, MaxReads))
}

// Limits are the server's own bounds, at most those of this package.
type Limits struct {
	K        int `json:"k"`
	Chain    int `json:"chain"`    // tokens
	Question int `json:"question"` // bytes
	Answer   int `json:"answer"`   // bytes
	Steps    int `json:"steps"`
	Upload   int `json:"upload"` // bytes; 0: no uploads
}

// Welcome answers hello. It has the seq of the session's last message, and is
// not itself counted. Resumed: what was missed follows. Otherwise the session is
// new (or too old), and requests of the page that were under way are gone.
type Welcome struct {
	Head
	Session string  `json:"session"`
	Resumed bool    `json:"resumed,omitempty"`
	Server  string  `json:"server,omitempty"` // its version
	Models  []Model `json:"models"`           // the first is the default
	Runs    []State `json:"runs,omitempty"`
	Limits  Limits  `json:"limits"`
}

// Validate implements Message.
func (m *Welcome) Validate() error {
	return cmp.Or(
		some("session", m.Session, 64),
		text("server", m.Server, 64),
		count("models", len(m.Models), MaxModels),
		each("models", m.Models, (*Model).validate),
		count("runs", len(m.Runs), 1000),
		each("runs", m.Runs, (*State).Validate),
	)
}

// Models replaces the list of models, after a run kept a checkpoint.
type Models struct {
	Head
	Models []Model `json:"models"`
}

// Validate implements Message.
func (m *Models) Validate() error {
	return cmp.Or(count("models", len(m.Models), MaxModels), each("models", m.Models, (*Model).validate))
}

// Queued says how many requests are before this one (0: it is next) and about
// how long that takes. It comes again whenever that changes.
type Queued struct {
	Head
	Place   int     `json:"place"`
	Seconds float64 `json:"seconds"` // 0: unknown
}

// Validate implements Message.
func (m *Queued) Validate() error {
	return cmp.Or(some("id", m.ID, 64), within("place", m.Place, 0, 1<<20), within("seconds", m.Seconds, 0, 1e6))
}

// Piece is a token as text. Texts of a list join to the whole; a token that ends
// inside a character has no text of its own, the token that completes it has.
type Piece struct {
	ID      int32  `json:"id"`
	Text    string `json:"text"`
	Special bool   `json:"special,omitempty"`
	Unknown bool   `json:"unknown,omitempty"` // stands for what the vocabulary lacks
}

func (p *Piece) validate() error {
	return cmp.Or(vocabulary("id", p.ID), text("text", p.Text, 1<<10))
}

// Start says that the chains begin, and how the texts were cut into tokens. The
// answer's pieces hold the end token that is scored with it.
type Start struct {
	Head
	Model  string  `json:"model"`
	K      int     `json:"k"`
	Seed   uint64  `json:"seed"`
	Plain  string  `json:"plain,omitempty"` // the question in everyday English, where it is in a language of its own
	Prompt []Piece `json:"prompt"`
	Answer []Piece `json:"answer"`
}

// Validate implements Message.
func (m *Start) Validate() error {
	err := cmp.Or(
		some("id", m.ID, 64),
		some("model", m.Model, 200),
		within("k", m.K, 1, MaxChains),
		within("seed", m.Seed, 0, MaxSafe),
		text("plain", m.Plain, MaxQuestion),
		count("prompt", len(m.Prompt), 1<<16),
		each("prompt", m.Prompt, (*Piece).validate),
		count("answer", len(m.Answer), 1<<13),
		each("answer", m.Answer, (*Piece).validate),
	)
	if err == nil && len(m.Answer) == 0 {
		err = bad("answer", "missing")
	}
	return err
}

// Part names where tokens belong.
type Part string

// The parts, in the order in which a chain's tokens come. The baseline belongs
// to no chain: its Chain is -1.
const (
	PartChain     Part = "chain"
	PartBoundary  Part = "boundary"  // forced by the server: the chain did not close itself
	PartReference Part = "reference" // the reference answer after the chain: log c
	PartAnswer    Part = "answer"    // what the model answers itself
	PartBaseline  Part = "baseline"  // the reference answer after no chain: log b
)

// Tokens are consecutive tokens of one part of one chain. The four lists have
// one length; Texts join to the text (see Piece).
type Tokens struct {
	Chain     int       `json:"chain"`
	Part      Part      `json:"part"`
	At        int       `json:"at"` // index of the first within its part
	IDs       []int32   `json:"ids"`
	Texts     []string  `json:"texts"`
	LogProbs  []float64 `json:"logprobs"`  // nats
	Entropies []float64 `json:"entropies"` // nats
}

// maxTokens bounds one entry of a frame and any token's index.
const maxTokens = 1 << 14

func (m *Tokens) validate() error {
	n := len(m.IDs)
	err := cmp.Or(
		within("chain", m.Chain, -1, MaxChains-1),
		oneOf("part", string(m.Part), string(PartChain), string(PartBoundary), string(PartReference), string(PartAnswer), string(PartBaseline)),
		within("at", m.At, 0, maxTokens),
		within("ids", n, 1, maxTokens),
	)
	if err == nil && (m.Part == PartBaseline) != (m.Chain == -1) {
		err = bad("chain", "have %d with part %s", m.Chain, m.Part)
	}
	for _, l := range []struct {
		name string
		n    int
	}{{"texts", len(m.Texts)}, {"logprobs", len(m.LogProbs)}, {"entropies", len(m.Entropies)}} {
		if err == nil && l.n != n {
			err = bad(l.name, "%d entries for %d ids", l.n, n)
		}
	}
	for _, s := range m.Texts {
		err = cmp.Or(err, text("texts", s, 1<<10))
	}
	return cmp.Or(err, vocabulary("ids", m.IDs...), finite("logprobs", m.LogProbs...), finite("entropies", m.Entropies...))
}

// Done says that a chain is complete, its reference scored.
type Done struct {
	Chain  int    `json:"chain"`
	Finish string `json:"finish"`           // "close": by itself; "stop"; "length"
	Answer string `json:"answer,omitempty"` // the model's own, as text
	Match  bool   `json:"match,omitempty"`  // which equals the reference
	Right  bool   `json:"right,omitempty"`  // the chain ends at the right answer; false where nobody can tell
}

func (m *Done) validate() error {
	return cmp.Or(within("chain", m.Chain, 0, MaxChains-1), oneOf("finish", m.Finish, "close", "stop", "length"),
		text("answer", m.Answer, MaxAnswer))
}

// Frame is what happened to a request since the frame before: tokens first, then
// the chains that these complete.
type Frame struct {
	Head
	Tokens []Tokens `json:"tokens,omitempty"`
	Done   []Done   `json:"done,omitempty"`
}

// Validate implements Message.
func (m *Frame) Validate() error {
	return cmp.Or(
		some("id", m.ID, 64),
		count("tokens", len(m.Tokens), 1<<12),
		each("tokens", m.Tokens, (*Tokens).validate),
		count("done", len(m.Done), MaxChains),
		each("done", m.Done, (*Done).validate),
	)
}

// End closes a request that succeeded or was cancelled.
type End struct {
	Head
	Seconds   float64 `json:"seconds"` // computing, without the queue
	Cancelled bool    `json:"cancelled,omitempty"`
}

// Validate implements Message.
func (m *End) Validate() error {
	return cmp.Or(some("id", m.ID, 64), within("seconds", m.Seconds, 0, 1e6))
}

// Scored answers score: one entry a variant, in its order. Model is the one that read
// them, where the score asks several.
type Scored struct {
	Head
	Model    string          `json:"model,omitempty"`
	Variants []ScoredVariant `json:"variants"`
}

// ScoredVariant is the reference answer after one variant of a chain, token by
// token, and what the model then answers itself, if that was asked.
type ScoredVariant struct {
	LogProbs []float64 `json:"logprobs"` // nats: log c
	Answer   string    `json:"answer,omitempty"`
	Match    bool      `json:"match,omitempty"` // Answer equals the reference
}

// Validate implements Message.
func (m *Scored) Validate() error {
	return cmp.Or(
		some("id", m.ID, 64),
		text("model", m.Model, 200),
		within("variants", len(m.Variants), 1, MaxVariants),
		each("variants", m.Variants, (*ScoredVariant).validate),
	)
}

func (m *ScoredVariant) validate() error {
	return cmp.Or(within("logprobs", len(m.LogProbs), 1, maxTokens), text("answer", m.Answer, MaxAnswer), finite("logprobs", m.LogProbs...))
}

// Resampled is what a model wrote from one place of a chain on, and the reference
// answer after it.
type Resampled struct {
	Head
	Cut   int     `json:"cut"` // the place, as resample names it
	Fresh []Fresh `json:"fresh"`
}

// Fresh is the end of a chain that was written afresh: what follows the place. IDs
// hold all of it, with what closed the chain; Text is without that.
type Fresh struct {
	IDs      []int32   `json:"ids,omitempty"`
	Text     string    `json:"text"`
	LogProbs []float64 `json:"logprobs"` // nats: log c
}

// Validate implements Message.
func (m *Resampled) Validate() error {
	return cmp.Or(
		some("id", m.ID, 64),
		within("cut", m.Cut, 0, MaxChain-1),
		within("fresh", len(m.Fresh), 1, MaxFresh),
		each("fresh", m.Fresh, (*Fresh).Validate),
	)
}

// Validate reports the first field that is out of range.
func (m *Fresh) Validate() error {
	return cmp.Or(count("ids", len(m.IDs), MaxChain), text("text", m.Text, 32*MaxChain), within("logprobs", len(m.LogProbs), 1, maxTokens),
		vocabulary("ids", m.IDs...), finite("logprobs", m.LogProbs...))
}

// Codes of Failed.
const (
	CodeBadMessage = "bad_message" // Message names the field
	CodeNoModel    = "no_model"
	CodeTooLong    = "too_long" // prompt and chain do not fit the model
	CodeBusy       = "busy"     // the queue is full, or memory is
	CodeRate       = "rate"     // too many requests of one reader
	CodeForbidden  = "forbidden"
	CodeNoRun      = "no_run"
	CodeUpload     = "upload"   // Message names the line
	CodeSlow       = "slow"     // the reader does not keep up; the connection closes
	CodeStopping   = "stopping" // the server shuts down
	CodeInternal   = "internal"
)

// Failed closes the request of the head's ID, or without ID concerns the
// connection.
type Failed struct {
	Head
	Code    string  `json:"code"`
	Message string  `json:"message"` // one sentence for the reader
	Field   string  `json:"field,omitempty"`
	Retry   float64 `json:"retry,omitempty"` // seconds after which trying again makes sense
}

// Validate implements Message.
func (m *Failed) Validate() error {
	return cmp.Or(some("code", m.Code, 64), text("message", m.Message, 1<<10), text("field", m.Field, 200),
		within("retry", m.Retry, 0, 1e6))
}

// Names of a training run's values. A method sends those it has.
const (
	ValueReward       = "reward"        // mean R of all chains
	ValueBase         = "base"          // mean R without a chain
	ValueEntropy      = "entropy"       // nats per chain token
	ValueLength       = "length"        // tokens per chain
	ValueZeroVariance = "zero_variance" // share of groups without a gradient
	ValueLoss         = "loss"
	ValueAccuracy     = "accuracy" // of held-out questions
	ValueLow          = "low"      // its 95 % interval
	ValueHigh         = "high"
)

// Point is a run's values at a step.
type Point struct {
	Step   int                `json:"step"`
	Values map[string]float64 `json:"values"`
}

func (p *Point) validate() error {
	err := cmp.Or(within("step", p.Step, 0, MaxStep), count("values", len(p.Values), 64))
	for name, x := range p.Values {
		if err == nil {
			err = cmp.Or(text("values", name, 64), finite(fmt.Sprintf("values.%s", short(name)), x))
		}
	}
	return err
}

// Step has the values of one step or, for a reader who joins, of many.
type Step struct {
	Head
	Run    string  `json:"run"`
	Of     int     `json:"of"` // steps of the run
	Points []Point `json:"points"`
	Whole  bool    `json:"whole,omitempty"` // there are no others: what the page has is replaced
}

// Validate implements Message.
func (m *Step) Validate() error {
	return cmp.Or(some("run", m.Run, 64), within("of", m.Of, 1, MaxStep), count("points", len(m.Points), MaxSteps),
		each("points", m.Points, (*Point).validate))
}

// Eval has measurements on held-out questions: ValueAccuracy, Low, High.
type Eval struct {
	Head
	Run    string  `json:"run"`
	Points []Point `json:"points"`
	Whole  bool    `json:"whole,omitempty"` // as Step.Whole
}

// Validate implements Message.
func (m *Eval) Validate() error {
	return cmp.Or(some("run", m.Run, 64), count("points", len(m.Points), MaxSteps), each("points", m.Points, (*Point).validate))
}

// Statuses of a run.
const (
	StatusQueued  = "queued"
	StatusRunning = "running"
	StatusPaused  = "paused"
	StatusStopped = "stopped"
	StatusDone    = "done"
	StatusFailed  = "failed"
)

// Checkpoint is a kept step of a run, which can be asked as a model.
type Checkpoint struct {
	Step  int    `json:"step"`
	Model string `json:"model"`
}

func (c *Checkpoint) validate() error {
	return cmp.Or(within("step", c.Step, 0, MaxStep), some("model", c.Model, 200))
}

// State is what a run is and where it stands; sent whenever that changes.
type State struct {
	Head
	Run         string       `json:"run"`
	Method      string       `json:"method"`
	Mode        string       `json:"mode,omitempty"`
	Status      string       `json:"status"`
	Step        int          `json:"step"`
	Of          int          `json:"of"`
	Seconds     float64      `json:"seconds,omitempty"` // spent computing
	Data        string       `json:"data,omitempty"`    // what it learns from, for people
	Message     string       `json:"message,omitempty"` // why it failed
	Saved       bool         `json:"saved,omitempty"`   // the server does not train it: no reader can handle it
	Mine        bool         `json:"mine,omitempty"`    // the reader who is told may pause and stop it
	Checkpoints []Checkpoint `json:"checkpoints,omitempty"`
}

// Validate implements Message.
func (m *State) Validate() error {
	err := cmp.Or(
		some("run", m.Run, 64),
		some("method", m.Method, 16),
		oneOf("status", m.Status, StatusQueued, StatusRunning, StatusPaused, StatusStopped, StatusDone, StatusFailed),
		within("step", m.Step, 0, MaxStep),
		within("of", m.Of, 1, MaxStep),
		within("seconds", m.Seconds, 0, 1e9),
		text("data", m.Data, 200),
		text("message", m.Message, 1<<10),
		count("checkpoints", len(m.Checkpoints), 1000),
		each("checkpoints", m.Checkpoints, (*Checkpoint).validate),
	)
	if err == nil && m.Mode != "" {
		err = oneOf("mode", m.Mode, Modes()...)
	}
	return err
}
