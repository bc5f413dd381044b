package llama

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"nrt/backend/safetensors"
)

// shardName matches the names transformers gives shards.
var shardName = regexp.MustCompile(`^model-\d{5}-of-\d{5}\.safetensors$`)

// maxShard is how many bytes of weights one file gets at most, as transformers
// has it.
const maxShard = 5 << 30

// Convert writes the weights and the configuration of a Hugging Face folder again
// (the tokenizer's files are the caller's to add), in the type dt, or, if dt is
// empty, in the type that most of them have. One tensor is in memory at a time. An
// adapter that lies in the folder is merged.
// Like Save it leaves dir as it was when it fails, or ctx ends.
func Convert(ctx context.Context, dir string, fsys fs.FS, dt safetensors.DType, show ...Progress) error {
	c, ck, err := openModel(fsys)
	if err != nil {
		return err
	}
	specs := c.Tensors()
	if dt == "" {
		dt = ck.dtype()
	}
	src := ck.source(show) // of files, which do not mind the order
	var data []float32
	err = writeCheckpoint(dir, c, dt, func(i int) ([]float32, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data = resized(data, specs[i].Len())
		return data, src(i, 0, data)
	}, maxShard)
	return errors.Join(err, ck.close())
}

// dtype is the type of most bytes. Of F64, whose numbers are read as float32, it
// makes F32.
func (ck *checkpoint) dtype() safetensors.DType {
	bytes := map[safetensors.DType]int64{}
	for _, at := range ck.found {
		bytes[at.DType] += at.End - at.Begin
	}
	most := safetensors.F32
	for _, dt := range []safetensors.DType{safetensors.BF16, safetensors.F16} {
		if bytes[dt] > bytes[most] {
			most = dt
		}
	}
	return most
}

// writeCheckpoint writes config.json, generation_config.json and the weights as
// a Hugging Face folder. get(i) returns the elements of tensor i of Config.Tensors and
// is called once for each. Weights of more than maxShard bytes are split into shards.
//
// In a dir that exists the weights change by one rename, so that a crash leaves the
// old weights or the new; only shards that overwrite as many old shards first
// withdraw the old index, so that a crash leaves a folder that says it is
// incomplete rather than a mixture.
func writeCheckpoint(dir string, c Config, dt safetensors.DType, get func(i int) ([]float32, error), maxShard int64) error {
	if !dt.Float() {
		return fmt.Errorf("write %s: dtype: want F64, F32, F16 or BF16, have %q", dir, string(dt))
	}
	return writeDir(dir, func(stage string) error { return fill(stage, c, dt, get, maxShard) }, planReplace)
}

// writeDir stages and syncs the files that fill writes. A dir that does not exist yet
// then appears by one rename: whole or not at all. In a dir that exists each file is
// replaced by a rename, as plan has it. Other files in dir stay.
func writeDir(dir string, fill func(stage string) error, plan func(dir, stage string) ([]step, error)) error {
	dir = filepath.Clean(dir)
	info, err := os.Stat(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !fresh:
		return fmt.Errorf("write checkpoint: %w", err)
	case err == nil && !info.IsDir():
		return fmt.Errorf("write %s: want a directory, have a file", dir)
	}
	stage := filepath.Join(dir, ".partial")
	if fresh {
		stage = filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".partial")
	}
	if err := os.RemoveAll(stage); err != nil {
		return &writeError{dir, stage, err}
	}
	if err := os.MkdirAll(stage, 0o777); err != nil {
		return &writeError{dir, stage, err}
	}
	if err = fill(stage); err == nil {
		err = syncDir(stage)
	}
	if err == nil && fresh {
		err = os.Rename(stage, dir)
	} else if err == nil {
		err = replace(dir, stage, plan)
	}
	if err != nil {
		return errors.Join(&writeError{dir, stage, err}, os.RemoveAll(stage))
	}
	if fresh {
		return syncDir(filepath.Dir(dir))
	}
	return errors.Join(os.Remove(stage), syncDir(dir))
}

// writeError is why a folder was not written. It does not name the stage, of which
// nobody knows.
type writeError struct {
	dir, stage string
	err        error
}

func (w *writeError) Error() string {
	return fmt.Sprintf("write %s: %s", w.dir, strings.ReplaceAll(w.err.Error(), w.stage, w.dir))
}

func (w *writeError) Unwrap() error { return w.err }

// fill writes every file of the checkpoint into an empty directory.
func fill(stage string, c Config, dt safetensors.DType, get func(i int) ([]float32, error), maxShard int64) error {
	c.DType = dt.Torch()
	config, err := c.marshalConfig()
	if err != nil {
		return err
	}
	generation, err := c.marshalGeneration()
	if err != nil {
		return err
	}
	if err := writeFile(stage, configFile, config); err != nil {
		return err
	}
	if err := writeFile(stage, generationFile, generation); err != nil {
		return err
	}
	specs := c.Tensors()
	shards := split(specs, int64(dt.Size()), maxShard)
	weightMap := map[string]string{}
	var total int64
	for n, shard := range shards {
		name := weightsFile
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", n+1, len(shards))
		}
		if err := writeShard(stage, name, dt, specs, shard, get); err != nil {
			return err
		}
		for _, i := range shard {
			weightMap[specs[i].Name] = name
			total += int64(specs[i].Len()) * int64(dt.Size())
		}
	}
	if len(shards) == 1 {
		return nil
	}
	index, err := json.MarshalIndent(map[string]any{
		"metadata":   map[string]any{"total_size": total},
		"weight_map": weightMap,
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(stage, indexFile, append(index, '\n'))
}

// split deals specs, in order, into shards of at most maxShard bytes; a larger
// tensor has a shard of its own.
func split(specs []TensorSpec, width, maxShard int64) [][]int {
	var shards [][]int
	var size int64
	for i, s := range specs {
		n := int64(s.Len()) * width
		if len(shards) == 0 || size+n > maxShard && size > 0 {
			shards, size = append(shards, nil), 0
		}
		last := len(shards) - 1
		shards[last] = append(shards[last], i)
		size += n
	}
	return shards
}

// writeShard writes the tensors of one weight file, refusing what dt cannot hold.
func writeShard(stage, name string, dt safetensors.DType, specs []TensorSpec, shard []int, get func(i int) ([]float32, error)) error {
	limit := float64(math.MaxFloat32)
	switch dt {
	case safetensors.F16:
		limit = 65504
	case safetensors.BF16:
		limit = 0x1.fep127 // 3.39e38
	}
	list := make([]safetensors.Spec, len(shard))
	for j, i := range shard {
		list[j] = safetensors.Spec{Name: specs[i].Name, DType: dt, Shape: specs[i].Shape}
	}
	return create(filepath.Join(stage, name), func(w *bufio.Writer) error {
		err := safetensors.Write(w, list, func(j int) ([]float32, error) {
			data, err := get(shard[j])
			if err != nil {
				return nil, err
			}
			return data, finite(data, 0, limit)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

func writeFile(dir, name string, data []byte) error {
	return create(filepath.Join(dir, name), func(w *bufio.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// create writes a new file and syncs it.
func create(path string, fill func(w *bufio.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := fill(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// step renames a file, or removes it when to is empty.
type step struct{ from, to string }

func (s step) do() error {
	if s.to == "" {
		return os.Remove(s.from)
	}
	return os.Rename(s.from, s.to)
}

// replace moves the staged files over those in dir.
func replace(dir, stage string, plan func(dir, stage string) ([]step, error)) error {
	steps, err := plan(dir, stage)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// planReplace orders the steps so that one rename switches the weights: the new
// shards come first, unseen; then the single file or the index, which the reader
// looks for; then weights that no longer belong go.
func planReplace(dir, stage string) ([]step, error) {
	staged, err := weightNames(stage)
	if err != nil {
		return nil, err
	}
	old, err := weightNames(dir)
	if err != nil {
		return nil, err
	}
	var shards, after, stale []step
	for _, name := range slices.Sorted(maps.Keys(staged)) {
		if s := (step{filepath.Join(stage, name), filepath.Join(dir, name)}); shardName.MatchString(name) {
			shards = append(shards, s)
		} else {
			after = append(after, s) // there is one: the single file or the index
		}
	}
	var steps []step
	collide := false
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if !staged[name] {
			stale = append(stale, step{from: filepath.Join(dir, name)})
		}
		collide = collide || staged[name] && shardName.MatchString(name)
	}
	if collide && old[indexFile] {
		// Withdrawn, the index cannot point at shards half old and half new.
		steps = append(steps, step{from: filepath.Join(dir, indexFile)})
		stale = slices.DeleteFunc(stale, func(s step) bool { return s == steps[0] })
	}
	steps = append(append(append(steps, shards...), after...), stale...)
	for _, name := range []string{generationFile, configFile} {
		steps = append(steps, step{filepath.Join(stage, name), filepath.Join(dir, name)})
	}
	return steps, nil
}

// weightNames is the set of a folder's files that hold weights or their index.
func weightNames(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	for _, e := range entries {
		if n := e.Name(); n == weightsFile || n == indexFile || shardName.MatchString(n) {
			set[n] = true
		}
	}
	return set, nil
}

// syncDir makes renames within dir durable where the system knows how.
func syncDir(dir string) (err error) {
	if runtime.GOOS == "windows" || runtime.GOOS == "js" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}
