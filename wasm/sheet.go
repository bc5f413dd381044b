//go:build js && wasm

package main

import (
	"strconv"
	"time"
)

// fillEdit puts the chosen sentence into the dialog, its neighbours around it.
func (a *app) fillEdit() bool {
	k, text, before, after, ok := a.s.SentenceText()
	if !ok {
		return false
	}
	a.do("dismiss", "")
	a.do("pick", strconv.Itoa(k))
	a.do("sheet", "") // for this one
	if !a.s.Rewriting() {
		return false // it says why
	}
	byID("edit-note").Set("textContent", attr(byID("edit-note"), "data-note"))
	byID("edit-title").Set("textContent", "Edit sentence "+strconv.Itoa(k+1))
	byID("edit-text").Set("value", text)
	for id, x := range map[string][2]string{"edit-before": {"Before: ", before}, "edit-after": {"After: ", after}} {
		said := ""
		if x[1] != "" {
			said = x[0] + x[1]
		}
		byID(id).Set("textContent", said)
	}
	return true
}

// noteEdit says below the edited sentence which of its words the model lacks.
func (a *app) noteEdit() {
	a.needVocab()
	tok, note, text := a.vocab.tok, byID("edit-note"), byID("edit-text").Get("value").String()
	if tok == nil || len(text) > mostCut {
		return
	}
	said := attr(note, "data-note")
	for _, p := range tok.Pieces(text) {
		if p.ID == tok.UNK() {
			said = "This model does not know “" + text[p.Start:p.End] + "”: it reads an unknown word there."
			break
		}
	}
	if note.Get("textContent").String() != said {
		note.Set("textContent", said)
	}
}

// typingPause is how long a reader rests before what is typed is scored.
const typingPause = 300 * time.Millisecond

// typeEdit says at once that the typed version is to be scored, and has it scored when
// the reader rests.
func (a *app) typeEdit() {
	if !a.rest.Truthy() { // it says so until then
		a.do("edit-typed", "")
	}
	a.stopEdit()
	a.rest = after(typingPause, a.try)
}

// stopEdit forgets what was typed last.
func (a *app) stopEdit() { stop(&a.rest) }

// retryEdit has what is typed scored when the server is back.
func (a *app) retryEdit() {
	if d := byID("edit"); d.Truthy() && d.Get("open").Bool() {
		a.noteEdit()
		a.typeEdit()
	}
}

// refillEdit shows the sentence as it is after Undo or a switch.
func (a *app) refillEdit() {
	a.stopEdit()
	text := ""
	if k, now, _, _, ok := a.s.SentenceText(); ok && !a.s.SwitchedOff(k) {
		text = now
	}
	byID("edit-text").Set("value", text)
	a.noteEdit()
}
