package nrt

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// makefile is what the tests need to know of it: target → prerequisites and what
// its recipe makes, and the variables set with = alone.
func makefile(t *testing.T) (targets map[string][]string, vars map[string]string, text string) {
	t.Helper()
	raw, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets, vars = map[string][]string{}, map[string]string{}
	called := regexp.MustCompile(`\$\(MAKE\)((?: [a-z0-9-]+)+)`)
	last := ""
	rule := regexp.MustCompile(`^([a-z0-9-]+):([^=#]*)(?:## (.*))?$`)
	variable := regexp.MustCompile(`^([A-Z_]+) = (.*)$`)
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if m := rule.FindStringSubmatch(line); m != nil {
			targets[m[1]] = strings.Fields(m[2])
			last = m[1]
			if m[3] == "" {
				t.Errorf("Makefile: target %s has no ## line, so make help leaves it out", m[1])
			}
		}
		if m := called.FindStringSubmatch(line); m != nil && strings.HasPrefix(line, "\t") {
			targets[last] = append(targets[last], strings.Fields(m[1])...)
		}
		if m := variable.FindStringSubmatch(line); m != nil {
			vars[m[1]] = m[2]
		}
	}
	return targets, vars, string(raw)
}

func TestMakefileTargetsAreDeclared(t *testing.T) {
	targets, _, text := makefile(t)
	m := regexp.MustCompile(`(?m)^\.PHONY: (.*)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("Makefile: no .PHONY line")
	}
	phony := strings.Fields(m[1])
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if !slices.Contains(phony, name) {
			t.Errorf("Makefile: target %s is not in .PHONY", name)
		}
	}
	for _, name := range phony {
		if _, ok := targets[name]; !ok {
			t.Errorf("Makefile: .PHONY names %s, which is no target", name)
		}
	}
	for _, name := range []string{"run", "test", "build", "generate", "bench", "docker", "help"} {
		if _, ok := targets[name]; !ok {
			t.Errorf("Makefile: no target %s", name)
		}
	}
}

// No container engine may be at hand, so the image is checked by its steps: each
// is a make target, and make test runs them.
func TestDockerfileStepsAreTested(t *testing.T) {
	targets, _, _ := makefile(t)
	raw, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	run := map[string]bool{}
	var reach func(string)
	reach = func(name string) {
		if !run[name] {
			run[name] = true
			for _, p := range targets[name] {
				reach(p)
			}
		}
	}
	reach("test")
	user := false
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "USER":
			user = regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(words[1])
		case "RUN":
			if len(words) < 3 || words[1] != "make" || !run[words[2]] {
				t.Errorf("Dockerfile: %q: want a make target that make test runs", strings.TrimSpace(line))
			}
		case "COPY":
			if strings.HasPrefix(words[1], "--from") {
				continue
			}
			for _, src := range words[1 : len(words)-1] {
				if found, err := filepath.Glob(src); err != nil || len(found) == 0 {
					t.Errorf("Dockerfile: COPY %s: no such file", src)
				}
			}
		}
	}
	if !user {
		t.Error("Dockerfile: want USER as numbers, not root")
	}
}

func TestMakefileBuildsTheWASMPackagesOfTheLattice(t *testing.T) {
	_, vars, _ := makefile(t)
	r, err := parseRules(lattice)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for name, p := range r.packages {
		if p.wasm && !p.planned {
			want = append(want, "./"+name)
		}
	}
	have := strings.Fields(vars["WASM_PACKAGES"])
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(have, want) {
		t.Errorf("Makefile: WASM_PACKAGES = %v, the lattice marks %v", have, want)
	}
}

func TestCIRunsMakeTest(t *testing.T) {
	raw, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"set -euo pipefail", "make test"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf(".ci/run: lacks %q", want)
		}
	}
	if info, err := os.Stat(".ci/run"); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf(".ci/run: want it executable, have %v, %v", info.Mode(), err)
	}
}

// The table of packages in docs/architecture.md and the lattice name the same
// packages on the same levels.
func TestArchitectureShowsTheLattice(t *testing.T) {
	raw, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRules(lattice)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `([^`]+)` \\|").FindAllStringSubmatch(string(raw), -1) {
		shown[m[2]] = m[1]
	}
	for name, p := range r.packages {
		if p.planned || name == "." {
			continue
		}
		if have, want := shown[name], strconv.Itoa(p.level); have != want {
			t.Errorf("docs/architecture.md: %s stands on level %q, the lattice says %s", name, have, want)
		}
		delete(shown, name)
	}
	for name := range shown {
		t.Errorf("docs/architecture.md: %s is not in the lattice", name)
	}
}

// What the documents link to is there: files, and the headings of "#…".
func TestDocumentsLinkToWhatThereIs(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.+)$`)
	seen := 0
	for _, page := range append(pages, "README.md") {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(raw), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			seen++
			name, anchor, _ := strings.Cut(m[1], "#")
			to := page
			if name != "" {
				to = filepath.Join(filepath.Dir(page), name)
			}
			raw, err := os.ReadFile(to)
			if info, failed := os.Stat(to); failed == nil && info.IsDir() && anchor == "" {
				continue
			}
			if err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if anchor == "" {
				continue
			}
			known := slices.ContainsFunc(heading.FindAllStringSubmatch(string(raw), -1), func(h []string) bool {
				slug := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
				return strings.ReplaceAll(slug, " ", "-") == anchor
			})
			if !known {
				t.Errorf("%s links to %s: %s has no such heading", page, m[1], to)
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d links were found", seen)
	}
}

// Importing a package is enough to load what it sets up at start, called or not.
// The client does without what the lattice keeps out of a browser, in other
// people's packages too.
func TestTheClientLoadsNoMoreThanItNeeds(t *testing.T) {
	r, err := parseRules(lattice)
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("go", "list", "-deps", "./wasm")
	list.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(out)) {
		if why := r.notInWASM[name]; why != "" {
			t.Errorf("the client loads %s: %s", name, why)
		}
	}
}
