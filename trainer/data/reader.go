package data

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// LineError is one bad line: "train.jsonl:12: answer: is missing (…)".
type LineError struct {
	File    string
	Line    int
	Field   string // path of the field, or "" when the whole line is meant
	Problem string // what is wrong and what to do
}

// Error names file, line and field.
func (e *LineError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.File, e.Line, e.Field, e.Problem)
}

// Options says how to read.
type Options struct {
	Form Form // "" is Auto
	// Question and Answer are what the form QuestionAnswer calls its fields; ""
	// is question and answer. Either makes Auto that form.
	Question, Answer string
	// Skip counts bad lines and goes on; otherwise the first one is the error.
	Skip bool
	// Limit > 0 stops after so many examples.
	Limit int
	// MaxLine is the longest line in bytes; 0 is 64 MiB.
	MaxLine int
	// Several is told of a file whose first good line fits several forms: Auto takes the
	// first of them. It may be nil.
	Several func(file string, forms []Form)
}

// Skipped counts what a reading with Options.Skip has left out.
type Skipped struct {
	Examples int          // good lines
	Bad      int          // bad lines
	First    []*LineError // the first few of them
}

// shown is how many bad lines a Skipped keeps.
const shown = 5

// Add counts a bad line.
func (s *Skipped) Add(bad *LineError) {
	s.Bad++
	if len(s.First) < shown {
		s.First = append(s.First, bad)
	}
}

// String is a report of several lines without a final newline; "" when no line
// was bad.
func (s Skipped) String() string {
	if s.Bad == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "skipped %d of %d lines:", s.Bad, s.Bad+s.Examples)
	for _, e := range s.First {
		fmt.Fprintf(&b, "\n  %v", e)
	}
	if more := s.Bad - len(s.First); more > 0 {
		fmt.Fprintf(&b, "\n  … and %d more", more)
	}
	return b.String()
}

// Read reads whole files in the order given, until ctx ends; "-" is standard input. A
// file without a single example is an error, also with Skip.
func Read(ctx context.Context, paths []string, o Options) ([]Example, Skipped, error) {
	var all []Example
	var report Skipped
	for _, path := range paths {
		if o.Limit > 0 && len(all) >= o.Limit {
			break
		}
		var one Skipped
		if err := readFile(ctx, path, o, &all, &one); err != nil {
			return nil, report, err
		}
		if one.Examples == 0 {
			if one.Bad > 0 {
				return nil, report, fmt.Errorf("none of %d lines could be used; the first: %w", one.Bad, one.First[0])
			}
			return nil, report, fmt.Errorf("%s: no examples: want one JSON object a line, or rows of a Parquet file", name(path))
		}
		report.Examples += one.Examples
		report.Bad += one.Bad
		report.First = append(report.First, one.First[:min(len(one.First), shown-len(report.First))]...)
	}
	return all, report, nil
}

// ReadFrom is Read for one open stream; file is its name in errors.
func ReadFrom(r io.Reader, file string, o Options) ([]Example, Skipped, error) {
	var all []Example
	var report Skipped
	err := readAll(NewReader(r, file, o), o, &all, &report)
	if err != nil {
		return nil, report, err
	}
	return all, report, nil
}

// name is how errors call a path.
func name(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

func readFile(ctx context.Context, path string, o Options, all *[]Example, report *Skipped) (err error) {
	f := os.Stdin
	if path != "-" {
		if f, err = Open(path); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
	}
	r := NewReader(Until(ctx, f), name(path), o)
	r.others = "; --question-field and --answer-field name others"
	return readAll(r, o, all, report)
}

// Open opens a file that Read would read.
func Open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read data: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder: name the files in it", path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read data: %w", err), f.Close())
	}
	return f, nil
}

// Try is an error if Read could not open one of the files, before it reads those that
// come first.
func Try(paths ...string) error {
	for _, path := range paths {
		if info, err := os.Stat(path); path == "-" || err == nil && !info.IsDir() && !info.Mode().IsRegular() {
			continue // a pipe is opened once
		}
		f, err := Open(path)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readAll(r *Reader, o Options, all *[]Example, report *Skipped) error {
	for o.Limit <= 0 || len(*all) < o.Limit {
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		var bad *LineError
		if errors.As(err, &bad) && o.Skip {
			report.Add(bad)
			continue
		}
		if err != nil {
			return err
		}
		report.Examples++
		*all = append(*all, e)
	}
	return nil
}

// Reader reads examples one at a time.
type Reader struct {
	in      *bufio.Reader
	from    io.Reader // what in reads
	rows    *rows     // of a Parquet file, or nil
	file    string
	line    int
	maxLine int
	form    Form
	names   [2]string // of the fields of QuestionAnswer
	others  string    // what an error says of other names, "" where none can be given
	formAt  int       // the line that settled the form, 0 when it was given
	failed  error     // sticks: the stream itself is broken or no text
	several func(file string, forms []Form)
}

// NewReader reads from r, which errors call file. Of the options only Form, the
// fields' names, MaxLine and Several matter here.
func NewReader(r io.Reader, file string, o Options) *Reader {
	form, most := o.Form, o.MaxLine
	if form == "" {
		form = Auto
	}
	if form == Auto && (o.Question != "" || o.Answer != "") {
		form = QuestionAnswer
	}
	names := [2]string{cmp.Or(o.Question, "question"), cmp.Or(o.Answer, "answer")}
	if most == 0 {
		most = 64 << 20
	}
	out := &Reader{in: bufio.NewReaderSize(r, 64<<10), from: r, file: file, maxLine: most, form: form, names: names, several: o.Several}
	if !slices.Contains(Forms(), string(form)) {
		out.failed = fmt.Errorf("form: want one of %s, have %q", strings.Join(Forms(), ", "), form)
	}
	return out
}

// Next returns the next example, io.EOF at the end, or an error. After a
// *LineError the next call goes on with the following line; any other error
// sticks. Blank lines are passed over.
func (r *Reader) Next() (Example, error) {
	for r.failed == nil {
		var e Example
		line, bad := r.record()
		if r.failed != nil {
			break
		}
		if bad == nil {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			e, bad = r.parse(line)
		}
		if bad != nil {
			bad.File, bad.Line = r.file, r.line
			return Example{}, bad
		}
		e.File, e.Line = r.file, r.line
		return e, nil
	}
	return Example{}, r.failed
}

// parse turns one line into an example.
func (r *Reader) parse(line []byte) (Example, *LineError) {
	if at := invalidUTF8(line); at >= 0 {
		return Example{}, &LineError{Problem: fmt.Sprintf("byte %d (0x%02x) is not UTF-8: save the file as UTF-8", at+1, line[at])}
	}
	trimmed := bytes.TrimSpace(line)
	if trimmed[0] != '{' {
		hint := ""
		switch {
		case trimmed[0] == '[':
			hint = "; a file that is one JSON list is not JSON lines: write each element on its own line, as jq -c '.[]' does"
		case strings.HasSuffix(r.file, ".csv") || strings.HasSuffix(r.file, ".tsv"):
			hint = "; of tables only those in Parquet are read: write each row as an object of its columns"
		}
		return Example{}, &LineError{Problem: "want one JSON object a line, have " + fmt.Sprintf("%q", clip(string(trimmed))) + hint}
	}
	var o object
	if err := json.Unmarshal(line, &o); err != nil {
		if twice := new(twiceError); errors.As(err, &twice) {
			return Example{}, &LineError{Problem: twice.Error()}
		}
		hint := ""
		if r.line == 1 && string(trimmed) == "{" {
			hint = ": the object must stand on one line"
		}
		return Example{}, &LineError{Problem: "bad JSON: " + err.Error() + hint}
	}
	fit := []Form{r.form}
	if r.form == Auto {
		var bad *LineError
		if fit, bad = o.detect(r.others); bad != nil {
			return Example{}, bad
		}
	}
	e, bad := o.example(fit[0], r.names[0], r.names[1])
	switch {
	case bad == nil && r.form == Auto:
		if r.form, r.formAt = fit[0], r.line; len(fit) > 1 && r.several != nil {
			r.several(r.file, fit)
		}
	case bad != nil && r.formAt > 0:
		bad.Problem += fmt.Sprintf("; line %d settled the form %s", r.formAt, r.form)
	}
	return e, bad
}

// record returns the next line, or the next row as one.
func (r *Reader) record() (line []byte, bad *LineError) {
	if r.line == 0 {
		r.openTable()
	}
	if r.failed != nil {
		return nil, nil
	}
	r.line++
	if r.rows != nil {
		var err error
		if line, bad, err = r.rows.read(); err == io.EOF {
			r.failed = err
		} else if err != nil {
			r.failed = noTable(fmt.Sprintf("%s:%d", r.file, r.line), err)
		}
		return line, bad
	}
	line, problem := r.readLine()
	if problem != "" {
		bad = &LineError{Problem: problem}
	}
	return line, bad
}

// openTable sets rows for a Parquet file, which is known by its first bytes or its name.
// Its footer says where all else is, so it must be a file that can be read from its end.
func (r *Reader) openTable() {
	f, ok := r.from.(interface {
		io.ReaderAt
		Stat() (fs.FileInfo, error)
	})
	if !ok {
		return
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	first, _ := r.in.Peek(32) // an error comes again when a line is read
	magic, named := bytes.HasPrefix(first, []byte(parquetMagic)), strings.HasSuffix(r.file, ".parquet")
	if !magic && (!named || notText(first) != "") {
		return
	}
	if r.rows, err = openParquet(f, info.Size(), r.maxLine); err != nil {
		r.failed = noTable(r.file, err)
	}
}

// noTable is the error of a Parquet file; where is its name, with a row if one was reached.
func noTable(where string, err error) error {
	err = fmt.Errorf("%s: cannot be read as Parquet: %w", where, err)
	if !errors.Is(err, errForm) {
		err = fmt.Errorf("%w; if it is not whole, fetch it again", err)
	}
	return err
}

// readLine returns the next line without its end. An over-long line is read
// past and reported; a stream that is no text at all sets failed.
func (r *Reader) readLine() (line []byte, problem string) {
	long := false
	for {
		part, err := r.in.ReadSlice('\n')
		switch {
		case long:
		case len(line)+len(part) > r.maxLine+2: // 2 for the line's end
			long = true
		default:
			line = append(line, part...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == io.EOF {
			if len(line) == 0 && !long {
				r.failed = io.EOF
				return nil, ""
			}
			break // the last line has no end
		}
		if err != nil {
			r.failed = fmt.Errorf("%s:%d: %w", r.file, r.line, err)
			return nil, ""
		}
		break
	}
	if r.line == 1 {
		if what := notText(line); what != "" {
			r.failed = fmt.Errorf("%s: %s", r.file, what)
			return nil, ""
		}
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if long || len(line) > r.maxLine {
		return nil, fmt.Sprintf("the line is longer than %d bytes", r.maxLine)
	}
	return line, ""
}

// notText recognises files that are often given by mistake.
func notText(first []byte) string {
	for _, known := range []struct{ magic, what string }{
		{"\x1f\x8b", "is compressed with gzip: unpack it first"},
		{"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first"},
		{"PK\x03\x04", "is a zip archive: unpack it first"},
		{parquetMagic, "is a Parquet file, whose end is read first: name it, or convert it to JSON lines"},
		{"version https://git-lfs", "is a note of Git LFS where the data is: fetch that with git lfs pull"},
		{"\xff\xfe", "is UTF-16: save it as UTF-8"},
		{"\xfe\xff", "is UTF-16: save it as UTF-8"},
		{"{\x00", "is UTF-16: save it as UTF-8"},
		{"\x00{", "is UTF-16: save it as UTF-8"},
	} {
		if bytes.HasPrefix(first, []byte(known.magic)) {
			return known.what
		}
	}
	return ""
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		c, size := utf8.DecodeRune(b[i:])
		if c == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}
