package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	if err := writeFile(osDisk{}, tmp, fill); err != nil {
		return errors.Join(err, removed(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, removed(tmp))
	}
	return osDisk{}.SyncDir(filepath.Dir(path))
}

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
		return err
	}
	return errors.Join(f.Close(), removed(f.Name()))
}

// removed removes a file that need not be there.
func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
