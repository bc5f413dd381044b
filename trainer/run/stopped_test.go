package run

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

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
