package run

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"nrt/trainer/objective"
)

// Flags puts every option on a command line. Settings are kept as they come and
// applied over the file that --config names, wherever that stands among them.
type Flags struct {
	set  *flag.FlagSet
	file string
	args []setting
}

// setting is one flag that was given.
type setting struct{ flag, value string }

// AddFlags registers --config and a flag for every option, under all its names.
func AddFlags(fs *flag.FlagSet) *Flags {
	f := &Flags{set: fs}
	fs.StringVar(&f.file, "config", "", "YAML `file` with the configuration; flags override it")
	c := Default(objective.NRT)
	for _, o := range c.options() {
		fs.Var(&flagValue{f, o}, o.flag, o.meaning)
		if o.also != "" {
			fs.Var(&flagValue{f, o}, o.also, "same as --"+o.flag)
		}
	}
	return f
}

// Config is defaults, file and flags together, after fs.Parse. It has been
// validated. Of a run that goes on, or begins again, without a file, its own
// configuration stands for the defaults.
func (f *Flags) Config() (Config, error) {
	c := Default(objective.NRT)
	if rest := f.set.Args(); len(rest) > 0 {
		return c, fmt.Errorf("unexpected argument %q: options begin with --", rest[0])
	}
	var root *yaml.Node
	if f.file != "" {
		raw, err := os.ReadFile(f.file)
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		if root, err = parseYAML(f.file, raw); err != nil {
			return c, err
		}
	}
	// The method that holds in the end decides the defaults.
	method := f.method()
	if root != nil {
		own := methodIn(root)
		if method == "" {
			method = own
		}
		if key := otherObjective(root); method != own && own != "" && key != "" {
			return c, fmt.Errorf("%s: objective: its %s and what else it sets are for %s, which it names, and --method says %s: leave --method out, take the section out of the file, or write a file for %[4]s with --method %[4]s --print-config",
				f.file, key, own, method)
		}
	}
	if method != "" {
		c = Default(method)
	}
	if former := f.former(); former != nil && (method == "" || method == former.Objective.Method) {
		c = *former
	}
	start := c
	options := c.options()
	if root != nil {
		if err := parseSections(root, options); err != nil {
			return c, fmt.Errorf("%s:%w", f.file, err)
		}
	}
	if err := f.apply(options); err != nil {
		return c, err
	}
	if from := start.Output.Resume; from != "" && c.Output.Resume == "auto" {
		c.Output.Resume = from
	}
	if err := c.Validate(); err != nil {
		return c, err
	}
	var given []string
	for _, s := range f.args {
		given = append(given, s.flag)
	}
	return c, c.Idle(start, given...)
}

// former is the configuration of the run that --resume goes on with, or that auto
// begins again, and nil where there is none or a file says what the run is to be. Its
// Output.Resume is the checkpoint that a run to begin again had begun from, if from one.
// A checkpoint that cannot be read is told of when it is opened.
func (f *Flags) former() *Config {
	c := Default(objective.NRT)
	if err := f.apply(c.options()); err != nil || f.file != "" || c.Output.Resume == "" {
		return nil
	}
	path := filepath.Clean(c.Output.Resume)
	dir, file, again := filepath.Dir(path), filepath.Join(path, stateFile), false
	if path == "latest" || path == "auto" {
		dir = c.Output.Dir
		switch last, err := LastCheckpoint(dir); {
		case err == nil && last != "":
			file = filepath.Join(last, stateFile)
		case err == nil && path == "auto":
			file, again = filepath.Join(dir, beginFile), true
		default:
			return nil
		}
	}
	s, err := readStateFile(file)
	if err != nil {
		return nil
	}
	o := &s.Config.Output
	o.Dir = dir // wherever the folder has been moved to
	if !again || o.Resume == "latest" || o.Resume == "auto" {
		o.Resume = ""
	}
	return &s.Config
}

// method is what the flags say about it, "" for nothing.
func (f *Flags) method() objective.Method {
	m := objective.Method("")
	for _, s := range f.args {
		if s.flag == "method" {
			m = objective.Method(s.value)
		}
	}
	return m
}

// otherObjective is the first key of the section objective beside the method's,
// "" if there is none.
func otherObjective(root *yaml.Node) string {
	section := child(root, "objective")
	for i := 0; section != nil && section.Kind == yaml.MappingNode && i < len(section.Content); i += 2 {
		if key := section.Content[i].Value; key != "method" {
			return key
		}
	}
	return ""
}

// apply sets the options that were given as flags.
func (f *Flags) apply(options []option) error {
	named := map[string]bool{}
	for _, s := range f.args {
		for i := range options {
			o := &options[i]
			if o.flag != s.flag {
				continue
			}
			// The first --data replaces the file's list, further ones add to it.
			if list, ok := o.value.(*[]string); ok && named[s.flag] {
				*list = append(*list, s.value)
			} else if err := o.set(s.value); err != nil {
				return fmt.Errorf("--%s: %w", s.flag, err)
			}
		}
		named[s.flag] = true
	}
	return nil
}

// flagValue checks a flag's type when it is parsed, and remembers it.
type flagValue struct {
	f *Flags
	o option
}

// String is the default; package flag also asks the zero value.
func (v *flagValue) String() string {
	if v.f == nil {
		return ""
	}
	return strings.Trim(v.o.text(), `"`)
}

func (v *flagValue) Set(text string) error {
	if v.o.key == "resume" && text == "true" {
		text = "latest"
	}
	c := Default(objective.NRT) // a place to parse into, so that the default stays in help
	if err := find(c.options(), v.o.section, v.o.key).set(text); err != nil {
		return err
	}
	v.f.args = append(v.f.args, setting{v.o.flag, text})
	return nil
}

// IsBoolFlag lets --clip and --resume stand alone.
func (v *flagValue) IsBoolFlag() bool {
	_, ok := v.o.value.(*bool)
	return ok || v.o.key == "resume"
}

// Args prepares a command line for flag.FlagSet.Parse: names may be written with
// _ for -, --no-x is --x=false for a switch x, and --resume may have its folder
// as the next argument.
func Args(args []string) []string {
	switches := map[string]bool{}
	c := Default(objective.NRT)
	for _, o := range c.options() {
		if _, ok := o.value.(*bool); ok {
			switches[o.flag] = true
			switches[o.also] = true
		}
	}
	var out []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if !strings.HasPrefix(arg, "--") {
			out = append(out, arg)
			continue
		}
		name, value, has := strings.Cut(arg[2:], "=")
		name = strings.ReplaceAll(name, "_", "-")
		if on, ok := strings.CutPrefix(name, "no-"); ok && !has && switches[on] {
			name, value, has = on, "false", true
		}
		resumes := name == "resume" || name == "resume-from-checkpoint"
		if resumes && !has && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			i++
			value, has = args[i], true
		}
		arg = "--" + name
		if has {
			arg += "=" + value
		}
		out = append(out, arg)
	}
	return out
}

// FlagHelp is the help of all options, by section, with their defaults.
func FlagHelp() string {
	var b strings.Builder
	c := Default(objective.NRT)
	section := ""
	for _, o := range c.options() {
		if o.section != section {
			section = o.section
			fmt.Fprintf(&b, "\n%s:\n", section)
		}
		name := "--" + o.flag
		if o.also != "" {
			name += ", --" + o.also
		}
		fmt.Fprintf(&b, "  %s (%s)\n", name, o.text())
		for _, line := range wrap(o.meaning, 72) {
			fmt.Fprintf(&b, "      %s\n", line)
		}
	}
	return b.String()
}
