package token

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The boundaries of a chain. The prompt ends with the first; the second ends
// the chain.
const (
	OpenText  = "<think>"
	CloseText = "</think>"
)

// Message is one turn of a conversation. Role is "system", "user" or
// "assistant".
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Format lays out question, chain and answer for one family of models. A whole
// sample is
//
//	Prompt(question) … chain … Close Answer(answer)
//
// and with an empty chain (the baseline, and supervised fine-tuning)
// Prompt + Close + Answer. All is joined as ids: nothing is tokenised again.
//
// Question, history and answer are plain text: special tokens spelt out in them
// stay text (EncodeText), so that a question cannot forge a turn.
//
// The layouts, with ‹…› for special tokens:
//
//	llama3        ‹bos›‹|start_header_id|›user‹|end_header_id|›\n\n{q}‹|eot_id|›
//	              ‹|start_header_id|›assistant‹|end_header_id|›\n\n<think>
//	              (Llama 3.1 and 3.2 begin with a system turn; see knowledge)
//	chatml        ‹|im_start|›user\n{q}‹|im_end|›\n‹|im_start|›assistant\n<think>
//	              (with the system turn that the template has where none is given;
//	              Qwen3 begins a chain with \n, an answer with \n\n, and forgets the
//	              chains of earlier turns)
//	deepseek      ‹bos›{s}‹<｜User｜>›{q}‹<｜Assistant｜>›<think>\n    (R1 and what it
//	              taught: an answer begins with \n\n, chains of earlier turns are
//	              forgotten)
//	zephyr        <|user|>\n{q}‹eos›\n<|assistant|>\n<think>
//	llama2        ‹bos›[INST] {q} [/INST]<think>    (‹bos› before each question; a
//	              system message is within the first, <<SYS>>\n{s}\n<</SYS>>\n\n{q})
//	mistral       ‹bos›[INST] {q} [/INST]<think>    (‹[INST]› {q}‹[/INST]› where
//	              the vocabulary has these as tokens; with a template, the spaces
//	              that it has)
//	mistral-v7    ‹bos›‹[SYSTEM_PROMPT]›{s}‹[/SYSTEM_PROMPT]›‹[INST]›{q}‹[/INST]›<think>
//	              (a space after the first of each pair if the template has it; the
//	              system turn that the template has where none is given, or none)
//	tulu          ‹bos›<|user|>\n{q}\n<|assistant|>\n<think>
//	tulu-thinker  the same; its template has the <think>, tulu's gets it from us
//	plain         ‹bos›{q}\n<think>
//	world         ‹bos› {q} <think>    (words)
//
// Where no system message is given, it is the one that the template sets, if it does.
// The templates of chatml and zephyr have no BOS, and programs do not agree on one:
// they have it here if the template mentions it, or the tokenizer puts it before any
// text, as it did when these models were trained on rendered text.
type Format struct {
	Name string
	// Close is the boundary that ends the chain.
	Close []int32
	// End follows the answer and is scored with it: the family's end of turn.
	End []int32
	// StopText is "</think>" if that is not one token, so that a chain's end must
	// be looked for in its text; otherwise "".
	StopText string

	t      *Tokenizer
	layout layout
	bare   bool   // the layout does not always begin with BOS
	open   string // what stands between <think> and a chain
	lead   string // what stands between </think> and an answer
}

// layout appends a conversation and the assistant's opening, without <think>.
type layout func(l *line, msgs []Message) error

// formats are the layouts. end is what ends a turn, the tokenizer's EOS if empty; the
// vocabulary must have it and what the layout needs besides.
var formats = []struct {
	name   string
	layout layout
	bare   bool
	end    string
	need   []string
}{
	{name: "llama3", layout: layoutLlama3, end: "<|eot_id|>", need: []string{"<|start_header_id|>", "<|end_header_id|>"}},
	{name: "chatml", layout: layoutChatML, bare: true, end: "<|im_end|>", need: []string{"<|im_start|>"}},
	{name: "deepseek", layout: layoutDeepSeek, need: []string{deepSeekUser, deepSeekAssistant}},
	{name: "zephyr", layout: layoutZephyr, bare: true},
	{name: "llama2", layout: layoutLlama2},
	{name: "mistral", layout: layoutMistral},
	{name: "mistral-v7", layout: layoutMistralV7},
	{name: "tulu", layout: layoutTulu},
	{name: "tulu-thinker", layout: layoutTulu},
	{name: "plain", layout: layoutPlain},
	{name: "world", layout: layoutWorld, need: []string{OpenText, CloseText}},
}

// FormatNames are the names that Format knows.
func FormatNames() (names []string) {
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// ErrTemplate is in the error of Format("") when the tokenizer has a chat template
// that is none of the known layouts.
var ErrTemplate = errors.New("the chat template is none of the known layouts")

// Format gives the layout of that name. "" picks the one that SaveFor has named, else
// the one whose marks are in the tokenizer's chat template; without a template it is
// "world" for a word-level vocabulary with the boundaries in it, else "plain". It is an
// error if the template has other marks, since a model that is asked in a layout it was
// not trained on answers badly and does not say why, or if the vocabulary lacks a token
// that the layout needs.
func (t *Tokenizer) Format(name string) (*Format, error) {
	if name == "" {
		if name = t.guessFormat(); name == "" {
			return nil, fmt.Errorf("%w: name one yourself (--template in training, --format elsewhere), one of %s", ErrTemplate, strings.Join(FormatNames(), ", "))
		}
	}
	i := slices.Index(FormatNames(), name)
	if i < 0 {
		return nil, fmt.Errorf("chat format %q: want one of %s", name, strings.Join(FormatNames(), ", "))
	}
	known := formats[i]
	f := &Format{Name: name, t: t, layout: known.layout, bare: known.bare}
	if name == "deepseek" || name == "chatml" && t.templateHas(OpenText+"\n") {
		f.open = "\n"
	}
	if name == "deepseek" || name == "chatml" && t.templateHas(CloseText+"\n\n") {
		f.lead = "\n\n"
	}
	end := cmp.Or(known.end, t.Token(t.eos))
	if end == "" {
		return nil, fmt.Errorf("chat format %q: the tokenizer has no end-of-text token: name one of its tokens as eos_token in its tokenizer_config.json", name)
	}
	for _, tok := range append(slices.Clone(known.need), end) {
		if _, ok := t.ID(tok); !ok {
			return nil, fmt.Errorf("chat format %q: token %q is not in the vocabulary", name, tok)
		}
	}
	endID, _ := t.ID(end)
	f.End = []int32{endID}
	if id, ok := t.ID(CloseText); ok {
		f.Close = []int32{id}
	} else {
		f.Close, f.StopText = t.EncodeMore(CloseText), CloseText
	}
	return f, nil
}

// templateHas tells whether s stands in the chat template, in a string or outside.
func (t *Tokenizer) templateHas(s string) bool {
	template := t.config.ChatTemplate
	return strings.Contains(template, s) || strings.Contains(template, strings.ReplaceAll(s, "\n", `\n`))
}

// guessFormat is the layout that the files name, or that of the chat template, "" where
// none is known.
func (t *Tokenizer) guessFormat() string {
	if t.config.layout != "" {
		return t.config.layout
	}
	has := func(s string) bool { return strings.Contains(t.config.ChatTemplate, s) }
	_, opens := t.ID(OpenText)
	_, closes := t.ID(CloseText)
	switch {
	case has(deepSeekUser) && has(deepSeekAssistant):
		return "deepseek"
	case has("<|start_header_id|>"):
		return "llama3"
	case has("<|im_start|>") && has("<|im_end|>"):
		return "chatml"
	case has("<<SYS>>"):
		if isLlama2(t.config.ChatTemplate) {
			return "llama2"
		}
	case has("[SYSTEM_PROMPT]"):
		if _, ok := systemV7(t.config.ChatTemplate); ok && has("[INST]") {
			return "mistral-v7"
		}
	case has("[INST]"):
		return "mistral"
	case has("<|assistant|>") && has("<|user|>"):
		switch t.userTurn() {
		case "eos":
			return "zephyr"
		case "":
			if has(OpenText) {
				return "tulu-thinker"
			}
			return "tulu"
		}
	case strings.TrimSpace(t.config.ChatTemplate) != "":
	case t.doc.Model.Type == "WordLevel" && opens && closes:
		return "world"
	default:
		return "plain"
	}
	return ""
}

// userTurn tells what ends a turn that begins with <|user|> in the chat template:
// "eos" for the end-of-text token, "" for nothing, "other" for another mark.
func (t *Tokenizer) userTurn() string {
	_, turn, _ := strings.Cut(t.config.ChatTemplate, "<|user|>")
	for _, next := range []string{"<|assistant|>", "<|system|>", "{%"} {
		turn, _, _ = strings.Cut(turn, next)
	}
	eos := t.Token(t.eos)
	switch {
	case strings.Contains(turn, "eos_token"), eos != "" && strings.Contains(turn, eos):
		return "eos"
	case strings.Contains(turn, "<|"):
		return "other"
	}
	return ""
}

// Prompt is everything before the chain of a single question, from BOS (where
// the tokenizer has one) to the opening boundary.
func (f *Format) Prompt(question string) []int32 {
	ids, err := f.prompt([]Message{{"user", question}})
	if err != nil {
		panic("token: a layout refused a plain question: " + err.Error())
	}
	return ids
}

func (f *Format) prompt(msgs []Message) ([]int32, error) {
	l := line{t: f.t}
	l.begin(f.bare)
	if text := defaultSystem(f.t.config.ChatTemplate); text != "" && msgs[0].Role != "system" {
		msgs = append([]Message{{"system", text}}, msgs...)
	}
	if err := f.layout(&l, msgs); err != nil {
		return nil, err
	}
	l.token(OpenText)
	l.write(f.open)
	return l.done(), nil
}

// Messages is Prompt for a conversation, whose last turn is not the
// assistant's.
func (f *Format) Messages(msgs []Message) ([]int32, error) {
	if len(msgs) == 0 {
		return nil, fmt.Errorf("chat format %q: no messages", f.Name)
	}
	for i, m := range msgs {
		if m.Role != "system" && m.Role != "user" && m.Role != "assistant" {
			return nil, fmt.Errorf("chat format %q: messages[%d].role: unsupported %q", f.Name, i, m.Role)
		}
	}
	if msgs[len(msgs)-1].Role == "assistant" {
		return nil, fmt.Errorf("chat format %q: messages[%d].role: the last turn must not be the assistant's", f.Name, len(msgs)-1)
	}
	ids, err := f.prompt(msgs)
	if err != nil {
		return nil, fmt.Errorf("chat format %q: %w", f.Name, err)
	}
	return ids, nil
}

// Answer is the ids of an answer on its own, followed by End. Where the family's
// answers begin with line breaks, it does.
func (f *Format) Answer(answer string) []int32 {
	return append(f.t.EncodeText(f.lead+answer), f.End...)
}

// AnswerText is the inverse of Answer: the text up to End (or all of it),
// without special tokens.
func (f *Format) AnswerText(ids []int32) string {
	if i := slices.Index(ids, f.End[0]); i >= 0 {
		ids = ids[:i]
	}
	return strings.TrimPrefix(f.t.Decode(ids, true), f.lead)
}

// Says tells whether an answer is right: whether its text is the reference's but
// for space around it. The same text may have other tokens when it is sampled.
func (f *Format) Says(answer []int32, reference string) bool {
	return strings.TrimSpace(f.AnswerText(answer)) == strings.TrimSpace(reference)
}

// line collects text and tokens. Text is encoded in the largest stretches
// between tokens, as if the whole had been one string.
type line struct {
	t    *Tokenizer
	ids  []int32
	text strings.Builder
	any  bool // something has been encoded: text no longer begins the prompt
}

// begin writes BOS; in a bare layout only if the template does, or else if the
// tokenizer puts it before a text, which then still begins after it.
func (l *line) begin(bare bool) {
	if l.t.bos < 0 {
		return
	}
	if bare && !strings.Contains(l.t.config.ChatTemplate, "bos_token") {
		if front := l.t.EncodeSpecial(""); len(front) > 0 && front[0] == l.t.bos {
			l.ids = append(l.ids, l.t.bos)
		}
		return
	}
	l.ids, l.any = append(l.ids, l.t.bos), true
}

func (l *line) write(s string) { l.text.WriteString(s) }

// token adds a token if the vocabulary has it, else its text.
func (l *line) token(s string) {
	id, ok := l.t.ID(s)
	if !ok {
		l.write(s)
		return
	}
	l.flush()
	l.ids, l.any = append(l.ids, id), true
}

// added is token for marks that only count as tokens if they are added ones.
func (l *line) added(s string) {
	if id, ok := l.t.ID(s); ok && l.t.added[id] != nil {
		l.token(s)
		return
	}
	l.write(s)
}

func (l *line) end() {
	l.token(l.t.Token(l.t.eos))
}

func (l *line) flush() {
	if l.text.Len() > 0 {
		l.ids = l.t.encode(l.ids, l.text.String(), mode{start: !l.any})
		l.any = true
		l.text.Reset()
	}
}

func (l *line) done() []int32 {
	l.flush()
	return l.ids
}

// knowledge begins the system turn of Llama 3.1 and 3.2, whose templates always write
// one. The day is the one these templates fall back to, and 3.1's only one: the layout
// of a question does not depend on the day it is asked.
const (
	knowledgeMark = "Cutting Knowledge Date: December 2023"
	knowledge     = knowledgeMark + "\nToday Date: 26 Jul 2024\n\n"
)

func layoutLlama3(l *line, msgs []Message) error {
	head := func(role string) {
		l.token("<|start_header_id|>")
		l.write(role)
		l.token("<|end_header_id|>")
		l.write("\n\n")
	}
	if strings.Contains(l.t.config.ChatTemplate, knowledgeMark) {
		system := ""
		if msgs[0].Role == "system" {
			system, msgs = strings.TrimSpace(msgs[0].Content), msgs[1:]
		}
		head("system")
		l.write(knowledge + system)
		l.token("<|eot_id|>")
	}
	for _, m := range msgs {
		head(m.Role)
		l.write(strings.TrimSpace(m.Content))
		l.token("<|eot_id|>")
	}
	head("assistant")
	return nil
}

// imSystem finds the system turn that a ChatML template writes where none is given:
// the one whose text stands in the template, as a string's inside, with escapes.
// (regexp would be a tenth of the page's client.)
func imSystem(template string) (text string, ok bool) {
	const start, end = "<|im_start|>system", "<|im_end|>"
	for {
		_, rest, found := strings.Cut(template, start)
		if !found {
			return "", false
		}
		template = rest
		if body, ok := strings.CutPrefix(rest, `\n`); ok {
			rest = body
		} else if rest, ok = strings.CutPrefix(rest, "\n"); !ok {
			continue
		}
		at := 0
		for at < len(rest) && !strings.HasPrefix(rest[at:], end) && !ends(rest[at:]) {
			if rest[at] == '\\' {
				at++
			}
			at++
		}
		if at <= len(rest) && strings.HasPrefix(rest[min(at, len(rest)):], end) {
			return rest[:at], true
		}
	}
}

// defaultSystem finds the system message that a template takes where none is given, if
// it sets system_message to a string before it looks, or in the else of that.
func defaultSystem(template string) string {
	done, rest, found := strings.Cut(template, "set system_message =")
	for found {
		branch := ""
		for _, tag := range strings.SplitAfter(done, "{%")[1:] {
			if word, _, _ := strings.Cut(strings.TrimLeft(tag, "- "), " "); word == "if" || word == "elif" || word == "else" {
				branch = word
			}
		}
		text, after, ok := quoted(rest)
		if ok && text != "" && (branch == "" || branch == "else") && strings.HasPrefix(strings.TrimLeft(after, "- "), "%}") {
			return text
		}
		var more string
		more, rest, found = strings.Cut(rest, "set system_message =")
		done += more
	}
	return ""
}

// quoted is the string that code in a template begins with, and what follows it.
func quoted(code string) (text, rest string, ok bool) {
	code = strings.TrimSpace(code)
	if code == "" || code[0] != '\'' && code[0] != '"' {
		return "", code, false
	}
	end := 1
	for end < len(code) && code[end] != code[0] {
		if code[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(code) {
		return "", code, false
	}
	return unescapeJinja.Replace(code[1:end]), code[end+1:], true
}

// ends tells whether s begins with the end of a string in a template, or with code.
func ends(s string) bool {
	return s[0] == '\'' || s[0] == '"' || strings.HasPrefix(s, "{{") || strings.HasPrefix(s, "{%")
}

var unescapeJinja = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\'`, "'", `\"`, `"`, `\\`, `\`)

// withoutChain is what stands after the last chain of a turn, if it had one.
func withoutChain(content string) (answer string, had bool) {
	i := strings.LastIndex(content, CloseText)
	if i < 0 {
		return content, false
	}
	return content[i+len(CloseText):], true
}

func layoutChatML(l *line, msgs []Message) error {
	turn := func(role, content string) {
		l.token("<|im_start|>")
		l.write(role + "\n" + content)
		l.token("<|im_end|>")
		l.write("\n")
	}
	if text, ok := imSystem(l.t.config.ChatTemplate); ok && msgs[0].Role != "system" {
		turn("system", unescapeJinja.Replace(text))
	}
	forgets := l.t.templateHas("split('" + CloseText + "')")
	for _, m := range msgs {
		if answer, had := withoutChain(m.Content); had && m.Role == "assistant" && forgets {
			m.Content = strings.TrimLeft(answer, "\n")
		}
		turn(m.Role, m.Content)
	}
	l.token("<|im_start|>")
	l.write("assistant\n")
	return nil
}

// The tokens before a turn of DeepSeek R1 and of the Llama and Qwen models that it taught.
const deepSeekUser, deepSeekAssistant = "<｜User｜>", "<｜Assistant｜>"

func layoutDeepSeek(l *line, msgs []Message) error {
	for i, m := range msgs {
		switch m.Role {
		case "system":
			if i > 0 {
				return fmt.Errorf("messages[%d].role: a system message must come first", i)
			}
			l.write(m.Content)
		case "user":
			l.token(deepSeekUser)
			l.write(m.Content)
		case "assistant":
			answer, _ := withoutChain(m.Content)
			l.token(deepSeekAssistant)
			l.write(answer)
			l.end()
		}
	}
	l.token(deepSeekAssistant)
	return nil
}

func layoutZephyr(l *line, msgs []Message) error { return l.tagged(msgs, true) }

// layoutTulu ends the assistant's turns alone.
func layoutTulu(l *line, msgs []Message) error { return l.tagged(msgs, false) }

// tagged writes turns that begin with <|role|>, and end with EOS if they are the
// assistant's or all do.
func (l *line) tagged(msgs []Message, all bool) error {
	for _, m := range msgs {
		l.added("<|" + m.Role + "|>")
		l.write("\n" + m.Content)
		if all || m.Role == "assistant" {
			l.end()
		}
		l.write("\n")
	}
	l.added("<|assistant|>")
	l.write("\n")
	return nil
}

// layoutPlain writes one turn a line; the assistant's end with EOS.
func layoutPlain(l *line, msgs []Message) error {
	for _, m := range msgs {
		l.write(m.Content)
		if m.Role == "assistant" {
			l.end()
		} else {
			l.write("\n")
		}
	}
	return nil
}

// layoutWorld is for the small world, which knows single questions only.
func layoutWorld(l *line, msgs []Message) error {
	if len(msgs) != 1 || msgs[0].Role != "user" {
		return fmt.Errorf("messages: want one question, have %d turns", len(msgs))
	}
	l.write(msgs[0].Content)
	return nil
}
