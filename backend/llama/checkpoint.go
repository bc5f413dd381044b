package llama

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sort"
	"strings"

	"nrt/backend/safetensors"
)

// Weights lie in one file, or in shards that an index maps tensor names to. When
// both are there the single file counts, as it does for transformers.
const (
	weightsFile = "model.safetensors"
	indexFile   = "model.safetensors.index.json"
)

// maxIndexBytes bounds the index of a sharded checkpoint.
const maxIndexBytes = 64 << 20

// maxNamed is how many tensors an error lists before it only counts.
const maxNamed = 4

// checkpoint is an open set of weight files in which every wanted tensor was
// found with its shape.
type checkpoint struct {
	files []*safetensors.File // sorted by name
	found []place             // by index of the spec
	merge Source              // adds an adapter's factors to what was read; nil where there is none

	// The head of a tied model whose files have the embedding too: it must be the same
	// numbers.
	head       *place
	headValues []float32 // memory
}

// place is where one tensor lies.
type place struct {
	file *safetensors.File
	safetensors.Tensor
}

// read fills dst with the elements of tensor i from one on, which must be finite.
func (ck *checkpoint) read(i, from int, dst []float32) error {
	at := ck.found[i]
	if err := at.file.Read(at.Name, from, dst); err != nil {
		return err
	}
	if ck.merge != nil {
		if err := ck.merge(i, from, dst); err != nil {
			return err
		}
	}
	if err := finite(dst, from, math.MaxFloat32); err != nil {
		return fmt.Errorf("%s: tensor %q: %w", at.file.Name(), at.Name, err)
	}
	if ck.head != nil && at.Name == embedTokens {
		return ck.checkHead(from, dst)
	}
	return nil
}

// checkHead compares elements of the embedding, from one on, with the head's. Of
// different ones it is open which are meant: transformers tied them before version 5,
// and does not since.
func (ck *checkpoint) checkHead(from int, embedding []float32) error {
	ck.headValues = resized(ck.headValues, len(embedding))
	if err := ck.head.file.Read(lmHead, from, ck.headValues); err != nil {
		return err
	}
	for j, x := range ck.headValues {
		if x != embedding[j] {
			return fmt.Errorf("%s: tensor %q: element %d is %v, but %v in %q, with which %s ties it: to use both, let tie_word_embeddings be false",
				ck.head.file.Name(), lmHead, from+j, x, embedding[j], embedTokens, configFile)
		}
	}
	return nil
}

// finite reports the first element that is not a number within ±limit; the
// elements count from first on.
func finite(data []float32, first int, limit float64) error {
	// As bits, magnitudes are in order, with infinity and NaN at the end.
	most := math.Float32bits(float32(limit))
	for j, x := range data {
		if math.Float32bits(x)&^(1<<31) > most {
			return fmt.Errorf("element %d: want a finite number within ±%g, have %v", first+j, limit, x)
		}
	}
	return nil
}

func (ck *checkpoint) close() error {
	var errs []error
	for _, f := range ck.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// openModel reads a folder's configuration and opens its weights, with those of an
// adapter that lies in it merged into them.
func openModel(fsys fs.FS) (c Config, ck *checkpoint, err error) {
	if c, err = ReadConfig(fsys); err != nil {
		return c, nil, err
	}
	if ck, err = openCheckpoint(fsys, c.Tensors()); err != nil {
		return c, nil, err
	}
	if err = ck.mergeAdapter(fsys, c); err != nil {
		return c, nil, errors.Join(err, ck.close())
	}
	return c, ck, nil
}

// openCheckpoint opens the weight files and finds every tensor of specs.
func openCheckpoint(fsys fs.FS, specs []TensorSpec) (_ *checkpoint, err error) {
	ck := &checkpoint{}
	defer func() {
		if err != nil {
			err = errors.Join(err, ck.close())
		}
	}()
	source := weightsFile
	single, err := safetensors.Open(fsys, weightsFile)
	switch {
	case err == nil:
		ck.files = []*safetensors.File{single}
	case errors.Is(err, fs.ErrNotExist):
		source = indexFile
		if err := ck.openShards(fsys); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	if err := ck.find(source, specs); err != nil {
		return nil, err
	}
	return ck, nil
}

// openShards reads the index and opens every shard it names. Index and shards
// must agree about every tensor.
func (ck *checkpoint) openShards(fsys fs.FS) error {
	weightMap, err := readIndex(fsys)
	if err != nil {
		return err
	}
	shards := map[string][]string{} // tensors by file
	for tensor, file := range weightMap {
		shards[file] = append(shards[file], tensor)
	}
	names := make([]string, 0, len(shards))
	for name := range shards {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		f, err := safetensors.Open(fsys, name)
		if err != nil {
			return fmt.Errorf("%s: weight_map: %w", indexFile, err)
		}
		ck.files = append(ck.files, f)
		sort.Strings(shards[name])
		for _, t := range shards[name] {
			if _, ok := f.Tensor(t); !ok {
				return fmt.Errorf("%s: tensor %q: missing, although %s places it here", name, t, indexFile)
			}
		}
		for _, t := range f.Tensors() {
			if file, ok := weightMap[t.Name]; !ok || file != name {
				return fmt.Errorf("%s: tensor %q: here, but %s places it in %q", name, t.Name, indexFile, file)
			}
		}
	}
	return nil
}

// readIndex reads the weight_map of model.safetensors.index.json.
func readIndex(fsys fs.FS) (map[string]string, error) {
	raw, err := readSmall(fsys, indexFile, maxIndexBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read weights: want %s or %s, have neither: %w", weightsFile, indexFile, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("parse %s: %w", indexFile, err)
	}
	if len(index.WeightMap) == 0 {
		return nil, fmt.Errorf("parse %s: weight_map: missing or empty", indexFile)
	}
	for tensor, file := range index.WeightMap {
		if !fs.ValidPath(file) || strings.ContainsAny(file, `/\`) || !strings.HasSuffix(file, ".safetensors") {
			return nil, fmt.Errorf("parse %s: weight_map: tensor %q: want the name of a .safetensors file, have %q", indexFile, tensor, file)
		}
	}
	return index.WeightMap, nil
}

// find locates every tensor of specs and checks shape and type. source is the
// file to blame when one is nowhere.
func (ck *checkpoint) find(source string, specs []TensorSpec) error {
	where := map[string]place{}
	for _, f := range ck.files {
		for _, t := range f.Tensors() {
			where[t.Name] = place{f, t}
		}
	}
	wanted := map[string]bool{}
	for _, s := range specs {
		wanted[s.Name] = true
	}
	tied := !wanted[lmHead]
	var missing []string
	ck.found = make([]place, len(specs))
	for i, s := range specs {
		at, ok := where[s.Name]
		if head, stored := where[lmHead]; stored && tied && s.Name == embedTokens {
			// Tied weights may have been stored under either of their names, or both.
			if err := head.check(s.Shape); err != nil {
				return err
			}
			if ok {
				ck.head = &head
			} else {
				at, ok = head, true
			}
		}
		if !ok {
			missing = append(missing, fmt.Sprintf("%q %s", s.Name, shapeText(s.Shape)))
			continue
		}
		if err := at.check(s.Shape); err != nil {
			return err
		}
		ck.found[i] = at
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s: missing %s", source, listed(missing))
	}
	var extra []string
	for _, f := range ck.files {
		for _, t := range f.Tensors() {
			if !wanted[t.Name] && !harmless(t.Name, tied) {
				extra = append(extra, fmt.Sprintf("%q %s", t.Name, shapeText(t.Shape)))
			}
		}
	}
	if len(extra) > 0 {
		return fmt.Errorf("%s: unexpected %s", source, listed(extra))
	}
	return nil
}

// harmless tells of tensors that older exports carry but the config determines:
// rotary tables, and the second name of tied embeddings.
func harmless(name string, tied bool) bool {
	return strings.HasSuffix(name, "rotary_emb.inv_freq") || tied && name == lmHead
}

// check refuses another shape, and what are no numbers.
func (p place) check(shape []int) error {
	if !slices.Equal(p.Shape, shape) {
		return fmt.Errorf("%s: tensor %q: want shape %s, have %s", p.file.Name(), p.Name, shapeText(shape), shapeText(p.Shape))
	}
	if !p.DType.Float() {
		return fmt.Errorf("%s: tensor %q: want dtype F32, F16 or BF16, have %s", p.file.Name(), p.Name, p.DType)
	}
	return nil
}

// shapeText writes a shape as Python does: [4, 8].
func shapeText(shape []int) string {
	return strings.ReplaceAll(fmt.Sprint(shape), " ", ", ")
}

// listed names the first few of many tensors and counts them all.
func listed(names []string) string {
	s := fmt.Sprintf("%d tensors: ", len(names))
	if len(names) == 1 {
		s = "tensor "
	}
	if len(names) > maxNamed {
		return s + strings.Join(names[:maxNamed], ", ") + ", …"
	}
	return s + strings.Join(names, ", ")
}
