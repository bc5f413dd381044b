package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

func read(t *testing.T, text string, o Options) []Example {
	t.Helper()
	got, _, err := ReadFrom(strings.NewReader(text), "f.jsonl", o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// extra are fields that a form does not use: names and values in turn.
func extra(fields ...string) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	for i := 0; i < len(fields); i += 2 {
		m[fields[i]] = json.RawMessage(fields[i+1])
	}
	return m
}

func TestForms(t *testing.T) {
	turns := []Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "Hi"}, {Role: "assistant", Content: "Hello"}, {Role: "user", Content: "1+1?"}}
	for _, c := range []struct {
		name, line string
		want       Example
	}{
		{"question", `{"question": "1+1?", "answer": "2", "family": "calc", "n": 3}`,
			Example{Question: "1+1?", Answer: "2", Family: "calc", Extra: extra("family", `"calc"`, "n", `3`)}},
		{"prompt", `{"prompt": "1+1?", "completion": " 2"}`, Example{Question: "1+1?", Answer: " 2"}},
		{"conversational prompt", `{"prompt": [{"role": "user", "content": "1+1?"}], "completion": [{"role": "assistant", "content": "2"}]}`,
			Example{Question: "1+1?", Answer: "2", Messages: []Message{{Role: "user", Content: "1+1?"}}}},
		{"messages", `{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "thanks"}], "source": "x"}`,
			Example{Question: "1+1?", Answer: "2", Messages: turns, Extra: extra("source", `"x"`)}},
		{"messages beside a prompt", `{"prompt": "1+1?", "messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]}`,
			Example{Question: "1+1?", Answer: "2", Messages: []Message{{Role: "user", Content: "1+1?"}}, Extra: extra("prompt", `"1+1?"`)}},
		{"text", `{"text": "Once."}`, Example{Text: "Once."}},
		{"escapes", `{"question": "\ud83d\ude00 \ufffd �", "answer": "é\u0000\n"}`, Example{Question: "😀 \ufffd \ufffd", Answer: "é\x00\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.File, c.want.Line = "f.jsonl", 1
			if got := read(t, c.line, Options{}); !reflect.DeepEqual(got, []Example{c.want}) {
				t.Errorf("have %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// Everything that is allowed around lines, at once.
func TestLayout(t *testing.T) {
	long := strings.Repeat("long ", 40_000) // over any buffer
	text := "\ufeff{\"question\": \"a\", \"answer\": \"1\"}\r\n\r\n   \t\n" +
		`{"question": "b", "answer": "` + long + "\"}\n" +
		`  {"question": "c", "answer": "3", "text": null}  ` // no line end
	got := read(t, text, Options{})
	if len(got) != 3 || got[0].Line != 1 || got[1].Line != 4 || got[2].Line != 5 || got[1].Answer != long || got[2].Question != "c" {
		t.Fatalf("have %d examples: %.300v", len(got), got)
	}
}

func TestBadLines(t *testing.T) {
	good := `{"question": "a", "answer": "1"}` + "\n"
	for _, c := range []struct{ name, line, want string }{
		{"missing field", `{"question": "b", "id": 1}`, "f.jsonl:2: answer: is missing (the line has id, question); line 1 settled the form question"},
		{"object", `{"question": "b", "answer": {"text": "72"}}`, "f.jsonl:2: answer: want a string, have an object; line 1 settled the form question"},
		{"number", `{"question": "b", "answer": 72}`, "f.jsonl:2: answer: want a string, have a number: put it in quotes, or name another form; line 1 settled the form question"},
		{"null", `{"question": null, "answer": "1"}`, "f.jsonl:2: question: is null: want a string; line 1 settled"},
		{"twice", `{"question": "b", "answer": "1", "\u0061nswer": "2"}`, "f.jsonl:2: the field answer stands twice: which is meant?"},
		{"empty", `{"question": "b", "answer": " \n"}`, "f.jsonl:2: answer: is empty"},
		{"no object", `["a"]`, `f.jsonl:2: want one JSON object a line, have "[\"a\"]"; a file that is one JSON list is not JSON lines: write each element on its own line, as jq -c '.[]' does`},
		{"no JSON", `question: a`, `f.jsonl:2: want one JSON object a line, have "question: a"`},
		{"cut off", `{"question": "b", "answer": "1`, "f.jsonl:2: bad JSON: unexpected end of JSON input"},
		{"two objects", `{"question": "b", "answer": "1"} {}`, "f.jsonl:2: bad JSON: invalid character"},
		{"invalid UTF-8", "{\"question\": \"b\xff\", \"answer\": \"1\"}", "f.jsonl:2: byte 16 (0xff) is not UTF-8: save the file as UTF-8"},
		{"lone surrogate beside U+FFFD", `{"question": "\ufffd \\ufffd \ud800", "answer": "1"}`, `f.jsonl:2: question: a \ud800–\udfff escape stands without its partner`},
		{"halves the wrong way round", `{"question": "\ude00\ud83d", "answer": "1"}`, `f.jsonl:2: question: a \ud800–\udfff escape stands without its partner`},
		{"lone surrogate", `{"question": "b\ud800", "answer": "1"}`, `f.jsonl:2: question: a \ud800–\udfff escape stands without its partner`},
		{"other form", `{"text": "x"}`, "f.jsonl:2: question: is missing (the line has text); line 1 settled the form question"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := ReadFrom(strings.NewReader(good+c.line+"\n"+good), "f.jsonl", Options{})
			var bad *LineError
			if !errors.As(err, &bad) || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("have %v\nwant %s", err, c.want)
			}
			// With Skip the rest is read.
			got, report, err := ReadFrom(strings.NewReader(good+c.line+"\n"+good), "f.jsonl", Options{Skip: true})
			if err != nil || len(got) != 2 || report.Bad != 1 || report.Examples != 2 {
				t.Errorf("skipping: %d examples, report %+v, error %v", len(got), report, err)
			}
		})
	}
}

func TestBadMessages(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"messages": "hi"}`, "messages: want a list of messages, have a string"},
		{`{"messages": []}`, "messages: is an empty list"},
		{`{"messages": ["hi"]}`, "messages[0]: want an object with role and content, have a string"},
		{`{"messages": [{"content": "x"}]}`, "messages[0].role: is missing"},
		{`{"messages": [{"role": "human", "content": "x"}]}`, `messages[0].role: unknown role "human": want system, user, assistant or tool`},
		{`{"messages": [{"role": "user", "content": ["x"]}]}`, "messages[0].content: want a string, have a list"},
		{`{"messages": [{"role": "user", "content": "x"}]}`, "messages: no assistant turn: the last one is the reference"},
		{`{"messages": [{"role": "assistant", "content": "x"}]}`, "messages: no user turn before the last assistant turn"},
		{`{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]}`, "messages[1].content: the reference is empty"},
		{`{"prompt": [{"role": "assistant", "content": "x"}], "completion": "y"}`, "prompt: the last turn is assistant's: want user's"},
		{`{"prompt": "x", "completion": [{"role": "user", "content": "y"}]}`, "completion: want one assistant turn, have 1 of which the first is user's"},
		{`{"prompt": "x", "completion": [{"role": "assistant", "content": ""}]}`, "completion[0].content: is empty"},
		{`{"question": "q", "answer": "a", "family": "\udc00"}`, "family: a \\ud800–\\udfff escape stands without its partner"},
		{`{"question": "q", "answer": null}`, "answer: is null: want a string"},
		{`{"prompt": null, "answer": "a"}`, "prompt: is null: want a string"},
		{`{"messages": null}`, "messages: is null: want a string"},
		{`{"messages": [{"role": "user", "content": "x", "content": "y"}]}`, "messages[0]: the field content stands twice"},
		{`{"prompt": "x", "answer": [{"role": "user", "content": "y"}]}`, "answer: want one assistant turn"},
		{`{}`, "no form fits the fields (none): want question and answer"},
		{`{"question": "x", "completion": "y"}`, "no form fits the fields completion, question"},
	} {
		_, _, err := ReadFrom(strings.NewReader(c.line), "f.jsonl", Options{})
		if err == nil || !strings.HasPrefix(err.Error(), "f.jsonl:1: "+c.want) {
			t.Errorf("%s:\nhave %v\nwant %s", c.line, err, c.want)
		}
	}
}

func TestOtherFields(t *testing.T) {
	for _, c := range []struct {
		line string
		o    Options
		want string // question, answer, fields that are left
	}{
		{`{"prompt": "q", "answer": "a", "id": "7"}`, Options{}, `q a map[id:"7"]`},
		{`{"prompt": [{"role": "user", "content": "q"}], "answer": "a"}`, Options{}, "q a map[]"},
		{`{"problem": "q", "solution": "a", "answer": "7"}`, Options{Question: "problem", Answer: "solution"}, `q a map[answer:"7"]`},
		{`{"problem": "q", "answer": "a", "prompt": "p"}`, Options{Question: "problem"}, `q a map[prompt:"p"]`},
		{`{"question": "q", "gold": "a", "messages": []}`, Options{Answer: "gold", Form: QuestionAnswer}, "q a map[messages:[]]"},
		{`{"ask": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], "by": {"rule": {"truth": "a"}}}`,
			Options{Question: "ask", Answer: "by.rule.truth"}, `q a map[by:{"rule": {"truth": "a"}}]`},
		{`{"question": "q", "a.b": "a", "a": {"b": "no"}}`, Options{Answer: "a.b"}, `q a map[a:{"b": "no"}]`},
		{`{"question": "q", "a": {"b.c": "a"}}`, Options{Answer: "a.b.c"}, `q a map[a:{"b.c": "a"}]`},
	} {
		e := read(t, c.line, c.o)[0]
		if have := fmt.Sprintf("%s %s %s", e.Question, e.Answer, e.Extra); have != c.want {
			t.Errorf("%s: have %s, want %s", c.line, have, c.want)
		}
	}
	_, _, err := ReadFrom(strings.NewReader(`{"question": "q", "answer": "a"}`), "f", Options{Answer: "gold"})
	if err == nil || err.Error() != "f:1: gold: is missing (the line has answer, question)" {
		t.Errorf("have %v", err)
	}
}

func TestForcedForm(t *testing.T) {
	line := `{"question": "q", "answer": "a", "text": "t"}`
	if got := read(t, line, Options{Form: Text}); got[0].Text != "t" || got[0].Question != "" || string(got[0].Extra["question"]) != `"q"` {
		t.Errorf("have %+v", got[0])
	}
	_, _, err := ReadFrom(strings.NewReader(line), "f", Options{Form: Messages})
	if err == nil || err.Error() != "f:1: messages: is missing (the line has answer, question, text)" {
		t.Errorf("have %v", err)
	}
}

func TestNotText(t *testing.T) {
	for magic, want := range map[string]string{
		"\x1f\x8b\x08":     "gzip",
		"PAR1....":         "Parquet",
		"\xff\xfe{\x00":    "UTF-16",
		"{\x00\"\x00":      "UTF-16",
		"\x00{\x00\"":      "UTF-16",
		"PK\x03\x04":       "zip",
		"\x28\xb5\x2f\xfd": "zstd",
	} {
		// Skipping lines must not hide it.
		_, _, err := ReadFrom(strings.NewReader(magic), "f", Options{Skip: true})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: have %v, want %s", magic, err, want)
		}
	}
}

func TestLongLine(t *testing.T) {
	long := `{"question": "b", "answer": "` + strings.Repeat("x", 200_000) + `"}`
	text := `{"question": "a", "answer": "1"}` + "\n" + long + "\r\n" + `{"question": "c", "answer": "1"}`
	got, report, err := ReadFrom(strings.NewReader(text), "f", Options{MaxLine: len(long) - 1, Skip: true})
	if err != nil || len(got) != 2 || report.Bad != 1 || !strings.Contains(report.String(), "f:2: the line is longer than") {
		t.Errorf("%d examples, %v, error %v", len(got), report, err)
	}
	if got := read(t, text, Options{MaxLine: len(long)}); len(got) != 3 {
		t.Errorf("a line of exactly the limit: %d examples", len(got))
	}
	// At the end of the file, without a line end.
	if _, _, err := ReadFrom(strings.NewReader(long), "f", Options{MaxLine: 1000}); err == nil {
		t.Error("no error")
	}
}

func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := write("a.jsonl", `{"question": "a", "answer": "1"}`+"\n"+`{"question": "b"}`+"\n")
	b := write("b.jsonl", `{"text": "b"}`+"\n") // each file has its own form
	empty := write("empty.jsonl", "\n\n")
	bad := write("bad.jsonl", "x\ny\n")

	in, err := os.Open(write("in.jsonl", `{"prompt": "p", "completion": "c"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer func(was *os.File) { os.Stdin = was; in.Close() }(os.Stdin)
	os.Stdin = in
	got, report, err := Read(t.Context(), []string{a, "-", b}, Options{Skip: true})
	if err != nil || len(got) != 3 || got[1].File != "standard input" || got[2].Text != "b" || report.Bad != 1 || report.Examples != 3 {
		t.Errorf("have %+v, %+v, %v", got, report, err)
	}
	if want := fmt.Sprintf("skipped 1 of 4 lines:\n  %s:2: answer: is missing (the line has question); line 1 settled the form question", a); report.String() != want {
		t.Errorf("have %q\nwant %q", report, want)
	}
	if got, _, err := Read(t.Context(), []string{a, b}, Options{Limit: 1}); err != nil || len(got) != 1 {
		t.Errorf("limit: %v, %v", got, err)
	}
	for _, c := range []struct {
		path, want string
		o          Options
	}{
		{a, "answer: is missing", Options{}},
		{empty, "no examples: want one JSON object a line", Options{}},
		{bad, "none of 2 lines could be used; the first: " + bad + ":1: want one JSON object", Options{Skip: true}},
		{dir, "is a folder: name the files in it", Options{}},
		{filepath.Join(dir, "none"), "read data: open", Options{}},
		{write("table.csv", "question,answer\na,1\n"), "of tables only those in Parquet are read", Options{}},
		{write("other.jsonl", `{"input": "a"}`), "--question-field and --answer-field name others", Options{}},
	} {
		if _, _, err := Read(t.Context(), []string{c.path}, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: have %v, want %s", c.path, err, c.want)
		}
	}
}

// TestTryOpensNoPipe: one that was opened and closed again has lost its writer.
func TestTryOpensNoPipe(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := exec.Command("mkfifo", pipe).Run(); err != nil {
		t.Skip(err)
	}
	tried := make(chan error)
	go func() { tried <- Try("-", pipe) }()
	select {
	case err := <-tried:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for a writer")
	}
	for path, want := range map[string]string{dir: "is a folder", filepath.Join(dir, "none"): "no such file"} {
		if err := Try("-", path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// ending is a context that ends when it has been asked so many times whether it has.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// Reading ends with its context, in the middle of a file and of a group of rows.
func TestReadStops(t *testing.T) {
	rows := make([]pair, 4000)
	for i := range rows {
		rows[i] = pair{strings.Repeat("why ", 50), "1"}
	}
	lines := filepath.Join(t.TempDir(), "f.jsonl")
	line := fmt.Sprintf("{\"question\": %q, \"answer\": \"1\"}\n", rows[0].Question)
	if err := os.WriteFile(lines, []byte(strings.Repeat(line, len(rows))), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{lines, table(t, rows, parquet.PageBufferSize(1<<14))} {
		for _, left := range []int{0, 1, 8} {
			if got, _, err := Read(&ending{t.Context(), left}, []string{path}, Options{}); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, ended at read %d: %d examples, %v", path, left+1, len(got), err)
			}
		}
	}
}

func TestSkippedReport(t *testing.T) {
	_, report, err := ReadFrom(strings.NewReader(strings.Repeat("x\n", 9)+`{"text": "a"}`), "f", Options{Skip: true})
	if err != nil || report.Bad != 9 || len(report.First) != shown || !strings.HasSuffix(report.String(), "… and 4 more") {
		t.Errorf("%v, %v", report, err)
	}
	if s := (Skipped{Examples: 3}).String(); s != "" {
		t.Errorf("have %q", s)
	}
}

type failing struct{ after io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.after.Read(p)
	if err == io.EOF {
		err = errors.New("disk on fire")
	}
	return n, err
}

func TestStreamError(t *testing.T) {
	r := NewReader(failing{strings.NewReader(`{"text": "a"}` + "\n" + `{"te`)}, "f", Options{})
	if e, err := r.Next(); err != nil || e.Text != "a" || e.Line != 1 {
		t.Fatal(e, err)
	}
	for range 2 { // it sticks
		if _, err := r.Next(); err == nil || err.Error() != "f:2: disk on fire" {
			t.Fatal(err)
		}
	}
}

// No input makes the reader panic, loop, or hand out what the forms exclude.
func FuzzReader(f *testing.F) {
	f.Add([]byte("{\"question\": \"a\", \"answer\": \"1\"}\r\n\n{\"text\": \"x\"}"), uint8(0))
	f.Add([]byte("\ufeff{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"y\"}]}"), uint8(1))
	f.Add([]byte(`{"prompt": [{"role": "user", "content": "\ud83d\ude00"}], "completion": "\ud800"}`), uint8(2))
	f.Add([]byte("\xff\xfe{}\n[1]\nnull\n{\n}"), uint8(3))
	f.Add([]byte(`{"question": "q", "answer": "a", "chains": ["x", "\ud83d", 7], "y": ["\ud83d\ude00"], "z": "", "n": null}`), uint8(0))
	f.Add([]byte(`{"text": "a", "x": [[[[{}]]]], "family": 3}`), uint8(4))
	f.Fuzz(func(t *testing.T, text []byte, pick uint8) {
		o := Options{Form: Form(Forms()[int(pick)%len(Forms())]), MaxLine: 1 << 10}
		r := NewReader(bytes.NewReader(text), "f", o)
		lines := bytes.Count(text, []byte("\n")) + 1
		for calls := 0; ; calls++ {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if calls > lines {
				t.Fatalf("more than %d results", lines)
			}
			var bad *LineError
			if errors.As(err, &bad) {
				if bad.Line < 1 || bad.Line > lines || bad.Problem == "" {
					t.Fatalf("%+v", bad)
				}
				continue
			}
			if err != nil {
				break
			}
			if e.Line < 1 || e.Line > lines || (e.Text == "") == (e.Answer == "") || (e.Text == "") == (e.Question == "" && e.Messages == nil) {
				t.Fatalf("%+v", e)
			}
			for field := range e.Extra {
				list, err := e.Texts(field)
				if (err == nil) != (len(list) > 0) || err != nil && (!errors.As(err, &bad) || bad.Line != e.Line || bad.Field != field || bad.Problem == "") {
					t.Fatalf("%s: %q, %v", field, list, err)
				}
				for _, s := range list {
					if !utf8.ValidString(s) {
						t.Fatalf("%s: %q", field, s)
					}
				}
			}
		}
	})
}

func TestOptionsOfAProgram(t *testing.T) {
	line := `{"question": "q", "answer": "a"}`
	if _, _, err := ReadFrom(strings.NewReader(line), "x", Options{Form: "questions"}); err == nil || !strings.HasPrefix(err.Error(), "form: want one of auto, question, ") {
		t.Error(err)
	}
	if list, _, err := ReadFrom(strings.NewReader(line), "x", Options{Limit: -1}); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}
