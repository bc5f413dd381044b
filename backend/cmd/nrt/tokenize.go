package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

func tokenizeCommand() *command {
	var model modelFlags
	var text, ids string
	var special, asJSON bool
	return &command{
		name: "tokenize", group: groupAsk, short: "text to token ids, or back",
		args: "[--model M] (--text T | --text - | --ids 1,2,3) [--special] [--json]",
		long: `
Prints for every token its id, its bytes in the text (from, to) and its text.
Only tokenizer.json is read, so the folder need not hold a model. With --ids the
ids become text again.`,
		examples: []string{
			"nrt tokenize --model ./llama --text 'The answer is 42.'",
			"nrt tokenize --model ./llama --text - --json < essay.txt",
			"nrt tokenize --model ./llama --ids 791,4320,374",
		},
		bind: func(f *flags) func(*env) error {
			model.name = defaultModel
			f.text(&model.name, "model", "M", "a folder with tokenizer.json, or a name that \"nrt models\" lists")
			f.text(&text, "text", "T", "what to tokenize; - reads standard input")
			f.text(&ids, "ids", "LIST", "ids to turn into text")
			f.toggle(&special, "special", "put in what the tokenizer puts around a text, such as its beginning token")
			f.json(&asJSON)
			return func(e *env) error {
				if f.given("text") == f.given("ids") {
					return usagef("want either --text or --ids")
				}
				if f.given("ids") {
					return e.detokenize(model.name, ids, asJSON)
				}
				return e.tokenize(model.name, text, special, asJSON)
			}
		},
	}
}

// piece is one token in JSON. Piece is the vocabulary's spelling.
type piece struct {
	ID    int32  `json:"id"`
	Piece string `json:"piece"`
	Text  string `json:"text"`
	Start int    `json:"start"` // bytes into the text
	End   int    `json:"end"`
}

func (e *env) tokenize(model, text string, special, asJSON bool) error {
	tok, err := e.tokenizer(model)
	if err != nil {
		return err
	}
	if text, err = e.textOrStdin(text); err != nil {
		return err
	}
	plain := tok.Pieces(text)
	ids, before := make([]int32, len(plain)), 0
	for i, p := range plain {
		ids[i] = p.ID
	}
	if special {
		// The post-processor only adds tokens: those of the text stand unchanged
		// in the middle.
		all := tok.EncodeSpecial(text)
		before = indexOf(all, ids)
		ids = append([]int32{}, all...)
	}
	pieces := make([]piece, len(ids))
	for i, id := range ids {
		p := piece{ID: id, Piece: tok.Token(id)}
		switch j := i - before; {
		case j >= len(plain):
			p.Start, p.End = len(text), len(text)
		case j >= 0:
			p.Text, p.Start, p.End = plain[j].Text, plain[j].Start, plain[j].End
		}
		pieces[i] = p
	}
	if !asJSON {
		for _, p := range pieces {
			fmt.Fprintf(e.out, "%6d  %5d–%-5d  %s\n", p.ID, p.Start, p.End, visible(cmp.Or(p.Text, p.Piece)))
		}
		return nil
	}
	return e.printJSON(struct {
		Model  string  `json:"model"`
		IDs    []int32 `json:"ids"`
		Tokens []piece `json:"tokens"`
	}{model, ids, pieces}, true)
}

// indexOf is the first place in all where part stands, or 0.
func indexOf(all, part []int32) int {
	for at := range len(all) - len(part) + 1 {
		if slices.Equal(all[at:at+len(part)], part) {
			return at
		}
	}
	return 0
}

func (e *env) detokenize(model, list string, asJSON bool) error {
	tok, err := e.tokenizer(model)
	if err != nil {
		return err
	}
	ids, err := parseIDs(list)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if id < 0 || int(id) >= tok.Size() {
			return fmt.Errorf("--ids: item %d is %d, the vocabulary has 0 to %d", i+1, id, tok.Size()-1)
		}
	}
	text := tok.Decode(ids, false)
	if asJSON {
		return e.printJSON(struct {
			Model string  `json:"model"`
			IDs   []int32 `json:"ids"`
			Text  string  `json:"text"`
		}{model, ids, text}, true)
	}
	fmt.Fprintln(e.out, text)
	return nil
}

// parseIDs reads "1,2,3" or "1 2 3".
func parseIDs(list string) ([]int32, error) {
	words := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	if len(words) == 0 {
		return nil, usagef("--ids: no ids")
	}
	ids := make([]int32, len(words))
	for i, w := range words {
		n, err := strconv.ParseInt(w, 10, 32)
		if err != nil {
			return nil, usagef("--ids: item %d: want a whole number, have %q", i+1, w)
		}
		ids[i] = int32(n)
	}
	return ids, nil
}

// textOrStdin is the flag's text, or for "-" what standard input holds.
func (e *env) textOrStdin(text string) (string, error) {
	if text != "-" {
		return text, nil
	}
	b, err := io.ReadAll(e.in)
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return string(b), nil
}
