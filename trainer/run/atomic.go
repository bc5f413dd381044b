package run

import (
	"io"
	"os"
	"path/filepath"
)

// WriteFile writes a small file whole or not at all: beside its place, flushed,
// then renamed.
func WriteFile(path string, content []byte) error {
	tmp := path + ".tmp"
	err := writeFile(osDisk{}, tmp, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return osDisk{}.SyncDir(filepath.Dir(path))
}
