//go:build js && wasm

package main

import (
	"strconv"
	"strings"
	"syscall/js"
	"time"
)

func window() js.Value   { return js.Global() }
func document() js.Value { return js.Global().Get("document") }
func location() js.Value { return js.Global().Get("location") }
func root() js.Value     { return document().Get("documentElement") }

// byID is an element, null if there is none.
func byID(id string) js.Value { return document().Call("getElementById", id) }

// content is the text of an element, "" if there is none.
func content(id string) string {
	if el := byID(id); el.Truthy() {
		return el.Get("textContent").String()
	}
	return ""
}

// pixels reads "12px".
func pixels(v js.Value) int {
	x, err := strconv.ParseFloat(strings.TrimSuffix(v.String(), "px"), 64)
	if err != nil {
		return 0
	}
	return int(x)
}

// attr is an attribute, "" if the element has none.
func attr(el js.Value, name string) string {
	if v := el.Call("getAttribute", name); v.Type() == js.TypeString {
		return v.String()
	}
	return ""
}

// on listens for as long as the page lives.
func on(target js.Value, event string, f func(event js.Value), passive bool) {
	target.Call("addEventListener", event, js.FuncOf(func(_ js.Value, args []js.Value) any {
		f(args[0])
		return nil
	}), map[string]any{"passive": passive, "capture": event == "invalid" || event == "scroll" || event == "close"}) // which do not bubble
}

// callback is f for the browser to call, as long as the page lives.
func callback(f func()) js.Func {
	return js.FuncOf(func(js.Value, []js.Value) any { f(); return nil })
}

// after has the browser call f in a while.
func after(wait time.Duration, f js.Func) js.Value {
	return window().Call("setTimeout", f, wait.Milliseconds())
}

// stop ends a timer that may be running.
func stop(timer *js.Value) {
	if timer.Truthy() {
		window().Call("clearTimeout", *timer)
		*timer = js.Undefined()
	}
}

// then runs one of two functions when a promise is settled, and frees them.
func then(promise js.Value, ok func(js.Value), failed func(string)) {
	var done, bad js.Func
	free := func() { done.Release(); bad.Release() }
	done = js.FuncOf(func(_ js.Value, args []js.Value) any {
		defer free()
		v := js.Undefined()
		if len(args) > 0 {
			v = args[0]
		}
		ok(v)
		return nil
	})
	bad = js.FuncOf(func(_ js.Value, args []js.Value) any {
		defer free()
		why := "failed"
		if len(args) > 0 {
			why = js.Global().Get("String").Invoke(args[0]).String()
		}
		failed(why)
		return nil
	})
	promise.Call("then", done, bad)
}

// replace makes an element's content what html says. Only what differs is
// touched (static/morph.js), so that focus, open accordions and scrolling stay.
func replace(el js.Value, html string) {
	js.Global().Call("nrtMorph", el, html)
}

func warn(what, why string) { js.Global().Get("console").Call("warn", "nrt: "+what+": "+why) }
