package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Values are named numbers, as in one line of the metrics. As JSON, names are
// sorted and numbers that are not finite become null, which comes back as NaN.
type Values map[string]float64

// MarshalJSON writes one object.
func (v Values) MarshalJSON() ([]byte, error) {
	return append(v.appendFields([]byte{'{'}), '}'), nil
}

// appendFields writes the fields, names sorted, with commas between them.
func (v Values) appendFields(b []byte) []byte {
	for i, name := range slices.Sorted(maps.Keys(v)) {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, name)
		b = append(b, ": "...)
		b = appendNumber(b, v[name])
	}
	return b
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *Values) UnmarshalJSON(raw []byte) error {
	var m map[string]*float64
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if m == nil {
		*v = nil
		return nil
	}
	*v = make(Values, len(m))
	for name, x := range m {
		if x == nil {
			(*v)[name] = math.NaN()
		} else {
			(*v)[name] = *x
		}
	}
	return nil
}

// appendNumber writes the shortest text that reads back as x.
func appendNumber(b []byte, x float64) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(b, "null"...)
	}
	if x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return strconv.AppendInt(b, int64(x), 10)
	}
	return strconv.AppendFloat(b, x, 'g', -1, 64)
}

// appendString writes a JSON string and leaves <, > and & as they are:
// "<think>" is to be read by people too.
func appendString(b []byte, s string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// lines is a log of JSON lines, each of which begins with its step. Each line
// is handed to the system whole, at once; Sync makes all of them survive a
// power cut.
type lines struct {
	path string
	f    diskFile
}

// openLines opens a log for a run that goes on after the given step: lines of
// later steps, which that run writes again, and lines torn by a crash are
// removed first, in one atomic replacement. A fresh run passes step −1 and
// starts an empty log.
func openLines(d disk, path string, step int) (*lines, error) {
	if err := cutLines(d, path, step); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	f, err := d.OpenAppend(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &lines{path: path, f: f}, nil
}

// cutLines keeps the whole lines up to and including step.
func cutLines(d disk, path string, step int) (err error) {
	in, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, in.Close())
		}
	}()
	tmp := path + ".tmp"
	err = writeFile(d, tmp, func(w io.Writer) error {
		if step < 0 {
			return nil
		}
		return copyLines(w, in, step)
	})
	if err != nil {
		return errors.Join(Instead(err, tmp, path), d.RemoveAll(tmp))
	}
	closed = true // before the rename: Windows replaces no open file
	if err := in.Close(); err != nil {
		return err
	}
	if err := d.Rename(tmp, path); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

// copyLines copies the lines whose step is at most the given one.
func copyLines(w io.Writer, r io.Reader, step int) error {
	in, out := bufio.NewReader(r), bufio.NewWriter(w)
	metrics := newLineReader(nil)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return out.Flush() // what follows the last line end is torn
		}
		if err != nil {
			return err
		}
		at, ok := metrics.stepOf(line)
		if !ok {
			var head struct {
				Step *int `json:"step"`
			}
			if json.Unmarshal(line, &head) != nil || head.Step == nil {
				continue
			}
			at = *head.Step
		}
		if at > step {
			continue
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
}

// write appends one line, which must end in a line end.
func (l *lines) write(line []byte) error {
	if _, err := l.f.Write(line); err != nil {
		return fmt.Errorf("write %s: %w", l.path, err)
	}
	return nil
}

// Sync makes the lines so far durable; call it before a checkpoint.
func (l *lines) Sync() error {
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", l.path, err)
	}
	return nil
}

// Close syncs and closes.
func (l *lines) Close() error {
	if err := errors.Join(l.f.Sync(), l.f.Close()); err != nil {
		return fmt.Errorf("close %s: %w", l.path, err)
	}
	return nil
}

// Metrics is metrics.jsonl: a line {"step": …, …} per training step or
// evaluation, under TRL's names, ours beside them under "nrt/".
type Metrics struct{ *lines }

// OpenMetrics opens dir/metrics.jsonl for a run that goes on after step, or for
// a fresh one with step −1, which empties it. No step is in it twice.
func OpenMetrics(dir string, step int) (*Metrics, error) {
	l, err := openLines(osDisk{}, filepath.Join(dir, metricsFile), step)
	if err != nil {
		return nil, err
	}
	return &Metrics{l}, nil
}

// Log appends one line. Numbers that are not finite become null.
func (m *Metrics) Log(step int, v Values) error {
	b := strconv.AppendInt([]byte(`{"step": `), int64(step), 10)
	if len(v) > 0 {
		b = v.appendFields(append(b, ", "...))
	}
	return m.write(append(b, "}\n"...))
}
