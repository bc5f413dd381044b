//go:build cuda

package cuda

import (
	"embed"
	"path"
	"strings"
)

//go:embed ptx
var ptxFiles embed.FS

// ptxModules returns the kernels as PTX: name of the source file without .cu →
// text, as the driver's module loader takes it.
func ptxModules() map[string]string {
	m := map[string]string{}
	files, err := ptxFiles.ReadDir("ptx")
	if err != nil {
		panic(err) // the folder is part of the binary
	}
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), ".ptx"); ok {
			text, err := ptxFiles.ReadFile(path.Join("ptx", f.Name()))
			if err != nil {
				panic(err)
			}
			m[name] = string(text)
		}
	}
	return m
}
