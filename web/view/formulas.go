package view

import "nrt/trainer/reward"

// Formula is what the page says of a reward formula.
type Formula struct {
	Mode   reward.Mode
	Label  string // its name
	Means  string // what its button says
	detail string // in the pipeline's box
	say    string // and below it, on a phone
	note   string // below the table word by word, as markup
}

const (
	signC    = `<span class="v">c</span>`
	signW    = `<span class="v">w</span>`
	signBase = signC + `<sub>base</sub>`
)

// Formulas are the six in the page's order, which is that of their modes.
var Formulas = [...]Formula{
	{reward.LogP, "logP", "logarithm of the answer’s probability", "log of the answer's chance",
		"The logarithm of the probability of the whole answer.",
		`The logarithms add up: one word that the model misses costs most.`},
	{reward.P, "P", "probability of the whole answer", "chance of the whole answer",
		"The probability of the whole answer.",
		`All ` + signC + ` multiplied: the chance of the whole answer, tiny when it is long.`},
	{reward.GM, "GM", "geometric mean of the words", "geometric mean of the words",
		"The geometric mean of the words' probabilities.",
		`All ` + signC + ` multiplied, then the root: a typical word’s probability.`},
	{reward.AM, "AM", "arithmetic mean of the words", "mean of the words",
		"The mean of the words' probabilities.",
		`The mean of ` + signC + `: every word counts the same, however easy it is.`},
	{reward.WSInvP, "WS 1/p", "weighted sum, rare words count more", "rare words count more",
		"The certainty of all answer words, each divided by how sure the model was before.",
		signW + ` = 1 ÷ ` + signBase + `: what the model knew before counts little.`},
	{reward.WSLogP, "WS −log p", "weighted sum, rare words count more", "rare words count more",
		"The certainty of all answer words, where rare words count more.",
		signW + ` = −log ` + signBase + `: what the model knew before counts little.`},
}

// modeLabel is a formula's name on the page.
func modeLabel(m reward.Mode) string { return Formulas[m].Label }
