package browsertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestShownRunIsFollowed: a page stands open beside a run that another process trains. Its
// curves grow, its slider has the models that there are, and it says where the run stands.
func TestShownRunIsFollowed(t *testing.T) {
	nrt, dir := program(t), t.TempDir()
	if out, err := exec.Command(nrt, "world", "--out", dir, "--docs", "1", "--train", "4000", "--tests", "8").CombinedOutput(); err != nil {
		t.Fatalf("nrt world: %v\n%s", err, out)
	}
	run := filepath.Join(dir, "study", "mine")
	train := func(more ...string) *exec.Cmd {
		cmd := exec.Command(nrt, append([]string{"train", "--model", "world:base", "--data", dir + "/train.jsonl", "--threads", "1",
			"--questions", "48", "--k", "8", "--mini-batch", "0", "--max-chain", "20", "--steps", "2000", "--save-every", "5", "--output", run}, more...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd
	}
	trainer := train()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(run, "run.json")); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the run does not begin")
		}
	}
	s := serve(t, "--no-train", "--show-run", run)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	const says = `document.querySelector("#train .at").innerText.includes($)`
	const drawn = `Number([...document.querySelectorAll("#trainchart table tr")].at(-1)?.cells[0].textContent ?? 0)`
	const kept = `[...document.querySelectorAll("#model option")].map(e => Number(e.textContent.match(/^study.mine, step (\d+)$/)?.[1])).filter(n => n > 0)`
	b.during("it trains", says, "training, now at ")
	b.choose("#against", "")
	before := eval[int](b, drawn)
	b.during("its curves grow", drawn+" > $", before+5)
	b.during("its slider has later models and no early one", kept+".length > 0 && Math.min(..."+kept+") > 5")
	if err := trainer.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = trainer.Wait()
	b.until("it is stopped", says, "stopped at ")
	b.choose("#step", eval[string](b, `document.querySelector("#step").max`))
	b.until("its last model reads", `document.querySelector("#train .at").innerText.includes(" reads these chains")`)
	train("--resume")
	b.during("it goes on", says, "training, now at ")
}
