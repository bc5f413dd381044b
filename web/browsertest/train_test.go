package browsertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// following is that the panel follows the run and says this of it.
const following = `document.querySelector("#run")?.value === $ && document.querySelector("#train").innerText.includes($)`

// reads is that the model of this step reads the chains.
const reads = `(s => document.querySelector("#train .at").innerText.startsWith(s + " ") && document.querySelector("#train .at").innerText.includes("reads these chains") && document.querySelector("#strip h2").innerText.includes("the model of " + s + " of"))($)`

// train fills in the form and starts a run; name is what the server will call it.
func (b *tab) train(name string, settings map[string]string, upload string) {
	b.t.Helper()
	b.fillTraining(settings, upload)
	b.until("the run is followed", `document.querySelector("#run")?.value === $`, name)
}

func (b *tab) fillTraining(settings map[string]string, upload string) {
	b.t.Helper()
	const opened = `document.querySelector("#traindlg").open`
	for end := time.Now().Add(patience); !b.soon(opened); { // the panel may still be moving as a run ends
		if at := b.aim("#act-open"); at != nil {
			b.run(chromedp.MouseClickXY(at[0], at[1]))
		}
		if time.Now().After(end) {
			b.t.Fatalf("after %v the form is not open", patience)
		}
	}
	for name, value := range settings {
		b.choose("#trainform [name="+name+"]", value)
	}
	if upload != "" {
		b.click("#upload")
		b.until("no file is chosen", `document.querySelector("#upload-note").innerText.includes("Without a file")`)
		b.run(chromedp.SetUploadFiles("#upload", []string{upload}, chromedp.ByQuery))
		b.until("the file is read", `document.querySelector("#upload-note").innerText.includes("checked when the run starts")`)
	}
	frame(b)
	b.click("#traindlg [type=submit]")
	b.until("the form is closed", `!document.querySelector("#traindlg").open`)
}

// The form asks for a formula only where the method has one to choose, and says from
// which model a run starts, by the name that the lists have for it.
func TestTrainingFormulaIsOfNRT(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.click("#act-open")
	const shown = `document.querySelector("[name=train-mode]").checkVisibility()`
	b.until("nrt has formulas", shown+` && document.querySelector("#trainform").innerText.includes("starts from the model before training.")`)
	b.choose("#trainform [name=method]", "rlpr")
	b.until("rlpr has its own", "!"+shown)
	b.choose("#trainform [name=method]", "nrt")
	b.until("nrt again", shown)
}

// small is a run of seconds.
func small(more ...string) map[string]string {
	m := map[string]string{"steps": "12", "questions": "4", "train-k": "4"}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// long is a run that nobody sees the end of.
func long() map[string]string { return small("steps", "2000", "questions", "16", "train-k", "8") }

// Before any run the charts show how the embedded models were trained, and the
// slider goes through them.
func TestSavedRuns(t *testing.T) {
	s := serve(t, "--no-train")
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.until("two runs are drawn", `document.querySelector("#trainchart table tr")?.children.length === 3`)
	if have := b.text("#train"); !strings.Contains(have, "NRT 20 → 100 %") || !strings.Contains(have, "RLPR 20 → 19 %") {
		t.Errorf("the panel says %q", have)
	}
	if !eval[bool](b, `document.querySelector("#act-open").disabled`) {
		t.Error("a server that does not train offers to")
	}
	// The start of a run has no rollouts, so the values are the first that there are;
	// each number has its run.
	nums := func() string {
		return eval[string](b, `[...document.querySelectorAll("#trainchart .num")].map(e => e.textContent).join("|")`)
	}
	b.until("the start is chosen", `document.querySelector("#step").value === "0"`)
	if have := nums(); strings.Contains(have, "–") || strings.Count(have, "NRT ") != 4 || strings.Count(have, "RLPR ") != 4 {
		t.Errorf("at step 0 the charts say %q", have)
	}
	if have := eval[string](b, `document.querySelector("[data-chart=length] .canvas").getAttribute("aria-label")`); !strings.HasPrefix(have, "Length at step 1: NRT ") || strings.Contains(have, "no value") {
		t.Errorf("at step 0 the chart is called %q", have)
	}
	b.choose("#step", eval[string](b, `document.querySelector("#step").max`))
	b.until("the numbers are those of the end", `[...document.querySelectorAll("#trainchart .num")].every(e => /^NRT [0-9].* · RLPR [0-9]/.test(e.textContent))`)
	if cut := eval[[]string](b, `[...document.querySelectorAll("#trainchart figcaption *")].filter(e => { const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect().right > e.closest("figure").getBoundingClientRect().right + 8; }).map(e => e.textContent)`); len(cut) > 0 {
		t.Errorf("wider than its chart: %q", cut)
	}
	b.until("the trained model reads", reads, "step 80")
	b.click("#slide-new")
	b.until("the trained model answers", `document.querySelector("#model").value === "world:nrt"`)
	b.complete(8)
}

// A training run starts, is seen live, survives a reload, and its kept steps can
// be asked.
func TestTrainingRunLive(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.train("run1", small(), "")
	b.until("it ends", following, "run1", "done")
	b.until("its steps are drawn", `document.querySelectorAll("#trainchart table")[0].rows.length > 4 && document.querySelector("#trainchart .num").textContent !== ""`)
	b.until("it is measured", `document.querySelector("#train").innerText.includes("Held-out")`)
	if have := eval[string](b, `document.querySelector("[data-chart=reward] .canvas").getAttribute("aria-label")`); !strings.Contains(have, "at step") {
		t.Errorf("the chart says %q", have)
	}
	b.until("its chart speaks of the last step", `document.querySelector("[data-chart=length] .canvas").getAttribute("aria-label").startsWith("Length at step 12: ")`)
	// The trained model reads the question that is shown.
	b.click("#act-train-read")
	b.until("the trained model answers", `document.querySelector("#model").value === "run1@12"`)
	b.complete(8)
	b.choose("#step", "0")
	b.until("the start reads what the trained model wrote", reads, "step 0")
	if have := eval[string](b, `document.querySelector("#model").value`); have != "run1@12" {
		t.Errorf("the chains are of %s", have)
	}
	b.click("#slide-new")
	b.until("back at the start", `document.querySelector("#model").value === "world:base"`)
	b.complete(8)
	// This reader finds the run after a reload.
	b.load(s.url())
	b.until("the run is there again", following, "run1", "done")
	// The slider has the model of another step read the saved chains, or answer itself.
	b.choose("#step", eval[string](b, `document.querySelector("#step").max`))
	b.until("that step's model reads", reads, "step 12")
	b.click("#slide-new")
	b.until("that step's model answers", `document.querySelector("#model").value === "run1@12"`)
	b.complete(8)
}

// A run belongs to the reader who started it: another opens on the saved pair, hears
// nothing of it from the badge, and can watch it but neither pause nor stop it.
func TestAnotherReadersRun(t *testing.T) {
	s := serve(t)
	b, other := open(t, desk), open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.train("run1", long(), "")
	b.during("the badge tells of it", `document.querySelector("#badge").innerText.includes("Training, step")`)
	other.load(s.url())
	other.until("connected", live)
	other.until("the saved pair is drawn", `document.querySelector("#run").value === "world:nrt" && document.querySelector("#against").value === "world:rlpr"`)
	if have := other.text("#status"); strings.Contains(have, "run") {
		t.Errorf("the status region says %q", have)
	}
	other.choose("#run", "run1")
	other.during("it is watched", following, "run1", "training, now at")
	if have := other.text("#train"); strings.Contains(have, "Stop") || strings.Contains(have, "Pause") || !strings.Contains(other.text("#badge"), "Live") {
		t.Errorf("another reader is offered %q under %q", have, other.text("#badge"))
	}
	b.load(s.url())
	b.during("it is still one's own", following, "run1", "training, now at")
	b.click("#act-train-stop")
	b.until("it stops", following, "run1", "stopped at")
}

// A run pauses, stays paused over a reload, goes on and is stopped.
func TestTrainingPausesAndStops(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.train("run1", long(), "")
	b.during("it trains", following, "run1", "training, now at")
	b.click("#act-train-pause")
	b.until("it pauses", following, "run1", "paused at")
	paused := b.text("#train .at")
	b.load(s.url())
	b.until("it is still paused", following, "run1", "paused at")
	if have := b.text("#train .at"); have != paused {
		t.Errorf("after a reload: %q, before: %q", have, paused)
	}
	b.click("#act-train-resume")
	b.during("it goes on", following, "run1", "training, now at")
	b.click("#act-train-stop")
	b.until("it stops", following, "run1", "stopped at")
	if have := b.text("#act-train-resume"); have != "Train further" {
		t.Errorf("a stopped run offers %q", have)
	}
}

// The server is killed while a run trains; the next one goes on with it.
func TestTrainingSurvivesTheServer(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.expectAway()
	b.load(s.url())
	b.until("connected", live)
	b.train("run1", small("steps", "200"), "")
	b.during("it trains", following, "run1", "training, now at")
	s.stop(syscall.SIGKILL)
	b.until("the page says so", `document.querySelector("#badge").innerText.includes("Reconnecting")`)
	s.start()
	b.run(chromedp.Evaluate(`document.querySelector("#note-reconnect")?.click()`, nil))
	b.until("the run ends", following, "run1", "done")
	b.until("all its steps are drawn", `[...document.querySelectorAll("#trainchart figure:first-child tr:last-child th, #trainchart figure:first-child tr:last-child td")][0].textContent > 180`)
}

// The tables behind the curves hold what the curves end with, and no empty rows.
func TestCurvesAsTables(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("curves are drawn", `document.querySelectorAll("#trainchart canvas").length === 4`)
	last := eval[string](b, `document.querySelector("#train .at").innerText.match(/of (\d+)/)[1]`)
	b.until("the tables are whole", `[...document.querySelectorAll("#trainchart table")].every(t => t.rows.length > 10 && t.rows.length < 14 && [...t.rows].at(-1).cells[0].textContent === $ && [...t.querySelectorAll("td")].every(e => e.textContent))`, last)
}

// Two runs are drawn beside each other, the first dashed.
func TestTwoRunsSideBySide(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.train("run1", small("method", "rlpr"), "")
	b.until("the first ends", following, "run1", "done")
	b.train("run2", small("method", "nrt"), "")
	b.until("the second ends", following, "run2", "done")
	b.until("its number has its name", `/^NRT .* · RLPR /.test(document.querySelector("#trainchart .num").textContent)`)
	const heads = `[...document.querySelector("#trainchart table").rows[0].cells].map(e => e.textContent).join("|")`
	b.until("both are drawn", heads+` === "step|NRT ws-logp · run2|RLPR · run1"`)
	b.choose("#against", "")
	b.until("one is drawn", heads+` === "step|NRT ws-logp · run2"`)
	b.choose("#run", "run1")
	b.until("the other is", heads+` === "step|RLPR · run1"`)
}

// A file of one's own: what is wrong is said with its line; a right one trains.
func TestUpload(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	dir := t.TempDir()
	write := func(name string, lines ...string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	var lines []string
	for i := range 30 {
		lines = append(lines, fmt.Sprintf(`{"question": "calc : %d a) +%d ?", "answer": "the result is %d ."}`, i%10, 1+i%5, (i%10+1+i%5)%10))
	}
	b.fillTraining(small(), write("bad.jsonl", append(lines[:3:3], `{"question": "calc : 1 ?"}`)...))
	b.until("the line is named", `document.querySelector("#notes").innerText.includes("Line 4 of the file")`)
	b.train("run1", small(), write("good.jsonl", lines...))
	b.until("the run ends", following, "run1", "done")
	b.choose("#against", "")
	if have := b.text("#train"); !strings.Contains(have, "right") {
		t.Errorf("the panel says %q", have)
	}
}

// A file that is not taken is not passed over in silence: no run starts without it.
func TestUploadThatIsNotTaken(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.click("#act-open")
	for text, said := range map[string]string{strings.Repeat("x", 1<<20+1): "at most", " \n": "is empty"} {
		file := filepath.Join(t.TempDir(), "file.jsonl")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		b.run(chromedp.SetUploadFiles("#upload", []string{file}, chromedp.ByQuery))
		b.until("it is said", `document.querySelector("#upload-note").innerText.includes($)`, said)
		b.click("#traindlg [type=submit]")
		b.drawn()
		if have := eval[string](b, `document.querySelector("#traindlg").open ? document.querySelector("#upload").validationMessage : "it was sent"`); !strings.Contains(have, said) {
			t.Errorf("a file that %s: %s", said, have)
		}
	}
}

// Two runs of another reader have long names: on a desk they stand in one line and
// nothing scrolls; on a phone nothing is wider than it.
func TestAnothersRunsSideBySide(t *testing.T) {
	s := serve(t)
	a := open(t, desk)
	a.load(s.url())
	a.until("connected", live)
	for _, name := range []string{"run1", "run2"} {
		a.train(name, small(), "")
		a.until(name+" ends", following, name, "done")
	}
	for _, v := range []view{desk, phone} {
		b := open(t, v)
		b.load(s.url())
		b.until("connected", live)
		b.until("both runs can be chosen", `document.querySelector("#run option[value=run1]") && document.querySelector("#against option[value=run2]")`)
		b.choose("#run", "run1")
		b.choose("#against", "run2")
		b.until("both are drawn", `document.querySelector("#train").innerText.includes("run2") && document.querySelectorAll("#trainchart table")[0].rows.length > 4 && document.querySelector("#step")`)
		frame(b)
		if out := eval[[]string](b, `[...document.querySelectorAll("#train *")].filter(e => !e.closest(".vh") && e.checkVisibility() && e.getBoundingClientRect().right > innerWidth).map(e => e.id || e.className || e.tagName)`); len(out) > 0 {
			t.Errorf("at %d px stand outside: %v", v.width, out)
		}
		if v.phone {
			continue
		}
		if over := eval[[]int](b, `(e => [e.scrollHeight - e.clientHeight, document.documentElement.scrollHeight - innerHeight])(document.getElementById("why"))`); over[0] > 0 || over[1] > 0 {
			t.Errorf("the panel Why is %d px too high, the page %d", over[0], over[1])
		}
	}
}

// TestShownRun: a run from the command line is on the page as it stands: its curves,
// beside one that came with the program, its models under the slider, and what is right
// only where both mean the same by it.
func TestShownRun(t *testing.T) {
	nrt, dir := program(t), t.TempDir()
	for _, args := range [][]string{
		{"world", "--out", dir, "--docs", "1", "--train", "40", "--tests", "8"},
		{"train", "--model", "world:base", "--data", dir + "/train.jsonl", "--questions", "2", "--k", "2", "--steps", "4", "--save-every", "2", "--output", dir + "/study/mine"},
	} {
		if out, err := exec.Command(nrt, args...).CombinedOutput(); err != nil {
			t.Fatalf("nrt %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	s := serve(t, "--no-train", "--show-run", dir+"/study/mine")
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.until("two runs are drawn", `document.querySelector("#trainchart table tr")?.children.length === 3`)
	if have := b.text("#train"); !strings.Contains(have, "NRT ws-logp · study/mine") || strings.Contains(have, "right") {
		t.Errorf("the panel says %q", have)
	}
	b.choose("#step", eval[string](b, `document.querySelector("#step").max`))
	b.until("the trained model reads", reads, "step 4")
	b.click("#slide-new")
	b.until("the trained model answers", `document.querySelector("#model").value === "study/mine/final"`)
	b.complete(8)
	if have := b.text("#question"); !strings.HasPrefix(have, "Fay has 12 coins") {
		t.Errorf("the shown run's model is asked %q, and is not known to be of the small world", have)
	}
	if have := eval[[]string](b, `[...document.querySelectorAll("#model option")].map(e => e.textContent)`); slices.Index(have, "before training") < 0 || !slices.Contains(have, "study/mine, step 4") {
		t.Errorf("the models are called %q", have)
	}
}
