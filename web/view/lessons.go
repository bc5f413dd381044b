package view

import (
	"fmt"
	"slices"
	"strings"

	"nrt/trainer/reward"
)

// Lesson is one step of the guided tour: what to look at and the address of the
// page that shows it.
type Lesson struct {
	Title, Text string
	Hash        string // without the #
	Show        string // id of the element to look at
}

// Lessons is the tour through the saved examples. Chains, words and figures are
// looked up in them, so the text says what the page shows, whichever models wrote
// the examples; a step that none of them can show is left out.
func Lessons(examples []Example) []Lesson {
	if len(examples) == 0 {
		return nil
	}
	t := &tour{}
	s := New(examples)
	if best, sc := s.chain(), s.chainScore(s.chain()); sc != nil {
		t.reward(s, best, sc)
	}
	t.formula(s, examples)
	t.sentence(s, examples)
	t.through(s)
	t.anew(s)
	t.add("Now let it learn", "train", s,
		"Press Train and watch a small model learn to reason, in seconds, from questions and answers alone.")
	return t.lessons
}

type tour struct{ lessons []Lesson }

// add adds a step that shows s.
func (t *tour) add(title, show string, s State, text string, args ...any) {
	t.lessons = append(t.lessons, Lesson{Title: title, Text: fmt.Sprintf(text, args...), Hash: s.Hash(), Show: show})
}

// reward follows the best chain of a question from its words to its advantage.
func (t *tour) reward(s State, best int, sc *reward.Scored) {
	r, word := s.Reading, s.word()
	step := func(phase int) State { x := s; x.Phase = phase; return x }
	t.add("Nobody has to grade the answer", "question", step(0),
		"Most answers can be worded in many ways, and no program can tell whether one is right. "+
			"So the reward asks none. All there is: a question, one reference answer, and a model that can say how probable it finds each of its words.")
	t.add("The model thinks first", "chains", step(1),
		"Asked the question again and again, the model wrote %s of reasoning. It has met all kinds in its text: "+
			"some work the question out, some only chat, some go wrong.%s", count(len(r.Chains), "chain"), s.checked())
	t.add("Does thinking make the answer less surprising?", "strip", step(2),
		"Grey is how sure the model was of a word without any reasoning, purple is what this chain added, orange what it took away. "+
			"Of “%s” it was %s %% sure before, and %s %% after reading the chain.",
		s.answerWord(word), percent(s.scores().b[word]), percent(sc.C[word]))
	t.add("From the words to one number", "why-words", step(3),
		"The reward R of a chain adds its words up. %s gives most weight to words that were hard to guess without reasoning. "+
			"That makes R = %s here, and %s without reasoning.", modeLabel(s.Mode), number(sc.R), number(sc.Base))
	for _, i := range slices.Backward(s.scores().order) {
		if c := s.chainScore(i); c.Harmful {
			x := step(4)
			x.Chain = i
			t.add("Reasoning that does not help earns nothing", "pipeline", x,
				"Chain %d has R = %s, below the %s of no reasoning at all. Its gain is cut off at 0: "+
					"a chain is paid for nothing but making the answer more probable.", i+1, number(c.R), number(c.Base))
			break
		}
	}
	t.add("Only the comparison trains", "pipeline", step(5),
		"The chains of one question are compared: chain %d is %s standard deviations from the group’s mean. Training makes chains with a "+
			"positive advantage A more probable, and those with a negative one less.%s", best+1, signed(sc.Advantage), s.found())
}

// checked says what the mark of a right chain is, where there are any.
func (s *State) checked() string {
	return when(s.rightChains() > 0, " In this small world a program can check them: ✓ marks those that end at the right answer. The reward never sees it.")
}

// found says that the chains which end at the right answer are the best paid, if they are.
func (s *State) found() string {
	n := s.rightChains()
	for _, i := range s.scores().order[:n] {
		if !s.Reading.Chains[i].Right {
			return ""
		}
	}
	return when(n > 0, " The "+numeral(n)+" marked ✓ "+either(n == 1, "has", "have")+" come out on top, though nobody told.")
}

// rightChains counts the shown chains that are known to end at the right answer.
func (s *State) rightChains() (n int) {
	for _, c := range s.Reading.Chains {
		if c.Right {
			n++
		}
	}
	return n
}

// formula shows where AM, which weighs all words alike, is farthest from preferring
// the chain that the weighted sum prefers.
func (t *tour) formula(first State, examples []Example) {
	var am, ws State
	gap := 0.0
	for _, e := range examples {
		x := first.openExample(e.Name)
		y := x
		y.Mode = reward.AM
		x.Chain, y.Chain, y.Word = x.chain(), y.chain(), x.word()
		if a, b := y.chainScore(y.Chain), y.chainScore(x.Chain); a != nil && b != nil && a.R-b.R > gap && x.rank(x.Mode, y.Chain) != 1 {
			gap, am, ws = a.R-b.R, y, x
		}
	}
	if gap == 0 {
		return
	}
	another := ""
	if am.Example != first.Example {
		another = "Here is another question. "
	}
	t.add("The formula decides who wins", "slope", am,
		"%sUnder AM all words count alike, and chain %d is best: “%s”. It makes the easy words a little easier.",
		another, am.Chain+1, am.says(am.Chain))
	t.add("Hard words tell the difference", "slope", ws,
		"Under %s the hard word “%s” counts most, and chain %d is best: “%s”. Switch the formula yourself and follow the lines.",
		modeLabel(ws.Mode), ws.answerWord(ws.word()), ws.Chain+1, ws.says(ws.Chain))
}

// sentence switches off the sentence that matters most.
func (t *tour) sentence(s State, examples []Example) {
	var most State
	loss := 0.0
	for _, e := range examples {
		x := s.openExample(e.Name)
		for i := range x.Reading.Chains {
			list := x.losses(i)
			for k, d := range list {
				if len(list) > 1 && d > loss {
					loss, most = d, x
					most.Chain, most.Sentence, most.Edit = i, k, Edit{}.toggle(k)
				}
			}
		}
	}
	if loss == 0 {
		return
	}
	i, k := most.Chain, most.Sentence
	part := most.Reading.sentences(i)[k]
	t.add("Take a sentence away", "chain", most,
		"With its sentence %d, “%s”, chain %d has R = %s; without it, and all the rest as it was, %s. "+
			"Click or tap a sentence to switch it off or on; Edit writes another in its place.",
		k+1, spoken(most.Reading.Chains[i].shown()[part.from:part.to]), i+1,
		number(most.chainScore(i).R), number(most.chainScore(i).R+loss))
}

// through has the best chain read by the model of the training's last step.
func (t *tour) through(s State) {
	run := s.run(s.Run)
	if run == nil || len(run.Checkpoints) < 2 {
		return
	}
	s.Chain = s.chain()
	x, out := s.Do("step", intText(len(run.Checkpoints)-1))
	if len(out) > 0 || x.Reading.By == "" {
		return
	}
	x.Word = s.word()
	before, after := s.chainScore(s.Chain), x.chainScore(s.Chain)
	b0, c0, b1, c1 := s.scores().b[x.Word], before.C[x.Word], x.scores().b[x.Word], after.C[x.Word]
	verdict := "It is read otherwise now."
	if d := points(b1, c1) - points(b0, c0); max(d, -d) <= 10 {
		verdict = "It helps as much as it did: what training changes is which chains are written."
	}
	t.add("The same words, read by the trained model", "train", x,
		"Drag the step: these very chains, read by the model at that moment of its training. Before training, chain %d took “%s” "+
			"from %s to %s %%; now it takes it from %s to %s %%. %s",
		s.Chain+1, x.answerWord(x.Word), percent(b0), percent(c0), percent(b1), percent(c1), verdict)
}

// anew counts the right chains of the untrained and of the trained model, over all
// examples that the trained one was asked too, and shows its own chains of the first.
func (t *tour) anew(s State) {
	run := s.run(s.Run)
	if run == nil || len(run.Checkpoints) < 2 {
		return
	}
	x, out := s.setSlide("new")
	x, more := x.Do("step", intText(len(run.Checkpoints)-1))
	if len(out)+len(more) > 0 || !x.Reading.ready() || x.Reading.By != "" || x.Model == s.Model {
		return
	}
	asked, before, after, chains := 0, 0, 0, 0
	for _, e := range s.Examples {
		for _, a := range e.Anew {
			if a.Ask.Model == x.Model {
				asked, before, after, chains = asked+1, before+e.right(), after+a.right(), chains+a.Ask.K
			}
		}
	}
	t.add("Which chains it writes", "chains", x,
		"Asked the same with the same seed, the trained model wrote these. Over the %s saved questions %d of the untrained "+
			"model’s %d chains end at the right answer, and %d of the trained one’s. No chain was given to copy: questions, answers and the reward did it.",
		numeral(asked), before, chains, after)
}

// says is what chain i says.
func (s *State) says(i int) string { return spoken(s.Reading.Chains[i].shown()) }

func spoken(tokens []Token) string { return strings.TrimSpace(textOf(tokens)) }
