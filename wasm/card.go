//go:build js && wasm

package main

import (
	"strconv"
	"syscall/js"
	"time"
)

// The card beside an answer word: what opens and closes it, where it stands, and
// where the focus goes.

// How long the pointer rests before the card opens, and how long it may be away,
// on its way from the word to the card, before it closes.
const (
	beforeCard = 300 * time.Millisecond
	afterCard  = 200 * time.Millisecond
)

// card is what the glue remembers of it; the rest is in the state.
type card struct {
	el    js.Value
	want  string // the word that the pointer is on, "" for none
	timer js.Value
	due   js.Func
	enter bool // the focus goes into it when it is drawn
	from  string
	quiet bool // the focus comes back to the word: that is no reason to open
}

func (a *app) startCard() {
	a.card.el = byID("card")
	if !a.card.el.Truthy() || a.card.el.Get("showPopover").Type() != js.TypeFunction {
		a.card.el = js.Null()
		delete(a.els, "card") // a browser without popovers has no card
		return
	}
	a.card.due = callback(func() {
		a.card.timer = js.Undefined()
		a.do("peek", a.card.want)
	})
	on(document(), "focusin", func(event js.Value) {
		if el, ok := closest(event, `[data-act="pin"]`); ok && !a.card.quiet && el.Call("matches", ":focus-visible").Bool() {
			a.do("peek", argument(el))
		}
	}, true)
	on(document(), "focusout", func(event js.Value) {
		to := event.Get("relatedTarget")
		if a.s.Card >= 0 && !a.s.Pinned && a.card.want == "" && !(to.Truthy() && to.Call("closest", `#card, [data-act="pin"]`).Truthy()) {
			a.do("peek", "")
		}
	}, true)
	on(document(), "scroll", func(js.Value) { a.placeCard() }, true)
}

// pointCard is the pointer above a word of the strip, or above none.
func (a *app) pointCard(event js.Value) {
	if _, ok := closest(event, "#card"); ok {
		if a.s.Card >= 0 {
			a.wantCard(strconv.Itoa(a.s.Card))
		}
		return
	}
	want := ""
	if el, ok := closest(event, `[data-act="pin"]`); ok {
		want = argument(el)
	}
	a.wantCard(want)
}

func (a *app) wantCard(want string) {
	if want == a.card.want {
		return
	}
	a.card.want = want
	a.stayCard()
	wait := beforeCard
	if want == "" {
		wait = afterCard
	}
	a.card.timer = after(wait, a.card.due)
}

// stayCard is for when the reader has said what is to be: the pointer, wherever it
// rests, changes nothing until it moves on.
func (a *app) stayCard() { stop(&a.card.timer) }

// pin is a click on a word; one by keyboard goes on into the card.
func (a *app) pin(event, el js.Value) {
	a.stayCard()
	a.do("pin", argument(el))
	a.card.enter = a.s.Pinned && event.Get("detail").Int() == 0
}

// tapElsewhere closes the card of a touched word, which covers more of a phone.
func (a *app) tapElsewhere(event js.Value) {
	if a.s.Card < 0 || event.Get("pointerType").String() != "touch" {
		return
	}
	if _, ok := closest(event, `#card, [data-act="pin"]`); !ok {
		a.do("unpin", "")
	}
}

// showCard opens or closes the card after its content was drawn; had says that the
// focus was in it.
func (a *app) showCard(had bool) {
	el := a.card.el
	if !el.Truthy() {
		return
	}
	open := el.Call("matches", ":popover-open").Bool()
	if a.last["card"] == "" {
		if open {
			el.Call("hidePopover")
		}
		if word := byID(a.card.from); had && word.Truthy() {
			a.card.quiet = true
			word.Call("focus", map[string]any{"preventScroll": true})
			a.card.quiet = false
		}
		return
	}
	if !open {
		el.Call("showPopover")
	}
	if a.s.Card >= 0 { // it may have been closed, and the drawing of that put off
		a.card.from = "word-" + strconv.Itoa(a.s.Card)
	}
	a.placeCard()
	if a.card.enter {
		a.card.enter = false
		byID("card-close").Call("focus", map[string]any{"preventScroll": true})
	}
}

// placeCard puts the card below its word, or above it where there is more room,
// and never over it.
func (a *app) placeCard() {
	el := a.card.el
	if !el.Truthy() || a.last["card"] == "" {
		return
	}
	word := byID(a.card.from)
	if !word.Truthy() {
		return
	}
	const gap, edge = 6, 8
	style := el.Get("style")
	style.Set("maxHeight", "")
	w, c := word.Call("getBoundingClientRect"), el.Call("getBoundingClientRect")
	width, height := root().Get("clientWidth").Float(), window().Get("innerHeight").Float()
	left := w.Get("left").Float() + w.Get("width").Float()/2 - c.Get("width").Float()/2
	left = max(edge, min(left, width-edge-c.Get("width").Float()))
	pixels := func(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) + "px" }
	style.Set("left", pixels(left))
	above, below := w.Get("top").Float()-gap-edge, height-w.Get("bottom").Float()-gap-edge
	if c.Get("height").Float() <= below || below >= above {
		style.Set("top", pixels(w.Get("bottom").Float()+gap))
		style.Set("bottom", "auto")
		style.Set("maxHeight", pixels(max(below, 80)))
	} else {
		style.Set("top", "auto")
		style.Set("bottom", pixels(height-w.Get("top").Float()+gap))
		style.Set("maxHeight", pixels(max(above, 80)))
	}
}
