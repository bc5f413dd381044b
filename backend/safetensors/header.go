package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxHeader is the longest header the reference implementation accepts, in bytes.
const maxHeader = 100_000_000

// maxRank bounds the number of dimensions of one tensor.
const maxRank = 64

// maxKeys bounds the members of an object: the largest models have some thousands of
// tensors in a file, while a header of the longest has room for millions of empty
// ones.
const maxKeys = 1 << 16

// metadataKey holds the free-form string map within the header.
const metadataKey = "__metadata__"

// Tensor is one entry of the header.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // row-major; empty for a scalar
	// Begin and End are the bytes of the tensor, counted from the end of the header.
	Begin, End int64
}

// Len is the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// parseHeader reads the JSON header and checks it against the number of data
// bytes that follow it: every tensor exactly as long as its type and shape say,
// together covering the data without hole or overlap. Tensors are returned in
// the order of the data.
func parseHeader(raw []byte, dataLen int64) ([]Tensor, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("header: not UTF-8")
	}
	if len(raw) == 0 || raw[0] != '{' {
		return nil, fmt.Errorf("header: want '{' first, have %q", raw[:min(len(raw), 1)])
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	p := headerParser{d: d}
	if err := p.object(p.entry); err != nil {
		return nil, fmt.Errorf("header: %w", noEOF(err))
	}
	if rest := bytes.TrimLeft(raw[d.InputOffset():], " "); len(rest) > 0 {
		return nil, fmt.Errorf("header: want only spaces after the object, have %q", rest[:1])
	}
	sort.SliceStable(p.tensors, func(i, j int) bool {
		a, b := p.tensors[i], p.tensors[j]
		return a.Begin < b.Begin || a.Begin == b.Begin && a.End < b.End
	})
	var at int64
	for _, t := range p.tensors {
		switch {
		case t.Begin > at:
			return nil, fmt.Errorf("tensor %q: data_offsets [%d, %d] leave a hole of %d bytes after %d", t.Name, t.Begin, t.End, t.Begin-at, at)
		case t.Begin < at:
			return nil, fmt.Errorf("tensor %q: data_offsets [%d, %d] overlap the tensor before, which ends at %d", t.Name, t.Begin, t.End, at)
		case t.End > dataLen:
			return nil, fmt.Errorf("tensor %q: data_offsets [%d, %d] reach past the file's %d data bytes (truncated?)", t.Name, t.Begin, t.End, dataLen)
		}
		at = t.End
	}
	if at != dataLen {
		return nil, fmt.Errorf("data: want %d bytes as in the header, have %d", at, dataLen)
	}
	return p.tensors, nil
}

// noEOF says plainly what an early end of the JSON text means here.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("JSON ends early")
	}
	return err
}

// headerParser walks the JSON by tokens, since only so duplicate keys show.
type headerParser struct {
	d       *json.Decoder
	tensors []Tensor
}

// object reads one JSON object, calling member with the value still to be read.
func (p *headerParser) object(member func(key string) error) error {
	t, err := p.d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("want an object, have %v", t)
	}
	seen := map[string]bool{}
	for p.d.More() {
		t, err := p.d.Token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return fmt.Errorf("want a key, have %v", t)
		}
		if seen[key] {
			return fmt.Errorf("key %q: given twice", key)
		}
		if len(seen) == maxKeys {
			return fmt.Errorf("want at most %d keys", maxKeys)
		}
		seen[key] = true
		if err := member(key); err != nil {
			return err
		}
	}
	_, err = p.d.Token() // the closing brace
	return err
}

// entry reads one member of the header.
func (p *headerParser) entry(name string) error {
	if name == metadataKey {
		err := p.object(func(key string) error { // free text, which nobody asks for
			_, err := p.text()
			return wrap(key, err)
		})
		return wrap(metadataKey, err)
	}
	t, err := p.tensor(name)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", name, noEOF(err))
	}
	p.tensors = append(p.tensors, t)
	return nil
}

func wrap(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, noEOF(err))
}

// tensor reads one tensor's object and checks it by itself.
func (p *headerParser) tensor(name string) (Tensor, error) {
	t := Tensor{Name: name, Begin: -1}
	hasShape := false
	err := p.object(func(key string) error {
		switch key {
		case "dtype":
			s, err := p.text()
			t.DType = DType(s)
			return wrap(key, err)
		case "shape":
			dims, err := p.numbers(maxRank)
			hasShape = true
			t.Shape = make([]int, len(dims))
			for i, d := range dims {
				if d > math.MaxInt {
					return fmt.Errorf("shape: %d is too large", d)
				}
				t.Shape[i] = int(d)
			}
			return wrap(key, err)
		case "data_offsets":
			o, err := p.numbers(2)
			if err == nil && len(o) != 2 {
				err = fmt.Errorf("want two numbers, have %d", len(o))
			}
			if err != nil {
				return wrap(key, err)
			}
			t.Begin, t.End = o[0], o[1]
			return nil
		}
		return fmt.Errorf("field %q: not part of the format", key)
	})
	switch {
	case err != nil:
		return t, err
	case t.DType == "":
		return t, errors.New("dtype: missing")
	case t.DType.Size() == 0:
		return t, fmt.Errorf("dtype: %q is unknown", string(t.DType))
	case !hasShape:
		return t, errors.New("shape: missing")
	case t.Begin < 0:
		return t, errors.New("data_offsets: missing")
	case t.End < t.Begin:
		return t, fmt.Errorf("data_offsets: want begin ≤ end, have [%d, %d]", t.Begin, t.End)
	}
	want, ok := byteLen(t.DType, t.Shape)
	if !ok {
		return t, fmt.Errorf("shape: %v of %s overflows", t.Shape, t.DType)
	}
	if t.End-t.Begin != want {
		return t, fmt.Errorf("shape %v of %s wants %d bytes, data_offsets [%d, %d] have %d", t.Shape, t.DType, want, t.Begin, t.End, t.End-t.Begin)
	}
	return t, nil
}

// byteLen is the size of a tensor in bytes; false when it overflows an int.
func byteLen(dt DType, shape []int) (int64, bool) {
	n := int64(dt.Size())
	for _, d := range shape {
		if d == 0 {
			return 0, true
		}
	}
	for _, d := range shape {
		if d < 0 || int64(d) > math.MaxInt/n {
			return 0, false
		}
		n *= int64(d)
	}
	return n, true
}

func (p *headerParser) text() (string, error) {
	t, err := p.d.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("want a string, have %v", t)
	}
	return s, nil
}

// numbers reads an array of at most limit whole numbers ≥ 0.
func (p *headerParser) numbers(limit int) ([]int64, error) {
	t, err := p.d.Token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, fmt.Errorf("want an array, have %v", t)
	}
	list := []int64{}
	for p.d.More() {
		t, err := p.d.Token()
		if err != nil {
			return nil, err
		}
		s, ok := t.(json.Number)
		if !ok {
			return nil, fmt.Errorf("want a whole number ≥ 0, have %v", t)
		}
		n, err := strconv.ParseInt(s.String(), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("want a whole number ≥ 0 below 2⁶³, have %s", s)
		}
		if len(list) == limit {
			return nil, fmt.Errorf("want at most %d numbers", limit)
		}
		list = append(list, n)
	}
	_, err = p.d.Token()
	return list, err
}

// marshalHeader writes the header of tensors, which are in file order, padded
// with spaces to a multiple of 8 bytes as the reference implementation does. Its
// metadata are what transformers wants to see.
func marshalHeader(tensors []Tensor) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"` + metadataKey + `":{"format":"pt"}`)
	names := json.NewEncoder(&b)
	names.SetEscapeHTML(false)
	for _, t := range tensors {
		b.WriteByte(',')
		if err := names.Encode(t.Name); err != nil {
			return nil, err
		}
		b.Truncate(b.Len() - 1) // the encoder's newline
		dims := make([]string, len(t.Shape))
		for j, d := range t.Shape {
			dims[j] = strconv.Itoa(d)
		}
		fmt.Fprintf(&b, `:{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}`, t.DType, strings.Join(dims, ","), t.Begin, t.End)
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return nil, fmt.Errorf("header: want at most %d bytes, have %d", maxHeader, b.Len())
	}
	return b.Bytes(), nil
}
