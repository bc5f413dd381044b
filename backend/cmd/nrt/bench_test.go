package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"nrt/backend/cuda"
	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/trainer/run"
)

// Every part measures the smallest shape, and what it prints is sound.
func TestBenchMeasuresEveryPart(t *testing.T) {
	list, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	var progress strings.Builder
	e := &env{ctx: t.Context(), err: &progress, builtins: list, free: func() int64 { return run.FreeMemory(os.DirFS("/")) }}
	r, err := e.bench(benchOptions{shape: "world", seconds: 1e-3, large: 1 << 24})
	if err != nil {
		t.Fatal(err)
	}
	if r.Threads < 1 || r.Device == "" || r.Go == "" || r.Parameters < 300_000 || r.Parameters > 400_000 {
		t.Errorf("report is %+v", r)
	}
	seen := map[string]int{}
	for _, row := range r.Rows {
		seen[row.Part]++
		if !(row.Slowest > 0 && row.Slowest <= row.Rate && row.Rate <= row.Fastest) || math.IsInf(row.Fastest, 0) {
			t.Errorf("%s %s: median %g, slowest %g, fastest %g", row.Part, row.Work, row.Rate, row.Slowest, row.Fastest)
		}
		if row.Runs < minRuns {
			t.Errorf("%s %s: %d runs", row.Part, row.Work, row.Runs)
		}
		if (row.GFLOPs > 0) != (row.PeakShare > 0) || (row.GBps > 0) != (row.BandwidthShare > 0) || (row.Ratio > 0) != (row.Than != "") {
			t.Errorf("%s %s: a rate without its share: %+v", row.Part, row.Work, row)
		}
	}
	for _, p := range benchPartNames() {
		if seen[p] == 0 {
			t.Errorf("part %s has no line; left out are %+v", p, r.LeftOut)
		}
		if !strings.Contains(benchCommand().long, "\n  "+p+" ") {
			t.Errorf("the help does not tell of part %s", p)
		}
	}
	if p := r.Trip; (p != nil) != (r.Threads > 1) || p != nil && !(p.Shortest > 0 && p.Shortest <= p.Longest) {
		t.Errorf("with %d threads, from one to another and back in %+v", r.Threads, p)
	}
	if !strings.Contains(progress.String(), "bench: training step") {
		t.Errorf("no progress on standard error: %q", progress.String())
	}
}

func TestBenchJSON(t *testing.T) {
	var r benchReport
	out := setting{}.ok(t, "bench", "--shape", "world", "--seconds", "0.001", "--only", "prefill", "--threads", "1", "--json")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 1 || r.Rows[0].Part != "prefill" || r.Rows[0].Unit != "tokens/s" || r.Threads != 1 || r.Model != "world" || r.Trip != nil {
		t.Errorf("report is %+v", r)
	}
}

// What the tokenizer's part lacks is told before the others take their time: a model
// may have no tokenizer, and is measured without.
func TestBenchWithoutTokenizer(t *testing.T) {
	dir, empty := wordModel(t), filepath.Join(t.TempDir(), "empty.txt")
	writeFile(t, empty, "")
	if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--model " + dir + " --only prefill,tokenizer":           "holds no tokenizer.json",
		"--model testdata --only prefill":                        "holds no config.json",
		"--shape world --only prefill,tokenizer --text " + empty: "--text: " + empty + " is empty",
	} {
		code, out, errs := setting{}.nrt(t, append([]string{"bench", "--seconds", "0.001"}, strings.Fields(args)...)...)
		if code != exitFailure || !strings.Contains(errs, want) || strings.Contains(errs, "prefill of") || out != "" {
			t.Errorf("%s: exit %d, %q", args, code, errs)
		}
	}
	e := &env{ctx: t.Context(), err: io.Discard}
	r, err := e.bench(benchOptions{model: dir, seconds: 1e-3, large: 1 << 20})
	if err != nil || len(r.LeftOut) != 1 || r.LeftOut[0].Part != "tokenizer" || r.Rows[len(r.Rows)-1].Part != "rollout" {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestBenchOnlyAndTable(t *testing.T) {
	list, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	out := setting{builtins: list}.ok(t, "bench", "--model", "world:nrt", "--seconds", "0.001", "--only", "decode, tokenizer")
	for _, want := range []string{"world:nrt, 0.35 million parameters, weights in f32", "\ndecode ", "16 sequences", "GB/s of weights", "\ntokenizer "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	for _, not := range []string{"\ntrain", "\nmachine", "\nscore"} {
		if strings.Contains(out, not) {
			t.Errorf("%q was not asked for:\n%s", not, out)
		}
	}
	out = setting{builtins: list}.ok(t, "bench", "--model", "world:nrt", "--seconds", "0.001", "--only", "prefill,score,prefix", "--weights", "q8")
	for _, want := range []string{"weights in q8", "\nprefix ", "\nprefill ", "\nscore "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestBenchChecksMemory(t *testing.T) {
	free := int64(3e9)
	e := &env{ctx: t.Context(), err: &strings.Builder{}, free: func() int64 { return free }}
	o := benchOptions{shape: "1b", seconds: 1e-3, on: deviceFlags{threads: 1}}
	_, err := e.bench(o)
	var memory *memoryError
	if !errors.As(err, &memory) || !strings.Contains(err.Error(), "the model needs 4.9 GB of memory, and 3.0 GB are free") {
		t.Errorf("a model too large: %v", err)
	}
	// The world's model fits, its training step does not.
	o.shape, free = "world", 6e6
	o.only = []string{"train"}
	if _, err := e.bench(o); !errors.As(err, &memory) || !memory.part {
		t.Errorf("a step too large, asked for: %v", err)
	}
	b := &bench{o: o, dev: &place{kind: "cpu", e: e}}
	if err := b.fits("x", free+1, true); err == nil {
		t.Error("a byte too many fits")
	}
	free = 0
	if err := b.fits("x", 1<<60, true); err != nil {
		t.Errorf("memory is unknown: %v", err)
	}
}

func TestBusy(t *testing.T) {
	root := func(stat, self string) fstest.MapFS {
		return fstest.MapFS{"proc/stat": {Data: []byte(stat)}, "proc/self/stat": {Data: []byte(self)}}
	}
	//                             user nice sys idle wait irq soft steal guest
	before, ok := busyIn(root("cpu  100 10 20 1000 5 1 2 3 0 0\ncpu0 1\n", "7 (a ) b) R 1 1 1 0 -1 0 0 0 0 0 50 5 0 0"))
	if want := (busy{all: 136, ours: 55, total: 1141}); !ok || before != want {
		t.Errorf("%+v, %v; want %+v", before, ok, want)
	}
	now := busy{all: 136 + 60, ours: 55 + 40, total: 1141 + 200}
	if have := before.elsewhere(now); have != 0.1 {
		t.Errorf("%g of the time went elsewhere, want 0.1", have)
	}
	if have := before.elsewhere(before); have != 0 {
		t.Errorf("no time has passed, %g", have)
	}
	now.ours = 300 // the counters are not read at once
	if have := before.elsewhere(now); have != 0 {
		t.Errorf("more than all, %g", have)
	}
	for name, files := range map[string]fstest.MapFS{
		"none": {}, "short": root("cpu 1 2", "1 (a) R"), "words": root("cpu a b c d e f g h", "7 (a) R 1 1 1 0 -1 0 0 0 0 0 50 5"),
	} {
		if b, ok := busyIn(files); ok {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func TestBenchShapes(t *testing.T) {
	for name, want := range map[string]int64{"tiny": 3_475_712, "15m": 15_191_712, "135m": 134_515_008, "1b": 1_235_814_400, "3b": 3_212_749_824, "8b": 8_030_261_248} {
		found := false
		for _, s := range benchShapes {
			if s.name != name {
				continue
			}
			found = true
			if err := s.config.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if have := parameters(s.config); have != want {
				t.Errorf("%s has %d parameters, want %d", name, have, want)
			}
			rest := int64((2*s.config.Layers + 1) * s.config.Hidden)
			if !s.config.TieEmbeddings {
				rest += int64(s.config.Vocab * s.config.Hidden)
			}
			if have := int64(layerFloats(s.config)+headFloats(s.config)) + rest; have != want {
				t.Errorf("%s: matrices and norms have %d, want %d", name, have, want)
			}
		}
		if !found {
			t.Errorf("no shape %s", name)
		}
	}
}

func TestBenchLengthsFit(t *testing.T) {
	for positions := 8; positions < 1200; positions++ {
		l := lengths(llama.Config{MaxPositions: positions}, positions%2 == 0)
		if l.sequences < 1 || l.micro < 1 || l.questions < 1 || l.rollout < 1 || l.context+l.rollout+l.answer > positions {
			t.Errorf("%d positions: %+v", positions, l)
		}
		if l.train < 1 || l.train > positions || l.prefill+1 > positions || l.context < 1 || l.generate < 2 || l.context+l.generate > positions {
			t.Errorf("%d positions: %+v", positions, l)
		}
		if l.prompt < 1 || l.chain < 1 || l.answer < 1 || l.prompt+l.chain+l.answer > positions {
			t.Errorf("%d positions: %+v", positions, l)
		}
	}
}

func TestBenchProse(t *testing.T) {
	a, b := prose(5000, 1), prose(5000, 1)
	if a != b || len(a) < 5000 || len(a) > 5050 || !utf8.ValidString(a) {
		t.Errorf("%d bytes, the same twice: %v", len(a), a == b)
	}
	if distinct := len(strings.Fields(a)); distinct < 500 || prose(5000, 2) == a {
		t.Errorf("%d words", distinct)
	}
}

func TestRates(t *testing.T) {
	if have, want := rates(6, []float64{3, 1, 2}), (spread{3, 2, 6, 3}); have != want {
		t.Errorf("odd: %+v, want %+v", have, want)
	}
	if have, want := rates(6, []float64{3, 1}), (spread{3, 2, 6, 2}); have != want {
		t.Errorf("even: %+v, want %+v", have, want)
	}
}

// On a card the work is larger, the limits are the device's own, and a training
// step that does not fit is made with less memory. The card is a CPU here.
func TestBenchOnACard(t *testing.T) {
	var opened []cuda.Options
	card := aCard
	e := &env{ctx: t.Context(), err: &strings.Builder{}, cards: fakeCards(&opened, card)}
	o := benchOptions{shape: "world", seconds: 1e-3, large: 1 << 24, only: []string{"machine", "train", "decode", "rollout"}}
	o.on.dtype = "auto"
	o.on.on.Choice = device.Choice{Name: "cuda"}
	r, err := e.bench(o)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	r.print(&all)
	for _, want := range []string{"the product 512×512×512", "copying ", "step of 8 × 128 ", "256 sequences", "32 questions × 8 chains × 56", "memory taken so far"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is missing in\n%s", want, all.String())
		}
	}
	// Room for the model and little more.
	dev, err := e.cards.open(cuda.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	b := &bench{o: o, dev: &place{Device: dev, kind: "cuda", dtype: "bf16", e: e}, config: benchShapes[0].config}
	const rows = 1024
	card.Free = b.trainingBytes() + b.trainBytes(rows, thrift{true, true})
	if card.Free >= b.trainingBytes()+b.trainBytes(rows, thrift{recompute: true}) {
		t.Fatal("moments in 8 bits save nothing")
	}
	e.cards = fakeCards(&opened, card)
	o.only = []string{"train"}
	if r, err = e.bench(o); err != nil {
		t.Fatal(err)
	}
	if have := r.Rows[0].Work; have != "step of 8 × 128, layers recomputed, moments in 8 bits" {
		t.Errorf("little memory: %q", have)
	}
	card.Free--
	e.cards = fakeCards(&opened, card)
	var memory *memoryError
	if _, err = e.bench(o); !errors.As(err, &memory) {
		t.Errorf("too little memory: %v", err)
	}
}

// The numbers are what they would be if each were looked up for itself, on any
// number of processors and in pieces of any size.
func TestArbitraryWeights(t *testing.T) {
	c := shapeOf(1100, 1024, 96, 1, 3, 3, 32, 128)
	r := rand.New(rand.NewPCG(1, 2))
	numbers := make([]float32, 1<<20)
	for i := range numbers {
		numbers[i] = float32(0.02 * r.NormFloat64())
	}
	for _, processors := range []int{1, 3} {
		was := runtime.GOMAXPROCS(processors)
		src := arbitraryWeights(c)
		for i, s := range c.Tensors() {
			have := make([]float32, s.Len())
			for from, n := 0, 1; from < len(have); from, n = from+n, 7*n+1 {
				n = min(n, len(have)-from)
				if err := src(i, from, have[from:from+n]); err != nil {
					t.Fatal(err)
				}
			}
			for j, x := range have {
				want := numbers[(7919*i+j)%len(numbers)]
				if len(s.Shape) == 1 {
					want = 1
				}
				if x != want {
					t.Fatalf("%d processors, %s: number %d is %g, want %g", processors, s.Name, j, x, want)
				}
			}
		}
		runtime.GOMAXPROCS(was)
	}
}

// --profile marks one run of each line, of decoding two steps of one, and gives the
// training step two layers. The marks are the device's; without a card there are none.
func TestBenchProfile(t *testing.T) {
	var opened []cuda.Options
	var told []string
	var said strings.Builder
	e := &env{ctx: t.Context(), err: &said, cards: fakeCards(&opened, aCard)}
	e.cards.mark = func(_ device.Device, on bool) error {
		told = append(told, fmt.Sprint(on))
		return nil
	}
	o := benchOptions{shape: "world", seconds: 10, large: 1 << 24, profile: true, at: []int{1, 3}}
	o.on.dtype = "auto"
	o.on.on.Choice = device.Choice{Name: "cuda"}
	r, err := e.bench(o)
	if err != nil {
		t.Fatal(err)
	}
	if have := strings.Join(told, " "); have != strings.TrimSpace(strings.Repeat("true false ", 4)) {
		t.Errorf("marks of train, prefill and two widths: %s", have)
	}
	var all strings.Builder
	r.print(&all)
	for _, want := range []string{"step of 8 × 128, 2 layers", "prompt of 127", "1 sequence", "3 sequences", "rates mean little"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is missing in\n%s", want, all.String())
		}
	}
	for _, row := range r.Rows {
		if row.Part != "train" && row.Part != "prefill" && row.Part != "decode" {
			t.Errorf("part %s has no marks", row.Part)
		}
	}
	e.cards.mark = func(device.Device, bool) error { return errors.New("no profiler") }
	for _, part := range []string{"prefill", "decode"} {
		o.only = []string{part}
		if _, err := e.bench(o); err == nil || !strings.Contains(err.Error(), "no profiler") {
			t.Errorf("%s, marks that fail: %v", part, err)
		}
	}
}

func TestBenchRefusesMarks(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--profile", "--device", "cpu"}, "--profile: marks are for a profiler"},
		{[]string{"--profile", "--model", "world:nrt"}, "--profile and --model"},
		{[]string{"--profile", "--only", "decode,score"}, "have \"score\""},
		{[]string{"--at", "1,0"}, "--at: want numbers of 1 to"},
		{[]string{"--at", "many"}, "have \"many\""},
	} {
		code, _, err := setting{}.nrt(t, append([]string{"bench"}, c.args...)...)
		if code != 2 || !strings.Contains(err, c.want) {
			t.Errorf("%v: exit %d, %q; want %q", c.args, code, err, c.want)
		}
	}
}
