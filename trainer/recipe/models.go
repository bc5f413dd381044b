package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/safetensors"
	"nrt/trainer/objective"
	"nrt/trainer/run"
	"nrt/trainer/world"
	"nrt/trainer/world/models"
)

// keptSteps are the steps of a policy that the embedded models keep, beside the
// last: what the page's slider goes through.
var keptSteps = []int{10, 20, 40}

// Maker makes the embedded models into a folder.
type Maker struct {
	Dir   string
	Base  Base
	Dev   device.Device
	World *world.World
	// KeepBase takes the base that Dir holds instead of pretraining one.
	KeepBase bool
	// Progress tells what is being done; its arguments are those of fmt.Printf.
	Progress func(format string, args ...any)

	list []models.Info
	runs []models.Run
}

// Make pretrains the base, puts it through the gate, trains the policies from
// it, and writes all of them with their index. Models are stored as float16, and
// the policies start from the stored base, so that training from world:base is
// what was done here.
func (k *Maker) Make(ctx context.Context) error {
	base, err := k.base(ctx)
	if err != nil {
		return err
	}
	defer base.Free()
	report, err := Gate(ctx, base, k.World, 1400, 1)
	if err != nil {
		return err
	}
	k.Progress("gate: operations copied %.2f %%, states right %.2f %%, chatter first %.0f %%",
		100*report.Role[world.RoleOp].Share(), 100*report.Role[world.RoleState].Share(), 100*report.Chatters.Share())
	if err := report.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrGate, err)
	}
	for _, x := range []struct{ dir, method, about string }{
		{"sft", "sft", "trained from world:base on questions and answers, supervised, no chain"},
		{"rlpr", "rlpr", "trained from world:base by RLPR: the mean probability of the answer's tokens"},
		{"nrt", "nrt:ws-logp", "trained from world:base by NRT, weighted sum with −log p"},
	} {
		if err := k.policy(ctx, base, x.dir, x.method, x.about); err != nil {
			return err
		}
	}
	if err := k.measure(ctx); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(k.list, "", "  ")
	if err != nil {
		return err
	}
	if err := run.WriteFile(filepath.Join(k.Dir, "index.json"), append(raw, '\n')); err != nil {
		return err
	}
	return k.writeRuns()
}

// base pretrains the base, or takes the one that is there.
func (k *Maker) base(ctx context.Context) (*llama.Model, error) {
	info := models.Info{
		Name: "world:base", Dir: "base", Method: string(objective.LM),
		About: "pretrained on the small world's text, where idle chatter is the favourite chain",
	}
	if k.KeepBase {
		k.list = append(k.list, info)
		dir := filepath.Join(k.Dir, info.Dir)
		m, err := llama.Load(k.Dev, os.DirFS(dir))
		if err != nil {
			return nil, fmt.Errorf("the base to keep, %s: %w", dir, err)
		}
		return m, nil
	}
	began := time.Now()
	m, err := k.Base.Pretrain(ctx, k.Dev, k.World, func(update, total int, loss float64, tokens int) {
		if update%200 == 0 || update == total {
			left := time.Duration(float64(time.Since(began)) / float64(update) * float64(total-update))
			k.Progress("base: update %d of %d, loss %.4f, %s left", update, total, loss, left.Round(time.Second))
		}
	})
	if err != nil {
		return nil, err
	}
	return k.store(m, info)
}

func (k *Maker) policy(ctx context.Context, base *llama.Model, dir, method, about string) error {
	p, err := NewPolicy(method, 1)
	if err != nil {
		return err
	}
	noChain := p.Objective.Method == objective.SFT
	p.EvalEvery, p.EvalN = 0, 0
	if !noChain {
		p.Keep = keptSteps
	}
	t, err := p.Train(ctx, base, k.World, func(step int, v run.Values) {
		if step%20 == 0 {
			k.Progress("%s: step %d of %d, reward %.3f, right chains %.0f %%", method, step, p.Steps, v["reward"], 100*v["nrt/kind/right"])
		}
	})
	if err != nil {
		return err
	}
	k.Progress("%s: %d steps in %.1f s", method, p.Steps, t.Seconds)
	defer t.Model.Free()
	course := models.Run{Name: "world:" + dir, Method: method, Steps: p.Steps, Kept: []models.Kept{{Model: k.list[0].Name}}}
	for i, v := range t.Metrics {
		course.Metrics = append(course.Metrics, kept(i+1, v))
	}
	info := models.Info{Name: "world:" + dir, Dir: dir, Method: method, About: about, Step: p.Steps, NoChain: noChain}
	if err := k.write(t.Model, info); err != nil {
		return err
	}
	for _, step := range p.Keep {
		info.Name, info.Dir, info.Step = fmt.Sprintf("world:%s@%d", dir, step), fmt.Sprintf("%s-%d", dir, step), step
		info.About = fmt.Sprintf("world:%s after %d steps", dir, step)
		err := k.write(t.Kept[step], info)
		t.Kept[step].Free()
		if err != nil {
			return err
		}
		course.Kept = append(course.Kept, models.Kept{Step: step, Model: info.Name})
	}
	if !noChain {
		course.Kept = append(course.Kept, models.Kept{Step: p.Steps, Model: course.Name})
		k.runs = append(k.runs, course)
	}
	return nil
}

// keptMetrics are those that the page draws.
var keptMetrics = []string{"reward", "nrt/reward_raw", "nrt/reward_base", "entropy", "completions/mean_length", "frac_reward_zero_std", "loss"}

// kept is a step's metrics as runs.json keeps them: few, to six digits.
func kept(step int, v run.Values) map[string]float64 {
	out := map[string]float64{"step": float64(step)}
	for _, name := range keptMetrics {
		if x, ok := v[name]; ok {
			out[name], _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', 6, 64), 64)
		}
	}
	return out
}

// writeRuns writes runs.json, a line for each step.
func (k *Maker) writeRuns() error {
	raw, err := json.Marshal(k.runs)
	if err != nil {
		return err
	}
	raw = bytes.ReplaceAll(raw, []byte(`},{`), []byte("},\n{"))
	return run.WriteFile(filepath.Join(k.Dir, "runs.json"), append(raw, '\n'))
}

// write stores a model and notes it in the index.
func (k *Maker) write(m *llama.Model, info models.Info) error {
	dir := filepath.Join(k.Dir, info.Dir)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := m.Save(dir, safetensors.F16); err != nil {
		return err
	}
	if err := k.World.Tokenizer().Save(dir); err != nil {
		return err
	}
	k.list = append(k.list, info)
	return nil
}

// store writes a model and reads it back as stored.
func (k *Maker) store(m *llama.Model, info models.Info) (*llama.Model, error) {
	defer m.Free()
	if err := k.write(m, info); err != nil {
		return nil, err
	}
	return llama.Load(k.Dev, os.DirFS(filepath.Join(k.Dir, info.Dir)))
}

// measure fills in the held-out accuracy of every stored model.
func (k *Maker) measure(ctx context.Context) error {
	f, err := k.World.Tokenizer().Format("world")
	if err != nil {
		return err
	}
	items := k.World.HeldOut(420, evalSeed)
	for i := range k.list {
		info := &k.list[i]
		m, err := llama.Load(k.Dev, os.DirFS(filepath.Join(k.Dir, info.Dir)))
		if err != nil {
			return err
		}
		e := engine.New(m, nil, engine.Options{})
		r, err := Evaluate(ctx, e, k.World, f, items, EvalOptions{NoChain: info.NoChain})
		e.Close()
		m.Free()
		if err != nil {
			return err
		}
		info.Accuracy = r.Accuracy
		for i := range k.runs {
			for j := range k.runs[i].Kept {
				if x := &k.runs[i].Kept[j]; x.Model == info.Name {
					x.Accuracy, x.Low, x.High = r.Accuracy, r.Low, r.High
				}
			}
		}
		k.Progress("%-14s %.1f %% of %d held-out questions", info.Name, 100*r.Accuracy, r.N)
	}
	return nil
}
