package run

import (
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nrt/trainer/objective"
)

// TestMetricsAreDocumented: docs/metrics.md explains every name that a run logs, and no
// other.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(string(text), -1) {
		folder := ""
		for _, name := range regexp.MustCompile("`(.*?)`").FindAllStringSubmatch(row[1], -1) {
			name := strings.Replace(name[1], "…", folder, 1)
			documented[name], folder = true, name[:max(0, strings.LastIndex(name, "/"))]
		}
	}
	logged := map[string]bool{}
	for _, m := range objective.Methods() {
		c := tinyRun(t, m)
		c.Train.Steps = 2
		if m == objective.NRT {
			c.Objective.KL, c.Objective.TokenCap = 0.1, 1
		}
		if err := train(t.Context(), newCPU(t), c, io.Discard); err != nil {
			t.Fatal(err)
		}
		lines, err := ReadMetrics(c.Output.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range lines {
			for name := range v {
				logged[name] = true
			}
		}
	}
	delete(logged, "step")
	for _, name := range slices.Sorted(maps.Keys(logged)) {
		if !documented[name] {
			t.Errorf("docs/metrics.md lacks %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !logged[name] {
			t.Errorf("docs/metrics.md explains %s, which no method logs", name)
		}
	}
}
