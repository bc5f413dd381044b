package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// file puts header and data into the format's frame.
func file(header string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func open(b []byte) (*File, error) { return newFile("m", bytes.NewReader(b), int64(len(b))) }

func ramp(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i)/8 - 3
	}
	return x
}

// TestWriteMatchesTheReferenceLayout pins the bytes: metadata first, wider
// types before narrower ones, then by name, the header padded with spaces to
// eight bytes.
func TestWriteMatchesTheReferenceLayout(t *testing.T) {
	specs := []Spec{
		{"z", BF16, []int{2}},
		{"b", F32, []int{1, 2}},
		{"a<", BF16, []int{}},
		{"h", F16, []int{3}},
	}
	values := [][]float32{{1, -2}, {0.5, 3}, {1}, {1, 2, 3}}
	var w bytes.Buffer
	err := Write(&w, specs, func(i int) ([]float32, error) { return values[i], nil })
	if err != nil {
		t.Fatal(err)
	}
	header := `{"__metadata__":{"format":"pt"},` +
		`"b":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},` +
		`"a<":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},` +
		`"z":{"dtype":"BF16","shape":[2],"data_offsets":[10,14]},` +
		`"h":{"dtype":"F16","shape":[3],"data_offsets":[14,20]}}`
	for len(header)%8 != 0 {
		header += " "
	}
	want := file(header, []byte{0, 0, 0, 0x3f, 0, 0, 0x40, 0x40, 0x80, 0x3f, 0x80, 0x3f, 0, 0xc0, 0, 0x3c, 0, 0x40, 0, 0x42})
	if !bytes.Equal(w.Bytes(), want) {
		t.Fatalf("have %q\nwant %q", w.Bytes(), want)
	}
}

func TestReadReturnsWhatWasWritten(t *testing.T) {
	for _, dt := range []DType{F64, F32, F16, BF16} {
		for _, n := range []int{0, 1, 7, chunk - 1, chunk, 2*chunk + 3} {
			src := make([]float32, n)
			for i := range src {
				src[i] = float32(i%251)/8 - 15 // exact in every type
			}
			var w bytes.Buffer
			specs := []Spec{{"x", dt, []int{n}}, {"y", F32, []int{2}}}
			err := Write(&w, specs, func(i int) ([]float32, error) {
				return [][]float32{src, {4, 5}}[i], nil
			})
			if err != nil {
				t.Fatal(err)
			}
			f, err := open(w.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			got, y := make([]float32, n), make([]float32, 2)
			if err := errors.Join(f.Read("x", 0, got), f.Read("y", 0, y)); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, src) || y[0] != 4 || y[1] != 5 {
				t.Fatalf("%s of %d elements came back different", dt, n)
			}
			part := got[n/3 : n/3+n/2]
			clear(part)
			if err := f.Read("x", n/3, part); err != nil || !slices.Equal(got, src) {
				t.Fatalf("%s of %d elements: a part came back different: %v", dt, n, err)
			}
		}
	}
}

// TestFloat64 pins the bytes of the widest type, and what is read of more digits than
// float32 has.
func TestFloat64(t *testing.T) {
	var w bytes.Buffer
	src := []float32{1.1, math.SmallestNonzeroFloat32, float32(math.Inf(-1)), float32(math.Copysign(0, -1))}
	if err := Write(&w, []Spec{{"x", F64, []int{4}}}, func(int) ([]float32, error) { return src, nil }); err != nil {
		t.Fatal(err)
	}
	b := w.Bytes()
	data := b[len(b)-8*len(src):]
	for i, x := range src {
		if have := binary.LittleEndian.Uint64(data[8*i:]); have != math.Float64bits(float64(x)) {
			t.Errorf("element %d: have %#x, want %v", i, have, x)
		}
	}
	binary.LittleEndian.PutUint64(data, math.Float64bits(math.Pi))
	f, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 4)
	if err := f.Read("x", 0, got); err != nil || got[0] != math.Pi {
		t.Errorf("π is read as %v: %v", got[0], err)
	}
}

func TestHeaderErrors(t *testing.T) {
	const ok = `{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`
	entry := func(s string) string { return `{"a":{` + s + `}}` }
	for _, c := range []struct {
		name, header string
		data         int
		want         []string // all within the error
	}{
		{"hole at the start", entry(`"dtype":"F32","shape":[2],"data_offsets":[4,12]`), 12, []string{`"a"`, "hole of 4 bytes", "[4, 12]"}},
		{"hole between", `{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}`, 5, []string{`"b"`, "hole of 1 bytes after 2"}},
		{"overlap", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`, 6, []string{`"b"`, "overlap", "ends at 4"}},
		{"two names for the same bytes", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4, []string{"overlap"}},
		{"data cut short", ok, 20, []string{`"a"`, "[0, 24]", "20 data bytes"}},
		{"data left over", ok, 25, []string{"want 24 bytes", "have 25"}},
		{"shape against offsets", entry(`"dtype":"F32","shape":[2,3],"data_offsets":[0,20]`), 20, []string{`"a"`, "[2 3]", "wants 24 bytes", "have 20"}},
		{"dtype against offsets", entry(`"dtype":"F16","shape":[2,3],"data_offsets":[0,24]`), 24, []string{"wants 12 bytes", "have 24"}},
		{"unknown dtype", entry(`"dtype":"F33","shape":[2],"data_offsets":[0,8]`), 8, []string{`"a"`, "dtype", `"F33"`}},
		{"dtype of the wrong kind", entry(`"dtype":3,"shape":[2],"data_offsets":[0,8]`), 8, []string{`"a"`, "dtype", "string"}},
		{"no dtype", entry(`"shape":[2],"data_offsets":[0,8]`), 8, []string{`"a"`, "dtype: missing"}},
		{"no shape", entry(`"dtype":"F32","data_offsets":[0,8]`), 8, []string{"shape: missing"}},
		{"no offsets", entry(`"dtype":"F32","shape":[2]`), 8, []string{"data_offsets: missing"}},
		{"one offset", entry(`"dtype":"F32","shape":[2],"data_offsets":[8]`), 8, []string{"data_offsets: want two"}},
		{"three offsets", entry(`"dtype":"F32","shape":[2],"data_offsets":[0,8,9]`), 8, []string{"data_offsets: want at most 2"}},
		{"backwards", entry(`"dtype":"F32","shape":[2],"data_offsets":[8,0]`), 8, []string{"begin ≤ end", "[8, 0]"}},
		{"negative dimension", entry(`"dtype":"F32","shape":[-2],"data_offsets":[0,8]`), 8, []string{"shape", "-2"}},
		{"fractional dimension", entry(`"dtype":"F32","shape":[2.0],"data_offsets":[0,8]`), 8, []string{"shape", "2.0"}},
		{"product overflows", entry(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]`), 0, []string{"shape", "overflows"}},
		{"dimension overflows", entry(`"dtype":"F32","shape":[18446744073709551618],"data_offsets":[0,8]`), 8, []string{"shape", "18446744073709551618"}},
		{"too many dimensions", entry(`"dtype":"F32","shape":[` + strings.Repeat("1,", 64) + `1],"data_offsets":[0,4]`), 4, []string{"shape", "at most 64"}},
		{"extra field", entry(`"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]`), 8, []string{`"a"`, `"strides"`}},
		{"duplicate tensor", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2, []string{`"a"`, "given twice"}},
		{"duplicate field", entry(`"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]`), 8, []string{`"dtype"`, "given twice"}},
		{"duplicate metadata", `{"__metadata__":{"k":"v","k":"w"}}`, 0, []string{"__metadata__", `"k"`, "given twice"}},
		{"metadata not text", `{"__metadata__":{"k":1}}`, 0, []string{"__metadata__", "k: want a string"}},
		{"tensor not an object", `{"a":[]}`, 0, []string{`"a"`, "want an object"}},
		{"not JSON", `{"a"`, 0, []string{"header"}},
		{"cut JSON", ok[:30], 24, []string{"header", "ends early"}},
		{"not an object", `[]`, 0, []string{"'{' first"}},
		{"leading space", ` {}`, 0, []string{"'{' first"}},
		{"empty", ``, 0, []string{"'{' first"}},
		{"text after the object", `{}x`, 0, []string{"only spaces"}},
		{"not UTF-8", "{\"\xff\":1}", 0, []string{"UTF-8"}},
	} {
		_, err := open(file(c.header, make([]byte, c.data)))
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, w := range append(c.want, "m: ") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %q lacks %q", c.name, err, w)
			}
		}
	}
	if _, err := open(file(ok, make([]byte, 24))); err != nil {
		t.Errorf("sound file: %v", err)
	}
	if _, err := open(file(`{}  `, nil)); err != nil {
		t.Errorf("file without tensors: %v", err)
	}
	if _, err := open(file(`{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`, nil)); err != nil {
		t.Errorf("empty tensor: %v", err)
	}
}

func TestHeaderLengthIsBounded(t *testing.T) {
	for _, c := range []struct {
		bytes []byte
		want  string
	}{
		{nil, "at least 8 bytes, have 0"},
		{[]byte{1, 2, 3}, "at least 8 bytes, have 3"},
		{binary.LittleEndian.AppendUint64(nil, 50), "50 reaches past the file's 8 bytes"},
		{binary.LittleEndian.AppendUint64(nil, 1<<40), "at most 100000000, have 1099511627776"},
		{binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "at most 100000000"},
	} {
		if _, err := open(c.bytes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("% x: error %v lacks %q", c.bytes, err, c.want)
		}
	}
}

// shrinking claims more bytes than it has, as a file cut after it was opened.
type shrinking struct{ *bytes.Reader }

func TestReadErrors(t *testing.T) {
	b := file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"n":{"dtype":"I8","shape":[4],"data_offsets":[8,12]}}`, make([]byte, 12))
	f, err := newFile("m", shrinking{bytes.NewReader(b[:len(b)-8])}, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		from, n int
		want    string
	}{
		{"a", 0, 2, `m: tensor "a": want 8 bytes at`},
		{"a", 0, 3, `m: tensor "a": want elements 0 to 3, have 2 (shape [2])`},
		{"b", 0, 2, `m: tensor "b": missing`},
		{"n", 0, 4, `m: tensor "n": dtype: want F64, F32, F16 or BF16, have I8`},
		{"a", -1, 1, `m: tensor "a": want elements -1 to 0, have 2`},
		{"a", 1, 2, `m: tensor "a": want elements 1 to 3, have 2`},
		{"a", 3, 0, `m: tensor "a": want elements 3 to 3, have 2`},
		{"a", 1, 1, `m: tensor "a": want 4 bytes at`},
	} {
		if err := f.Read(c.name, c.from, make([]float32, c.n)); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("read %s from %d: error %v, want %q", c.name, c.from, err, c.want)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	broken := errors.New("broken")
	two := func(int) ([]float32, error) { return []float32{1, 2}, nil }
	for _, c := range []struct {
		specs []Spec
		get   func(int) ([]float32, error)
		w     io.Writer
		want  string
	}{
		{[]Spec{{"a", "I8", []int{2}}}, two, io.Discard, `tensor "a": dtype`},
		{[]Spec{{"a", F32, []int{3}}}, two, io.Discard, `tensor "a": want 3 elements (shape [3]), have 2`},
		{[]Spec{{"a", F32, []int{-1}}}, two, io.Discard, `tensor "a": shape`},
		{[]Spec{{"a", F32, []int{1 << 40, 1 << 40}}}, two, io.Discard, `tensor "a": shape`},
		{[]Spec{{"a", F32, []int{2}}, {"a", F32, []int{2}}}, two, io.Discard, `tensor "a": name is taken`},
		{[]Spec{{"__metadata__", F32, []int{2}}}, two, io.Discard, "name is taken"},
		{[]Spec{{"a", F32, []int{2}}}, func(int) ([]float32, error) { return nil, broken }, io.Discard, `tensor "a": broken`},
		{[]Spec{{"a", F32, []int{2}}}, two, full{}, "full"},
	} {
		if err := Write(c.w, c.specs, c.get); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v lacks %q", err, c.want)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// plain hides everything of a file but fs.File.
type plain struct{ fs.FS }

func (p plain) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	return struct{ fs.File }{f}, err
}

func TestOpenFromEveryKindOfFS(t *testing.T) {
	var w bytes.Buffer
	err := Write(&w, []Spec{{"a", F32, []int{2, 4}}}, func(int) ([]float32, error) { return ramp(8), nil })
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/m", w.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	mem := fstest.MapFS{"m": {Data: w.Bytes()}}
	for _, fsys := range []fs.FS{os.DirFS(dir), mem, plain{mem}} {
		f, err := Open(fsys, "m")
		if err != nil {
			t.Fatalf("%T: %v", fsys, err)
		}
		got := make([]float32, 8)
		if err := f.Read("a", 0, got); err != nil || !slices.Equal(got, ramp(8)) {
			t.Errorf("%T: %v, %v", fsys, got, err)
		}
		if f.Name() != "m" || len(f.Tensors()) != 1 {
			t.Errorf("%T: %v %v", fsys, f.Name(), f.Tensors())
		}
		if err := f.Close(); err != nil {
			t.Errorf("%T: close: %v", fsys, err)
		}
	}
	if _, err := Open(mem, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Open(mem, "."); err == nil {
		t.Error("a directory opened")
	}
}

func TestParseDType(t *testing.T) {
	for _, d := range []DType{F64, F32, F16, BF16} {
		for _, s := range []string{string(d), strings.ToLower(string(d)), d.Torch()} {
			if got, err := ParseDType(s); got != d || err != nil {
				t.Errorf("ParseDType(%q) = %v, %v", s, got, err)
			}
		}
	}
	if _, err := ParseDType("int8"); err == nil || !strings.Contains(err.Error(), `"int8"`) {
		t.Errorf("int8: %v", err)
	}
	for _, x := range types {
		d := x.name
		if d.Size() == 0 || d.Float() != (d.Torch() != "") {
			t.Errorf("%s: size %d, float %v, torch %q", d, d.Size(), d.Float(), d.Torch())
		}
	}
}

// TestDamage flips every byte and cuts at every length of a small file: the
// result is an error or a file whose tensors can all be read.
func TestDamage(t *testing.T) {
	var w bytes.Buffer
	specs := []Spec{{"one", F32, []int{2, 2}}, {"two", BF16, []int{3}}}
	if err := Write(&w, specs, func(i int) ([]float32, error) {
		return ramp([]int{4, 3}[i]), nil
	}); err != nil {
		t.Fatal(err)
	}
	whole := w.Bytes()
	for n := range whole {
		if _, err := open(whole[:n]); err == nil {
			t.Errorf("cut at %d of %d: no error", n, len(whole))
		}
	}
	for i := range whole {
		for _, bit := range []byte{1, 4, 0x20, 0x80} {
			b := bytes.Clone(whole)
			b[i] ^= bit
			if err := readAll(b); err != nil && !strings.HasPrefix(err.Error(), "m: ") {
				t.Errorf("byte %d ^ %#x: error %q does not name the file", i, bit, err)
			}
		}
	}
}

// readAll opens b and reads each tensor of a floating type.
func readAll(b []byte) error {
	f, err := open(b)
	if err != nil {
		return err
	}
	for _, tensor := range f.Tensors() {
		if !tensor.DType.Float() {
			continue
		}
		if err := f.Read(tensor.Name, 0, make([]float32, tensor.Len())); err != nil {
			return fmt.Errorf("a sound header, but %w", err)
		}
	}
	return nil
}

func seedFuzz(f *testing.F) {
	for _, h := range []string{
		`{}`, `{"__metadata__":{"format":"pt"}}`,
		`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[2,8]}}`,
		`{"a":{"dtype":"U8","shape":[0,99999999999],"data_offsets":[0,0]}}`,
		`{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"F32","shape":[[[[`, `{"a":{"a":{"a":{`,
	} {
		f.Add([]byte(h), uint16(8))
	}
}

// FuzzHeader feeds arbitrary header text: no panic, and what is accepted covers
// the data exactly.
func FuzzHeader(f *testing.F) {
	seedFuzz(f)
	f.Fuzz(func(t *testing.T, raw []byte, dataLen uint16) {
		tensors, err := parseHeader(raw, int64(dataLen))
		if err != nil {
			return
		}
		var at int64
		for _, x := range tensors {
			if x.Begin != at || int64(x.Len()*x.DType.Size()) != x.End-x.Begin {
				t.Fatalf("%q: accepted %+v at %d", raw, x, at)
			}
			at = x.End
		}
		if at != int64(dataLen) {
			t.Fatalf("%q: covers %d of %d", raw, at, dataLen)
		}
		again, err := marshalHeader(tensors)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseHeader(again, int64(dataLen)); err != nil {
			t.Fatalf("%q written again as %q: %v", raw, again, err)
		}
	})
}

// FuzzFile feeds whole files, length prefix included: no panic, every tensor of
// an accepted file can be read, and no tensor is larger than the file.
func FuzzFile(f *testing.F) {
	f.Add(file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, make([]byte, 8)))
	f.Add(file(`{}`, nil))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, '{'})
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := open(b)
		if err != nil {
			return
		}
		for _, x := range file.Tensors() {
			if x.Len() > 8*len(b) {
				t.Fatalf("tensor of %d elements in %d bytes", x.Len(), len(b))
			}
		}
		if err := readAll(b); err != nil {
			t.Fatal(err)
		}
	})
}

// TestManyTensors: a header of empty tensors is refused before it is read through.
func TestManyTensors(t *testing.T) {
	for keys, want := range map[int]string{maxKeys: "", maxKeys + 1: "header: want at most 65536 keys"} {
		var b strings.Builder
		for i := range keys {
			fmt.Fprintf(&b, `,"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`, i)
		}
		_, err := open(file("{"+b.String()[1:]+"}", nil))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d tensors: error %v, want %q", keys, err, want)
		}
	}
}

// TestReadSmall counts bytes as they come: a file may be longer than it says.
func TestReadSmall(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/x", []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/folder", 0o700); err != nil {
		t.Fatal(err)
	}
	zero := os.Symlink("/dev/zero", dir+"/zero") == nil
	for _, c := range []struct {
		name  string
		limit int64
		want  string // error
	}{
		{"x", 5, ""},
		{"x", 4, "want at most 4 bytes"},
		{"none", 5, "file does not exist"},
		{"folder", 5, "want a regular file"},
		{"zero", 5, "want a regular file"},
	} {
		if c.name == "zero" && !zero {
			continue
		}
		b, err := ReadSmall(os.DirFS(dir), c.name, c.limit)
		if c.want == "" && (err != nil || string(b) != "12345") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) && c.name != "none" {
			t.Errorf("%s: %q, error %v, want %q", c.name, b, err, c.want)
		}
		if c.name == "none" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", c.name, err)
		}
		if c.name == "folder" || c.name == "zero" {
			if _, err := Open(os.DirFS(dir), c.name); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("open %s: error %v", c.name, err)
			}
		}
	}
}
