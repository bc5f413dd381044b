package browsertest

import (
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
				return e !== document.body && !strip.contains(e) && `+pinned+` && r.bottom > pin.top && r.top < pin.bottom - 1 ? e.id || e.className || e.tagName : "";
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
		".chain[aria-pressed=true]": ".chain[aria-pressed=false]", ".seg label:has(:checked)": ".seg label:not(:has(:checked))", ".ph[aria-current] button": ".ph:not([aria-current]) button",
		".tok.on .chip": ".tok:not(.on) .chip", ".sent.is-on": ".sent:not(.is-on)", ".why tr.on": ".why tbody tr:not(.on)", ".sb.on": ".sb:not(.on)",
	} {
		for sel, want := range map[string]string{on: "solid", off: "none"} {
			if have := eval[string](b, `getComputedStyle(document.querySelector($)).outlineStyle`, sel); have != want {
				t.Errorf("%s: its outline is %s, want %s", sel, have, want)
			}
		}
	}
}
