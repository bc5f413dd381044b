package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/web/wire"
)

// counting counts how often weights are opened.
type counting struct {
	fs.FS
	n *atomic.Int64
}

func (c counting) Open(name string) (fs.File, error) {
	if name == "model.safetensors" {
		c.n.Add(1)
	}
	return c.FS.Open(name)
}

// TestModelInUseStays: a model larger than what may lie idle is read once for
// questions one after the other; when another one is asked, it goes.
func TestModelInUseStays(t *testing.T) {
	var n atomic.Int64
	r := start(t, func(o *Options) {
		o.Models[0].Files = counting{o.Models[0].Files, &n}
		o.Models = append(o.Models, Source{Name: "world:nrt", Files: embedded(t, "world:nrt")})
		o.IdleBytes = 1 << 20 // less than one of the two
	})
	r.post("completions", textRequest(object{"max_tokens": 1}))
	once := n.Load()
	for range 4 {
		r.post("completions", textRequest(object{"max_tokens": 1}))
	}
	if once == 0 || n.Load() != once {
		t.Errorf("the first question opened the weights %d times, four more of them %d times", once, n.Load()-once)
	}
	r.post("completions", textRequest(object{"max_tokens": 1, "model": "world:nrt"}))
	settled(t, "replicas", func() bool { return r.idleOf("world:base") == 0 && r.idleOf("world:nrt") == 1 })
}

// cramped is a card that has room for so many matrices of read-only weights.
type cramped struct {
	device.Device
	room  atomic.Int64
	short func() // hears of a lack; may be nil
}

func (c *cramped) NewWeights(f device.Format, rows, cols int, read func(int, []float32) error) (device.Weights, error) {
	if c.room.Add(-1) < 0 {
		c.room.Add(1)
		if c.short != nil {
			c.short()
		}
		return nil, fmt.Errorf("weights: %w", device.ErrNoMemory)
	}
	return c.Device.NewWeights(f, rows, cols, read)
}

func (c *cramped) Free(b device.Buffer) {
	if _, ok := b.(device.Weights); ok {
		c.room.Add(1)
	}
	c.Device.Free(b)
}

// TestIdleMakesRoom: what lies idle goes where a card has no room beside it for the model
// that is asked, and one for which there is none at all is told of and disturbs no other.
func TestIdleMakesRoom(t *testing.T) {
	var c *cramped
	r := start(t, func(o *Options) {
		c = &cramped{Device: o.Device}
		o.Device = c
		o.Models = append(o.Models, Source{Name: "world:nrt", Files: embedded(t, "world:nrt")})
	})
	c.room.Store(1 << 30)
	good[textWhole](r, "completions", textRequest(nil))
	c.room.Store(0)
	if have := good[textWhole](r, "completions", textRequest(object{"model": "world:nrt"})); have.Choices[0].Text == "" {
		t.Error("the second model does not answer")
	}
	if a, b := r.idleOf("world:base"), r.idleOf("world:nrt"); a != 0 || b != 1 {
		t.Errorf("%d and %d replicas lie idle, want 0 and 1", a, b)
	}
	c.room.Add(-1)
	if resp, text := r.post("completions", textRequest(nil)); resp.StatusCode != http.StatusInternalServerError || !strings.Contains(text, "no memory") {
		t.Errorf("a model that is too large: %d %s", resp.StatusCode, text)
	}
	c.room.Add(1)
	if have := good[textWhole](r, "completions", textRequest(nil)); have.Choices[0].Text == "" {
		t.Error("the first model does not answer any more")
	}
	c.room.Store(0)
	c.short = func() { r.hub.clear() }
	if have := good[textWhole](r, "completions", textRequest(object{"model": "world:nrt"})); have.Choices[0].Text == "" {
		t.Error("a model for which another's reader has just made room does not answer")
	}
}

// full is a card that has no memory for keys and values while full says so.
type full struct {
	device.Device
	full func() bool
}

func (f *full) Reserve(k device.Kind, n int) (device.Buffer, error) {
	if f.full() {
		return nil, fmt.Errorf("keys: %w", device.ErrNoMemory)
	}
	return f.Device.Reserve(k, n)
}

// TestNoMemoryToRead: what lies idle goes where a card has no memory for a question's keys
// and values. Where there still is none the reader is asked to try again, and the model
// answers the next.
func TestNoMemoryToRead(t *testing.T) {
	f := &full{full: func() bool { return false }}
	r := start(t, func(o *Options) {
		f.Device, o.Device = o.Device, f
		o.Models = append(o.Models, Source{Name: "world:nrt", Files: embedded(t, "world:nrt")})
	})
	other := textRequest(object{"model": "world:nrt"})
	for _, ask := range []func(){
		func() {
			resp, body := r.post("completions", textRequest(nil))
			if e := told(t, body); resp.StatusCode != http.StatusServiceUnavailable || value(e.Code) != "busy" || resp.Header.Get("Retry-After") == "" {
				t.Errorf("without memory: %d %s", resp.StatusCode, body)
			}
		},
		func() {
			page := r.reader(nil)
			page.say(question())
			if f := expect[*wire.Failed](page); f.Code != wire.CodeBusy || !strings.Contains(f.Message, "no memory is left") {
				t.Errorf("a question of the page without memory: %+v", f)
			}
		},
	} {
		good[textWhole](r, "completions", other)
		tries := 0
		f.full = func() bool { tries++; return true }
		ask()
		if tries != 2 {
			t.Errorf("memory was asked for %d times, want once more after another model has gone", tries)
		}
		f.full = func() bool { return r.idleOf("world:nrt") > 0 }
		good[textWhole](r, "completions", other)
		if have := good[textWhole](r, "completions", textRequest(nil)); have.Choices[0].Text == "" {
			t.Error("what lay idle made no room")
		}
	}
}

func (r *rig) idleOf(name string) int {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return len(r.hub.models[name].idle)
}

// TestIdleCaches: of the idle replicas as many as there are slots keep the memory
// for keys and values, those that were used last.
func TestIdleCaches(t *testing.T) {
	r := start(t, func(o *Options) {
		o.Slots = 2
		o.Models = append(o.Models, Source{Name: "world:nrt", Files: embedded(t, "world:nrt")})
	})
	take := func(name string) *replica {
		x, err := r.hub.take(t.Context(), r.hub.find(name))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	a, b, c := take("world:base"), take("world:base"), take("world:nrt")
	for _, x := range []*replica{a, b, c} {
		r.hub.give(x)
		time.Sleep(time.Millisecond)
	}
	if a.cache || !b.cache || !c.cache {
		t.Errorf("caches %v %v %v, want the last two", a.cache, b.cache, c.cache)
	}
	if have := good[textWhole](r, "completions", textRequest(nil)); have.Choices[0].Text == "" {
		t.Error("a replica without a cache does not answer")
	}
}

// held waits, when weights are read for a time, until it is let go.
type held struct {
	fs.FS
	at    int64
	begun chan struct{}
	let   <-chan struct{}
	reads *atomic.Int64
}

type heldFile struct {
	fs.File
	of held
}

func (h held) Open(name string) (fs.File, error) {
	f, err := h.FS.Open(name)
	if err == nil && name == "model.safetensors" {
		f = heldFile{f, h}
	}
	return f, err
}

func (f heldFile) ReadAt(p []byte, at int64) (int, error) {
	if f.of.reads.Add(1) == f.of.at {
		close(f.of.begun)
		<-f.of.let
	}
	return f.File.(io.ReaderAt).ReadAt(p, at)
}

// TestLeaveWhileLoading: a server that is to stop does not read a model to its end. A
// reader who goes away leaves it to those who come after.
func TestLeaveWhileLoading(t *testing.T) {
	files := embedded(t, "world:base")
	var reads atomic.Int64
	r := start(t, func(o *Options) { o.Models[0].Files = held{files, -1, nil, nil, &reads} })
	r.post("completions", textRequest(object{"max_tokens": 1}))
	all := reads.Load()

	// asked is a server that a reader asks, half-way through the model.
	asked := func(let chan struct{}) (r *rig, leave func()) {
		reads.Store(0)
		begun := make(chan struct{})
		r = start(t, func(o *Options) { o.Models[0].Files = held{files, all / 2, begun, let, &reads} })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if resp, err := r.open(ctx, "completions", textRequest(object{"max_tokens": 1})); err == nil {
				resp.Body.Close()
			}
		}()
		<-begun
		return r, func() { cancel(); <-ended }
	}
	let := make(chan struct{})
	r, leave := asked(let)
	leave()
	if busy, _ := r.sched.load(); busy != 1 {
		t.Error("what nobody waits for is read outside of a slot: any number at once")
	}
	close(let)
	settled(t, "replicas", func() bool { return r.idleOf("world:base") == 1 })
	if reads.Load() != all {
		t.Errorf("read %d times after its reader left, want %d", reads.Load(), all)
	}

	let = make(chan struct{})
	r, leave = asked(let)
	closed := make(chan error)
	go func() { closed <- r.Close() }()
	<-r.ctx.Done()
	close(let)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	leave()
	if reads.Load() != all/2 {
		t.Errorf("read %d times after the server was to stop, want %d", reads.Load(), all/2)
	}
}

// TestStopWhileLoading: who calls a question off hears so at once, though its model is
// still being read. That ends, unless somebody else waits for the model.
func TestStopWhileLoading(t *testing.T) {
	whole := int64(0) // times that a model is read from
	for _, alone := range []bool{true, false} {
		files := embedded(t, "world:base")
		var reads atomic.Int64
		begun, let := make(chan struct{}), make(chan struct{})
		r := start(t, func(o *Options) {
			o.Models[0].Files, o.Slots = held{files, 3, begun, let, &reads}, 1
		})
		c, other := r.reader(nil), r.reader(nil)
		c.say(question())
		<-begun
		if !alone {
			other.say(question())
			expect[*wire.Queued](other)
		}
		c.say(&wire.Cancel{Head: wire.Head{ID: "q1"}})
		if e := expect[*wire.End](c); !e.Cancelled {
			t.Errorf("have %+v", e)
		}
		close(let)
		if alone {
			room := r.hub.find("world:base").room
			settled(t, "room", func() bool { return len(room) == cap(room) })
			if n := reads.Load(); n != 3 {
				t.Errorf("read %d times, want no more than the 3 before it was called off", n)
			}
			other.say(question())
		}
		expect[*wire.End](other)
		if n := reads.Load(); alone {
			whole = n - 3
		} else if n != whole {
			t.Errorf("read %d times, though another reader waited; want %d, once through", n, whole)
		}
	}
}

// TestMistakeInATokenizer: a panic while a tokenizer is read is not taken for one that
// was read.
func TestMistakeInATokenizer(t *testing.T) {
	var wrong atomic.Bool
	r := start(t, func(o *Options) { o.Models[0].Files = faulty{o.Models[0].Files, "tokenizer.json", &wrong} })
	wrong.Store(true)
	for _, want := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusServiceUnavailable} {
		if resp, body := r.get("/readyz"); resp.StatusCode != want {
			t.Errorf("have %d %s, want %d", resp.StatusCode, body, want)
		}
	}
	if resp, body := r.post("completions", textRequest(nil)); resp.StatusCode != http.StatusInternalServerError || !strings.Contains(body, errMistake.Error()) {
		t.Errorf("have %d %s", resp.StatusCode, body)
	}
}

// A model that the page could not be told of is refused, by its name; one that reads more
// than can be told is told of.
func TestModelsThatAreTold(t *testing.T) {
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for name, want := range map[string]string{
		"  ":                     `model "  ": name: missing`,
		strings.Repeat("m", 201): "name: 201 bytes; want at most 200",
	} {
		_, err := New(Options{Models: []Source{{Name: name, Files: embedded(t, "world:base")}}, Device: dev})
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("have %v, want %s", err, want)
		}
	}
	files := fstest.MapFS{}
	for _, name := range []string{"config.json", "tokenizer.json", "tokenizer_config.json"} {
		raw, err := fs.ReadFile(embedded(t, "world:base"), name)
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.Replace(raw, []byte(`"max_position_embeddings": 128`), []byte(`"max_position_embeddings": 1000000000`), 1)
		files[name] = &fstest.MapFile{Data: raw}
	}
	r := start(t, func(o *Options) { o.Models = []Source{{Name: "long", Files: files}} })
	if m := r.reader(nil).welcome.Models[0]; m.Reads != wire.MaxReads {
		t.Errorf("the page is told of %d tokens, want %d", m.Reads, wire.MaxReads)
	}
}
