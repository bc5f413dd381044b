package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// setAside renames a file or folder to the first free one of x.aside, x.aside.2,
// x.aside.3 …, so that nothing set aside before is lost, and returns its name.
func setAside(d disk, path string) (string, error) {
	for n := 1; ; n++ {
		to := path + asideEnd
		if n > 1 {
			to = fmt.Sprintf("%s%s.%d", path, asideEnd, n)
		}
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return to, d.Rename(path, to)
		} else if err != nil {
			return "", err
		}
	}
}

// setLogsAside keeps the logs of a run that was stopped before its first
// checkpoint from the one that begins in its folder. They are all that there is
// of it.
func setLogsAside(d disk, dir string) (moved []string, err error) {
	for _, name := range []string{metricsFile, "completions.jsonl", boardDir} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() && info.Size() == 0 {
			continue
		}
		to, err := setAside(d, path)
		if err != nil {
			return moved, fmt.Errorf("set logs aside: %w", err)
		}
		moved = append(moved, to)
	}
	if len(moved) > 0 {
		err = d.SyncDir(dir)
	}
	return moved, err
}
