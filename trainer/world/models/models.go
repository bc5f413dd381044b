// Package models holds the small world's trained models inside the program:
// one Hugging Face folder each, and index.json, which says how each was made and
// what it measured. `make world-models` writes all of it.
package models

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
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
func List() ([]Info, error) {
	raw, err := files.ReadFile("index.json")
	if err != nil {
		return nil, err
	}
	var list []Info
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("embedded models: index.json: %w", err)
	}
	return list, nil
}

// Open is a model's Hugging Face folder.
func Open(m Info) (fs.FS, error) { return fs.Sub(files, m.Dir) }
