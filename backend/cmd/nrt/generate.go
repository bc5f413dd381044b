package main

import (
	"fmt"
	"slices"

	"nrt/backend/engine"
	"nrt/trainer/run"
	"nrt/trainer/verdict"
)

// generateFlags are what generate was asked.
type generateFlags struct {
	model            modelFlags
	sampling         samplingFlags
	prompt, question string
	asks             bool // --question, not --prompt
	n, maxTokens     int
	maxChain         int
	format           string
	json             bool
}

func generateCommand() *command {
	g := generateFlags{n: 1}
	return &command{
		name: "generate", group: groupAsk, short: "let a model go on writing, or answer a question",
		args: "[--model M] (--prompt T | --question Q) [--n K] [--max-tokens N] [--json]",
		long: `
--prompt continues a text as it stands. --question lays the question out as
the model was trained, samples a chain of reasoning, closes it, and samples an
answer. Tokens are printed as they come; with --json all at once, each with its
log-probability (at the sampling temperature) and entropy.`,
		examples: []string{
			"nrt generate --model ./llama --prompt 'Once upon a time' --max-tokens 60",
			"nrt generate --model ./llama --prompt 'The answer is' --n 4 --seed 7 --json",
			"nrt generate --model runs/gsm8k/checkpoint-200 --question 'What is 3 times 4?' --temperature 0",
		},
		bind: func(f *flags) func(*env) error {
			g.model.bind(f)
			f.text(&g.prompt, "prompt", "T", "text to go on with; - reads standard input")
			f.text(&g.question, "question", "Q", "question to answer; - reads standard input")
			f.integer(&g.n, "n", "K", "how many continuations")
			f.amount(&g.maxTokens, "max-tokens", "N", "longest continuation, or answer, in tokens; 0 is what fits, up to 256")
			f.amount(&g.maxChain, "max-chain", "N", "longest chain in tokens, with --question; 0 is what fits, up to 512")
			g.sampling.bind(f)
			f.text(&g.format, "format", "NAME", "how a question is laid out; empty goes by the tokenizer")
			f.json(&g.json)
			return func(e *env) error {
				if f.given("prompt") == f.given("question") {
					return usagef("want either --prompt or --question")
				}
				g.asks = f.given("question")
				for _, flag := range []string{"max-chain", "format"} {
					if !g.asks && f.given(flag) {
						return usagef("--%s: is for --question: a text that is gone on with has no chain and no layout", flag)
					}
				}
				if err := checkChains("n", g.n); err != nil {
					return err
				}
				if err := g.sampling.check(); err != nil {
					return err
				}
				return g.run(e)
			}
		},
	}
}

// completion is one continuation in JSON, without the stop token that ended it. For a
// question Text is the chain, with the boundary if it wrote one, and Answer what
// follows.
type completion struct {
	Text    string         `json:"text"`
	Finish  string         `json:"finish"`
	Tokens  []verdict.Said `json:"tokens"`
	LogProb verdict.Number `json:"logprob"` // of Tokens
	Answer  *answer        `json:"answer,omitempty"`
}

type answer struct {
	Text   string         `json:"text"` // without what ends it
	Tokens []verdict.Said `json:"tokens"`
}

func (g *generateFlags) run(e *env) (err error) {
	l, err := e.openText(g.model)
	if err != nil {
		return err
	}
	defer closing(l, &err)
	if g.asks {
		g.question, err = e.asked("question", g.question, false)
	} else {
		g.prompt, err = e.asked("prompt", g.prompt, true) // the tokenizer may put a token in front
	}
	if err != nil {
		return err
	}
	req, err := g.request(l)
	if err != nil {
		return err
	}
	text := "the prompt"
	if g.asks {
		text = "the question"
	}
	e.warnUnknown(l.tok, run.Unknown(l.tok, req.Prompt), text)
	shorter := "--n or --max-tokens"
	if g.asks {
		shorter = "--n, --max-chain or --max-tokens"
	}
	if err := l.afford(shorter, req); err != nil {
		return err
	}
	var emit func(engine.Event)
	if !g.json {
		emit = g.show(e, l, &req)
	}
	results, err := l.engine.Generate(e.ctx, []engine.Request{req}, emit)
	if err != nil || !g.json {
		return err
	}
	out := struct {
		Model       string       `json:"model"`
		Prompt      string       `json:"prompt,omitempty"`
		Question    string       `json:"question,omitempty"`
		Seed        uint64       `json:"seed"`
		Completions []completion `json:"completions"`
	}{Model: l.name, Prompt: g.prompt, Question: g.question, Seed: req.Seed}
	for _, c := range results[0].Chains {
		out.Completions = append(out.Completions, g.completion(l, &req, c))
	}
	return e.printJSON(out, true)
}

// request asks the engine for what the flags say.
func (g *generateFlags) request(l *loaded) (engine.Request, error) {
	req := engine.Request{N: g.n, Sampling: g.sampling.Sampling, Seed: g.sampling.seed}
	if !g.asks {
		req.Prompt = l.tok.EncodeSpecial(g.prompt)
		if len(req.Prompt) == 0 {
			return req, usagef("--prompt: no tokens, and the tokenizer puts none in front")
		}
		req.Stop = l.ends()
		var err error
		req.MaxChain, err = l.room("max-tokens", g.maxTokens, len(req.Prompt), 256)
		return req, err
	}
	form, err := l.tok.Format(g.format)
	if err != nil {
		return req, usagef("--format: %w", err)
	}
	req.Prompt = form.Prompt(g.question)
	req.Close, req.StopText = form.Close, form.StopText
	req.Stop, req.AnswerStop = form.End, form.End
	// What fits is shared: an answer gets a third, at most.
	used := len(req.Prompt) + len(req.Close)
	free := l.model.Config.MaxPositions - used
	if free < 2 {
		return req, fmt.Errorf("the question is %d tokens and leaves no room for chain and answer: the model has %d positions (max_position_embeddings)", used, l.model.Config.MaxPositions)
	}
	if req.MaxAnswer, err = l.room("max-tokens", g.maxTokens, used+1, min(256, max(1, free/3))); err != nil {
		return req, err
	}
	req.MaxChain, err = l.room("max-chain", g.maxChain, used+req.MaxAnswer, 512)
	return req, err
}

// show prints continuations as they come, without what ends them.
func (g *generateFlags) show(e *env, l *loaded, req *engine.Request) func(engine.Event) {
	s := speller{tok: l.tok}
	print := func(text string) {
		if e.terminal {
			text = harmless(text)
		}
		e.out.WriteString(text)
		if e.terminal {
			e.out.Flush()
		}
	}
	stream := &inOrder{
		begin: func(chain int) {
			if g.n > 1 {
				fmt.Fprintf(e.out, "— %d of %d —\n", chain+1, g.n)
			}
		},
		token: func(ev engine.Event) {
			text := ""
			if ev.Part == engine.PartAnswer && ev.Index == 0 {
				text = s.rest() + "\n"
			}
			if !slices.Contains(req.Stop, ev.Token.ID) {
				text += s.push(ev.Token.ID)
			}
			print(text)
		},
		end: func() { print(s.rest() + "\n") },
	}
	return stream.event
}

func (g *generateFlags) completion(l *loaded, req *engine.Request, c engine.Chain) completion {
	out := completion{Text: verdict.Text(l.tok, c.Tokens, req.Stop), Finish: c.Finish, Tokens: verdict.Say(l.tok, c.Tokens)}
	for _, t := range out.Tokens {
		out.LogProb += t.LogProb
	}
	if g.asks {
		out.Answer = &answer{Text: verdict.Text(l.tok, c.Answer, req.AnswerStop), Tokens: verdict.Say(l.tok, c.Answer)}
	}
	return out
}
