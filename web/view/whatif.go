package view

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// What-ifs are the reader's variants of the chains. Sentences are switched off or
// rewritten, the server tells how probable the reference answer is after what is
// left, and the reward follows as for any chain; but outside of the group, whose
// mean and σ are of chains that the model wrote.

// Edit is a variant of a chain, by its sentences. The zero Edit is the chain as it
// was written.
type Edit struct {
	Off  uint64    // sentence i is switched off: bit i
	Text []Rewrite // sentences that say something else, by their number
}

// Rewrite is the reader's text in place of a sentence.
type Rewrite struct {
	At   int
	Text string
}

// maxSentences is how many sentences of a chain can be switched off or rewritten.
const maxSentences = 48

// maxRewrite bounds the reader's text for one sentence, in bytes: the 1,000
// characters that its field takes, and the space around them.
const maxRewrite = 4096

// fieldEdit is the field of a notice about what the reader made of a chain.
const fieldEdit = "edit"

// EditRefused is why the last edit was not taken, "" if it was.
func (s *State) EditRefused() string {
	if s.Notice != nil && s.Notice.Field == fieldEdit {
		return s.Notice.Text
	}
	return ""
}

// none reports whether the chain is as it was written.
func (e Edit) none() bool { return e.Off == 0 && len(e.Text) == 0 }

func (e Edit) off(k int) bool { return e.Off>>k&1 != 0 }

// text is what the reader wrote for sentence k.
func (e Edit) text(k int) (string, bool) {
	for _, x := range e.Text {
		if x.At == k {
			return x.Text, true
		}
	}
	return "", false
}

// toggle switches sentence k off, or on again.
func (e Edit) toggle(k int) Edit {
	e.Off ^= 1 << k
	return e
}

// rewrite puts a text in the place of sentence k, which is on again; its own text
// takes the reader's away.
func (e Edit) rewrite(k int, text string, own bool) Edit {
	e.Off &^= 1 << k
	list := slices.DeleteFunc(slices.Clone(e.Text), func(x Rewrite) bool { return x.At == k })
	if !own {
		at, _ := slices.BinarySearchFunc(list, k, func(x Rewrite, k int) int { return x.At - k })
		list = slices.Insert(list, at, Rewrite{k, text})
	}
	if len(list) == 0 {
		list = nil
	}
	e.Text = list
	return e
}

// within drops what a chain of n sentences cannot have.
func (e Edit) within(n int) Edit {
	n = min(n, maxSentences)
	e.Off &= 1<<n - 1
	e.Text = slices.DeleteFunc(slices.Clone(e.Text), func(x Rewrite) bool { return x.At >= n })
	if len(e.Text) == 0 {
		e.Text = nil
	}
	return e
}

// tryKey names a variant of a chain of a reading.
type tryKey struct {
	chain int
	off   uint64
	text  string
}

func (e Edit) key(chain int) tryKey {
	k := tryKey{chain: chain, off: e.Off}
	for _, x := range e.Text {
		k.text += strconv.Itoa(x.At) + "\x00" + x.Text + "\x00"
	}
	return k
}

// Try is what the server said of a variant.
type Try struct {
	Ref    []float64 // log c
	Own    bool      // Answer is known
	Answer string    // the model's own answer after it
	Match  bool      // which equals the reference
}

// draft is a chain's variant and those before it, for Undo.
type draft struct {
	now  Edit
	past []Edit
}

// to is the draft after a change to e.
func (d draft) to(e Edit) draft {
	past := append(slices.Clone(d.past), d.now)
	return draft{e, past[max(0, len(past)-keepPast):]}
}

// autoTokens is how many tokens the page has the server read, of its own accord, to
// tell what a chain's sentences are worth. More the reader asks for.
const autoTokens = 4096

// keepPast is how many steps Undo goes back.
const keepPast = 100

// sentences are those of chain i.
func (r *Reading) sentences(i int) []sentence {
	if r == nil || i < 0 || i >= len(r.Chains) {
		return nil
	}
	return sentences(r.Chains[i].shown())
}

// changeable are those that can be switched off or rewritten.
func (r *Reading) changeable(i int) []sentence {
	list := r.sentences(i)
	return list[:min(len(list), maxSentences)]
}

// variant lays chain i out with an edit. What the reader left alone stays token by
// token; so does what ended the chain.
func (r *Reading) variant(i int, e Edit) wire.Variant {
	c := &r.Chains[i]
	v := wire.Variant{Parts: []wire.ChainPart{}}
	ids := func(tokens []Token) {
		if len(tokens) == 0 {
			return
		}
		if n := len(v.Parts); n == 0 || v.Parts[n-1].Text != "" {
			v.Parts = append(v.Parts, wire.ChainPart{})
		}
		p := &v.Parts[len(v.Parts)-1]
		for _, t := range tokens {
			p.IDs = append(p.IDs, t.ID)
		}
	}
	shown := c.shown()
	for k, x := range sentences(shown) {
		text, written := e.text(k)
		switch {
		case k < maxSentences && e.off(k):
		case written:
			if n := len(v.Parts); n > 0 && v.Parts[n-1].Text != "" {
				v.Parts[n-1].Text += text
			} else {
				v.Parts = append(v.Parts, wire.ChainPart{Text: text})
			}
		default:
			ids(shown[x.from:x.to])
		}
	}
	ids(c.Tokens[len(shown):])
	return v
}

// Without are the variants of chain i that lack one sentence each, nil where there
// is no sentence to spare.
func (r *Reading) Without(i int) []wire.Variant {
	var list []wire.Variant
	for k := range r.changeable(i) {
		list = append(list, r.variant(i, Edit{}.toggle(k)))
	}
	return list
}

// edited is the index of the chain that the reader has changed, −1 if it is as it
// was written.
func (s *State) edited() int {
	if s.Edit.none() || s.Chain < 0 || s.Chain != s.chain() {
		return -1
	}
	return s.Chain
}

// try is what is known of a variant, nil while it is not.
func (s *State) try(i int, e Edit) *Try {
	if s.Reading == nil {
		return nil
	}
	if t, ok := s.Reading.tried[e.key(i)]; ok {
		return &t
	}
	return nil
}

// tryScore is the reward of a variant under the chosen formula, nil while it is not
// known. It has no advantage: it is in no group.
func (s *State) tryScore(i int, e Edit) *reward.Scored {
	t := s.try(i, e)
	if t == nil {
		return nil
	}
	sc, err := reward.Score(t.Ref, s.Reading.Base, s.Options())
	if err != nil {
		return nil
	}
	return &sc
}

// whatIf is the reward of what the reader made of the shown chain, nil without.
func (s *State) whatIf() *reward.Scored {
	if i := s.edited(); i >= 0 {
		return s.tryScore(i, s.Edit)
	}
	return nil
}

// losses are the changes of the reward when one sentence of chain i is left out; nil
// until all are known.
func (s *State) losses(i int) []float64 {
	if s.Reading == nil {
		return nil
	}
	sc := s.scores()
	if sc.worthOf != i {
		sc.worth, sc.worthOf = s.worthNow(i), i
	}
	return sc.worth
}

// worthNow is what losses keeps.
func (s *State) worthNow(i int) (list []float64) {
	score := s.chainScore(i)
	if score == nil {
		return nil
	}
	for k := range s.Reading.changeable(i) {
		sc := s.tryScore(i, Edit{}.toggle(k))
		if sc == nil {
			return nil
		}
		list = append(list, sc.R-score.R)
	}
	return list
}

// sentence is the index of the sentence that the page points at: the reader's
// choice, else the one that the reward needs most; −1 without.
func (s *State) sentence() int {
	i := s.chain()
	n := len(s.Reading.sentences(i))
	if s.Sentence >= 0 && s.Sentence < n {
		return s.Sentence
	}
	at, least := -1, 0.0
	for k, x := range s.losses(i) {
		if x < least {
			least, at = x, k
		}
	}
	return at
}

// worthTokens is how many tokens are read to tell what the sentences of chain i are
// worth.
func (r *Reading) worthTokens(i int) int {
	return len(r.changeable(i)) * (len(r.Chains[i].Tokens) + len(r.Answer))
}

// canTry reports whether the reward of a variant is known or can be had.
func (s *State) canTry(i int, e Edit) bool {
	return e.none() || s.try(i, e) != nil || s.Link == Live && s.Reading.ready()
}

// change makes e the variant of the shown chain; Undo goes back to the one before.
func (s State) change(e Edit) State {
	i := s.chain()
	if i < 0 || !s.Reading.scored(i) {
		return s
	}
	if !s.canTry(i, e) {
		s.Notice = &Notice{Code: codeOffline, Text: needsServer, Field: fieldEdit}
		return s
	}
	if s.Edit.key(i) == e.key(i) {
		return s
	}
	s = s.draft(i, s.drafts[i].to(e)).forgive(e.key(i))
	s.Say = s.whatIfSaid()
	return s
}

// draft makes d what the reader has of chain i, which stays the shown one.
func (s State) draft(i int, d draft) State {
	s.drafts, s.Chain, s.Edit = with(s.drafts, i, d), i, d.now
	if x := s.sheetOpen(); x != nil {
		next := *x
		next.was, next.typed, next.refused = d, false, ""
		s.sheet = &next
	}
	return s
}

// undo takes the last change back.
func (s State) undo() State {
	i := s.chain()
	d := s.drafts[i]
	n := len(d.past)
	if i < 0 || n == 0 {
		return s
	}
	s = s.draft(i, draft{d.past[n-1], d.past[:n-1]})
	s.Say = "Undone. " + s.whatIfSaid()
	return s
}

// freshDrafts forgets what belongs to the chains of another reading.
func (s State) freshDrafts() State {
	if s.Reader != "" {
		s.Reader, s.AtStep = "", -1
	}
	s.through, s.unread, s.course = rereading{}, nil, false
	s.Edit, s.drafts, s.waiting, s.refused, s.worth = Edit{}, nil, nil, nil, nil
	s.Fresh, s.rewriting, s.tired, s.sheet = -1, rewriting{}, nil, nil
	return s
}

// choose shows chain i, as the reader left it.
func (s State) choose(i int) State {
	s.Chain, s.Sentence, s.Edit = i, -1, s.drafts[i].now
	s.tired = without(s.tired, i) // another occasion
	return s.forgive(Edit{}.key(i))
}

// doWhatIf are the actions on sentences.
func (s State) doWhatIf(name, value string) State {
	i := s.chain()
	list := s.Reading.sentences(i)
	k, err := strconv.Atoi(value)
	if name != "sentence" && name != "pick" || err != nil {
		k = s.sentence()
	}
	n := len(s.Reading.changeable(i))
	switch name {
	case "pick":
		if k >= 0 && k < len(list) {
			s.Sentence, s.Chain = k, i
		}
	case "sentence", "switch":
		if k < 0 || k >= len(list) {
			return s
		}
		if name == "sentence" && (k >= n || !s.Reading.scored(i) || !s.canTry(i, s.Edit.toggle(k))) {
			// It can be read only: chosen, and let go again.
			if k == s.Sentence {
				k = -1
			}
			s.Sentence = k
			return s
		}
		s.Sentence = k
		if k < n {
			return s.change(s.Edit.toggle(k))
		}
	case "undo":
		return s.undo()
	case "worth":
		s.worth = with(s.worth, i, true)
		return s.forgive(Edit{}.key(i))
	case "try":
		s.Notice = nil
		return s.forgive(s.Edit.key(i))
	}
	return s
}

// ownText is sentence k of chain i as the model wrote it.
func (s *State) ownText(i, k int) string {
	x := s.Reading.sentences(i)[k]
	return textOf(s.Reading.Chains[i].shown()[x.from:x.to])
}

// SentenceText is the sentence that the page points at as it stands, for a field to
// edit it in, with its index and its neighbours. ok is false where none can be edited.
func (s *State) SentenceText() (k int, text, before, after string, ok bool) {
	i, k := s.chain(), s.sentence()
	list := s.Reading.sentences(i)
	if k < 0 || k >= min(len(list), maxSentences) || !s.Reading.scored(i) || !s.Reading.ready() {
		return -1, "", "", "", false
	}
	at := func(k int) string {
		if k < 0 || k >= len(list) || k < maxSentences && s.Edit.off(k) {
			return ""
		}
		if text, ok := s.Edit.text(k); ok {
			return strings.TrimSpace(text)
		}
		return strings.TrimSpace(s.ownText(i, k))
	}
	text = at(k)
	if s.Edit.off(k) {
		if text, ok = s.Edit.text(k); !ok {
			text = s.ownText(i, k)
		}
		text = strings.TrimSpace(text)
	}
	return k, text, at(k - 1), at(k + 1), true
}

// editName says what the reader changed: "without sentence 3", "with your sentence
// 2", "with your changes".
func (e Edit) editName() string {
	var off []string
	for k := range maxSentences {
		if e.off(k) {
			off = append(off, intText(k+1))
		}
	}
	switch {
	case len(e.Text) == 0 && len(off) == 1:
		return "without sentence " + off[0]
	case len(e.Text) == 0 && len(off) <= 4:
		n := len(off) - 1
		return "without sentences " + strings.Join(off[:n], ", ") + " and " + off[n]
	case len(e.Text) == 0:
		return "without " + intText(len(off)) + " sentences"
	case len(e.Text) == 1 && len(off) == 0:
		return "with your sentence " + intText(e.Text[0].At+1)
	}
	return "with your changes"
}

// goes says how a reward goes from one to another.
func goes(from, to float64) string { return goesAs(from, to, number(from), number(to)) }

// goesAs is goes with the two as they are shown.
func goesAs(from, to float64, a, b string) string {
	switch {
	case a == b:
		return "stays " + a
	case to < from:
		return "falls from " + a + " to " + b
	}
	return "rises from " + a + " to " + b
}

// whatIfSaid is the reader's variant in a sentence.
func (s *State) whatIfSaid() string {
	i := s.edited()
	if i < 0 {
		return "Chain " + intText(s.chain()+1) + " is as the model wrote it."
	}
	return s.said(i, s.Edit)
}

// said is an edit of chain i in a sentence.
func (s *State) said(i int, e Edit) string {
	name := e.editName()
	name = strings.ToUpper(name[:1]) + name[1:]
	if sc := s.tryScore(i, e); sc != nil {
		return name + " the reward " + goes(s.chainScore(i).R, sc.R) + "."
	}
	return name + ": being scored."
}

// largest is the largest size of a list's numbers, 1 if there is none.
func largest(list []float64) float64 {
	m := 0.0
	for _, x := range list {
		m = max(m, math.Abs(x))
	}
	if m == 0 {
		return 1
	}
	return m
}
