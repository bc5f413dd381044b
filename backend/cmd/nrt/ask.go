package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/run"
)

// mostChains is how many chains a question may get: more is a slip of the hand.
const mostChains = 1024

// checkChains checks a flag that says how many chains.
func checkChains(flag string, n int) error {
	if n < 1 || n > mostChains {
		return usagef("--%s: want 1 to %d, have %d", flag, mostChains, n)
	}
	return nil
}

// asked is a flag's text, or for "-" what standard input holds, if a model can
// be asked it: the same is checked of a line of "nrt score". Text that is not taken as
// it stands must not be empty, and the line break that ends what was piped is no part
// of it.
func (e *env) asked(flag, text string, asIs bool) (string, error) {
	piped := text == "-"
	text, err := e.textOrStdin(text)
	if err != nil {
		return "", err
	}
	if piped && !asIs {
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	}
	switch problem := textProblem(text, asIs); {
	case problem == "":
		return text, nil
	case piped:
		return "", fmt.Errorf("--%s: standard input: %s", flag, problem)
	default:
		return "", usagef("--%s: %s", flag, problem)
	}
}

// textProblem says why no model can be asked a text; "" if one can.
func textProblem(text string, empty bool) string {
	if !empty && strings.TrimSpace(text) == "" {
		return "is empty"
	}
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRuneInString(text[i:])
		if c == utf8.RuneError && size == 1 {
			return fmt.Sprintf("byte %d (0x%02x) is not UTF-8", i+1, text[i])
		}
		i += size
	}
	return ""
}

// warnUnknown tells once of words that the model cannot tell from each other.
func (e *env) warnUnknown(tok *token.Tokenizer, n int, text string) {
	if note := run.UnknownNote(n, tok, text); note != "" {
		fmt.Fprintf(e.err, "nrt: %s\n", note)
	}
}

// room is how many tokens fit after used ones: what the flag asked for, or with
// 0 as many as the model has positions, at most most.
func (l *loaded) room(flag string, asked, used, most int) (int, error) {
	positions := l.model.Config.MaxPositions
	left := positions - used
	switch {
	case left < 1:
		return 0, fmt.Errorf("the text is %d tokens and leaves no room for more: the model has %d positions (max_position_embeddings)", used, positions)
	case asked > left:
		return 0, usagef("--%s: want at most %d, since the model has %d positions (max_position_embeddings) and %d are taken, have %d", flag, left, positions, used, asked)
	case asked > 0:
		return asked, nil
	}
	return min(most, left), nil
}

// afford refuses requests that are asked together and would not fit into the memory
// that is free. what names what makes them smaller.
func (l *loaded) afford(what string, together ...engine.Request) error {
	need := engine.Memory(l.model.Config, l.bounds, together...).Bytes(l.dev)
	if l.free <= 0 || need <= l.free {
		return nil
	}
	chains, longest := 0, 0
	for _, r := range together {
		chains, longest = chains+max(r.N, len(r.Forced)), max(longest, r.MaxChain)
		for _, given := range r.Forced {
			longest = max(longest, len(given))
		}
	}
	return fmt.Errorf("memory: %s of up to %s would take %s, and %s are free: lower %s", plural(chains, "chain"), plural(longest, "token"), gigabytes(need), gigabytes(l.free), what)
}
