//go:build js && wasm

package main

import (
	"math/rand/v2"
	"strings"
	"syscall/js"
	"time"

	"nrt/web/view"
	"nrt/web/wire"
)

// socket is the link to the server. What comes is kept until the next drawing,
// so that a burst costs one drawing and never blocks the page.
type socket struct {
	app   *app
	ws    js.Value
	turn  int // of this connection; events of older ones are ignored
	inbox []string
	tries int
	timer js.Value
	count js.Func
	heard bool // something came, since the last look
	look  js.Func
}

// silence is how long a server that has something to say may say nothing before it is
// asked whether it is there, and answerWithin how long it may take to say so: no event
// tells of a computer that sleeps, or of a network that lets everything drop.
const (
	silence      = 10 * time.Second
	answerWithin = 5 * time.Second
)

func (k *socket) start(a *app) {
	k.app = a
	k.count = callback(k.countDown)
	k.look = callback(k.listen)
	after(silence, k.look)
	on(window(), "online", func(js.Value) { k.now() }, true)
	on(window(), "offline", func(js.Value) {
		if k.ws.Truthy() {
			k.ws.Call("close")
		}
	}, true)
	on(window(), "pagehide", func(js.Value) {
		// Goodbye: the server need not keep the session. A page that comes back
		// from the browser's cache connects again.
		if k.ws.Truthy() {
			k.ws.Call("close", 1000)
		}
	}, true)
	on(window(), "pageshow", func(event js.Value) {
		if event.Get("persisted").Bool() {
			k.now()
		}
	}, true)
	k.connect()
}

// now connects without waiting any longer.
func (k *socket) now() {
	if k.app.s.Link == view.Live {
		return
	}
	k.tries = 0
	k.app.s.Retry = 0
	k.app.schedule()
	k.connect()
}

func (k *socket) connect() {
	k.turn++
	turn := k.turn
	stop(&k.timer)
	scheme := "ws://"
	if location().Get("protocol").String() == "https:" {
		scheme = "wss://"
	}
	address := scheme + location().Get("host").String() + "/ws"
	ws := js.Global().Get("WebSocket").New(address)
	k.ws = ws
	var opened, message, closed js.Func
	opened = js.FuncOf(func(js.Value, []js.Value) any {
		if turn == k.turn {
			k.send(&wire.Hello{Resume: k.app.s.Session, After: k.app.s.Seq, Owner: owner()})
		}
		return nil
	})
	message = js.FuncOf(func(_ js.Value, args []js.Value) any {
		if data := args[0].Get("data"); turn == k.turn && data.Type() == js.TypeString {
			k.heard = true
			k.inbox = append(k.inbox, data.String())
			k.app.schedule()
		}
		return nil
	})
	closed = js.FuncOf(func(js.Value, []js.Value) any {
		opened.Release()
		message.Release()
		closed.Release()
		if turn == k.turn {
			k.lost()
		}
		return nil
	})
	ws.Set("onopen", opened)
	ws.Set("onmessage", message)
	ws.Set("onclose", closed)
}

// owner is the browser's secret (static/train.js): its training runs are this
// reader's in every session. "" where there is none.
func owner() string {
	if f := js.Global().Get("nrtOwner"); f.Truthy() {
		return f.Invoke().String()
	}
	return ""
}

// lost waits before the next try: a second, then twice as long each time, up to
// half a minute, with some chance, so that not all readers come back at once.
func (k *socket) lost() {
	k.ws = js.Undefined()
	s := k.app.s
	if !window().Get("navigator").Get("onLine").Bool() {
		s.Link = view.Offline
		s.Say = "Offline."
		k.app.become(s, nil)
		return
	}
	wait := min(1<<min(k.tries, 5), 30)
	if k.tries > 1 {
		wait += rand.IntN(1 + wait/3)
	}
	k.tries++
	s.Link, s.Retry = view.Waiting, wait
	if k.tries == 1 {
		s.Say = "Connection lost. Trying again."
		if s.Session == "" {
			s.Say = "Offline: no server answers. Trying again."
		}
	}
	k.app.become(s, nil)
	k.timer = after(time.Second, k.count)
	k.askToken()
}

// listen gives a connection up on which an answer is waited for in vain. A server that
// takes its time over it answers here.
func (k *socket) listen() {
	after(silence, k.look)
	if k.app.s.Link == view.Live && k.app.s.Expects() && !k.heard {
		turn := k.turn
		then(js.Global().Call("fetch", "/api/status", map[string]any{"signal": js.Global().Get("AbortSignal").Call("timeout", answerWithin.Milliseconds())}),
			func(js.Value) {}, func(string) {
				if turn == k.turn && !k.heard {
					k.turn++ // the end of the old connection is no news
					k.ws.Call("close")
					k.lost()
				}
			})
	}
	k.heard = false
}

// askToken finds out whether the server refuses this browser for want of its token: a
// websocket's failure does not say why.
func (k *socket) askToken() {
	turn := k.turn
	then(fetch("/api/status", "json"), func(v js.Value) {
		if turn != k.turn || k.app.s.Link != view.Waiting || v.Get("token").String() != "needed" {
			return
		}
		stop(&k.timer)
		s := k.app.s
		s.Link, s.Retry = view.Locked, 0
		s.Say = "This server asks for its token."
		k.app.become(s, nil)
	}, func(string) {}) // no server answers: the next try will tell
}

func (k *socket) countDown() {
	s := k.app.s
	if s.Link != view.Waiting {
		return
	}
	s.Retry = max(s.Retry-1, 0)
	k.app.become(s, nil)
	if s.Retry == 0 {
		k.connect()
		return
	}
	k.timer = after(time.Second, k.count)
}

// send writes a message, if there is a connection; what is asked without one is
// asked again after the welcome.
func (k *socket) send(m wire.Message) {
	if !k.ws.Truthy() || k.ws.Get("readyState").Int() != 1 {
		return
	}
	data, err := wire.Encode(m)
	if err != nil {
		warn("not sent", err.Error())
		return
	}
	k.ws.Call("send", string(data))
}

func (k *socket) waiting() bool { return len(k.inbox) > 0 }

// take reads the messages that came, until the deadline; it reports whether some
// are left.
func (k *socket) take(deadline time.Time) (more bool) {
	for len(k.inbox) > 0 {
		text := k.inbox[0]
		k.inbox[0] = ""
		k.inbox = k.inbox[1:]
		m, err := wire.DecodeServer([]byte(text))
		if err != nil {
			warn("message", err.Error())
			if strings.Contains(err.Error(), "wire: v:") {
				k.app.s.Notice = &view.Notice{Code: "version", Text: "The server was updated. Load this page again."}
			}
			continue
		}
		s, out := k.app.s.Receive(m)
		k.app.s = s
		for _, m := range out {
			k.send(m)
		}
		if _, ok := m.(*wire.Welcome); ok {
			k.tries = 0
			k.app.fetchWorld()
			k.app.retryEdit()
		}
		if time.Now().After(deadline) {
			return len(k.inbox) > 0
		}
	}
	k.inbox = nil
	return false
}
