package data

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestUntil(t *testing.T) {
	want := strings.Repeat("a line\n", 30_000)
	if err := iotest.TestReader(Until(t.Context(), iotest.HalfReader(strings.NewReader(want))), []byte(want)); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(Until(t.Context(), iotest.ErrReader(broken))); err != broken {
		t.Errorf("have %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	waiting, writer := io.Pipe() // to which nobody writes more
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(Until(ctx, waiting))
		read <- err
	}()
	if _, err := writer.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-read; !errors.Is(err, context.Canceled) {
		t.Errorf("have %v", err)
	}
	writer.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("begun"); err != nil {
		t.Fatal(err)
	}
	in := Until(t.Context(), f)
	end := make([]byte, 2)
	if n, err := in.(io.ReaderAt).ReadAt(end, 3); n != 2 || err != nil || string(end) != "un" {
		t.Errorf("a file's end, where one of Parquet begins: %q, %v", end, err)
	}
	if n, err := io.Copy(io.Discard, Until(ctx, f)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes of a file were read, %v", n, err)
	}
}
