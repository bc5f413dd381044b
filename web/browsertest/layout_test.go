package browsertest

import (
	"testing"

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
