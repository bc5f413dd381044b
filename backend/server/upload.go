package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/web/wire"
)

// Bounds of an upload, beside its bytes.
const (
	maxUploadLines = 5000
	maxUploadLine  = 32 << 10
	leastHeld      = 10  // examples, for some to be held out
	mostHeld       = 100 // held out
)

// readUpload checks an uploaded JSONL line by line against what the model can
// read: questions and answers, all of their words known, short enough.
func readUpload(text string, tok *token.Tokenizer, form *token.Format, room int) ([]data.Example, error) {
	if lines := strings.Count(strings.TrimSuffix(text, "\n"), "\n") + 1; lines > maxUploadLines {
		return nil, failed(wire.CodeUpload, "the file has %d lines; at most %d are taken", lines, maxUploadLines)
	}
	list, _, err := data.ReadFrom(strings.NewReader(text), "upload", data.Options{MaxLine: maxUploadLine})
	var line *data.LineError
	switch {
	case errors.As(err, &line):
		problem, _, _ := strings.Cut(line.Problem, "; --") // flags are the command line's
		return nil, badLine(line.Line, line.Field, problem)
	case err != nil:
		return nil, failed(wire.CodeUpload, "the file: %v", err)
	case len(list) == 0:
		return nil, failed(wire.CodeUpload, `the file has no examples: want {"question": …, "answer": …} on each line`)
	}
	for i := range list {
		if err := checkExample(&list[i], tok, form, room); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// badLine says what is wrong with a line, and with which of its fields if it is one.
func badLine(line int, field, problem string) error {
	if field != "" {
		problem = field + ": " + problem
	}
	return failed(wire.CodeUpload, "line %d of the file: %s", line, problem)
}

func checkExample(e *data.Example, tok *token.Tokenizer, form *token.Format, room int) error {
	bad := func(field, format string, args ...any) error {
		return badLine(e.Line, field, fmt.Sprintf(format, args...))
	}
	switch {
	case e.Text != "" || e.Messages != nil:
		return bad("question", `missing: want {"question": …, "answer": …}`)
	case strings.TrimSpace(e.Question) == "":
		return bad("question", "is empty")
	case strings.TrimSpace(e.Answer) == "":
		return bad("answer", "is empty")
	case len(e.Question) > wire.MaxQuestion:
		return bad("question", "%d bytes; at most %d are taken", len(e.Question), wire.MaxQuestion)
	case len(e.Answer) > wire.MaxAnswer:
		return bad("answer", "%d bytes; at most %d are taken", len(e.Answer), wire.MaxAnswer)
	}
	for _, f := range []struct{ name, text string }{{"question", e.Question}, {"answer", e.Answer}} {
		if word := unknown(tok, f.text); word != "" {
			return bad(f.name, "the model does not know the word %q", clip(word, 60))
		}
	}
	if n := len(form.Prompt(e.Question)) + len(form.Answer(e.Answer)); n > room {
		return bad("question", "%d tokens with its answer; the model has room for %d beside a chain", n, room)
	}
	return nil
}

// unknown is the first word that the vocabulary lacks, "" if it has all.
func unknown(tok *token.Tokenizer, text string) string {
	unk := tok.UNK()
	if unk < 0 {
		return ""
	}
	for _, p := range tok.Pieces(text) {
		if p.ID == unk {
			return text[p.Start:p.End]
		}
	}
	return ""
}

// hold splits off a tenth to measure with; nothing of too small a set.
func hold(list []data.Example, seed uint64) (train, held []data.Example) {
	if len(list) < leastHeld {
		return list, nil
	}
	train, held = data.Split(list, 0.1, seed)
	if len(train) == 0 {
		return list, nil
	}
	if len(held) > mostHeld {
		held = slices.Clip(held[:mostHeld])
	}
	return train, held
}
