package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// interrupts is a context that ends at the first Ctrl-C, at SIGTERM, and when the
// terminal is closed, unless nohup has seen to that. What is being saved then must not
// be lost: of "nrt train … | tee log" the second may be gone first, and a line written
// to it would end the program. A second Ctrl-C ends it there and then.
func interrupts() (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, signals...)
	go func() {
		select {
		case <-told:
			signal.Ignore(syscall.SIGPIPE)
		case <-ctx.Done():
		}
		signal.Stop(told)
		cancel()
	}()
	return ctx, cancel
}
