package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile writes a small file whole or not at all.
func WriteFile(path string, content []byte) error {
	return WriteTo(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// WriteTo writes what fill writes, whole or not at all: beside its place,
// flushed, then renamed. What a failure leaves beside it is removed.
func WriteTo(path string, fill func(io.Writer) error) error {
	tmp := path + ".tmp"
	err := Instead(writeFile(osDisk{}, tmp, fill), tmp, path)
	if err == nil {
		if err = os.Rename(tmp, path); err != nil {
			err = fmt.Errorf("%s: %w", path, because(err))
		}
	}
	if err != nil {
		return errors.Join(err, removed(tmp))
	}
	return osDisk{}.SyncDir(filepath.Dir(path))
}

// Instead is an error that calls what lies at a passing place by the place it is for.
func Instead(err error, passing, place string) error {
	if err == nil {
		return nil
	}
	return &elsewhere{err, strings.NewReplacer(passing, place)}
}

type elsewhere struct {
	error
	names *strings.Replacer
}

// Error names no passing place.
func (e *elsewhere) Error() string { return e.names.Replace(e.error.Error()) }

// Unwrap is the error as it was.
func (e *elsewhere) Unwrap() error { return e.error }

// Rename moves a folder whose files are on the disk to where nothing stands yet.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return osDisk{}.SyncDir(filepath.Dir(to))
}

// Writable is an error if WriteFile could not put a file there now.
func Writable(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s: is a folder, want a file", path)
	}
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return Instead(err, path+".tmp", path)
	}
	return errors.Join(f.Close(), removed(f.Name()))
}

// WritableDir is an error if no file could be put into that folder now, which need not
// be there yet. What it tries is in nobody's way.
func WritableDir(path string) error {
	there, rest := filepath.Clean(path), "" // what is there of the path, and what is not
	for {
		info, err := os.Stat(there)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is a file, want a folder", there)
		}
		if _, link := os.Lstat(there); err != nil && link == nil { // to nothing
			return fmt.Errorf("%s cannot be made: %w", there, because(err))
		}
		up := filepath.Dir(there)
		if err == nil || up == there {
			break
		}
		there, rest = up, filepath.Join(filepath.Base(there), rest)
	}
	try, err := os.MkdirTemp(there, ".try-")
	if err != nil {
		return fmt.Errorf("%s: no file can be written into it: %w", there, because(err))
	}
	if err = os.MkdirAll(filepath.Join(try, rest), 0o755); err != nil {
		err = fmt.Errorf("%s cannot be made: %w", path, because(err))
	}
	return errors.Join(err, os.RemoveAll(try))
}

// MakeDirs makes a folder and those above it. undo removes those of them that were not
// there and hold nothing.
func MakeDirs(path string) (undo func(), err error) {
	var made []string
	undo = func() {
		for i := len(made) - 1; i >= 0 && os.Remove(made[i]) == nil; i-- {
		}
	}
	var need func(string) error
	need = func(dir string) error {
		switch info, err := os.Stat(dir); {
		case err == nil && info.IsDir():
			return nil
		case err == nil:
			return fmt.Errorf("%s is a file, want a folder", dir)
		}
		if up := filepath.Dir(dir); up != dir {
			if err := need(up); err != nil {
				return err
			}
		}
		if err := os.Mkdir(dir, 0o755); err == nil {
			made = append(made, dir)
		} else if info, there := os.Stat(dir); there != nil || !info.IsDir() { // nor has another made it
			return fmt.Errorf("%s cannot be made: %w", dir, because(err))
		}
		return nil
	}
	if err := need(filepath.Clean(path)); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// because is what the system said, without the path that it said it of.
func because(err error) error {
	if at := new(fs.PathError); errors.As(err, &at) {
		return at.Err
	}
	if at := new(os.LinkError); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// removed removes a file that need not be there.
func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
