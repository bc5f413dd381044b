package browsertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	step  = `(document.querySelector("#lesson:not([hidden]) li.on h3")?.innerText.replace(/\s+/g, " ").trim() ?? "")`
	steps = `document.querySelectorAll("#lesson li").length`
)

// The lesson opens a view for every step, frames what it speaks of, says no figure
// that the page does not show, and works with the keyboard alone.
func TestLesson(t *testing.T) {
	s := serve(t)
	for _, v := range []view{desk, phone, {width: 820, height: 1180}} {
		b := open(t, v)
		b.load(s.url())
		b.until("connected", live)
		n := eval[int](b, steps)
		if n < 9 {
			t.Fatalf("the lesson has %d steps", n)
		}
		b.click("#lesson-open")
		for i := range n {
			name := fmt.Sprintf("%d px, step %d", v.width, i+1)
			b.until(name, step+`.startsWith($)`, fmt.Sprintf("%d of %d ", i+1, n))
			b.until(name+": the page is the step's", `location.hash.slice(1) === document.querySelector("#lesson li.on").dataset.hash || new URLSearchParams(location.hash.slice(1)).get("z") !== null`)
			b.until(name+": something is framed, and seen", `(e => { if (!e) return false; const all = [e, ...e.querySelectorAll("*")].map(x => x.getBoundingClientRect()).filter(r => r.width > 0), box = document.getElementById("lesson").getBoundingClientRect(); const low = innerWidth < 700 ? box.top : innerHeight; return all.some(r => r.top >= 0 && r.top < low); })(document.querySelector(".shown"))`)
			if v.phone {
				b.until(name+": what it asks to drag or press is in the window", `(low => document.querySelector("#lesson li.on").dataset.show !== "train" || ["#train [type=range]", "#act-open"].map(s => document.querySelector(s).getBoundingClientRect()).every(r => r.top > 0 && r.bottom <= low))(document.getElementById("lesson").getBoundingClientRect().top)`)
			}
			for _, figure := range eval[[]string](b, `[...document.querySelector("#lesson li.on p").innerText.matchAll(/[+−]?\d+\.\d+/g)].map(m => m[0])`) {
				if v.phone && i < 5 { // the first question's are beside the lesson
					b.until(name+": "+figure+" is in the window", `(() => { const low = document.getElementById("lesson").getBoundingClientRect().top, walk = document.createTreeWalker(document.getElementById("page"), NodeFilter.SHOW_TEXT), range = document.createRange(); while (walk.nextNode()) { if (!walk.currentNode.data.includes($) || walk.currentNode.parentElement.closest("#lesson, .vh")) continue; range.selectNode(walk.currentNode); const r = range.getBoundingClientRect(); if (r.height > 0 && r.top >= 0 && r.bottom <= low && walk.currentNode.parentElement.contains(document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2))) return true; } return false; })()`, figure)
				}
				b.until(name+": the page shows "+figure, `document.getElementById("page").innerText.replace(document.getElementById("lesson").innerText, "").includes($)`, figure)
			}
			if dir := os.Getenv("NRT_LESSON_PICTURES"); dir != "" {
				time.Sleep(400 * time.Millisecond)
				b.shot(filepath.Join(dir, fmt.Sprintf("lesson-%d-%02d.png", v.width, i+1)), false)
			}
			if w := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); w > 0 {
				t.Errorf("%s: the page is %d px too wide", name, w)
			}
			if over := eval[int](b, `(e => e.scrollHeight - e.clientHeight)(document.getElementById("why"))`); v.width == desk.width && over > 0 {
				t.Errorf("%s: the panel Why is %d px too high", name, over)
			}
			if v.width == desk.width {
				b.until(name+": the pipeline is seen whole", `document.getElementById("pipeline").getBoundingClientRect().top >= document.getElementById("lesson").getBoundingClientRect().bottom`)
			}
			b.run(chromedp.KeyEvent(kb.Enter)) // on Next, which keeps the focus
		}
		b.until("after the last step the lesson is closed", step+` === "" && document.activeElement.id === "lesson-open"`)
		if have := eval[int](b, `document.querySelectorAll(".shown").length`); have > 0 {
			t.Errorf("%d px: %d panels are still framed", v.width, have)
		}
	}
}

// A first visit is told what the page is about, and the lesson is offered in plain words,
// both before anything is scrolled.
func TestLessonIsOffered(t *testing.T) {
	s := serve(t)
	for _, v := range []view{desk, phone, {width: 1280, height: 720}, {width: 820, height: 1180}} {
		b := open(t, v)
		b.load(s.url())
		for _, sel := range []string{"h1", "#lesson-open"} {
			if !eval[bool](b, `(r => r.width > 40 && r.top >= 0 && r.bottom < 170 && r.right <= innerWidth)(document.querySelector($).getBoundingClientRect())`, sel) {
				t.Errorf("%d px: %s is not to be seen at the top", v.width, sel)
			}
		}
		if have := b.text("#lesson-open"); !strings.HasPrefix(have, "Lesson") {
			t.Errorf("%d px: the way into the lesson says %q", v.width, have)
		}
		if top := eval[float64](b, `document.querySelector("#chain .sent").getBoundingClientRect().bottom`); v.phone && top > 844 {
			t.Errorf("a phone shows no sentence of a chain: the first ends at %.0f px", top)
		}
	}
}

// What the reader had before the lesson is one step back, while the lesson is open and
// after it.
func TestBackLeavesTheLesson(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	for _, closed := range []bool{false, true} {
		b.load(s.url() + "#e=kin&mode=am&z=3&off=4")
		b.until("connected", live)
		b.until("the address says all that is shown", `location.hash.includes("model=")`)
		own := eval[string](b, `location.hash`)
		b.click("#lesson-open")
		b.until("the lesson's question is shown", `document.querySelector("#question").innerText.includes("coins")`)
		b.click("#lesson [data-lesson='1']")
		b.until("the second step opens", step+`.startsWith("2 of")`)
		if closed {
			b.run(chromedp.KeyEvent(kb.Escape))
		}
		b.run(chromedp.Evaluate(`history.back()`, nil))
		b.until("the reader's view is back, without the lesson", step+` === "" && location.search === "" && location.hash === $ && document.querySelector("#chains .ghost") && document.querySelector("#chain h2").textContent === "Chain 3"`, own)
	}
}

func TestLessonByAddress(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url() + "?lesson=3")
	b.until("the third step opens", step+`.startsWith("3 of")`)
	b.until("and its view", `document.querySelector("#pipeline [aria-current]")?.innerText.includes("How sure")`)
	b.click("#lesson [data-lesson='-1']")
	b.until("back", step+`.startsWith("2 of")`)
	if have := eval[string](b, `location.search`); have != "?lesson=2" {
		t.Errorf("the address says %q", have)
	}
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until("Esc closes it", step+` === "" && location.search === "" && document.activeElement.id === "lesson-open"`)

	// A view in the address is the reader's own and stays.
	b.load(s.url() + "?lesson=1#e=step&mode=am")
	b.until("the lesson is open", step+`.startsWith("1 of")`)
	b.until("and the view is the address's", `document.querySelector("input[name=mode]:checked").value === "am"`)
}

// Without the client the lesson's text can still be read, step by step.
func TestLessonWithoutTheClient(t *testing.T) {
	s := serve(t)
	b := open(t, view{width: 1440, height: 900, block: []string{"*://*:*/static/app.wasm*"}})
	b.expect("app.wasm")
	b.run(navigate(s.url()))
	b.until("the page says so", `document.querySelector("#notes").innerText.includes("The controls did not load")`)
	b.click("#lesson-open")
	b.until("the first step", step+`.startsWith("1 of")`)
	b.click("#lesson [data-lesson='1']")
	b.until("the second step", step+`.startsWith("2 of")`)
	if text := b.text("#lesson li.on p"); !strings.Contains(text, "chains of reasoning") {
		t.Errorf("the second step says %q", text)
	}
}
