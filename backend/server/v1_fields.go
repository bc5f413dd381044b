package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"nrt/backend/engine"
	"nrt/web/wire"
)

// fields are the fields of a request's object. They are taken one by one; what is
// left in the end is judged by rest. The first thing wrong is kept in err.
type fields struct {
	raw map[string]json.RawMessage
	err error
}

// harmless fields say nothing about the answer.
var harmless = []string{"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}

// neutral are fields that the server cannot do, and the values, as JSON, with
// which they ask for nothing.
var neutral = map[string][]string{
	"tools": {"[]"}, "tool_choice": {`"none"`, `"auto"`}, "functions": {"[]"}, "function_call": {`"none"`, `"auto"`},
	"response_format": {`{"type":"text"}`}, "modalities": {`["text"]`}, "audio": nil, "prediction": nil,
	"logit_bias": {"{}"}, "frequency_penalty": {"0"}, "presence_penalty": {"0"},
	"reasoning_effort": nil, "verbosity": nil, "web_search_options": nil,
	"best_of": {"1"}, "suffix": {`""`}, "echo": {"false"}, "stop": {"[]"}, "stream": {"false"}, "stream_options": nil,
}

func (f *fields) bad(name, format string, args ...any) {
	if f.err == nil {
		f.err = badField(name, format, args...)
	}
}

// within keeps what is wrong with an object inside, as the field prefix's.
func (f *fields) within(prefix string, err error) {
	p, ok := err.(*problem)
	if !ok || f.err != nil {
		return
	}
	inner := *p
	inner.param = prefix + "." + p.param
	inner.text = prefix + "." + p.text
	f.err = &inner
}

// take is a field's value; null counts as not there.
func (f *fields) take(name string) (json.RawMessage, bool) {
	v, ok := f.raw[name]
	delete(f.raw, name)
	return v, ok && string(v) != "null"
}

func (f *fields) has(name string) bool {
	v, ok := f.raw[name]
	return ok && string(v) != "null"
}

// text is a string that must be there, with more than spaces, of at most so many
// bytes.
func (f *fields) text(name string, most int) string {
	v, ok := f.take(name)
	var s string
	switch {
	case !ok:
		f.bad(name, "is missing: want a string")
	case json.Unmarshal(v, &s) != nil:
		f.bad(name, "want a string, have %s", sortOf(v))
	default:
		f.checkText(name, s, most)
	}
	return s
}

func (f *fields) checkText(name, s string, most int) {
	switch {
	case strings.TrimSpace(s) == "":
		f.bad(name, "is empty")
	case len(s) > most:
		f.bad(name, "want at most %d bytes, have %d", most, len(s))
	}
}

// texts is a list of strings; single takes a string for a list of one.
func (f *fields) texts(name string, single bool) (list []string, ok bool) {
	v, ok := f.take(name)
	if !ok {
		return nil, false
	}
	var s string
	if single && json.Unmarshal(v, &s) == nil {
		return []string{s}, true
	}
	var raw []*string
	want := "want a list of strings"
	if single {
		want = "want a string or a list of strings"
	}
	if json.Unmarshal(v, &raw) != nil {
		f.bad(name, "%s, have %s", want, sortOf(v))
		return nil, true
	}
	for i, s := range raw {
		if s == nil {
			f.bad(fmt.Sprintf("%s[%d]", name, i), "want a string, have null")
			return nil, true
		}
		list = append(list, *s)
	}
	return list, true
}

func (f *fields) flag(name string, def bool) bool {
	v, ok := f.take(name)
	if ok && json.Unmarshal(v, &def) != nil {
		f.bad(name, "want true or false, have %s", sortOf(v))
	}
	return def
}

// whole is a whole number from low to high.
func (f *fields) whole(name string, def, low, high int64) int64 {
	v, ok := f.take(name)
	if !ok {
		return def
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	switch {
	case err != nil && sortOf(v) != "a number":
		f.bad(name, "want a whole number, have %s", sortOf(v))
	case err != nil || n < low || n > high:
		f.bad(name, "want a whole number from %d to %d, have %s", low, high, clip(string(v), 40))
	}
	return n
}

// number is a number from low to high.
func (f *fields) number(name string, def, low, high float64) float64 {
	v, ok := f.take(name)
	if !ok {
		return def
	}
	x, err := strconv.ParseFloat(string(v), 64)
	switch {
	case err != nil && sortOf(v) != "a number":
		f.bad(name, "want a number, have %s", sortOf(v))
	case err != nil || x < low || x > high:
		f.bad(name, "want a number from %g to %g, have %s", low, high, clip(string(v), 40))
	}
	return x
}

// least is top_p 0: of the tokens that are likeliest, the first alone. In the engine
// 0 would mean all.
const least = 1e-9

// sampling are temperature (1), top_p (1), n (1, up to wire.MaxChains) and seed, any
// whole number of 64 bits.
func (f *fields) sampling(seed int64) engine.Request {
	r := engine.Request{Sampling: engine.Sampling{
		Temperature: f.number("temperature", 1, 0, 2),
		TopP:        max(least, f.number("top_p", 1, 0, 1)),
	}}
	r.N = int(f.whole("n", 1, 1, wire.MaxChains))
	r.Seed = uint64(f.whole("seed", seed, math.MinInt64, math.MaxInt64))
	return r
}

// drawn is a seed for requests without one.
func drawn() int64 { return rand.Int64N(wire.MaxSafe) }

// streaming are stream and stream_options.include_usage.
func (f *fields) streaming() (stream, usage bool) {
	stream = f.flag("stream", false)
	v, ok := f.take("stream_options")
	if !ok {
		return stream, false
	}
	inner := fields{}
	switch {
	case !stream:
		f.bad("stream_options", "goes with stream")
	case json.Unmarshal(v, &inner.raw) != nil:
		f.bad("stream_options", "want an object, have %s", sortOf(v))
	default:
		usage = inner.flag("include_usage", false)
		inner.take("include_obfuscation") // pads chunks against listeners; says nothing
		f.within("stream_options", inner.rest())
	}
	return stream, usage
}

// rest is the first thing wrong with all fields: one taken before, or one of those
// left that asks for what the server cannot do.
func (f *fields) rest() error {
	for _, name := range slices.Sorted(maps.Keys(f.raw)) {
		v, ok := f.take(name)
		values, known := neutral[name]
		if !ok || slices.Contains(harmless, name) || f.err != nil {
			continue
		}
		var p *problem
		switch {
		case !known:
			p = badField(name, "is not known here")
			p.code = "unknown_parameter"
		case !slices.ContainsFunc(values, func(n string) bool { return equalJSON(v, n) }):
			p = badField(name, "is not supported")
			p.code = "unsupported_parameter"
		default:
			continue
		}
		f.err = p
	}
	return f.err
}

func equalJSON(v json.RawMessage, want string) bool {
	var a, b any
	return json.Unmarshal(v, &a) == nil && json.Unmarshal([]byte(want), &b) == nil && reflect.DeepEqual(a, b)
}

// sortOf names a JSON value's type.
func sortOf(v json.RawMessage) string {
	switch v[0] {
	case '"':
		return "a string"
	case '[':
		return "a list"
	case '{':
		return "an object"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}
