package run

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"strings"
	"time"
)

// Status is what the progress line shows of one step.
type Status struct {
	Step    int
	Reward  float64 // mean; NaN leaves it out, as for SFT
	Loss    float64 // shown when Reward is left out
	Entropy float64 // mean of the chains' tokens, nats; NaN leaves it out
	Tokens  int     // trained and sampled in this step
}

// Progress shows how a run goes: on a terminal one line that is rewritten,
// elsewhere a line every few seconds.
type Progress struct {
	terminalLine
	terminal bool
	every    time.Duration
	total    int
	now      func() time.Time

	last    time.Time // when the previous step ended
	perStep float64   // seconds, smoothed
	reward  float64   // smoothed; NaN before the first
	rate    float64   // tokens per second, smoothed
	shown   time.Time
	pending string // what the line says, or would where none is rewritten
}

// terminalLine is one on a terminal that is rewritten.
type terminalLine struct {
	out   io.Writer
	width int // of what it says, in characters
}

func (l *terminalLine) rewrite(text string) {
	n := len([]rune(text))
	l.print("\r" + text + strings.Repeat(" ", max(0, l.width-n)))
	l.width = n
}

// print ignores failures: nothing stops because nobody can watch it.
func (l *terminalLine) print(s string) {
	if _, err := io.WriteString(l.out, s); err != nil {
		l.out = io.Discard
	}
}

// NewProgress starts the clock: now is when the first step begins. total is the
// number of the run's last step.
func NewProgress(out io.Writer, terminal bool, total int, now func() time.Time) *Progress {
	return &Progress{terminalLine: terminalLine{out: out}, terminal: terminal, every: 5 * time.Second, total: total, now: now, last: now(), reward: math.NaN()}
}

// IsTerminal tells whether f is a terminal that can rewrite a line.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// Step reports a finished step.
func (p *Progress) Step(s Status) {
	now := p.now()
	p.measure(now.Sub(p.last).Seconds(), s.Tokens)
	p.last = now
	if math.IsNaN(p.reward) {
		p.reward = s.Reward
	} else if !math.IsNaN(s.Reward) {
		p.reward += 0.1 * (s.Reward - p.reward)
	}
	text := p.text(s)
	switch {
	case p.terminal:
		p.rewrite(text)
		p.pending = text
	case p.shown.IsZero() || now.Sub(p.shown) >= p.every || s.Step >= p.total:
		p.shown = now
		p.print(text + "\n")
		p.pending = ""
	default:
		p.pending = text
	}
}

// Pause does not count the time until the next step begins: call it with the
// function that does something else, such as an evaluation or a checkpoint.
func (p *Progress) Pause(do func() error) error {
	began := p.now()
	err := do()
	p.last = p.last.Add(p.now().Sub(began))
	return err
}

// Note prints a line of its own, above the progress line.
func (p *Progress) Note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.terminal && p.width > 0 {
		p.rewrite(text)
		p.print("\n" + p.pending)
		p.width = len([]rune(p.pending))
		return
	}
	p.print(text + "\n")
}

// Done ends the line on a terminal, and prints the last step elsewhere.
func (p *Progress) Done() {
	switch {
	case p.terminal && p.width > 0:
		p.print("\n")
	case !p.terminal && p.pending != "":
		p.print(p.pending + "\n")
	}
	p.width, p.pending = 0, ""
}

// measure smooths the time of a step and the rate over about the last ten.
func (p *Progress) measure(seconds float64, tokens int) {
	seconds = max(seconds, 1e-9)
	rate := float64(tokens) / seconds
	if p.perStep == 0 {
		p.perStep, p.rate = seconds, rate
		return
	}
	p.perStep += 0.1 * (seconds - p.perStep)
	p.rate += 0.1 * (rate - p.rate)
}

// text is the line: "step 12/100  reward 0.412 (lately 0.398)  entropy 1.83  3.2k tok/s  4m10s left".
func (p *Progress) text(s Status) string {
	parts := []string{fmt.Sprintf("step %d/%d", s.Step, p.total)}
	if math.IsNaN(s.Reward) {
		parts = append(parts, fmt.Sprintf("loss %.4g", s.Loss))
	} else {
		parts = append(parts, fmt.Sprintf("reward %.4g (lately %.4g)", s.Reward, p.reward))
	}
	if !math.IsNaN(s.Entropy) {
		parts = append(parts, fmt.Sprintf("entropy %.3g", s.Entropy))
	}
	parts = append(parts, rate(p.rate)+" tok/s")
	left := time.Duration(float64(p.total-s.Step) * p.perStep * float64(time.Second))
	parts = append(parts, span(max(left, 0))+" left")
	return strings.Join(parts, "  ")
}

// rate is a number of tokens with three digits: 987, 3.21k, 1.20M.
func rate(r float64) string {
	switch {
	case r >= 999.5e3:
		return fmt.Sprintf("%.3gM", r/1e6)
	case r >= 999.5:
		return fmt.Sprintf("%.3gk", r/1e3)
	}
	return fmt.Sprintf("%.0f", r)
}

// span is a duration to be read at a glance: 45s, 4m10s, 3h05m, 2d04h.
func span(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 48*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// gains are what a run has changed, by the lines of its metrics.
type gains struct {
	from    int       // the first step whose evaluation asks what the last one does
	rewards []float64 // of its steps
	exams   []Values  // the first such evaluation and the last
}

func (g *gains) add(v Values) {
	if r, ok := v["reward"]; ok {
		g.rewards = append(g.rewards, r)
	}
	if _, ok := v["eval/reference_logprob"]; ok && v["step"] >= float64(g.from) {
		g.exams = append(g.exams[:min(len(g.exams), 1)], maps.Clone(v))
	}
}

// text is the mean reward of the first and last tenth of the steps, and the two
// evaluations.
func (g *gains) text() (out []string) {
	rewards := g.rewards
	if n := len(rewards) / 10; n > 0 {
		mean := func(part []float64) (m float64) {
			for _, r := range part {
				m += r / float64(len(part))
			}
			return m
		}
		out = append(out, fmt.Sprintf("reward %.4g → %.4g, means of the first and last tenth of the steps", mean(rewards[:n]), mean(rewards[len(rewards)-n:])))
	}
	if len(g.exams) > 1 {
		first, last := g.exams[0], g.exams[1]
		out = append(out, fmt.Sprintf("held-out reference log-prob %.4f → %.4f a token, step %.0f → %.0f", first["eval/reference_logprob"], last["eval/reference_logprob"], first["step"], last["step"]))
	}
	return out
}
