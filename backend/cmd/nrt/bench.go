package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/data"
)

// benchParts are what nrt bench measures, in this order. bench_machine.go has
// the first two, bench_train.go, bench_serve.go and bench_token.go the others.
var benchParts = []struct {
	name    string
	measure func(*bench) error
	model   bool // needs the weights
	marked  bool // has a run that --profile marks
}{
	{"machine", (*bench).machine, false, false},
	{"matmul", (*bench).matmul, false, false},
	{"train", (*bench).train, true, true},
	{"prefix", (*bench).prefix, true, false},
	{"prefill", (*bench).prefill, true, true},
	{"decode", (*bench).decode, true, true},
	{"score", (*bench).score, true, false},
	{"rollout", (*bench).rollout, true, false},
	{"tokenizer", (*bench).tokenizer, false, false},
}

func benchPartNames() []string {
	var names []string
	for _, p := range benchParts {
		names = append(names, p.name)
	}
	return names
}

func benchCommand() *command {
	return &command{
		name: "bench", group: groupAbout, args: "[--shape NAME | --model M] [flags]",
		short: "measure this machine",
		long: `
Each line is the median of at least three runs, with the slowest and the fastest.
GFLOP/s are set beside the peak of this machine's multiply-adds, GB/s of weights
beside how fast it reads as much memory: the fastest run of each, measured in the
same minutes. Nothing else should run meanwhile: the last lines say what did, and
how far apart two threads are, which small work depends on. docs/performance.md
says more, and has other programs' figures.

What is measured, unless --only chooses:

  machine    multiply-adds without memory, and reading
  matmul     products of the shape's matrices, and square ones
  train      a step of 16 × 128 tokens: forward, backward, AdamW
  prefix     a training step of 8 chains that share a prompt, and that do not
  prefill    a prompt of 256 tokens up to its first new token
  decode     112 tokens after 16, one sequence and 16
  score      a reference after each of 8 chains, from their caches and anew
  rollout    8 chains of 32 tokens for each of 2 questions, and their scores
  tokenizer  text to ids

A card gets more at once: 8 × 1024 tokens to train on, prompts of 1024, up to 256
sequences, chains of 512 and 32 questions. The limits set beside are then its
fastest product and copy. A rollout is one run there. A training step that does
not fit recomputes layers or keeps moments in 8 bits, and says so.

--profile marks, on a card, what a profiler shall look at: of train, prefill and
decode one run each after two that warm up. The training step has two layers then,
and of decoding two steps count, since a profiler takes long for every kernel. Run
it under one that waits for the marks, as ncu --profile-from-start off.`,
		examples: []string{
			"nrt bench",
			"nrt bench --shape 135m --only matmul,decode",
			"nrt bench --shape 1b --only decode --weights bf16",
			"nrt bench --device cuda --shape 8b",
			"nrt bench --device cuda --shape 1b --profile --only decode --at 1",
			"nrt bench --model DIR --seconds 3 --json > bench.json",
		},
		bind: func(f *flags) func(*env) error {
			o := benchOptions{seconds: 1, shape: "tiny", large: 1 << 30}
			names := make([]string, len(benchShapes))
			about := "random weights of a shape, one of these"
			for i, s := range benchShapes {
				names[i] = s.name
				about += fmt.Sprintf("\n%-6s %s", s.name, s.about)
			}
			only, at, asJSON := "", "", false
			f.text(&o.shape, "shape", "NAME", about)
			f.text(&o.model, "model", "M", "a Hugging Face folder, or a name that \"nrt models\" lists, in place of a shape")
			f.text(&only, "only", "PARTS", "measure these alone, separated by commas")
			f.text(&at, "at", "N,N", "decode so many sequences at once, in place of 1 and 16 or what a card gets")
			f.toggle(&o.profile, "profile", "mark one run of each line for a profiler of NVIDIA's")
			f.text(&o.text, "text", "FILE", "what the tokenizer reads; made up otherwise")
			f.number(&o.seconds, "seconds", "S", "time for each line, at least")
			o.weights = formatFlag{device.AsStored}
			f.value(&o.weights, "weights", "F", weightsUsage+"; training keeps f32")
			o.on.bind(f)
			f.json(&asJSON)
			return func(e *env) error {
				switch {
				case !(o.seconds > 0) || math.IsInf(o.seconds, 0):
					return usagef("--seconds: want more than 0 and an end, have %g", o.seconds)
				case o.model != "" && f.given("shape"):
					return usagef("--shape and --model: want one of them")
				case o.model == "" && !slices.Contains(names, o.shape):
					return usagef("--shape: want %s, have %q", strings.Join(names, ", "), o.shape)
				}
				for p := range strings.SplitSeq(only, ",") {
					if p = strings.TrimSpace(p); p == "" {
						continue
					} else if !slices.Contains(benchPartNames(), p) {
						return usagef("--only: want parts of %s, have %q", strings.Join(benchPartNames(), ","), p)
					}
					o.only = append(o.only, p)
				}
				for _, x := range [][2]string{{"at", "decode"}, {"text", "tokenizer"}} {
					if f.given(x[0]) && len(o.only) > 0 && !slices.Contains(o.only, x[1]) {
						return usagef("--%s: is for the part %s, which --only leaves out", x[0], x[1])
					}
				}
				var err error
				if o.at, err = widths(at); err != nil {
					return err
				}
				if err := o.checkProfile(); err != nil {
					return err
				}
				report, err := e.bench(o)
				if err != nil {
					return err
				}
				if asJSON {
					return e.printJSON(report, true)
				}
				report.print(e.out)
				return nil
			}
		},
	}
}

// benchOptions are what a call of nrt bench asks for.
type benchOptions struct {
	shape, model string // one of them; model goes first
	only         []string
	at           []int // how many sequences decode takes at once; nil for the usual ones
	profile      bool
	text         string
	seconds      float64
	on           deviceFlags
	weights      formatFlag // of prefill, decode and score
	// large is how many bytes surely come from memory, not from a cache.
	large int
}

// bench is one run of nrt bench.
type bench struct {
	benchReport
	o       benchOptions
	e       *env
	dev     *place
	kernels string // as package peak names them
	config  llama.Config
	files   fs.FS            // of --model, else nil
	tok     *token.Tokenizer // of --model, where the part tokenizer needs it
	text    string           // of --text
	model   *llama.Model     // nil until a part needs it
	learns  bool             // the model is one to train, not one to serve
	lengths benchLengths
	unused  int64 // bytes free before anything was made; 0 where that is not known

	peakRate spread         // FLOP/s that no product surpasses; zero until measured
	reading  map[int]spread // bytes → B/s of reading so much memory again and again
}

// bench measures the parts one by one. A part that memory has no room for is
// left out, with the numbers, and so is that of a tokenizer which the model lacks,
// unless it was asked for by name.
func (e *env) bench(o benchOptions) (report *benchReport, err error) {
	b := &bench{o: o, e: e, reading: map[int]spread{}}
	if o.text != "" {
		if err := data.Try(o.text); err != nil {
			return nil, fmt.Errorf("--text: %w", err)
		}
		raw, err := os.ReadFile(o.text)
		if err == nil && len(raw) == 0 {
			err = fmt.Errorf("%s is empty", o.text)
		}
		if err != nil {
			return nil, fmt.Errorf("--text: %w", err)
		}
		b.text = string(raw)
	}
	if o.model != "" {
		if b.files, err = e.modelFiles(o.model); err != nil {
			return nil, err
		}
		if b.config, err = llama.ReadConfig(b.files); err != nil {
			return nil, fmt.Errorf("model %q: %w", o.model, err)
		}
	} else {
		for _, s := range benchShapes {
			if s.name == o.shape {
				b.config = s.config
			}
		}
	}
	if b.dev, err = e.compute(o.on); err != nil {
		return nil, err
	}
	defer func() {
		if b.model != nil {
			b.model.Free()
		}
		err = errors.Join(err, b.dev.Close())
	}()
	if b.o.weights.Format = b.o.weights.on(b.dev); b.o.weights.Format == device.AsStored {
		b.o.weights.Format = device.F32 // of random weights
		if b.files != nil {
			if b.o.weights.Format, err = llama.Stored(b.files); err != nil {
				return nil, fmt.Errorf("model %q: %w", o.model, err)
			}
		}
	}
	if b.o.on.threads == 0 {
		b.o.on.threads = runtime.GOMAXPROCS(0)
	}
	if words := strings.Fields(b.dev.Name()); b.dev.kind == "cpu" && len(words) > 1 {
		b.kernels = words[1]
	}
	if o.profile && !b.onCard() {
		return nil, usagef("--profile: marks are for a profiler of NVIDIA's cards, and this computes on the CPU; see \"nrt devices\"")
	}
	b.lengths, b.unused = lengths(b.config, b.onCard()), b.dev.free()
	if o.at != nil {
		b.lengths.at = o.at
	}
	b.describe()
	chosen := benchParts[:0:0]
	for _, p := range benchParts {
		if len(o.only) == 0 && (!o.profile || p.marked) || slices.Contains(o.only, p.name) {
			if p.name == "tokenizer" && o.model != "" {
				if b.tok, err = e.tokenizer(o.model); err != nil && len(o.only) > 0 {
					return nil, err
				} else if err != nil {
					b.LeftOut = append(b.LeftOut, benchLeftOut{p.name, err.Error()})
					continue
				}
			}
			chosen = append(chosen, p)
		}
	}
	for _, p := range chosen { // before the others take their time
		if p.model {
			if err := b.fits("the model", b.servingBytes(), false); err != nil {
				return nil, err
			}
		}
	}
	before, told := busyIn(os.DirFS("/"))
	b.trip()
	for _, p := range chosen {
		var memory *memoryError
		switch err := p.measure(b); {
		case errors.As(err, &memory) && memory.part && len(o.only) == 0:
			b.LeftOut = append(b.LeftOut, benchLeftOut{p.name, err.Error()})
		case err != nil:
			return nil, err
		}
		debug.FreeOSMemory() // the next part shall not pay for this one's garbage
		b.trip()
	}
	if now, ok := busyIn(os.DirFS("/")); ok && told {
		share := before.elsewhere(now)
		b.Elsewhere = &share
	}
	return &b.benchReport, nil
}

// weightsFor makes the model, or loads it, when the first part needs it, if what
// the part itself needs fits beside it. A model that learns has its weights in
// float32 and packed for the kernels; one that serves has them packed alone, in
// the format of --weights.
func (b *bench) weightsFor(part string, bytes int64, learns bool) (*llama.Model, error) {
	if b.model != nil && b.learns == learns {
		return b.model, b.fits(part, bytes, true)
	}
	if b.model != nil {
		b.model.Free()
		b.model = nil
		debug.FreeOSMemory()
	}
	weights := b.servingBytes()
	if learns {
		weights = b.trainingBytes()
	}
	if err := b.fits(part+" and the model", bytes+weights, true); err != nil {
		return nil, err
	}
	var err error
	if b.files != nil {
		b.progress("loading %s", b.o.model)
	} else {
		b.progress("drawing %s random weights", millions(parameters(b.config)))
	}
	show, shown := b.e.loading()
	defer shown()
	switch {
	case b.files != nil && learns:
		b.model, err = llama.Load(b.dev, b.files, show)
	case b.files != nil:
		b.model, err = llama.LoadReadOnly(b.dev, b.files, b.o.weights.Format, show)
	case learns:
		b.model, err = llama.NewFrom(b.dev, b.config, arbitraryWeights(b.config))
	default:
		b.model, err = llama.NewReadOnlyFrom(b.dev, b.config, b.o.weights.Format, arbitraryWeights(b.config))
	}
	b.learns = learns
	return b.model, err
}

// progress tells on standard error what is being measured.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.e.err, "bench: "+format+"\n", args...)
}
