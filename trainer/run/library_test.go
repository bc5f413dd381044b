package run

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"nrt/backend/engine"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
)

// What a program that trains may leave out, and what it is told where it is wrong.

func TestSurroundingsMayBeLeftOut(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.SFT)
	c.Train.Steps = 1
	if err := Train(context.Background(), c, Env{Device: dev}); err != nil {
		t.Fatal(err)
	}
	again := c // from a folder
	again.Model = Default(objective.SFT).Model
	again.Model.Path = filepath.Join(c.Output.Dir, finalName)
	again.Output.Dir = filepath.Join(t.TempDir(), "out")
	if err := Train(context.Background(), again, Env{Device: dev}); err != nil {
		t.Fatal(err)
	}
	if err := Train(context.Background(), c, Env{}); err == nil || err.Error() != "no device to compute with" {
		t.Error(err)
	}
}

func TestNoLearner(t *testing.T) {
	l := tinyLearner(t, objective.DefaultConfig(objective.NRT), 0)
	good := optim.Options{Beta1: .9, Beta2: .95, Eps: 1e-8}
	for want, c := range map[string]struct {
		o optim.Options
		s optim.Schedule
	}{
		"optimizer: eps: want > 0":    {optim.Options{}, optim.Schedule{Kind: "constant"}},
		"schedule: unknown kind \"\"": {good, optim.Schedule{LR: 1e-3}},
	} {
		l, err := NewLearner(l.Model, l.Objective, c.o, c.s)
		if l != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q and no learner, have %v, %v", want, err, l)
		}
	}
}

// Rollouts may come from elsewhere, and be cut.
func TestRolloutsThatDoNotFit(t *testing.T) {
	l := tinyLearner(t, objective.DefaultConfig(objective.NRT), 1e-3)
	for want, change := range map[string]func(r *Rollout){
		"rollout 1: prompt: no tokens":                           func(r *Rollout) { r.Prompt = nil },
		"rollout 1: prompt: token 0 is id 13, vocabulary has 13": func(r *Rollout) { r.Prompt = []int32{13} },
		"rollout 1: answer: token 1 is id -1, vocabulary has 13": func(r *Rollout) { r.Answer = []int32{1, -1, 2} },
		"rollout 1: chain 2: tokens: token 0 is id 99, vocabulary has 13": func(r *Rollout) {
			r.Chains[2].Tokens[0].ID = 99
		},
		"rollout 1: chain 0: 65 tokens with prompt and answer exceed the model's 64 positions (max_position_embeddings)": func(r *Rollout) {
			c := engine.Chain{Finish: "length", Reference: r.Chains[0].Reference}
			c.Tokens = make([]engine.Token, 65-len(r.Prompt)-len(r.Answer))
			r.Chains[0] = c
		},
		"rollout 1: chain 2: reference: want the answer's 3 tokens, have 2": func(r *Rollout) {
			r.Chains[2].Reference = r.Chains[2].Reference[:2]
		},
		"rollout 1: chain 0: tokens: want the one that ended it last, have none": func(r *Rollout) {
			r.Chains[0].Closed, r.Chains[0].Finish, r.Chains[0].Tokens = true, "close", nil
		},
		"rollout 1: chain 1: tokens: want the one that ended it last, have none": func(r *Rollout) {
			r.Chains[1].Closed, r.Chains[1].Finish, r.Chains[1].Tokens = false, "stop", nil
		},
		"rollout 1: chain 1: want one end, have a boundary (Closed) and a stop token (Finish)": func(r *Rollout) {
			r.Chains[1].Closed, r.Chains[1].Finish = true, "stop"
		},
	} {
		rolls := tinyRollouts(t, l, tinyQuestions(2), 3)
		change(&rolls[1])
		if _, _, err := l.Learn(context.Background(), rolls); err == nil || err.Error() != want {
			t.Errorf("want %q, have %v", want, err)
		}
		if err := Consult(context.Background(), engine.New(l.Model, nil, engine.Options{}), Layout{Close: l.Close}, true, rolls); err == nil || err.Error() != want {
			t.Errorf("the reference: want %q, have %v", want, err)
		}
	}
	over, end := context.WithCancel(context.Background())
	end()
	if _, _, err := l.Learn(over, tinyRollouts(t, l, tinyQuestions(2), 3)); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: have %v", err)
	}
	if n := l.Objective.State().Step + l.Optim.Updates(); n != 0 {
		t.Errorf("what was refused has counted: %d", n)
	}
}

// Another reference's view takes the place of the first one's.
func TestConsultAgain(t *testing.T) {
	l := tinyLearner(t, objective.DefaultConfig(objective.NRT), 1e-3)
	rolls := tinyRollouts(t, l, tinyQuestions(2), 3)
	for range 2 {
		if err := Consult(context.Background(), engine.New(l.Model, nil, engine.Options{}), Layout{Close: l.Close}, true, rolls); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(rolls[0].Ref); n != 3 {
		t.Errorf("the reference has seen %d chains, want 3", n)
	}
}
