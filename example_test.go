package nrt_test

import (
	"context"
	"fmt"
	"log"

	"nrt/backend/cpu"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/reward"
	"nrt/trainer/world/models"
)

// What this module does, in one program: a model writes chains of reasoning for a
// question, reads the reference answer after each and after none, and trainer/reward
// says what each chain earned by it. The model is an embedded one; any folder of
// Hugging Face's with a Llama, Mistral or Qwen in it is opened by os.DirFS(folder) in
// its place.
func Example() {
	if err := explain(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// after none     0.207
	// after chain 1  0.448  A +0.87  a) friend emil b) mother kurt c) friend jane d) father lena
	// after chain 2  0.448  A +0.87  a) friend emil b) mother kurt c) friend jane d) father lena
	// after chain 3  0.210  A -0.86  a) friend emil b) mother kurt c) friend kurt d) father carl
	// after chain 4  0.184  A -0.88  hmm here we go again i like it
	// the word that chain 1 earned most with: lena
}

func explain() error {
	files, err := models.Open("world:nrt") // or os.DirFS(folder)
	if err != nil {
		return err
	}
	tok, err := token.LoadFS(files)
	if err != nil {
		return err
	}
	form, err := tok.Format("") // the layout that the model's family asks questions in
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
	results, err := e.Generate(context.Background(), []engine.Request{{
		Prompt: form.Prompt("kin : fay a) friend b) mother c) friend d) father who ?"),
		N:      4, Sampling: engine.Sampling{Temperature: 1}, Seed: 0, MaxChain: 64,
		Close: form.Close, Stop: form.End, StopText: form.StopText,
		Reference: form.Answer("well you see that guy is called lena i guess ."), Baseline: true,
	}}, nil)
	if err != nil {
		return err
	}

	// From here on it is arithmetic: log c of every reference token after every chain,
	// log b after none.
	chains := results[0].Chains
	logc := make([][]float64, len(chains))
	for k, c := range chains {
		logc[k] = engine.LogProbsOf(c.Reference)
	}
	group, err := reward.ScoreGroup(logc, engine.LogProbsOf(results[0].Baseline), reward.Options{Mode: reward.WSLogP, Clip: true})
	if err != nil {
		return err
	}
	fmt.Printf("after none     %.3f\n", group.Base)
	for k, c := range chains {
		text := tok.Decode(engine.IDsOf(c.Tokens), true)
		fmt.Printf("after chain %d  %.3f  A %+.2f  %s\n", k+1, group.Chains[k].R, group.Chains[k].Advantage, text)
	}
	most := 0
	for i, w := range group.Chains[0].Contribution {
		if w > group.Chains[0].Contribution[most] {
			most = i
		}
	}
	fmt.Println("the word that chain 1 earned most with:", tok.Decode(engine.IDsOf(chains[0].Reference)[most:most+1], true))
	return nil
}
