//go:build js && wasm

package main

import (
	"strconv"
	"strings"
	"syscall/js"

	"nrt/trainer/reward"
)

// key are the page's keys. Fields, dialogs, the menu and combinations but Ctrl+Z are
// left alone.
func (a *app) key(event js.Value) {
	if _, ok := closest(event, "select"); ok {
		switch event.Get("key").String() {
		case " ", "Enter", "F4":
			a.unfolded = !a.unfolded
		case "Escape", "Tab":
			a.unfolded = false
		case "ArrowDown", "ArrowUp":
			a.unfolded = a.unfolded || event.Get("altKey").Bool()
		}
		a.pulled = false
	}
	control := event.Get("ctrlKey").Bool() || event.Get("metaKey").Bool()
	undo := control && event.Get("key").String() == "z"
	if control && !undo || event.Get("altKey").Bool() || event.Get("defaultPrevented").Bool() {
		return
	}
	if document().Call("querySelector", `dialog[open], [popovertarget][aria-expanded="true"]`).Truthy() {
		return
	}
	key := event.Get("key").String()
	if el, ok := closest(event, "input, textarea, select, [contenteditable]"); ok {
		switch el.Get("type").String() {
		case "radio", "checkbox", "range":
		case "select-one":
			if a.choosing(el) || !strings.Contains("123456npNP", key) {
				return // Space and the arrows are the list's
			}
		default:
			return
		}
	}
	if undo {
		key = "undo"
	}
	used := true
	switch held := event.Get("repeat").Bool(); key {
	case "undo":
		a.do("undo", "")
	case "Delete", "Backspace":
		if held { // once is meant: the next would undo it
			break
		}
		if el, ok := closest(event, `[id^="sent-"]`); ok {
			a.do("pick", attr(el, "data-value"))
		}
		a.do("switch", "")
	case " ", "Enter":
		if _, sentence := closest(event, `[id^="sent-"]`); !held || !sentence {
			used = a.pressKey(event, key)
		}
	case "n", "p", "N", "P":
		a.do(map[string]string{"n": "next", "p": "prev", "N": "train-next", "P": "train-prev"}[key], "")
	case "ArrowLeft", "ArrowRight", "Home", "End":
		used = a.arrow(event, key)
	case "Escape":
		a.stayCard()
		a.do("release", "")
	case "1", "2", "3", "4", "5", "6":
		a.do("mode", reward.Modes()[key[0]-'1'].String())
	default:
		used = false
	}
	if used {
		event.Call("preventDefault")
	}
}

// pressKey is Space and Enter: on a sentence Space acts as a click and Enter edits,
// elsewhere Space goes one phase further unless the focused element needs it.
func (a *app) pressKey(event js.Value, key string) bool {
	if el, ok := closest(event, `[id^="sent-"]`); ok && key == "Enter" {
		a.do("pick", attr(el, "data-value"))
		a.openDialog("edit")
		return true
	}
	if el, ok := closest(event, `[role="button"][data-act]`); ok {
		a.do(attr(el, "data-act"), argument(el))
		return true
	}
	if key != " " {
		return false
	}
	if _, ok := closest(event, "button, a, summary, input, [role]:not(main):not(section)"); ok {
		return false
	}
	a.do("step", "")
	return true
}

// arrow moves between the words, or between the sentences, whose list has the
// focus.
func (a *app) arrow(event js.Value, key string) bool {
	el, ok := closest(event, `[id^="word-"], [id^="sent-"]`)
	if !ok {
		return false
	}
	kind, number, _ := strings.Cut(el.Get("id").String(), "-")
	at, err := strconv.Atoi(number)
	if err != nil {
		return false
	}
	list := document().Call("querySelectorAll", `[id^="`+kind+`-"]`)
	n, left := list.Length(), -1
	if window().Call("getComputedStyle", el).Get("direction").String() == "rtl" {
		left = 1
	}
	switch key {
	case "ArrowLeft":
		at += left
	case "ArrowRight":
		at -= left
	case "Home":
		at = 0
	case "End":
		at = n - 1
	}
	if at < 0 || at >= n {
		return true
	}
	next := byID(kind + "-" + strconv.Itoa(at))
	if kind == "word" {
		next.Call("focus")
		a.do("word", strconv.Itoa(at))
		return true
	}
	// A sentence changes by Space, Enter and Delete, not by passing over it.
	el.Set("tabIndex", -1)
	next.Set("tabIndex", 0)
	next.Call("focus")
	return true
}
