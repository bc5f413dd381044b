package main

import (
	"fmt"

	"nrt/trainer/world"
	"nrt/trainer/world/models"
)

// worldSeed is the small world that the embedded models know.
const worldSeed = 1

// builtins lists the models inside the program. Their sample questions are
// held out: none of the models was trained on them.
func builtins() ([]builtin, error) {
	infos, err := models.List()
	if err != nil {
		return nil, err
	}
	var samples []sample
	w := world.New(worldSeed)
	for _, item := range w.HeldOut(3*len(w.Families()), worldSeed) {
		samples = append(samples, sample{item.Question, item.Answer})
	}
	var list []builtin
	for _, m := range infos {
		files, err := models.Open(m.Name)
		if err != nil {
			return nil, fmt.Errorf("embedded model %s: %w", m.Name, err)
		}
		list = append(list, builtin{Name: m.Name, About: m.About, Files: files, Samples: samples, Accuracy: m.Accuracy})
	}
	return list, nil
}
