package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/web/wire"
)

// copied is how many parameters a model may have to be copied for every slot; a
// larger one has a single replica.
const copied = 50_000_000

// hub holds the models: their tokenizers, which many share, and the replicas
// that slots compute with.
type hub struct {
	o     Options
	freed func() // hears that there is room for a replica; may be nil

	clearing sync.Mutex   // held by clear, before mu
	cleared  atomic.Int64 // replicas that clear has freed

	mu     sync.Mutex
	turn   int      // counts replicas that were given back
	order  []string // of the served models
	models map[string]*model
	vocabs map[string]*vocab // by name
	closed bool
}

// model is a model by name, with its idle replicas.
type model struct {
	Source
	run     string
	step    int
	reads   int // tokens in all
	vocab   *vocab
	bytes   int64 // of one replica's weights
	weights device.Format

	room chan struct{} // one entry a replica that may exist
	idle []*replica    // under hub.mu
	used time.Time     // under hub.mu
	dead bool          // under hub.mu: no longer served
}

// replica is a model's weights with an engine, and its tokenizer; one slot uses it
// at a time.
type replica struct {
	hub    *hub
	of     *model
	model  *llama.Model
	engine *engine.Engine
	tok    *token.Tokenizer
	form   *token.Format
	stop   []int32 // what ends a chain or an answer: the layout's end and the model's own

	turn  int  // under hub.mu: when it was given back
	cache bool // under hub.mu, idle: its engine still has memory for keys and values
}

// vocab is a tokenizer, parsed when first asked for.
type vocab struct {
	name  string
	files fs.FS
	other string // layout where the chat template is none of the known ones; "" has none
	once  sync.Once
	tok   *token.Tokenizer
	form  *token.Format
	err   error

	compact func() (*asset, error) // for the browser
}

// open parses the tokenizer.
func (v *vocab) open() (*token.Tokenizer, *token.Format, error) {
	v.once.Do(func() {
		v.err = errMistake // stays after a panic
		tok, err := token.LoadFS(v.files)
		if err == nil {
			v.form, err = tok.Format("")
			if v.other != "" && errors.Is(err, token.ErrTemplate) {
				v.form, err = tok.Format(v.other)
			}
		}
		v.tok, v.err = tok, err
	})
	return v.tok, v.form, v.err
}

func newHub(o Options) (*hub, error) {
	h := &hub{o: o, models: map[string]*model{}, vocabs: map[string]*vocab{}}
	for _, s := range o.Models {
		if h.models[s.Name] != nil {
			return nil, fmt.Errorf("model %q is served twice", s.Name)
		}
		switch _, err := h.add(s, "", 0); {
		case err == nil:
			h.order = append(h.order, s.Name)
		case s.Made.IsZero(): // else its run may have removed it since
			return nil, err
		}
	}
	if len(h.order) == 0 {
		return nil, errors.New("none of the models can be read")
	}
	return h, nil
}

// add makes a model known by its name; its weights are loaded when asked for.
func (h *hub) add(s Source, run string, step int) (*model, error) {
	fail := func(err error) (*model, error) { return nil, fmt.Errorf("model %q: %w", s.Name, err) }
	if s.Files == nil {
		return fail(errors.New("no files"))
	}
	c, err := llama.ReadConfig(s.Files)
	if err != nil {
		return fail(err)
	}
	v, err := h.vocabOf(s.Files)
	if err != nil {
		return fail(err)
	}
	if !s.Made.IsZero() { // its files may go, and others may share its tokenizer
		if _, _, err := v.open(); errors.Is(err, fs.ErrNotExist) {
			h.mu.Lock()
			delete(h.vocabs, v.name)
			h.mu.Unlock()
			return fail(err)
		}
	}
	m := &model{Source: s, run: run, step: step, reads: c.MaxPositions, vocab: v, weights: h.o.Weights}
	var bad *wire.Error
	if errors.As((&wire.Models{Models: []wire.Model{m.wire()}}).Validate(), &bad) { // the page would leave at once
		return fail(fmt.Errorf("%s: %s", strings.TrimPrefix(bad.Field, "models[0]."), bad.Reason))
	}
	if m.weights == device.AsStored {
		m.weights, _ = llama.Stored(s.Files) // what is wrong with the files is said when they are read
	}
	params := 0
	for _, t := range c.Tensors() {
		params += t.Len()
		m.bytes += m.weights.Bytes(t.Len()/t.Shape[len(t.Shape)-1], t.Shape[len(t.Shape)-1])
	}
	replicas := h.o.Slots
	if params > copied {
		replicas = 1
	}
	m.room = make(chan struct{}, replicas)
	for range replicas {
		m.room <- struct{}{}
	}
	h.mu.Lock()
	old := h.forget(s.Name) // another one of that name
	h.models[s.Name] = m
	h.mu.Unlock()
	for _, r := range old {
		r.free()
	}
	return m, nil
}

// vocabOf finds the tokenizer of a folder by its bytes: models trained from one
// another share one.
func (h *hub) vocabOf(files fs.FS) (*vocab, error) {
	sum := sha256.New()
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		raw, err := token.ReadFile(files, name)
		switch {
		case err == nil:
			sum.Write(raw)
		case name == "tokenizer.json" && errors.Is(err, fs.ErrNotExist):
			return nil, errors.New("holds no tokenizer.json, which questions need")
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	// A chat template of its own, beside these, may ask for another layout.
	switch raw, err := token.ReadFile(files, "chat_template.jinja"); {
	case err == nil:
		sum.Write([]byte("\x00chat_template.jinja\x00"))
		sum.Write(raw)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	name := hex.EncodeToString(sum.Sum(nil)[:8])
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vocabs[name] == nil {
		v := &vocab{name: name, files: files, other: h.o.Format}
		v.compact = sync.OnceValues(func() (*asset, error) {
			tok, _, err := v.open()
			if err != nil {
				return nil, err
			}
			return newAsset("application/octet-stream", tok.Compact())
		})
		h.vocabs[name] = v
	}
	return h.vocabs[name], nil
}

// find is the model of that name, or nil.
func (h *hub) find(name string) *model {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.models[name]
}

func (h *hub) findVocab(name string) *vocab {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.vocabs[name]
}

// first is the model that is asked by default.
func (h *hub) first() *model {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.models[h.order[0]]
}

// list is the served models for readers.
func (h *hub) list() []wire.Model {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []wire.Model
	for _, name := range h.order {
		out = append(out, h.models[name].wire())
	}
	return out
}

func (m *model) wire() wire.Model {
	return wire.Model{Name: m.Name, Label: clip(m.About, 200), Vocab: m.vocab.name, Run: m.run, Step: m.step, Reads: min(m.reads, wire.MaxReads)}
}

// take waits for room and gets a replica.
func (h *hub) take(ctx context.Context, m *model) (*replica, error) {
	select {
	case <-m.room:
		return h.get(m, ctx.Err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// get gets a replica for an entry of m.room: an idle one, or a new one, whose reading
// ends with the first error of unwanted. give or lose puts the entry back, get itself
// where it fails.
func (h *hub) get(m *model, unwanted func() error) (r *replica, err error) {
	h.mu.Lock()
	m.used = time.Now()
	if n := len(m.idle); n > 0 {
		r = m.idle[n-1]
		m.idle = m.idle[:n-1]
		h.mu.Unlock()
		return r, nil
	}
	h.mu.Unlock()
	defer func() {
		if r == nil { // after a panic too
			h.leave(m)
		}
	}()
	r, err = h.load(m, unwanted)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, failed(wire.CodeNoModel, "model %q is no longer there", m.Name)
	case err != nil:
		return nil, fmt.Errorf("model %q: %w", m.Name, err)
	}
	return r, nil
}

func (h *hub) load(m *model, unwanted func() error) (*replica, error) {
	tok, form, err := m.vocab.open()
	if err != nil {
		return nil, err
	}
	var lm *llama.Model
	err = h.withRoom(func() (err error) {
		lm, err = llama.LoadReadOnly(h.o.Device, m.Files, m.weights, func(int64, int64) error { return unwanted() })
		return err
	})
	if err != nil {
		return nil, err
	}
	if tok.Size() > lm.Config.Vocab {
		lm.Free()
		return nil, fmt.Errorf("tokenizer.json has %d tokens, the model %d", tok.Size(), lm.Config.Vocab)
	}
	e := engine.New(lm, tok, engine.Options{CacheBytes: h.o.CacheBytes})
	stop := slices.Clone(form.End)
	for _, id := range lm.Config.EOS {
		if !slices.Contains(stop, id) {
			stop = append(stop, id)
		}
	}
	return &replica{hub: h, of: m, model: lm, engine: e, tok: tok, form: form, stop: stop}, nil
}

// give returns a replica; those of the models unused for longest are freed when
// too much lies idle.
func (h *hub) give(r *replica) {
	h.mu.Lock()
	m := r.of
	m.used = time.Now()
	if h.closed || m.dead {
		h.mu.Unlock()
		r.free()
	} else {
		h.turn++
		r.turn, r.cache = h.turn, true
		m.idle = append(m.idle, r)
		spare := h.spare()
		h.rest()
		h.mu.Unlock()
		for _, x := range spare {
			x.free()
		}
	}
	h.leave(m)
}

// lose is give for a replica that must not be used again.
func (h *hub) lose(r *replica) {
	r.free()
	h.leave(r.of)
}

func (h *hub) leave(m *model) {
	m.room <- struct{}{}
	if h.freed != nil {
		h.freed()
	}
}

// spare takes out the idle replicas beyond the budget. The last one of the model
// that was used last stays, however large it is: the next question is most likely
// for that model, and would read it from disk again.
func (h *hub) spare() []*replica {
	var out []*replica
	for {
		var total int64
		var latest, oldest *model
		for _, m := range h.models {
			if len(m.idle) == 0 {
				continue
			}
			total += m.bytes * int64(len(m.idle))
			if latest == nil || m.used.After(latest.used) {
				latest = m
			}
		}
		for _, m := range h.models {
			if len(m.idle) > 0 && (m != latest || len(m.idle) > 1) && (oldest == nil || m.used.Before(oldest.used)) {
				oldest = m
			}
		}
		if oldest == nil || total <= h.o.IdleBytes {
			return out
		}
		n := len(oldest.idle) - 1
		out = append(out, oldest.idle[n])
		oldest.idle = oldest.idle[:n]
	}
}

// rest takes the memory for keys and values from all idle replicas but the latest,
// one a slot: it is soon had again, and may be more than a small model's weights.
func (h *hub) rest() {
	var with []*replica
	for _, m := range h.models {
		for _, r := range m.idle {
			if r.cache {
				with = append(with, r)
			}
		}
	}
	slices.SortFunc(with, func(a, b *replica) int { return b.turn - a.turn })
	for _, r := range with[min(h.o.Slots, len(with)):] {
		r.engine.Close() // the next question makes another
		r.cache = false
	}
}

// drop makes models unknown and frees what lies idle of them.
func (h *hub) drop(names ...string) {
	h.mu.Lock()
	var out []*replica
	for _, name := range names {
		out = append(out, h.forget(name)...)
	}
	h.mu.Unlock()
	for _, r := range out {
		r.free()
	}
}

// forget makes a model unknown, if there is one, and takes out what lies idle of it.
func (h *hub) forget(name string) (idle []*replica) {
	if m := h.models[name]; m != nil {
		m.dead, idle, m.idle = true, m.idle, nil // what is in use is freed when it is given back
		delete(h.models, name)
	}
	return idle
}

// relist puts others in the place of models, where the first of these is listed.
func (h *hub) relist(old, names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := func(name string) bool { return slices.Contains(old, name) }
	at := max(slices.IndexFunc(h.order, was), 0)
	h.order = slices.Insert(slices.DeleteFunc(slices.Clone(h.order), was), at, names...)
}

// retire makes a model unknown that is not listed any more, once nothing of it is loaded.
func (h *hub) retire(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.models[name]; m != nil && (len(m.idle) > 0 || len(m.room) < cap(m.room)) {
		return false
	}
	h.forget(name)
	return true
}

func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.clear()
}

// clear frees all that lies idle, and tells whether anything did.
func (h *hub) clear() bool {
	h.clearing.Lock() // who comes second finds the memory free
	defer h.clearing.Unlock()
	h.mu.Lock()
	var out []*replica
	for _, m := range h.models {
		out = append(out, m.idle...)
		m.idle = nil
	}
	h.mu.Unlock()
	for _, r := range out {
		r.free()
	}
	h.cleared.Add(int64(len(out)))
	return len(out) > 0
}

// withRoom does what takes memory, and where a card has none for it once more without what
// lies idle.
func (h *hub) withRoom(do func() error) error {
	before := h.cleared.Load()
	err := do()
	if errors.Is(err, device.ErrNoMemory) && (h.clear() || h.cleared.Load() != before) { // or for another meanwhile
		err = do()
	}
	return err
}

// generate has the engine do the requests, if there is memory to read them; what lies
// idle goes where there is too little.
func (r *replica) generate(ctx context.Context, reqs []engine.Request, emit func(engine.Event)) (results []engine.Result, err error) {
	more := r.engine.More(reqs...)
	need, free := more.Bytes(r.hub.o.Device), r.hub.o.Free()
	short := func() bool { return free > 0 && need > free }
	if short() {
		r.hub.clear()
		debug.FreeOSMemory() // what Go has got back does not look free before
		free = r.hub.o.Free()
	}
	if short() {
		return nil, failed(wire.CodeTooLong, "reading this takes %.1f GB, and %.1f GB are free: want a shorter text, or fewer at once", float64(need)/1e9, float64(free)/1e9)
	}
	err = r.hub.withRoom(func() error {
		results, err = r.engine.Generate(ctx, reqs, emit)
		return err
	})
	if errors.Is(err, device.ErrNoMemory) { // others took what was free
		err = failed(wire.CodeBusy, "no memory is left to read this beside what is read now; try again in a moment, or ask for less at once")
	}
	return results, err
}

func (r *replica) free() {
	r.engine.Close()
	r.model.Free()
}
