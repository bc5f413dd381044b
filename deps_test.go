package nrt

import (
	"bufio"
	"fmt"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// lattice says what each package of the module may import (non-test files, of
// all platforms and build tags).
//
//	level N  title          the packages below stand on level N; an arrow points
//	                        to a lower level only, never sideways
//	pkg [wasm] [planned]: imports
//
// Imports are packages of this module, modules of the section third-party, and
// the standard library: "std" for all of it (without cgo, unsafe and testing,
// which must be named), or single packages of it. "wasm" promises that the
// package runs in a browser, so that it and all it imports of ours avoid the
// section not-in-wasm. "planned" has a place but no code yet.
const lattice = `
level 0  the maths and the formats of the page
trainer/reward wasm:        errors fmt math
web/heat wasm:              fmt math
web/chart wasm:             math strconv
web/wire wasm:              std
web:                        std
web/pack:                   std github.com/andybalholm/brotli

level 1  text and compute, behind one interface each
backend/token wasm:         std github.com/sugarme/tokenizer golang.org/x/text
backend/device wasm:        std
backend/cuda/internal/cublas: std C unsafe
backend/cuda/internal/driver: std C unsafe gorgonia.org/cu
backend/cuda/internal/emu:  std C unsafe testing
backend/cuda/internal/ptxgen: std
web/view wasm:              std trainer/reward web/heat web/chart web/wire

level 2  devices and files
backend/device/devicetest:  std testing backend/device
backend/cpu:                std unsafe backend/device golang.org/x/sys
backend/cuda:               std unsafe backend/device backend/cuda/internal/cublas backend/cuda/internal/driver gorgonia.org/cu
backend/cpu/internal/neongen: std
backend/cpu/peak:           std unsafe golang.org/x/sys
backend/safetensors:        std

level 3  the model
backend/llama:              std backend/device backend/safetensors

level 4  what trains and what is asked need
backend/engine:             std backend/llama backend/device
trainer/data:               std github.com/parquet-go/parquet-go github.com/klauspost/compress
trainer/world:              std backend/token
trainer/world/models:       std embed
trainer/optim:              std backend/device
trainer/objective wasm:     std trainer/reward

level 5  the judge, and what a page is made of
trainer/eval:               std backend/engine
trainer/verdict:            std backend/engine backend/token trainer/reward
templates:                  std web/heat web/chart web/wire web/view github.com/a-h/templ

level 6  the loop
trainer/run:                std backend/engine backend/llama backend/device backend/safetensors backend/token trainer/reward trainer/objective trainer/data trainer/optim trainer/eval go.yaml.in/yaml/v3 golang.org/x/sys google.golang.org/protobuf

level 7  the recipe of the embedded models
trainer/recipe:             std trainer/world/models backend/engine backend/llama backend/device backend/safetensors backend/token trainer/reward trainer/objective trainer/optim trainer/world trainer/eval trainer/run

level 8  the server
backend/server:             std backend/device backend/engine backend/llama backend/token trainer/reward trainer/data trainer/world trainer/eval trainer/verdict trainer/objective trainer/run trainer/recipe templates web/wire web/view web github.com/andybalholm/brotli github.com/gorilla/websocket github.com/prometheus/client_golang

level 9  the programs, and the whole
backend/cmd/nrt:            std backend/engine backend/llama backend/device backend/cpu backend/cpu/peak backend/cuda backend/safetensors backend/token trainer/reward trainer/objective trainer/data trainer/optim trainer/world trainer/world/models trainer/eval trainer/verdict trainer/run trainer/recipe backend/server web/heat web/view web/wire
trainer/recipe/plot:        std trainer/recipe trainer/world gonum.org/v1/plot
wasm wasm:                  std backend/token trainer/reward web/heat web/chart web/wire web/view
.:

third-party
github.com/a-h/templ          the page's shell
github.com/andybalholm/brotli the client's WebAssembly, compressed once at build, and static files, once at start
github.com/gorilla/websocket  the server's side of the page's socket
github.com/klauspost/compress what a packed page of Parquet unpacks to, before the decoder makes room for it
github.com/parquet-go/parquet-go  data sets as the Hugging Face hub keeps them
github.com/prometheus/client_golang  /metrics as operators expect it
github.com/sugarme/tokenizer  the pipeline whose types Go programs know; backend/token plugs its own parts into it, outside of the browser
golang.org/x/sys              which vector instructions this processor has; a lock on the folder of a training run
golang.org/x/text             Unicode normal forms, which tokenizers ask for
go.yaml.in/yaml/v3            the one configuration file of a training run
gonum.org/v1/plot             draws a study; only the plot program links it
google.golang.org/protobuf    the wire format of TensorBoard's event files
gorgonia.org/cu               the CUDA driver's functions in Go; linked only with the tag cuda

not-in-wasm
net/http                      adds megabytes; a page has fetch
net                           sockets do not exist there
os/exec                       no processes there
os/signal                     no signals there
os/user                       no users there
plugin                        no dynamic linking there
html/template                 pulls in reflection over every method, so nothing can be dropped
`

// rules is the lattice, parsed.
type rules struct {
	packages   map[string]*rule
	thirdParty map[string]string // module → why it is needed
	notInWASM  map[string]string // std package → why not
}

type rule struct {
	level         int
	wasm, planned bool
	may           map[string]bool
}

// parseRules reads the format above. Names resolve after reading, so that order
// within the text does not matter, levels do.
func parseRules(text string) (*rules, error) {
	r := &rules{packages: map[string]*rule{}, thirdParty: map[string]string{}, notInWASM: map[string]string{}}
	var section map[string]string // third-party or not-in-wasm
	level := -1
	in := bufio.NewScanner(strings.NewReader(text))
	for line := 1; in.Scan(); line++ {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("lattice:%d: %s", line, fmt.Sprintf(format, args...))
		}
		words := strings.Fields(in.Text())
		switch {
		case len(words) == 0:
			continue
		case words[0] == "level":
			n, err := 0, error(nil)
			if len(words) < 3 {
				return nil, fail("want: level N title")
			}
			if n, err = strconv.Atoi(words[1]); err != nil || n != level+1 {
				return nil, fail("want level %d, have %s", level+1, words[1])
			}
			level = n
			continue
		case words[0] == "third-party":
			section = r.thirdParty
			continue
		case words[0] == "not-in-wasm":
			section = r.notInWASM
			continue
		case section != nil:
			if len(words) < 2 {
				return nil, fail("%s: no reason given", words[0])
			}
			section[words[0]] = strings.Join(words[1:], " ")
			continue
		}
		head, imports, ok := strings.Cut(in.Text(), ":")
		if !ok || level < 0 {
			return nil, fail("want pkg: imports, below a level")
		}
		names := strings.Fields(head)
		p := &rule{level: level, may: map[string]bool{}}
		for _, mark := range names[1:] {
			switch mark {
			case "wasm":
				p.wasm = true
			case "planned":
				p.planned = true
			default:
				return nil, fail("%s: unknown mark %q", names[0], mark)
			}
		}
		if r.packages[names[0]] != nil {
			return nil, fail("%s: listed twice", names[0])
		}
		for _, i := range strings.Fields(imports) {
			p.may[i] = true
		}
		r.packages[names[0]] = p
	}
	return r, r.checkArrows()
}

// checkArrows reports an arrow that does not point down, or to nothing known.
func (r *rules) checkArrows() error {
	for _, name := range slices.Sorted(maps.Keys(r.packages)) {
		from := r.packages[name]
		for _, i := range slices.Sorted(maps.Keys(from.may)) {
			to, ours := r.packages[i]
			_, theirs := r.thirdParty[i]
			switch {
			case theirs || isStd(i):
			case !ours:
				return fmt.Errorf("lattice: %s: may import %s, which is not listed", name, i)
			case to.level >= from.level:
				return fmt.Errorf("lattice: %s (level %d) may import %s (level %d): arrows point down", name, from.level, i, to.level)
			case from.wasm && !to.wasm:
				return fmt.Errorf("lattice: %s is wasm and may import %s, which is not", name, i)
			}
		}
	}
	return nil
}

// isStd tells the standard library by its first path element, as the go command
// does: no dot, and not a folder of this module.
func isStd(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".") && !slices.Contains([]string{"backend", "trainer", "web", "wasm", "templates"}, first)
}

// check compares the lattice with the imports found and lists what is wrong.
func (r *rules) check(module string, found map[string]map[string]string) []string {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	used := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		p := r.packages[name]
		if p == nil {
			bad("%s: not in the lattice: add it to a level", name)
			continue
		}
		if p.planned {
			bad("%s: has code now: take the mark planned off", name)
		}
		for _, imp := range slices.Sorted(maps.Keys(found[name])) {
			file := found[name][imp]
			if inner, ours := strings.CutPrefix(imp, module+"/"); ours {
				if !p.may[inner] {
					bad("%s: imports %s: not allowed by the lattice", file, inner)
				}
				continue
			}
			if isStd(imp) {
				special := imp == "C" || imp == "unsafe" || imp == "testing"
				if !p.may[imp] && (special || !p.may["std"]) {
					bad("%s: imports %s: not allowed by the lattice", file, imp)
				}
				if why := r.notInWASM[imp]; p.wasm && why != "" {
					bad("%s: imports %s, and %s must run in a browser: %s", file, imp, name, why)
				}
				continue
			}
			m := r.moduleOf(imp)
			if m == "" || !p.may[m] {
				bad("%s: imports %s: not allowed by the lattice", file, imp)
			}
			used[m] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.packages)) {
		if found[name] == nil && !r.packages[name].planned {
			bad("%s: in the lattice, but has no code", name)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(r.thirdParty)) {
		if !used[m] {
			bad("%s: in the lattice, but nothing imports it", m)
		}
	}
	return wrong
}

// moduleOf is the listed module that a third-party import belongs to, or "".
func (r *rules) moduleOf(imp string) string {
	for m := range r.thirdParty {
		if imp == m || strings.HasPrefix(imp, m+"/") {
			return m
		}
	}
	return ""
}

// outputs are folders that git ignores.
var outputs = []string{"bin", "runs"}

// imports reads the import clauses of all non-test Go files: package → import →
// a file that has it. Nested modules, testdata and files with the tag ignore
// are not part of the module's build.
func imports(fsys fs.FS) (map[string]map[string]string, error) {
	found := map[string]map[string]string{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name == "." {
				return nil
			}
			if base == "testdata" || base == "vendor" || slices.Contains(outputs, name) || base[0] == '.' || base[0] == '_' {
				return fs.SkipDir
			}
			if _, err := fs.Stat(fsys, name+"/go.mod"); err == nil {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		for _, group := range f.Comments {
			for _, c := range group.List {
				if x, err := constraint.Parse(c.Text); err == nil && x.String() == "ignore" {
					return nil
				}
			}
		}
		dir := path.Dir(name)
		if found[dir] == nil {
			found[dir] = map[string]string{}
		}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			found[dir][p] = name
		}
		return nil
	})
	return found, err
}

// requires lists the direct requirements of a go.mod.
func requires(mod string) []string {
	var list []string
	block := false
	for line := range strings.Lines(mod) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.Contains(line, "// indirect"):
		case words[0] == ")":
			block = false
		case words[0] == "require" && len(words) > 1 && words[1] == "(":
			block = true
		case words[0] == "require":
			list = append(list, words[1])
		case block && !strings.HasPrefix(words[0], "//"):
			list = append(list, words[0])
		}
	}
	return list
}

func TestImportsFollowTheLattice(t *testing.T) {
	r, err := parseRules(lattice)
	if err != nil {
		t.Fatal(err)
	}
	found, err := imports(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.check("nrt", found) {
		t.Error(w)
	}
}

func TestEveryModuleInGoModHasAReason(t *testing.T) {
	r, err := parseRules(lattice)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range requires(string(mod)) {
		if r.thirdParty[m] == "" {
			t.Errorf("go.mod requires %s: name it and its reason in the section third-party", m)
		}
	}
}

// planted is a small module that follows plantedRules; the cases below break it.
const plantedRules = `
level 0  bottom
trainer/sum wasm:     errors math
level 1  top
backend/door:         std trainer/sum example.com/door
backend/later planned: std
third-party
example.com/door      a door
not-in-wasm
net/http              a page has fetch
`

func TestCheckerFindsPlantedViolations(t *testing.T) {
	good := map[string]string{
		"trainer/sum/sum.go":           "package sum\nimport \"math\"\nvar _ = math.Pi",
		"backend/door/door.go":         "package door\nimport (\n\t\"m/trainer/sum\"\n\t\"net/http\"\n\t\"example.com/door/hinge\"\n)",
		"backend/door/door_test.go":    "package door\nimport \"m/anything\"",
		"backend/door/testdata/x.go":   "package x\nimport \"m/anything\"",
		"backend/door/gen.go":          "//go:build ignore\n\npackage main\nimport \"m/anything\"",
		"backend/door/asm/go.mod":      "module asm",
		"backend/door/asm/main.go":     "package main\nimport \"m/anything\"",
		"backend/door/door_windows.go": "package door\nimport \"os/exec\"",
	}
	cases := []struct {
		name, rules, file, text, want string
	}{
		{name: "nothing wrong"},
		{name: "arrow up", file: "trainer/sum/b.go", text: "package sum\nimport \"m/backend/door\"",
			want: "trainer/sum/b.go: imports backend/door: not allowed"},
		{name: "arrow up behind a build tag", file: "trainer/sum/b.go", text: "//go:build cuda\n\npackage sum\nimport \"m/backend/door\"",
			want: "trainer/sum/b.go: imports backend/door: not allowed"},
		{name: "std not listed", file: "trainer/sum/b.go", text: "package sum\nimport \"os\"",
			want: "trainer/sum/b.go: imports os: not allowed"},
		{name: "not in wasm", file: "trainer/sum/b.go", text: "package sum\nimport \"net/http\"",
			want: "trainer/sum must run in a browser: a page has fetch"},
		{name: "cgo is not std", file: "backend/door/b.go", text: "package door\nimport \"C\"",
			want: "backend/door/b.go: imports C: not allowed"},
		{name: "unknown module", file: "backend/door/b.go", text: "package door\nimport \"example.com/window\"",
			want: "imports example.com/window: not allowed"},
		{name: "unlisted package", file: "backend/attic/a.go", text: "package attic",
			want: "backend/attic: not in the lattice"},
		{name: "planned but there", file: "backend/later/a.go", text: "package later",
			want: "backend/later: has code now"},
		{name: "listed but absent", rules: "level 0  a\ntrainer/sum wasm: math\ntrainer/gone: std\nlevel 1  b\nbackend/door: std trainer/sum example.com/door\nthird-party\nexample.com/door x",
			want: "trainer/gone: in the lattice, but has no code"},
		{name: "module without use", rules: plantedRules + "\nthird-party\nexample.com/unused  a reason",
			want: "example.com/unused: in the lattice, but nothing imports it"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for name, text := range good {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if c.file != "" {
				fsys[c.file] = &fstest.MapFile{Data: []byte(c.text)}
			}
			if c.rules == "" {
				c.rules = plantedRules
			}
			r, err := parseRules(c.rules)
			if err != nil {
				t.Fatal(err)
			}
			found, err := imports(fsys)
			if err != nil {
				t.Fatal(err)
			}
			wrong := strings.Join(r.check("m", found), "\n")
			if c.want == "" && wrong != "" || !strings.Contains(wrong, c.want) {
				t.Errorf("have %q, want %q", wrong, c.want)
			}
		})
	}
}

func TestRulesThatCannotBe(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"level 1  a", "lattice:1: want level 0"},
		{"level 0  a\ntrainer/a: trainer/b\ntrainer/b: std", "trainer/a (level 0) may import trainer/b (level 0): arrows point down"},
		{"level 0  a\ntrainer/a: trainer/b", "trainer/b, which is not listed"},
		{"level 0  a\ntrainer/a: std\ntrainer/a: std", "lattice:3: trainer/a: listed twice"},
		{"level 0  a\ntrainer/a fast: std", `unknown mark "fast"`},
		{"level 0  a\ntrainer/a: std\nlevel 1  b\nweb/b wasm: trainer/a", "web/b is wasm and may import trainer/a, which is not"},
		{"level 0  a\ntrainer/a: std\nthird-party\nexample.com/x", "example.com/x: no reason given"},
		{"trainer/a: std", "below a level"},
	} {
		if _, err := parseRules(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: have %v, want %q", c.text, err, c.want)
		}
	}
}

func TestRequires(t *testing.T) {
	mod := "module m\n\ngo 1.26\n\nrequire a.b/c v1.0.0\n\nrequire (\n\td.e/f v1.0.0\n\tg.h/i v1.0.0 // indirect\n)\n\ntool d.e/f/cmd\n"
	if have := requires(mod); !slices.Equal(have, []string{"a.b/c", "d.e/f"}) {
		t.Errorf("have %v", have)
	}
}
