package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/eval"
	"nrt/trainer/objective"
)

// Question is an example as ids, ready to be asked.
type Question struct {
	Prompt []int32 // up to and including the opening boundary
	Answer []int32 // the reference with its end-of-text
	Seed   uint64  // of its chains
	Index  int     // of the example in the data set
}

// Rollout is a question's scored chains, stamped with the policy that made them.
type Rollout struct {
	Question
	Version int // optimizer steps behind the policy
	engine.Result
	// RefBaseline and Ref are the reference policy's view, for methods that ask
	// for it (Config.FixedBaseline, Config.KL).
	RefBaseline []float64
	Ref         []objective.RefLogProbs
}

// check refuses what a model of that shape cannot be trained on: rollouts may come from
// elsewhere.
func (r *Rollout) check(m llama.Config) error {
	if len(r.Prompt) == 0 {
		return errors.New("prompt: no tokens")
	}
	known := func(what string, ids []int32) error {
		for i, id := range ids {
			if id < 0 || int(id) >= m.Vocab {
				return fmt.Errorf("%s: token %d is id %d, vocabulary has %d", what, i, id, m.Vocab)
			}
		}
		return nil
	}
	if err := cmp.Or(known("prompt", r.Prompt), known("answer", r.Answer)); err != nil {
		return err
	}
	for k, c := range r.Chains {
		if err := cmp.Or(known("tokens", engine.IDsOf(c.Tokens)), known("boundary", engine.IDsOf(c.Boundary))); err != nil {
			return fmt.Errorf("chain %d: %w", k, err)
		}
		switch stopped := c.Finish == "stop"; {
		case len(c.Reference) != len(r.Answer):
			return fmt.Errorf("chain %d: reference: want the answer's %d tokens, have %d", k, len(r.Answer), len(c.Reference))
		case c.Closed && stopped:
			return fmt.Errorf("chain %d: want one end, have a boundary (Closed) and a stop token (Finish)", k)
		case (c.Closed || stopped) && len(c.Tokens) == 0:
			return fmt.Errorf("chain %d: tokens: want the one that ended it last, have none", k)
		}
		if n := len(r.Prompt) + len(c.Tokens) + len(c.Boundary) + len(r.Answer); n > m.MaxPositions {
			return fmt.Errorf("chain %d: %d tokens with prompt and answer exceed the model's %d positions (max_position_embeddings)", k, n, m.MaxPositions)
		}
	}
	return nil
}

// checkAll checks rollouts where they enter.
func checkAll(m llama.Config, rolls []Rollout) error {
	for i := range rolls {
		if err := rolls[i].check(m); err != nil {
			return fmt.Errorf("rollout %d: %w", i, err)
		}
	}
	return nil
}

// Rollouts makes scored chains. The trainer depends on nothing else, so they may
// come from this process or from elsewhere.
type Rollouts interface {
	Rollout(ctx context.Context, questions []Question, version int) ([]Rollout, error)
}

// Layout is what all rollouts of a run have in common.
type Layout struct {
	K           int
	Sampling    engine.Sampling
	MaxChain    int
	Close       []int32
	StopText    string
	End         []int32 // ends a sampled answer
	Answer      bool    // sample an answer after each chain, to compare with the reference (STaR, RLVR)
	MaxAnswer   int     // longest such answer; 0 takes each reference's sampledRoom
	Baseline    bool
	PolicyStops []int32 // further ids that end a chain, such as end-of-text
}

// local makes rollouts with an engine in this process.
type local struct {
	engine *engine.Engine
	layout Layout
}

// NewLocal samples with e, whose model is the one being trained.
func NewLocal(e *engine.Engine, l Layout) Rollouts { return &local{e, l} }

func (r *local) Rollout(ctx context.Context, questions []Question, version int) ([]Rollout, error) {
	reqs := make([]engine.Request, len(questions))
	positions := r.engine.Model().Config.MaxPositions
	for i, q := range questions {
		reqs[i] = r.layout.Request(q)
		left := positions - len(q.Prompt) - r.layout.MaxChain - len(r.layout.Close)
		reqs[i].MaxAnswer = min(reqs[i].MaxAnswer, max(left, len(q.Answer)))
	}
	results, err := r.engine.Generate(ctx, reqs, nil)
	if err != nil {
		return nil, err
	}
	out := make([]Rollout, len(questions))
	for i := range out {
		out[i] = Rollout{Question: questions[i], Version: version, Result: results[i]}
	}
	return out, nil
}

// Request is the engine's request for a question.
func (l Layout) Request(q Question) engine.Request {
	r := engine.Request{
		Prompt: q.Prompt, N: l.K, Sampling: l.Sampling, Seed: q.Seed,
		MaxChain: l.MaxChain, Stop: l.PolicyStops, Close: l.Close, StopText: l.StopText,
		Reference: q.Answer, Baseline: l.Baseline,
		AnswerStop: l.End,
	}
	if l.Answer {
		r.MaxAnswer = cmp.Or(l.MaxAnswer, sampledRoom(len(q.Answer)))
	}
	return r
}

// sampledRoom is how many tokens an answer may have that is sampled to be compared
// with a reference of so many: half as many again, since the same text may have
// more tokens than the tokenizer gives it.
func sampledRoom(reference int) int { return reference + (reference+1)/2 }

// RightBy compares answers as texts of a format, or what x takes from them.
func RightBy(f *token.Format, x eval.Extract) func(answer, reference []int32) bool {
	return func(answer, reference []int32) bool { return x.Same(f.AnswerText(answer), f.AnswerText(reference)) }
}

// Ask turns an example into ids with the model family's format.
func Ask(f *token.Format, e data.Example, index int) (Question, error) {
	q := Question{Index: index}
	if e.Messages != nil {
		turns := make([]token.Message, len(e.Messages))
		for i, m := range e.Messages {
			turns[i] = token.Message{Role: m.Role, Content: m.Content}
		}
		ids, err := f.Messages(turns)
		if err != nil {
			return q, &data.LineError{File: e.File, Line: e.Line, Problem: err.Error()}
		}
		q.Prompt = ids
	} else {
		q.Prompt = f.Prompt(e.Question)
	}
	q.Answer = f.Answer(e.Answer)
	return q, nil
}

// sample is one sequence to train on: chain, boundary and answer, all following
// the group's prompt.
type sample struct {
	chain, boundary, answer []int32
	closed                  bool // the chain emitted the boundary: sampled like the chain
	stopped                 bool // its last token ended the chain, and is not read
	group, index            int  // which weights it gets
}

// sampled is how many of the sample's tokens the policy drew.
func (s sample) sampled() int {
	if s.closed {
		return len(s.chain) + len(s.boundary)
	}
	return len(s.chain)
}

// tokens is how many tokens the sample has.
func (s sample) tokens() int { return len(s.chain) + len(s.boundary) + len(s.answer) }

// group is a prompt and the samples that follow it.
type group struct {
	prompt  []int32
	samples []sample
	again   bool // other samples have been trained after the prompt
}

// tokens is how many tokens the group has.
func (g group) tokens() int {
	n := len(g.prompt)
	for _, s := range g.samples {
		n += s.tokens()
	}
	return n
}

// split cuts a group that has more tokens than a pass may have into parts that
// have not, or only one sample each; each reads the prompt again.
func (g group) split(limit int) []group {
	if g.tokens() <= limit {
		return []group{g}
	}
	var parts []group
	n := 0 // tokens of the last part
	for i, s := range g.samples {
		if n += s.tokens(); i == 0 || n > limit {
			parts = append(parts, group{prompt: g.prompt, again: i > 0})
			n = len(g.prompt) + s.tokens()
		}
		last := &parts[len(parts)-1]
		last.samples = append(last.samples, s)
	}
	return parts
}

// packed is a training batch in which the samples of a group share the rows of
// their prompt, so that its forward and backward are computed once.
type packed struct {
	batch   llama.Batch
	drawn   llama.Targets // all samples' sampled tokens, end to end
	forced  llama.Targets // all samples' other tokens, end to end
	samples []sample
}

// pack lays groups out. invTemp scales the logits of sampled tokens, as sampling
// did. A row predicts two tokens where a chain stopped: the stop token that was
// drawn, and the boundary that stands in its place.
func pack(groups []group, invTemp float64) packed {
	p := packed{drawn: llama.Targets{InvTemp: invTemp}}
	for _, g := range groups {
		prompt := p.read(g.prompt, 0, nil)
		for _, s := range g.samples {
			ids := slices.Concat(s.chain, s.boundary, s.answer)
			if len(ids) == 0 {
				continue
			}
			seen, skipped := ids, len(ids)
			if s.stopped {
				skipped = len(s.chain)
				seen = slices.Concat(ids[:skipped-1], ids[skipped:])
			}
			// The last token predicts nothing and need not be read.
			first := len(p.batch.IDs)
			if len(seen) > 1 {
				first = p.read(seen[:len(seen)-1], len(g.prompt), []device.Span{{Start: prompt, Len: len(g.prompt)}})
			}
			for i, id := range ids {
				after := i // so many of those seen
				if i >= skipped {
					after--
				}
				row := prompt + len(g.prompt) - 1
				if after > 0 {
					row = first + after - 1
				}
				t := &p.drawn
				if i >= s.sampled() {
					t = &p.forced
				}
				t.Rows, t.IDs = append(t.Rows, int32(row)), append(t.IDs, id)
			}
			p.samples = append(p.samples, s)
		}
	}
	return p
}

// read appends tokens that follow `past` to the batch and returns their first row.
func (p *packed) read(ids []int32, pos int, past []device.Span) int {
	first := len(p.batch.IDs)
	p.batch.IDs = append(p.batch.IDs, ids...)
	for i := range ids {
		p.batch.Pos = append(p.batch.Pos, int32(pos+i))
	}
	q := device.Span{Start: first, Len: len(ids)}
	p.batch.Seqs = append(p.batch.Seqs, device.Seq{Q: q, Past: past, Own: first})
	return first
}
