package nrt_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/optim"
	"nrt/trainer/world/models"
)

// An objective of your own is a weight on each token's log-probability, and needs no
// more than this: sample, weigh, forward, backward, update. Here chains that name lena
// are worth 1, all others 0; every token of a chain weighs what the chain is worth
// above the group's mean.
func Example_objective() {
	if err := teach(); err != nil {
		log.Fatal(err)
	}
	// Output: more chains name her: true
}

func teach() error {
	files, err := models.Open("world:base")
	if err != nil {
		return err
	}
	tok, err := token.LoadFS(files)
	if err != nil {
		return err
	}
	form, err := tok.Format("")
	if err != nil {
		return err
	}
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	model, err := llama.Load(dev, files)
	if err != nil {
		return err
	}
	defer model.Free()
	e := engine.New(model, tok, engine.Options{})
	defer e.Close()

	pass, grad := model.NewPass(), model.NewGrad()
	defer pass.Free()
	defer grad.Free()
	var params []optim.Param
	for i, p := range model.Learned() {
		params = append(params, optim.Param{Name: p.Name, Value: p.Value, Grad: grad.Params[i].Value, Decay: p.Decay})
	}
	adam, err := optim.New(dev, params, optim.Options{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, MaxGradNorm: 1, FlatGrad: grad.Flat})
	if err != nil {
		return err
	}
	defer adam.Free()

	prompt := form.Prompt("kin : fay a) friend b) mother c) friend d) father who ?")
	const chains, steps = 16, 8
	var worth [steps]float64 // the group's mean
	for step := range steps {
		results, err := e.Generate(context.Background(), []engine.Request{{
			Prompt: prompt, N: chains, Sampling: engine.Sampling{Temperature: 1}, Seed: uint64(step), MaxChain: 32,
			Close: form.Close, Stop: form.End, StopText: form.StopText,
		}}, nil)
		if err != nil {
			return err
		}
		var b llama.Batch // the chains see the prompt's rows, which are computed once
		read := func(ids []int32, pos int, past ...device.Span) (first int) {
			first = b.Rows()
			for i := range ids {
				b.Pos = append(b.Pos, int32(pos+i))
			}
			b.IDs = append(b.IDs, ids...)
			b.Seqs = append(b.Seqs, device.Seq{Q: device.Span{Start: first, Len: len(ids)}, Past: past, Own: first})
			return first
		}
		read(prompt, 0)
		var t llama.Targets // row Rows[i] predicts token IDs[i]
		var weights []float64
		for _, c := range results[0].Chains {
			ids, r := engine.IDsOf(c.Tokens), 0.0
			if strings.Contains(tok.Decode(ids, true), "lena") {
				r = 1
			}
			worth[step] += r / chains
			row := len(prompt) - 1
			first := read(ids, len(prompt), device.Span{Len: len(prompt)})
			for i, id := range ids {
				t.Rows, t.IDs, weights = append(t.Rows, int32(row)), append(t.IDs, id), append(weights, r)
				row = first + i
			}
		}
		for i := range weights {
			weights[i] = (weights[i] - worth[step]) / chains
		}
		grad.Zero()
		pass.Forward(b)
		pass.Backward(grad, llama.Loss{Targets: t, Fwd: pass.Classify(t), LogProb: weights})
		if _, err := adam.Step(1e-3, 1); err != nil { // clips the gradient, and says if it is not finite
			return err
		}
	}
	if err := dev.Sync(); err != nil {
		return err
	}
	// model.Save and tok.Save write the folder that it can be loaded from again.
	fmt.Println("more chains name her:", worth[steps-1] > worth[0])
	return nil
}
