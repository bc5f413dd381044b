// Package data reads training and evaluation examples from JSON lines or Parquet files,
// holds some out, and deals them in shuffled epochs whose position can be saved and restored.
//
// # Invariants
//
//   - A row of a Parquet file is a line: one JSON object, one error, one number.
//   - An error about a line names file, line and field and says what to do. It
//     is a *LineError; the reader can go on after it.
//   - Text reaches the trainer exactly as it stands in the file: invalid UTF-8
//     and lone surrogates are errors, never silently replaced.
//   - Every order is a function of the seed and the data alone. Restoring a
//     position on other data is an error.
//
// Read Example first, then Reader (reader.go), form.go (which fields a line
// may have), parquet.go (lines of a table), Sampler.
package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// Message is one turn of a conversation; fields as in token.Message.
type Message struct{ Role, Content string }

// Example is one line of a data file.
type Example struct {
	// Question and Answer are the input and the reference. For a line of
	// messages, Question is the last user turn before the reference.
	Question, Answer string
	// Messages are all turns before the reference, when the line has the form
	// messages or a conversational prompt; otherwise nil.
	Messages []Message
	// Text is the document of the form text, for plain language modelling;
	// Question and Answer are then empty.
	Text string
	// Family is the line's "family" field when it is a string: evaluation
	// reports each family apart.
	Family string
	// Extra holds the fields that the form does not use, as they stand in the line.
	// It is nil when there are none. Texts reads one.
	Extra map[string]json.RawMessage
	// File and Line say where the example stands; lines, and rows of Parquet, count from 1.
	File string
	Line int
}

// fingerprint identifies a list of examples by all that training reads of it:
// 32 hexadecimal digits of SHA-256. Order counts; file names do not.
func fingerprint(examples []Example) string {
	h := sha256.New()
	var b []byte
	for i := range examples {
		e := &examples[i]
		b = appendStrings(e.appendPrompt(b[:0]), e.Answer, e.Text)
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// appendPrompt writes what the policy is asked, unambiguously.
func (e *Example) appendPrompt(b []byte) []byte {
	b = appendStrings(b, e.Question)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(e.Messages)))
	for _, m := range e.Messages {
		b = appendStrings(b, m.Role, m.Content)
	}
	return b
}

// appendStrings writes each string with its length before it, so that ("ab", "c")
// and ("a", "bc") differ.
func appendStrings(b []byte, list ...string) []byte {
	for _, s := range list {
		b = append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
	}
	return b
}

// Split holds out about the given share of the examples (0 to 1). Which side an
// example falls on depends only on the seed and its prompt (its text, for the
// form text): equal questions are never split, and adding lines moves no other
// line. Both results keep the order.
func Split(examples []Example, share float64, seed uint64) (train, held []Example) {
	for _, e := range examples {
		if e.uniform(seed) < share {
			held = append(held, e)
		} else {
			train = append(train, e)
		}
	}
	return train, held
}

// Shared counts the held examples whose prompt (text, for the form text) a training
// example has too, in whatever form.
func Shared(train, held []Example) (n int) {
	prompt := func(e Example) [sha256.Size]byte {
		if slices.Equal(e.Messages, []Message{{"user", e.Question}}) {
			e.Messages = nil
		}
		return e.prompt(0)
	}
	asked := make(map[[sha256.Size]byte]int, len(held)) // held examples with this prompt
	for _, e := range held {
		asked[prompt(e)]++
	}
	for _, e := range train {
		p := prompt(e)
		n += asked[p]
		delete(asked, p)
	}
	return n
}

// uniform is a number in [0,1) drawn by hashing the prompt.
func (e *Example) uniform(seed uint64) float64 {
	sum := e.prompt(seed)
	return float64(binary.LittleEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// prompt is a hash of what the policy is asked, or of the text, and of seed.
func (e *Example) prompt(seed uint64) [sha256.Size]byte {
	b := binary.LittleEndian.AppendUint64(nil, seed)
	return sha256.Sum256(appendStrings(e.appendPrompt(b), e.Text))
}
