package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// On small screens, and at a zoom of 400 %, the pinned words leave room to read,
// and what has the focus is never under them.
func TestPinnedWordsLeaveRoom(t *testing.T) {
	s := serve(t)
	for _, v := range []view{{width: 360, height: 225}, {width: 320, height: 568, phone: true}, {width: 320, height: 640, phone: true}, {width: 667, height: 375, phone: true}, phone} {
		b := open(t, v)
		b.load(s.url())
		const pinned = `(e => getComputedStyle(e).position === "sticky" ? e.offsetHeight : 0)(document.querySelector("#strip .toks"))`
		if h := eval[int64](b, pinned); 100*h > 36*v.height {
			t.Errorf("%d × %d px: %d px are pinned", v.width, v.height, h)
		}
		if out := eval[[]float64](b, `(r => [r.left, r.right])(document.querySelector("#strip .tok.on").getBoundingClientRect())`); out[0] < 0 || out[1] > float64(v.width) {
			t.Errorf("%d × %d px: the chosen word stands at %v", v.width, v.height, out)
		}
		for i := range 50 {
			press := chromedp.KeyEvent(kb.Tab)
			if i >= 28 {
				press = chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(input.ModifierShift))
			}
			b.run(press)
			if under := eval[string](b, `(() => {
				const e = document.activeElement, r = e.getBoundingClientRect(), strip = document.querySelector("#strip .toks"), pin = strip.getBoundingClientRect();
				return e !== document.body && !strip.contains(e) && !e.closest(":popover-open") && `+pinned+` && r.bottom > pin.top && r.top < pin.bottom - 1 ? e.id || e.className || e.tagName : "";
			})()`); under != "" {
				t.Errorf("%d × %d px, Tab %d: the focus on %s is under the words", v.width, v.height, i, under)
			}
		}
	}
}

// Where the reader's own colours replace the page's, colours that are data stay,
// and what is chosen has an outline that nothing else has.
func TestForcedColours(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "forced-colors", Value: "active"}}))
	b.load(s.url())
	b.until("connected", live)
	if !eval[bool](b, `matchMedia("(forced-colors: active)").matches`) {
		t.Skip("this browser does not emulate forced colours")
	}
	for _, sel := range []string{".sky i", "#legend .b0", "#legend .b1", "#legend .b3", ".ramp", ".tok .chip", ".adiv i", ".kb i", ".sbar i", "#badge i"} {
		if !eval[bool](b, `(s => s.backgroundImage !== "none" || (c => c[3] !== "0" && c.slice(0, 3).some(x => Number(x) % 255))(s.backgroundColor.match(/[0-9.]+/g)))(getComputedStyle(document.querySelector($)))`, sel) {
			t.Errorf("%s has lost its colour", sel)
		}
	}
	for on, off := range map[string]string{
		".chain[aria-pressed=true]": ".chain[aria-pressed=false]", ".seg label:has(:checked)": ".seg label:not(:has(:checked))", ".ph.on button": ".ph:not(.on) button",
		".tok.on .chip": ".tok:not(.on) .chip", ".sent.is-on": ".sent:not(.is-on)", ".why tr.on": ".why tbody tr:not(.on)", ".sb.on": ".sb:not(.on)",
	} {
		for sel, want := range map[string]string{on: "solid", off: "none"} {
			if have := eval[string](b, `getComputedStyle(document.querySelector($)).outlineStyle`, sel); have != want {
				t.Errorf("%s: its outline is %s, want %s", sel, have, want)
			}
		}
	}
}

// On paper, which is light, the curves are dark, whatever the page's own colours are.
func TestCurvesOnPaper(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url() + "?theme=dark")
	b.until("curves are drawn", `document.querySelectorAll("#trainchart canvas").length === 4`)
	const dark = `[...document.querySelectorAll("#trainchart canvas")].every(c => { const of = [0, 0], p = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; for (let i = 0; i < p.length; i += 4) if (p[i + 3] > 200) { if (p[i] < 35) of[0]++; if (p[i] > 230) of[1]++; } return of[0] > of[1]; })`
	b.until("they are light", "!"+dark)
	b.run(emulation.SetEmulatedMedia().WithMedia("print"))
	b.until("they are dark", dark)
	b.run(emulation.SetEmulatedMedia().WithMedia("screen"))
	b.until("they are light again", "!"+dark)
}

// A note on a phone is read in lines, with its buttons below; on a desk it takes
// nothing from the panels that the what-if bar needs.
func TestNotesLeaveRoom(t *testing.T) {
	s := serve(t)
	const note = `document.getElementById("notes").innerHTML = '<div class="note warn"><svg class="ico"></svg><div class="grow"><b>No gradient from this group.</b> No chain scored higher than no reasoning at all: all gains clip to 0, and nothing is learned here.</div><div class="acts"><button class="btn">New chains</button><button class="btn">Switch the clip off</button></div></div>'; true`
	b := open(t, phone)
	b.load(s.url())
	b.until("connected", live)
	eval[bool](b, note)
	if h := eval[int](b, `document.querySelector(".note").offsetHeight`); h > 210 {
		t.Errorf("on a phone a note is %d px high", h)
	}
	b = open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	eval[bool](b, note)
	eval[bool](b, `document.getElementById("sent-0").click(); true`)
	b.until("a what-if is scored", `document.querySelector("#chains .ghost")`)
	if n := eval[int](b, `(e => e.scrollHeight - e.clientHeight)(document.querySelector("#chains .rows"))`); n > 0 {
		t.Errorf("eight chains beside a note and a variant are %d px too high", n)
	}
	if out := eval[[]float64](b, `[document.documentElement.scrollHeight - 900, document.querySelector(".whatif").getBoundingClientRect().bottom - document.querySelector("#reading").getBoundingClientRect().bottom]`); out[0] > 0 || out[1] > 0 {
		t.Errorf("on a desk a note makes the page %.0f px too high; the what-if bar ends %.0f px below its panel", out[0], out[1])
	}
}

// From 1180 px on there are three columns and one row of controls; on a low screen
// the page scrolls and its panels do not; on a desk the chosen sentence's row is
// seen.
func TestPanelsStandBesideEachOther(t *testing.T) {
	s := serve(t)
	b := open(t, view{width: 1366, height: 768})
	b.load(s.url())
	b.until("connected", live)
	for _, v := range []view{{width: 1180, height: 768}, {width: 1280, height: 720}, {width: 1366, height: 768}, {width: 1440, height: 900}, {width: 1024, height: 768}, {width: 820, height: 1180}, {width: 700, height: 900}} {
		b.run(chromedp.EmulateViewport(v.width, v.height))
		frame(b)
		if h := eval[int](b, `document.querySelector(".head").offsetHeight`); h > 56 {
			t.Errorf("at %d px the controls are %d px high", v.width, h)
		}
		if over := eval[[]string](b, `(list => list.flatMap((e, i) => list.slice(i + 1).filter(f => { const a = e.getBoundingClientRect(), b = f.getBoundingClientRect(); return a.right > b.left + 1 && b.right > a.left + 1; }).map(f => e.className + " and " + f.className)))([...document.querySelectorAll(".head > *, .modecard select")].filter(e => e.tagName !== "H1" && e.getBoundingClientRect().width > 0))`); len(over) > 0 {
			t.Errorf("at %d px overlap: %v", v.width, over)
		}
		if v.width < 1180 {
			continue
		}
		if out := eval[[]float64](b, `["chains", "reading", "why"].map(id => document.getElementById(id).getBoundingClientRect().top)`); out[0] != out[1] || out[1] != out[2] {
			t.Errorf("at %d px the panels begin at %v", v.width, out)
		}
		if v.height < 900 {
			if list := eval[[]string](b, `[...document.querySelectorAll("#page, #page *")].filter(e => e.scrollHeight > e.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(e).overflowY)).map(e => e.id || e.className)`); len(list) > 0 {
				t.Errorf("at %d × %d px these scroll inside the page: %v", v.width, v.height, list)
			}
			if out := eval[float64](b, `document.querySelector("#why-sents .sb:last-of-type").getBoundingClientRect().bottom`); out > float64(v.height) {
				t.Errorf("at %d × %d px the last sentence's row ends at %.0f px", v.width, v.height, out)
			}
		} else if out := eval[float64](b, `document.querySelector(".sb.on").getBoundingClientRect().bottom - document.querySelector("#why").getBoundingClientRect().bottom`); out > 0 {
			t.Errorf("at %d px the chosen sentence's row ends %.0f px below its panel", v.width, out)
		}
	}
}

// Long words and other directions stay inside their panels, and read from their
// own side.
func TestLongAndRightToLeft(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url() + "#model=world:base&q=" + strings.Repeat("a", 1900) + "&a=" + strings.Repeat("b", 300))
	b.until("the question is shown", `document.querySelector("#question").innerText.includes("aaaa")`)
	b.complete(8)
	for _, width := range []int64{390, 820, 1440} {
		b.run(chromedp.EmulateViewport(width, 900))
		frame(b)
		if out := eval[[]string](b, `[...document.querySelectorAll("#page, .panel, #question, #strip")].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).map(e => (e.id || e.className) + " " + e.scrollWidth)`); len(out) > 0 {
			t.Errorf("at %d px too wide: %v", width, out)
		}
	}
	b.run(chromedp.Evaluate(`location.hash = "#model=world:base&q=" + encodeURIComponent("ما هي عاصمة فرنسا؟ اشرح السبب.") + "&a=ruth"`, nil))
	b.until("the question is shown", `document.querySelector("#question").innerText.includes("فرنسا")`)
	if have := eval[string](b, `getComputedStyle(document.getElementById("question")).direction`); have != "rtl" {
		t.Errorf("an Arabic question reads %s", have)
	}
	b.choose("#ask-question", "ما هي عاصمة فرنسا؟")
	if have := eval[string](b, `getComputedStyle(document.getElementById("ask-question")).direction`); have != "rtl" {
		t.Errorf("its field reads %s", have)
	}

	// The words of an Arabic answer go from right to left, their numbers do not.
	b.run(chromedp.Evaluate(`location.hash = "#model=world:base&k=2&q=who&a=" + encodeURIComponent("عاصمة فرنسا هي باريس")`, nil))
	b.until("the answer is scored", ranked+` && document.querySelector("#word-0 .chip").textContent.includes("عاصمة") && document.querySelector("#word-0 .pct b")`)
	if !eval[bool](b, `(e => e.querySelector("b").getBoundingClientRect().left > (r => (r.selectNode(e.firstChild), r.getBoundingClientRect().left))(document.createRange()))(document.querySelector("#word-0 .pct"))`) {
		t.Error("the number after the arrow stands before it")
	}
	b.run(chromedp.Focus("#word-1", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowLeft))
	if have := eval[string](b, focused); have != "word-2" {
		t.Errorf("the left arrow goes from word-1 to %s", have)
	}
}

// With sixteen chains the charts' numbers are as large as with eight.
func TestChartsOfSixteenChains(t *testing.T) {
	s := serve(t)
	for _, v := range []view{desk, phone} {
		b := open(t, v)
		b.load(s.url() + "#e=kin&model=world:base&k=16")
		b.complete(16)
		if small := eval[[]string](b, `[...document.querySelectorAll("#slope text, #dots text")].map(e => [e, parseFloat(getComputedStyle(e).fontSize) * e.closest("svg").getBoundingClientRect().width / e.closest("svg").viewBox.baseVal.width]).filter(x => x[1] < 10.95).map(x => x[0].textContent + " " + x[1].toFixed(1))`); len(small) > 0 {
			t.Errorf("%d px: too small: %v", v.width, small)
		}
	}
}

// Until the client is there nothing that needs it takes a click or looks as if it
// would.
func TestControlsWaitForTheClient(t *testing.T) {
	s := serve(t)
	b := open(t, view{width: 1440, height: 900, block: []string{"*://*:*/static/app.wasm*"}})
	b.expect("app.wasm")
	b.run(navigate(s.url()))
	b.until("the page says so", `document.querySelector("#notes").innerText.includes("The controls did not load")`)
	for _, sel := range []string{"#chain-1", "#act-play", "#act-switch", "#sent-0", "#word-0", "#act-again"} {
		if have := eval[[]string](b, `(e => [getComputedStyle(e).pointerEvents, e.getAttribute("aria-disabled")])(document.querySelector($))`, sel); have[0] != "none" || have[1] != "true" {
			t.Errorf("%s: pointer-events and aria-disabled are %v", sel, have)
		}
	}
	b = open(t, desk)
	b.load(s.url())
	if have := eval[int](b, `document.querySelectorAll("[aria-disabled]").length`); have > 0 {
		t.Errorf("with its client the page has %d controls marked as disabled", have)
	}
}

// The curves come after the page and take no more room than was kept for them, so that
// no panel moves under a reader's eyes.
func TestCurvesMoveNothing(t *testing.T) {
	s := serve(t)
	b := open(t, view{width: 1440, height: 900, block: []string{"*://*:*/static/app.wasm*"}})
	b.expect("app.wasm")
	b.run(navigate(s.url()))
	b.until("the page is there", `document.querySelector("#notes").innerText.includes("The controls did not load")`)
	const height = `document.querySelector("#trainchart").offsetHeight`
	kept := eval[int](b, height)
	b = open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.until("the curves are drawn", `document.querySelectorAll("#trainchart canvas").length > 0`)
	if drawn := eval[int](b, height); drawn != kept {
		t.Errorf("%d px were kept for the curves, which take %d", kept, drawn)
	}
}

// On a desk of 1440 × 900 the curves have room, and the saved question of most words is in
// its panels whole, beside a note, too; a chain that another model reads says so without being cut.
func TestDeskHasRoom(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("curves are drawn", `document.querySelectorAll("#trainchart canvas").length === 4`)
	if w := eval[float64](b, `Math.min(...[...document.querySelectorAll("#trainchart .u-over")].map(e => e.getBoundingClientRect().width))`); w < 110 {
		t.Errorf("the curves are drawn %.0f px wide", w)
	}
	for _, view := range []string{"e=cups", "e=kin", "e=step", "e=cups&clip=false", "e=kin&clip=false", "e=step"} {
		b.run(chromedp.Evaluate(bind(`location.hash = $`, []any{view}), nil))
		b.until(view+" is shown", `new URLSearchParams($).get("e") === document.querySelector("#example").value && document.querySelectorAll(".note").length === $`, view, strings.Count(view, "clip"))
		for _, panel := range []string{"why", "reading"} {
			if n := eval[int](b, `(e => e.scrollHeight - e.clientHeight)(document.getElementById($))`, panel); n > 0 {
				t.Errorf("%s: the panel %s is %d px too high", view, panel, n)
			}
		}
	}
	b.choose("#step", "2")
	b.until("another step reads", `document.querySelector("#through").innerText.includes("are read by")`)
	if n := eval[int](b, `(e => e.scrollWidth - e.clientWidth)(document.querySelector("#chain .chain-h .cap"))`); n > 0 {
		t.Errorf("the line above the chain is cut by %d px", n)
	}
}

// Where drawing takes long, what still shows the question that was left looks so, and no
// longer than that.
func TestOldPanelsLookOld(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.run(chromedp.Evaluate(`globalThis.busy = 0; new MutationObserver(list => busy += list.filter(m => m.target.ariaBusy === "true").length).observe(document.getElementById("page"), {subtree: true, attributeFilter: ["aria-busy"]})`, nil))
	b.choose("#example", "kin")
	b.drawn()
	b.run(emulation.SetCPUThrottlingRate(40))
	b.choose("#example", "cups")
	b.until("some panel had to wait", `busy > 0`)
	b.run(emulation.SetCPUThrottlingRate(1))
	b.until("none waits in the end", `document.querySelector("#question").innerText.includes("ball") && !document.querySelector("[aria-busy]")`)
}

// Numbers of the tables keep apart, however small or large they are: under every formula,
// of an answer that the model finds most unlikely, wherever the columns are narrow.
func TestNumbersKeepApart(t *testing.T) {
	s := serve(t)
	b := open(t, view{width: 1280, height: 800})
	const near = `(() => {
		const text = e => { const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect(); };
		const rows = [...document.querySelectorAll("#why .words tbody tr")].map(r => [...r.cells]);
		rows.push(...[...document.querySelectorAll("#why .sb")].map(r => [...r.querySelectorAll(".e")]));
		const out = [...document.querySelectorAll(".lifesay *")].filter(e => e.getBoundingClientRect().right > innerWidth - 2).map(e => e.textContent + " and the window's edge");
		return out.concat(rows.flatMap(cells => cells.flatMap((e, i) => {
			if (!i || !e.textContent) return [];
			const apart = text(e).left - (cells[i - 1].matches("th") ? cells[i - 1].getBoundingClientRect() : text(cells[i - 1])).right;
			if (text(e).right > e.closest("#why").getBoundingClientRect().right - 2) return [e.textContent + " and the edge"];
			return apart < 3 ? [cells[i - 1].textContent + " and " + e.textContent + ": " + apart.toFixed(1) + " px"] : [];
		})));
	})()`
	for _, hash := range []string{"e=cups", "q=who+%3F&a=ruth+lena+jane+ruth+lena+%21+%21+emil&model=world:nrt&k=4", "q=who+%3F&a=%21+ruth+emil&model=world:base&k=4"} {
		b.load(s.url() + "#" + hash)
		b.until("it is scored", ranked+` && document.querySelector("#why .words td b")`)
		for _, mode := range []string{"logp", "p", "gm", "am", "ws-1/p", "ws-logp"} {
			b.mode(mode)
			for _, w := range []int64{320, 390, 700, 1180, 1280, 1440} {
				b.run(chromedp.EmulateViewport(w, 800))
				frame(b)
				if list := eval[[]string](b, near); len(list) > 0 {
					t.Errorf("%s, %s, %d px: %q", hash, mode, w, list)
				}
			}
		}
	}
}

// The words of an answer keep their size when few of them are left for the last row, and
// a word is not cut where there is room.
func TestLastRowOfWords(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	for _, answer := range []string{"lena", "you see that guy is called lena", "you see that guy is called lena i guess", "well you see that guy is called lena i guess so .", "grandmother lena", strings.Repeat("b", 28) + " lena", strings.Repeat("c", 400) + " lena"} {
		b.load(s.url() + "#model=world:nrt&k=2&q=who+%3F&a=" + strings.ReplaceAll(answer, " ", "+"))
		b.until("it is scored", ranked)
		for _, width := range []int64{390, 740, 853, 1200, 1280, 1440} {
			b.run(chromedp.EmulateViewport(width, 1000))
			frame(b)
			if list := eval[[]string](b, `(strip => [...strip.querySelectorAll(".tok")].flatMap(e => {
				const w = e.getBoundingClientRect().width, own = e.querySelector(".chip"), cut = own.scrollWidth > own.clientWidth + 1;
				const few = !strip.matches(".many"), letters = own.textContent.length;
				return w > strip.clientWidth / 4 + 1 && letters < 11 || cut && letters < (few ? 30 : 8) || w > strip.clientWidth ? [own.textContent + " " + w] : [];
			}))(document.querySelector("#strip .toks"))`); len(list) > 0 {
				t.Errorf("%q at %d px: %q", answer, width, list)
			}
		}
	}
}

// However long the answer is, the chain below it can be read.
func TestChainBelowALongAnswer(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	for _, n := range []int{1, 2, 3, 6} {
		b.load(s.url() + "#model=world:nrt&k=2&q=kin+%3A+fay+a%29+friend+b%29+mother+who+%3F&a=" + strings.Repeat("well+you+see+that+guy+is+called+lena+i+guess+", n) + ".")
		b.until("it is scored", ranked)
		for _, v := range []view{{width: 820, height: 1180}, {width: 1280, height: 720}, desk, {width: 1920, height: 1080}} {
			b.run(chromedp.EmulateViewport(v.width, v.height))
			frame(b)
			for _, sel := range []string{"#chain .sent", "#chain .whatif"} {
				if top := eval[string](b, `(e => { e.scrollIntoView({block: "center"}); const r = e.getBoundingClientRect(), at = document.elementFromPoint(r.left + 12, r.top + r.height / 2); return e.contains(at) ? "" : at?.className || "nothing"; })(document.querySelector($))`, sel); top != "" {
					t.Errorf("%d words at %d × %d px: over %s lies %q", 10*n, v.width, v.height, sel, top)
				}
			}
		}
	}
}

// On a desk a chain of many lines scrolls in its place, and the panel around it does not.
func TestLongChainScrollsAlone(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.click("#sent-0")
	b.click("#act-edit")
	b.typed(strings.Repeat("forward-2 ", 60))
	b.click("#edit-go")
	b.until("it is scored", `!document.querySelector("#edit").open && document.querySelector("#chains .ghost")`)
	if out := eval[[]int](b, `["#reading", "#chain .text"].map(s => (e => e.scrollHeight - e.clientHeight)(document.querySelector(s)))`); out[0] > 0 || out[1] < 50 {
		t.Errorf("the panel scrolls by %d px, the chain by %d", out[0], out[1])
	}
}

// A sentence's number stands on the line that its words begin on.
func TestNumbersStandWithTheirSentences(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	for width := int64(700); width < 1180; width += 15 {
		b.run(chromedp.EmulateViewport(width, 900))
		frame(b)
		if list := eval[[]string](b, `[...document.querySelectorAll("#chain .sent")].filter(e => { const r = document.createRange(), words = [...e.childNodes].find(n => n.nodeType === 3 && n.data.trim()); i = words.data.search(/\S/); r.setStart(words, i); r.setEnd(words, i + 1); return Math.abs(r.getBoundingClientRect().bottom - e.querySelector(".no").getBoundingClientRect().bottom) > 12; }).map(e => e.innerText)`); len(list) > 0 {
			t.Errorf("at %d px: %q", width, list)
		}
	}
}
