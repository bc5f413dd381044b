// Package safetensors reads and writes the safetensors file format: eight bytes
// of header length, a JSON header that names type, shape and place of every
// tensor, then the tensors' little-endian bytes.
//
// # Invariants
//
//   - A File that opened has a sound header: every tensor has the bytes its type
//     and shape ask for, and together they cover the data exactly once. What is
//     allocated on the way there is a small multiple of the header, which has at
//     most maxKeys tensors.
//   - Tensor data stays on disk until Read asks for it.
//   - Writing is deterministic, and lays tensors out as the reference
//     implementation does: wider types first, then by name, header padded to
//     eight bytes.
//   - Errors name the file, the tensor and the numbers that disagree. No input
//     panics.
//
// # Reading order
//
// safetensors.go (File, Read, Write) · header.go (the checks) · regular.go (what is
// opened at all) · convert.go (half precision) · dtype.go.
package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// File is an open safetensors file. Its methods may be called concurrently.
type File struct {
	name    string
	r       io.ReaderAt
	close   func() error
	data    int64 // where tensor bytes start in the file
	tensors []Tensor
	byName  map[string]int
}

// Open opens a file of fsys and reads its header. Files that can be read at any
// offset (those of os.DirFS and embed.FS) are read lazily, others at once. Only
// regular files are opened.
func Open(fsys fs.FS, name string) (*File, error) {
	f, info, err := openRegular(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	r, ok := f.(io.ReaderAt)
	size := info.Size()
	if !ok {
		b, err := readBounded(f, size)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
		}
		r, size = bytes.NewReader(b), int64(len(b))
	}
	file, err := newFile(name, r, size)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	file.close = f.Close
	return file, nil
}

// newFile reads the header of size bytes at r. name is for errors.
func newFile(name string, r io.ReaderAt, size int64) (*File, error) {
	var length [8]byte
	if size < 8 {
		return nil, fmt.Errorf("%s: want at least 8 bytes, have %d (truncated?)", name, size)
	}
	if err := readFull(r, length[:], 0); err != nil {
		return nil, fmt.Errorf("%s: header length: %w", name, err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxHeader {
		return nil, fmt.Errorf("%s: header length: want at most %d, have %d", name, maxHeader, n)
	}
	if int64(n) > size-8 {
		return nil, fmt.Errorf("%s: header length: %d reaches past the file's %d bytes (truncated?)", name, n, size)
	}
	raw := make([]byte, n)
	if err := readFull(r, raw, 8); err != nil {
		return nil, fmt.Errorf("%s: header: %w", name, err)
	}
	f := &File{name: name, r: r, data: 8 + int64(n), byName: map[string]int{}}
	var err error
	f.tensors, err = parseHeader(raw, size-f.data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i, t := range f.tensors {
		f.byName[t.Name] = i
	}
	return f, nil
}

// readFull fills b from offset at; an early end is an error.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("want %d bytes at %d, have %d: %w", len(b), at, n, err)
}

// Close closes the file.
func (f *File) Close() error { return f.close() }

// Name is the file's name as given to Open.
func (f *File) Name() string { return f.name }

// Tensors lists the tensors in the order of their data. It must not be changed.
func (f *File) Tensors() []Tensor { return f.tensors }

// Tensor finds a tensor by name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// chunk is how many elements are converted at a time.
const chunk = 1 << 16

// Read fills dst with the elements [from, from+len(dst)) of the named tensor in
// row-major order, converted from F64, F32, F16 or BF16.
func (f *File) Read(name string, from int, dst []float32) error {
	t, ok := f.Tensor(name)
	if !ok {
		return fmt.Errorf("%s: tensor %q: missing", f.name, name)
	}
	if !t.DType.Float() {
		return fmt.Errorf("%s: tensor %q: dtype: want F64, F32, F16 or BF16, have %s", f.name, name, t.DType)
	}
	if from < 0 || from > t.Len()-len(dst) {
		return fmt.Errorf("%s: tensor %q: want elements %d to %d, have %d (shape %v)", f.name, name, from, from+len(dst), t.Len(), t.Shape)
	}
	width := t.DType.Size()
	buf := make([]byte, min(len(dst), chunk)*width)
	at := f.data + t.Begin + int64(from)*int64(width)
	for len(dst) > 0 {
		n := min(len(dst), chunk)
		if err := readFull(f.r, buf[:n*width], at); err != nil {
			return fmt.Errorf("%s: tensor %q: %w", f.name, name, err)
		}
		decode(dst[:n], buf, t.DType)
		dst, at = dst[n:], at+int64(n*width)
	}
	return nil
}

// Spec is a tensor to be written.
type Spec struct {
	Name  string
	DType DType // F64, F32, F16 or BF16
	Shape []int
}

// inFileOrder returns the indices of specs in the order the reference implementation
// writes them: wider types first, then by name.
func inFileOrder(specs []Spec) []int {
	order := make([]int, len(specs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := specs[i], specs[j]
		return cmp.Or(b.DType.rank()-a.DType.rank(), strings.Compare(a.Name, b.Name))
	})
	return order
}

// Write writes one file: the header, then every tensor, converted to its type.
// get(i) returns the elements of specs[i]; it is called once per tensor, in the
// order of the file, and its result is not kept.
func Write(w io.Writer, specs []Spec, get func(i int) ([]float32, error)) error {
	order := inFileOrder(specs)
	tensors := make([]Tensor, len(specs))
	seen := map[string]bool{}
	var at int64
	for j, i := range order {
		s := specs[i]
		if !s.DType.Float() {
			return fmt.Errorf("tensor %q: dtype: want F64, F32, F16 or BF16, have %q", s.Name, string(s.DType))
		}
		if s.Name == metadataKey || seen[s.Name] {
			return fmt.Errorf("tensor %q: name is taken", s.Name)
		}
		seen[s.Name] = true
		n, ok := byteLen(s.DType, s.Shape)
		if !ok || len(s.Shape) > maxRank {
			return fmt.Errorf("tensor %q: shape: %v of %s overflows", s.Name, s.Shape, s.DType)
		}
		tensors[j] = Tensor{s.Name, s.DType, s.Shape, at, at + n}
		at += n
	}
	header, err := marshalHeader(tensors)
	if err != nil {
		return err
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	buf := make([]byte, chunk*8)
	for j, i := range order {
		t := tensors[j]
		src, err := get(i)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if len(src) != t.Len() {
			return fmt.Errorf("tensor %q: want %d elements (shape %v), have %d", t.Name, t.Len(), t.Shape, len(src))
		}
		for len(src) > 0 {
			n := min(len(src), chunk)
			b := buf[:n*t.DType.Size()]
			encode(b, src[:n], t.DType)
			if _, err := w.Write(b); err != nil {
				return fmt.Errorf("tensor %q: %w", t.Name, err)
			}
			src = src[n:]
		}
	}
	return nil
}
