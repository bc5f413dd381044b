// Command nrt trains language models to reason without a verifier, and shows
// why a chain of reasoning earned its reward.
//
// Each subcommand is one file that fills a command: its name, its help, its
// flags and what it does. table.go lists them. A subcommand prints results to
// standard output (as JSON with --json) and returns an error; exit statuses are
// 0 for success, 1 for failure, 2 for a call that cannot be meant.
//
// Read command.go (what a subcommand is), table.go (the list), model.go (how a
// model is found by name), then explain.go, which is the program in miniature.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"

	"nrt/trainer/data"
	"nrt/trainer/run"
)

// version is set by the linker; see the Makefile.
var version = "unknown"

// The exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	list, err := builtins()
	if err != nil {
		fmt.Fprintf(os.Stderr, "nrt: %v\n", err)
		os.Exit(exitFailure)
	}
	ctx, stop := interrupts()
	e := &env{
		ctx: ctx, in: data.Until(ctx, os.Stdin), out: bufio.NewWriter(os.Stdout), err: os.Stderr,
		getenv: os.Getenv, terminal: isTerminal(os.Stdout), watched: run.IsTerminal(os.Stderr), builtins: list,
		free:  func() int64 { return run.FreeMemory(os.DirFS("/")) },
		cards: builtCards,
	}
	code := execute(e, commands(), os.Args[1:])
	stop()
	os.Exit(code)
}

// env is what a subcommand has of the world, so that tests can give it another.
type env struct {
	ctx      context.Context
	in       io.Reader
	out      *bufio.Writer // its errors stick until Flush
	err      io.Writer
	getenv   func(string) string
	terminal bool // out is a terminal
	watched  bool // err is one that can rewrite a line
	builtins []builtin
	free     func() int64 // bytes of memory that are free, 0 if not known; nil asks nothing
	cards    cards
}

// execute calls the subcommand that args name and returns the exit status.
func execute(e *env, list []*command, args []string) int {
	name := ""
	err := func() error {
		if len(args) == 0 || isHelp(args[0]) && len(args) == 1 {
			overview(e.out, list)
			return nil
		}
		switch {
		case isHelp(args[0]):
			args = []string{args[1], "--help"}
		case args[0] == "--version":
			args = append([]string{"version"}, args[1:]...)
		}
		c := find(list, args[0])
		if c == nil {
			names := make([]string, len(list))
			for i, c := range list {
				names[i] = c.name
			}
			return usagef("unknown command %q%s", args[0], suggest(names, args[0]))
		}
		name = " " + c.name
		return c.call(e, args[1:])
	}()
	// What a command wrote in vain it has often reported itself, and who was to read it
	// may have been interrupted too.
	if flush := e.out.Flush(); flush != nil && !errors.Is(err, flush) && !(e.ctx.Err() != nil && errors.Is(flush, syscall.EPIPE)) {
		err = errors.Join(err, flush)
	}
	var usage *usageError
	var stopped *stoppedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(e.err, "nrt%s: %v\nrun \"nrt%s --help\" for how it is called\n", name, err, name)
		return exitUsage
	case errors.As(err, &stopped):
		fmt.Fprintf(e.err, "nrt%s: %v\n", name, stopped)
	case e.ctx.Err() != nil && run.OnlyStopped(err):
		fmt.Fprintf(e.err, "nrt%s: interrupted\n", name)
	default:
		fmt.Fprintf(e.err, "nrt%s: %v\n", name, err)
	}
	return exitFailure
}

func isHelp(arg string) bool {
	return arg == "help" || arg == "-h" || arg == "-help" || arg == "--help"
}

// stoppedError says what is left of a command that was interrupted.
type stoppedError struct{ left string }

func (s *stoppedError) Error() string { return "interrupted; " + s.left }

// usageError is a call that cannot be meant.
type usageError struct{ error }

func (u *usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// call parses the subcommand's flags and runs it.
func (c *command) call(e *env, args []string) error {
	f := newFlags(c.name)
	do := c.bind(f)
	if c.prepare != nil {
		args = c.prepare(args)
	}
	switch err := f.set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		c.help(e.out, f)
		return nil
	case err != nil:
		return &usageError{f.wrong(err)}
	case f.set.NArg() > 0:
		return usagef("unexpected argument %q: a flag takes one value, and for another it is given again", f.set.Arg(0))
	}
	return do(e)
}
