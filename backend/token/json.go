package token

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// node is one value of a JSON document together with where it stands, so that
// every complaint can name the file and the field ("tokenizer.json:
// pre_tokenizer.pattern.Regex: …").
type node struct {
	file string
	path string
	raw  json.RawMessage
}

// errf is an error about this value.
func (n node) errf(format string, args ...any) error {
	where := n.file + ": "
	if n.path != "" {
		where += n.path + ": "
	}
	return fmt.Errorf(where+format, args...)
}

// null says whether the value is absent or JSON null.
func (n node) null() bool {
	return len(n.raw) == 0 || bytes.Equal(bytes.TrimSpace(n.raw), []byte("null"))
}

func (n node) into(v any) error {
	if err := json.Unmarshal(n.raw, v); err != nil {
		return n.errf("%w", err)
	}
	return nil
}

// object reads the fields of an object; absent and null give no fields.
func (n node) object() (map[string]node, error) {
	if n.null() {
		return nil, nil
	}
	var m map[string]json.RawMessage
	if err := n.into(&m); err != nil {
		return nil, err
	}
	out := make(map[string]node, len(m))
	for k, v := range m {
		out[k] = n.child(k, v)
	}
	return out, nil
}

// field reads one field of an object already known to be one.
func (n node) field(fields map[string]node, name string) node {
	if f, ok := fields[name]; ok {
		return f
	}
	return n.child(name, nil)
}

func (n node) child(name string, raw json.RawMessage) node {
	path := name
	if n.path != "" {
		path = n.path + "." + name
	}
	return node{n.file, path, raw}
}

// maxPath bounds how deep lists may be nested in each other.
const maxPath = 1000

// array reads the elements of an array; absent and null give none.
func (n node) array() ([]node, error) {
	if len(n.path) > maxPath {
		return nil, node{file: n.file, path: n.path[:60] + "…"}.errf("nested too deeply")
	}
	if n.null() {
		return nil, nil
	}
	var a []json.RawMessage
	if err := n.into(&a); err != nil {
		return nil, err
	}
	out := make([]node, len(a))
	for i, v := range a {
		out[i] = node{n.file, n.path + "[" + strconv.Itoa(i) + "]", v}
	}
	return out, nil
}

// sequence reads a list of parts, each of which may be several.
func sequence[T any](list node, parse func(node) ([]T, error)) (all []T, err error) {
	items, err := list.array()
	for _, item := range items {
		more, err := parse(item)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, err
}

// str reads a string; absent and null give def.
func (n node) str(def string) (string, error) {
	if n.null() {
		return def, nil
	}
	var s string
	err := n.into(&s)
	return s, err
}

// flag reads a boolean; absent and null give def.
func (n node) flag(def bool) (bool, error) {
	if n.null() {
		return def, nil
	}
	var b bool
	err := n.into(&b)
	return b, err
}

// kind reads the fields of a {"type": …} object and its type.
func (n node) kind() (fields map[string]node, typ string, err error) {
	fields, err = n.object()
	if err != nil {
		return nil, "", err
	}
	typ, err = n.field(fields, "type").str("")
	return fields, typ, err
}

// unsupported is the complaint about a type or value this package lacks.
func (n node) unsupported(field, value string) error {
	return n.child(field, nil).errf("unsupported %q", value)
}

// marshal encodes v as Hugging Face's files are written: no HTML escapes.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
