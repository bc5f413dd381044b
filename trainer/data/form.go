package data

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Form is which fields of a line hold the question and the reference.
type Form string

// The forms. Auto takes the form of a file from its first good line.
const (
	Auto             Form = "auto"
	QuestionAnswer   Form = "question"      // {"question": "…", "answer": "…"}
	PromptCompletion Form = "prompt"        // {"prompt": …, "completion": …}, each a string or a list of messages
	PromptAnswer     Form = "prompt-answer" // {"prompt": …, "answer": …}, as PromptCompletion
	Messages         Form = "messages"      // {"messages": [{"role": "user", "content": "…"}, …]}; the last assistant turn is the reference
	Text             Form = "text"          // {"text": "…"}, a document for plain language modelling
)

// forms lists each form with its fields, in the order in which Auto looks: a
// file that has the fields of several takes the first.
var forms = []struct {
	form   Form
	fields []string
}{
	{Messages, []string{"messages"}},
	{QuestionAnswer, []string{"question", "answer"}},
	{PromptCompletion, []string{"prompt", "completion"}},
	{PromptAnswer, []string{"prompt", "answer"}},
	{Text, []string{"text"}},
}

// Forms lists the names of the forms.
func Forms() []string {
	return []string{string(Auto), string(QuestionAnswer), string(PromptCompletion), string(PromptAnswer), string(Messages), string(Text)}
}

// object is one decoded line.
type object map[string]json.RawMessage

// UnmarshalJSON refuses a field that stands twice, of which package json would
// take the last: what the other held would be lost without a word.
func (o *object) UnmarshalJSON(raw []byte) error {
	in := json.NewDecoder(bytes.NewReader(raw))
	if _, err := in.Token(); err != nil { // the brace
		return err
	}
	*o = object{}
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return err
		}
		field := name.(string) // of a JSON object
		if _, twice := (*o)[field]; twice {
			return &twiceError{field}
		}
		(*o)[field] = value
	}
	return nil
}

// twiceError is a field that stands twice.
type twiceError struct{ field string }

func (e *twiceError) Error() string {
	return fmt.Sprintf("the field %s stands twice: which is meant?", clip(e.field))
}

// has tells whether the field is there and not null.
func (o object) has(field string) bool {
	v, ok := o[field]
	return ok && string(v) != "null"
}

// detect finds the forms whose fields are all there, of which the first is taken. Where
// there is none, a field that is there and null is named; else all are.
func (o object) detect(others string) (fit []Form, bad *LineError) {
	for _, f := range forms {
		if !slices.ContainsFunc(f.fields, func(field string) bool { return !o.has(field) }) {
			fit = append(fit, f.form)
		}
	}
	if len(fit) > 0 {
		return fit, nil
	}
	for _, f := range forms {
		if slices.ContainsFunc(f.fields, func(field string) bool { return o[field] == nil }) {
			continue
		}
		null := slices.IndexFunc(f.fields, func(field string) bool { return !o.has(field) })
		return nil, &LineError{Field: f.fields[null], Problem: isNull}
	}
	return nil, &LineError{Problem: fmt.Sprintf("no form fits the fields %s: want question and answer, prompt and completion or answer, messages, or text%s", o.names(), others)}
}

// isNull is what is wrong with a field that is null.
const isNull = "is null: want a string"

// names lists the fields for an error.
func (o object) names() string {
	if len(o) == 0 {
		return "(none)"
	}
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, clip(name))
	}
	slices.Sort(names)
	if len(names) > 12 {
		names = append(names[:12], "…")
	}
	return strings.Join(names, ", ")
}

// example reads the fields of one form. question and answer are what the form
// QuestionAnswer calls its fields.
func (o object) example(f Form, question, answer string) (Example, *LineError) {
	var e Example
	var err *LineError
	used := map[string]bool{}
	switch f {
	case QuestionAnswer:
		used[question], used[answer] = true, true
		o.lift(question)
		o.lift(answer)
		if err = o.ask(&e, question); err != nil {
			return e, err
		}
		if e.Answer, err = o.text(answer); err != nil {
			return e, err
		}
	case PromptCompletion, PromptAnswer:
		completion := "completion"
		if f == PromptAnswer {
			completion = "answer"
		}
		used["prompt"], used[completion] = true, true
		if err = o.promptCompletion(&e, completion); err != nil {
			return e, err
		}
	case Messages:
		used["messages"] = true
		turns, err := o.turns("messages")
		if err != nil {
			return e, err
		}
		if err = e.setTurns(turns); err != nil {
			return e, err
		}
	case Text:
		used["text"] = true
		if e.Text, err = o.text("text"); err != nil {
			return e, err
		}
	default:
		panic("data: unknown form " + string(f))
	}
	return e, o.rest(&e, used)
}

// rest keeps the fields that the form has not used.
func (o object) rest(e *Example, used map[string]bool) *LineError {
	for name, raw := range o {
		if used[name] {
			continue
		}
		if e.Extra == nil {
			e.Extra = map[string]json.RawMessage{}
		}
		e.Extra[name] = raw
		if name == "family" && kind(raw) == "string" {
			var problem string
			if e.Family, problem = text(raw); problem != "" {
				return &LineError{Field: name, Problem: problem}
			}
		}
	}
	return nil
}

// Texts reads a field that the form does not use: a list of strings, not empty. What
// is wrong with it is a *LineError.
func (e *Example) Texts(field string) ([]string, error) {
	const want = "want a list of strings"
	raw := e.Extra[field]
	wrong := func(format string, args ...any) ([]string, error) {
		return nil, &LineError{File: e.File, Line: e.Line, Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	var items []json.RawMessage
	switch k := kind(raw); {
	case k == "nothing", k == "null":
		return wrong("is missing: %s", want)
	case k != "list":
		return wrong("%s, have %s", want, one(k))
	}
	if err := json.Unmarshal(raw, &items); err != nil {
		return wrong("%v", err)
	}
	if len(items) == 0 {
		return wrong("%s, have an empty list", want)
	}
	list := make([]string, len(items))
	for i, item := range items {
		var problem string
		if list[i], problem = text(item); problem != "" {
			return wrong("item %d: %s", i+1, problem)
		}
	}
	return list, nil
}

// lift makes a field of what a path such as reward_model.ground_truth leads to, unless
// there is a field of that name.
func (o object) lift(path string) {
	at := o
	for name := path; at[name] == nil; {
		head, rest, nested := strings.Cut(name, ".")
		var inner object
		if !nested || json.Unmarshal(at[head], &inner) != nil {
			return
		}
		if at, name = inner, rest; at[name] != nil {
			o[path] = at[name]
		}
	}
}

// ask reads what the policy is asked: a string, or a list of messages that ends with
// the user's.
func (o object) ask(e *Example, field string) (err *LineError) {
	if kind(o[field]) != "list" {
		e.Question, err = o.text(field)
		return err
	}
	turns, err := o.turns(field)
	if err != nil {
		return err
	}
	last := turns[len(turns)-1]
	if last.Role != "user" {
		return &LineError{Field: field, Problem: fmt.Sprintf("the last turn is %s's: want user's", last.Role)}
	}
	e.Messages, e.Question = turns, last.Content
	return nil
}

// promptCompletion reads the form in which both fields are strings, or lists
// of messages as TRL's conversational data sets have them.
func (o object) promptCompletion(e *Example, completion string) *LineError {
	if err := o.ask(e, "prompt"); err != nil {
		return err
	}
	if kind(o[completion]) != "list" {
		var err *LineError
		e.Answer, err = o.text(completion)
		return err
	}
	turns, err := o.turns(completion)
	if err != nil {
		return err
	}
	if len(turns) != 1 || turns[0].Role != "assistant" {
		return &LineError{Field: completion, Problem: fmt.Sprintf("want one assistant turn, have %d of which the first is %s's: put earlier turns into prompt", len(turns), turns[0].Role)}
	}
	if strings.TrimSpace(turns[0].Content) == "" {
		return &LineError{Field: completion + "[0].content", Problem: "is empty: there is nothing to learn from it"}
	}
	e.Answer = turns[0].Content
	return nil
}

// setTurns takes the last assistant turn as the reference and keeps what came
// before it; later turns are not used.
func (e *Example) setTurns(turns []Message) *LineError {
	last := len(turns) - 1
	for last >= 0 && turns[last].Role != "assistant" {
		last--
	}
	if last < 0 {
		return &LineError{Field: "messages", Problem: "no assistant turn: the last one is the reference"}
	}
	if strings.TrimSpace(turns[last].Content) == "" {
		return &LineError{Field: fmt.Sprintf("messages[%d].content", last), Problem: "the reference is empty"}
	}
	user := last - 1
	for user >= 0 && turns[user].Role != "user" {
		user--
	}
	if user < 0 {
		return &LineError{Field: "messages", Problem: "no user turn before the last assistant turn"}
	}
	e.Question, e.Answer, e.Messages = turns[user].Content, turns[last].Content, turns[:last:last]
	return nil
}

// text reads a string field that must be there and not blank.
func (o object) text(field string) (string, *LineError) {
	raw, ok := o[field]
	if !ok {
		return "", &LineError{Field: field, Problem: fmt.Sprintf("is missing (the line has %s)", o.names())}
	}
	s, problem := text(raw)
	if problem == "" && strings.TrimSpace(s) == "" {
		problem = "is empty"
	}
	if problem != "" {
		return "", &LineError{Field: field, Problem: problem}
	}
	return s, nil
}

// turns reads a list of messages, which must not be empty.
func (o object) turns(field string) ([]Message, *LineError) {
	raw, ok := o[field]
	if !ok {
		return nil, &LineError{Field: field, Problem: fmt.Sprintf("is missing (the line has %s)", o.names())}
	}
	if k := kind(raw); k != "list" {
		return nil, &LineError{Field: field, Problem: "want a list of messages, have a " + k}
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, &LineError{Field: field, Problem: err.Error()}
	}
	if len(list) == 0 {
		return nil, &LineError{Field: field, Problem: "is an empty list"}
	}
	turns := make([]Message, len(list))
	for i, item := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if k := kind(item); k != "object" {
			return nil, &LineError{Field: at, Problem: fmt.Sprintf("want an object with role and content, have %s", one(k))}
		}
		var m object
		if err := json.Unmarshal(item, &m); err != nil {
			return nil, &LineError{Field: at, Problem: err.Error()}
		}
		var problem string
		if turns[i].Role, problem = text(m["role"]); problem == "" {
			problem = checkRole(turns[i].Role)
		}
		if problem != "" {
			return nil, &LineError{Field: at + ".role", Problem: problem}
		}
		if turns[i].Content, problem = text(m["content"]); problem != "" {
			return nil, &LineError{Field: at + ".content", Problem: problem}
		}
	}
	return turns, nil
}

// checkRole says what is wrong with a role, or "".
func checkRole(role string) string {
	switch role {
	case "system", "user", "assistant", "tool":
		return ""
	}
	return fmt.Sprintf("unknown role %q: want system, user, assistant or tool", clip(role))
}

// text decodes one string; problem is "" when all is well.
func text(raw json.RawMessage) (s, problem string) {
	if raw == nil {
		return "", "is missing"
	}
	if string(raw) == "null" {
		return "", isNull
	}
	switch k := kind(raw); k {
	case "string":
	case "number", "boolean":
		return "", fmt.Sprintf("want a string, have a %s: put it in quotes, or name another form", k)
	default:
		return "", "want a string, have " + one(k)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", err.Error()
	}
	if unpaired(raw) {
		return "", `a \ud800–\udfff escape stands without its partner: write the character itself`
	}
	return s, ""
}

// unpaired tells whether a JSON string has half a character as an escape: a surrogate
// without its partner, which encoding/json turns into U+FFFD without a word.
func unpaired(raw []byte) bool {
	unit := func(at int) rune { // of the \uXXXX there, −1 if there is none
		if at+6 > len(raw) || raw[at] != '\\' || raw[at+1] != 'u' {
			return -1
		}
		n, err := strconv.ParseUint(string(raw[at+2:at+6]), 16, 16)
		if err != nil {
			return -1
		}
		return rune(n)
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if first := unit(i); utf16.IsSurrogate(first) {
			if utf16.DecodeRune(first, unit(i+6)) == utf8.RuneError {
				return true
			}
			i += 6
		}
		i++ // past what is escaped
	}
	return false
}

// kind names the type of a JSON value for an error.
func kind(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "list"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// one puts the article before a kind.
func one(kind string) string {
	if kind == "object" {
		return "an object"
	}
	return "a " + kind
}

// clip shortens what an error quotes from the data.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
