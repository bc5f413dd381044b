package world

import (
	"fmt"
	"strings"
)

// mirrors tells what each family stands for.
var mirrors = map[string]string{
	"kin":  "multi-hop kinship",
	"cups": "tracking shuffled objects",
	"calc": "arithmetic modulo 10",
	"bool": "boolean expressions",
	"step": "word problems, answered freely",
	"why":  "yes or no with the reason, answered freely",
	"date": "calendar arithmetic, answered freely",
}

// Describe lists the families with one example each, for people to read.
func (w *World) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "The small world, seed %d: %d families, %d words.\n", w.seed, len(w.families), len(w.words)+len(Specials()))
	for _, item := range w.items(len(w.families), w.stream(streamDescribe, 0), SplitTrain, nil) {
		fmt.Fprintf(&b, "\n%s: %s, %d right answers to a question\n", item.Family, mirrors[item.Family], len(w.Paraphrases(item)))
		fmt.Fprintf(&b, "  question     %s\n", item.Question)
		fmt.Fprintf(&b, "  right chain  %s\n", w.RightChain(item))
		fmt.Fprintf(&b, "  reference    %s\n", item.Answer)
	}
	return b.String()
}
