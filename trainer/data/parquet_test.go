package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
)

// without is the examples less the file's name, their Extra decoded.
func without(t *testing.T, examples []Example) (list []any) {
	t.Helper()
	for _, e := range examples {
		fields := map[string]any{}
		for name, raw := range e.Extra {
			var value any
			if err := json.Unmarshal(raw, &value); err != nil {
				t.Fatalf("%s: %s: %v", name, raw, err)
			}
			fields[name] = value
		}
		e.File, e.Extra = "", nil
		list = append(list, e, fields)
	}
	return list
}

func readPath(t *testing.T, path string, o Options) []Example {
	t.Helper()
	examples, _, err := Read(t.Context(), []string{path}, o)
	if err != nil {
		t.Fatal(err)
	}
	return examples
}

// TestParquetIsJSON: what three other writers made of lines of JSON is read as these
// lines are, and goes on with a run that these began.
func TestParquetIsJSON(t *testing.T) {
	files, err := filepath.Glob("testdata/*.*.parquet")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		if name == "odd" {
			continue
		}
		have, want := readPath(t, path, Options{}), readPath(t, "testdata/"+name+".jsonl", Options{})
		if have, want := without(t, have), without(t, want); !reflect.DeepEqual(have, want) {
			for i := range want {
				if i >= len(have) || !reflect.DeepEqual(have[i], want[i]) {
					t.Fatalf("%s: example %d is\n%+v, in the lines\n%+v", path, i/2+1, have[i:], want[i])
				}
			}
			t.Fatalf("%s: %d examples, want %d", path, len(have)/2, len(want)/2)
		}
		if have, want := fingerprint(have), fingerprint(want); have != want {
			t.Errorf("%s: fingerprint %s, want %s", path, have, want)
		}
		lines, err := NewSampler(want, 3)
		if err != nil {
			t.Fatal(err)
		}
		lines.Next(3)
		rows, err := NewSampler(have, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := rows.Restore(lines.State()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if have, want := rows.Next(2), lines.Next(2); !reflect.DeepEqual(have, want) {
			t.Errorf("%s: goes on with %v, want %v", path, have, want)
		}
	}
}

// TestParquetOddTypes: what JSON has no word for is null.
func TestParquetOddTypes(t *testing.T) {
	want := []string{
		`{"question":"not said to be text: ä","answer":"1","image":null,"nan":null,"half":0.1,"day":20000,"price":null,"unsigned":4294967295,"id":null,"a \"b\" ß":true}`,
		`{"question":"b","answer":"2","image":"png","nan":-0.1,"half":null,"day":20001,"price":null,"unsigned":1,"id":null,"a \"b\" ß":false}`,
	}
	if have, want := readPath(t, "testdata/odd.hyparquet.parquet", Options{}), read(t, strings.Join(want, "\n"), Options{}); !reflect.DeepEqual(without(t, have), without(t, want)) {
		t.Errorf("have %v\nwant %v", have, want)
	}
}

// table writes rows as a Parquet file and returns its path.
func table[T any](t *testing.T, rows []T, options ...parquet.WriterOption) string {
	t.Helper()
	var b bytes.Buffer
	if err := parquet.Write(&b, rows, append(options, parquet.DefaultEncoding(&parquet.Plain))...); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "f.parquet")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair has each of its fields optional, so that it may be null.
type pair struct {
	Question string `parquet:"question,optional"`
	Answer   string `parquet:"answer,optional"`
}

// TestParquetBadRows: an error names file, row and field, as one of a line does.
func TestParquetBadRows(t *testing.T) {
	path := table(t, []pair{{"a", "1"}, {"b", ""}, {"c\xffd", "3"}, {"d", strings.Repeat("4", 300)}, {"e", "\u00ff"}})
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, path + ":2: answer: is null: want a string; line 1 settled the form question"},
		{Options{Form: Text}, path + ":1: text: is missing (the line has answer, question)"},
		{Options{Form: Messages}, path + ":1: messages: is missing"},
		{Options{Answer: "gold"}, path + ":1: gold: is missing (the line has answer, question)"},
	} {
		if _, _, err := Read(t.Context(), []string{path}, c.o); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("have %v\nwant %s", err, c.want)
		}
	}
	examples, skipped, err := Read(t.Context(), []string{path}, Options{Skip: true, MaxLine: 200})
	if err != nil || len(examples) != 2 || examples[1].Line != 5 || examples[1].Answer != "ÿ" {
		t.Fatalf("have %+v, %v", examples, err)
	}
	if have, want := strings.ReplaceAll(skipped.String(), path, "f"), `skipped 3 of 5 lines:
  f:2: answer: is null: want a string; line 1 settled the form question
  f:3: question: byte 2 (0xff) is not UTF-8
  f:4: the row is longer than 200 bytes`; have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
	if got, _, err := Read(t.Context(), []string{path}, Options{Limit: 1}); err != nil || len(got) != 1 {
		t.Errorf("limit: %v, %v", got, err)
	}
	if _, _, err := Read(t.Context(), []string{table(t, []pair{})}, Options{}); err == nil || !strings.Contains(err.Error(), "no examples") {
		t.Errorf("no rows: %v", err)
	}
}

// legacy is a list of which the schema says so, but with the one level of old writers.
type legacy struct{ parquet.Group }

func (legacy) Type() parquet.Type { return parquet.List(parquet.String()).Type() }

// TestParquetLists: lists of all depths, and of writers that mark none or mark them as
// was once done.
func TestParquetLists(t *testing.T) {
	type turn struct {
		Role    string `parquet:"role"`
		Content string `parquet:"content"`
	}
	type row struct {
		Text  string     `parquet:"text"`
		Bare  []string   `parquet:"bare"`
		Turns []turn     `parquet:"turns"`
		Deep  [][]string `parquet:"deep,list"`
	}
	have := without(t, readPath(t, table(t, []row{
		{"a", []string{"x", "y"}, []turn{{"user", "q"}, {"tool", "r"}}, [][]string{{"1", "2"}, {}, {"3"}}},
		{"b", nil, nil, nil},
	}), Options{}))
	want := without(t, read(t, `{"text": "a", "bare": ["x", "y"], "turns": [{"role": "user", "content": "q"}, {"role": "tool", "content": "r"}], "deep": [["1", "2"], [], ["3"]]}
		{"text": "b", "bare": [], "turns": [], "deep": []}`, Options{}))
	if !reflect.DeepEqual(have, want) {
		t.Errorf("have %v\nwant %v", have, want)
	}

	for _, inner := range []string{"array", "turns_tuple", "element"} {
		schema := parquet.NewSchema("root", parquet.Group{"text": parquet.String(), "turns": legacy{parquet.Group{
			inner: parquet.Repeated(parquet.Group{"role": parquet.String()}),
		}}})
		var b bytes.Buffer
		w := parquet.NewGenericWriter[any](&b, schema, parquet.DefaultEncoding(&parquet.Plain))
		values := parquet.Row{parquet.ValueOf("a").Level(0, 0, 0), parquet.ValueOf("x").Level(0, 1, 1), parquet.ValueOf("y").Level(1, 1, 1)}
		if _, err := w.WriteRows([]parquet.Row{values}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		want := `[{"role":"x"},{"role":"y"}]`
		if inner == "element" {
			want = `["x","y"]`
		}
		examples, err := readBytes(b.Bytes(), Options{})
		if err != nil || string(examples[0].Extra["turns"]) != want {
			t.Errorf("%s: have %v, %v, want %s", inner, examples, err, want)
		}
	}
}

// readBytes reads a Parquet file that is in memory.
func readBytes(b []byte, o Options) (list []Example, err error) {
	r := NewReader(bytes.NewReader(nil), "f", o)
	if r.rows, err = openParquet(bytes.NewReader(b), int64(len(b)), r.maxLine); err != nil {
		return nil, err
	}
	for {
		e, err := r.Next()
		if err == io.EOF {
			return list, nil
		}
		if bad := (*LineError)(nil); errors.As(err, &bad) {
			continue
		}
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
}

// TestParquetFiles: a file is known by its name or its first bytes; what is none says so.
func TestParquetFiles(t *testing.T) {
	whole, err := os.ReadFile("testdata/questions.arrow.parquet")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, c := range []struct{ name, text, want string }{
		{"a.parquet", string(whole), ""},
		{"data", string(whole), ""},
		{"cut.parquet", string(whole[:len(whole)/2]), "cut.parquet: cannot be read as Parquet: it does not end with PAR1; if it is not whole, fetch it again"},
		{"short.parquet", "PAR1", "short.parquet: cannot be read as Parquet: a part of it lies behind its end"},
		{"empty.parquet", "", "empty.parquet: cannot be read as Parquet: a part of it"},
		{"lines.parquet", `{"question": "a", "answer": "1"}`, "lines.parquet: cannot be read as Parquet: it does not end with PAR1"},
		{"pointer.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer.parquet: is a note of Git LFS"},
		{"zipped.parquet", "\x1f\x8b\x08", "zipped.parquet: is compressed with gzip"},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := Read(t.Context(), []string{path}, Options{})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: have %v, want %s", c.name, err, c.want)
		}
	}
	if _, _, err := ReadFrom(bytes.NewReader(whole), "upload", Options{}); err == nil || err.Error() != "upload: is a Parquet file, whose end is read first: name it, or convert it to JSON lines" {
		t.Errorf("from a stream: %v", err)
	}
}

// TestParquetBounds: a page that says it is larger than its bound is not unpacked.
func TestParquetBounds(t *testing.T) {
	path := table(t, []pair{{"a", strings.Repeat("long ", 10_000)}}, parquet.Compression(&parquet.Zstd))
	for most, want := range map[int]string{0: "", 4 << 10: "longer than 4096", 1 << 10: "a page of 50"} {
		_, _, err := Read(t.Context(), []string{path}, Options{MaxLine: most})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d: have %v, want %s", most, err, want)
		}
	}
}

// TestParquetCodecs: what the decoder could unpack without end is not unpacked.
func TestParquetCodecs(t *testing.T) {
	for _, codec := range []compress.Codec{&parquet.Brotli, &parquet.Lz4Raw} {
		_, _, err := Read(t.Context(), []string{table(t, []pair{{"a", "1"}}, parquet.Compression(codec))}, Options{})
		if want := "column question: packed with " + codec.String() + ": write it with snappy, gzip or zstd"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("have %v, want %s", err, want)
		}
	}
}

// TestParquetEncodings: nor what it makes room for without a look.
func TestParquetEncodings(t *testing.T) {
	path := table(t, []struct {
		Text string `parquet:"text,delta"`
	}{{"a"}, {"b"}})
	if _, _, err := Read(t.Context(), []string{path}, Options{}); err == nil || !strings.HasSuffix(err.Error(), "column text: encoded as DELTA_BYTE_ARRAY: write it plain or with a dictionary") {
		t.Errorf("have %v", err)
	}
}

// TestParquetDamage: a file that was cut anywhere, or in which any byte was changed, is
// an error or other examples, never a panic, and one that is cut is always an error.
func TestParquetDamage(t *testing.T) {
	whole, err := os.ReadFile("testdata/messages.duckdb.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, err := readBytes(whole[:n], Options{}); err == nil {
			t.Errorf("the first %d of %d bytes are read", n, len(whole))
		}
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			b := bytes.Clone(whole)
			b[n] ^= flip
			_, _ = readBytes(b, Options{MaxLine: 1 << 20})
		}
	}
}

// parquetFiles are those that other programs wrote.
func parquetFiles(t testing.TB) (all [][]byte) {
	files, err := filepath.Glob("testdata/*.parquet")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// FuzzParquet: no bytes make it panic, or give more than they could hold.
func FuzzParquet(f *testing.F) {
	for _, b := range parquetFiles(f) {
		f.Add(b)
		for i := 1; i < 8; i++ {
			f.Add(b[:len(b)*i/8])
			flipped := bytes.Clone(b)
			flipped[len(b)*i/8] ^= 1 << i
			f.Add(flipped)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := readBytes(b, Options{MaxLine: 1 << 16, Limit: 1})
		for _, e := range list {
			if (e.Text == "") == (e.Answer == "") {
				t.Fatalf("%+v, %v", e, err)
			}
		}
	})
}
