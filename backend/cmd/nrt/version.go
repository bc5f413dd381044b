package main

import (
	"fmt"
	"runtime"

	"nrt/backend/cpu"
)

func versionCommand() *command {
	var asJSON bool
	return &command{
		name: "version", group: groupAbout, short: "what this program is and computes with", args: "[--json]",
		examples: []string{"nrt version", "nrt version --json"},
		bind: func(f *flags) func(*env) error {
			f.json(&asJSON)
			return func(e *env) (err error) {
				dev, err := cpu.New(cpu.Options{})
				if err != nil {
					return err
				}
				device := dev.Name()
				if err := dev.Close(); err != nil {
					return err
				}
				if asJSON {
					return e.printJSON(struct {
						Version  string `json:"version"`
						Go       string `json:"go"`
						Platform string `json:"platform"`
						Device   string `json:"device"`
						CUDA     bool   `json:"cuda"` // built with it
					}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, device, e.cards.built}, true)
				}
				with := ""
				if e.cards.built {
					with = ", with CUDA"
				}
				fmt.Fprintf(e.out, "nrt %s (%s, %s/%s, %s%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH, device, with)
				return nil
			}
		},
	}
}
