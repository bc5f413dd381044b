package browsertest

import (
	"bytes"
	"encoding/json"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// row is a chain as the page lists it.
type row struct {
	Chain int    // 1…
	Rank  int    // 0: none yet
	R, A  string // as shown
}

// rows reads the list of chains, in the page's order.
func (b *tab) rows() []row {
	b.t.Helper()
	return eval[[]row](b, `[...document.querySelectorAll("#chains .chain:not(.ghost)")].map(e => ({
		Chain: Number(e.querySelector("sub").textContent), Rank: Number(e.querySelector(".rk").textContent) || 0,
		R: e.querySelector(".r")?.textContent ?? "", A: e.querySelector(".a")?.textContent ?? ""}))`)
}

// shown is a number of the page as a number.
func shown(t testing.TB, s string) float64 {
	t.Helper()
	s = strings.NewReplacer("−", "-", "+", "", " ", "").Replace(s)
	if m, e, ok := strings.Cut(s, "·10"); ok {
		e = strings.NewReplacer("⁻", "-", "⁰", "0", "¹", "1", "²", "2", "³", "3", "⁴", "4", "⁵", "5", "⁶", "6", "⁷", "7", "⁸", "8", "⁹", "9").Replace(e)
		s = m + "e" + e
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatalf("no number: %q", s)
	}
	return v
}

// click clicks the first element that the selector finds, through the mouse. It
// clicks a place and not a node, since the page may draw the element anew
// meanwhile, and waits until the element stays where it is: what was just typed
// may still make a dialog higher.
func (b *tab) click(selector string) {
	b.t.Helper()
	var at, before []float64
	for end := time.Now().Add(patience); at == nil || !slices.Equal(at, before); frame(b) {
		before, at = at, b.aim(selector)
		if time.Now().After(end) {
			b.t.Fatalf("after %v there is no %s, or it is disabled, or something lies over it, or it does not stand still", patience, selector)
		}
	}
	b.run(chromedp.MouseClickXY(at[0], at[1]))
}

// aim is where a click hits the element now, nil if none would.
func (b *tab) aim(selector string) []float64 {
	b.t.Helper()
	return eval[[]float64](b, `(e => {
		if (!e || e.disabled) return null;
		e.scrollIntoView({block: "center", behavior: "instant"});
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2, hit = document.elementFromPoint(x, y);
		return hit && (e.contains(hit) || hit.contains(e)) ? [x, y] : null;
	})(document.querySelector($))`, selector)
}

// choose sets a control as a reader's choice does.
func (b *tab) choose(selector, value string) {
	b.t.Helper()
	if !eval[bool](b, `((e, v) => { if (!e) return false; e.value = v; e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true})); return e.value === v; })(document.querySelector($), $)`, selector, value) {
		b.t.Fatalf("%s has no choice %q", selector, value)
	}
}

// mode chooses a reward formula.
func (b *tab) mode(name string) {
	b.t.Helper()
	b.run(chromedp.Evaluate(bind(`document.querySelector("input[name=mode][value='" + $ + "']").click()`, []any{name}), nil))
	b.drawn()
}

// frame lets the page draw.
func frame(b *tab) {
	b.t.Helper()
	eval[bool](b, `new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true))))`)
}

// texts are the chains as written, by number, read one by one.
func (b *tab) texts() map[int]string {
	b.t.Helper()
	list := map[int]string{}
	for i := range b.rows() {
		b.run(chromedp.Evaluate(bind(`document.getElementById("chain-" + $).click()`, []any{i}), nil))
		b.until("the chain is shown", `document.querySelector("#chain h2").textContent === "Chain " + $`, i+1)
		list[i+1] = eval[string](b, `[...document.querySelectorAll("#chain .text .sent")].map(e => { const c = e.cloneNode(true); c.querySelectorAll(".no, .caret, .dr, .vh").forEach(x => x.remove()); return c.textContent; }).join("").trim()`)
	}
	return list
}

// complete waits until all chains are ranked.
func (b *tab) complete(k int) {
	b.t.Helper()
	b.until("all chains are ranked", `document.querySelectorAll("#chains .chain:not(.ghost)").length === $ && [...document.querySelectorAll("#chains .chain .rk")].every(e => Number(e.textContent) > 0)`, k)
}

// again asks for k new chains and waits until they are complete.
func (b *tab) again(k int) {
	b.t.Helper()
	seed := b.text("#chains .bar .cap")
	b.click("#act-again")
	b.until("the next seed's chains are there", `document.querySelector("#chains .bar .cap").innerText.includes("seed") && document.querySelector("#chains .bar .cap").innerText !== $`, seed)
	b.complete(k)
}

func TestReadableWithoutScripts(t *testing.T) {
	s := serve(t)
	b := open(t, view{width: 1440, height: 900, noScript: true})
	b.run(navigate(s.url()))
	if n := len(b.rows()); n < 4 {
		t.Errorf("%d chains are listed", n)
	}
	for _, id := range []string{"question", "strip", "chain", "why", "pipeline", "slope", "dots"} {
		if b.text("#"+id) == "" {
			t.Errorf("#%s is empty", id)
		}
	}
	if have := b.text("#notes"); !strings.Contains(have, "Scripts are off") {
		t.Errorf("the page says %q", have)
	}
	for _, sel := range []string{"#badge", "#train button"} {
		if eval[bool](b, `document.querySelector($).checkVisibility({visibilityProperty: true})`, sel) {
			t.Errorf("%s is to be seen, and nothing comes of it", sel)
		}
	}
}

func TestReadableWhenTheClientDoesNotLoad(t *testing.T) {
	s := serve(t)
	b := open(t, view{width: 1440, height: 900, block: []string{"*://*:*/static/app.wasm*"}})
	b.expect("app.wasm")
	b.run(navigate(s.url()))
	b.until("the page says so", `document.querySelector("#notes").innerText.includes("The controls did not load")`)
	if n := len(b.rows()); n < 4 {
		t.Errorf("%d chains are listed", n)
	}
}

// The client draws what the server drew: once the document is read, nothing moves
// and nothing changes.
func TestClientTakesOverWithoutAJump(t *testing.T) {
	s := serve(t)
	for _, v := range []view{desk, phone} {
		still := open(t, view{width: v.width, height: v.height, phone: v.phone, noScript: true})
		still.run(navigate(s.url()))
		b := open(t, v)
		b.script(`addEventListener("DOMContentLoaded", () => requestAnimationFrame(() => requestAnimationFrame(() => { window.whole = performance.now(); })))`)
		b.load(s.url())
		frame(b)
		shifts := eval[[]struct {
			Value float64
			What  string
		}](b, `new Promise(done => { const list = []; new PerformanceObserver(l => { for (const e of l.getEntries()) if (e.startTime >= window.whole) list.push({Value: e.value, What: e.sources.map(s => (s.node?.outerHTML ?? s.node?.nodeName ?? "?").slice(0, 60) + " " + [s.previousRect.x, s.previousRect.y, s.previousRect.width, s.currentRect.x, s.currentRect.y, s.currentRect.width].join()).join("; ")}); }).observe({type: "layout-shift", buffered: true}); setTimeout(() => done(list), 200); })`)
		sum := 0.0
		for _, x := range shifts {
			sum += x.Value
		}
		// A frame that began while the document came shows what had come by then: the
		// first after it, long before the client is there, is not counted. 0.1 is what
		// readers begin to notice.
		if sum > 0.02 {
			t.Errorf("%d px: the layout shifts by %.3f: %v", v.width, sum, shifts)
		}
		for _, id := range []string{"pipeline", "question", "strip", "chain", "chains", "why"} {
			if before, after := still.text("#"+id), b.text("#"+id); before != after {
				t.Errorf("%d px: #%s changed:\n%s\n%s", v.width, id, before, after)
			}
		}
	}
}

func TestNothingScrollsOnADesk(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	if h := eval[int](b, `document.documentElement.scrollHeight`); h > 900 {
		t.Errorf("the page is %d px high", h)
	}
	// On a low window a scrollbar takes its part of the width.
	for _, h := range []int64{450, 900} {
		for _, w := range []int64{320, 390, 700, 720, 1000, 1024, 1359, 1360, 1440, 1920} {
			b.run(chromedp.EmulateViewport(w, h))
			frame(b)
			room := eval[int64](b, `document.documentElement.clientWidth`)
			if h == 450 && room == w {
				t.Errorf("at %d × %d px there is no scrollbar", w, h)
			}
			if have := eval[int64](b, `document.documentElement.scrollWidth`); have > room {
				t.Errorf("at %d × %d px the page is %d px wide in %d px: %v", w, h, have, room, eval[[]string](b, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).slice(0, 5).map(e => e.tagName + "." + e.className + "#" + e.id)`))
			}
		}
	}
}

// What the pipeline says of formula and pull is read in full, whichever formula
// it is.
func TestPipelineFitsADesk(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	for _, mode := range []string{"logp", "p", "gm", "am", "ws-1/p", "ws-logp"} {
		b.mode(mode)
		if cut := eval[[]string](b, `[...document.querySelectorAll("#pipeline .ph:nth-child(4) .d, #pipeline .ph:nth-child(7) .d")].filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent + ": " + e.scrollWidth + " px in " + e.clientWidth)`); len(cut) > 0 {
			t.Errorf("%s: cut off: %v", mode, cut)
		}
	}
}

// Half as wide as a desk, as at a zoom of 200 %, no word of the answer runs into
// the next, and the table below uses the width there is.
func TestWordsKeepApart(t *testing.T) {
	s := serve(t)
	b := open(t, view{width: 720, height: 450})
	b.load(s.url())
	for _, w := range []int64{700, 720, 800, 999} {
		b.run(chromedp.EmulateViewport(w, 450))
		frame(b)
		if n := eval[int](b, `document.querySelectorAll("#strip .toks.many .chip").length`); n < 10 {
			t.Fatalf("the answer has %d words; this needs ten", n)
		}
		over := eval[[]string](b, `(() => {
			const box = e => { const r = document.createRange(); r.selectNodeContents(e); const a = e.getBoundingClientRect(), t = r.getBoundingClientRect(); return {text: e.textContent, l: Math.min(a.left, t.left), r: Math.max(a.right, t.right), t: a.top, b: a.bottom}; };
			const list = [...document.querySelectorAll("#strip .chip")].map(box), strip = document.querySelector("#strip .toks").getBoundingClientRect();
			return list.flatMap((x, i) => [...list.slice(i + 1).filter(y => x.l < y.r && y.l < x.r && x.t < y.b && y.t < x.b).map(y => x.text + " and " + y.text), ...(x.l < strip.left - 1 || x.r > strip.right + 1 ? [x.text + " and the edge"] : [])]);
		})()`)
		if len(over) > 0 {
			t.Errorf("at %d px overlap: %v", w, over)
		}
		if have := eval[float64](b, `document.querySelector("#why-words").clientWidth / document.querySelector("#why").clientWidth`); have < 0.99 {
			t.Errorf("at %d px the table takes %.2f of its panel", w, have)
		}
	}
}

// scored is what `nrt score --json` says of a group.
type scored struct {
	Chains []struct {
		R    float64 `json:"R"`
		Base float64 `json:"R_base"`
		A    float64 `json:"A"`
		Rank int     `json:"rank"`
	} `json:"chains"`
}

// Every number of the list equals what the command line says of the same chains,
// under each formula.
func TestModesSayWhatNrtScoreSays(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	texts := b.texts()
	chains := make([]string, len(texts))
	for i := range chains {
		chains[i] = texts[i+1]
	}
	answer := eval[string](b, `[...document.querySelectorAll("#strip .tok:not(.end) .chip")].map(e => e.textContent).join(" ")`)
	line, err := json.Marshal(map[string]any{"question": b.text("#question .asked"), "answer": answer, "chains": chains})
	if err != nil {
		t.Fatal(err)
	}
	model := eval[string](b, `document.querySelector("#model").value`)
	var orders []string
	for _, mode := range []string{"logp", "p", "gm", "am", "ws-1/p", "ws-logp"} {
		cmd := exec.Command(program(t), "score", "--model", model, "--in", "-", "--mode", mode, "--json")
		cmd.Stdin = bytes.NewReader(append(line, '\n'))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, err.(*exec.ExitError).Stderr, line)
		}
		var want scored
		if err := json.Unmarshal(out, &want); err != nil {
			t.Fatal(err)
		}
		b.mode(mode)
		order := ""
		for _, r := range b.rows() {
			w := want.Chains[r.Chain-1]
			if have := shown(t, r.R); math.Abs(have-w.R) > 0.0005+1e-6 && math.Abs(have-w.R) > 0.06*math.Abs(w.R) {
				t.Errorf("%s: chain %d: R %s on the page, %g by nrt score", mode, r.Chain, r.R, w.R)
			}
			if have := shown(t, r.A); math.Abs(have-w.A) > 0.0151 {
				t.Errorf("%s: chain %d: A %s on the page, %g by nrt score", mode, r.Chain, r.A, w.A)
			}
			order += strconv.Itoa(r.Chain) + " "
		}
		orders = append(orders, order)
	}
	if orders[0] != orders[1] || orders[1] != orders[2] {
		t.Errorf("logP, P and GM order differently: %q", orders[:3])
	}
	t.Logf("orders by formula: %q", orders)
}

func TestChainsStreamAndAreScored(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", `document.querySelector("#badge").innerText.includes("Live")`)
	k := len(b.rows())
	// The small model is done in a blink; TestCancel sees a slow one write.
	b.again(k)
	if have := eval[string](b, `document.querySelector("#status").textContent`); have == "" {
		t.Error("the status region says nothing")
	}
	ranks := []int{}
	for _, r := range b.rows() {
		ranks = append(ranks, r.Rank)
	}
	if !slices.IsSorted(ranks) {
		t.Errorf("ranks are %v", ranks)
	}
}

// ask opens the form and asks an own question.
func (b *tab) ask(question, answer string, settings map[string]string) {
	b.t.Helper()
	b.click(".own")
	b.until("the form is open", `document.querySelector("#ask").open`)
	for id, text := range map[string]string{"#ask-question": question, "#ask-answer": answer} {
		b.run(chromedp.Focus(id, chromedp.ByQuery), chromedp.Evaluate(`document.activeElement.select()`, nil), chromedp.KeyEvent(kb.Delete), input.InsertText(text))
	}
	for name, value := range settings {
		b.choose("#askform [name="+name+"]", value)
	}
	b.until("the answer is cut into tokens", `document.querySelectorAll("#tokens-answer span").length > 1`)
	frame(b)
	frame(b)
	b.click("#ask-go")
	b.until("the form is closed", `!document.querySelector("#ask").open`)
}

func TestOwnQuestion(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", `document.querySelector("#badge").innerText.includes("Live")`)
	b.ask(b.text("#question .asked"), "that guy is hana", map[string]string{"k": "4", "seed": "7"})
	b.complete(4)
	if have := eval[string](b, `[...document.querySelectorAll("#strip .tok:not(.end) .chip")].map(e => e.textContent).join(" ")`); have != "that guy is hana" {
		t.Errorf("the answer's words are %q", have)
	}
	b.until("the address says it", `location.hash.includes("seed=7") && location.hash.includes("hana")`)
	// The address is the state: another reader sees the same chains.
	first := b.rows()
	other := open(t, desk)
	other.load(eval[string](b, `location.href`))
	other.complete(4)
	if have := other.rows(); !slices.Equal(have, first) {
		t.Errorf("by the address: %v, want %v", have, first)
	}
}

// Chains that end at the right answer are marked, the saved ones and those of a question
// of the small world that is asked now; of any other nobody knows.
func TestRightChainsAreMarked(t *testing.T) {
	const marked = `document.querySelectorAll("#chains .chain .ok").length`
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	if n := eval[int](b, marked); n < 1 || n > 7 {
		t.Errorf("%d of the saved chains are marked", n)
	}
	b.choose("#model", "world:nrt")
	b.click("#act-again")
	b.complete(8)
	b.until("the trained model's are marked, too", marked+" > 0")
	b.until("and it is said", `document.querySelector("#chains .foot-note").innerText.includes("the reward never sees this")`)
	b.ask("who ?", "ruth", nil)
	b.complete(8)
	b.until("nobody knows of this one", marked+" === 0")
}

// Who asks for what the model has no words for is offered a question to start from, by
// keyboard too; and who asks all the same is led back to the form.
func TestUnknownWordsAreNoDeadEnd(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.ask("What is the capital of France ?", "Paris", nil)
	b.complete(8)
	const said = `document.querySelector("#status").textContent`
	b.until("it is said that words are not known", said+`.includes("ready.") && `+said+`.includes("This model lacks ")`)
	b.click("#note-words")
	b.until("the form has what was asked", `document.querySelector("#ask-question").value.includes("France")`)
	b.until("the words are named", `document.querySelector("#ask-note").innerText.includes("“France”") && /knows \d+ words/.test(document.querySelector("#ask-note").innerText)`)
	// Outside of an open dialog nothing is announced, and within it not every key.
	b.until("it is said within the form", `document.querySelector("#ask #status") && `+said+`.includes("“France”")`)
	b.choose("#ask-question", "who ?")
	b.until("the rest is said", said+`.includes("but not “Paris”:")`)
	b.run(chromedp.Evaluate(`globalThis.told = []; new MutationObserver(() => told.push(`+said+`)).observe(document.querySelector("#status"), {childList: true, characterData: true, subtree: true})`, nil))
	for n := range "zebra" {
		b.choose("#ask-answer", "zebra"[:n+1])
		frame(b)
	}
	b.until("of what was typed only the whole is said", `told.length === 1 && told[0].includes("“zebra”")`)
	b.run(chromedp.Focus("#ask-answer"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	b.until("the form is filled", `/^step : \w+ has /.test(document.querySelector("#ask-question").value) && document.querySelector("#ask-answer").value.includes("coins")`)
	b.until("and its words are known", `document.activeElement.id === "ask-question" && !document.querySelector("#ask .unk")`)
	b.click("#ask-go")
	b.complete(8)
	b.until("after it the page says what is new", `!document.querySelector("dialog #status") && `+said+`.startsWith("All 8 chains ready.")`)
	if eval[bool](b, `new Promise(done => setTimeout(() => done(!`+said+`.startsWith("All 8 chains ready.")), 1500))`) {
		t.Errorf("then it says %q", eval[string](b, said))
	}
}

// What is set in the form counts when it is sent, and not before: Discard discards.
// A field that is refused says so itself, and the form stays.
func TestOwnQuestionIsDiscarded(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	opened := func() {
		t.Helper()
		b.click("[data-dialog=ask]")
		b.until("the form is open", `document.querySelector("#ask").open`)
		b.until("its text is cut into tokens, and it stands still", `document.querySelector("#tokens-question").textContent !== "" && document.querySelector("#tokens-answer").textContent !== ""`)
	}
	opened()
	if have := eval[string](b, `document.activeElement.id`); have != "ask-question" {
		t.Errorf("the focus is at %q", have)
	}
	fields := func() string {
		return eval[string](b, `["k", "temperature", "seed"].map(n => document.querySelector("#askform [name=" + n + "]").value).join()`)
	}
	before := fields()
	b.choose("#askform [name=k]", "3")
	b.choose("#askform [name=seed]", "99")
	b.run(chromedp.Evaluate(`document.querySelector("#askform [name=clip]").click()`, nil))
	b.click("#ask .dlg-f [data-close]")
	b.until("it is closed", `!document.querySelector("#ask").open`)
	frame(b)
	time.Sleep(400 * time.Millisecond) // the address follows a moment later
	if have := eval[string](b, `location.hash`); strings.Contains(have, "k=3") || strings.Contains(have, "seed=99") || strings.Contains(have, "clip") {
		t.Errorf("the address is %s", have)
	}
	opened()
	if have := fields(); have != before {
		t.Errorf("the form says %s, before %s", have, before)
	}
	b.choose("#askform [name=temperature]", "5")
	b.click("#ask-go")
	if !eval[bool](b, `document.querySelector("#ask").open && document.querySelector("#askform [name=temperature]").matches(":invalid")`) {
		t.Error("a temperature of 5 is sent")
	}
	if have := b.text("#notes"); strings.Contains(have, "Temperature") {
		t.Errorf("behind the dialog: %q", have)
	}
}

// A form with a part missing stays open and says so, to the eye and to a reader
// of the screen.
func TestAnEmptyOwnQuestionIsNotSent(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.click(".own")
	b.until("the form is open", `document.querySelector("#ask").open`)
	b.until("the form is filled", `document.querySelector("#ask-question").value !== "" && document.querySelectorAll("#tokens-answer span").length > 1`)
	frame(b)
	frame(b)
	for _, text := range []string{"", " "} {
		b.choose("#ask-answer", text)
		b.click("#ask-go")
		b.until("the form says what is missing", `document.querySelector("#ask").open && document.querySelector("#ask-note [role=alert]")?.innerText.includes("reference answer") && document.querySelector("#ask-answer").getAttribute("aria-invalid") === "true"`)
		if eval[bool](b, `document.querySelector("#ask-question").hasAttribute("aria-invalid")`) {
			t.Error("the question, which is written, is marked")
		}
		if text == "" { // the browser's own check
			b.until("the empty field has the focus", `document.activeElement.id === "ask-answer"`)
			if !eval[bool](b, `document.querySelector("#ask-answer").dispatchEvent(new Event("invalid", {cancelable: true})) === false`) {
				t.Error("the browser's bubble lies over the words")
			}
		}
		b.choose("#ask-answer", "ruth")
		b.until("the mark is gone", `!document.querySelector("#ask-note [role=alert]") && !document.querySelector("#ask-answer").hasAttribute("aria-invalid")`)
	}
	b.click("#ask-go")
	b.until("the form is closed", `!document.querySelector("#ask").open`)
	b.complete(8)
}

// On a phone: the promised order, targets of 44 px, one chain at a time.
func TestPhone(t *testing.T) {
	s := serve(t)
	b := open(t, phone)
	b.load(s.url())
	order := []string{"#question", "#strip .toks", "#chains", "#chain .text", ".modecard", "#pipeline", "#why", "#slope", "#trainchart figure", "#trainchart figure:nth-child(3)"}
	last := -1.0
	for _, sel := range order {
		y := eval[float64](b, `document.querySelector($)?.getBoundingClientRect().top + scrollY ?? -1`, sel)
		if y <= last {
			t.Errorf("%s stands at %.0f px, not below the one before at %.0f", sel, y, last)
		}
		last = y
	}
	small := eval[[]string](b, `[...document.querySelectorAll("button, select, input, summary, [role=button]")].filter(e => { const r = e.getBoundingClientRect(); return r.width > 0 && getComputedStyle(e).clipPath === "none" && !e.closest("dialog") && (r.height < 43.5 || r.width < 43.5); }).map(e => (e.id || e.className || e.tagName) + " " + Math.round(e.getBoundingClientRect().width) + "×" + Math.round(e.getBoundingClientRect().height))`)
	if len(small) > 0 {
		t.Errorf("too small to touch: %v", small)
	}
	before := b.text(".pager b")
	b.click("#act-next")
	b.until("the next chain comes", `document.querySelector(".pager b").innerText.replace(/\s+/g, " ").trim() !== $`, before)
	b.choose("#modeselect", "am")
	b.until("the phone's list chooses the formula", `document.querySelector("input[name=mode]:checked").value === "am"`)
}
