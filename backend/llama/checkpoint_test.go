package llama

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"nrt/backend/safetensors"
)

const whole = int64(1) << 40 // a shard size that nothing exceeds

// sample is a config and exact small numbers for its tensors, which every
// stored type can hold.
func sample(change func(*Config)) (Config, [][]float32) {
	c := oracleConfig(func(c *Config) { c.Vocab, c.Hidden, c.Intermediate, c.HeadDim = 11, 8, 6, 2 })
	if change != nil {
		change(&c)
	}
	var values [][]float32
	for i, s := range c.Tensors() {
		v := make([]float32, s.Len())
		for j := range v {
			v[j] = float32((i*31+j)%63-31) / 8
		}
		values = append(values, v)
	}
	return c, values
}

func write(t *testing.T, dir string, c Config, values [][]float32, dt safetensors.DType, maxShard int64) {
	t.Helper()
	if err := writeCheckpoint(dir, c, dt, func(i int) ([]float32, error) { return values[i], nil }, maxShard); err != nil {
		t.Fatal(err)
	}
}

// read returns every tensor of the folder as the specs of c name them.
func read(fsys fs.FS, c Config) ([][]float32, error) {
	specs := c.Tensors()
	ck, err := openCheckpoint(fsys, specs)
	if err != nil {
		return nil, err
	}
	got := make([][]float32, len(specs))
	for i, s := range specs {
		got[i] = make([]float32, s.Len())
		err = errors.Join(err, ck.read(i, 0, got[i]))
	}
	return got, errors.Join(err, ck.close())
}

// checkTensors tells whether a folder has the tensors of specs.
func checkTensors(fsys fs.FS, specs []TensorSpec) error {
	ck, err := openCheckpoint(fsys, specs)
	if err != nil {
		return err
	}
	return ck.close()
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestCheckpointRoundTrip(t *testing.T) {
	for _, dt := range []safetensors.DType{safetensors.F64, safetensors.F32, safetensors.F16, safetensors.BF16} {
		for _, maxShard := range []int64{whole, 1000, 1} {
			for _, tied := range []bool{false, true} {
				c, values := sample(func(c *Config) { c.TieEmbeddings = tied })
				dir := filepath.Join(t.TempDir(), "new", "model")
				write(t, dir, c, values, dt, maxShard)
				got, err := read(os.DirFS(dir), c)
				if err != nil {
					t.Fatalf("%s, shards of %d: %v", dt, maxShard, err)
				}
				if !reflect.DeepEqual(got, values) {
					t.Errorf("%s, shards of %d, tied %v: came back different", dt, maxShard, tied)
				}
				back, err := ReadConfig(os.DirFS(dir))
				c.DType = dt.Torch()
				if err != nil || !reflect.DeepEqual(back, c) {
					t.Errorf("config came back as %+v, %v", back, err)
				}
				if left := names(t, filepath.Dir(dir)); !slices.Equal(left, []string{"model"}) {
					t.Errorf("beside the folder: %v", left)
				}
				if err := checkTensors(os.DirFS(dir), c.Tensors()); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestCheckpointFiles pins file names, the header and the index.
func TestCheckpointFiles(t *testing.T) {
	c, values := sample(func(c *Config) { c.Layers = 1 })
	dir := t.TempDir()
	write(t, dir, c, values, safetensors.BF16, whole)
	if have := names(t, dir); !slices.Equal(have, []string{"config.json", "generation_config.json", "model.safetensors"}) {
		t.Errorf("files: %v", have)
	}
	raw, err := os.ReadFile(filepath.Join(dir, weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(raw)
	header := raw[8 : 8+n]
	golden(t, "header.json", append(bytes.ReplaceAll(header, []byte("},"), []byte("},\n")), '\n'))

	write(t, dir, c, values, safetensors.BF16, 600)
	want := []string{"config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"}
	if have := names(t, dir); !slices.Equal(have, want) {
		t.Errorf("sharded files: %v", have)
	}
	raw, err = os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "index.json", raw)
}

// TestReplace writes over every kind of older checkpoint: the new one is read,
// no old weights stay, other files do.
func TestReplace(t *testing.T) {
	for _, first := range []int64{whole, 1000, 700} {
		for _, second := range []int64{whole, 1000, 700} {
			c, values := sample(nil)
			dir := t.TempDir()
			write(t, dir, c, values, safetensors.F32, first)
			if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte("{}"), 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, ".partial"), 0o777); err != nil { // of a killed run
				t.Fatal(err)
			}
			for i := range values {
				for j := range values[i] {
					values[i][j] += 1
				}
			}
			write(t, dir, c, values, safetensors.F32, second)
			got, err := read(os.DirFS(dir), c)
			if err != nil || !reflect.DeepEqual(got, values) {
				t.Errorf("%d over %d: %v", second, first, err)
			}
			fresh := filepath.Join(t.TempDir(), "m")
			write(t, fresh, c, values, safetensors.F32, second)
			want := append(names(t, fresh), "tokenizer.json")
			if have := names(t, dir); !slices.Equal(have, want) {
				t.Errorf("%d over %d: files %v, want %v", second, first, have, want)
			}
		}
	}
}

// TestFailedWriteLeavesTheOld: an error at any tensor leaves the folder as it
// was, and a new folder absent.
func TestFailedWriteLeavesTheOld(t *testing.T) {
	c, values := sample(nil)
	for _, maxShard := range []int64{whole, 700} {
		dir := t.TempDir()
		write(t, dir, c, values, safetensors.F32, maxShard)
		before := names(t, dir)
		for broken := range values {
			get := func(i int) ([]float32, error) {
				if i == broken {
					return append(slices.Clone(values[i][1:]), float32(math.NaN())), nil
				}
				return make([]float32, len(values[i])), nil
			}
			fresh := filepath.Join(t.TempDir(), "m")
			for _, d := range []string{dir, fresh} {
				err := writeCheckpoint(d, c, safetensors.F32, get, maxShard)
				if name := c.Tensors()[broken].Name; err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "NaN") {
					t.Fatalf("broken %s: error %v", name, err)
				}
			}
			if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a folder appeared: %v", err)
			}
			if left := names(t, filepath.Dir(fresh)); len(left) > 0 {
				t.Errorf("left beside it: %v", left)
			}
		}
		got, err := read(os.DirFS(dir), c)
		if err != nil || !reflect.DeepEqual(got, values) || !slices.Equal(names(t, dir), before) {
			t.Errorf("shards of %d: the old checkpoint changed: %v", maxShard, err)
		}
	}
}

// TestKilledWrite stops a write after each of its renames, as a crash would: the
// folder then holds the old weights, the new ones, or says it is incomplete.
func TestKilledWrite(t *testing.T) {
	for _, first := range []int64{whole, 1000, 700} {
		for _, second := range []int64{whole, 1000, 700} {
			c, old := sample(nil)
			next := make([][]float32, len(old))
			for i := range old {
				next[i] = make([]float32, len(old[i]))
			}
			for steps := range 40 {
				dir := t.TempDir()
				write(t, dir, c, old, safetensors.F32, first)
				stage := filepath.Join(dir, ".partial")
				if err := os.Mkdir(stage, 0o777); err != nil {
					t.Fatal(err)
				}
				if err := fill(stage, c, safetensors.F32, func(i int) ([]float32, error) { return next[i], nil }, second); err != nil {
					t.Fatal(err)
				}
				done := replaceSteps(t, dir, stage, steps)
				got, err := read(os.DirFS(dir), c)
				switch {
				case err != nil && errors.Is(err, fs.ErrNotExist): // withdrawn
				case err != nil:
					t.Errorf("%d over %d, step %d: %v", second, first, steps, err)
				case !reflect.DeepEqual(got, old) && !reflect.DeepEqual(got, next):
					t.Errorf("%d over %d, step %d: a mixture of old and new weights", second, first, steps)
				}
				if done {
					if !reflect.DeepEqual(got, next) {
						t.Errorf("%d over %d: the whole write left other weights: %v", second, first, err)
					}
					break
				}
			}
		}
	}
}

// replaceSteps does the first n steps of replace.
func replaceSteps(t *testing.T, dir, stage string, n int) (done bool) {
	t.Helper()
	steps, err := planReplace(dir, stage)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps[:min(n, len(steps))] {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
	}
	return n >= len(steps)
}

func TestWriteRefuses(t *testing.T) {
	c, values := sample(nil)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		dir   string
		c     func(*Config)
		dt    safetensors.DType
		value float32
		want  string
	}{
		{file, nil, safetensors.F32, 1, "want a directory, have a file"},
		{"", nil, "I8", 1, `dtype: want F64, F32, F16 or BF16, have "I8"`},
		{"", func(c *Config) { c.RMSEps = 0 }, safetensors.F32, 1, "rms_norm_eps"},
		{"", nil, safetensors.F16, 70000, `tensor "model.norm.weight": element 0: want a finite number within ±65504, have 70000`},
		{"", nil, safetensors.BF16, math.MaxFloat32, `tensor "model.norm.weight": element 0: want a finite number`},
		{"", nil, safetensors.F32, float32(math.Inf(1)), `tensor "model.norm.weight": element 0: want a finite number`},
	} {
		if x.dir == "" {
			x.dir = filepath.Join(t.TempDir(), "m")
		}
		bad := c
		if x.c != nil {
			x.c(&bad)
		}
		specs := c.Tensors()
		err := writeCheckpoint(x.dir, bad, x.dt, func(i int) ([]float32, error) {
			v := slices.Clone(values[i])
			if specs[i].Name == "model.norm.weight" {
				v[0] = x.value
			}
			return v, nil
		}, whole)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("error %v lacks %q", err, x.want)
		}
	}
}

// TestConvert: a folder is written again in any type, by default its own, with
// the same numbers where the type holds them, and what cannot be leaves nothing.
func TestConvert(t *testing.T) {
	c, values := sample(nil)
	for _, x := range []struct{ from, to, want safetensors.DType }{
		{safetensors.BF16, "", safetensors.BF16}, {safetensors.F16, "", safetensors.F16}, {safetensors.F32, "", safetensors.F32},
		{safetensors.F64, "", safetensors.F32}, {safetensors.F16, safetensors.F32, safetensors.F32}, {safetensors.F32, safetensors.BF16, safetensors.BF16},
	} {
		from, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
		write(t, from, c, values, x.from, 700)
		var done, all int64
		if err := Convert(t.Context(), to, os.DirFS(from), x.to, func(d, a int64) error { done, all = d, a; return nil }); err != nil {
			t.Fatal(err)
		}
		got, err := read(os.DirFS(to), c)
		if err != nil || !reflect.DeepEqual(got, values) {
			t.Errorf("%s to %q: came back different: %v", x.from, x.to, err)
		}
		if back, err := ReadConfig(os.DirFS(to)); err != nil || back.DType != x.want.Torch() {
			t.Errorf("%s to %q: dtype %q, %v, want %s", x.from, x.to, back.DType, err, x.want)
		}
		if done == 0 || done != all {
			t.Errorf("%s: progress ended at %d of %d", x.from, done, all)
		}
	}

	from, parent := t.TempDir(), t.TempDir()
	to := filepath.Join(parent, "new")
	values[len(values)-1][0] = 1e5 // more than F16 holds
	write(t, from, c, values, safetensors.F32, whole)
	if err := Convert(t.Context(), to, os.DirFS(from), safetensors.F16); err == nil || !strings.Contains(err.Error(), "65504") {
		t.Errorf("overflow: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Convert(ctx, to, os.DirFS(from), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if left := names(t, parent); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// folder writes a checkpoint into memory, its weights made by store, which may
// rename, reshape or drop tensors.
func folder(t *testing.T, c Config, values [][]float32, store func(list []stored) []stored) fstest.MapFS {
	t.Helper()
	var list []stored
	for i, s := range c.Tensors() {
		list = append(list, stored{safetensors.Spec{Name: s.Name, DType: safetensors.F32, Shape: s.Shape}, values[i]})
	}
	if store != nil {
		list = store(list)
	}
	raw, err := c.marshalConfig()
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{configFile: {Data: raw}, weightsFile: {Data: pack(t, list)}}
}

type stored struct {
	safetensors.Spec
	data []float32
}

func pack(t *testing.T, list []stored) []byte {
	t.Helper()
	var specs []safetensors.Spec
	for _, s := range list {
		specs = append(specs, s.Spec)
	}
	var b bytes.Buffer
	err := safetensors.Write(&b, specs, func(i int) ([]float32, error) { return list[i].data, nil })
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func extra(name string, shape ...int) stored {
	s := stored{Spec: safetensors.Spec{Name: name, DType: safetensors.F32, Shape: shape}}
	n := 1
	for _, d := range shape {
		n *= d
	}
	s.data = make([]float32, n)
	return s
}

// TestForeignCheckpoints are layouts that other software writes.
func TestForeignCheckpoints(t *testing.T) {
	c, values := sample(nil)
	tied, tiedValues := sample(func(c *Config) { c.TieEmbeddings = true })
	for _, x := range []struct {
		name   string
		c      Config
		values [][]float32
		store  func([]stored) []stored
	}{
		{"rotary tables stored", c, values, func(l []stored) []stored {
			return append(l, extra("model.layers.0.self_attn.rotary_emb.inv_freq", 1), extra("model.rotary_emb.inv_freq", 1))
		}},
		{"tied head stored too", tied, tiedValues, func(l []stored) []stored {
			head := l[0]
			head.Name = lmHead
			return append(l, head)
		}},
		{"tied, only the head stored", tied, tiedValues, func(l []stored) []stored {
			l[0].Name = lmHead
			return l
		}},
		{"mixed types", c, values, func(l []stored) []stored {
			for i := range l {
				l[i].DType = []safetensors.DType{safetensors.F32, safetensors.F16, safetensors.BF16, safetensors.F64}[i%4]
			}
			return l
		}},
		{"other order", c, values, func(l []stored) []stored {
			slices.Reverse(l)
			return l
		}},
	} {
		got, err := read(folder(t, x.c, x.values, x.store), x.c)
		if err != nil || !reflect.DeepEqual(got, x.values) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

func TestMismatchErrors(t *testing.T) {
	c, values := sample(nil)
	find := func(l []stored, name string) *stored {
		for i := range l {
			if l[i].Name == name {
				return &l[i]
			}
		}
		panic(name)
	}
	const gate = "model.layers.1.mlp.gate_proj.weight"
	for _, x := range []struct {
		name  string
		store func([]stored) []stored
		want  string
	}{
		{"turned matrix", func(l []stored) []stored { find(l, gate).Shape = []int{8, 6}; return l },
			`model.safetensors: tensor "model.layers.1.mlp.gate_proj.weight": want shape [6, 8], have [8, 6]`},
		{"flat matrix", func(l []stored) []stored { find(l, gate).Shape = []int{48}; return l },
			`want shape [6, 8], have [48]`},
		{"lost", func(l []stored) []stored {
			return slices.DeleteFunc(l, func(s stored) bool { return s.Name == gate })
		},
			`model.safetensors: missing tensor "model.layers.1.mlp.gate_proj.weight" [6, 8]`},
		{"head lost", func(l []stored) []stored {
			return slices.DeleteFunc(l, func(s stored) bool { return s.Name == lmHead })
		},
			`missing tensor "lm_head.weight" [11, 8]`},
		{"layer lost", func(l []stored) []stored {
			return slices.DeleteFunc(l, func(s stored) bool { return strings.Contains(s.Name, "layers.1.") })
		},
			`missing 9 tensors: "model.layers.1.self_attn.q_proj.weight" [8, 8]`},
		{"layer too many", func(l []stored) []stored { return append(l, extra("model.layers.2.mlp.up_proj.weight", 6, 8)) },
			`model.safetensors: unexpected tensor "model.layers.2.mlp.up_proj.weight" [6, 8]`},
		{"bias", func(l []stored) []stored { return append(l, extra("model.layers.0.self_attn.q_proj.bias", 8)) },
			`unexpected tensor "model.layers.0.self_attn.q_proj.bias" [8]`},
		{"infinite", func(l []stored) []stored {
			l[3].data = slices.Clone(l[3].data)
			l[3].data[5] = float32(math.Inf(-1))
			return l
		},
			`model.safetensors: tensor "model.layers.0.self_attn.v_proj.weight": element 5: want a finite number`},
	} {
		_, err := read(folder(t, c, values, x.store), c)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: error %v lacks %q", x.name, err, x.want)
		}
	}
	tied, tiedValues := sample(func(c *Config) { c.TieEmbeddings = true })
	_, err := read(folder(t, tied, tiedValues, func(l []stored) []stored { return append(l, extra(lmHead, 12, 8)) }), tied)
	if want := `tensor "lm_head.weight": want shape [11, 8], have [12, 8]`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("tied head of another shape: error %v lacks %q", err, want)
	}
	_, err = read(folder(t, tied, tiedValues, func(l []stored) []stored { return append(l, extra(lmHead, 11, 8)) }), tied)
	if want := `tensor "lm_head.weight": element 0 is 0, but`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("tied head of other numbers: error %v lacks %q", err, want)
	}
	// Integers, as quantized checkpoints have them.
	raw := []byte(`{"model.norm.weight":{"dtype":"I8","shape":[8],"data_offsets":[0,8]}}`)
	raw = append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...), make([]byte, 8)...)
	err = checkTensors(fstest.MapFS{weightsFile: {Data: raw}}, []TensorSpec{{"model.norm.weight", []int{8}}})
	if want := `tensor "model.norm.weight": want dtype F32, F16 or BF16, have I8`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("integers: error %v lacks %q", err, want)
	}
}

func TestIndexErrors(t *testing.T) {
	c, values := sample(nil)
	const one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	for _, x := range []struct {
		name   string
		change func(fsys fstest.MapFS, weightMap map[string]string)
		want   string
	}{
		{"no shard", func(m fstest.MapFS, w map[string]string) { delete(m, two) }, "model.safetensors.index.json: weight_map: open " + two},
		{"no index", func(m fstest.MapFS, w map[string]string) { delete(m, indexFile) }, "want model.safetensors or model.safetensors.index.json, have neither"},
		{"index not JSON", func(m fstest.MapFS, w map[string]string) { m[indexFile] = &fstest.MapFile{Data: []byte("{")} }, "parse model.safetensors.index.json:"},
		{"index empty", func(m fstest.MapFS, w map[string]string) { m[indexFile] = &fstest.MapFile{Data: []byte("{}")} }, "weight_map: missing or empty"},
		{"wrong shard", func(m fstest.MapFS, w map[string]string) { w[lmHead] = one }, one + `: tensor "lm_head.weight": missing, although model.safetensors.index.json places it here`},
		{"not in the index", func(m fstest.MapFS, w map[string]string) { delete(w, lmHead) }, two + `: tensor "lm_head.weight": here, but model.safetensors.index.json places it in ""`},
		{"not in the shard", func(m fstest.MapFS, w map[string]string) { w["ghost"] = one }, `tensor "ghost": missing`},
		{"path out of the folder", func(m fstest.MapFS, w map[string]string) { w[lmHead] = "../" + two }, `weight_map: tensor "lm_head.weight": want the name of a .safetensors file`},
		{"not a weight file", func(m fstest.MapFS, w map[string]string) { w[lmHead] = "pytorch_model.bin" }, `have "pytorch_model.bin"`},
		{"truncated shard", func(m fstest.MapFS, w map[string]string) { m[two].Data = m[two].Data[:len(m[two].Data)-9] }, two + ": tensor"},
		{"same shard twice", func(m fstest.MapFS, w map[string]string) { m[two] = m[one] }, two + ": tensor"},
	} {
		dir := t.TempDir()
		write(t, dir, c, values, safetensors.F32, 2000)
		m := fstest.MapFS{}
		for _, name := range names(t, dir) {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			m[name] = &fstest.MapFile{Data: raw}
		}
		var index map[string]map[string]any
		if err := json.Unmarshal(m[indexFile].Data, &index); err != nil {
			t.Fatal(err)
		}
		w := map[string]string{}
		for k, v := range index["weight_map"] {
			w[k] = v.(string)
		}
		before := len(m)
		raw := string(m[indexFile].Data)
		x.change(m, w)
		if len(m) == before && string(m[indexFile].Data) == raw {
			text, err := json.Marshal(map[string]any{"weight_map": w})
			if err != nil {
				t.Fatal(err)
			}
			m[indexFile] = &fstest.MapFile{Data: text}
		}
		if _, err := read(m, c); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: error %v lacks %q", x.name, err, x.want)
		}
	}
}

// TestDamagedCheckpoint cuts and flips the files of a folder: loading ends in an
// error that names a file, or, where only numbers changed, in a model.
func TestDamagedCheckpoint(t *testing.T) {
	c, values := sample(func(c *Config) { c.Layers, c.TieEmbeddings = 1, true })
	sound := folder(t, c, values, nil)
	dev := newDevice(t, false)
	load := func(name string, data []byte) error {
		fsys := fstest.MapFS{configFile: sound[configFile], weightsFile: sound[weightsFile]}
		fsys[name] = &fstest.MapFile{Data: data}
		m, err := Load(dev, fsys)
		if err == nil {
			m.Free()
		}
		return err
	}
	for _, name := range []string{configFile, weightsFile} {
		data := sound[name].Data
		if err := load(name, data); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(data)-2; n += 1 + n/64 { // config.json ends in "}\n"
			if err := load(name, data[:n]); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s cut at %d: error %v", name, n, err)
			}
		}
		for i := range min(len(data), 4000) {
			b := bytes.Clone(data)
			b[i] ^= 1 << (i % 8)
			if err := load(name, b); err != nil && !strings.Contains(err.Error(), configFile) && !strings.Contains(err.Error(), weightsFile) {
				t.Errorf("%s byte %d: error %q names no file", name, i, err)
			}
		}
	}
}
