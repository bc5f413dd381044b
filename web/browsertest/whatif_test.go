package browsertest

import (
	"bytes"
	"encoding/json"
	"math"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// ghost is the reward of the reader's variant, "" without one.
const ghost = `(document.querySelector("#chains .ghost .r")?.textContent ?? "")`

// sentences are the shown chain's, as they stand.
func (b *tab) sentences() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("#chain .text .sent")].map(e => { const c = e.cloneNode(true); c.querySelectorAll(".no, .caret, .dr, .vh").forEach(x => x.remove()); return c.textContent; })`)
}

// byProgram is the reward that nrt score gives chains under the page's formula.
func (b *tab) byProgram(chains ...string) []float64 {
	b.t.Helper()
	answer := eval[string](b, `[...document.querySelectorAll("#strip .tok:not(.end) .chip")].map(e => e.textContent).join(" ")`)
	line, err := json.Marshal(map[string]any{"question": b.text("#question .asked"), "answer": answer, "chains": chains})
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(program(b.t), "score", "--model", eval[string](b, `document.querySelector("#model").value`), "--in", "-", "--mode", eval[string](b, `document.querySelector("input[name=mode]:checked").value`), "--json")
	cmd.Stdin = bytes.NewReader(append(line, '\n'))
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("%v: %s\n%s", err, err.(*exec.ExitError).Stderr, line)
	}
	var got scored
	if err := json.Unmarshal(out, &got); err != nil {
		b.t.Fatal(err)
	}
	var list []float64
	for _, c := range got.Chains {
		list = append(list, c.R)
	}
	return list
}

// A sentence is switched off, rewritten and undone; the reward is that of nrt score
// for the chain as it then reads, the group stays what it was, and the address
// opens the same view.
func TestWhatIf(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	group := b.rows()
	list := b.sentences()
	said := regexp.MustCompile(`Without sentence (\d+) the reward would be (\S+) instead of (\S+)\.`).FindStringSubmatch(b.text("#chain .whatif b"))
	if said == nil {
		t.Fatalf("the page says %q", b.text("#chain .whatif"))
	}
	k := int(shown(t, said[1])) - 1
	sentence := "#sent-" + string(rune('0'+k))
	rest := strings.Join(append(append([]string{}, list[:k]...), list[k+1:]...), "")
	near := func(what, have string, want float64) {
		t.Helper()
		if math.Abs(shown(t, have)-want) > 0.0005+1e-6 {
			t.Errorf("%s: R %s on the page, %g by nrt score", what, have, want)
		}
	}
	by := b.byProgram(strings.Join(list, ""), rest)
	near("the chain", said[3], by[0])
	near("without the sentence", said[2], by[1])

	b.click(sentence)
	b.until("the what-if stands beside the group", ghost+` === $`, said[2])
	b.until("it says what the model then answers", `document.querySelector("#chain .whatif")?.innerText.includes("It then answers")`)
	if eval[string](b, `document.querySelector($).getAttribute("aria-pressed")`, sentence) != "false" || eval[int](b, `document.querySelectorAll("#strip .b2").length`) == 0 {
		t.Error("the sentence does not look switched off")
	}
	if have := b.rows(); len(have) != len(group) || have[0] != group[0] || have[len(have)-1] != group[len(group)-1] {
		t.Errorf("the what-if changed the group: %v, before %v", have, group)
	}
	b.mode("am")
	b.until("another formula gives another reward", ghost+` !== $`, said[2])
	near("AM", eval[string](b, ghost), b.byProgram(rest)[0])
	b.mode("ws-logp")

	// Its address opens it again.
	b.until("the address says so", `location.hash.includes("off=")`)
	again := open(t, desk)
	again.expectAway() // it stays open when the server stops
	again.load(eval[string](b, `location.href`))
	again.until("the address opens the what-if", ghost+` === $`, said[2])

	b.run(chromedp.KeyEvent("z", chromedp.KeyModifiers(input.ModifierCtrl)))
	b.until("Ctrl+Z undoes it", ghost+` === ""`)

	// By keyboard: Enter edits, Ctrl+Enter scores.
	b.run(chromedp.Focus(sentence, chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.until("Enter opens the editor", `document.querySelector("#edit").open && document.activeElement.id === "edit-text"`)
	if have := eval[string](b, `document.querySelector("#edit-text").value`); strings.TrimSpace(have) != strings.TrimSpace(list[k]) {
		t.Errorf("the editor has %q, want %q", have, list[k])
	}
	other := "b) friend tom"
	b.run(chromedp.Evaluate(bind(`document.querySelector("#edit-text").value = $`, []any{other}), nil))
	b.run(chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(input.ModifierCtrl)))
	b.until("the editor closes", `!document.querySelector("#edit").open`)
	b.until("the edit is scored", ghost+` !== "" && document.querySelector("#chain .whatif b")?.innerText.startsWith("With your sentence")`)
	written := append([]string{}, list...)
	written[k] = " " + other
	near("rewritten", eval[string](b, ghost), b.byProgram(strings.Join(written, ""))[0])
	b.click("#act-undo")
	b.until("Undo is a button", ghost+` === ""`)
	b.run(chromedp.Focus(sentence, chromedp.ByQuery), chromedp.KeyEvent(kb.Delete))
	b.until("Delete switches off", ghost+` === $`, said[2])
	b.click("#act-switch")
	b.until("Switch on brings it back", ghost+` === ""`)

	// What was scored goes on without a server, and an edit that needs it stays in the
	// editor.
	b.click("#act-edit")
	b.until("the editor is open", `document.querySelector("#edit").open`)
	b.run(chromedp.Evaluate(`document.querySelector("#edit-text").value = "b) friend gus"`, nil))
	b.expectAway()
	s.stop(syscall.SIGTERM)
	b.until("the connection is lost", `!(`+live+`)`)
	b.click("#edit-go")
	b.until("the editor says why", `document.querySelector("#edit").open && document.querySelector("#edit-note").innerText.includes("needs the server")`)
	if have := eval[string](b, `document.querySelector("#edit-text").value`); have != "b) friend gus" {
		t.Errorf("the editor has %q", have)
	}
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until("Esc closes it", `!document.querySelector("#edit").open`)
	b.click(sentence)
	b.until("a saved what-if needs no server", ghost+` === $`, said[2])
}

// On a phone the editor fills the screen and its buttons are large enough.
func TestWhatIfOnAPhone(t *testing.T) {
	s := serve(t)
	b := open(t, phone)
	b.load(s.url())
	b.until("connected", live)
	b.click("#act-edit")
	b.until("the editor is open", `document.querySelector("#edit").open && document.querySelector("#edit-title").innerText === "Edit sentence 4"`)
	frame(b)
	if w := eval[float64](b, `document.querySelector("#edit").getBoundingClientRect().width / innerWidth`); w < 0.99 {
		t.Errorf("the editor has %.0f %% of the width", 100*w)
	}
	small := eval[[]string](b, `[...document.querySelectorAll("#edit button, #edit textarea")].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 43.5).map(e => (e.id || e.className) + " " + e.getBoundingClientRect().height)`)
	if len(small) > 0 {
		t.Errorf("too small to touch: %v", small)
	}
	b.run(chromedp.Evaluate(`document.querySelector("#edit-text").value = ""`, nil))
	b.click("#edit-go")
	b.until("an empty sentence is switched off", `document.querySelector("#chain .sent.off") && document.querySelector("#chain .whatif b").innerText.includes("Without sentence")`)
}

// A dialog stays while its text is marked, wherever the pointer is let go; a click beside it
// closes it.
func TestMarkingTextClosesNoDialog(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.click("#act-edit")
	const opened = `document.querySelector("#edit").open`
	b.until("the sheet is open", opened)
	at := eval[[]float64](b, `(r => [r.left + 60, r.top + 20])(document.querySelector("#edit-text").getBoundingClientRect())`)
	mouse := func(kind input.MouseType, x, y float64) {
		b.run(input.DispatchMouseEvent(kind, x, y).WithButton(input.Left).WithClickCount(1))
	}
	mouse(input.MousePressed, at[0], at[1])
	mouse(input.MouseMoved, 40, at[1])
	mouse(input.MouseReleased, 40, at[1])
	b.drawn()
	if !eval[bool](b, opened) {
		t.Fatal("the sheet is gone, with what was written in it")
	}
	mouse(input.MousePressed, 40, at[1])
	mouse(input.MouseReleased, 40, at[1])
	b.until("it is closed", "!"+opened)
}

// What a menu was opened on goes on: the release of that button need not come.
func TestPanelUnderAMenuIsDrawn(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	at := eval[[]float64](b, `(r => [r.left + 80, r.top + 8])(document.querySelector("#chains .bar").getBoundingClientRect())`)
	b.run(input.DispatchMouseEvent(input.MousePressed, at[0], at[1]).WithButton(input.Right).WithClickCount(1))
	before := b.text("#chains .rows")
	b.run(chromedp.KeyEvent("1"))
	b.until("the chains are ranked by logP", `document.querySelector("#chains .rows").innerText.replace(/\s+/g, " ").trim() !== $`, before)
}
