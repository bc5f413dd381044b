package main

import (
	"errors"
	"fmt"
	"io"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/run"
	"nrt/trainer/verdict"
)

// scoreFlags are what score was asked.
type scoreFlags struct {
	model     modelFlags
	reward    rewardFlags
	in        string
	format    string
	keepGoing bool
	json      bool

	unknown int // words of the lines so far that the model lacks
}

func scoreCommand() *command {
	var s scoreFlags
	return &command{
		name: "score", group: groupAsk, short: "reward chains of your own",
		args: "[--model M] --in F.jsonl [--mode MODE] [--keep-going] [--json]",
		long: `
Each line of the file is {"question": …, "answer": …, "chains": ["…", …]}. Chains
are tokenised on their own and closed; they need not come from this model. The
chains of a line are a group: their advantages are relative to each other.

A bad line stops the command with file:line and the field. With --keep-going it
is reported and passed over, and the exit status is 1 in the end.

With --json each line gives one line of output: per chain c, b, weights,
contribution, g (∂R′/∂log c), R, R_base, R_clipped (R′) and A.`,
		examples: []string{
			"nrt score --model ./llama --in chains.jsonl --mode ws-logp",
			"nrt score --in chains.jsonl --json | jq -r '.chains[] | [.rank, .A, .chain] | @tsv'",
			"producer | nrt score --model ./llama --in - --keep-going --json > scored.jsonl",
		},
		bind: func(f *flags) func(*env) error {
			s.model.bind(f)
			f.text(&s.in, "in", "F", "JSON lines, or a Parquet file; - reads standard input")
			s.reward.bind(f)
			f.text(&s.format, "format", "NAME", "how question and answer are laid out; empty goes by the tokenizer")
			f.toggle(&s.keepGoing, "keep-going", "report bad lines and go on")
			f.json(&s.json)
			return func(e *env) error {
				if s.in == "" {
					return usagef("want --in")
				}
				if err := s.reward.parse(); err != nil {
					return err
				}
				return s.run(e)
			}
		},
	}
}

func (s *scoreFlags) run(e *env) (err error) {
	in, name := e.in, "standard input"
	if s.in != "-" {
		f, failed := data.Open(s.in)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in, name = data.Until(e.ctx, f), s.in
	}
	l, err := e.openText(s.model)
	if err != nil {
		return err
	}
	defer closing(l, &err)
	form, err := l.tok.Format(s.format)
	if err != nil {
		return usagef("--format: %w", err)
	}
	lines := data.NewReader(in, name, data.Options{})
	good, bad := 0, 0
	defer func() { e.warnUnknown(l.tok, s.unknown, "all lines") }()
	for {
		err := s.line(e, l, form, lines)
		if err == io.EOF {
			break
		}
		var at *data.LineError
		switch {
		case err == nil:
			good++
		case errors.As(err, &at) && s.keepGoing:
			bad++
			if err := e.out.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(e.err, "nrt score: %v\n", err)
		default:
			return err
		}
	}
	switch {
	case bad > 0:
		return fmt.Errorf("%s: %d of %d lines could not be scored", name, bad, bad+good)
	case good == 0:
		return fmt.Errorf("%s: no lines", name)
	}
	return nil
}

// line reads, scores and prints the next line. What is wrong with the line
// itself is a *data.LineError.
func (s *scoreFlags) line(e *env, l *loaded, form *token.Format, lines *data.Reader) error {
	ex, err := lines.Next()
	if err != nil {
		return err
	}
	wrong := func(field, format string, args ...any) error {
		return &data.LineError{File: ex.File, Line: ex.Line, Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	if ex.Text != "" {
		return wrong("question", "is missing: want question, answer and chains")
	}
	chains, err := ex.Texts("chains")
	if err != nil {
		return err
	}
	prompt := form.Prompt(ex.Question)
	if ex.Messages != nil {
		turns := make([]token.Message, len(ex.Messages))
		for i, m := range ex.Messages {
			turns[i] = token.Message{Role: m.Role, Content: m.Content}
		}
		if prompt, err = form.Messages(turns); err != nil {
			return wrong("messages", "%v", err)
		}
	}
	req := verdict.Given(l.tok, form, prompt, ex.Answer, chains)
	s.unknown += run.Unknown(l.tok, prompt, req.Reference)
	fixed := len(prompt) + len(form.Close) + len(req.Reference)
	for i := range chains {
		s.unknown += run.Unknown(l.tok, req.Forced[i])
		if n, limit := len(req.Forced[i])+fixed, l.model.Config.MaxPositions; n > limit {
			return wrong(fmt.Sprintf("chains[%d]", i), "question, chain and answer are %d tokens; the model reads at most %d", n, limit)
		}
	}
	if err := l.afford("their number", req); err != nil {
		return wrong("chains", "%v", err)
	}
	results, err := l.engine.Generate(e.ctx, []engine.Request{req}, nil)
	if err != nil {
		return err
	}
	v, g, err := l.judge(ex.Question, ex.Answer, form, req.Reference, results[0], s.reward.Options)
	if err != nil {
		return wrong("", "%v", err)
	}
	for i := range v.Chains {
		v.Chains[i].Text = chains[i] // as given, not as decoded
	}
	if s.json {
		return e.printJSON(verdict.Line{Line: ex.Line, Verdict: v}, false)
	}
	fmt.Fprintf(e.out, "%s:%d  R_base %s%s\n", ex.File, ex.Line, decimal(g.Base), spaced(v.Note))
	for _, i := range ranking(g) {
		c := v.Chains[i]
		fmt.Fprintf(e.out, "%4d.  chain %-3d  R %s  R′ %s  A %s  %s\n", c.Rank, i+1,
			padLeft(decimal(float64(c.R)), 8), padLeft(decimal(float64(c.Clipped)), 8), padLeft(signed(float64(c.Advantage)), 6), clip(visible(c.Text), 50))
	}
	return nil
}

// spaced is text with two spaces before it, or "".
func spaced(text string) string {
	if text == "" {
		return ""
	}
	return "  " + text
}

// clip shortens text to n columns.
func clip(text string, n int) string {
	if columns(text) <= n {
		return text
	}
	width := 0
	for i, r := range text {
		if width += columns(string(r)); width >= n {
			return text[:i] + "…"
		}
	}
	return text
}
