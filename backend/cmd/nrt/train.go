package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"nrt/backend/device"
	"nrt/trainer/objective"
	"nrt/trainer/run"
)

func trainCommand() *command {
	return &command{
		name: "train", group: groupTrain, args: "--data F.jsonl [flags]",
		short: "train a model on questions and answers, or on text",
		long: `
Each line of the data, or row of a Parquet file, has the fields {"question",
"answer"}, {"prompt", "completion"}, {"prompt", "answer"}, {"messages": [...]} or,
with --method lm, {"text"}; --question-field and --answer-field name other fields.
No chains of reasoning are given: the model samples its own, and they are rewarded
by what they do to the probability of the answer.

Without --model a new, small model is made, and a tokenizer is trained on the
data. The output folder gets checkpoint-N/ (Hugging Face folders that hold all a
resume needs), metrics.jsonl (TRL's names), completions.jsonl (chains to read),
run.json (what the run is) and final/ (the trained model). A run stopped at any
moment goes on with --output DIR --resume as if it had never stopped: it knows its
own flags, refuses those that would change the result, and with --print-config
writes all down.

With --lora-rank the model stays as it is and thin factors beside its matrices
learn, in a fraction of the memory; checkpoints are then adapters as PEFT has
them, which --model takes too, and final/ is the two merged.`,
		examples: []string{
			"nrt train --method sft --data train.jsonl --held-out 0.02 --lr 1e-3 --output out/sft",
			"nrt train --model out/sft/final --data train.jsonl --k 8 --questions 16 --lr 1e-4 --max-chain 48 --output out/nrt",
			"nrt train --method rlvr --model DIR --data train.jsonl --held-out 0.02 --answer-regex '#### (.*)' --output out/rlvr",
			"nrt train --model DIR --lora-rank 16 --lr 2e-5 --data train.jsonl --output out/lora",
			"nrt train --config run.yaml --resume=auto",
			"nrt train --output out/nrt --resume",
			"nrt train --method rlpr --print-config > run.yaml",
		},
		prepare: run.Args,
		more: func(w io.Writer) {
			fmt.Fprintf(w, "  --config FILE   YAML file with the configuration; flags override it\n%s", run.FlagHelp())
		},
		bind: func(f *flags) func(*env) error {
			show := false
			f.toggle(&show, "print-config", "print the configuration, with every option's meaning, and stop")
			f.note("weights", "F", "f32, in which training keeps its weights; no other is taken", "")
			f.set.Func("weights", "", func(v string) error {
				if v != device.F32.String() {
					return fmt.Errorf("training keeps weights in f32, have %q; bf16 and q8 are for models that only answer, such as \"nrt generate\"", v)
				}
				return nil
			})
			options := run.AddFlags(f.set)
			return func(e *env) error {
				c, err := options.Config()
				if err != nil {
					return &usageError{err}
				}
				if show {
					return run.PrintConfig(e.out, c)
				}
				return e.train(c)
			}
		},
	}
}

// next says what can be done with what a run has made.
func (e *env) next(c run.Config) {
	final := filepath.Join(c.Output.Dir, "final")
	if c.Objective.Method == objective.LM {
		fmt.Fprintf(e.err, "next: nrt generate --model %s --prompt \"…\"\n", final)
		return
	}
	data, question := " --data FILE", " --question \"…\" --answer \"…\""
	if files, err := e.files(final); err == nil && e.kin(files) != nil {
		data, question = "", "" // the small world's own
	}
	if c.Objective.Method == objective.SFT { // as its own evaluations ask
		data += " --no-chain"
	}
	fmt.Fprintf(e.err, "next: nrt serve --show-run %s\n      nrt eval --model %s%s\n      nrt explain --model %s%s\n", c.Output.Dir, final, data, final, question)
}

// train runs a configuration to its end.
func (e *env) train(c run.Config) (err error) {
	// Of "nrt train … | less" the second may be left first.
	signal.Ignore(syscall.SIGPIPE)
	on, err := device.ParseChoice(c.Train.Device) // as validated
	if err != nil {
		return err
	}
	dev, err := e.compute(deviceFlags{on: choiceFlag{on}, dtype: typeFlag(c.Train.DType), threads: c.Train.Threads})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	// Kind and type decide the result, so a resume must find them again; of cards it
	// takes the same where no other is named.
	on.Name = dev.kind
	c.Train.Device, c.Train.DType = on.String(), dev.dtype
	err = run.Train(e.ctx, c, run.Env{
		Device: dev, Open: func(name string) (fs.FS, error) { return e.modelFiles(name) },
		Log: e.err, Terminal: e.watched, Now: time.Now, Free: dev.free(),
	})
	if err == nil {
		e.next(c)
	}
	var wrong *run.ConfigError
	if errors.As(err, &wrong) {
		return &usageError{err}
	}
	if e.ctx.Err() == nil || !run.OnlyStopped(err) {
		return err
	}
	last, lastErr := run.LastCheckpoint(c.Output.Dir)
	if lastErr != nil {
		return errors.Join(err, lastErr)
	}
	if last == "" {
		return &stoppedError{fmt.Sprintf("no step was finished, and %s holds no checkpoint", c.Output.Dir)}
	}
	return &stoppedError{fmt.Sprintf("the same command with --resume goes on from %s", last)}
}
