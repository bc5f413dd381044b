// Package wire is what page and server say to each other: one JSON object a
// websocket text message, the same Go structs on both sides.
//
//	{"v":1,"t":"ask","id":"q1","question":"…","answer":"…","k":8,…}
//
// v is the protocol's version, t the message's type, id names the request that
// a message belongs to (the page chooses it), seq counts the server's messages
// of a session from 1. After a lost connection the page says hello with the
// session and the last seq it saw, and the server sends what came after.
//
// One question goes
//
//	ask → queued* → start → frame* → end            or failed
//
// a what-if, which is a reader's variant of a chain,
//
//	score → queued* → scored                        or failed
//
// the same chains, read by the models of several steps of a training run,
//
//	score → (queued* → scored)* → end               or failed
//
// the ends that a chain could have had,
//
//	resample → queued* → resampled* → end           or failed
//
// and a training run
//
//	train → state → (step | eval | state)*          or failed
//
// The server sends log-probabilities as the model gave them; rewards, ranks and
// colours are computed where they are shown, by trainer/reward.
//
// Decoding is strict and bounded: unknown fields, missing fields, numbers out of
// range and oversized messages are errors that name the field. Read client.go
// and server.go for the messages, wire.go for the codec.
package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// Version is the protocol that this package speaks.
const Version = 1

// Largest messages, in bytes. A client's message holds at most one upload.
const (
	MaxClient = 2 << 20
	MaxServer = 8 << 20
)

// MaxSafe is the largest seed and sequence number: every JSON reader has it exact.
const MaxSafe = 1<<53 - 1

// MaxModels is how many models a list has.
const MaxModels = 1000

// MaxReads is the most tokens that a model is said to read.
const MaxReads = 1 << 24

// Head is the part that all messages share. Encode sets V and T.
type Head struct {
	V   int    `json:"v"`
	T   string `json:"t"`
	Seq uint64 `json:"seq,omitempty"` // server → client: 1, 2, … within a session
	ID  string `json:"id,omitempty"`  // the request, as the page named it
}

// Header gives access to the head of any message.
func (h *Head) Header() *Head { return h }

// Message is a pointer to one of the message structs of this package.
type Message interface {
	Header() *Head
	// Type is the message's name, the t of its head.
	Type() string
	// Validate reports the first field that is out of range, as *Error.
	Validate() error
}

// Error is a message that cannot be accepted. Field is the JSON path, "" for the
// message as a whole.
type Error struct {
	Type, Field, Reason string
}

// Error is "wire: ask: k: want 1 to 16, have 99".
func (e *Error) Error() string {
	s := "wire: "
	if e.Type != "" {
		s += e.Type + ": "
	}
	if e.Field != "" {
		s += e.Field + ": "
	}
	return s + e.Reason
}

// Encode validates m and writes it as one line of JSON.
func Encode(m Message) ([]byte, error) {
	h := m.Header()
	h.V, h.T = Version, m.Type()
	if err := validate(m); err != nil {
		return nil, err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("wire: %s: %w", h.T, err)
	}
	return data, nil
}

// DecodeClient reads a message of a page.
func DecodeClient(data []byte) (Message, error) { return decode(data, MaxClient, fromPage) }

// DecodeServer reads a message of the server.
func DecodeServer(data []byte) (Message, error) { return decode(data, MaxServer, fromServer) }

// decode reads one of the messages of a list.
func decode(data []byte, limit int, list []Message) (Message, error) {
	if len(data) > limit {
		return nil, &Error{Reason: fmt.Sprintf("%d bytes; a message has at most %d", len(data), limit)}
	}
	var h Head
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, jsonError("", err)
	}
	if h.V != Version {
		return nil, &Error{Field: "v", Reason: fmt.Sprintf("want version %d, have %d", Version, h.V)}
	}
	i := slices.IndexFunc(list, func(m Message) bool { return m.Type() == h.T })
	if i < 0 {
		return nil, &Error{Field: "t", Reason: fmt.Sprintf("unknown message %q", short(h.T))}
	}
	m := reflect.New(reflect.TypeOf(list[i]).Elem()).Interface().(Message)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, jsonError(h.T, err)
	}
	if err := validate(m); err != nil {
		return nil, err
	}
	return m, nil
}

// validate checks head and body and names the type in the error.
func validate(m Message) error {
	h := m.Header()
	err := cmp.Or(
		text("id", h.ID, 64),
		within("seq", h.Seq, 0, MaxSafe),
		m.Validate(),
	)
	var e *Error
	if errors.As(err, &e) {
		e.Type = m.Type()
	}
	return err
}

// jsonError turns encoding/json's errors into ours, with the field's name.
func jsonError(t string, err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return &Error{Type: t, Field: wrong.Field, Reason: fmt.Sprintf("want %s, have %s", wrong.Type, wrong.Value)}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return &Error{Type: t, Field: strings.Trim(short(name), `"`), Reason: "unknown field"}
	}
	return &Error{Type: t, Reason: short(strings.TrimPrefix(err.Error(), "json: "))}
}

// short bounds what an error repeats of a stranger's message.
func short(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func bad(field, format string, args ...any) error {
	return &Error{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// text bounds a string's bytes.
func text(field, s string, most int) error {
	if len(s) > most {
		return bad(field, "%d bytes; want at most %d", len(s), most)
	}
	return nil
}

// some is text that may not be blank.
func some(field, s string, most int) error {
	if strings.TrimSpace(s) == "" {
		return bad(field, "missing")
	}
	return text(field, s, most)
}

func within[T int | int32 | uint64 | float64](field string, x, least, most T) error {
	if !(x >= least && x <= most) { // NaN is out of range
		return bad(field, "want %v to %v, have %v", least, most, x)
	}
	return nil
}

func finite(field string, list ...float64) error {
	for _, x := range list {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return bad(field, "want a number, have %v", x)
		}
	}
	return nil
}

// vocabulary checks that ids can be tokens.
func vocabulary(field string, ids ...int32) error {
	for _, id := range ids {
		if err := within(field, id, 0, 1<<24); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(field, s string, list ...string) error {
	if slices.Contains(list, s) {
		return nil
	}
	return bad(field, "want one of %s, have %q", strings.Join(list, ", "), short(s))
}

// count bounds a list's length.
func count(field string, n, most int) error {
	if n > most {
		return bad(field, "%d entries; want at most %d", n, most)
	}
	return nil
}

// each validates the entries of a list; check returns errors relative to one.
func each[T any](field string, list []T, check func(*T) error) error {
	for i := range list {
		if err := check(&list[i]); err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.Field = fmt.Sprintf("%s[%d].%s", field, i, e.Field)
			}
			return err
		}
	}
	return nil
}
