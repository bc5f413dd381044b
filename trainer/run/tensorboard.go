package run

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// boardDir is the folder of a run's event files.
const boardDir = "tensorboard"

// board writes metrics as TensorBoard reads them: a file of records, each a protocol
// buffer of type Event (tensorflow/core/util/event.proto) in TFRecord's frame of length
// and checksums. A run that goes on begins another file, whose first record tells
// TensorBoard to forget the steps that are done again.
type board struct {
	path string
	f    diskFile
	now  func() time.Time
}

// openBoard opens a new file in dir/tensorboard for a run that goes on after step, or for
// a fresh one with step −1. A file that is the folder's first, or that comes after steps
// without TensorBoard, takes the place of all before it, with what metrics.jsonl has.
func openBoard(d disk, dir string, step int, without bool, now func() time.Time) (b *board, err error) {
	folder := filepath.Join(dir, boardDir)
	if err := makeDir(d, folder); err != nil {
		return nil, fmt.Errorf("open TensorBoard's log: %w", err)
	}
	names, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("open TensorBoard's log: %w", err)
	}
	earlier, at := 0, now().Unix()
	for _, name := range names {
		var was int64
		if _, err := fmt.Sscanf(name.Name(), "events.out.tfevents.%d.", &was); err == nil {
			earlier++
			at = max(at, was+1) // TensorBoard reads files by their names, and this one last
		}
	}
	b = &board{now: now}
	b.path = filepath.Join(folder, fmt.Sprintf("events.out.tfevents.%010d.nrt", at))
	if b.f, err = d.OpenAppend(b.path); err != nil {
		return nil, fmt.Errorf("open TensorBoard's log: %w", err)
	}
	whole, first := earlier == 0 || without, step+1
	if whole {
		first = 0
	}
	err = errors.Join(d.SyncDir(folder), b.write(b.event(0, fileVersion, []byte("brain.Event:2"))),
		b.write(b.event(first, sessionLog, protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), sessionStart))))
	if err == nil && step >= 0 && whole {
		var failed error
		err = eachMetrics(dir, func(v Values) {
			v = maps.Clone(v)
			at := int(v["step"])
			delete(v, "step")
			failed = errors.Join(failed, b.Log(at, v))
		})
		err = errors.Join(err, failed)
	}
	if err != nil {
		return nil, errors.Join(err, b.f.Close())
	}
	return b, nil
}

// The fields of an Event that are used, and the status of a SessionLog that says that a
// program begins, or begins again.
const (
	fileVersion  = 3
	summary      = 5
	sessionLog   = 7
	sessionStart = 1
)

// event is an Event that holds one field beside its time and step.
func (b *board) event(step int, field protowire.Number, content []byte) []byte {
	e := protowire.AppendTag(nil, 1, protowire.Fixed64Type)
	e = protowire.AppendFixed64(e, math.Float64bits(float64(b.now().UnixNano())/1e9))
	if step != 0 { // which goes without saying
		e = protowire.AppendTag(e, 2, protowire.VarintType)
		e = protowire.AppendVarint(e, uint64(step))
	}
	e = protowire.AppendTag(e, field, protowire.BytesType)
	return protowire.AppendBytes(e, content)
}

// Log appends one line of metrics, under the names that transformers' trainer gives them
// there, so that its runs and ours lie over each other: training's below "train/".
func (b *board) Log(step int, v Values) error {
	var s []byte
	for _, name := range slices.Sorted(maps.Keys(v)) {
		tag := name
		if !strings.HasPrefix(name, "eval/") {
			tag = "train/" + name
		}
		value := protowire.AppendTag(nil, 1, protowire.BytesType)
		value = protowire.AppendString(value, tag)
		value = protowire.AppendTag(value, 2, protowire.Fixed32Type)
		value = protowire.AppendFixed32(value, math.Float32bits(float32(v[name])))
		s = protowire.AppendTag(s, 1, protowire.BytesType)
		s = protowire.AppendBytes(s, value)
	}
	return b.write(b.event(step, summary, s))
}

// write appends a record.
func (b *board) write(event []byte) error {
	r := binary.LittleEndian.AppendUint64(nil, uint64(len(event)))
	r = binary.LittleEndian.AppendUint32(r, masked(r))
	r = append(r, event...)
	r = binary.LittleEndian.AppendUint32(r, masked(event))
	if _, err := b.f.Write(r); err != nil {
		return fmt.Errorf("write %s: %w", b.path, err)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is TFRecord's checksum.
func masked(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// Sync makes the records so far survive a power cut.
func (b *board) Sync() error {
	if err := b.f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", b.path, err)
	}
	return nil
}

// Close makes all records survive a power cut.
func (b *board) Close() error {
	if err := errors.Join(b.f.Sync(), b.f.Close()); err != nil {
		return fmt.Errorf("close %s: %w", b.path, err)
	}
	return nil
}
