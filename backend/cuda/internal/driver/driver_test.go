//go:build cuda

package driver

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// Every function of cuda.h has its jump in symbols.h, under the name that the
// library exports, and cuInit alone has not.
func TestEveryFunctionHasAJump(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	header := read("include/cuda.h")
	exported := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^#define (cu\w+) (cu\w+)$`).FindAllStringSubmatch(header, -1) {
		exported[m[1]] = m[2]
	}
	var want, have []string
	for _, m := range regexp.MustCompile(`(?m)^CUresult (cu\w+)\(`).FindAllStringSubmatch(header, -1) {
		name := m[1]
		if name == "cuInit" {
			continue
		}
		if e := exported[name]; e != "" {
			name = e
		}
		want = append(want, name)
	}
	for _, m := range regexp.MustCompile(`(?m)^X\((cu\w+)\)$`).FindAllStringSubmatch(read("symbols.h"), -1) {
		have = append(have, m[1])
	}
	slices.Sort(want)
	if len(want) < 150 || !slices.Equal(have, want) {
		t.Errorf("symbols.h has %d functions, cuda.h %d:\n%v\n%v", len(have), len(want), have, want)
	}
}

// What no library fills leads to an error that names the function.
func TestMissingFunction(t *testing.T) {
	if _, err := HostAlloc(1); err == nil || err.Error() != "cuMemHostAlloc: this driver has no function cuMemHostAlloc: CUDA 11.4 or newer is needed" {
		t.Error(err)
	}
}
