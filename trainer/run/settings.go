package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// SettingsFile lies beside a trained model and is no file of Hugging Face's: what
// whoever asks the model should know of the run.
const SettingsFile = "nrt.json"

// Settings are its content.
type Settings struct {
	MaxChain int `json:"max_chain"` // longest chain in tokens
}

// ReadSettings reads them from a model's folder; they are zero where it has none.
func ReadSettings(files fs.FS) (s Settings, err error) {
	raw, err := fs.ReadFile(files, SettingsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && s.MaxChain < 0 {
		err = fmt.Errorf("max_chain: want 0 or more, have %d", s.MaxChain)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", SettingsFile, err)
	}
	return s, nil
}

// Save writes them into a folder, unless there is nothing to say.
func (s Settings) Save(dir string) error {
	if s == (Settings{}) {
		return nil
	}
	return writeJSON(osDisk{}, filepath.Join(dir, SettingsFile), s)
}
