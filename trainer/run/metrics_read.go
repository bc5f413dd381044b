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
	"strconv"
)

// ReadMetrics reads the lines of dir/metrics.jsonl, each with its "step". A torn
// last line is left out.
func ReadMetrics(dir string) (all []Values, err error) {
	err = eachMetrics(dir, func(v Values) { all = append(all, maps.Clone(v)) })
	return all, err
}

// eachMetrics hands over the lines of dir/metrics.jsonl, each until the next one.
func eachMetrics(dir string, take func(Values)) (err error) {
	f, err := os.Open(filepath.Join(dir, metricsFile))
	if err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := newLineReader(f)
	for n := 1; ; n++ {
		_, v, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read metrics: %s:%d: %w", metricsFile, n, err)
		}
		take(v)
	}
}

// lineReader reads lines of metrics: a long run has a million.
type lineReader struct {
	in    *bufio.Reader
	long  []byte // a line that is longer than in's buffer
	names map[string]string
	v     Values
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(r, 1<<16), names: map[string]string{}, v: Values{}}
}

// next is the next line, with its end, and what it says, both until the one after. A line
// without its end is none: the error is io.EOF.
func (r *lineReader) next() ([]byte, Values, error) {
	line, err := r.in.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		r.long = append(r.long[:0], line...)
		var rest []byte
		rest, err = r.in.ReadBytes('\n')
		r.long = append(r.long, rest...)
		line = r.long
	}
	if err != nil {
		return nil, nil, err
	}
	if r.parse(line) {
		return line, r.v, nil
	}
	var v Values // as another program may have written it
	if err := json.Unmarshal(line, &v); err != nil {
		return nil, nil, err
	}
	return line, v, nil
}

// parse reads a line as Metrics.Log writes it, and reports false for any other. It is ten
// times as fast as package json, which agrees with it.
func (r *lineReader) parse(line []byte) bool {
	clear(r.v)
	rest, ok := bytes.CutPrefix(line, []byte(`{"`))
	for ok {
		var name, number []byte
		if name, rest, ok = bytes.Cut(rest, []byte(`": `)); !ok {
			return false
		}
		key, known := r.names[string(name)]
		if !known {
			if !plain(name) {
				return false
			}
			key = string(name)
			r.names[key] = key
		}
		at := bytes.IndexAny(rest, ",}")
		if at < 0 {
			return false
		}
		number, rest = rest[:at], rest[at:]
		if string(number) == "null" {
			r.v[key] = math.NaN()
		} else if !isNumber(number) {
			return false
		} else if x, err := strconv.ParseFloat(string(number), 64); err == nil {
			r.v[key] = x
		} else {
			return false
		}
		if string(rest) == "}\n" {
			return true
		}
		rest, ok = bytes.CutPrefix(rest, []byte(`, "`))
	}
	return false
}

// stepOf is the step that begins a line that parse reads.
func (r *lineReader) stepOf(line []byte) (int, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"step": `))
	if !ok || !r.parse(line) {
		return 0, false
	}
	step, err := strconv.Atoi(string(rest[:bytes.IndexAny(rest, ",}")]))
	return step, err == nil && r.v["step"] == float64(step) // not said twice
}

// plain tells a name that JSON writes as it is.
func plain(name []byte) bool {
	for _, c := range name {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// isNumber tells whether b is a number of JSON: of Go's numbers some are not.
func isNumber(b []byte) bool {
	digits := func() (n int) {
		for n < len(b) && '0' <= b[n] && b[n] <= '9' {
			n++
		}
		b = b[n:]
		return n
	}
	b = bytes.TrimPrefix(b, []byte("-"))
	zero := len(b) > 0 && b[0] == '0'
	if n := digits(); n == 0 || zero && n > 1 {
		return false
	}
	if len(b) > 0 && b[0] == '.' {
		b = b[1:]
		if digits() == 0 {
			return false
		}
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		if b = b[1:]; len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if digits() == 0 {
			return false
		}
	}
	return len(b) == 0
}
