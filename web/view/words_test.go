package view

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// in is the example's page under a formula.
func in(mode reward.Mode) State {
	s, _ := testState().Do("mode", mode.String())
	return s
}

// What the table says of its column is what the column does.
func TestTheColumnAddsUpAsItSays(t *testing.T) {
	for _, mode := range reward.Modes() {
		s := in(mode)
		sc := s.chainScore(s.chain())
		sum := 0.0
		for _, x := range sc.Contribution {
			sum += x
		}
		says, want := "add up the column", sc.R
		if mode == reward.P || mode == reward.GM {
			says, want = "the column adds up to log R", sc.LogR
		}
		if math.Abs(sum-want) > 1e-9 {
			t.Errorf("%s: the column adds up to %g, want %g", mode, sum, want)
		}
		if html := Fragment(&s, "why"); !strings.Contains(html, ">"+says+"<") {
			t.Errorf("%s: the table does not say %q", mode, says)
		}
	}
}

// Small rewards keep two digits, and a difference is that of the numbers beside it.
func TestSmallRewardsKeepTwoDigits(t *testing.T) {
	for _, c := range []struct{ have, want string }{
		{number(0), "0.000"}, {number(-0.5), "−0.500"}, {number(0.00996), "0.010"}, {number(0.0099), "9.9·10⁻³"},
		{number(0.00129), "1.3·10⁻³"}, {number(-0.0005), "−5.0·10⁻⁴"}, {number(0.00029), "2.9·10⁻⁴"}, {number(9.96e-5), "1.0·10⁻⁴"},
		{gain(0.00129, 0.00029), "1.0·10⁻³"}, {gain(0.834, 0.829), "0.005"}, {gain(0.8342, 0.8341), "1.0·10⁻⁴"}, {gain(0.02, 0.004), "0.016"},
		{parts([]float64{0.7959, 0.004, 0.0001}, 0.8)[1], "0.004"}, {parts([]float64{0.7959, 0.004, 0.0001}, 0.8)[2], "0.000"}, {parts([]float64{0.002, 0.004}, 0.006)[1], "4.0·10⁻³"},
	} {
		if c.have != c.want {
			t.Errorf("have %s, want %s", c.have, c.want)
		}
	}
}

// moved is the example's page where each chain's certainties are those without
// reasoning, moved by by in the logarithm, for the first k chains.
func moved(k int, by func(chain int) float64) State {
	e := testExample()
	e.Ask.K, e.Start.K = k, k
	list := e.Frame.Tokens[:0]
	for _, t := range e.Frame.Tokens {
		if t.Chain >= k {
			continue
		}
		if t.Part == wire.PartReference {
			t.LogProbs = logs(testBase)
			for j := range t.LogProbs {
				t.LogProbs[j] += by(t.Chain)
			}
		}
		list = append(list, t)
	}
	e.Frame.Tokens, e.Frame.Done = list, e.Frame.Done[:k]
	return New([]Example{e})
}

// wants fails unless html contains each text.
func wants(t *testing.T, html string, texts ...string) {
	t.Helper()
	for _, x := range texts {
		if !strings.Contains(html, x) {
			t.Errorf("no %q in %s", x, html)
		}
	}
}

// Chains that do as well as no reasoning are not called worse.
func TestATieWithNoReasoningIsNotBelowIt(t *testing.T) {
	s := moved(8, func(int) float64 { return 0 })
	wants(t, Fragment(&s, "notes"), "No chain scored higher than no reasoning at all")
	wants(t, Fragment(&s, "pipeline"), " is not above ")
	s = moved(8, func(int) float64 { return -0.1 })
	wants(t, Fragment(&s, "pipeline"), " is below ")
}

// A chain has one length wherever it is told: that of the text that is shown.
func TestAChainHasOneLength(t *testing.T) {
	s := testState()
	n := len(s.Reading.Chains[s.chain()].shown())
	wants(t, Fragment(&s, "chain"), " · "+count(n, "token")+"<")
	if x := s.phases()[1]; x.big != intText(n) || x.unit != "tokens" {
		t.Errorf("the pipeline says %s %s, want %d tokens", x.big, x.unit, n)
	}

	e := testExample()
	for i, x := range e.Frame.Tokens {
		if x.Part == wire.PartChain {
			e.Frame.Tokens[i] = tokens(x.Chain, wire.PartChain, []string{"Ruth", "</think>"}, nil)
		}
	}
	e.Start.Prompt = e.Start.Prompt[:1]
	s = New([]Example{e})
	wants(t, Fragment(&s, "chain"), " · 1 token<")
	for i := range 2 {
		if x := s.phases()[i]; x.big+" "+x.unit != "1 token" {
			t.Errorf("%s: %s %s, want 1 token", x.label, x.big, x.unit)
		}
	}
}

// A boundary of several tokens is not shown, nor the part of it that a token of the
// chain's own text brings.
func TestABoundaryBeginsWithinAToken(t *testing.T) {
	for _, c := range []struct {
		texts []string
		want  string
	}{
		{[]string{"Ru", "th", "</", "think", ">"}, "Ru|th"},
		{[]string{"Ru", "", "th</", "think", ">\n"}, "Ru||th"},
		{[]string{"</", "th", "ink>"}, ""},
		{[]string{"a.", " </", "think", ">"}, "a."},
		{[]string{"a", " </b", " c", " d"}, "a| </b| c"}, // another end
	} {
		x := Chain{Done: true, Finish: "close"}
		for _, text := range c.texts {
			x.Tokens = append(x.Tokens, Token{Text: text})
		}
		var have []string
		for _, tok := range x.shown() {
			have = append(have, tok.Text)
		}
		if have := strings.Join(have, "|"); have != c.want {
			t.Errorf("%q: have %q, want %q", c.texts, have, c.want)
		}
		if last := x.Tokens[len(x.Tokens)-3].Text; last != c.texts[len(c.texts)-3] {
			t.Errorf("%q: the chain itself now has %q", c.texts, last)
		}
	}
}

// Under the formulas that multiply all words each is pulled alike; none of them
// is called the strongest.
func TestPullsThatTieAreNotRanked(t *testing.T) {
	for _, mode := range reward.Modes() {
		s := in(mode)
		same := mode == reward.LogP || mode == reward.P || mode == reward.GM
		if have := s.phases()[6].detail; same != (have == "the same pull on every word") || same == strings.HasPrefix(have, "strongest pull: “") {
			t.Errorf("%s: %s", mode, have)
		}
	}
}

// A group ties only where its rewards are equal: clipped gains are all 0 over
// rewards that differ, and one chain has no group.
func TestWhyAGroupHasNoAdvantage(t *testing.T) {
	for _, c := range []struct {
		name            string
		s               State
		list, advantage string
	}{
		{"clipped", moved(8, func(k int) float64 { return -0.1 * float64(1+k) }), ">all gains are 0<", "all gains are 0"},
		{"equal", moved(8, func(int) float64 { return 0.01 }), ">all tie<", "the group ties"},
		{"alone", moved(1, func(int) float64 { return 0.01 }), ">same question, seed 42<", "no group"},
		{"alone, clipped", moved(1, func(int) float64 { return -0.1 }), ">same question, seed 42<", "no group"},
	} {
		if have := c.s.phases()[5].detail; have != c.advantage {
			t.Errorf("%s: the pipeline says %q, want %q", c.name, have, c.advantage)
		}
		if html := Fragment(&c.s, "chains"); !strings.Contains(html, c.list) {
			t.Errorf("%s: no %q in %s", c.name, c.list, html[:300])
		}
	}
}

// An own question without its answer, or the other way round, is not sent: the
// form says what is missing until it is there.
func TestAnEmptyQuestionIsRefused(t *testing.T) {
	for _, c := range []struct{ question, answer, says string }{
		{" ", "\n", "Write a question and its reference answer first."},
		{"", "Ruth", "Write a question first."},
		{"Who?", " ", "Write a reference answer first"},
	} {
		s, _ := live(t)
		before := s.Reading
		s, _ = s.Do("question", c.question)
		s, _ = s.Do("answer", c.answer)
		s, out := s.Do("ask", "")
		if len(out) != 0 || s.Reading != before || !s.Typing.Refused {
			t.Errorf("%q, %q: sends %v", c.question, c.answer, out)
		}
		wants(t, Fragment(&s, "ask-note"), `role="alert">`+c.says)
		s, _ = s.Do("question", "Who?")
		s, _ = s.Do("answer", "Ruth")
		if html := Fragment(&s, "ask-note"); s.Typing.Refused || strings.Contains(html, "Write") {
			t.Errorf("when all is written it says %s", html)
		}
		s, out = s.Do("ask", "")
		if ask, ok := out[len(out)-1].(*wire.Ask); !ok || ask.Question != "Who?" || ask.Answer != "Ruth" {
			t.Errorf("sends %v", out)
		}
	}
}

// What failed is asked again as it was shown, whatever the form holds.
func TestRetryAsksWhatIsShown(t *testing.T) {
	s, id := live(t)
	asked := s.Reading.Ask
	s = s.receives(&wire.Failed{Head: wire.Head{ID: id}, Code: wire.CodeBusy, Message: "The queue is full."})
	wants(t, Fragment(&s, "notes"), `data-act="retry"`)
	s, _ = s.Do("question", "Who?")
	_, out := s.Do("retry", "")
	if ask, ok := out[len(out)-1].(*wire.Ask); !ok || ask.Question != asked.Question || ask.Answer != asked.Answer {
		t.Errorf("sends %v", out)
	}
}

// A sure word's part of log R is 0.000 beside the others, however small R is.
func TestPartsOfALogHaveItsDecimals(t *testing.T) {
	e := testExample()
	for i, x := range e.Frame.Tokens {
		if x.Part == wire.PartReference {
			e.Frame.Tokens[i].LogProbs = []float64{-2, -2, -2, -2, -2, -2, -2, -1e-5}
		}
	}
	s := New([]Example{e})
	s, _ = s.Do("mode", reward.P.String())
	if sc := s.chainScore(s.chain()); sc.R > 0.01 {
		t.Fatalf("R is %g", sc.R)
	}
	wants(t, Fragment(&s, "why"), "0.000</td>")
}

// While a chain is written its pace stands beside its length, once it is known.
func TestPaceOfAChain(t *testing.T) {
	s := moments(t)["writing"]
	at := slices.IndexFunc(s.Reading.Chains, func(c Chain) bool { return !c.Done && len(c.Tokens) > 0 })
	s, _ = s.Do("chain", intText(at))
	if i, n := s.Writing(); at < 0 || i != at || n != len(s.Reading.Chains[at].Tokens) {
		t.Fatalf("chain %d with %d tokens is written, want chain %d", i, n, at)
	}
	if have := Fragment(&s, "chain"); strings.Contains(have, "per second") {
		t.Errorf("a pace that nobody measured: %s", have)
	}
	s.Pace = 41.3
	wants(t, Fragment(&s, "chain"), "being written · "+count(len(s.Reading.Chains[at].shown()), "token")+" · 41 tokens per second<")
	s = moments(t)["complete"]
	s.Pace = 41.3
	if i, _ := s.Writing(); i != -1 || strings.Contains(Fragment(&s, "chain"), "per second") {
		t.Errorf("chain %d is still written", i)
	}
}

// A full queue is called one, with when to come back; a server with too many readers has
// none.
func TestFullQueue(t *testing.T) {
	s, id := live(t)
	full := s.receives(&wire.Failed{Head: wire.Head{ID: id}, Code: wire.CodeBusy, Message: "32 questions are waiting already; try again in a moment", Retry: 60})
	wants(t, Fragment(&full, "notes"), "<b>The queue is full.</b> What you asked is kept in this page’s address. Try again in about 60 s.", `data-act="retry"`)
	crowd := s.receives(&wire.Failed{Code: wire.CodeBusy, Message: "as many readers are here as the server takes"})
	wants(t, Fragment(&crowd, "notes"), "As many readers are here")
}

// A page without any server says so, and what it still does; one that lost its server
// says that it tries again.
func TestOfflineIsSaid(t *testing.T) {
	s := testState()
	s.Link, s.Retry = Waiting, 4
	wants(t, Fragment(&s, "notes"), "Offline: no server answers. Trying again in 4 s.", stillWorks, `data-act="reconnect"`)
	if Fragment(&s, "badge") != "<i></i>Offline" || BadgeKind(&s) != "off" {
		t.Errorf("badge %s, %s", Fragment(&s, "badge"), BadgeKind(&s))
	}
	s.Session = "s1"
	wants(t, Fragment(&s, "notes"), "Connection lost. Trying again in 4 s.", "Nothing is gone. "+stillWorks)
	if Fragment(&s, "badge") != "<i></i>Reconnecting, 4 s" || BadgeKind(&s) != "wait" {
		t.Errorf("badge %s, %s", Fragment(&s, "badge"), BadgeKind(&s))
	}
	s.Retry = 0 // the try is under way, which may take a while
	wants(t, Fragment(&s, "notes"), "Connection lost. Trying again now.")
	if Fragment(&s, "badge") != "<i></i>Reconnecting" {
		t.Errorf("badge %s", Fragment(&s, "badge"))
	}
	s.Link = Offline
	wants(t, Fragment(&s, "notes"), "Offline.", stillWorks)
	s.Link = Locked
	wants(t, Fragment(&s, "notes"), "This server asks for its token.", "?token=", stillWorks, `data-act="reconnect"`)
	if Fragment(&s, "badge") != "<i></i>No token" || BadgeKind(&s) != "off" {
		t.Errorf("badge %s, %s", Fragment(&s, "badge"), BadgeKind(&s))
	}
}

// The plot of a group that teaches nothing says where gains would be.
func TestDotsWithoutAGain(t *testing.T) {
	for by, want := range map[float64]bool{-0.1: true, 0.1: false} {
		s := moved(8, func(k int) float64 { return by * float64(1+k) })
		if have := strings.Contains(Fragment(&s, "dots"), ">gains would<"); have != want {
			t.Errorf("all moved by %g: gains would be here: %t", by, have)
		}
	}
	s := moved(8, func(int) float64 { return -0.1 })
	s, _ = s.Do("clip", "false")
	if strings.Contains(Fragment(&s, "dots"), "gains would") {
		t.Error("without the clip there are gains below, too")
	}
}

// An axis with one round number on it writes that number, and not what is left of it
// without decimals.
func TestOneTickHasItsDecimals(t *testing.T) {
	s := moved(2, func(k int) float64 { return []float64{math.Log(0.09 / 0.785), 0}[k] })
	s, _ = s.Do("mode", "am")
	if have := regexp.MustCompile(`class="mid"[^>]*>[^<]*<`).FindAllString(Fragment(&s, "dots"), -1); len(have) != 1 || !strings.HasSuffix(have[0], ">0.5<") {
		t.Errorf("ticks %q, want one of 0.5", have)
	}
}

// Numbers that are no probabilities have no reward, and the page says so.
func TestNumbersThatCannotBeScored(t *testing.T) {
	s := moved(2, func(int) float64 { return 1 })
	wants(t, Fragment(&s, "notes"), "These numbers cannot be scored.")
}

// Words that the model lacks are named while one types, however little is typed, and
// questions of its own are offered in their place: those that it can read.
func TestTypedUnknownWords(t *testing.T) {
	s := testState()
	s.Link = Live
	s.Examples = []Example{{Name: "own", Title: "One it knows"}, {Name: "other", Title: "Of another vocabulary"}}
	s.Examples[0].Ask = wire.Ask{Model: "test", Question: "who ?", Answer: "ruth ."}
	s.Examples[1].Ask.Model = "llama"
	s.Models = []wire.Model{{Name: "test", Vocab: "v1"}, {Name: "llama", Vocab: "v2"}}
	s.Example, s.Model = "", "test"
	s.Typing = Typing{Question: "Paris Paris who ?", Known: true, Words: 7, QuestionPieces: []wire.Piece{{Text: "Paris", Unknown: true}, {Text: " Paris", Unknown: true}, {Text: " who"}, {Text: " ?"}}}
	have := Fragment(&s, "ask-note")
	wants(t, have, "This model knows 7 words, but not “Paris”:", `data-act="pattern" data-value="own">One it knows</button>`)
	if strings.Contains(have, "Of another vocabulary") {
		t.Errorf("a question that the model cannot read is offered: %s", have)
	}
	s, out := s.Do("pattern", "own")
	if len(out) > 0 || s.Typing.Question != "who ?" || s.Typing.Answer != "ruth ." {
		t.Errorf("the form has %q and %q, and %v is sent", s.Typing.Question, s.Typing.Answer, out)
	}
}

// A chain that is known to end at the right answer is marked for the eye and for the ear,
// and the list says what the mark means; without any there is no mark and no word of it.
func TestRightChainsAreMarked(t *testing.T) {
	e := testExample()
	if s := New([]Example{e}); strings.Contains(Fragment(&s, "chains"), "✓") {
		t.Error("marked, though nobody knows what is right")
	}
	e.Frame.Done = slices.Clone(e.Frame.Done)
	e.Frame.Done[4].Right = true
	s := New([]Example{e})
	have := Fragment(&s, "chains")
	if rows := strings.Split(have, "<li>"); !slices.ContainsFunc(rows, func(row string) bool {
		return strings.Contains(row, `id="chain-4"`) && strings.Contains(row, ">✓<") && strings.Contains(row, ", "+endsRight+"</span>")
	}) || strings.Count(have, `title="`+endsRight) != 1 {
		t.Errorf("chain 5 alone is to be marked: %s", have)
	}
	wants(t, have, `✓</span> `+endsRight+`; the reward never sees this`)
	if have := s.found(); s.scores().order[0] != 4 || !strings.HasPrefix(have, " The one marked ✓ has come") {
		t.Errorf("the best chain is right, and the lesson says %q", have)
	}
	s.Reading.Chains[s.scores().order[1]].Right, s.Reading.Chains[4].Right = true, false
	if have := s.found(); have != "" {
		t.Errorf("the second best chain is right, and the lesson says %q", have)
	}
}

// Chains that tie have one rank in the list, in the graph of the ranks, where they share
// a bubble in every formula's lane, and in words.
func TestTiesShareARank(t *testing.T) {
	for _, c := range []struct {
		by           func(chain int) float64
		list, axis   string
		shared       int // bubbles
		first, ready string
	}{
		{func(k int) float64 { return 0.01 * float64(k/3) }, "1 1 3 3 3 6 6 6", "best 1|3|worst 6", 12, "AM: chains 7 and 8 first.", "Best: chains 7 and 8, reward"},
		{func(int) float64 { return 0.01 }, "1 1 1 1 1 1 1 1", "best 1", 4, "AM: chains 1, 2, 3, 4, 5, 6, 7 and 8 first.", "Best: chains 1, 2, 3, 4, 5, 6, 7 and 8, reward"},
		{func(k int) float64 { return 0.001 * float64(k) }, "1 2 3 4 5 6 7 8", "best 1|2|3|4|5|6|7|worst 8", 0, "AM: chain 8 first.", "Best: chain 8, reward"},
	} {
		s := moved(8, c.by)
		find := func(html, pattern string) (list []string) {
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(html, -1) {
				list = append(list, m[1])
			}
			return list
		}
		if have := strings.Join(find(Fragment(&s, "chains"), `class="rk" aria-hidden="true">(\d+)<`), " "); have != c.list {
			t.Errorf("the list ranks %s, want %s", have, c.list)
		}
		slope := Fragment(&s, "slope")
		if have := strings.Join(find(slope, `<text class="e" [^>]*>([^<]*)<`), "|"); have != c.axis {
			t.Errorf("the graph's rows are %s, want %s", have, c.axis)
		}
		if have := len(find(slope, `<rect class="bub( cl)?"`)); have != c.shared {
			t.Errorf("%d bubbles are shared, want %d", have, c.shared)
		}
		wants(t, slope, c.first)
		wants(t, s.endText(), c.ready)
	}
}

// What the model does not know of a typed question is said once, when the reader pauses,
// and again when the chains are there.
func TestUnknownWordsAreSaid(t *testing.T) {
	s := testState()
	said := func() string {
		s.Say = ""
		s, _ = s.Do("rest", "")
		return s.Say
	}
	if have := said(); have != "" {
		t.Errorf("of nothing it says %q", have)
	}
	unknown := []wire.Piece{{Text: "Paris", Unknown: true}}
	s.Typing = Typing{Question: "Paris", Known: true, Words: 7, QuestionPieces: unknown}
	wants(t, said(), "This model knows 7 words, but not “Paris”: it reads")
	if have := said(); have != "" {
		t.Errorf("nothing is new, and it says %q", have)
	}
	s.Typing.Known = false // the vocabulary of another model is on its way
	if have := said(); have != "" {
		t.Errorf("before it knows it says %q", have)
	}
	s.Typing.Known, s.Typing.QuestionPieces = true, nil
	wants(t, said(), "knows all of this now")
	s.Typing.Takes, s.Typing.Reads = 9, 9
	wants(t, said(), "Too long: ")

	r := *s.Reading
	r.Prompt = unknown
	s.Reading = &r
	wants(t, s.endText(), "All 8 chains ready.", "This model lacks 1 word of the question")
}

// Where there is no curve the charts say why, unless it is on its way.
func TestChartsSayWhyTheyAreEmpty(t *testing.T) {
	e := testExample()
	e.Runs = []wire.State{{Run: "world:nrt", Method: "nrt", Saved: true, Of: 80, Status: wire.StatusDone}}
	s := New([]Example{e})
	for link, why := range map[Link]string{Saved: "", Loading: "", Live: "", Waiting: "needs the server", Offline: "needs the server", Locked: "needs the server"} {
		s.Link = link
		wants(t, Curves(&s), `"runs":[]`, `"why":"`+why+`"`)
	}
	s.Link = Waiting
	s.Runs[0].Steps = []wire.Point{{Step: 1}}
	wants(t, Curves(&s), `"why":""`)
}

// While one types, what both parts take is counted against what the model reads, and
// what is too long is not sent.
func TestTypingIsCounted(t *testing.T) {
	s := testState()
	s.Link = Live
	s, _ = s.Do("question", "who ?")
	s, _ = s.Do("answer", "ruth")
	s.Typing.Known, s.Typing.AnswerPieces = true, []wire.Piece{{Text: "ruth"}, {Text: "end", Special: true}}
	s.Typing.Takes, s.Typing.Reads = 12, 128
	if have := Fragment(&s, "ask-note"); !strings.Contains(have, "2 tokens, end included. With the question 12 of the 128 that this model reads") {
		t.Errorf("have %s", have)
	}
	s.Typing.Takes = 128
	if have := Fragment(&s, "ask-note"); !strings.Contains(have, "Too long: question and answer take 128 tokens") {
		t.Errorf("have %s", have)
	}
	if s, out := s.Do("ask", ""); len(out) != 0 || !s.Typing.Refused {
		t.Errorf("asks %v", out)
	}
}

// A question that is too long is not asked again as it is; where there are no chains none
// is spoken of.
func TestTooLongToAsk(t *testing.T) {
	s := testState().receives(&wire.Welcome{Session: "s", Models: []wire.Model{{Name: "test"}}})
	s.Runs = []Run{{State: wire.State{Run: "world:nrt", Saved: true, Of: 80, Checkpoints: []wire.Checkpoint{{Step: 0, Model: s.Model}, {Step: 80, Model: "other"}}}}}
	s.Run, s.AtStep = "world:nrt", -1
	if html := Fragment(&s, "train"); !strings.Contains(html, "wrote these chains") {
		t.Fatalf("with chains it says %s", html)
	}
	s.Reading = &Reading{Ask: s.Reading.Ask, Status: Failed}
	if html := Fragment(&s, "train"); strings.Contains(html, "these chains") {
		t.Errorf("without chains it says %s", html)
	}
	for code, want := range map[string]string{wire.CodeTooLong: "Change the question", wire.CodeInternal: "Try again"} {
		s.Notice = &Notice{Code: code, Text: "It did not work."}
		html := Fragment(&s, "notes")
		if has := strings.Contains(html, "Try again"); has != (want == "Try again") || !strings.Contains(html, want) {
			t.Errorf("%s: want %q alone in %s", code, want, html)
		}
	}
}
