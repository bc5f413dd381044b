package browsertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// axe reads the checker of accessibility rules that `make browser-tools` fetched
// from npm.
func axe(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", ".cache", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Skip("no axe-core: make browser-tools fetches it")
	}
	return string(raw)
}

// violations are the rules that the page breaks once nothing moves any more, by the
// checker that was loaded into it. A colour on its way to another is not judged.
func (b *tab) violations() []string {
	b.t.Helper()
	return eval[[]string](b, `Promise.allSettled(document.getAnimations().filter(a => a.effect.getComputedTiming().endTime < Infinity).map(a => a.finished)).then(() => axe.run(document, {resultTypes: ["violations"]})).then(r => r.violations.flatMap(v => v.nodes.slice(0, 4).map(n => v.id + ": " + n.html.slice(0, 160) + " | " + n.failureSummary.replace(/\s+/g, " ").slice(0, 240))))`)
}

// No rule of axe-core is broken: in light and dark, on desk and phone, with the
// dialogs open, with a run in the charts.
func TestAccessibility(t *testing.T) {
	rules := axe(t)
	s := serve(t)
	p := newProxy(t, s.addr)
	for _, v := range []view{desk, {width: 1440, height: 900, dark: true}, phone, {width: 390, height: 844, phone: true, dark: true}} {
		b := open(t, v)
		b.load(p.url())
		b.until("connected", live)
		b.run(chromedp.Evaluate(rules, nil))
		check := func(what string) {
			t.Helper()
			found := b.violations()
			if len(found) > 0 {
				t.Errorf("%s:\n%s", what, strings.Join(found, "\n"))
			}
		}
		name := fmt.Sprintf("%d px, dark %t", v.width, v.dark)
		check(name)
		if !v.phone {
			for _, width := range []int64{720, 1000, 1200} {
				b.run(chromedp.EmulateViewport(width, 600))
				frame(b)
				check(fmt.Sprintf("%d px, dark %t", width, v.dark))
			}
			b.run(chromedp.EmulateViewport(v.width, v.height))
			frame(b)
		}
		b.run(chromedp.Evaluate(`document.getElementById("sent-0").click()`, nil))
		b.until("a what-if is scored", `document.querySelector("#chain .whatif b")?.innerText.includes("the reward")`)
		check(name + ", a sentence off")
		b.run(chromedp.Evaluate(`document.getElementById("lesson-open").click()`, nil))
		check(name + ", the lesson")
		b.run(chromedp.Evaluate(`document.getElementById("lesson-open").click()`, nil))
		if v.phone {
			b.click("#menu-open")
			b.until("the menu is open", menuOpen)
			check(name + ", the menu")
			b.run(chromedp.KeyEvent(kb.Escape))
		}
		b.click("#act-edit")
		p.gate.Lock()
		b.typed("b) friend gus")
		b.until("it is being scored", `document.querySelector("#edit-score .old")`)
		check(name + ", a sentence being scored")
		p.gate.Unlock()
		b.until("it is scored", `document.querySelector("#edit-score .mv") && !document.querySelector("#edit-score .old")`)
		check(name + ", a sentence scored")
		b.run(chromedp.KeyEvent(kb.Escape))
		for _, id := range []string{"ask", "edit", "traindlg", "keys"} {
			b.run(chromedp.Evaluate(bind(`document.getElementById($).showModal()`, []any{id}), nil))
			check(name + ", dialog " + id)
			b.run(chromedp.Evaluate(bind(`document.getElementById($).close()`, []any{id}), nil))
		}
		b.run(chromedp.Evaluate(`location.hash = "#e=kin&model=world:base&k=16"`, nil))
		b.complete(16)
		check(name + ", sixteen chains")
		b.run(chromedp.Evaluate(`location.hash = "#a=lena&q=" + "who+is+lena+%3F+".repeat(200)`, nil))
		b.until("it is shown", `document.querySelector("#question .asked").innerText.length > 1000`)
		check(name + ", a long question")
	}
}
