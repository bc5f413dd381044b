package server

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"nrt/backend/device"
	"nrt/trainer/world"
	"nrt/web/wire"
)

// Options say what is served, what computes, who may ask, and within which bounds.
// Models and Device are needed; of all else the zero value does.
type Options struct {
	// What is served.
	Models  []Source      // the first is asked by default
	World   *world.World  // questions of examples and training; may be nil
	Saved   []SavedRun    // training runs to show before any is started
	Weights device.Format // of the models that readers ask; AsStored is each one's own
	Format  string        // layout of questions to models whose chat template is none of the known ones; "" refuses those
	Version string

	// What computes for readers, and the bytes that it may still take: 0 if that is not
	// known. A nil Free knows nothing.
	Device device.Device
	Free   func() int64
	Train  Training

	// Who may ask.
	Token   string         // what a reader must know; "" asks for none
	Hosts   []string       // names that the server goes by, beside loopback and addresses
	Proxies []netip.Prefix // whose X-Forwarded-For names the reader's address, and -Proto how it came

	Limits
	Log *slog.Logger // nil is silent

	onToken func()           // tests slow a model down with it: nothing
	now     func() time.Time // by which allowances grow: time.Now
	held    int              // questions of the small world asked at every kept step: 140
	silence time.Duration    // that a stream keeps before it says that it is there: 15 s
}

// Source is a model that can be asked.
type Source struct {
	Name  string    // as a reader names it, such as "world:nrt": up to 200 bytes
	About string    // one line for people
	Files fs.FS     // a Hugging Face folder with its tokenizer
	World bool      // it knows the small world: short chains, words for tokens
	Made  time.Time // of a SavedRun's model: another one may come to bear its name
}

// Training says how runs that readers start are computed and where they lie. Without
// Device or Dir readers cannot train.
type Training struct {
	Device   device.Device
	Free     func() int64 // as Options.Free
	On, Type string       // what the device is, as a run's train.device and train.dtype
	Dir      string       // keeps the runs; a server that is started again goes on with them
	Base     string       // model that a run starts from by default; "" is the first served
}

// Limits are the bounds on what readers take. Zero is the default noted.
type Limits struct {
	Slots     int // questions that compute at once: 4
	Queue     int // questions that wait: 64
	QueueEach int // of one reader: 4
	Burst     int // requests of one address to /v1 at once, which may all wait: 30
	Conns     int // connections of the page: 512
	ConnsEach int // of one address: 128

	Chain    int // longest chain in tokens: 512
	Steps    int // of one run: 2000
	Runs     int // that train at once: 2
	KeepRuns int // kept on disk; an ended one goes, if need be: 20

	LogBytes    int   // of messages kept for one reader, or of events for one stream of /v1: 2 MiB
	AllLogBytes int64 // of messages kept for all readers; beyond it each keeps no more than its share: 256 MiB
	StreamBytes int64 // of events and answers of /v1 that readers have not taken, beside one a stream: 64 MiB
	SocketBytes int   // of the kernel's buffer for one reader: 256 KiB
	CacheBytes  int64 // of keys and values of one slot: 256 MiB
	IdleBytes   int64 // of models' weights kept that nobody asks: 512 MiB; the model used last is kept whatever it has

	Frame       time.Duration // between two frames of one question: 25 ms
	Grace       time.Duration // for a lost connection to come back: 20 s
	HelloWithin time.Duration // after connecting: 10 s
	Silence     time.Duration // longest, of a reader; pings are answered: 60 s
	PingEvery   time.Duration // 20 s
	WriteWithin time.Duration // for one message to leave: 10 s
}

// usual are the defaults.
var usual = Limits{
	Slots: 4, Queue: 64, QueueEach: 4, Burst: askBurst, Conns: 512, ConnsEach: 128,
	Chain: 512, Steps: 2000, Runs: 2, KeepRuns: 20,
	LogBytes: 2 << 20, AllLogBytes: 256 << 20, StreamBytes: 64 << 20, SocketBytes: 256 << 10, CacheBytes: 256 << 20, IdleBytes: 512 << 20,
	Frame: 25 * time.Millisecond, Grace: 20 * time.Second, HelloWithin: 10 * time.Second,
	Silence: time.Minute, PingEvery: 20 * time.Second, WriteWithin: 10 * time.Second,
}

// defaults puts the defaults in the place of zeros, and refuses what is less.
func (l *Limits) defaults() error {
	v, from := reflect.ValueOf(l).Elem(), reflect.ValueOf(usual)
	for i := range v.NumField() {
		switch n := v.Field(i).Int(); {
		case n < 0:
			return fmt.Errorf("Limits.%s: want 0 or more, have %v", v.Type().Field(i).Name, v.Field(i))
		case n == 0:
			v.Field(i).Set(from.Field(i))
		}
	}
	return nil
}

// MostRuns is how many runs can be kept beside the models: all that readers can ask is
// listed in one message.
func (o *Options) MostRuns() int {
	models := len(o.Models)
	for _, r := range o.Saved {
		if r.Look != nil {
			models += wire.MaxReaders - len(r.Models) // which it may come to have
		}
	}
	return max(0, (wire.MaxModels-models)/10) // a run keeps up to ten
}

// defaults fills in what was left open, and refuses what cannot be served.
func (o *Options) defaults() error {
	if err := o.Limits.defaults(); err != nil {
		return err
	}
	most := o.MostRuns()
	for _, r := range o.Saved {
		if err := r.validate(); err != nil {
			return fmt.Errorf("training run %q: %w", r.State.Run, err)
		}
	}
	switch {
	case len(o.Models) == 0:
		return errors.New("no models to serve")
	case o.Device == nil:
		return errors.New("no device to compute with")
	case strings.ContainsFunc(o.Token, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`",;\`, c) }):
		return errors.New(`token: want letters, digits and signs of ASCII, without spaces and ",;\, as browsers keep it in a cookie`)
	case o.Chain > wire.MaxChain:
		return fmt.Errorf("Limits.Chain: want at most %d, which readers can ask for, have %d", wire.MaxChain, o.Chain)
	case o.KeepRuns > most:
		return fmt.Errorf("Limits.KeepRuns: want at most %d beside %d models, have %d", most, len(o.Models), o.KeepRuns)
	}
	unknown := func() int64 { return 0 }
	if o.Free == nil {
		o.Free = unknown
	}
	if o.Train.Free == nil {
		o.Train.Free = unknown
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Train.Base = cmp.Or(o.Train.Base, o.Models[0].Name)
	o.held = cmp.Or(o.held, 140)
	o.silence = cmp.Or(o.silence, 15*time.Second)
	if o.onToken == nil {
		o.onToken = func() {}
	}
	if o.now == nil {
		o.now = time.Now
	}
	return nil
}
