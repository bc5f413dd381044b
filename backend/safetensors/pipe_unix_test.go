//go:build unix

package safetensors

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestPipe: a pipe that nobody writes to is refused, not waited for.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/model.safetensors", 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := Open(os.DirFS(dir), "model.safetensors"); err == nil || !strings.Contains(err.Error(), "want a regular file") {
		t.Errorf("error %v", err)
	}
}
