//go:build js && wasm

// Command wasm is the page's client: it joins web/view, which is all of the
// page's logic, to the browser. It turns events into actions, messages into
// states and states into the containers' content, and does nothing else.
//
//	main.go    the state and the loop that draws it, at most once a frame
//	events.go  the pointer and what it changes → actions; dialogs, sharing, saving
//	keys.go    keys → actions
//	socket.go  the websocket: resume, waiting, slices of work
//	card.go    the card beside an answer word
//	sheet.go   the dialog in which a sentence is rewritten
//	forms.go   pickers, fields and forms that the templates own; the vocabulary
//	dom.go     short names for the browser
package main

import (
	"strings"
	"syscall/js"
	"time"

	"nrt/backend/token"
	"nrt/web/view"
	"nrt/web/wire"
)

// pace is a chain at a time while it was written.
type pace struct {
	chain, tokens int
	at            time.Time
}

// app is the running page. Everything happens on the browser's one thread.
type app struct {
	s    view.State
	last map[string]string // container → the content it has
	of   map[string]string // container → the view that it shows
	els  map[string]js.Value

	scheduled bool
	first     int           // container that the next drawing begins with
	slow      time.Duration // of the last drawing
	drawn     time.Time
	frame     js.Func
	curves    string
	charts    time.Time // when curves were computed
	later     bool      // they are computed again in a moment
	card      card
	pace      pace
	held      string   // container under a pressed pointer: not to be replaced
	pulled    bool     // a list was opened by the pointer
	unfolded  bool     // a list is open, as far as its keys tell
	tellsOpen bool     // the browser knows :open
	lost      string   // what gets the focus if the focused element goes
	stand     js.Value // what has it until that is there
	hash      string
	hashSeen  string   // the address as it was when it was last read or written
	hashAt    js.Value // timer
	view      string   // what the reader looks at, and since when
	viewAt    time.Time
	viewed    string // the view that the history's latest entry is of
	saved     js.Func
	curve     js.Func

	socket socket
	vocab  struct {
		name  string // of tok, or the one being fetched
		tok   *token.Tokenizer
		form  *token.Format
		words int // that it knows
	}
	play  js.Func
	try   js.Func  // has what is typed in the sheet scored
	rest  js.Value // its timer
	told  js.Func  // says what is wrong with a typed question
	pause js.Value // its timer

	pointer [2]float64 // where it was last seen, px
	ticker  bool
	upload  string
	synced  synced
}

func main() {
	a := &app{last: map[string]string{}, of: map[string]string{}, els: map[string]js.Value{}}
	breathe()
	var examples []view.Example
	err := view.EachExample([]byte(content("boot")), func(e view.Example) error {
		examples = append(examples, e)
		breathe()
		return nil
	})
	if err != nil {
		warn("saved examples", err.Error())
	}
	a.s = view.New(examples)
	a.view = a.views()
	for _, id := range view.Containers {
		if el := byID(id); el.Truthy() {
			a.els[id] = el
			// The server drew the same state with the same functions.
			a.last[id], a.of[id] = view.Fragment(&a.s, id), a.view
		}
		breathe()
	}
	if len(examples) == 0 {
		a.last = map[string]string{}
	}
	a.last["notes"] = "" // holds the loader's words until now
	a.last["badge"] = ""
	a.s.Link = view.Loading
	a.frame, a.saved, a.play, a.curve = callback(a.draw), callback(a.saveHash), callback(a.tick), callback(a.drawCurves)
	a.try = callback(func() {
		a.rest = js.Undefined()
		a.do("edit-try", byID("edit-text").Get("value").String())
	})
	a.told = callback(func() { a.do("rest", "") })
	a.measure()
	breathe()
	a.open(location().Get("hash").String())
	a.listen()
	a.startCard()
	breathe()
	a.socket.start(a)
	a.draw()
	root().Get("dataset").Set("client", "ready")
	select {}
}

// breathe lets the browser draw and react before the start goes on. A callback
// from the browser must not do so.
func breathe() { time.Sleep(time.Millisecond) }

// open shows what an address asks for.
func (a *app) open(hash string) {
	c, err := view.ParseHash(hash)
	if err != nil {
		warn("address", err.Error())
	}
	if d := byID("edit"); d.Truthy() && d.Get("open").Bool() {
		a.stopEdit()
		d.Call("close") // the sentence in it is of what was shown
	}
	s, out := a.s.Open(c)
	a.hash, a.hashSeen = hash, hash
	a.become(s, out)
	a.viewed = a.views()
}

// do takes an action.
func (a *app) do(name, value string) {
	s, out := a.s.Do(name, value)
	a.become(s, out)
}

// become takes the next state, sends what it says and draws it with the next
// frame.
func (a *app) become(s view.State, out []wire.Message) {
	a.s = s
	for _, m := range out {
		a.socket.send(m)
	}
	if s.Playing && !a.ticker {
		a.ticker = true
		after(1400*time.Millisecond, a.play)
	}
	a.schedule()
}

func (a *app) tick() {
	a.ticker = false
	if a.s.Playing {
		a.do("tick", "")
	}
}

// schedule draws with the next frame; in a hidden page, which has no frames, a
// few times a second. A drawing that took long is given time to breathe. Until all is
// drawn the page's root has data-drawing: its parts may then be of different states.
func (a *app) schedule() {
	if a.scheduled {
		return
	}
	a.scheduled = true
	root().Call("setAttribute", "data-drawing", "")
	switch {
	case document().Get("hidden").Bool():
		after(300*time.Millisecond, a.frame)
	case a.slow > 12*time.Millisecond && time.Since(a.drawn) < 4*a.slow:
		after(2*a.slow, a.frame)
	default:
		window().Call("requestAnimationFrame", a.frame)
	}
}

// budget is how long messages may be taken in, and most how long all of a turn
// may take, before the rest is left to the next frame.
const (
	budget = 10 * time.Millisecond
	most   = 24 * time.Millisecond
)

// draw takes in the messages that came, and makes the containers what the state
// says, touching only what changed.
func (a *app) draw() {
	a.scheduled = false
	began := time.Now()
	more := a.socket.take(began.Add(budget))
	if v := a.views(); v != a.view {
		a.view, a.viewAt = v, began
	}
	a.measurePace(began)
	n, from, open := len(view.Containers), a.first, false
	focused := document().Get("activeElement")
	if focused.Truthy() && focused.Get("id").String() == "act-fresh-stop" {
		a.lost = freshButtons // it goes when all is written
	}
	inCard := a.card.el.Truthy() && a.card.el.Call("contains", focused).Bool()
	for i := range n {
		id := view.Containers[(from+i)%n]
		el, ok := a.els[id]
		if !ok || id == a.held {
			continue
		}
		if time.Since(began) > most {
			a.first, more = (from+i)%n, true
			for ; i < n; i++ {
				a.waits(view.Containers[(from+i)%n])
			}
			break
		}
		html := view.Fragment(&a.s, id)
		if html == a.last[id] {
			a.isOf(id)
			continue
		}
		if a.choosing(el) {
			open = true
			continue // a list is open here
		}
		a.last[id] = html
		a.isOf(id)
		if id == "status" {
			el.Set("textContent", a.s.Say)
			continue
		}
		replace(el, html)
	}
	a.showCard(inCard)
	if badge, ok := a.els["badge"]; ok {
		if class := "badge " + view.BadgeKind(&a.s); badge.Get("className").String() != class {
			badge.Set("className", class)
		}
	}
	a.keepFocus(focused)
	if head := byID("controls"); head.Truthy() && a.choosing(head) {
		open = true
	} else {
		a.syncForms()
	}
	if !a.later {
		a.drawCurves()
	}
	a.rememberHash()
	a.drawn = time.Now()
	a.slow = a.drawn.Sub(began)
	if more || a.socket.waiting() {
		a.schedule()
	}
	if a.scheduled {
		return
	}
	root().Call("removeAttribute", "data-drawing")
	if open { // nothing says when a list closes
		a.scheduled = true
		after(200*time.Millisecond, a.frame)
	}
}

// patience is how long a container shows what the reader has left and does not look so.
const patience = 100 * time.Millisecond

// waits lets a container that has not been drawn for the view look as if, after a moment.
func (a *app) waits(id string) {
	if el := a.els[id]; el.Truthy() && a.of[id] != a.view && time.Since(a.viewAt) > patience {
		el.Call("setAttribute", "aria-busy", "true")
	}
}

// isOf takes down that a container shows the view.
func (a *app) isOf(id string) {
	if a.of[id] != a.view {
		a.of[id] = a.view
		a.els[id].Call("removeAttribute", "aria-busy")
	}
}

// measurePace counts the shown chain's tokens, over half a second or more.
func (a *app) measurePace(now time.Time) {
	chain, tokens := a.s.Writing()
	passed := now.Sub(a.pace.at).Seconds()
	switch {
	case chain < 0 || chain != a.pace.chain || tokens < a.pace.tokens:
		a.s.Pace = 0
	case passed < 0.5:
		return
	default:
		a.s.Pace = float64(tokens-a.pace.tokens) / passed
	}
	a.pace = pace{chain, tokens, now}
}

// keepFocus gives the focus, where drawing took its element away or switched it off,
// to what stands in its place, and until that comes to the panel it was in: a reader
// by keyboard goes on from there, and not from the top of the page.
func (a *app) keepFocus(was js.Value) {
	active := document().Get("activeElement")
	gone := !active.Truthy() || active.Equal(document().Get("body")) || active.Get("disabled").Truthy()
	if gone && was.Truthy() && a.lost == "" {
		id := was.Get("id").String()
		kind, _, _ := strings.Cut(id, "-")
		switch {
		case kind == "sent":
			a.lost = `#chain .sent[tabindex="0"]`
		case kind == "note":
			a.lost = "#notes :enabled, #act-again:enabled"
		case strings.HasPrefix(id, "act-train") || id == "act-open":
			a.lost = "#train .acts :enabled"
		case id == "act-through":
			a.lost = "#step"
		case id == "act-cancel":
			a.lost = "#act-again:enabled, #act-retry:enabled"
		case id != "":
			a.lost = "#" + id + ":enabled"
		}
	}
	if a.lost == "" || !gone && !active.Equal(a.stand) {
		a.lost = ""
		return
	}
	focus := func(el js.Value) { el.Call("focus", map[string]any{"preventScroll": true}) }
	if el := document().Call("querySelector", a.lost); el.Truthy() {
		focus(el)
		a.lost = ""
		return
	}
	if gone {
		a.stand = byID("reading")
		switch {
		case strings.HasPrefix(a.lost, "#train"):
			a.stand = byID("train")
		case a.s.Size.Phone: // which has no box for the reading
			a.stand = byID("chains")
		}
		a.stand.Set("tabIndex", -1)
		focus(a.stand)
	}
}

// drawCurves hands the training curves to the chart library, at most twice a second:
// what comes sooner is drawn then.
func (a *app) drawCurves() {
	const pause = 500 * time.Millisecond
	if a.later = time.Since(a.charts) < pause; a.later {
		after(pause, a.curve)
		return
	}
	a.charts = time.Now()
	charts := js.Global().Get("nrtCharts")
	if text := view.Curves(&a.s); text != a.curves && charts.Truthy() {
		a.curves = text
		charts.Call("set", text)
	}
}

// rememberHash writes the choices into the address, a moment after the last one.
func (a *app) rememberHash() {
	hash := "#" + a.s.Choice.Hash()
	if hash == a.hash {
		return
	}
	a.hash = hash
	stop(&a.hashAt)
	a.hashAt = after(250*time.Millisecond, a.saved)
}

// views names what the reader would call a view.
func (a *app) views() string {
	c := &a.s.Choice
	return c.Example + "\x00" + c.Question + "\x00" + c.Answer + "\x00" + c.Model
}

func (a *app) saveHash() {
	// An address that came meanwhile is the reader's, and its event is on the way.
	if location().Get("hash").String() != a.hashSeen {
		return
	}
	hash := a.hash
	if hash == "#" {
		hash = location().Get("pathname").String() + location().Get("search").String()
	}
	// Another question or model is another view, which Back leaves; the rest is not.
	how, now := "replaceState", a.views()
	if a.viewed != "" && a.viewed != now {
		how = "pushState"
	}
	a.viewed = now
	js.Global().Get("history").Call(how, js.Null(), "", hash)
	a.hashSeen = location().Get("hash").String()
}

// measure takes the charts' widths from the page.
func (a *app) measure() {
	a.s.Size.Phone = window().Call("matchMedia", "(max-width: 699px)").Get("matches").Bool()
	for id, dst := range map[string]*int{"slope": &a.s.Size.Slope, "dots": &a.s.Size.Dots} {
		if el := byID(id); el.Truthy() {
			style := window().Call("getComputedStyle", el)
			w := el.Get("clientWidth").Int() - pixels(style.Get("paddingLeft")) - pixels(style.Get("paddingRight"))
			if w > 0 {
				*dst = min(w, 720)
			}
		}
	}
}
