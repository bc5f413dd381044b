package llama

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"nrt/backend/device"
	"nrt/backend/safetensors"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata (oracle.json needs python3 with torch)")

const oracleFile = "testdata/oracle.json"

// oracleCase is one model and what it is asked. All numbers come from splitMix
// seeded with Seed: first the weights, tensor after tensor in the order of
// Config.Tensors, then ids and loss weights, sequence after sequence.
type oracleCase struct {
	Name     string
	Seed     uint64
	Config   Config
	DType    safetensors.DType
	MaxShard int64
	Prompt   int   // leading ids that all sequences share
	Lengths  []int // of the sequences, prompt included
	LoRA     *LoRA // factors beside the matrices, with numbers of their own; or nil
}

var oracleCases = []oracleCase{
	{"multi-head, untied", 1, oracleConfig(func(c *Config) { c.KVHeads = 4 }), safetensors.F32, 1 << 30, 0, []int{12, 7}, nil},
	{"grouped-query, tied, shared prompt", 2, oracleConfig(func(c *Config) { c.TieEmbeddings = true }), safetensors.F32, 1 << 30, 5, []int{13, 9, 16}, nil},
	{"one key head of odd width", 3, oracleConfig(func(c *Config) { c.Heads, c.KVHeads, c.HeadDim, c.Layers = 3, 1, 10, 1 }), safetensors.F32, 1 << 30, 0, []int{11}, nil},
	{"llama-3 rope scaling", 4, oracleConfig(func(c *Config) {
		c.HeadDim, c.RopeTheta = 16, 500
		c.RopeScaling = &RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, OriginalMax: 16}
	}), safetensors.F32, 1 << 30, 0, []int{60}, nil},
	{"llama-3 rope scaling, tied, shared prompt", 5, oracleConfig(func(c *Config) {
		c.HeadDim, c.TieEmbeddings = 12, true
		c.RopeScaling = &RopeScaling{Type: "llama3", Factor: 32, LowFreq: 0.5, HighFreq: 2, OriginalMax: 24}
	}), safetensors.F32, 1 << 30, 20, []int{44, 31}, nil},
	{"sliding window", 6, oracleConfig(func(c *Config) { c.ModelType, c.SlidingWindow = "mistral", 5 }), safetensors.F32, 1 << 30, 0, []int{24, 4}, nil},
	{"sliding window, shared prompt", 7, oracleConfig(func(c *Config) { c.ModelType, c.SlidingWindow, c.TieEmbeddings = "mistral", 7, true }), safetensors.F32, 1 << 30, 9, []int{22, 18}, nil},
	{"mistral without a window, wide heads", 8, oracleConfig(func(c *Config) { c.ModelType, c.HeadDim, c.RMSEps = "mistral", 14, 1e-6 }), safetensors.F32, 1 << 30, 0, []int{15}, nil},
	{"bfloat16 in shards", 9, oracleConfig(func(c *Config) { c.Layers = 3 }), safetensors.BF16, 4000, 0, []int{14}, nil},
	{"float16, tied, in shards", 10, oracleConfig(func(c *Config) { c.Heads, c.KVHeads, c.HeadDim, c.TieEmbeddings = 6, 3, 6, true }), safetensors.F16, 6000, 0, []int{14}, nil},
	{"lora, grouped-query, tied, shared prompt", 11, oracleConfig(func(c *Config) { c.TieEmbeddings = true }), safetensors.F32, 1 << 30, 5, []int{13, 9, 16},
		&LoRA{Rank: 4, Alpha: 8, Modules: LoRAModules()}},
	{"lora of odd rank on some matrices, sliding window", 12, oracleConfig(func(c *Config) { c.ModelType, c.SlidingWindow = "mistral", 5 }), safetensors.BF16, 1 << 30, 0, []int{24, 4},
		&LoRA{Rank: 3, Alpha: 1.5, Modules: []string{"v_proj", "o_proj", "up_proj"}}},
	{"biases of q, k and v, tied, shared prompt", 13, oracleConfig(func(c *Config) { c.ModelType, c.HeadDim, c.TieEmbeddings = "qwen2", 6, true }), safetensors.F32, 1 << 30, 5, []int{13, 9, 16}, nil},
	{"biases of q, k and v, bfloat16, lora", 14, oracleConfig(func(c *Config) { c.ModelType, c.KVHeads = "qwen2", 4 }), safetensors.BF16, 4000, 0, []int{14, 6},
		&LoRA{Rank: 2, Alpha: 4, Modules: []string{"q_proj", "v_proj", "down_proj"}}},
	{"norms of heads, shared prompt", 15, oracleConfig(func(c *Config) { c.ModelType, c.HeadDim, c.RMSEps = "qwen3", 16, 1e-6 }), safetensors.F32, 1 << 30, 5, []int{13, 9, 16}, nil},
	{"norms of heads and all biases, tied, lora", 16, oracleConfig(func(c *Config) { c.ModelType, c.KVHeads, c.AttentionBias, c.TieEmbeddings = "qwen3", 1, true, true }), safetensors.F32, 1 << 30, 0, []int{11},
		&LoRA{Rank: 3, Alpha: 6, Modules: LoRAModules()}},
	{"all biases", 17, oracleConfig(func(c *Config) { c.AttentionBias = true }), safetensors.F16, 1 << 30, 0, []int{12, 7}, nil},
}

func oracleConfig(change func(*Config)) Config {
	c := Config{
		ModelType: "llama", Vocab: 53, Hidden: 24, Intermediate: 40, Layers: 2,
		Heads: 4, KVHeads: 2, HeadDim: 8, MaxPositions: 128, RMSEps: 1e-5,
		RopeTheta: 10000, BOS: []int32{1}, EOS: []int32{2},
	}
	change(&c)
	return c
}

// splitMix is the SplitMix64 generator, simple enough for any language.
type splitMix uint64

func (s *splitMix) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// unit is uniform in [−1, 1).
func (s *splitMix) unit() float64 { return float64(s.next()>>11)*0x1p-52 - 1 }

// oracleSequence is part of the request that oracle.py reads.
type oracleSequence struct {
	IDs     []int32   `json:"ids"`
	Weights []float64 `json:"weights"` // Weights[t] weighs log p(IDs[t+1])
}

type oracleRequest struct {
	Sequences []oracleSequence `json:"sequences"`
	Probe     int              `json:"probe"`
}

// oracleAnswer is what oracle.py prints.
type oracleAnswer struct {
	LogProbs  [][]float64 `json:"logprobs"`
	Entropies [][]float64 `json:"entropies"`
	Loss      float64     `json:"loss"`
	Gradients map[string]struct {
		Norm float64      `json:"norm"`
		At   [][2]float64 `json:"at"` // index, value
	} `json:"gradients"`
}

// build writes the case's model folder and returns the request.
func (c oracleCase) build(t *testing.T, dir string) oracleRequest {
	t.Helper()
	rng := splitMix(c.Seed)
	specs := c.Config.Tensors()
	values := make([][]float32, len(specs))
	for i, s := range specs {
		values[i] = make([]float32, s.Len())
		for j := range values[i] {
			if strings.HasSuffix(s.Name, "norm.weight") {
				values[i][j] = float32(1 + 0.3*rng.unit())
			} else {
				values[i][j] = float32(0.5 * rng.unit())
			}
		}
	}
	err := writeCheckpoint(dir, c.Config, c.DType, func(i int) ([]float32, error) { return values[i], nil }, c.MaxShard)
	if err != nil {
		t.Fatal(err)
	}
	if c.LoRA != nil {
		c.buildAdapter(t, dir, &rng)
	}
	req := oracleRequest{Probe: 4}
	var prompt []int32
	for _, n := range c.Lengths {
		seq := oracleSequence{IDs: slices.Clone(prompt)}
		for len(seq.IDs) < n {
			seq.IDs = append(seq.IDs, int32(rng.next()%uint64(c.Config.Vocab)))
		}
		for range n - 1 {
			seq.Weights = append(seq.Weights, rng.unit())
		}
		prompt = seq.IDs[:c.Prompt]
		req.Sequences = append(req.Sequences, seq)
	}
	return req
}

// buildAdapter puts factors that are all other than 0 into the folder.
func (c oracleCase) buildAdapter(t *testing.T, dir string, rng *splitMix) {
	t.Helper()
	m, err := LoadLoRA(newDevice(t, false), os.DirFS(dir), *c.LoRA, c.Seed)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	values := make([]float32, m.Flat().Len())
	for i := range values {
		values[i] = float32(0.5 * rng.unit())
	}
	m.Device().Write(m.Flat(), values)
	if err := os.CopyFS(dir+"-base", os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := m.SaveAdapter(dir, dir+"-base"); err != nil {
		t.Fatal(err)
	}
}

// load is the case's model, with LoRA the base and beside it the adapter's factors.
func (c oracleCase) load(dev device.Device, dir string) (*Model, error) {
	if c.LoRA == nil {
		return Load(dev, os.DirFS(dir))
	}
	m, err := LoadLoRA(dev, os.DirFS(dir+"-base"), *c.LoRA, 1)
	if err != nil {
		return nil, err
	}
	return m, m.ReadAdapter(os.DirFS(dir))
}

// packed is the request as one batch: sequences end to end, or, with a shared
// prompt, the prompt's rows once and every sequence's rest behind it.
// of[s][t] is the target that sequence s has for its id t+1.
func (c oracleCase) packed(req oracleRequest) (b Batch, tg Targets, weights []float64, of [][]int) {
	row := func(id int32, pos int) {
		b.IDs, b.Pos = append(b.IDs, id), append(b.Pos, int32(pos))
	}
	var past []device.Span
	if c.Prompt > 0 {
		for p, id := range req.Sequences[0].IDs[:c.Prompt] {
			row(id, p)
		}
		past = []device.Span{{Start: 0, Len: c.Prompt}}
		b.Seqs = append(b.Seqs, device.Seq{Q: past[0]})
	}
	for _, seq := range req.Sequences {
		start := b.Rows()
		for p := c.Prompt; p < len(seq.IDs); p++ {
			row(seq.IDs[p], p)
		}
		b.Seqs = append(b.Seqs, device.Seq{Q: device.Span{Start: start, Len: b.Rows() - start}, Past: past, Own: start})
		var mine []int
		for p, w := range seq.Weights {
			r := p
			if p >= c.Prompt {
				r = start + p - c.Prompt
			}
			mine = append(mine, len(weights))
			tg.Rows, tg.IDs = append(tg.Rows, int32(r)), append(tg.IDs, seq.IDs[p+1])
			weights = append(weights, w)
		}
		of = append(of, mine)
	}
	return b, tg, weights, of
}

// oraclePython is the first Python that has PyTorch, "" for none: the one on
// PATH, or the system's own, which distributions package python3-torch for.
var oraclePython = sync.OnceValue(func() string {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import numpy, torch").Run() == nil {
			return python
		}
	}
	return ""
})

// buildOracle writes the folders of all cases, and returns the requests.
func buildOracle(t *testing.T) (dirs []string, reqs []oracleRequest) {
	t.Helper()
	for i, c := range oracleCases {
		dirs = append(dirs, filepath.Join(t.TempDir(), "model"))
		reqs = append(reqs, c.build(t, dirs[i]))
	}
	return dirs, reqs
}

// ask runs oracle.py on folders.
func ask(t *testing.T, dirs []string, reqs []oracleRequest) (list []oracleAnswer) {
	t.Helper()
	in, err := json.Marshal(reqs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(oraclePython(), append([]string{filepath.FromSlash("testdata/oracle.py")}, dirs...)...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("oracle.py: %v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestOracle compares log-probabilities, entropies and gradients with the
// numbers an independent PyTorch implementation gave for the same folders.
// With -update it asks that implementation again and records the answers.
func TestOracle(t *testing.T) {
	golden := map[string]oracleAnswer{}
	dirs, reqs := buildOracle(t)
	if *update {
		if oraclePython() == "" {
			t.Skip("no oracle: python3-torch")
		}
		for i, a := range ask(t, dirs, reqs) {
			golden[oracleCases[i].Name] = a
		}
	} else {
		raw, err := os.ReadFile(oracleFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &golden); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range oracleCases {
		t.Run(c.Name, func(t *testing.T) {
			want, ok := golden[c.Name]
			if !ok {
				t.Fatalf("%s lacks the case; run with -update", oracleFile)
			}
			c.compare(t, dirs[i], reqs[i], want)
		})
	}
	if *update && !t.Failed() {
		raw, err := json.MarshalIndent(golden, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(oracleFile, append(compactArrays(raw), '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// compactArrays joins the lines of JSON arrays, which indenting spreads out.
func compactArrays(raw []byte) []byte {
	var out []byte
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '[':
			depth++
		case ']':
			depth--
		case '\n', ' ':
			if depth > 0 {
				continue
			}
		}
		out = append(out, raw[i])
	}
	return out
}

// TestOracleLive asks the PyTorch implementation now, so that recorded numbers
// cannot drift from the script beside them.
func TestOracleLive(t *testing.T) {
	if oraclePython() == "" {
		t.Skip("no oracle: python3-torch")
	}
	dirs, reqs := buildOracle(t)
	for i, want := range ask(t, dirs, reqs) {
		t.Run(oracleCases[i].Name, func(t *testing.T) { oracleCases[i].compare(t, dirs[i], reqs[i], want) })
	}
}

// compare holds both float types, and cached decode, against the oracle.
func (c oracleCase) compare(t *testing.T, dir string, req oracleRequest, want oracleAnswer) {
	t.Helper()
	for _, p := range []struct {
		name            string
		double          bool
		logProb, gradOf float64 // absolute, and relative to the tensor's gradient
	}{
		{"float32", false, 1e-4, 1e-3},
		{"float64", true, 1e-11, 1e-10},
	} {
		dev := newDevice(t, p.double)
		m, err := c.load(dev, dir)
		if err != nil {
			t.Fatal(err)
		}
		b, tg, weights, of := c.packed(req)
		pass := m.NewPass()
		pass.Forward(b)
		fwd := pass.Classify(tg)
		worst, loss := 0.0, 0.0
		for s, targets := range of {
			for i, at := range targets {
				worst = max(worst, math.Abs(fwd.LogProb[at]-want.LogProbs[s][i]), math.Abs(fwd.Entropy[at]-want.Entropies[s][i]))
				loss += weights[at] * fwd.LogProb[at]
			}
		}
		if !(math.Abs(loss-want.Loss) <= p.logProb*float64(len(weights))) {
			t.Errorf("seed %d, %s: loss %v, want %v", c.Seed, p.name, loss, want.Loss)
		}
		if !(worst <= p.logProb) {
			t.Errorf("seed %d, %s: log-probs and entropies differ by up to %g, want ≤ %g", c.Seed, p.name, worst, p.logProb)
		}
		cached := c.decode(m, req, want)
		if !(cached <= p.logProb) {
			t.Errorf("seed %d, %s: cached decode's log-probs differ by up to %g, want ≤ %g", c.Seed, p.name, cached, p.logProb)
		}

		// Loss counts −Σ w·log p, the oracle Σ w·log p.
		minus := make([]float64, len(weights))
		for i, w := range weights {
			minus[i] = -w
		}
		g := m.NewGrad()
		pass.Backward(g, Loss{Targets: tg, Fwd: fwd, LogProb: minus})
		all := make([]float64, g.Flat.Len())
		dev.Read64(all, g.Flat)
		if len(want.Gradients) != len(m.Learned()) {
			t.Errorf("the oracle has %d tensors, the model %d", len(want.Gradients), len(m.Learned()))
		}
		worstGrad := 0.0
		for _, param := range m.Learned() {
			w, ok := want.Gradients[param.Name]
			if !ok {
				t.Errorf("%s: the oracle lacks it", param.Name)
				continue
			}
			mine := all[:param.Value.Len()]
			all = all[len(mine):]
			sum := 0.0
			for _, x := range mine {
				sum += x * x
			}
			rel := math.Abs(math.Sqrt(sum)-w.Norm) / w.Norm
			for _, spot := range w.At {
				rel = max(rel, math.Abs(mine[int(spot[0])]-spot[1])/w.Norm)
			}
			if !(rel <= p.gradOf) {
				t.Errorf("seed %d, %s, %s: gradient differs by %g of its norm %g, want ≤ %g", c.Seed, p.name, param.Name, rel, w.Norm, p.gradOf)
			}
			worstGrad = max(worstGrad, rel)
		}
		t.Logf("%s: log-prob within %.1e, decode within %.1e, gradient within %.1e", p.name, worst, cached, worstGrad)
		if err := dev.Sync(); err != nil {
			t.Error(err)
		}
	}
}

// decode reads every sequence through the cache, the prompt in one piece, then
// three rows and afterwards single rows, and returns the largest difference.
func (c oracleCase) decode(m *Model, req oracleRequest, want oracleAnswer) float64 {
	worst := 0.0
	for s, seq := range req.Sequences {
		cache := newCache(m, len(seq.IDs))
		for at, n := 0, max(c.Prompt, 1); at < len(seq.IDs); {
			n = min(n, len(seq.IDs)-at)
			q := device.Seq{Q: device.Span{Len: n}, Own: at}
			if at > 0 {
				q.Past = []device.Span{{Start: 0, Len: at}}
			}
			b := Batch{Seqs: []device.Seq{q}}
			var tg Targets
			for i := range n {
				b.IDs, b.Pos = append(b.IDs, seq.IDs[at+i]), append(b.Pos, int32(at+i))
				if at+i+1 < len(seq.IDs) {
					tg.Rows, tg.IDs = append(tg.Rows, int32(i)), append(tg.IDs, seq.IDs[at+i+1])
				}
			}
			cache.Extend(b)
			for i, lp := range cache.Classify(tg).LogProb {
				worst = max(worst, math.Abs(lp-want.LogProbs[s][at+i]))
			}
			at += n
			n = 1
			if at < 6 {
				n = 3
			}
		}
		cache.Free()
	}
	return worst
}
