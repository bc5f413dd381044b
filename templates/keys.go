package templates

// words are those that the page uses and does not explain where they stand. The help
// dialog lists them first, then keys and touches.
var words = []struct{ Word, Means string }{
	{"token", "a piece of text that the model reads and writes as one; here mostly a word"},
	{"chain z", "reasoning that the model writes before it answers"},
	{"c, c base", "probability that the model gives a word of the reference answer: after a chain, and without any"},
	{"logP, P", "P: all c multiplied, the probability of the whole answer; logP: its logarithm, near 0 for a likely answer, far below for an unlikely one"},
	{"GM, AM", "geometric and arithmetic mean of the c"},
	{"WS", "weighted sum of the c: words that were hard to guess without reasoning count more"},
	{"R, R′", "reward of a chain; what of it is above no reasoning, at least 0"},
	{"A", "advantage: R′ less the group’s mean, in standard deviations. Training makes a chain with A above 0 more probable, one below 0 less"},
	{"pull G", "how hard training raises an answer word after this chain"},
	{"✓", "the chain ends at the right answer. Known of the small world’s questions alone, and never to the reward"},
	{"seed", "number that chance starts from: the same seed, the same chains"},
	{"temperature", "0: always the likeliest token; higher: more daring. Top-p leaves out the unlikeliest"},
	{"NRT, RLPR, VeriFree, SFT", "ways to train; the first three reward chains by how probable they make the answer, SFT has no chains"},
	{"entropy", "how unsure the model is of the next token while it writes a chain, in nats; 0: it always writes the same"},
	{"held-out right", "share of questions, never trained on, that the model answers right"},
}

// keys are the ways with a keyboard.
var keys = []struct {
	Names []string
	Does  string
}{
	{[]string{"Space"}, "next phase, from words to gradient"},
	{[]string{"n", "p"}, "next or previous chain"},
	{[]string{"N", "P"}, "next or previous training step, which reads the chains"},
	{[]string{"←", "→"}, "next word or sentence"},
	{[]string{"Enter"}, "edit the sentence in focus; pin the word’s card"},
	{[]string{"Delete", "Backspace"}, "switch the ringed sentence off or on"},
	{[]string{"Ctrl+Z"}, "undo"},
	{[]string{"1", "…", "6"}, "reward formula"},
	{[]string{"Esc"}, "let go, close"},
	{[]string{"?"}, "this list"},
}

// touches are the ways without a keyboard that nothing on the page names.
var touches = []struct{ Way, Does string }{
	{"Tap a word", "what every chain did to it"},
	{"Tap a sentence", "switch it off or on"},
	{"Swipe the chain", "next or previous chain, on a phone"},
}
