package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSavedThoughNobodyReads: a program whose log is a pipe that was closed at the
// moment of the interruption saves what it has, and so does one whose terminal was
// closed; what nohup keeps from it does not interrupt it.
func TestSavedThoughNobodyReads(t *testing.T) {
	const child = "NRT_TEST_INTERRUPTED"
	if file := os.Getenv(child); file != "" {
		ctx, stop := interrupts()
		defer stop()
		fmt.Fprintln(os.Stderr, "ready")
		<-ctx.Done()
		fmt.Fprintln(os.Stderr, "step 12 of 100")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			os.Exit(1)
		}
		return
	}
	if runtime.GOOS == "windows" {
		t.Skip("no such signals")
	}
	run := func(sig syscall.Signal, kept bool, command ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "saved")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c := exec.CommandContext(ctx, command[0], append(command[1:], os.Args[0], "-test.run=^TestSavedThoughNobodyReads$")...)
		c.Env = append(os.Environ(), child+"="+file)
		log, err := c.StderrPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Skip(err)
		}
		for in := bufio.NewReader(log); ; {
			line, err := in.ReadString('\n')
			if strings.Contains(line, "ready") {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(log.Close(), c.Process.Signal(sig)); err != nil {
			t.Fatal(err)
		}
		if kept {
			time.Sleep(200 * time.Millisecond)
			if isFile(file) {
				t.Errorf("%v interrupts it under %s", sig, command[0])
			}
			if err := c.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		if how := c.Wait(); !isFile(file) {
			t.Errorf("%v: nothing is saved: %v", sig, how)
		}
	}
	sigs := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // the tests themselves may run under nohup
		sigs = append(sigs, syscall.SIGHUP)
	}
	for _, sig := range sigs {
		run(sig, false, "env")
	}
	run(syscall.SIGHUP, true, "nohup")
}

// TestTrainedThoughNobodyReads: a run goes on to its end where whoever read its log has
// left.
func TestTrainedThoughNobodyReads(t *testing.T) {
	const child = "NRT_TEST_TRAINS"
	if args := os.Getenv(child); args != "" {
		e := &env{ctx: t.Context(), out: bufio.NewWriter(os.Stdout), err: os.Stderr, getenv: os.Getenv}
		if code := execute(e, commands(), strings.Fields(args)); code != exitOK {
			t.Errorf("exit %d", code)
		}
		return
	}
	out := filepath.Join(t.TempDir(), "out")
	in := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(in, []byte(`{"question": "who is ann ?", "answer": "it is bob ."}`), 0o644); err != nil {
		t.Fatal(err)
	}
	log, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTrainedThoughNobodyReads$")
	c.Env = append(os.Environ(), child+"=train --method sft --model "+wordModel(t)+" --data "+in+" --questions 1 --steps 1 --output "+out)
	c.Stderr = w
	if err := errors.Join(log.Close(), c.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil || !isFile(filepath.Join(out, "final", "tokenizer.json")) {
		t.Errorf("no model is saved: %v", err)
	}
}

// TestServesThoughNobodyReads: a server goes on where whoever read its log has left.
func TestServesThoughNobodyReads(t *testing.T) {
	const child = "NRT_TEST_SERVES"
	if args := os.Getenv(child); args != "" {
		ctx, stop := interrupts()
		defer stop()
		e := &env{ctx: ctx, out: bufio.NewWriter(os.Stdout), err: os.Stderr, getenv: os.Getenv}
		go func() { // a server logs what goes wrong
			if _, err := io.ReadAll(os.Stdin); err == nil {
				fmt.Fprintln(os.Stderr, "something is wrong")
				fmt.Fprintln(os.Stderr, "and still is")
			}
		}()
		if code := execute(e, commands(), strings.Fields(args)); code != exitOK {
			t.Errorf("exit %d", code)
		}
		return
	}
	if runtime.GOOS == "windows" {
		t.Skip("no such signals")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestServesThoughNobodyReads$")
	c.Env = append(os.Environ(), child+"=serve --addr 127.0.0.1:0 --no-train --model "+wordModel(t))
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	answers := func() error {
		r, err := http.Get(strings.TrimSpace(address) + "healthz")
		if err != nil {
			return err
		}
		return r.Body.Close()
	}
	if err := errors.Join(answers(), log.Close(), in.Close(), answers(), c.Process.Signal(syscall.SIGTERM), c.Wait()); err != nil {
		t.Error(err)
	}
}
