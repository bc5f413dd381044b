package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
