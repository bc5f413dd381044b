//go:build js && wasm

package main

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall/js"
	"time"

	"nrt/backend/token"
	"nrt/web/view"
	"nrt/web/wire"
)

// synced is what the pickers hold, so that they are rebuilt only for a reason.
type synced struct {
	models []wire.Model
	world  int
	choice string
}

// syncForms makes the templates' pickers and fields say what the state says. A
// field with the focus is the reader's.
func (a *app) syncForms() {
	if !slices.Equal(a.synced.models, a.s.Models) {
		a.synced.models = a.s.Models
		a.synced.choice = ""
		if el := byID("model"); el.Truthy() {
			el.Call("replaceChildren")
			for _, m := range a.s.ModelMenu() {
				option(el, "append", m.Name, a.s.ModelLabel(m.Name))
			}
		}
	}
	if a.synced.world != len(a.s.World) {
		a.synced.world = len(a.s.World)
		a.synced.choice = ""
		a.listWorld()
	}
	choice := a.s.Choice.Hash()
	if choice == a.synced.choice {
		return
	}
	a.synced.choice = choice
	c := a.s.Choice
	a.ownOption()
	if el := byID("model"); el.Truthy() {
		el.Set("title", c.Model) // as a command line calls it
	}
	for id, value := range map[string]string{"model": c.Model, "modeselect": c.Mode.String(), "example": a.picked()} {
		if el := byID(id); el.Truthy() && el.Get("value").String() != value {
			el.Set("value", value)
		}
	}
	for name, value := range map[string]string{
		"k": strconv.Itoa(c.K), "temperature": strconv.FormatFloat(c.Temperature, 'g', -1, 64),
		"top_p": strconv.FormatFloat(c.TopP, 'g', -1, 64), "seed": strconv.FormatUint(c.Seed, 10), "max_chain": strconv.Itoa(c.MaxChain),
	} {
		el := document().Call("querySelector", `input[data-change="`+name+`"]`)
		if el.Truthy() && !el.Equal(document().Get("activeElement")) {
			el.Set("value", value)
		}
	}
	for name, on := range map[string]bool{"clip": c.Clip, "normalize": c.Normalize} {
		if el := document().Call("querySelector", `input[data-change="`+name+`"]`); el.Truthy() {
			el.Set("checked", on)
		}
	}
	radios := document().Call("querySelectorAll", `input[type="radio"][data-change="mode"]`)
	for i := range radios.Length() {
		el := radios.Index(i)
		el.Set("checked", el.Get("value").String() == c.Mode.String())
	}
}

// picked is the question picker's value: a saved example, a question of the
// small world, or nothing for one's own.
func (a *app) picked() string {
	if a.s.Example != "" {
		return a.s.Example
	}
	for i, q := range a.s.World {
		if q.Question == a.s.Question && q.Answer == a.s.Answer {
			return "world:" + strconv.Itoa(i)
		}
	}
	return ""
}

// ownOption is in the question picker while the page shows one's own question.
func (a *app) ownOption() {
	list := byID("example")
	if !list.Truthy() {
		return
	}
	old := list.Call("querySelector", `option[value=""]`)
	own := a.picked() == ""
	switch {
	case own && !old.Truthy():
		option(list, "prepend", "", "Your own question")
	case !own && old.Truthy():
		old.Call("remove")
	}
}

// option adds an entry to a list: how is append or prepend.
func option(list js.Value, how, value, label string) {
	el := document().Call("createElement", "option")
	el.Set("value", value)
	el.Set("textContent", label)
	list.Call(how, el)
}

// listWorld adds the small world's questions to the picker.
func (a *app) listWorld() {
	el := byID("example")
	if !el.Truthy() {
		return
	}
	if old := el.Call("querySelector", "optgroup"); old.Truthy() {
		old.Call("remove")
	}
	group := document().Call("createElement", "optgroup")
	group.Set("label", "Ask a fresh one")
	for i, q := range a.s.World {
		text := q.Plain
		if len(text) > 90 {
			text = text[:strings.LastIndexByte(text[:90], ' ')+1] + "…"
		}
		option(group, "append", "world:"+strconv.Itoa(i), text)
	}
	el.Call("append", group)
	el.Set("value", a.picked())
}

// fetchWorld asks the server once for questions of the small world.
func (a *app) fetchWorld() {
	if len(a.s.World) > 0 {
		return
	}
	failed := func(why string) { warn("questions of the small world", why) }
	then(fetch("/api/examples", "text"), func(v js.Value) {
		var list []view.WorldQuestion
		if err := json.Unmarshal([]byte(v.String()), &list); err != nil {
			failed(err.Error())
			return
		}
		a.s.World = list
		a.schedule()
	}, failed)
}

// fetch is a promise of a response's body, as text, json or arrayBuffer.
func fetch(path, as string) js.Value {
	var body js.Func
	body = js.FuncOf(func(_ js.Value, args []js.Value) any {
		body.Release()
		if !args[0].Get("ok").Bool() {
			return js.Global().Get("Promise").Call("reject", "the server answered "+args[0].Get("status").String())
		}
		return args[0].Call(as)
	})
	return js.Global().Call("fetch", path).Call("then", body)
}

// fillAsk puts the question that is shown into an empty form.
func (a *app) fillAsk() {
	a.needVocab()
	for field, text := range map[string]string{"question": a.s.Typing.Question, "answer": a.s.Typing.Answer} {
		if el := document().Call("querySelector", `[data-input="`+field+`"]`); el.Truthy() && el.Get("value").String() == "" {
			if text == "" && a.s.Reading != nil {
				text = a.s.Reading.Ask.Question
				if field == "answer" {
					text = a.s.Reading.Ask.Answer
				}
			}
			el.Set("value", text)
			a.do(field, text)
		}
	}
	a.cutTyped()
}

// needVocab fetches the chosen model's tokenizer, once.
func (a *app) needVocab() {
	name := ""
	for _, m := range a.s.Models {
		if m.Name == a.s.Model || name == "" {
			name = m.Vocab
		}
		if m.Name == a.s.Model {
			break
		}
	}
	if name == "" || name == a.vocab.name {
		return
	}
	a.vocab.name, a.vocab.tok, a.vocab.form = name, nil, nil
	a.s.Typing.Known = false
	failed := func(why string) {
		a.vocab.name = ""
		warn("vocabulary", why)
	}
	then(fetch("/vocab/"+url.PathEscape(name), "arrayBuffer"), func(v js.Value) {
		if a.vocab.name != name {
			return
		}
		array := js.Global().Get("Uint8Array").New(v)
		data := make([]byte, array.Get("length").Int())
		js.CopyBytesToGo(data, array)
		tok, err := token.ParseCompact(data)
		if err == nil {
			a.vocab.tok, a.vocab.words = tok, 0
			for id := range int32(tok.Size()) {
				if !tok.Special(id) {
					a.vocab.words++
				}
			}
			a.vocab.form, err = tok.Format("")
		}
		if err != nil {
			failed(err.Error())
			return
		}
		a.cutTyped()
		if byID("edit").Get("open").Bool() {
			a.noteEdit() // of what was typed meanwhile
		}
	}, failed)
}

// mostCut bounds the text that is cut while one types.
const mostCut = 20000

// beforeTold is how long a reader rests before what is wrong with the typed is said.
const beforeTold = time.Second

// cutTyped cuts the typed question and answer into the model's tokens.
func (a *app) cutTyped() {
	a.needVocab()
	stop(&a.pause)
	a.pause = after(beforeTold, a.told)
	tok, form := a.vocab.tok, a.vocab.form
	t := &a.s.Typing
	if tok == nil || form == nil || len(t.Question)+len(t.Answer) > mostCut {
		t.Known = false
		a.schedule()
		return
	}
	pieces := func(text string) []wire.Piece {
		var list []wire.Piece
		end := 0
		for _, p := range tok.Pieces(text) {
			x := wire.Piece{ID: p.ID, Text: p.Text}
			if p.ID == tok.UNK() {
				x.Unknown, x.Text = true, text[p.Start:p.End]
			}
			if p.Start > end && !strings.HasPrefix(x.Text, " ") {
				x.Text = " " + x.Text // a tokenizer of words drops the blanks between them
			}
			end = p.End
			list = append(list, x)
		}
		return list
	}
	t.QuestionPieces, t.AnswerPieces = pieces(t.Question), pieces(t.Answer)
	for _, id := range form.End {
		t.AnswerPieces = append(t.AnswerPieces, wire.Piece{ID: id, Text: "end", Special: true})
	}
	t.Takes, t.Reads = len(form.Prompt(t.Question))+len(form.Close)+max(len(form.Answer(t.Answer)), 1), 0
	for _, m := range a.s.Models {
		if m.Vocab == a.vocab.name && (t.Reads == 0 || m.Name == a.s.Model) {
			t.Reads = m.Reads
		}
	}
	t.Known, t.Words = true, a.vocab.words
	a.schedule()
}

// settings takes the fields of an own question's form over, all or none: one that is
// refused says why itself.
func (a *app) settings() bool {
	s := a.s
	list := document().Call("querySelectorAll", "#askform [data-change]")
	for i := range list.Length() {
		el := list.Index(i)
		name := attr(el, "data-change")
		s.Notice = nil
		s, _ = s.Do(name, argument(el))
		if s.Notice != nil {
			el.Call("setCustomValidity", s.Notice.Text)
			el.Call("reportValidity")
			return false
		}
	}
	a.s = s
	return true
}

// invalid is a field that keeps its form from being sent: an empty question or
// answer is also said in words.
func (a *app) invalid(event js.Value) {
	if _, ok := closest(event, "[data-input]"); ok {
		event.Call("preventDefault") // the browser's bubble would cover the words
		a.ask()
		if el := document().Call("querySelector", "#askform [data-input]:invalid"); el.Truthy() {
			el.Call("focus")
		}
	}
}

// typedFields are the two fields of an own question.
var typedFields = []string{"question", "answer"}

// ask asks what the form says, which the state refuses if a part is missing.
func (a *app) ask() bool {
	for _, field := range typedFields {
		if el := byID("ask-" + field); el.Truthy() {
			a.do(field, el.Get("value").String())
		}
	}
	a.do("ask", "")
	a.markMissing()
	return !a.s.Typing.Refused
}

// markMissing marks the empty fields of a question that was refused.
func (a *app) markMissing() {
	for _, field := range typedFields {
		el := byID("ask-" + field)
		if !el.Truthy() {
			continue
		}
		if a.s.Typing.Refused && strings.TrimSpace(el.Get("value").String()) == "" {
			el.Call("setAttribute", "aria-invalid", "true")
		} else {
			el.Call("removeAttribute", "aria-invalid")
		}
	}
}

// readUpload keeps the text of the chosen file for the training form, which is not sent
// with a file that was not read.
func (a *app) readUpload(el js.Value) {
	a.upload = ""
	note := byID("upload-note")
	say := func(text, wrong string) {
		note.Set("textContent", text)
		el.Call("setCustomValidity", wrong)
	}
	refuse := func(text string) { say(text, text) }
	files := el.Get("files")
	if files.Length() == 0 {
		say("Without a file the small world asks.", "")
		return
	}
	file := files.Index(0)
	most := a.s.Limits.Upload
	if size := file.Get("size").Int(); most > 0 && size > most {
		refuse("This file has " + strconv.Itoa(size) + " bytes; at most " + strconv.Itoa(most) + " are taken.")
		return
	}
	now := func() bool { return file.Equal(el.Get("files").Index(0)) } // it may be another by then
	refuse("This file is being read.")
	then(file.Call("text"), func(v js.Value) {
		text := v.String()
		switch n := strings.Count(strings.TrimSpace(text), "\n") + 1; {
		case !now():
		case strings.TrimSpace(text) == "":
			refuse("This file is empty.")
		default:
			a.upload = text
			say(strconv.Itoa(n)+" lines, checked when the run starts.", "")
		}
	}, func(why string) {
		if now() {
			refuse(why)
		}
	})
}

// trainForm is the form's fields as JSON.
func (a *app) trainForm(form js.Value) string {
	fields := map[string]string{"upload": a.upload}
	list := form.Get("elements")
	for i := range list.Length() {
		el := list.Index(i)
		if name := el.Get("name").String(); name != "" && name != "upload" && el.Get("type").String() != "submit" {
			fields[name] = el.Get("value").String()
		}
	}
	data, err := json.Marshal(fields)
	if err != nil {
		warn("training form", err.Error())
	}
	return string(data)
}
