package browsertest

import (
	"math"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

// fakeSocket stands for the server: it answers an ask with 16 chains of 256
// tokens and a reference of 24, in frames of 25 ms, as fast as a reader can
// follow.
const fakeSocket = `
window.longest = 0;
window.drawings = [];
window.laidOut = [];
for (const name of ["requestAnimationFrame", "setTimeout"]) {
	const real = window[name].bind(window);
	window[name] = (f, ...rest) => real(typeof f !== "function" ? f : (...args) => {
		const from = performance.now();
		window.morphed = false;
		f(...args);
		if (window.morphed) {
			window.drawings.push(performance.now() - from);
			document.body.offsetHeight; // makes the browser lay the page out now
			window.laidOut.push(performance.now() - from);
		}
	}, ...rest);
}
let morph;
Object.defineProperty(window, "nrtMorph", {get: () => (e, html) => { window.morphed = true; morph(e, html); }, set: f => { morph = f; }});
new PerformanceObserver(l => { for (const e of l.getEntries()) window.longest = Math.max(window.longest, e.duration); }).observe({type: "longtask", buffered: true});
window.WebSocket = class extends EventTarget {
	constructor() { super(); this.readyState = 0; this.seq = 0; setTimeout(() => { this.readyState = 1; this.onopen?.({}); }, 10); }
	close() { this.readyState = 3; this.onclose?.({}); }
	say(m) { if (m.t !== "welcome") m.seq = ++this.seq; this.onmessage?.({data: JSON.stringify({v: 1, ...m})}); }
	send(text) {
		const m = JSON.parse(text);
		if (m.t === "hello") this.say({t: "welcome", seq: 0, session: "s", models: [{name: "world:base"}, {name: "wide"}], limits: {k: 16, chain: 512, question: 8192, answer: 4096, steps: 0, upload: 0}});
		if (m.t === "ask") this.answer(m);
	}
	answer(ask) {
		const n = 24, tokens = 256, k = 16, each = 8;
		const random = (s => () => (s = (s * 16807) % 2147483647) / 2147483647)(7);
		const piece = i => ({id: i, text: " word" + i, special: i === n - 1});
		const list = (from, count, p) => ({at: from, ids: Array.from({length: count}, (_, i) => i), texts: Array.from({length: count}, (_, i) => (from + i) % 12 === 11 ? " end." : " word" + (from + i)), logprobs: Array.from({length: count}, p), entropies: Array.from({length: count}, () => 1)});
		this.say({t: "start", id: ask.id, model: ask.model, k, seed: ask.seed, prompt: [piece(0)], answer: Array.from({length: n}, (_, i) => piece(i))});
		this.say({t: "frame", id: ask.id, tokens: [{chain: -1, part: "baseline", ...list(0, n, () => -3 * random())}]});
		let at = 0;
		const step = () => {
			const frame = {t: "frame", id: ask.id, tokens: [], done: []};
			for (let c = 0; c < k; c++) {
				if (at < tokens) frame.tokens.push({chain: c, part: "chain", ...list(at, each, () => -random())});
				else { frame.tokens.push({chain: c, part: "reference", ...list(0, n, () => -3 * random())}); frame.done.push({chain: c, finish: "close", answer: "word"}); }
			}
			this.say(frame);
			at += each;
			if (at <= tokens) setTimeout(step, 25);
			else this.say({t: "end", id: ask.id, seconds: 1});
		};
		step();
	}
};
`

// pace is how much longer things take in this page, on this machine, busy as it is, than
// where the budgets were set; at least 1. It times a piece of work like a drawing's: HTML
// is written, read and walked through.
func (b *tab) pace() float64 {
	b.t.Helper()
	const usual = 5.0 // ms, where the budgets were set
	took := eval[[]float64](b, `(async () => {
		const list = [];
		for (let n = 0; n < 40; n++) {
			await new Promise(done => setTimeout(done));
			const from = performance.now(), t = document.createElement("template");
			let html = "", sum = 0;
			for (let i = 0; i < 2000; i++) html += "<li id=n" + i + "><b>" + (0.37 * i).toFixed(3) + "</b></li>";
			t.innerHTML = html;
			for (const e of t.content.querySelectorAll("b")) sum += Number(e.textContent);
			list.push(performance.now() - from + 0 * sum);
		}
		return list.sort((a, b) => a - b);
	})()`)
	b.t.Logf("a piece of work takes %.1f ms", took[20])
	return max(1, took[20]/usual)
}

// Sixteen chains stream, then formulas are switched, and the page stays quick.
// A switch is all of the client's work: rewards, ranks, HTML, the page's content.
func TestQuickWithSixteenLongChains(t *testing.T) {
	s := serve(t, "--no-train")
	b := open(t, desk)
	b.script(fakeSocket)
	b.load(s.url())
	b.until("connected", live)
	b.choose("#askform [name=k]", "16")
	b.choose("#askform [name=max_chain]", "256")
	b.choose("#model", "wide")
	b.complete(16)

	// The budgets are 50 ms and 16 ms; beside other tests twice that is given. Other
	// programs may compete for the cores, and these may be slow: each time counts by the
	// page's pace, and the best of several rounds.
	const most, budget = 2 * 50, 2 * 16
	streaming, switching, whole := math.Inf(1), math.Inf(1), math.Inf(1)
	for n := 0; n == 0 || n < 8 && (streaming > most || switching > budget); n++ {
		eval[bool](b, `(window.longest = 0, true)`)
		b.again(16)
		longest := eval[float64](b, `window.longest`)
		var took, laid []float64
		for _, mode := range []string{"logp", "am", "ws-1/p", "gm", "p", "ws-logp"} {
			eval[bool](b, `(window.drawings = [], window.laidOut = [], true)`)
			b.mode(mode)
			frame(b)
			took = append(took, eval[float64](b, `Math.max(...window.drawings)`))
			laid = append(laid, eval[float64](b, `Math.max(...window.laidOut)`))
		}
		slices.Sort(took)
		slices.Sort(laid)
		p := b.pace()
		streaming = min(streaming, longest/p)
		switching, whole = min(switching, took[len(took)/2]/p), min(whole, laid[len(laid)/2]/p)
	}
	t.Logf("16 chains × 256 tokens × 24 answer words: longest task while streaming %.0f ms; a switch of the formula %.1f ms (script, median of 6), %.1f ms with the browser's layout; budgets 50 and 16", streaming, switching, whole)
	if streaming > most {
		t.Errorf("a task of %.0f ms while 16 chains stream", streaming)
	}
	if switching > budget {
		t.Errorf("switching the formula takes %.1f ms", switching)
	}
}

// To look where things are makes the browser lay the page out: that is done once all of a
// drawing's content is in its place, and not for each container. What is the same stays,
// the charts too, whose text is dear to lay out.
func TestDrawingDoesNotLook(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.script(`
		let morph, within = false;
		window.looks = [0, 0]; // while a container is drawn, and otherwise
		Object.defineProperty(window, "nrtMorph", {get: () => (e, html) => { within = true; morph(e, html); within = false; }, set: f => { morph = f; }});
		const width = Object.getOwnPropertyDescriptor(Element.prototype, "scrollWidth");
		Object.defineProperty(Element.prototype, "scrollWidth", {get() { looks[within ? 0 : 1]++; return width.get.call(this); }});
	`)
	b.load(s.url())
	b.until("connected", live)
	b.run(chromedp.Evaluate(`looks = [0, 0]; kept = [...document.querySelectorAll("#pipeline .phases, .plot svg")]; chain = location.hash`, nil), chromedp.KeyEvent("n"))
	b.until("what is chosen is looked for", `looks[1] > 0 && location.hash !== chain`)
	if !eval[bool](b, `kept.length === 3 && kept.every(e => e.isConnected)`) {
		t.Error("a chart is made anew")
	}
	if n := eval[int](b, `looks[0]`); n > 0 {
		t.Errorf("%d looks while content is written", n)
	}
}
