package browsertest

import (
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	live    = `document.querySelector("#badge").innerText.trim() === "Live"`
	writing = `!!document.querySelector("#chains [data-act=cancel]") && [...document.querySelectorAll("#chains .wide")].some(e => /[1-9]/.test(e.innerText))`
)

// ranked is that the chains are complete.
const ranked = `(list => list.length > 0 && list.every(e => Number(e.textContent) > 0))([...document.querySelectorAll("#chains .chain .rk")])`

// slow asks the slow model, which the server lists first, for chains of so many tokens.
func (b *tab) slow(tokens int) {
	b.t.Helper()
	b.until("connected", live)
	b.run(chromedp.Evaluate(bind(`location.hash = "len=" + $ + "&model=" + encodeURIComponent(document.querySelector("#model").options[0].value)`, []any{tokens}), nil))
	b.during("chains are being written", writing)
}

// A reader's question is stopped, by the mouse and by keyboard, which then can go on; the
// next one is answered.
func TestCancel(t *testing.T) {
	s := serve(t, "--model", slowModel(t), "--no-train")
	for _, v := range []view{desk, phone} {
		b := open(t, v)
		b.load(s.url())
		b.slow(480)
		for range 2 {
			b.during("chains are being written", writing)
			b.click("#act-cancel")
			b.until("it has stopped", `!document.querySelector("#chains [data-act=cancel]")`)
			if eval[bool](b, ranked) {
				t.Error("it went on to the end")
			}
			b.click("#act-again")
		}
		b.during("chains are being written", writing)
		b.run(chromedp.Focus("#act-cancel", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
		b.until("New chains has the focus", `!document.querySelector("#act-cancel") && document.activeElement.id === "act-again"`)
	}
}

// The connection is cut again and again while chains stream; no token is lost or
// doubled.
func TestSocketCutWhileStreaming(t *testing.T) {
	s := serve(t, "--model", slowModel(t), "--no-train")
	p := newProxy(t, s.addr)
	run := func(url string, cuts int) (map[int]string, []row) {
		b := open(t, desk)
		b.expectAway()
		b.load(url)
		b.slow(160)
		for i := range cuts {
			b.during("chains are being written", writing+` || `+ranked)
			if i > 0 && eval[bool](b, ranked) {
				break // on a slow page the model is done before
			}
			made := p.made()
			if p.cut() == 0 {
				t.Error("nothing to cut")
			}
			for end := time.Now().Add(patience); p.made() == made && time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
				eval[bool](b, `(document.querySelector("#note-reconnect")?.click(), true)`)
			}
			b.during("connected again", live)
		}
		b.complete(8)
		return b.texts(), b.rows()
	}
	want, wantRows := run(s.url(), 0)
	have, haveRows := run(p.url(), 3)
	if !maps.Equal(have, want) {
		t.Errorf("the chains differ:\n%v\n%v", have, want)
	}
	if !slices.Equal(haveRows, wantRows) {
		t.Errorf("the rewards differ:\n%v\n%v", haveRows, wantRows)
	}
}

// The server is killed and started again: the page comes back by itself and asks
// again what was lost.
func TestServerRestart(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.expectAway()
	b.load(s.url())
	b.until("connected", live)
	s.stop(syscall.SIGKILL)
	b.until("the page says so", `document.querySelector("#badge").innerText.includes("Reconnecting") && document.querySelector("#notes").innerText.includes("Connection lost")`)
	// What the browser can do alone, it still does.
	b.mode("am")
	s.start()
	b.until("the page is back", live)
	b.until("the note is gone", `!document.querySelector("#notes").innerText.includes("Connection lost")`)
	b.click("#act-again")
	b.complete(8)
}

// Two readers at once see their own chains, and each those of its seed.
func TestTwoReaders(t *testing.T) {
	s := serve(t, "--model", slowModel(t), "--no-train")
	one, two := open(t, desk), open(t, phone)
	one.load(s.url())
	two.load(s.url())
	one.slow(160)
	two.slow(160)
	one.complete(8)
	two.complete(8)
	if a, b := one.rows(), two.rows(); !slices.Equal(a, b) {
		t.Errorf("the same question has two answers:\n%v\n%v", a, b)
	}
}
