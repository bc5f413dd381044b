// Package engine samples chains and scores answers in batches over one KV cache.
//
// A request is a prompt and N chains. The prompt is read once; its rows of the
// cache are shared by all chains of the request. Each chain ends at its closing
// boundary, at a stop token or at its length limit; then the boundary is forced
// if the chain did not emit it, in place of the stop token if it emitted one, and
// the reference answer is scored from the chain's own cache, so that
// c_i = π(y*_i | x, z, y*_<i) costs one short read and never a second forward over
// prompt and chain. The same is done for the empty chain when a baseline is asked
// for.
//
// Requests enter and leave the running batch at any step (continuous batching).
// Every chain draws from a random stream of its own, so the same seed gives the
// same chains whatever else is in the batch.
//
// Read engine.go (what can be asked), batch.go (one step of all chains), boundary.go
// (a boundary that is text), span.go (rows of the cache).
package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"nrt/backend/device"
	"nrt/backend/llama"
)

// Sampling says how tokens are drawn; zero values switch truncation off.
type Sampling struct {
	Temperature float64 // 0, or less than device.Coldest, is greedy
	TopK        int
	TopP, MinP  float64
	Top         int // alternatives to report per token
}

// Request asks for N chains after a prompt, and optionally for the reference's
// log-probabilities and a sampled answer after each.
type Request struct {
	Prompt []int32
	N      int
	Sampling
	Seed     uint64
	MaxChain int     // tokens
	Stop     []int32 // ids that end a chain; they count as part of it, but what follows does not see them
	// Close is the boundary between chain and answer. A chain that ends with it
	// (or with StopText) closed itself; for others it is forced, and scored.
	Close    []int32
	StopText string // a boundary that is not one token of the vocabulary

	Reference  []int32 // scored after each chain, if any
	Baseline   bool    // score Reference after the empty chain too
	MaxAnswer  int     // > 0: sample an answer after each chain
	AnswerStop []int32

	// Forced, if not nil, replaces sampling: chain i is Forced[i], scored token
	// by token. N is then len(Forced).
	Forced [][]int32
}

// Token is a sampled or scored token.
type Token struct {
	ID      int32
	LogProb float64 // nats, at the request's temperature (1 for scored tokens)
	Entropy float64 // nats
	Top     []device.Alternative
}

// IDsOf are the tokens' ids, in order.
func IDsOf(tokens []Token) []int32 {
	ids := make([]int32, len(tokens))
	for i, t := range tokens {
		ids[i] = t.ID
	}
	return ids
}

// ErrNotFinite is what a model ends with that finds a token's probability to be no number.
var ErrNotFinite = errors.New("the model's log-probabilities are not finite: its weights are too large, as of one that has diverged")

func (t Token) finite() bool { return !math.IsNaN(t.LogProb) && !math.IsInf(t.LogProb, 0) }

// LogProbsOf are the tokens' log-probabilities, in nats: of a reference after a chain
// what package reward calls log c, after none log b.
func LogProbsOf(tokens []Token) []float64 {
	list := make([]float64, len(tokens))
	for i, t := range tokens {
		list[i] = t.LogProb
	}
	return list
}

// Chain is one chain and what follows it.
type Chain struct {
	Tokens    []Token // the chain, with the boundary or stop token it emitted
	Closed    bool    // the chain emitted the boundary itself
	Finish    string  // "close", "stop" or "length", as is a forced chain that ends in neither
	Boundary  []Token // the forced boundary, scored, after a stop token in its place; empty if Closed
	Reference []Token // the reference answer, scored after the boundary
	Answer    []Token // the sampled answer, with its stop token
}

// Result answers one request.
type Result struct {
	Chains   []Chain
	Baseline []Token // the reference after the empty chain
}

// Part names where a streamed token belongs.
type Part uint8

// The parts of a chain, in the order they are reported.
const (
	PartChain Part = iota
	PartBoundary
	PartReference
	PartAnswer
	PartBaseline // Chain is -1
	PartEnd      // no token: the chain is complete
)

// Event is one token of one chain, as it becomes known.
type Event struct {
	Request, Chain int
	Part           Part
	Index          int
	Token          Token
}

// StopTexter decodes the end of a chain, to find a boundary that is not one
// token. backend/token's Tokenizer provides it.
type StopTexter interface {
	Decode(ids []int32, skipSpecial bool) string
}

// Options bound the engine's memory; values that are not positive choose defaults.
type Options struct {
	CacheBytes int64 // keys and values, default 1 GiB
	BatchRows  int   // tokens read in one step, default 4096
}

const (
	// DefaultBatchRows is how many tokens a step reads at most, unless more chains
	// than that grow at once in a single request.
	DefaultBatchRows  = 4096
	defaultCacheBytes = 1 << 30
)

// Engine generates and scores with one model. One call at a time.
type Engine struct {
	model *llama.Model
	text  StopTexter
	opts  Options
	cache *llama.Cache
	spans spans
}

// New makes an engine. text may be nil if no request uses StopText.
func New(m *llama.Model, text StopTexter, o Options) *Engine {
	return &Engine{model: m, text: text, opts: o.orDefaults()}
}

func (o Options) orDefaults() Options {
	if o.CacheBytes <= 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.BatchRows <= 0 {
		o.BatchRows = DefaultBatchRows
	}
	return o
}

// Model is the model that the engine samples from.
func (e *Engine) Model() *llama.Model { return e.model }

// Close frees the cache.
func (e *Engine) Close() {
	if e.cache != nil {
		e.cache.Free()
		e.cache = nil
	}
}

// Generate runs the requests to their ends. emit, if not nil, is called from
// this goroutine for every token, in an order in which each chain's tokens are
// consecutive by Index. When ctx ends, Generate returns its error at the next
// token, or after at most BatchRows tokens of a prompt. ErrNotFinite ends it too, and
// device.ErrNoMemory before anything is read.
func (e *Engine) Generate(ctx context.Context, reqs []Request, emit func(Event)) ([]Result, error) {
	reqs = slices.Clone(reqs) // check settles them
	for i := range reqs {
		if err := e.check(&reqs[i]); err != nil {
			if len(reqs) > 1 {
				err = fmt.Errorf("request %d: %w", i, err)
			}
			return nil, err
		}
	}
	if err := e.reserve(memoryOf(e.model.Config, e.opts, reqs)); err != nil {
		return nil, err
	}
	defer e.relax()
	b := newBatch(e, reqs, emit)
	defer b.release()
	for !b.done() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.step()
		if err := e.model.Device().Sync(); err != nil {
			return nil, err
		}
		if b.odd {
			return nil, ErrNotFinite
		}
	}
	return b.results, nil
}

// LogProbs scores a text: token i ≥ 1 by the tokens before it, with its top
// alternatives. Token 0 has nothing before it and gets LogProb 0.
func (e *Engine) LogProbs(ctx context.Context, ids []int32, top int) ([]Token, error) {
	if len(ids) == 0 {
		return nil, errors.New("no tokens to score")
	}
	if err := e.checkIDs("ids", ids); err != nil {
		return nil, err
	}
	if limit := e.model.Config.MaxPositions; len(ids) > limit {
		return nil, fmt.Errorf("%d tokens; the model reads at most %d (max_position_embeddings)", len(ids), limit)
	}
	if top < 0 {
		return nil, fmt.Errorf("top: want at least 0, have %d", top)
	}
	const chunk = 256 // rows of logits held at once
	plan := memory{rows: len(ids), read: min(len(ids), e.opts.BatchRows)}
	if top > 0 {
		plan.drawn = min(chunk, plan.read)
	}
	if err := e.reserve(plan); err != nil {
		return nil, err
	}
	defer e.relax()
	start := e.spans.take(len(ids))
	defer e.spans.give(device.Span{Start: start, Len: len(ids)})
	out := make([]Token, len(ids))
	out[0].ID = ids[0]
	for at := 0; at < len(ids); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(e.opts.BatchRows, len(ids)-at)
		seq := device.Seq{Q: device.Span{Len: n}, Own: start + at}
		if at > 0 {
			seq.Past = []device.Span{{Start: start, Len: at}}
		}
		pos, rows := make([]int32, n), make([]int32, n)
		for i := range n {
			pos[i], rows[i] = int32(at+i), int32(i)
		}
		e.cache.Extend(llama.Batch{IDs: ids[at : at+n], Pos: pos, Seqs: []device.Seq{seq}})
		targets := ids[at+1 : min(at+n+1, len(ids))]
		got := e.cache.Classify(llama.Targets{Rows: rows[:len(targets)], IDs: targets})
		for i, id := range targets {
			if out[at+1+i] = (Token{ID: id, LogProb: got.LogProb[i], Entropy: got.Entropy[i]}); !out[at+1+i].finite() {
				return nil, errors.Join(e.model.Device().Sync(), ErrNotFinite)
			}
		}
		for i := 0; top > 0 && i < len(targets); i += chunk {
			part := rows[i:min(i+chunk, len(targets))]
			how := make([]device.SampleRow, len(part))
			for j := range how {
				how[j].Top = top
			}
			for j, s := range e.cache.Sample(part, how) {
				out[at+1+i+j].Top = s.Top
			}
		}
		at += n
	}
	return out, e.model.Device().Sync()
}

// check settles a request and refuses what the model cannot do, with the field's name.
func (e *Engine) check(r *Request) error {
	r.settle()
	for i, f := range r.Forced {
		if err := e.checkIDs(fmt.Sprintf("chain %d", i), f); err != nil {
			return err
		}
	}
	if r.Forced == nil && r.N > 0 && r.MaxChain < 1 {
		return fmt.Errorf("max_chain: want at least 1, have %d", r.MaxChain)
	}
	if r.N < 0 {
		return fmt.Errorf("n: want at least 0, have %d", r.N)
	}
	if len(r.Prompt) == 0 {
		return errors.New("prompt: no tokens")
	}
	for _, x := range []struct {
		name string
		v    float64
	}{{"temperature", r.Temperature}, {"top_p", r.TopP}, {"min_p", r.MinP}} {
		if math.IsNaN(x.v) || math.IsInf(x.v, 0) {
			return fmt.Errorf("%s: want a number, have %g", x.name, x.v)
		}
	}
	switch {
	case r.MaxAnswer < 0:
		return fmt.Errorf("max_answer: want at least 0, have %d", r.MaxAnswer)
	case r.Temperature < 0:
		return fmt.Errorf("temperature: want at least 0, have %g", r.Temperature)
	case r.TopP < 0 || r.TopP > 1:
		return fmt.Errorf("top_p: want 0 to 1, have %g", r.TopP)
	case r.MinP < 0 || r.MinP > 1:
		return fmt.Errorf("min_p: want 0 to 1, have %g", r.MinP)
	case r.TopK < 0:
		return fmt.Errorf("top_k: want at least 0, have %d", r.TopK)
	case r.Top < 0:
		return fmt.Errorf("top: want at least 0, have %d", r.Top)
	case r.StopText != "" && e.text == nil:
		return fmt.Errorf("stop text %q needs a tokenizer", r.StopText)
	case r.Baseline && len(r.Reference) == 0:
		return errors.New("baseline: needs a reference")
	}
	for _, part := range []struct {
		name string
		ids  []int32
	}{{"prompt", r.Prompt}, {"close", r.Close}, {"stop", r.Stop}, {"reference", r.Reference}, {"answer stop", r.AnswerStop}} {
		if err := e.checkIDs(part.name, part.ids); err != nil {
			return err
		}
	}
	left := e.model.Config.MaxPositions // each part by itself: the sum of two may be no int
	for _, n := range []int{len(r.Prompt), r.MaxChain, len(r.Close), max(len(r.Reference), r.MaxAnswer)} {
		if left -= n; left < 0 {
			return fmt.Errorf("prompt %d + chain %d + boundary %d + answer %d tokens exceed the model's %d positions (max_position_embeddings)",
				len(r.Prompt), r.MaxChain, len(r.Close), max(len(r.Reference), r.MaxAnswer), e.model.Config.MaxPositions)
		}
	}
	if most := math.MaxInt32 / max(1, r.branchRows()); r.N > most { // int32 numbers the cache's rows
		return fmt.Errorf("n: want at most %d chains of up to %d tokens with what follows, have %d", most, r.branchRows(), r.N)
	}
	return nil
}

func (e *Engine) checkIDs(what string, ids []int32) error {
	for i, id := range ids {
		if id < 0 || int(id) >= e.model.Config.Vocab {
			return fmt.Errorf("%s: token %d is id %d, vocabulary has %d", what, i, id, e.model.Config.Vocab)
		}
	}
	return nil
}

// settle takes N and MaxChain from the chains that are given.
func (r *Request) settle() {
	if r.Forced == nil {
		return
	}
	r.N, r.MaxChain = len(r.Forced), 0
	for _, ids := range r.Forced {
		r.MaxChain = max(r.MaxChain, len(ids))
	}
}

// rows is how much of the cache the request, settled, needs at most.
func (r *Request) rows() int {
	n := len(r.Prompt) + r.N*r.branchRows()
	if r.Baseline {
		n += len(r.Close) + len(r.Reference)
	}
	return n
}

// atOnce is how many tokens of the request, settled, one step reads at most, which is
// where all chains end together: each its last token, the boundary and the reference.
func (r *Request) atOnce() int {
	branch := 1 + len(r.Close) + len(r.Reference)
	if r.Forced != nil {
		branch += r.MaxChain
	}
	n := len(r.Prompt) + r.N*branch
	if r.Baseline {
		n += len(r.Close) + len(r.Reference)
	}
	return n
}

func (r *Request) branchRows() int {
	return r.MaxChain + len(r.Close) + max(len(r.Reference), r.MaxAnswer)
}

// CacheRows is how many rows a cache gets when all requests need so many and the
// largest one so many.
func CacheRows(c llama.Config, o Options, need, largest int) int {
	perRow := int64(2*c.Layers*c.KVHeads*c.HeadDim) * 4
	return int(min(int64(need), max(o.orDefaults().CacheBytes/perRow, int64(largest))))
}

// Memory is what an engine takes, besides the weights, to run the requests in one
// Generate: its cache, and what a step reads and draws from.
func Memory(c llama.Config, o Options, reqs ...Request) llama.Floats {
	m := memoryOf(c, o, reqs)
	return c.CacheFloats(m.rows, m.read, m.drawn)
}

// memory is the rows of a cache, and how many are read and drawn from at a time.
type memory struct{ rows, read, drawn int }

func memoryOf(c llama.Config, o Options, reqs []Request) memory {
	need, largest, read, drawn, grow := 0, 0, 0, 0, 0
	for _, r := range reqs {
		r.settle()
		need += r.rows()
		read += r.atOnce()
		largest = max(largest, r.rows())
		if r.Forced == nil || r.MaxAnswer > 0 {
			drawn += r.N
			grow = max(grow, r.N)
		}
	}
	rows := CacheRows(c, o, need, largest)
	step := max(o.orDefaults().BatchRows, grow) // see DefaultBatchRows
	return memory{rows, min(rows, read, step), min(drawn, step)}
}

// More is what Memory says less what this engine's cache holds already.
func (e *Engine) More(reqs ...Request) llama.Floats {
	f := Memory(e.model.Config, e.opts, reqs...)
	if e.cache != nil {
		held := e.cache.Floats()
		f.Compute, f.Wide = max(0, f.Compute-held.Compute), max(0, f.Wide-held.Wide)
	}
	return f
}

// reserve makes the cache at least as large as m says. Where there is no memory the
// engine is left without a cache.
func (e *Engine) reserve(m memory) (err error) {
	had := 0
	if e.cache != nil {
		had = e.cache.Rows()
	} else if e.cache, err = e.model.NewCache(m.rows); err != nil {
		return err
	}
	if err = e.cache.Reserve(m.rows, m.read, m.drawn); err != nil {
		e.Close()
	} else if m.rows > had {
		e.spans = newSpans(m.rows)
	}
	return err
}

// relax gives a cache back that is larger than the budget, as one request may need
// it once.
func (e *Engine) relax() {
	if e.cache != nil && e.cache.Rows() > CacheRows(e.model.Config, e.opts, e.cache.Rows(), 0) {
		e.Close()
	}
}
