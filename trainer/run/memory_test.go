package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/trainer/objective"
)

// big is a model of 1.2 billion parameters.
var big = llama.Config{
	ModelType: "llama", Vocab: 128256, Hidden: 2048, Intermediate: 8192, Layers: 16, Heads: 32, KVHeads: 8, HeadDim: 64,
	MaxPositions: 4096, RMSEps: 1e-5, RopeTheta: 500000, TieEmbeddings: true,
}

func TestPlanMemory(t *testing.T) {
	c := Default(objective.NRT)
	c.Rollout.K, c.Rollout.MaxChain, c.Optim.MicroTokens, c.Optim.MiniBatch = 8, 512, 2048, 64
	x := extent{model: big, prompt: 200, answer: 100, close: 1}
	part := func(p memoryPlan, name string) int64 {
		for _, m := range p {
			if m.name == name {
				return m.bytes
			}
		}
		t.Fatalf("the plan has no %s: %v", name, p)
		return 0
	}
	p := planMemory(c, x)
	const params = 1235814400
	if w := part(p, "weights"); w != 4*params || part(p, "gradients") != w || part(p, "optimizer") != 2*w {
		t.Errorf("weights %d, gradients %d, optimizer %d for %d parameters", w, part(p, "gradients"), part(p, "optimizer"), params)
	}
	// One question is longer than a pass may be, 200 + 8·(512+1+100), and takes several.
	const rows = 2048
	perRow := big.Layers*(2*2048+2*2048+2*2048+2*512+3*8192) + 2*2048 // a lower bound: the matrices' inputs and outputs
	if a := part(p, "activations"); a < 4*rows*int64(perRow) || a > 4*rows*int64(perRow)*2 {
		t.Errorf("activations of %d rows: %s, want %s and little more", rows, size(a), size(4*rows*int64(perRow)))
	}
	again := c
	again.Optim.MicroTokens = 256 // shorter than a prompt with one chain
	if have := x.rows(again); have != 200+512+1+100 {
		t.Errorf("a pass of %d rows for a prompt with one chain", have)
	}
	again = c
	again.Optim.Recompute = true
	if a, b := part(planMemory(again, x), "activations"), part(p, "activations"); a > b/3 {
		t.Errorf("activations %s recomputed, %s kept", size(a), size(b))
	}
	again = c
	again.Optim.Moments = 8
	// A byte for each of two, and a scale for every 256.
	if m := part(planMemory(again, x), "optimizer"); m < 2*params+8*(params/256) || m > 2*params+8*(params/256+1000) {
		t.Errorf("moments in 8 bits: %d bytes for %d parameters", m, params)
	}
	again = c
	again.Train.Device, again.Train.DType = "cpu", "bf16"
	for _, name := range []string{"weights", "gradients", "activations"} { // buffers are what they are in float32
		if a, b := part(planMemory(again, x), name), part(p, name); a != b {
			t.Errorf("%s on the CPU in bf16: %s, in f32 %s", name, size(a), size(b))
		}
	}
	x.reference = true
	c.Rollout.Questions = 2
	ref := planMemory(c, x)
	if w, k := part(ref, "reference"), part(ref, "reference's cache"); w != 4*params || k < 2*301*65536 || k > 2*301*65536*4 {
		t.Errorf("a reference policy: %s, its cache for two questions of 301 tokens: %s", size(w), size(k))
	}
	c.Objective.KL = 0.01
	if a, b := part(planMemory(c, x), "reference's cache"), part(ref, "reference's cache"); a < 5*b {
		t.Errorf("the reference's cache is %s with the chains, %s without", size(a), size(b))
	}
	sft := Default(objective.SFT)
	sft.Optim.MicroTokens = 100
	for _, m := range planMemory(sft, extent{model: big, prompt: 200, answer: 100, close: 1}) {
		if m.name == "cache" {
			t.Error("SFT without evaluation samples nothing, and needs no cache")
		}
		if m.name == "activations" && !strings.HasPrefix(m.note, "301 ") {
			t.Errorf("SFT: %s, want the 301 of one sample", m.note)
		}
	}
}

// TestMemoryRefusal: what does not fit is refused with its size, what there is,
// and changes that fit.
func TestMemoryRefusal(t *testing.T) {
	c := Default(objective.NRT)
	c.Rollout.K, c.Rollout.MaxChain, c.Optim.MicroTokens = 8, 512, 8192
	x := extent{model: big, prompt: 200, answer: 100, close: 1}
	p := planMemory(c, x)
	for _, free := range []int64{0, p.total()} {
		if err := p.check(free, c, x); err != nil {
			t.Errorf("%d free: %v", free, err)
		}
	}
	err := p.check(p.total()-1, c, x)
	if err == nil {
		t.Fatal("a byte too little is not refused")
	}
	for _, want := range []string{size(p.total()), "gradients 4.6 GiB", "--recompute (", "--micro-tokens 4096 ("} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	// Every remedy that is named fits.
	for free := int64(20 << 30); free < p.total(); free += 3 << 30 {
		err := p.check(free, c, x)
		if err == nil {
			t.Fatalf("%s free, %s needed: not refused", size(free), size(p.total()))
		}
		list := remedies(free, c, x)
		if small := planMemory(smallest(c), x).total() > free; small != (len(list) == 0) {
			t.Errorf("%s free: %d remedies, the smallest run fits: %v", size(free), len(list), !small)
		}
	}
	if err := p.check(1<<30, c, x); err == nil || !strings.Contains(err.Error(), "no smaller batch") {
		t.Errorf("1 GiB for 1.2 billion parameters: %v", err)
	}
}

// smallest is c with recomputation, moments in 8 bits and the shortest chains.
func smallest(c Config) Config {
	c.Optim.Recompute, c.Optim.Moments = true, 8
	c.Rollout.MaxChain = 16
	return c
}

// TestKeepsLogits: logits are kept where a quarter of what the rest of the run leaves
// free has room for them, and are never why a run is refused.
func TestKeepsLogits(t *testing.T) {
	c := Default(objective.NRT)
	c.Train.Device, c.Train.DType = "cuda", "bf16"
	c.Rollout.K, c.Rollout.MaxChain, c.Optim.MicroTokens = 8, 512, 8192
	x := extent{model: big, prompt: 200, answer: 100, close: 1}
	rest := planMemory(c, x).total()
	with := x
	with.logits = true
	const logits = 4 * 8192 * (128256 + 32)
	if n := planMemory(c, with).total() - rest; n != logits {
		t.Fatalf("logits of 8192 tokens: %d bytes in the plan, want %d", n, logits)
	}
	recomputed, cpu := c, c
	recomputed.Optim.Recompute = true
	cpu.Train.Device, cpu.Train.DType = "cpu", "f32"
	for _, s := range []struct {
		name string
		c    Config
		free int64
		want bool
	}{
		{"just enough", c, rest + 4*logits, true},
		{"too little", c, rest + 4*logits - 1, false},
		{"nothing left", c, rest, false},
		{"not known", c, 0, false},
		{"layers computed again", recomputed, 1 << 40, false},
		{"on the CPU", cpu, 1 << 40, true},
		{"on the CPU, not known", cpu, 0, false},
	} {
		for _, asked := range []extent{x, with} { // the answer is not in the question
			if have := keepsLogits(s.free, s.c, asked); have != s.want {
				t.Errorf("%s: %v", s.name, have)
			}
		}
		if x := with; s.want {
			x.cache = cacheFor(s.free, s.c, x)
			if err := planMemory(s.c, x).check(s.free, s.c, x); err != nil {
				t.Errorf("%s: with them and a cache of %d bytes: %v", s.name, x.cache, err)
			}
		}
	}
}

// logitsDevice counts backward passes of the classifier with and without kept logits.
type logitsDevice struct {
	device.Device
	kept, again int
}

func (d *logitsDevice) ClassifierBackward(dh, dw, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64, fwd device.Classified, wLogp, wEnt []float64) {
	if fwd.Logits != nil {
		d.kept++
	} else {
		d.again++
	}
	d.Device.ClassifierBackward(dh, dw, h, w, targets, vocab, dim, invTemp, fwd, wLogp, wEnt)
}

// TestRunKeepsLogits: a run that is told of much free memory keeps logits, says so,
// and leaves the same bits behind as one that does not, also where it is stopped and
// resumed the other way.
func TestRunKeepsLogits(t *testing.T) {
	dev := newCPU(t)
	const much = 1 << 40
	for _, method := range []objective.Method{objective.NRT, objective.SFT} {
		t.Run(string(method), func(t *testing.T) {
			c := tinyRun(t, method)
			if method == objective.NRT {
				c.Objective.Entropy = 0.001
			}
			run := func(first, then int64) ([]Values, []byte) {
				c := c
				c.Output.Dir = filepath.Join(t.TempDir(), "out")
				for _, free := range []int64{first, then} {
					ctx, cancel := context.WithCancel(context.Background())
					log := &stopper{cancel: cancel, at: "step 3/"}
					watched := &logitsDevice{Device: dev}
					err := Train(ctx, c, Env{
						Device: watched, Log: log, Terminal: true, Now: time.Now, Free: free,
						Open: func(name string) (fs.FS, error) { return os.DirFS(name), nil },
					})
					cancel()
					if resumed := c.Output.Resume != ""; !resumed && !errors.Is(err, context.Canceled) || resumed && err != nil {
						t.Fatalf("%v\n%s", err, log.text.String())
					}
					if said := strings.Contains(log.text.String(), "kept for the backward pass"); said != (free > 0) {
						t.Errorf("%d bytes free: the plan has logits: %v", free, said)
					}
					if watched.kept > 0 != (free > 0) || watched.again > 0 != (free == 0) {
						t.Errorf("%d bytes free: %d backward passes with kept logits, %d without", free, watched.kept, watched.again)
					}
					c.Output.Resume = "latest"
				}
				values, weights, _ := outcome(t, c)
				return values, weights
			}
			values, weights := run(0, 0)
			for _, free := range [][2]int64{{much, much}, {much, 0}} {
				if v, w := run(free[0], free[1]); !bytes.Equal(w, weights) || !reflect.DeepEqual(v, values) {
					t.Errorf("with %v bytes free it trains another model", free)
				}
			}
		})
	}
}

// TestRecomputedRun: a run with --recompute leaves the same bits behind, and
// prints a plan; a machine that is too small is refused before the first step.
func TestRecomputedRun(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.NRT)
	c.Train.Steps = 3
	if err := train(context.Background(), dev, c, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	again := c
	again.Output.Dir = t.TempDir()
	again.Optim.Recompute = true
	var log bytes.Buffer
	if err := train(context.Background(), dev, again, &log); err != nil {
		t.Fatal(err)
	}
	_, kept, _ := outcome(t, c)
	_, recomputed, _ := outcome(t, again)
	if !bytes.Equal(kept, recomputed) {
		t.Error("--recompute trains another model")
	}
	for _, want := range []string{"memory  weights", "memory  activations", "tokens in a pass", "memory  in all"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	again.Output.Dir = t.TempDir()
	err := Train(context.Background(), again, Env{
		Device: dev, Log: &log, Now: time.Now, Free: 1000,
		Open: func(name string) (fs.FS, error) { return os.DirFS(name), nil },
	})
	if err == nil || !strings.Contains(err.Error(), "memory: ") || !strings.Contains(err.Error(), "1000") && !strings.Contains(err.Error(), "0.0 MiB") {
		t.Errorf("1000 bytes free: %v", err)
	}
}

func TestFreeMemory(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	meminfo := file("MemTotal:       24684000 kB\nMemFree:        1000 kB\nMemAvailable:   20000000 kB\n")
	for name, c := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"nothing known": {fstest.MapFS{}, 0},
		"machine":       {fstest.MapFS{"proc/meminfo": meminfo}, 20000000 << 10},
		"no limit": {fstest.MapFS{"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max": file("max\n"), "sys/fs/cgroup/a/b/memory.current": file("5\n")}, 20000000 << 10},
		"limit above": {fstest.MapFS{"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/memory.max": file("1000000\n"), "sys/fs/cgroup/a/memory.current": file("400000\n"),
			"sys/fs/cgroup/a/memory.stat": file("anon 100\ninactive_file 30000\nactive_file 20000\n")}, 650000},
		"container": {fstest.MapFS{"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/\n"),
			"sys/fs/cgroup/memory.max": file("1000000\n"), "sys/fs/cgroup/memory.current": file("1500000\n")}, 1},
		"version 1": {fstest.MapFS{"proc/meminfo": meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes": file("900\n"),
			"sys/fs/cgroup/memory/memory.usage_in_bytes": file("200\n")}, 700},
		"version 1 after files were read": {fstest.MapFS{"proc/meminfo": meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes": file("900\n"),
			"sys/fs/cgroup/memory/memory.usage_in_bytes": file("890\n"),
			"sys/fs/cgroup/memory/memory.stat":           file("inactive_file 0\nactive_file 0\ntotal_inactive_file 390\ntotal_active_file 300\n")}, 700},
	} {
		if have := FreeMemory(c.root); have != c.want {
			t.Errorf("%s: %d, want %d", name, have, c.want)
		}
	}
}

// meter is a device that knows how many bytes are taken from it, and how many were
// at most. Numbers have four.
type meter struct {
	device.Device
	held        map[device.Buffer]int64
	bytes, most int64
}

func (d *meter) take(b device.Buffer) device.Buffer {
	n := 4 * int64(b.Len())
	d.held[b] = n
	d.bytes += n
	d.most = max(d.most, d.bytes)
	return b
}

func (d *meter) Alloc(n int) device.Buffer                  { return d.take(d.Device.Alloc(n)) }
func (d *meter) AllocAs(k device.Kind, n int) device.Buffer { return d.take(d.Device.AllocAs(k, n)) }
func (d *meter) Reserve(k device.Kind, n int) (device.Buffer, error) {
	b, err := d.Device.Reserve(k, n)
	return d.take(b), err
}
func (d *meter) Free(b device.Buffer) {
	d.bytes -= d.held[b]
	delete(d.held, b)
	d.Device.Free(b)
}

// TestPlanIsTrue: no run takes more than its plan says, also where all chains are
// cut at once and where a question is longer than a pass, and none takes much less.
func TestPlanIsTrue(t *testing.T) {
	many := func(c *Config) { // more rows than the engine reads in a step
		c.Rollout.Questions, c.Rollout.K, c.Optim.MiniBatch = 64, 16, 1
		c.Optim.MicroTokens = 512
	}
	lora := func(c *Config) { c.Model.Path, c.LoRA.Rank = tinyBase(t, 1), 16 }
	for name, test := range map[string]struct {
		method objective.Method
		change func(*Config)
	}{
		"nrt, lora, many":   {objective.NRT, func(c *Config) { lora(c); many(c) }},
		"nrt, lora, kl":     {objective.NRT, func(c *Config) { lora(c); c.Objective.KL, c.Optim.Moments = 0.01, 8 }},
		"sft, lora":         {objective.SFT, lora},
		"nrt":               {objective.NRT, func(*Config) {}},
		"nrt, many":         {objective.NRT, many},
		"nrt, short passes": {objective.NRT, func(c *Config) { c.Optim.MicroTokens = 30 }},
		"nrt, kl":           {objective.NRT, func(c *Config) { c.Objective.KL = 0.01 }},
		"nrt, kept logits":  {objective.NRT, func(c *Config) { c.Optim.MicroTokens = 40 }},
		"rlpr, many":        {objective.RLPR, many},
		"rlvr":              {objective.RLVR, func(*Config) {}},
		"rlvr, many":        {objective.RLVR, many},
		"sft":               {objective.SFT, func(*Config) {}},
		"sft, long chains":  {objective.SFT, func(c *Config) { c.Rollout.MaxChain = 60 }},
		"lm":                {objective.LM, func(c *Config) { c.Data.HeldOut = 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			c := tinyRun(t, test.method)
			c.Train.Steps, c.Eval.K, c.Eval.Every, c.Model.Layers = 2, 2, 0, 2
			test.change(&c)
			c.settle()
			dev := &meter{Device: newCPU(t), held: map[device.Buffer]int64{}}
			tr := &trainer{c: c, dev: dev, env: Env{Device: dev, Log: io.Discard, Now: time.Now,
				Open: func(name string) (fs.FS, error) { return os.DirFS(name), nil }}}
			if name == "nrt, kept logits" {
				tr.free = 1 << 40
			}
			tr.c.Train.DType = "f32"
			for _, open := range []func(context.Context) error{tr.openChain, tr.openData, tr.openModel, tr.openQuestions, tr.planRun} {
				if err := open(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			x := tr.extent()
			x.logits, x.cache = tr.kept > 0, tr.cache
			plan := planMemory(tr.c, x)
			for _, open := range []func(context.Context) error{tr.openLearner, tr.openOutput} {
				if err := open(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(tr.loop(context.Background()), tr.close()); err != nil {
				t.Fatal(err)
			}
			want := plan.total() - plan[len(plan)-1].bytes // what the device works in is its own
			rope := int64(tr.c.Model.Positions * tr.c.Model.Hidden * 4)
			if x.reference {
				rope *= 2
			}
			if dev.most > want+rope {
				t.Errorf("the run took %d bytes, its plan says %d: %v", dev.most, want, plan)
			}
			least := want * 9 / 10
			if test.method.Rollouts() { // chains may be shorter than they might be
				least = want * 2 / 3
			}
			if dev.most < least {
				t.Errorf("the run took %d bytes of %d planned: %v", dev.most, want, plan)
			}
			if dev.bytes != 0 {
				t.Errorf("%d bytes are not given back", dev.bytes)
			}
		})
	}
}
