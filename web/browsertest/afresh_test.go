package browsertest

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// end is one end of a chain that was written afresh, as the page lists it.
type end struct {
	R, Text, Note string
	Was           bool
}

// ends reads the list of the chosen sentence.
func (b *tab) ends() []end {
	b.t.Helper()
	return eval[[]end](b, `[...document.querySelectorAll("#why-fresh li")].map(e => ({R: e.querySelector("b").textContent, Text: e.querySelector("b + span").textContent, Note: e.querySelector("span + .cap")?.textContent ?? "", Was: e.className === "was"}))`)
}

const written = `document.querySelectorAll("#why button.sb").length > 1 && [...document.querySelectorAll("#why button.sb")].every(e => /[0-9]/.test(e.querySelector(".e2")?.textContent ?? ""))`

// Each sentence of a chain is written afresh: the saved example has it before any
// server is asked, a new question gets it by itself, and what is shown is what nrt
// score says of the texts that can be read below.
func TestWrittenAfresh(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("the saved example has it", written)
	b.until("connected", live)
	b.again(8)
	// What is drawn in one frame and in the next may be of different states.
	const drawn = `document.querySelector("#chain h2").innerText === "Chain " + document.querySelector("#chains .chain[aria-pressed=true] sub").textContent`
	b.until("the best chain is shown", drawn)
	for range 8 { // a chain of more than one sentence
		if eval[int](b, `document.querySelectorAll("#chain .sent").length`) > 1 {
			break
		}
		was := b.text("#chain h2")
		b.run(chromedp.KeyEvent("n"))
		b.until("the next chain is shown", drawn+` && document.querySelector("#chain h2").innerText !== $`, was)
	}
	b.until("a new chain is written afresh by itself", written)
	list := b.sentences()
	r := shown(t, b.text("#why-words h3")[len("Why "):strings.Index(b.text("#why-words h3"), ",")])
	for k := range list {
		b.run(chromedp.Evaluate(bind(`document.getElementById("loss-" + $).click()`, []any{k}), nil))
		b.until("its ends are listed", `document.querySelector("#why-fresh")?.textContent.includes("from sentence " + $ + " on")`, k+1)
		if k == 0 { // by keyboard
			b.run(chromedp.Focus("#why-fresh summary", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
		}
		b.until("the list is open", `document.querySelector("#why-fresh").open`)
		before := strings.Join(list[:k], "")
		var chains []string
		var have []float64
		var times []int
		n := 0
		for _, x := range b.ends() {
			m := 1
			if !x.Was {
				if before, ok := strings.CutSuffix(x.Note, " times"); ok {
					m, _ = strconv.Atoi(before)
				}
				n += m
			}
			if x.Text == "nothing: it answered at once" {
				x.Text = ""
			}
			if strings.Contains(x.Text, "<") {
				m = 0 // a special token, which is no text when it is typed
			}
			chains, have, times = append(chains, before+x.Text), append(have, shown(t, x.R)), append(times, m)
		}
		if n != 8 || have[0] != r {
			t.Fatalf("sentence %d: %d ends, and %g as it was instead of %g", k+1, n, have[0], r)
		}
		mean := 0.0
		for j, want := range b.byProgram(chains...) {
			if times[j] > 0 && math.Abs(have[j]-want) > 0.0005+1e-6 {
				t.Errorf("sentence %d: %q: R %g on the page, %g by nrt score", k+1, chains[j], have[j], want)
			}
			if j > 0 {
				mean += float64(max(times[j], 1)) * have[j] / 8
			}
		}
		cell := eval[string](b, `document.querySelector("#loss-" + $ + " .e2").textContent`, k)
		if have := shown(t, cell); math.Abs(have-(mean-r)) > 0.0015 {
			t.Errorf("sentence %d: the change is %s, the list's mean %g less %g", k+1, cell, mean, r)
		}
		if x := eval[float64](b, `(e => { const a = e.querySelector(".wh").getBoundingClientRect(), u = e.querySelector("u").getBoundingClientRect(); return Math.min(u.left + u.width / 2 - a.left, a.right - u.left - u.width / 2); })(document.querySelector("#loss-" + $))`, k); x < -1 {
			t.Errorf("sentence %d: the mean stands %.1f px outside of its whisker", k+1, -x)
		}
	}
	// Another formula: other numbers, of the same chains.
	cells := `[...document.querySelectorAll("#why .e2")].map(e => e.textContent).join()`
	was := eval[string](b, cells)
	b.mode("am")
	b.until("another formula gives other numbers", cells+` !== $`, was)
	b.mode("ws-logp")
	b.until("and the first one the first", cells+` === $`, was)
}

// On a slow model the reader asks for it, sees how far it is, stops it and goes on.
func TestWrittenAfreshByASlowModel(t *testing.T) {
	s := serve(t, "--model", slowModel(t), "--no-train")
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	slow := eval[string](b, `document.querySelector("#model").options[0].value`)
	b.choose("#model", slow)
	b.ask(b.text("#question .asked"), "well you know it is lena", map[string]string{"max_chain": "160", "k": "2"})
	b.complete(2)
	b.until("its sentences can be written afresh", `document.querySelector("#act-fresh")`)
	n := eval[int](b, `document.querySelectorAll("#why button.sb").length`)
	b.run(chromedp.Focus("#act-fresh", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.during("it says how far it is", `document.querySelector("#why [role=progressbar]")?.getAttribute("aria-valuemax") === String($) && `+focused+` === "act-fresh-stop"`, n)
	b.until("the address says so", `location.hash.includes("fresh=")`)
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until("it stops", `!document.querySelector("#why [role=progressbar]") && `+focused+` === "act-fresh"`)
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until("it is done", written+` && !document.querySelector("#why [role=progressbar]")`)
	b.until("the focus is near", `document.activeElement.closest("#why-fresh")`)
	b.until("the status region says so", `document.querySelector("#status").textContent.includes("was written afresh")`)
	if have := eval[string](b, `document.querySelector("#status").textContent`); !regexp.MustCompile(`on average of 8, from \S+ to \S+\.$`).MatchString(have) {
		t.Errorf("it says %q", have)
	}
}

// While sentences are written afresh the panel is no higher than before and after: it
// does not scroll on a desk.
func TestPanelKeepsItsHeightWhileSentencesAreWritten(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	eval[bool](b, `(send => (WebSocket.prototype.send = function (m) { if (!m.includes('"resample"')) send.call(this, m); }, true))(WebSocket.prototype.send)`) // it is never answered
	b.choose("#step", eval[string](b, `document.querySelector("#step").max`))
	b.until("the trained model is to write them", `document.querySelector("#why .fresh .prog")`)
	if over := eval[[]int](b, `(e => [e.scrollHeight - e.clientHeight, document.documentElement.scrollHeight - innerHeight])(document.getElementById("why"))`); over[0] > 0 || over[1] > 0 {
		t.Errorf("the panel is %d px too high, the page %d", over[0], over[1])
	}
}
