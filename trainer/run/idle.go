package run

import (
	"fmt"
	"slices"
	"strings"

	"nrt/trainer/objective"
	"nrt/trainer/reward"
)

// Groups of methods that read the same options. A new method is in those that its row
// of objective's table says, and in the others until it is taken out.
var (
	chainMethods  = those(objective.Method.Rollouts)
	scoreMethods  = those(objective.Method.Scores)                        // reward by package reward
	spreadMethods = without(chainMethods, objective.JEPO, objective.STaR) // centre rewards within a group
	deriveMethods = without(chainMethods, objective.RLPR, objective.STaR) // have a token weight of their own
	answerMethods = without(objective.Methods(), objective.LM)            // are asked questions
)

func those(are func(objective.Method) bool) []objective.Method {
	return slices.DeleteFunc(objective.Methods(), func(m objective.Method) bool { return !are(m) })
}

func without(list []objective.Method, out ...objective.Method) []objective.Method {
	return slices.DeleteFunc(slices.Clone(list), func(m objective.Method) bool { return slices.Contains(out, m) })
}

// means is the table of options that mean something to some methods only, and
// where one also needs another option, of that. What is not in it concerns all runs.
var means = map[string]struct {
	to    []objective.Method
	when  string // what else it takes, in words and in code
	holds func(Config) bool
}{
	"model.hidden":         {to: objective.Methods(), when: newModel, holds: makesModel},
	"model.layers":         {to: objective.Methods(), when: newModel, holds: makesModel},
	"model.heads":          {to: objective.Methods(), when: newModel, holds: makesModel},
	"model.kv_heads":       {to: objective.Methods(), when: newModel, holds: makesModel},
	"model.intermediate":   {to: objective.Methods(), when: newModel, holds: makesModel},
	"model.positions":      {to: objective.Methods(), when: newModel, holds: makesModel},
	"model.tie_embeddings": {to: objective.Methods(), when: newModel, holds: makesModel},
	"model.vocab": {to: objective.Methods(), when: "a new tokenizer, which takes neither --model nor --tokenizer", holds: func(c Config) bool {
		return c.Model.New() && c.Model.Tokenizer == ""
	}},

	"lora.alpha":   {to: objective.Methods(), when: "--lora-rank above 0", holds: func(c Config) bool { return c.LoRA.On() }},
	"lora.modules": {to: objective.Methods(), when: "--lora-rank above 0", holds: func(c Config) bool { return c.LoRA.On() }},

	"data.max_prompt": {to: answerMethods},
	"data.answer_regex": {to: answerMethods, when: "answers to compare, which --method rlvr and star have, and evaluations (--held-out or --eval-data)", holds: func(c Config) bool {
		return c.Objective.Method.Verifies() || c.evaluates() && c.Eval.Answers
	}},
	"eval.every":   {to: objective.Methods(), when: examined, holds: Config.evaluates},
	"eval.n":       {to: objective.Methods(), when: examined, holds: Config.evaluates},
	"eval.answers": {to: answerMethods, when: examined, holds: Config.evaluates},
	"eval.k":       {to: chainMethods, when: examined, holds: Config.evaluates},

	"rollout.k":           {to: chainMethods},
	"rollout.max_chain":   {to: chainMethods},
	"rollout.temperature": {to: answerMethods, when: examined, holds: Config.draws},
	"rollout.top_p":       {to: answerMethods, when: examined, holds: Config.draws},
	"rollout.top_k":       {to: answerMethods, when: examined, holds: Config.draws},
	"rollout.min_p":       {to: answerMethods, when: examined, holds: Config.draws},

	"objective.reward_mode": {to: scoreMethods},
	"objective.normalize_weights": {to: scoreMethods, when: "--reward-mode ws-1/p or ws-logp", holds: func(c Config) bool {
		return c.Objective.Reward.Mode == reward.WSInvP || c.Objective.Reward.Mode == reward.WSLogP
	}},
	"objective.reward_clip": {to: scoreMethods},
	"objective.base_floor": {to: scoreMethods, when: "--reward-mode ws-1/p", holds: func(c Config) bool {
		return c.Objective.Reward.Mode == reward.WSInvP
	}},
	"objective.no_std": {to: spreadMethods},
	"objective.sigma_floor": {to: spreadMethods, when: "--no-std=false", holds: func(c Config) bool {
		return !c.Objective.Reward.NoStd
	}},
	"objective.ema_decay": {to: spreadMethods, when: "--sigma-floor, or rlpr's --filter-beta", holds: func(c Config) bool {
		return c.Objective.SigmaFloor && !c.Objective.Reward.NoStd || c.Objective.Method == objective.RLPR && c.Objective.FilterBeta > 0
	}},
	"objective.token_cap": {to: deriveMethods, when: "--token-loss derived", holds: func(c Config) bool {
		return c.Objective.TokenLoss == objective.Derived
	}},
	"objective.lambda_trace": {to: chainMethods},
	"objective.lambda_token": {to: objective.Methods(), when: "--token-loss derived or nll", holds: func(c Config) bool {
		return c.Objective.TokenLoss != objective.Off
	}},
	"objective.ratio":     {to: chainMethods},
	"objective.clip_low":  {to: chainMethods, when: "--ratio", holds: func(c Config) bool { return c.Objective.Ratio }},
	"objective.clip_high": {to: chainMethods, when: "--ratio", holds: func(c Config) bool { return c.Objective.Ratio }},
	"objective.length_constant": {to: objective.Methods(), when: "--length-norm constant", holds: func(c Config) bool {
		return c.Objective.LengthNorm == objective.NormConstant
	}},
	"objective.format_weight": {to: answerMethods},
	"objective.format_per_length": {to: answerMethods, when: "--format-weight above 0", holds: func(c Config) bool {
		return c.Objective.Format > 0
	}},
	"objective.kl":             {to: chainMethods},
	"objective.entropy":        {to: chainMethods},
	"objective.fixed_baseline": {to: scoreMethods},
	"objective.format_reward":  {to: []objective.Method{objective.RLPR}},
	"objective.filter_beta":    {to: []objective.Method{objective.RLPR}},
	"objective.filter_from": {to: []objective.Method{objective.RLPR}, when: "--filter-beta above 0", holds: func(c Config) bool {
		return c.Objective.FilterBeta > 0
	}},

	"optim.decay": {to: objective.Methods(), when: "--schedule wsd", holds: func(c Config) bool { return c.Optim.Schedule == "wsd" }},
	"optim.min_lr_ratio": {to: objective.Methods(), when: "--schedule linear, cosine or wsd", holds: func(c Config) bool {
		return c.Optim.Schedule != "constant"
	}},

	"train.epochs": {to: objective.Methods(), when: "--steps 0, which takes as many as they need", holds: func(c Config) bool { return c.Train.Steps == 0 }},

	"output.completions": {to: chainMethods},
}

// What else several options take, in words and in code.
const (
	newModel = "a new model, which is made where --model names none"
	examined = "questions to evaluate on (--held-out or --eval-data)"
)

func makesModel(c Config) bool { return c.Model.New() }

// evaluates tells whether the run has anything to evaluate on.
func (c Config) evaluates() bool { return c.Data.HeldOut > 0 || len(c.Data.Eval) > 0 }

// draws tells whether the run samples anything.
func (c Config) draws() bool { return c.Objective.Method.Rollouts() || c.evaluates() && c.Eval.Answers }

// Idle is an error for the first option whose value was chosen and has no effect:
// who sets one believes that it has. A value that the method or the run that goes on
// has of its own was not chosen, so that presets, and the files that PrintConfig writes,
// pass; but a switch that the flags given turn on was.
func (c Config) Idle(own Config, given ...string) error {
	was := own.options()
	for i, o := range c.options() {
		m, ok := means[o.path()]
		chosen := o.text() != was[i].text() || o.text() == "true" && slices.Contains(given, o.flag)
		if !ok || !chosen {
			continue
		}
		if !slices.Contains(m.to, c.Objective.Method) {
			names := make([]string, len(m.to))
			for i, m := range m.to {
				names[i] = string(m)
			}
			return fmt.Errorf("%s: has no effect with --method %s, only with %s: leave it out, have %s", o.where(), c.Objective.Method, strings.Join(names, ", "), o.text())
		}
		if m.holds != nil && !m.holds(c) {
			return fmt.Errorf("%s: has no effect without %s: leave it out, have %s", o.where(), m.when, o.text())
		}
	}
	return nil
}
