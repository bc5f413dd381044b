package run

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"nrt/trainer/objective"
)

// ParseConfig reads YAML over c: what it does not name stays, except that another
// objective.method brings its own defaults. Unknown and repeated keys and wrong types
// are errors that say name, line and key; after one c may be half changed.
func ParseConfig(name string, raw []byte, c *Config) error {
	root, err := parseYAML(name, raw)
	if err != nil || root == nil {
		return err
	}
	// The method first: the other keys go over its defaults.
	if m := methodIn(root); m != "" && m != c.Objective.Method {
		c.method(m)
	}
	if err := parseSections(root, c.options()); err != nil {
		return fmt.Errorf("%s:%w", name, err)
	}
	return nil
}

// parseYAML returns the root of the one document, nil when there is nothing in it.
func parseYAML(name string, raw []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	var doc yaml.Node
	if err := dec.Decode(&doc); err == io.EOF {
		return nil, nil // only comments
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := dec.Decode(new(yaml.Node)); err != io.EOF {
		return nil, fmt.Errorf("%s: want one YAML document, have more", name)
	}
	if len(doc.Content) != 1 || isNull(doc.Content[0]) {
		return nil, nil
	}
	return doc.Content[0], nil
}

// methodIn is the objective.method of a document, "" when it names none.
func methodIn(root *yaml.Node) objective.Method {
	section := child(root, "objective")
	if section == nil {
		return ""
	}
	if m := child(section, "method"); m != nil && m.Kind == yaml.ScalarNode && !isNull(m) {
		return objective.Method(m.Value)
	}
	return ""
}

// child is the value of a key in a mapping, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// parseSections sets what a document names. Its errors begin with the line.
func parseSections(root *yaml.Node, options []option) error {
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%d: want sections such as \"model:\" with keys below them", root.Line)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		section, body := root.Content[i], root.Content[i+1]
		if err := once(seen, section, section.Value); err != nil {
			return err
		}
		if !slices.ContainsFunc(options, func(o option) bool { return o.section == section.Value }) {
			return fmt.Errorf("%d: %s", section.Line, unknown(options, "", section.Value))
		}
		if isNull(body) {
			continue // a section whose keys are all commented out
		}
		if body.Kind != yaml.MappingNode {
			return fmt.Errorf("%d: %s: want keys below it, have %s", body.Line, section.Value, nodeKind(body))
		}
		for j := 0; j+1 < len(body.Content); j += 2 {
			key, value := body.Content[j], body.Content[j+1]
			path := section.Value + "." + key.Value
			if err := once(seen, key, path); err != nil {
				return err
			}
			o := find(options, section.Value, key.Value)
			if o == nil {
				return fmt.Errorf("%d: %s", key.Line, unknown(options, section.Value, key.Value))
			}
			if err := o.setNode(value); err != nil {
				return fmt.Errorf("%d: %s: %w", value.Line, path, err)
			}
		}
	}
	return nil
}

// once reports a key that stands twice.
func once(seen map[string]int, key *yaml.Node, path string) error {
	if key.Kind != yaml.ScalarNode {
		return fmt.Errorf("%d: want a name as key, have %s", key.Line, nodeKind(key))
	}
	if line, ok := seen[path]; ok {
		return fmt.Errorf("%d: %s: stands in line %d already", key.Line, path, line)
	}
	seen[path] = key.Line
	return nil
}

// find looks an option up by section and key.
func find(options []option, section, key string) *option {
	for i := range options {
		if options[i].section == section && options[i].key == key {
			return &options[i]
		}
	}
	return nil
}

// unknown says that a key is not known, and where it would be if it stands in
// another section or goes by its flag's name.
func unknown(options []option, section, key string) string {
	path := key
	if section != "" {
		path = section + "." + key
	}
	plain := strings.ReplaceAll(key, "-", "_")
	for _, o := range options {
		for _, name := range []string{o.key, o.flag, o.also} {
			if name != "" && strings.ReplaceAll(name, "-", "_") == plain {
				return fmt.Sprintf("unknown key %s: it is called %s", path, o.path())
			}
		}
	}
	var names []string
	for _, o := range options {
		switch {
		case section == "" && (len(names) == 0 || names[len(names)-1] != o.section):
			names = append(names, o.section)
		case section == o.section:
			names = append(names, o.key)
		}
	}
	return fmt.Sprintf("unknown key %s: want one of %s", path, strings.Join(names, ", "))
}

// setNode sets the option from a YAML value.
func (o *option) setNode(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if list, ok := o.value.(*[]string); ok && n.Kind == yaml.SequenceNode {
		*list = nil
		for _, item := range n.Content {
			if item.Kind == yaml.AliasNode {
				item = item.Alias
			}
			if item.Kind != yaml.ScalarNode || isNull(item) {
				return fmt.Errorf("want a list of names, have %s in it", nodeKind(item))
			}
			*list = append(*list, item.Value)
		}
		return nil
	}
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("want %s, have %s", o.typeName(), nodeKind(n))
	}
	if isNull(n) {
		switch v := o.value.(type) {
		case *string:
			*v = ""
		case *[]string:
			*v = nil
		default:
			return fmt.Errorf("want %s, have nothing", o.typeName())
		}
		return nil
	}
	return o.set(n.Value)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func nodeKind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if isNull(n) {
		return "nothing"
	}
	return fmt.Sprintf("%q", n.Value)
}

// set parses the option's value from text. A list becomes the one name.
func (o *option) set(text string) error {
	var err error
	switch v := o.value.(type) {
	case *string:
		*v = text
	case *objective.Method:
		*v = objective.Method(text)
	case *[]string:
		*v = []string{text}
	case *bool:
		switch strings.ToLower(text) { // YAML's True is true
		case "true", "yes", "on":
			*v = true
		case "false", "no", "off":
			*v = false
		default:
			err = strconv.ErrSyntax
		}
	case *int:
		var x int
		if x, err = strconv.Atoi(text); err == nil {
			*v = x
		}
	case *uint64:
		var x uint64
		if x, err = strconv.ParseUint(text, 10, 64); err == nil {
			*v = x
		}
	case *float64:
		var x float64
		if x, err = strconv.ParseFloat(text, 64); err == nil {
			*v = x
		}
	case encoding.TextUnmarshaler:
		return v.UnmarshalText([]byte(text))
	default:
		panic(fmt.Sprintf("run: option %s has type %T", o.path(), o.value))
	}
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("want %s nearer to 0, have %q", o.typeName(), text)
	}
	if err != nil {
		return fmt.Errorf("want %s, have %q", o.typeName(), text)
	}
	return nil
}

// typeName is what the option's value is, for errors and help.
func (o *option) typeName() string {
	switch o.value.(type) {
	case *[]string:
		return "a list of names"
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *uint64:
		return "a whole number >= 0"
	case *float64:
		return "a number"
	}
	return "a name"
}

// text is the option's value as YAML, which is JSON for strings and lists.
func (o *option) text() string {
	switch v := o.value.(type) {
	case *string:
		return quoted(*v)
	case *objective.Method:
		return quoted(string(*v))
	case *[]string:
		list := make([]string, len(*v))
		for i, s := range *v {
			list[i] = quoted(s)
		}
		return "[" + strings.Join(list, ", ") + "]"
	case *bool:
		return strconv.FormatBool(*v)
	case *int:
		return strconv.Itoa(*v)
	case *uint64:
		return strconv.FormatUint(*v, 10)
	case *float64:
		return strconv.FormatFloat(*v, 'g', -1, 64)
	case encoding.TextMarshaler:
		raw, err := v.MarshalText()
		if err != nil {
			return quoted(err.Error())
		}
		return quoted(string(raw))
	}
	panic(fmt.Sprintf("run: option %s has type %T", o.path(), o.value))
}

// quoted is a string as both JSON and YAML read it: JSON, with the characters
// escaped that YAML does not allow as they are.
func quoted(s string) string {
	var b strings.Builder
	for _, r := range string(appendString(nil, s)) {
		if 0x7f <= r && r <= 0x9f || r == '\ufeff' || r == '\ufffe' || r == '\uffff' {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// PrintConfig writes c as YAML with the meaning, the flag and the default of
// every key. ParseConfig reads it back to the same configuration.
func PrintConfig(w io.Writer, c Config) error {
	var b bytes.Buffer
	def := Default(c.Objective.Method)
	defaults := def.options()
	section := ""
	for i, o := range c.options() {
		if o.section != section {
			if section != "" {
				b.WriteByte('\n')
			}
			section = o.section
			fmt.Fprintf(&b, "%s:\n", section)
		}
		note := "--" + o.flag
		if d := defaults[i].text(); d != o.text() {
			note += ", default " + d
		}
		for _, line := range wrap(fmt.Sprintf("%s (%s)", o.meaning, note), 76) {
			fmt.Fprintf(&b, "  # %s\n", line)
		}
		fmt.Fprintf(&b, "  %s: %s\n", o.key, o.text())
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return nil
}

// wrap breaks text at spaces into lines of at most width characters where it can.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// MarshalJSON writes sections and keys as in YAML, in the order of the table.
func (c Config) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	section := ""
	for _, o := range c.options() {
		switch {
		case section == "":
			b = append(append(b, quoted(o.section)...), ":{"...)
		case o.section != section:
			b = append(append(append(b, "},"...), quoted(o.section)...), ":{"...)
		default:
			b = append(b, ',')
		}
		section = o.section
		b = append(append(append(b, quoted(o.key)...), ':'), o.text()...)
	}
	return append(b, "}}"...), nil
}

// UnmarshalJSON reads what MarshalJSON wrote; what is not named has its default.
func (c *Config) UnmarshalJSON(raw []byte) error {
	*c = Default(objective.NRT)
	if !json.Valid(raw) {
		return fmt.Errorf("configuration: bad JSON")
	}
	return ParseConfig("configuration", raw, c)
}
