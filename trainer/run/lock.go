package run

import (
	"errors"
	"os"
	"time"
)

// ErrLocked says that another process works in a folder, or another run in this one.
var ErrLocked = errors.New("another process is using it")

// Lock takes a file for this process alone, until unlock or the process's end.
// When another has it the error is ErrLocked.
func Lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for range 3 { // Locked may be looking, which takes no time
		if err = lock(f, true); !errors.Is(err, ErrLocked) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// Locked reports whether another process has the file that Lock takes, as far as can
// be known here.
func Locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(lock(f, false), ErrLocked)
}
