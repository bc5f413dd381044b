package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A checkpoint is a folder checkpoint-N that Hugging Face tools can load the
// model from, with
//
//	config.json, model*.safetensors, …   written by the model
//	tokenizer.json, …                    written by the tokenizer
//	optimizer.bin                        moments and update count
//	trainer_state.json                   State
//	checksums.json                       SHA-256 and size of all of the above
//
// A run with LoRA has the factors, as PEFT loads them beside the model that they
// name, adapter_config.json and adapter_model.safetensors, in place of the model.
//
// It is written as checkpoint-N.tmp, flushed file by file, and renamed: under
// its own name a checkpoint is complete, whenever the machine stops. Other
// endings are leftovers, which Open clears:
//
//	checkpoint-N.tmp        unfinished, removed
//	checkpoint-N.old        was being replaced or removed; comes back when
//	                        checkpoint-N is not there, or else is removed
//	checkpoint-N.aside      set aside by Rewind, kept for the user, as are
//	                        checkpoint-N.aside.2 and so on
//
// The trained model's folder, final, is written as final.tmp.
const (
	tmpEnd   = ".tmp"
	oldEnd   = ".old"
	asideEnd = ".aside"

	metricsFile   = "metrics.jsonl"
	beginFile     = "run.json" // what the run is, a State at its step 0
	lockFile      = ".lock"    // of whoever trains in a run's folder
	finalName     = "final"    // the trained model's folder
	adapterName   = "adapter"  // in it, LoRA's factors by themselves
	optimizerFile = "optimizer.bin"
	stateFile     = "trainer_state.json"
	sumsFile      = "checksums.json"
)

// Checkpoints are the checkpoints of one run, in its output folder.
type Checkpoints struct {
	dir  string
	keep int
	disk disk
}

// OpenCheckpoints makes the folder if need be and clears what a crash has left.
// keep is how many of the latest checkpoints stay, beside the best; 0 keeps all.
func OpenCheckpoints(dir string, keep int) (*Checkpoints, error) {
	return openCheckpoints(osDisk{}, dir, keep)
}

func openCheckpoints(d disk, dir string, keep int) (*Checkpoints, error) {
	c := &Checkpoints{dir: dir, keep: keep, disk: d}
	if err := makeDir(d, dir); err != nil {
		return nil, fmt.Errorf("open checkpoints: %w", err)
	}
	if err := c.clean(); err != nil {
		return nil, fmt.Errorf("open checkpoints: clear leftovers: %w", err)
	}
	return c, nil
}

// clean removes or brings back the leftovers of a crash.
func (c *Checkpoints) clean() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(c.dir, e.Name())
		if base, ok := strings.CutSuffix(e.Name(), tmpEnd); ok && (isCheckpoint(base) || base == finalName) {
			if err := c.disk.RemoveAll(path); err != nil {
				return err
			}
		}
		if base, ok := strings.CutSuffix(e.Name(), oldEnd); ok && isCheckpoint(base) {
			if err := c.settle(path, filepath.Join(c.dir, base)); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle decides about a checkpoint that was being replaced or removed: while
// its place is empty and it is still whole, nothing has replaced it.
func (c *Checkpoints) settle(old, place string) error {
	if _, err := os.Stat(place); errors.Is(err, fs.ErrNotExist) && verify(context.Background(), old) == nil {
		return c.disk.Rename(old, place)
	}
	return c.disk.RemoveAll(old)
}

// isCheckpoint tells whether a name is checkpoint-N.
func isCheckpoint(name string) bool { return stepOf(name) >= 0 }

// stepOf is N of checkpoint-N, or −1.
func stepOf(name string) int {
	digits, ok := strings.CutPrefix(name, "checkpoint-")
	if !ok {
		return -1
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || strconv.Itoa(n) != digits {
		return -1
	}
	return n
}

// Path is where the checkpoint of a step is or would be.
func (c *Checkpoints) Path(step int) string {
	return filepath.Join(c.dir, fmt.Sprintf("checkpoint-%d", step))
}

// Steps lists the complete checkpoints, in ascending order.
func (c *Checkpoints) Steps() ([]int, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var steps []int
	for _, e := range entries {
		if n := stepOf(e.Name()); n >= 0 && e.IsDir() {
			steps = append(steps, n)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// Fresh is an error when the folder already has checkpoints, or what a finished
// run leaves: a new run must not mix with an old one.
func (c *Checkpoints) Fresh() error {
	steps, err := c.Steps()
	if err != nil {
		return err
	}
	if len(steps) > 0 {
		return fmt.Errorf("%s already holds a run (checkpoint-%d): resume it with --resume, or choose another --output", c.dir, steps[len(steps)-1])
	}
	if _, err := os.Stat(filepath.Join(c.dir, finalName)); err == nil {
		return fmt.Errorf("%s already holds a run (%s): choose another --output", c.dir, finalName)
	}
	return nil
}

// holds tells whether a path is that of one of the checkpoints.
func (c *Checkpoints) holds(path string) bool {
	is, err := os.Stat(filepath.Dir(path))
	want, err2 := os.Stat(c.dir)
	return err == nil && err2 == nil && os.SameFile(is, want)
}

// Parts writes what a checkpoint is made of. Tokenizer may be nil.
type Parts struct {
	Model     func(dir string) error // config.json, model.safetensors, …
	Tokenizer func(dir string) error
	Optimizer func(w io.Writer) error
	State     *State
}

// Save writes checkpoint-N for N = p.State.Step and returns its path, then
// removes the checkpoints that are no longer to be kept.
func (c *Checkpoints) Save(p Parts) (string, error) {
	path := c.Path(p.State.Step)
	if err := c.place(path, func(tmp string) error { return c.fill(tmp, p) }); err != nil {
		return "", fmt.Errorf("save %s: %w", path, err)
	}
	if err := c.prune(p.State); err != nil {
		return path, fmt.Errorf("remove old checkpoints: %w", err)
	}
	return path, nil
}

// mendable is an error of the disk, after so many steps, with what is lost by it and what
// can be done.
func (c *Checkpoints) mendable(err error, done int) error {
	steps, listErr := c.Steps()
	if listErr != nil {
		return err
	}
	if len(steps) == 0 {
		return fmt.Errorf("%w; no checkpoint is kept: once that is mended, the same command begins the run again", err)
	}
	last := steps[len(steps)-1]
	lost := "nothing is lost"
	if n := done - last; n > 0 {
		lost = fmt.Sprintf("lost is what came after step %d (%s)", last, stepCount(n))
	}
	return fmt.Errorf("%w; %s: once that is mended, --resume goes on from %s", err, lost, c.Path(last))
}

// saveFinal makes final/ of what fill writes into a folder, and returns its path. In one
// that an earlier end of the run has left, fill replaces its files: others stay.
func (c *Checkpoints) saveFinal(fill func(dir string) error) (path string, err error) {
	path = filepath.Join(c.dir, finalName)
	if _, err = os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		err = c.place(path, fill)
	} else if err == nil {
		err = fill(path)
	}
	if err != nil {
		return "", fmt.Errorf("save %s: %w", path, err)
	}
	return path, nil
}

// place makes a folder of what fill writes into one beside it, of which nothing is left
// when that fails: on a full disk it is in the way of what could mend it.
func (c *Checkpoints) place(path string, fill func(dir string) error) (err error) {
	tmp := path + tmpEnd
	defer func() {
		if err != nil {
			err = errors.Join(Instead(err, tmp, path), c.disk.RemoveAll(tmp))
		}
	}()
	if err := c.disk.RemoveAll(tmp); err != nil {
		return err
	}
	if err := c.disk.MkdirAll(tmp); err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return err
	}
	if err := syncTree(c.disk, tmp); err != nil {
		return err
	}
	return c.commit(tmp, path)
}

// fill writes what a checkpoint is made of, its checksums last.
func (c *Checkpoints) fill(tmp string, p Parts) error {
	if err := p.Model(tmp); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if p.Tokenizer != nil {
		if err := p.Tokenizer(tmp); err != nil {
			return fmt.Errorf("tokenizer: %w", err)
		}
	}
	if err := writeFile(c.disk, filepath.Join(tmp, optimizerFile), p.Optimizer); err != nil {
		return fmt.Errorf("%s: %w", optimizerFile, err)
	}
	state := *p.State
	state.Format = stateFormat
	if err := writeJSON(c.disk, filepath.Join(tmp, stateFile), state); err != nil {
		return fmt.Errorf("%s: %w", stateFile, err)
	}
	sums, err := checksums(tmp)
	if err != nil {
		return err
	}
	if err := writeJSON(c.disk, filepath.Join(tmp, sumsFile), sums); err != nil {
		return fmt.Errorf("%s: %w", sumsFile, err)
	}
	return nil
}

// commit puts a finished folder in its place. One that stands there already is
// moved away first, since a folder cannot be replaced in one go; settle brings
// it back if the machine stops in between.
func (c *Checkpoints) commit(tmp, path string) error {
	old := path + oldEnd
	_, err := os.Stat(path)
	replaces := err == nil
	if replaces {
		if err := c.disk.RemoveAll(old); err != nil {
			return err
		}
		if err := c.disk.Rename(path, old); err != nil {
			return err
		}
	}
	if err := c.disk.Rename(tmp, path); err != nil {
		return err
	}
	if err := c.disk.SyncDir(c.dir); err != nil {
		return err
	}
	if replaces {
		return c.disk.RemoveAll(old)
	}
	return nil
}

// writeJSON writes v indented, as Hugging Face does, and flushes the file.
func writeJSON(d disk, path string, v any) error {
	return writeFile(d, path, func(w io.Writer) error { return encodeJSON(w, v) })
}

func encodeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// prune removes all but the last few checkpoints and the best.
func (c *Checkpoints) prune(s *State) error {
	if c.keep <= 0 {
		return nil
	}
	steps, err := c.Steps()
	if err != nil {
		return err
	}
	for _, n := range steps[:max(0, len(steps)-c.keep)] {
		if s.Best != nil && n == s.Best.Step {
			continue
		}
		// First the name goes: half a checkpoint must not bear it.
		old := c.Path(n) + oldEnd
		if err := c.disk.Rename(c.Path(n), old); err != nil {
			return err
		}
		if err := c.disk.SyncDir(c.dir); err != nil {
			return err
		}
		if err := c.disk.RemoveAll(old); err != nil {
			return err
		}
	}
	return nil
}

// Rewind sets aside, as checkpoint-N.aside, every checkpoint after the given
// step. A run that goes on from an earlier one calls it, so that the later ones,
// which belong to another history, are never taken for its own.
func (c *Checkpoints) Rewind(step int) ([]string, error) {
	steps, err := c.Steps()
	if err != nil {
		return nil, err
	}
	var moved []string
	for _, n := range steps {
		if n <= step {
			continue
		}
		to, err := setAside(c.disk, c.Path(n))
		if err != nil {
			return moved, fmt.Errorf("set checkpoints aside: %w", err)
		}
		moved = append(moved, to)
	}
	if len(moved) > 0 {
		if err := c.disk.SyncDir(c.dir); err != nil {
			return moved, fmt.Errorf("set checkpoints aside: %w", err)
		}
	}
	return moved, nil
}

// LastCheckpoint is the path of a folder's latest complete checkpoint, "" if it
// has none. It opens nothing and changes nothing.
func LastCheckpoint(dir string) (string, error) {
	c := &Checkpoints{dir: dir}
	steps, err := c.Steps()
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(steps) == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return c.Path(steps[len(steps)-1]), nil
}

func nothingIn(dir string) error {
	begin := "start without --resume"
	_, begun := os.Stat(filepath.Join(dir, beginFile))
	_, done := os.Stat(filepath.Join(dir, finalName))
	if begun == nil && done != nil {
		begin = "--resume=auto begins its run again"
	}
	return fmt.Errorf("%s holds no checkpoint to resume from, %s: %w", dir, begin, fs.ErrNotExist)
}

// Latest opens the latest checkpoint. When it is damaged, the error says so and
// names the latest sound one before it; when there is none at all the error is
// fs.ErrNotExist.
func (c *Checkpoints) Latest(ctx context.Context) (*Checkpoint, error) {
	steps, err := c.Steps()
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, nothingIn(c.dir)
	}
	last := len(steps) - 1
	k, err := OpenCheckpoint(ctx, c.Path(steps[last]))
	if err == nil || ctx.Err() != nil {
		return k, err
	}
	for i := last - 1; i >= 0; i-- {
		if verify(ctx, c.Path(steps[i])) == nil {
			return nil, fmt.Errorf("%w; the one before it is sound: --resume=%s goes on from there", err, c.Path(steps[i]))
		}
	}
	return nil, fmt.Errorf("%w; no earlier checkpoint is sound", err)
}

// Checkpoint is one complete checkpoint, opened.
type Checkpoint struct {
	Path  string // the folder; the model and the tokenizer load from it
	State State
}

// DamagedError says that a file of a checkpoint is not what was written.
type DamagedError struct {
	Path    string // the checkpoint
	File    string // the file in it
	Problem string
}

// Error names checkpoint and file.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged: %s: %s", e.Path, e.File, e.Problem)
}

// OpenCheckpoint verifies every file of a checkpoint against its checksum, and
// reads its state. The error for a damaged one is a *DamagedError.
func OpenCheckpoint(ctx context.Context, path string) (*Checkpoint, error) {
	if err := verify(ctx, path); err != nil {
		return nil, err
	}
	s, err := readState(path)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	return &Checkpoint{Path: path, State: s}, nil
}

// Optimizer opens the optimizer's state.
func (k *Checkpoint) Optimizer() (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(k.Path, optimizerFile))
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	return f, nil
}

// checksums are the sums of all files below dir except checksums.json, by their names
// from there, with forward slashes.
func checksums(dir string) (map[string]fileSum, error) {
	sums, files := map[string]fileSum{}, os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || name == sumsFile {
			return err
		}
		sums[name], err = sumOf(context.Background(), files, name)
		return err
	})
	return sums, err
}

// verify compares a checkpoint with its checksums, until ctx ends. Files that were
// added later do not matter.
func verify(ctx context.Context, path string) error {
	raw, err := os.ReadFile(filepath.Join(path, sumsFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(path); e != nil {
			return fmt.Errorf("open checkpoint: %w", e)
		}
		return &DamagedError{path, sumsFile, "is missing; a model folder without it is no checkpoint: give it as --model to start a new run from it"}
	}
	if err != nil {
		return fmt.Errorf("open checkpoint: %w", err)
	}
	var want map[string]fileSum
	if err := json.Unmarshal(raw, &want); err != nil {
		return &DamagedError{path, sumsFile, err.Error()}
	}
	for _, needed := range []string{optimizerFile, stateFile} {
		if _, ok := want[needed]; !ok {
			return &DamagedError{path, sumsFile, "does not list " + needed}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !fs.ValidPath(name) {
			return &DamagedError{path, sumsFile, fmt.Sprintf("lists %q, which is not a name inside the folder", name)}
		}
		have, err := sumOf(ctx, os.DirFS(path), name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return &DamagedError{path, name, "is missing"}
		case err != nil:
			return fmt.Errorf("open checkpoint: %w", err)
		case have.Size != want[name].Size:
			return &DamagedError{path, name, fmt.Sprintf("has %d bytes, was written with %d", have.Size, want[name].Size)}
		case have != want[name]:
			return &DamagedError{path, name, "its content is not what was written (SHA-256 differs)"}
		}
	}
	return nil
}
