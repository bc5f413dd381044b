package view

import (
	"math"
	"slices"
	"strings"

	"nrt/web/wire"
)

// BadgeKind is the badge's class beside "badge": shape, word and colour change
// together.
func BadgeKind(s *State) string {
	switch {
	case s.Link == Live:
		return ""
	case s.Link == Loading, s.Link == Waiting && s.Session != "":
		return "wait"
	}
	return "off"
}

// badge is the link in a word.
func (p *page) badge(s *State) {
	text := "Example"
	switch s.Link {
	case Loading:
		text = "Connecting"
	case Live:
		text = "Live"
		if r := s.training(); r != nil {
			text = "Training, step " + intText(r.Step)
		}
	case Waiting:
		text = "Reconnecting" + when(s.Retry > 0, ", "+intText(s.Retry)+" s")
		if s.Session == "" { // the page came from the browser's own store
			text = "Offline"
		}
	case Offline:
		text = "Offline"
	case Locked:
		text = "No token"
	}
	p.raw(`<i></i>`, text)
}

// training is the reader's own run at work: the one that is followed, else the
// latest; nil without.
func (s *State) training() *Run {
	var own *Run
	for i := range s.Runs {
		if r := &s.Runs[i]; r.Mine && r.Status == wire.StatusRunning && (own == nil || own.State.Run != s.Run) {
			own = r
		}
	}
	return own
}

// note is one message with an icon and buttons.
func (p *page) note(class, icon, head, text string, acts func()) {
	p.raw(`<div class="note`, class, `">`).icon(icon).raw(`<div class="grow"><b>`).text(head).raw(`</b> `).text(text).raw(`</div>`)
	if acts != nil {
		p.raw(`<div class="acts">`)
		acts()
		p.raw(`</div>`)
	}
	p.raw(`</div>`)
}

func (p *page) act(name, label string) {
	p.raw(`<button type="button" class="btn" id="note-`, name, `" data-act="`, name, `">`, label, `</button>`)
}

func (p *page) changeQuestion() {
	p.raw(`<button type="button" class="btn" id="note-words" data-act="open" data-dialog="ask">Change the question</button>`)
}

// notes are what is wrong or going on, above the question: the link, the queue,
// a refusal, a group without a gradient.
func (p *page) notes(s *State) {
	s.linkNote(p)
	r := s.Reading
	if r != nil && r.Status == Queued {
		p.raw(`<div class="note">`).icon(iconClock).raw(`<div class="grow"><b>`).text(queueText(r.Place, r.Wait)).raw(`</b> <div class="queue" aria-hidden="true"><i class="run"></i>`)
		p.raw(strings.Repeat(`<i></i>`, min(max(r.Place-1, 0), 12)), `<i class="me"></i></div><span class="cap">Green is being answered, black is you.</span></div><div class="acts">`)
		p.act("cancel", "Leave")
		p.raw(`</div></div>`)
	}
	if n := s.Notice; n != nil {
		head, text, two := strings.Cut(n.Text, ". ")
		head += when(two, ".")
		if n.Code == wire.CodeBusy && n.Retry > 0 { // not of connections
			head, text = "The queue is full.", "What you asked is kept in this page’s address."
		}
		if n.Retry > 0 {
			text = strings.TrimSpace(text + " Try again in about " + seconds(n.Retry) + ".")
		}
		shared := n.Code == CodeShared
		p.note(when(!shared, " warn"), either(shared, iconLink, iconWarning), head, text, func() {
			switch {
			case r == nil || r.Status != Failed || n.Code == wire.CodeNoModel:
			case n.Code == wire.CodeTooLong: // and would be again
				p.changeQuestion()
			default:
				p.act("retry", "Try again")
			}
			p.act("dismiss", "Close")
		})
	}
	if head := s.lacks(); head != "" {
		p.note("", iconWarning, head, unknownRead, p.changeQuestion)
	}
	if !s.Clip {
		p.note("", iconNone, "The clip is off.", "A chain below no reasoning counts with its whole reward, as R′ = R.", func() {
			p.raw(`<button type="button" class="btn" id="note-clip" data-act="clip" data-value="true">Switch the clip on</button>`)
		})
	}
	if sc, g := s.scores(), s.group(); sc.ready && g != nil {
		switch {
		case s.Reading.Status == Cancelled: // of some chains, which would not be trained on
		case len(s.Reading.Chains) == 1:
			p.note("", iconNone, "One chain has no group.", "Its advantage is 0: ask for two chains or more to compare them.", nil)
		case g.AllHarmful:
			p.note(" warn", iconNone, noGradient, "No chain scored higher than no reasoning at all: all gains clip to 0, and nothing is learned here.", func() {
				p.act("again", "New chains")
				p.act("clip-off", "Switch the clip off")
			})
		case g.ZeroVariance:
			p.note("", iconNone, noGradient, "All chains earn the same, so none is better than the others.", func() { p.act("again", "New chains") })
		}
	} else if sc.err != nil {
		p.note(" warn", iconWarning, "These numbers cannot be scored.", sc.err.Error(), nil)
	}
}

// noGradient is said of a group that teaches nothing.
const noGradient = "No gradient from this group."

// lacks counts, in a sentence, the words that the model cannot tell from each other;
// "" if it can tell all.
func (s *State) lacks() string {
	if s.Reading == nil {
		return ""
	}
	n := 0
	for _, w := range slices.Concat(s.Reading.Prompt, s.Reading.Answer) {
		if w.Unknown {
			n++
		}
	}
	return when(n > 0, "This model lacks "+count(n, "word")+" of the question and its answer.")
}

// unknownRead is what the model does with these words.
const unknownRead = "It reads each as the same unknown word, so the numbers say little."

// sentenceOf is an error's words as a sentence. One that begins with the name of a place
// in a file keeps it as it is.
func sentenceOf(text string) string {
	if text == "" {
		return text
	}
	first, _, _ := strings.Cut(text, " ")
	if c := text[0]; c >= 'a' && c <= 'z' && !strings.ContainsAny(first, ":.") {
		text = string(c-'a'+'A') + text[1:]
	}
	if strings.ContainsAny(text[len(text)-1:], ".!?") {
		return text
	}
	return text + "."
}

// away reports whether there was a server, or none was found, and there is none now.
func (s *State) away() bool { return s.Link == Waiting || s.Link == Offline || s.Link == Locked }

// stillWorks is what the page does without a server.
const stillWorks = "Formulas, ranks and what-ifs that were scored still work. New chains, edits and training need the server."

func (s *State) linkNote(p *page) {
	again := either(s.Retry > 0, "Trying again in "+intText(s.Retry)+" s.", "Trying again now.")
	switch {
	case s.Link == Waiting && s.Session == "":
		p.note("", iconPlug, "Offline: no server answers. "+again, stillWorks, func() { p.act("reconnect", "Now") })
	case s.Link == Waiting:
		p.note(" warn", iconPlug, "Connection lost. "+again, s.kindOfLoss(), func() { p.act("reconnect", "Now") })
	case s.Link == Offline:
		p.note("", iconPlug, "Offline.", stillWorks, func() { p.act("reconnect", "Try again") })
	case s.Link == Locked:
		p.note(" warn", iconPlug, "This server asks for its token.", "Open the address with ?token= that it printed when it was started, once in this browser; whoever started it has it. "+stillWorks, func() { p.act("reconnect", "Try again") })
	}
}

// kindOfLoss says what a lost connection does to the chains under way.
func (s *State) kindOfLoss() string {
	r := s.Reading
	if r == nil || !r.under() || len(r.Chains) == 0 {
		return "Nothing is gone. " + stillWorks
	}
	var done []string
	for i := range r.Chains {
		if r.Chains[i].Done {
			done = append(done, intText(i+1))
		}
	}
	switch len(done) {
	case 0:
		return "Nothing is gone: the chains go on from where they were."
	case 1:
		return "Nothing is gone: chain " + done[0] + " is complete, the others go on."
	}
	return "Nothing is gone: chains " + enumerated(done) + " are complete."
}

// queueText is the place in the queue and the time, in words.
func queueText(place int, wait float64) string {
	text := "You are next."
	switch {
	case place == 1:
		text = "Busy. One question is before you."
	case place > 1:
		text = "Busy. " + intText(place) + " questions are before you."
	}
	if wait > 0 {
		text += " About " + seconds(wait) + "."
	}
	return text
}

func seconds(x float64) string {
	if x >= 90 {
		return intText(int(math.Round(x/60))) + " minutes"
	}
	return intText(max(int(math.Ceil(x)), 1)) + " s"
}

// endText is what the status region says when the chains are complete.
func (s *State) endText() string {
	r := s.Reading
	if r.Status == Cancelled {
		if len(r.Chains) == 0 {
			return "Stopped. No chain was written."
		}
		return "Stopped. " + count(r.done(), "chain") + " complete."
	}
	sc := s.scores()
	if len(sc.order) == 0 {
		return "No chain could be scored."
	}
	g := s.group()
	ready := either(len(r.Chains) == 1, "Chain 1 ready", "All "+count(len(r.Chains), "chain")+" ready. Best: "+sc.first(s.Mode))
	return ready + ", reward " + number(s.chainScore(sc.order[0]).R) + "; no reasoning " + number(g.Base) + "." +
		when(len(r.Chains) > 1 && (g.AllHarmful || g.ZeroVariance), " "+noGradient) + when(s.lacks() != "", " "+s.lacks()+" "+unknownRead)
}
