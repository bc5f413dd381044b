package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// command is one subcommand.
type command struct {
	name     string
	group    string   // heading in the overview
	short    string   // one line, lower-case, no full stop
	args     string   // what follows the name in the usage line
	long     string   // paragraphs, wrapped by hand at 80 columns
	examples []string // whole command lines
	// bind declares the flags and returns what to do once they are parsed.
	bind func(f *flags) func(e *env) error
	// prepare rewrites the arguments before they are parsed; nil leaves them.
	prepare func(args []string) []string
	// more prints flags that another package declared; nil if there are none.
	more func(w io.Writer)
}

// find returns the command of that name, or nil.
func find(list []*command, name string) *command {
	i := slices.IndexFunc(list, func(c *command) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return list[i]
}

// overview is what `nrt` alone prints: what this is, what to do first, and the
// subcommands by group.
func overview(w io.Writer, list []*command) {
	fmt.Fprint(w, `nrt trains language models to reason on questions that no verifier can grade,
and shows why a chain of reasoning earned its reward.

The idea: sample chains of reasoning; a chain is good if the model, after reading
it, gives the known answer more probability than without it. Watch it:

  nrt explain      a small trained model thinks, and its chains are rewarded
  nrt models       what else is inside this program

usage: nrt COMMAND [flags]
`)
	group := ""
	for _, c := range list {
		if c.group != group {
			group = c.group
			fmt.Fprintf(w, "\n%s\n", group)
		}
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, `
nrt COMMAND --help explains a command's flags and gives examples.
Exit status: 0 done, 1 failed, 2 called wrongly.
`)
}

// help explains one command, whose flags are bound to f.
func (c *command) help(w io.Writer, f *flags) {
	fmt.Fprintf(w, "nrt %s: %s\n\nusage: nrt %s %s\n", c.name, c.short, c.name, c.args)
	if c.long != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.long))
	}
	fmt.Fprint(w, "\nflags:\n")
	width := 0
	for _, i := range f.list {
		width = max(width, len(i.head()))
	}
	for _, i := range f.list {
		lines := strings.Split(i.usage, "\n")
		fmt.Fprintf(w, "  %-*s  %s\n", width, i.head(), lines[0]+i.fallback())
		for _, l := range lines[1:] {
			fmt.Fprintf(w, "  %-*s  %s\n", width, "", l)
		}
	}
	if c.more != nil {
		c.more(w)
	}
	fmt.Fprint(w, "\nexamples:\n")
	for _, x := range c.examples {
		fmt.Fprintf(w, "  %s\n", x)
	}
}

// suggest is "; did you mean X?" for a name close to one of the list, or "".
func suggest(names []string, name string) string {
	best, at := 3, ""
	for _, n := range names {
		if d := distance(n, name); d < best {
			best, at = d, n
		}
	}
	if at == "" {
		return ""
	}
	return "; did you mean " + at + "?"
}

// distance is the number of edits (insert, delete, replace) from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// flags declares a command's flags in the order in which help shows them. The
// variable's value at declaration is the default.
type flags struct {
	set  *flag.FlagSet
	list []flagInfo
}

type flagInfo struct{ name, arg, usage, def string }

func newFlags(command string) *flags {
	f := &flags{set: flag.NewFlagSet("nrt "+command, flag.ContinueOnError)}
	f.set.SetOutput(io.Discard) // execute prints the error once
	f.set.Usage = func() {}
	return f
}

// head is "--name ARG".
func (i flagInfo) head() string { return strings.TrimSpace("--" + i.name + " " + i.arg) }

// fallback is " (default X)", or "" when the default is empty.
func (i flagInfo) fallback() string {
	if i.def == "" {
		return ""
	}
	return " (default " + i.def + ")"
}

// note remembers a flag for help. A default that says nothing is left out.
func (f *flags) note(name, arg, usage, def string) {
	if def == "0" || def == "false" {
		def = ""
	}
	f.list = append(f.list, flagInfo{name, arg, usage, def})
}

// text declares --name ARG. usage may have several lines; the default is shown
// after the first.
func (f *flags) text(p *string, name, arg, usage string) {
	f.note(name, arg, usage, *p)
	f.set.StringVar(p, name, *p, "")
}

// texts declares a flag that may be given several times.
func (f *flags) texts(p *[]string, name, arg, usage string) {
	f.note(name, arg, usage, "")
	f.set.Func(name, "", func(s string) error {
		*p = append(*p, s)
		return nil
	})
}

// parsed declares a flag whose text read turns into a value, or says what it wants.
func parsed[T any](f *flags, p *T, name string, read func(text string) (T, error)) {
	f.set.Func(name, "", func(text string) error {
		x, err := read(text)
		if err == nil {
			*p = x
		}
		return err
	})
}

// wanted is the error of a text that package strconv could not read as what it should be.
func wanted(what, text string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		what += " nearer to 0"
	}
	return fmt.Errorf("want %s, have %q", what, text)
}

// integer declares a flag that takes a whole number.
func (f *flags) integer(p *int, name, arg, usage string) {
	f.note(name, arg, usage, strconv.Itoa(*p))
	parsed(f, p, name, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			err = wanted("a whole number", text, err)
		}
		return n, err
	})
}

// amount declares a flag that takes a whole number from 0 on.
func (f *flags) amount(p *int, name, arg, usage string) {
	f.note(name, arg, usage, strconv.Itoa(*p))
	parsed(f, p, name, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil:
			err = wanted("a whole number from 0 on", text, err)
		case n < 0:
			err = fmt.Errorf("want 0 or more, have %d", n)
		}
		return n, err
	})
}

// seed declares a flag that takes any number of 64 bits.
func (f *flags) seed(p *uint64, name, arg, usage string) {
	f.note(name, arg, usage, strconv.FormatUint(*p, 10))
	parsed(f, p, name, func(text string) (uint64, error) {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			err = fmt.Errorf("want a whole number from 0 to %d, have %q", uint64(math.MaxUint64), text)
		}
		return n, err
	})
}

// number declares a flag that takes a real number.
func (f *flags) number(p *float64, name, arg, usage string) {
	f.note(name, arg, usage, strconv.FormatFloat(*p, 'g', -1, 64))
	parsed(f, p, name, func(text string) (float64, error) {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			err = wanted("a number", text, err)
		}
		return x, err
	})
}

// toggle declares a flag without an argument (--name, --name=false).
func (f *flags) toggle(p *bool, name, usage string) {
	def := ""
	if *p {
		def = "on; --" + name + "=false switches it off"
	}
	f.note(name, "", usage, def)
	f.set.BoolFunc(name, "", func(text string) error {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("want true or false, have %q", text)
		}
		*p = on
		return nil
	})
}

// value declares a flag that parses itself.
func (f *flags) value(v flag.Value, name, arg, usage string) {
	f.note(name, arg, usage, v.String())
	f.set.Var(v, name, "")
}

// given tells whether the call named the flag.
func (f *flags) given(name string) bool {
	seen := false
	f.set.Visit(func(g *flag.Flag) { seen = seen || g.Name == name })
	return seen
}

// wrong says in our words what package flag finds wrong with the arguments.
func (f *flags) wrong(err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var names []string
		f.set.VisitAll(func(x *flag.Flag) { names = append(names, "--"+x.Name) })
		return fmt.Errorf("there is no flag --%s%s", name, suggest(names, "--"+name))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("--%s: want a value after it", name)
	}
	// invalid value "x" for flag -seed: why, or invalid boolean value "x" for -json: why
	_, rest, _ := strings.Cut(text, " value ")
	if value, err := strconv.QuotedPrefix(rest); err == nil {
		_, rest, _ = strings.Cut(rest[len(value):], " -")
		return errors.New("--" + rest)
	}
	return err
}

// json declares --json.
func (f *flags) json(p *bool) {
	f.toggle(p, "json", "print JSON for a program to read")
}
