package run

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// TestUnlessDone: what goes on for ever is left alone.
func TestUnlessDone(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	did := false
	if err := unlessDone(ctx, func() { did = true }); err != nil || !did {
		t.Errorf("%v, done: %v", err, did)
	}
	never := make(chan struct{})
	defer close(never)
	if err := unlessDone(ctx, func() { stop(); <-never }); err != context.Canceled {
		t.Errorf("have %v", err)
	}
}

func TestOnlyStopped(t *testing.T) {
	full := errors.New("no space left on device")
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{full, false},
		{context.Canceled, true},
		{context.DeadlineExceeded, true},
		{fmt.Errorf("evaluate: %w", context.Canceled), true},
		{errors.Join(context.Canceled, fmt.Errorf("evaluate: %w", context.Canceled)), true},
		{errors.Join(context.Canceled, full), false},
		{fmt.Errorf("train: %w", errors.Join(full, context.Canceled)), false},
	} {
		if have := OnlyStopped(c.err); have != c.want {
			t.Errorf("%v: have %v, want %v", c.err, have, c.want)
		}
	}
}
