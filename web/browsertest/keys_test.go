package browsertest

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestKeyboardAlone(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	// A browser that lays the page out while Tab is pressed goes by another order.
	b.until("connected", live)
	b.until("curves are drawn", `document.querySelectorAll("#trainchart canvas").length === 4`)
	frame(b)
	pressed := func() int {
		return eval[int](b, `Number(document.querySelector("#chains .chain[aria-pressed=true] sub")?.textContent ?? 0)`)
	}
	first := pressed()
	const shown = `Number(document.querySelector("#chains .chain[aria-pressed=true] sub")?.textContent ?? 0)`
	b.run(chromedp.KeyEvent("n"))
	b.until("n goes to the next chain", shown+` !== $`, first)
	b.run(chromedp.KeyEvent("p"))
	b.until("p goes back", shown+` === $`, first)
	b.run(chromedp.KeyEvent("1"))
	b.until("1 chooses logP", `document.querySelector("input[name=mode]:checked").value === "logp"`)
	// Every control is reached by Tab, in an order that goes through the page, and
	// words are one stop.
	var stops []string
	for range 80 {
		b.run(chromedp.KeyEvent(kb.Tab))
		at := eval[string](b, `(e => e === document.body ? "" : (e.id || e.className || e.tagName) )(document.activeElement)`)
		if at == "" {
			break
		}
		stops = append(stops, at)
	}
	all := strings.Join(stops, " ")
	words := 0
	for _, at := range stops {
		if strings.HasPrefix(at, "word-") {
			words++
		}
	}
	if words != 1 {
		t.Errorf("the words are %d stops, want 1: %s", words, all)
	}
	for _, want := range []string{"example", "model", "act-play", "chain-0", "act-again"} {
		if !slices.Contains(stops, want) {
			t.Errorf("Tab never reaches %s: %s", want, all)
		}
	}
	// The arrow keys walk along the words, and focus stays on the chosen one.
	b.run(chromedp.Focus("#strip [tabindex='0']", chromedp.ByQuery))
	before := eval[string](b, `document.activeElement.id`)
	b.run(chromedp.KeyEvent(kb.ArrowRight))
	frame(b)
	frame(b)
	if after := eval[string](b, `document.activeElement.id`); after == before || !strings.HasPrefix(after, "word-") {
		b.run(chromedp.KeyEvent(kb.ArrowLeft))
		frame(b)
		if after = eval[string](b, `document.activeElement.id`); after == before || !strings.HasPrefix(after, "word-") {
			t.Errorf("arrows: focus goes from %s to %s", before, after)
		}
	}
	b.run(chromedp.KeyEvent("?"))
	b.until("? opens the list of keys", `document.querySelector("#keys").open`)
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until("Esc closes it", `!document.querySelector("#keys").open`)
}

// Back leaves a question for the one before it, and not the page; what changes within
// a view adds no step. Backspace switches the ringed sentence off as Delete does,
// without the focus on it.
func TestBackAndDelete(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	was := eval[string](b, `document.querySelector("#model").value`)
	n := eval[int](b, `history.length`)
	b.mode("am")
	b.until("the address says it", `location.hash.includes("mode=am")`)
	other := eval[string](b, `[...document.querySelector("#model").options].map(o => o.value).find(v => v !== document.querySelector("#model").value)`)
	b.choose("#model", other)
	b.complete(8)
	b.until("the address names the model", `location.hash.includes(encodeURIComponent($))`, other)
	if have := eval[int](b, `history.length`); have != n+1 {
		t.Errorf("the history has %d entries more, want 1", have-n)
	}
	b.run(chromedp.Evaluate(`history.back()`, nil))
	b.until("Back shows the model before", `document.querySelector("#model").value === $`, was)
	b.until("by the same formula", `document.querySelector("input[name=mode]:checked").value === "am"`)
	b.until("a sentence is ringed", `document.querySelector("#chain .sent.is-on")`)
	b.run(chromedp.Evaluate(`document.activeElement.blur()`, nil))
	for _, key := range []string{kb.Backspace, kb.Delete} {
		before := b.text("#chain")
		b.run(chromedp.KeyEvent(key))
		b.until("it is switched", `document.querySelector("#chain").innerText.replace(/\s+/g, "") !== $.replace(/\s+/g, "")`, before)
	}
	// A key that is held is pressed once.
	const off = `document.querySelectorAll("#chain .sent.off").length`
	press := func(key string, repeat bool) {
		b.run(input.DispatchKeyEvent(input.KeyRawDown).WithKey(key).WithCode(key).WithAutoRepeat(repeat))
		frame(b)
	}
	for range 2 {
		n := eval[int](b, off)
		press("Delete", false)
		b.until("it is switched", off+` !== $`, n)
		n = eval[int](b, off)
		for range 3 {
			press("Delete", true)
			if have := eval[int](b, off); have != n {
				t.Fatalf("held: %d sentences are off, want %d", have, n)
			}
		}
	}
}

// The focus stays where it was used, whatever the page draws anew.
func TestFocusStays(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	if have := b.text("#status"); strings.Contains(have, "run") {
		t.Errorf("the status region says %q", have)
	}
	const at = `document.activeElement.id`
	seed := func(n string) {
		t.Helper()
		b.until("new chains are asked", `location.hash.includes("seed=" + $)`, n)
		b.complete(8)
	}
	b.until("the address has the saved example's seed", `new URLSearchParams(location.hash.slice(1)).has("seed")`)
	first := eval[int](b, `Number(new URLSearchParams(location.hash.slice(1)).get("seed"))`)
	for i, key := range []string{kb.Enter, " "} {
		b.run(chromedp.Focus("#act-again", chromedp.ByQuery), chromedp.KeyEvent(key))
		seed(strconv.Itoa(first + i + 1))
		b.until("New chains has the focus", at+` === "act-again"`)
	}
	b.run(chromedp.Focus(`#chain .sent[tabindex="0"]`, chromedp.ByQuery), chromedp.KeyEvent("N"))
	b.until("the next step reads", reads, "step 10")
	b.until("a sentence has the focus", at+`.startsWith("sent-")`)
	b.run(chromedp.Focus("#act-open", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.until("the form is open", `document.querySelector("#traindlg").open`)
	b.choose("#trainform [name=steps]", "2000")
	b.run(chromedp.Focus("#traindlg [type=submit]", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.during("it trains", following, "run1", "training, now at")
	b.until("Pause has the focus", at+` === "act-train-pause"`)
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until("it pauses", following, "run1", "paused at")
	b.until("Train further has the focus", at+` === "act-train-resume"`)
}

// A choice from a list shows at once, while the list keeps the focus; the page's keys
// work beside it.
func TestListsActAtOnce(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.script(`window.WebSocket = class extends WebSocket { constructor(...a) { super(...a); window.socket = this; } }`)
	b.load(s.url())
	b.until("connected", live)
	const paint = `document.querySelector("#strip .tok").getAttribute("style")`
	before := eval[string](b, paint)
	b.run(chromedp.Focus("#colour", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowDown))
	b.until("the words are coloured by change", paint+` !== $`, before)
	if have := eval[string](b, `document.activeElement.id + " " + document.activeElement.value`); have != "colour change" {
		t.Errorf("the focus is at %q", have)
	}
	before = eval[string](b, paint)
	b.run(chromedp.KeyEvent(kb.ArrowDown))
	b.until("and by weight", paint+` !== $`, before)
	b.run(chromedp.KeyEvent("1"))
	b.until("1 chooses logP", `document.querySelector("input[name=mode]:checked").value === "logp"`)
	// An open list is left alone until it closes.
	b.run(chromedp.Focus("#against", chromedp.ByQuery), chromedp.KeyEvent(" "))
	b.until("the list is open", `document.querySelector("#against").matches(":open")`)
	b.run(chromedp.Evaluate(`document.querySelector("#colour").value = "sure", document.querySelector("#colour").dispatchEvent(new Event("change", {bubbles: true}))`, nil))
	b.until("what is elsewhere is drawn", paint+` !== $`, before)
	if !eval[bool](b, `document.querySelector("#against").matches(":open")`) {
		t.Error("the open list was closed")
	}
	b.run(chromedp.KeyEvent(kb.Escape))

	// So is that of the models, when a run keeps another one.
	b.run(chromedp.Focus("#model", chromedp.ByQuery), chromedp.KeyEvent(" "))
	b.until("the list of models is open", `document.querySelector("#model").matches(":open")`)
	eval[bool](b, `(first = document.querySelector("#model option"), socket.onmessage({data: JSON.stringify({v: 1, t: "models", models: [...document.querySelector("#model").options].map(o => ({name: o.value})).concat({name: "run9@4"})})}), true)`)
	frame(b)
	frame(b)
	if !eval[bool](b, `first.isConnected`) {
		t.Error("the open list of models was filled anew")
	}
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until("the new model is in the list", `[...document.querySelector("#model").options].some(o => o.value === "run9@4")`)
}

// Ctrl+Enter sends a form, and does not press the button that opened it once more when
// that has the focus again.
func TestCtrlEnterSendsOnce(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	for _, form := range []struct{ button, dialog string }{{"#act-edit", "#edit"}, {".own", "#ask"}} {
		opened := `document.querySelector("` + form.dialog + `").open`
		b.click(form.button)
		b.until(form.dialog+" is open", opened+` && document.activeElement.value`)
		// As one event of the keyboard: what the page refuses presses nothing else.
		for _, kind := range []input.KeyType{input.KeyDown, input.KeyUp} {
			b.run(input.DispatchKeyEvent(kind).WithKey("Enter").WithCode("Enter").WithText("\r").WithWindowsVirtualKeyCode(13).WithModifiers(input.ModifierCtrl))
		}
		b.until(form.dialog+" is sent", `!`+opened)
		if b.soon(opened) {
			t.Errorf("%s opens again", form.dialog)
		}
	}
}
