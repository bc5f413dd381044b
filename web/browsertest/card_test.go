package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	cardOpen = `document.querySelector("#card").matches(":popover-open")`
	focused  = `document.activeElement?.id`
)

// box is where an element stands.
type box struct{ Left, Top, Right, Bottom float64 }

func (b *tab) box(selector string) box {
	b.t.Helper()
	return eval[box](b, `(r => ({Left: r.left, Top: r.top, Right: r.right, Bottom: r.bottom}))(document.querySelector($).getBoundingClientRect())`, selector)
}

// beside fails unless the card is whole within the window and not over its word.
func (b *tab) beside(word string) {
	b.t.Helper()
	card, w := b.box("#card"), b.box(word)
	width, height := eval[float64](b, `document.documentElement.clientWidth`), eval[float64](b, `innerHeight`)
	if card.Left < 0 || card.Top < 0 || card.Right > width || card.Bottom > height {
		b.t.Errorf("the card of %s is at %+v in a window of %g × %g", word, card, width, height)
	}
	if card.Left < w.Right && w.Left < card.Right && card.Top < w.Bottom && w.Top < card.Bottom {
		b.t.Errorf("the card at %+v covers %s at %+v", card, word, w)
	}
}

// point moves the mouse onto the middle of an element.
func (b *tab) point(selector string) {
	b.t.Helper()
	x := b.box(selector)
	b.run(chromedp.MouseEvent(input.MouseMoved, (x.Left+x.Right)/2, (x.Top+x.Bottom)/2))
}

// By keyboard: the card comes with the focus, Enter goes into it, Esc closes it and
// the focus is where it was.
func TestCardByKeyboard(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	word := eval[string](b, `document.querySelector("#strip [tabindex='0'][id^=word-]").id`)
	// The focus comes as it does by Tab.
	b.run(chromedp.Focus("#colour", chromedp.ByQuery), chromedp.KeyEvent(kb.Tab))
	b.until("Tab reaches the words", focused+` === $ && `+cardOpen, word)
	if eval[string](b, `document.getElementById($).getAttribute("aria-expanded")`, word) != "true" {
		t.Error("the word does not say that its card is open")
	}
	b.beside("#" + word)
	b.run(chromedp.KeyEvent(kb.ArrowLeft))
	b.until("the card goes along", focused+` !== $ && `+cardOpen+` && document.querySelector("#card-name").textContent.startsWith(document.activeElement.querySelector(".chip").textContent)`, word)
	word = eval[string](b, focused)
	b.beside("#" + word)
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until("Enter goes into the card", focused+` === "card-close"`)
	if have, want := eval[string](b, `document.getElementById(document.querySelector("#card").getAttribute("aria-labelledby")).textContent`), b.text("#"+word+" .chip"); have != want+", in detail" {
		t.Errorf("the card is called %q, the word %q", have, want)
	}
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until("Esc closes it, and the focus is back", `!(`+cardOpen+`) && `+focused+` === $`, word)
	frame(b)
	if eval[bool](b, cardOpen) {
		t.Error("the returning focus opened it again")
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until("it opens again", focused+` === "card-close"`)
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until("its button closes it", `!(`+cardOpen+`) && `+focused+` === $`, word)
	b.run(chromedp.KeyEvent(kb.ArrowRight))
	b.until("another word has its card", cardOpen)
	b.run(chromedp.KeyEvent(kb.Tab))
	b.until("a card that is not pinned can be reached", focused+` === "card-close"`)
	b.run(chromedp.KeyEvent(kb.Tab))
	b.until("and goes with the focus", `!(`+cardOpen+`)`)
}

// By mouse: it opens where the pointer rests, can be reached, and a click pins it.
func TestCardByMouse(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.point("#word-2")
	b.until("the card opens", cardOpen)
	b.beside("#word-2")
	b.point("#card .cap")
	if !eval[bool](b, `new Promise(done => setTimeout(() => done(`+cardOpen+`), 500))`) {
		t.Error("the card closes before it can be read")
	}
	b.point("#chain .chain-h")
	b.until("it goes with the pointer", `!(`+cardOpen+`)`)
	b.click("#word-3")
	b.until("a click pins it", cardOpen)
	b.point("#chain .chain-h")
	if !eval[bool](b, `new Promise(done => setTimeout(() => done(`+cardOpen+`), 500))`) {
		t.Error("a pinned card goes with the pointer")
	}
	before := b.text("#card")
	b.run(chromedp.KeyEvent("n"))
	b.until("it is of the chain that is shown", `document.querySelector("#card").innerText.replace(/\s+/g, " ").trim() !== $`, before)
	b.click("#card-close")
	b.until("its button closes it", `!(`+cardOpen+`)`)
}

// Where the page moves under a pointer that rests, no card opens: the reader has pressed
// something and the words came to lie there.
func TestNoCardUnderARestingPointer(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	word, head := b.box("#word-2"), b.box("#reading .strip-h")
	x, y := (word.Left+word.Right)/2, (head.Top+head.Bottom)/2
	b.run(chromedp.MouseClickXY(x, y))
	moved := eval[bool](b, `(e => {
		e.style.position = "relative";
		e.style.top = $ + "px";
		return document.elementFromPoint($, $)?.closest("#word-2") !== null;
	})(document.body)`, y-(word.Top+word.Bottom)/2, x, y)
	if !moved {
		t.Fatal("the word is not under the pointer")
	}
	if !eval[bool](b, `new Promise(done => setTimeout(() => done(!(`+cardOpen+`)), 700))`) {
		t.Error("a card opens though the pointer rests")
	}
	b.point("#chain .chain-h")
	b.point("#word-2")
	b.until("the card opens", cardOpen)
}

// On a phone it fits, its button is large enough, and a tap elsewhere closes it.
func TestCardOnAPhone(t *testing.T) {
	s := serve(t)
	for _, v := range []view{phone, {width: 320, height: 568, phone: true}} {
		b := open(t, v)
		b.load(s.url())
		b.until("connected", live)
		n := eval[int](b, `document.querySelectorAll("#strip .tok").length`)
		for _, k := range []int{0, n / 2, n - 1} {
			word := "#word-" + string(rune('0'+k%10))
			if k > 9 {
				word = "#word-1" + string(rune('0'+k-10))
			}
			b.tap(word)
			b.until("a tap opens the card", cardOpen+` && document.querySelector($).getAttribute("aria-expanded") === "true"`, word)
			frame(b)
			b.beside(word)
			if c := b.box("#card-close"); c.Bottom-c.Top < 43.5 || c.Right-c.Left < 43.5 {
				t.Errorf("too small to touch: %+v", c)
			}
		}
		b.tap("#question")
		b.until("a tap elsewhere closes it", `!(`+cardOpen+`)`)
	}
}

// tap touches an element. A browser without a screen makes no clicks of touches, so
// the events are those that one with a screen sends.
func (b *tab) tap(selector string) {
	b.t.Helper()
	b.run(chromedp.Evaluate(bind(`(e => {
		e.scrollIntoView({block: "nearest", behavior: "instant"});
		for (const [name, detail] of [["pointerdown", 0], ["pointerup", 0], ["click", 1]]) e.dispatchEvent(new PointerEvent(name, {pointerType: "touch", detail, bubbles: true, cancelable: true}));
	})(document.querySelector($))`, []any{selector}), nil))
	frame(b)
}

// The card breaks no rule of axe-core, in light and dark.
func TestCardIsAccessible(t *testing.T) {
	rules := axe(t)
	s := serve(t)
	for _, v := range []view{desk, {width: 1440, height: 900, dark: true}, phone, {width: 390, height: 844, phone: true, dark: true}} {
		b := open(t, v)
		b.load(s.url())
		b.until("connected", live)
		b.run(chromedp.Evaluate(rules, nil))
		for k := range 2 {
			b.run(chromedp.Evaluate(bind(`document.getElementById("word-" + $).click()`, []any{k}), nil))
			b.until("the card is open", cardOpen)
			if found := b.violations(); len(found) > 0 {
				t.Errorf("%d px, dark %t:\n%s", v.width, v.dark, strings.Join(found, "\n"))
			}
		}
	}
}
