//go:build js && wasm

package main

import (
	"math"
	"strconv"
	"strings"
	"syscall/js"

	"nrt/web/view"
)

// listen attaches one listener a kind of event to the document: the containers'
// content comes and goes.
func (a *app) listen() {
	on(document(), "click", a.click, false)
	on(document(), "change", a.change, true)
	on(document(), "input", a.input, true)
	on(document(), "submit", a.submit, false)
	on(document(), "invalid", a.invalid, false)
	on(document(), "close", func(event js.Value) {
		document().Get("body").Call("append", a.els["status"])
		stop(&a.pause)
		if _, ok := closest(event, "#edit"); ok {
			a.stopEdit()
			a.do("edit-leave", "")
		}
	}, true)
	on(document(), "keydown", a.key, false)
	on(document(), "pointerover", a.over, true)
	on(document(), "pointerdown", a.press, true)
	for _, up := range []string{"pointerup", "pointercancel", "dragend"} {
		on(document(), up, func(js.Value) { a.letGo() }, true)
	}
	on(document(), "visibilitychange", func(js.Value) { a.scheduled = false; a.schedule() }, true)
	on(document(), "focusout", func(js.Value) { a.pulled, a.unfolded = false, false }, true)
	a.tellsOpen = js.Global().Get("CSS").Call("supports", "selector(:open)").Bool()
	// A step back out of the lesson changes more of the address than its hash.
	for _, changed := range []string{"hashchange", "popstate"} {
		on(window(), changed, func(js.Value) {
			hash := location().Get("hash").String()
			a.hashSeen = hash
			if hash != a.hash {
				a.open(hash)
			}
		}, true)
	}
	on(window(), "resize", func(js.Value) { a.measure(); a.placeCard(); a.schedule() }, true)
	a.swipes()
}

// closest is the event's element, or the nearest around it, that a selector
// finds.
func closest(event js.Value, selector string) (js.Value, bool) {
	el := event.Get("target")
	if !el.Truthy() || el.Get("closest").Type() != js.TypeFunction {
		return js.Null(), false
	}
	el = el.Call("closest", selector)
	return el, el.Truthy()
}

// argument is what an element says to its action.
func argument(el js.Value) string {
	if el.Call("hasAttribute", "data-value").Bool() {
		return attr(el, "data-value")
	}
	switch el.Get("type").String() {
	case "checkbox":
		return strconv.FormatBool(el.Get("checked").Bool())
	case "button", "submit":
		return ""
	}
	if v := el.Get("value"); v.Type() == js.TypeString {
		return v.String()
	}
	return ""
}

// freshButtons is what takes the focus when the button that had it goes.
const freshButtons = "#act-fresh-stop, #act-fresh, #why-fresh summary"

func (a *app) click(event js.Value) {
	if el, ok := closest(event, "[data-change=upload]"); ok {
		// Let go of the file, so that the same one, edited, can be chosen again.
		el.Set("value", "")
		a.readUpload(el)
		return
	}
	if _, ok := closest(event, "#askform .dlg-f [data-close]"); ok {
		for _, field := range typedFields { // Discard
			byID("ask-"+field).Set("value", "")
			a.do(field, "")
		}
		return
	}
	el, ok := closest(event, "[data-act]")
	if !ok {
		return
	}
	if _, ok := closest(event, `[id^="sent-"]`); ok && !window().Call("getSelection").Get("isCollapsed").Bool() {
		return // the reader marks text
	}
	if form := el.Get("form"); el.Get("type").String() == "submit" && form.Truthy() && attr(form, "data-submit") != "" {
		return // the form's submit event follows
	}
	switch name := attr(el, "data-act"); name {
	case "open":
		a.openDialog(attr(el, "data-dialog"))
	case "share":
		a.share()
	case "export":
		a.export()
	case "reconnect":
		a.socket.now()
	case "pin":
		a.pin(event, el)
	case "unpin":
		a.stayCard()
		a.do(name, "")
	case "undo", "switch", "try":
		a.do(name, "")
		if _, ok := closest(event, "#edit"); ok {
			a.refillEdit()
		} else if name != "switch" {
			a.lost = `#chain .sent[tabindex="0"]` // the button may go
		}
	case "fresh", "fresh-stop":
		a.do(name, "")
		a.lost = freshButtons // each comes in the place of the other
	case "pattern":
		a.do(name, argument(el))
		byID("ask-question").Set("value", a.s.Typing.Question)
		byID("ask-answer").Set("value", a.s.Typing.Answer)
		byID("ask-question").Call("focus") // the button goes
		a.markMissing()
		a.cutTyped()
	default:
		a.do(name, argument(el))
	}
}

func (a *app) change(event js.Value) {
	el, ok := closest(event, "[data-change]")
	if !ok {
		return
	}
	name := attr(el, "data-change")
	if name == "upload" {
		a.readUpload(el)
		return
	}
	if _, ok := closest(event, "#askform"); ok {
		return // read when the form is sent
	}
	value := argument(el)
	if a.pulled {
		// It was opened by hand and has closed: the keys are the page's again.
		el.Call("blur")
	}
	a.pulled, a.unfolded = false, false
	a.synced.choice = "" // what is refused is taken back in the list, too,
	if _, ok := closest(event, "#train"); ok {
		delete(a.last, "train") // and on the slider
	}
	a.do(name, value)
}

func (a *app) input(event js.Value) {
	if el, ok := closest(event, "#askform [data-change]"); ok {
		el.Call("setCustomValidity", "")
	}
	if _, ok := closest(event, "#edit-text"); ok {
		a.noteEdit()
		a.typeEdit()
	}
	if el, ok := closest(event, "[data-input]"); ok {
		a.do(attr(el, "data-input"), argument(el))
		a.cutTyped()
		a.markMissing()
	}
}

func (a *app) submit(event js.Value) {
	form, ok := closest(event, "[data-submit]")
	if !ok {
		return
	}
	switch name := attr(form, "data-submit"); name {
	case "train":
		a.do(name, a.trainForm(form))
	case "edit":
		a.stopEdit()
		a.do(name, byID("edit-text").Get("value").String())
		if why := a.s.EditRefused(); why != "" {
			event.Call("preventDefault") // the dialog stays open, and what is written in it
			byID("edit-note").Set("textContent", why)
		}
	default:
		if a.s.Typing.Missing() == "" && !a.settings() || !a.ask() {
			event.Call("preventDefault") // the dialog stays open
		}
	}
}

// over is the pointer above a word, or above nothing of the kind. Where the page moved
// under a pointer that rests, as after a click, nothing is pointed at.
func (a *app) over(event js.Value) {
	if event.Get("pointerType").String() == "touch" || !a.moved(event) {
		return
	}
	a.pointCard(event)
	if _, ok := closest(event, "#card"); ok {
		return // the word stays lit
	}
	value := ""
	if el, ok := closest(event, `[data-act="word"], [data-act="pin"]`); ok {
		value = attr(el, "data-value")
	}
	now := -1
	if i, err := strconv.Atoi(value); err == nil {
		now = i
	}
	if now != a.s.Hover {
		a.do("hover", value)
	}
}

// moved reports whether the pointer is elsewhere than at the last event.
func (a *app) moved(event js.Value) bool {
	was := a.pointer
	a.pointer = [2]float64{event.Get("clientX").Float(), event.Get("clientY").Float()}
	return a.pointer != was
}

// press remembers the container under a pressed pointer: were it drawn again
// before the release, the click would be lost.
func (a *app) press(event js.Value) {
	a.moved(event)
	a.tapElsewhere(event)
	a.held = ""
	if event.Get("button").Int() != 0 {
		return // it opens a menu, which may take the release
	}
	if el, ok := closest(event, "select"); ok {
		a.pulled, a.unfolded = el.Get("size").Int() < 2, true
	}
	el := event.Get("target")
	for el.Truthy() {
		if id := el.Get("id"); id.Type() == js.TypeString && a.els[id.String()].Truthy() {
			a.held = id.String()
			return
		}
		el = el.Get("parentElement")
	}
}

func (a *app) letGo() {
	if a.held == "" {
		return
	}
	a.held = ""
	a.schedule() // with the next frame: after the click
}

// choosing reports whether a list in el is open, which drawing would close.
func (a *app) choosing(el js.Value) bool {
	active := document().Get("activeElement")
	if !active.Truthy() || active.Get("tagName").String() != "SELECT" || !el.Call("contains", active).Bool() {
		return false
	}
	if a.tellsOpen {
		return active.Call("matches", ":open").Bool()
	}
	return a.unfolded
}

// swipes turn the chains on a phone.
func (a *app) swipes() {
	var x, y float64
	el, ok := a.els["chain"]
	if !ok {
		return
	}
	touch := func(event js.Value) (float64, float64) {
		t := event.Get("changedTouches").Index(0)
		return t.Get("clientX").Float(), t.Get("clientY").Float()
	}
	on(el, "touchstart", func(event js.Value) {
		x, y = touch(event)
		if event.Get("touches").Length() > 1 || window().Get("visualViewport").Get("scale").Float() > 1.01 {
			x = math.NaN() // the page is magnified, or moved about as it is
		}
	}, true)
	on(el, "touchend", func(event js.Value) {
		toX, toY := touch(event)
		dx, dy := toX-x, toY-y
		switch {
		case dy > 40 || dy < -40:
		case dx < -60:
			a.do("next", "")
		case dx > 60:
			a.do("prev", "")
		}
	}, true)
}

func (a *app) openDialog(id string) {
	d := byID(id)
	if !d.Truthy() || d.Get("open").Bool() {
		return
	}
	if id == "ask" {
		a.s.Typing.Refused = false
		a.synced.choice = "" // what was set and not sent is gone
		a.syncForms()
		a.fillAsk()
		a.markMissing()
	}
	if id == "edit" && !a.fillEdit() {
		return
	}
	d.Call("showModal")
	d.Call("append", a.els["status"]) // outside of an open dialog nothing is announced
	if id == "edit" {
		a.noteEdit()
	}
}

// share copies the address.
func (a *app) share() {
	a.saveHash()
	address := location().Get("href").String()
	say := func(text string) {
		a.s.Say = text
		a.s.Notice = &view.Notice{Code: view.CodeShared, Text: text}
		a.schedule()
	}
	board := window().Get("navigator").Get("clipboard")
	if !board.Truthy() {
		say("The address of this page is the link. Copy it from the address bar.")
		return
	}
	then(board.Call("writeText", address), func(js.Value) {
		switch host := location().Get("hostname").String(); {
		case host == "localhost" || host == "[::1]" || strings.HasPrefix(host, "127."):
			say("Link copied. It opens exactly this view, on this computer alone: for others, start nrt serve with --addr 0.0.0.0:8080 and open the page by this computer’s name or address.")
		default:
			say("Link copied. It opens exactly this view.")
		}
	}, func(string) {
		say("The address of this page is the link. Copy it from the address bar.")
	})
}

// export saves the numbers as a file.
func (a *app) export() {
	name, text := view.Export(&a.s)
	if text == "" {
		return
	}
	blob := js.Global().Get("Blob").New([]any{text}, map[string]any{"type": "text/csv;charset=utf-8"})
	url := js.Global().Get("URL").Call("createObjectURL", blob)
	link := document().Call("createElement", "a")
	link.Set("href", url)
	link.Set("download", name)
	link.Call("click")
	js.Global().Get("URL").Call("revokeObjectURL", url)
}
