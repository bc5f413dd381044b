package run_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"nrt/backend/cpu"
	"nrt/trainer/objective"
	"nrt/trainer/run"
	"nrt/trainer/world/models"
)

// Two steps of NRT on an embedded model. What "nrt train" takes as flags are fields of
// a Config here, and a folder of Hugging Face's is opened by os.DirFS.
func ExampleTrain() {
	dir, err := os.MkdirTemp("", "nrt")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	questions := filepath.Join(dir, "train.jsonl")
	if err := os.WriteFile(questions, []byte(`{"question": "kin : anna a) boss b) boss c) father who ?", "answer": "well you know that guy must be carl i think !"}
{"question": "bool : false a) or-true b) xor-true c) xor-true ?", "answer": "so that is true ."}
`), 0o644); err != nil {
		log.Fatal(err)
	}
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	c := run.Default(objective.NRT)
	c.Model.Path = "world:base"
	c.Data.Train = []string{questions}
	c.Rollout.Questions, c.Rollout.K = 2, 4
	c.Train.Steps = 2
	c.Output.Dir = filepath.Join(dir, "out")
	err = run.Train(context.Background(), c, run.Env{Device: dev, Open: models.Open, Log: io.Discard, Now: time.Now})
	if err != nil {
		log.Fatal(err)
	}

	metrics, err := run.ReadMetrics(c.Output.Dir)
	if err != nil {
		log.Fatal(err)
	}
	final, err := os.ReadDir(filepath.Join(c.Output.Dir, "final"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(metrics), "steps; the trained model:")
	for _, f := range final {
		fmt.Println(f.Name())
	}
	// Output:
	// 2 steps; the trained model:
	// config.json
	// generation_config.json
	// model.safetensors
	// nrt.json
	// special_tokens_map.json
	// tokenizer.json
	// tokenizer_config.json
}
