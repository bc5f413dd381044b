package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// chainTexts are the texts of all chains, in the order of their numbers.
func (b *tab) chainTexts() string {
	b.t.Helper()
	var list []string
	for i := range 8 {
		b.click("#chain-" + string(rune('0'+i)))
		b.until("it is shown", `document.querySelector("#chain h2").innerText === $`, "Chain "+string(rune('1'+i)))
		list = append(list, eval[string](b, `[...document.querySelectorAll("#chain .sent")].map(e => [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join("")).join("|")`))
	}
	return strings.Join(list, "\n")
}

// rewards are what each of the chains earns.
func (b *tab) rewards() string {
	b.t.Helper()
	return eval[string](b, `[...Array(8).keys()].map(i => document.querySelector("#chain-" + i + " .r").textContent).join(" ")`)
}

// The slider has the same chains read by the model of another step: dragged, by its
// arrow keys and by the page's; the texts stay, the rewards change, and come back.
func TestSameChainsThroughTraining(t *testing.T) {
	s := serve(t)
	for _, v := range []view{desk, {width: 390, height: 844, phone: true, still: true}} {
		b := open(t, v)
		b.load(s.url())
		b.until("connected", live)
		b.until("the start wrote them", `document.querySelector("#train .at").innerText.includes("wrote these chains")`)
		texts, rewards := b.chainTexts(), b.rewards()
		b.click("#chain-0")
		b.run(chromedp.ScrollIntoView("#step", chromedp.ByQuery))
		// Dragged by the mouse to the middle.
		at := eval[[]float64](b, `(r => [r.left, r.top + r.height / 2, r.width])(document.querySelector("#step").getBoundingClientRect())`)
		b.run(chromedp.MouseEvent("mousePressed", at[0]+10, at[1], chromedp.ButtonLeft, chromedp.ClickCount(1)),
			chromedp.MouseEvent("mouseMoved", at[0]+at[2]/4, at[1], chromedp.ButtonLeft),
			chromedp.MouseEvent("mouseMoved", at[0]+at[2]/2, at[1], chromedp.ButtonLeft),
			chromedp.MouseEvent("mouseReleased", at[0]+at[2]/2, at[1], chromedp.ButtonLeft, chromedp.ClickCount(1)))
		b.until("step 20 reads", reads, "step 20")
		b.until("it is announced", `document.querySelector("#status").innerText.startsWith("Step 20 reads these chains.")`)
		b.until("the page says who wrote them", `document.querySelector("#through").innerText === "These eight chains, written before training, are read by the model of step 20."`)
		b.until("the address says it", `location.hash.includes("read=world%3Anrt%4020")`)
		b.until("the rewards are others", `[...Array(8).keys()].map(i => document.querySelector("#chain-" + i + " .r").textContent).join(" ") !== $`, rewards)
		if have := eval[string](b, `document.querySelector("#chains .bar").innerText`); !strings.Contains(have, "what-if") {
			t.Errorf("the list of chains says %q", have)
		}
		if have := b.chainTexts(); have != texts {
			t.Errorf("the chains are\n%s\nwere\n%s", have, texts)
		}
		if have := eval[string](b, `document.querySelector("#model").value`); have != "world:base" {
			t.Errorf("the model that writes is %s", have)
		}
		// Another formula is worked out from the same probabilities.
		b.until("the picture has five steps", `document.querySelectorAll("#life .pt:not(.none)").length === 5`)
		before := eval[string](b, `document.querySelector("#life svg").getAttribute("aria-label")`)
		if v.phone {
			b.choose("#modeselect", "am")
		} else {
			b.mode("am")
		}
		b.until("the picture follows the formula", `document.querySelector("#life svg").getAttribute("aria-label") !== $`, before)
		// By the keys of the slider, and by the page's.
		b.run(chromedp.Focus("#step", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowRight))
		b.until("→ goes to step 40", reads, "step 40")
		b.run(chromedp.KeyEvent("N"))
		b.until("N goes to step 80", reads, "step 80")
		b.run(chromedp.KeyEvent("P"), chromedp.KeyEvent("P"), chromedp.KeyEvent("P"), chromedp.KeyEvent("P"))
		b.until("P goes back to the start", `document.querySelector("#train .at").innerText.startsWith("step 0 ") && !document.querySelector("#strip h2").innerText.includes("step")`)
		if v.phone {
			b.choose("#modeselect", "ws-logp")
		} else {
			b.mode("ws-logp")
		}
		b.until("the rewards are what they were", `[...Array(8).keys()].map(i => document.querySelector("#chain-" + i + " .r").textContent).join(" ") === $`, rewards)
		// A step of the picture is a step of the slider.
		b.run(chromedp.Evaluate(`document.querySelector("#life .pickable:nth-of-type(4)").dispatchEvent(new MouseEvent("click", {bubbles: true}))`, nil))
		b.until("step 40 reads", reads, "step 40")
		if wide := eval[float64](b, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
			t.Errorf("%d px wide: the page is %g px wider", v.width, wide)
		}
		if out := eval[[]string](b, `[...document.querySelectorAll("#train > *, #train .runs > *")].filter(e => { const r = e.getBoundingClientRect(), p = e.closest(".panel").getBoundingClientRect(); return r.height > 2 && (r.bottom > p.bottom + 1 || r.right > p.right + 1); }).map(e => e.className)`); len(out) > 0 {
			t.Errorf("%d px wide: out of the panel: %q", v.width, out)
		}
	}
}

// New chains are a choice beside the slider, reached by Tab, kept in the address and
// over a reload; a link opens the reader it names.
func TestSameOrNewChains(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url() + "#e=kin&read=world%3Anrt%4040")
	b.until("the link's step reads", reads, "step 40")
	b.run(chromedp.Focus("#slide-same", chromedp.ByQuery), chromedp.KeyEvent(kb.Tab))
	if have := eval[string](b, `document.activeElement.id`); have != "slide-new" {
		t.Fatalf("Tab goes to %q", have)
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until("the step writes", `document.querySelector("#model").value === "world:nrt@40"`)
	b.complete(8)
	b.until("the address says it", `location.hash.includes("slide=new")`)
	b.load(eval[string](b, `location.href`))
	b.until("it is kept", `document.querySelector("#slide-new").getAttribute("aria-pressed") === "true"`)
	// What that step wrote is read at all the others without being asked.
	b.until("five steps have read it", `document.querySelectorAll("#life .pt:not(.none)").length === 5`)
	b.click("#slide-same")
	b.choose("#step", "0")
	b.until("the start reads them", reads, "step 0")
}

// The saved examples are read at all steps without a server.
func TestThroughTrainingOffline(t *testing.T) {
	b, p := behindProxy(t, desk)
	p.refuse(true)
	p.cut()
	b.until("the connection is lost", `document.querySelector("#badge").innerText.includes("Reconnecting")`)
	rewards := b.rewards()
	b.choose("#step", "4")
	b.until("step 80 reads", reads, "step 80")
	if b.rewards() == rewards {
		t.Error("the rewards are the writer's")
	}
}

// The slider's thumb stands where the page is: also where it has the focus and another
// key moves the page, and where the step it was drawn to cannot be had.
func TestSliderStandsAtItsStep(t *testing.T) {
	b, p := behindProxy(t, desk)
	at := func(step string, thumb int) {
		t.Helper()
		b.until(step+" reads", reads, step)
		b.until("the thumb is there", `Number(document.querySelector("#step").value) === $`, thumb)
	}
	b.run(chromedp.Focus("#step", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowRight))
	at("step 10", 1)
	b.run(chromedp.KeyEvent("N"))
	at("step 20", 2)
	b.run(chromedp.KeyEvent(kb.ArrowRight))
	at("step 40", 3)
	p.refuse(true)
	p.cut()
	b.until("the connection is lost", `document.querySelector("#badge").innerText.includes("Reconnecting")`)
	b.choose("#step", "0")
	b.run(chromedp.Focus("#slide-new", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.until("new chains are chosen", `document.querySelector("#slide-new").getAttribute("aria-pressed") === "true"`)
	b.run(chromedp.Focus("#step", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowRight))
	b.until("it is said", `document.querySelector("#status").innerText.startsWith("New chains need the server.")`)
	b.until("the thumb goes back", `document.querySelector("#step").value === "0" && document.querySelector("#train .at").innerText.startsWith("step 0 ")`)
}

// What is slow is read at all steps when that is asked for, by keyboard: the focus goes
// to the slider, and what came of it is said.
func TestReadAtAllSteps(t *testing.T) {
	s := serve(t, "--model", slowModel(t), "--no-train")
	b := open(t, desk)
	b.load(s.url() + "#len=60&k=4&q=who+is+he+%3F&a=so+that+is+false+%21") // of the first model
	b.complete(4)
	b.until("it can be asked for", `document.querySelector("#act-through")?.innerText === "Read at all 5 steps"`)
	if h := eval[float64](b, `document.querySelector("#act-through").getBoundingClientRect().height`); h < 24 {
		t.Errorf("the button is %.0f px high, which a finger misses", h)
	}
	b.run(chromedp.EmulateViewport(phone.width, phone.height))
	frame(b)
	if near := eval[[]string](b, `(r => [...document.querySelectorAll("#train :is(button, input, select)")].filter(e => e.id !== "act-through").map(e => [e.id, e.getBoundingClientRect()]).filter(([, x]) => x.top < r.bottom + 6 && x.bottom > r.top - 6 && x.left < r.right + 6 && x.right > r.left - 6).map(([id]) => id))(document.querySelector("#act-through").getBoundingClientRect())`); len(near) > 0 {
		t.Errorf("on a phone the button touches %v", near)
	}
	b.run(chromedp.EmulateViewport(desk.width, desk.height))
	b.run(chromedp.Focus("#act-through", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.until("five steps have read it", `document.querySelectorAll("#life .pt:not(.none)").length === 5`)
	b.until("it is said", `document.querySelector("#status").innerText.startsWith("All is read. From step 0 to 80 ")`)
	if have := eval[string](b, `document.activeElement.id`); have != "step" {
		t.Errorf("the focus is at %q", have)
	}
}
