package run

import "context"

// OnlyStopped tells whether an error says that a context ended and nothing else. What
// was stopped may have failed to save what it had, and that is not to be lost behind
// the other.
func OnlyStopped(err error) bool {
	switch x := err.(type) {
	case interface{ Unwrap() []error }:
		for _, one := range x.Unwrap() {
			if !OnlyStopped(one) {
				return false
			}
		}
		return true
	case interface{ Unwrap() error }:
		return OnlyStopped(x.Unwrap())
	}
	return err == context.Canceled || err == context.DeadlineExceeded
}
