package main

import (
	"cmp"
	"slices"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/reward"
	"nrt/trainer/verdict"
)

// rewardFlags choose the reward.
type rewardFlags struct {
	mode string
	reward.Options
}

func (r *rewardFlags) bind(f *flags) {
	r.mode, r.Clip = reward.WSLogP.String(), true
	f.text(&r.mode, "mode", "MODE", "the reward: logp, p, gm, am, ws-1/p or ws-logp")
	f.toggle(&r.NormalizeWeights, "normalize-weights", "make the weights of ws-1/p and ws-logp sum to 1")
	f.toggle(&r.Clip, "clip", "a chain that scores no higher than no chain gets 0")
	f.toggle(&r.NoStd, "no-std", "advantages: a chain's reward less the mean of the others', not divided by the spread")
}

func (r *rewardFlags) parse() error {
	m, err := reward.ParseMode(r.mode)
	if err != nil {
		return usagef("--mode: %w", err)
	}
	r.Options.Mode = m
	return nil
}

// judge scores a result whose reference is ids.
func (l *loaded) judge(question, answer string, form *token.Format, ids []int32, res engine.Result, o reward.Options) (verdict.Verdict, reward.Group, error) {
	return verdict.Judge(verdict.Question{Model: l.name, Question: question, Answer: answer, Reference: ids}, l.tok, form, res, o)
}

// ranking lists the chains from the highest reward down, equal ones in order.
func ranking(g reward.Group) []int {
	order := make([]int, len(g.Chains))
	for i := range order {
		order[i] = i
	}
	rank := g.Ranks()
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[a], rank[b]) })
	return order
}
