// Package models holds the small world's trained models inside the program:
// one Hugging Face folder each, index.json, which says how each was made and
// what it measured, and runs.json, the course of their training. `make
// world-models` writes all of it.
package models

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *
var files embed.FS

// Info is one model.
type Info struct {
	Name     string  `json:"name"`             // such as "world:nrt"
	Dir      string  `json:"dir"`              // folder beside index.json
	About    string  `json:"about"`            // one line
	Method   string  `json:"method"`           // how it was trained
	Step     int     `json:"step"`             // training steps after the base
	Accuracy float64 `json:"heldout_accuracy"` // held-out key accuracy as this model is asked, greedy
	NoChain  bool    `json:"no_chain"`         // it is asked to answer without a chain
}

// List is every model, in the order of index.json.
func List() ([]Info, error) { return read[Info]("index.json") }

// Run is the training that made some of the models.
type Run struct {
	Name   string `json:"name"`   // of its last model
	Method string `json:"method"` // as Info's
	Steps  int    `json:"steps"`
	// Metrics of every step, under the names of a run's metrics.jsonl.
	Metrics []map[string]float64 `json:"metrics"`
	Kept    []Kept               `json:"kept"` // by step, the start first
}

// Kept is a step whose weights are one of the models, and what it answers right.
type Kept struct {
	Step     int     `json:"step"`
	Model    string  `json:"model"`
	Accuracy float64 `json:"heldout_accuracy"`
	Low      float64 `json:"low"` // its 95 % interval
	High     float64 `json:"high"`
}

// Runs is the trainings whose course is kept.
func Runs() ([]Run, error) { return read[Run]("runs.json") }

func read[T any](name string) (list []T, err error) {
	raw, err := files.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded models: %s: %w", name, err)
	}
	return list, nil
}

// Open is the Hugging Face folder of the model of that name, such as "world:nrt".
func Open(name string) (fs.FS, error) {
	list, err := List()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(m Info) bool { return m.Name == name })
	if i < 0 {
		var names []string
		for _, m := range list {
			names = append(names, m.Name)
		}
		return nil, fmt.Errorf("no embedded model %q: there are %s", name, strings.Join(names, ", "))
	}
	return fs.Sub(files, list[i].Dir)
}
