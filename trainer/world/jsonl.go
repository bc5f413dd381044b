package world

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
)

// WriteItems writes items as JSON lines with the fields question, answer,
// family, steps, split and keys.
func WriteItems(out io.Writer, items []Item) error {
	return writeLines(out, func(yield func(any) bool) {
		for _, item := range items {
			if !yield(item) {
				return
			}
		}
	})
}

// WriteTexts writes documents as JSON lines {"text": …}.
func WriteTexts(out io.Writer, texts iter.Seq[string]) error {
	type document struct {
		Text string `json:"text"`
	}
	return writeLines(out, func(yield func(any) bool) {
		for text := range texts {
			if !yield(document{text}) {
				return
			}
		}
	})
}

func writeLines(out io.Writer, values iter.Seq[any]) error {
	buffered := bufio.NewWriter(out)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false) // <think> stays readable
	for v := range values {
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("write jsonl: %w", err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write jsonl: %w", err)
	}
	return nil
}

// ReadItems reads what WriteItems wrote; name is the file's, for errors.
func ReadItems(in io.Reader, name string) ([]Item, error) {
	var items []Item
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, 1<<20)
	for line := 1; scan.Scan(); line++ {
		if len(scan.Bytes()) == 0 {
			continue
		}
		var item Item
		if err := json.Unmarshal(scan.Bytes(), &item); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, line, err)
		}
		if item.Question == "" || item.Answer == "" {
			return nil, fmt.Errorf("%s:%d: question and answer: want both, have an empty one", name, line)
		}
		items = append(items, item)
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return items, nil
}
