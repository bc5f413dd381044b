package token

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSaveFor: the layout that a model was trained in is the one that its files are read
// as having, whatever their chat template says.
func TestSaveFor(t *testing.T) {
	raw, err := os.ReadFile("testdata/families/llama3.json")
	if err != nil {
		t.Fatal(err)
	}
	const llama3, gemma = "<|start_header_id|>", "<start_of_turn>"
	for _, c := range []struct{ template, layout, then, want string }{
		{"", "tulu", "", "tulu"}, {llama3, "plain", "", "plain"}, {gemma, "tulu", "", "tulu"},
		{llama3, "llama3", "", "llama3"}, {llama3, "plain", "plain", "plain"}, {llama3, "plain", "llama3", "llama3"},
	} {
		config := fmt.Sprintf(`{"eos_token":"<|end_of_text|>","chat_template":%q,"model_max_length":1000000000000000019884624838656}`, c.template)
		tk, err := Parse("tokenizer.json", raw, []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		dir, again := t.TempDir(), t.TempDir()
		if err := tk.SaveFor(dir, c.layout); err != nil {
			t.Fatal(err)
		}
		first, err := LoadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := first.SaveFor(again, c.then); err != nil {
			t.Fatal(err)
		}
		second, err := LoadDir(again)
		if err != nil {
			t.Fatal(err)
		}
		small, err := ParseCompact(second.Compact())
		if err != nil {
			t.Fatal(err)
		}
		for how, tk := range map[string]*Tokenizer{"written": second, "compact": small} {
			if f, err := tk.Format(""); err != nil || f.Name != c.want {
				t.Errorf("%+v, %s: format %v, error %v", c, how, f, err)
			}
		}
		written, err := os.ReadFile(filepath.Join(again, "tokenizer_config.json"))
		if err != nil || !strings.Contains(string(written), "1000000000000000019884624838656") || c.layout == "llama3" && string(written) != config {
			t.Errorf("%+v: %v: %s", c, err, written)
		}
	}
	if tk, err := Parse("tokenizer.json", raw, []byte("null")); err != nil {
		t.Error(err)
	} else if err := tk.SaveFor(t.TempDir(), "tulu"); err != nil {
		t.Error(err)
	}
	if tk, err := Parse("tokenizer.json", raw, []byte(`{"eos_token":"<|end_of_text|>","nrt_layout":"later"}`)); err != nil {
		t.Error(err)
	} else if _, err := tk.Format(""); err == nil || !strings.Contains(err.Error(), `chat format "later"`) {
		t.Errorf("have %v", err)
	}
}

// TestUnknownTemplate: a model is not asked in a layout that its template has not.
func TestUnknownTemplate(t *testing.T) {
	tk := loadFamily(t, "llama2")
	for name, template := range map[string]string{
		"Vicuna":                "{{ 'USER: ' + message['content'] + ' ASSISTANT:' }}",
		"Phi-3":                 "{% for message in messages %}{% if message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}",
		"own system turn":       "{{ '[SYSTEM_PROMPT]' + rule + '[/SYSTEM_PROMPT]' }}{{ '[INST]' + message['content'] + '[/INST]' }}",
		"spelt out":             "{{ '[SYSTEM_PROMPT]Be kind.[/SYSTEM_PROMPT]' }}{{ '[INST]' + message['content'] + '[/INST]' }}",
		"Magistral":             "{{ '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{{ '[INST]' + message['content'] + '[/INST]' + '[THINK]' }}",
		"another day":           "{%- set default_system_message = 'It is ' + yesterday %}{{ '[SYSTEM_PROMPT]' + default_system_message + '[/SYSTEM_PROMPT]' }}{{ '[INST]' + message['content'] + '[/INST]' }}",
		"unfinished":            "{{ '[SYSTEM_PROMPT]' + default_system_message + '[/SYSTEM_PROMPT]' }}[INST]{%- set default_system_message = 'It is \\",
		"today of another kind": "{% set today = 'now' %}{%- set default_system_message = today %}{{ '[SYSTEM_PROMPT]' + default_system_message + '[/SYSTEM_PROMPT]' }}[INST]",
		"Llama 2, one BOS":      "{{ bos_token }}{{ '[INST] <<SYS>>' + system + '<</SYS>>' + content + ' [/INST]' }}{{ ' ' + content + ' ' + eos_token }}",
		"Llama 2, own system":   "{% set system_message = 'Be kind.' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{{ ' ' + content.strip() + ' ' + eos_token }}<<SYS>>",
		"Llama 2, no EOS":       "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{{ ' ' + content.strip() }}<<SYS>>",
		"Gemma":                 "{{ '<start_of_turn>' + role + '\n' + message['content'] + '<end_of_turn>\n' }}",
	} {
		tk.config.ChatTemplate = template
		_, err := tk.Format("")
		if !errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), "--template") || !strings.Contains(err.Error(), "zephyr") {
			t.Errorf("%s: error %v", name, err)
		}
		if f, err := tk.Format("plain"); err != nil || f.Name != "plain" {
			t.Errorf("%s, plain by name: error %v", name, err)
		}
	}
}

// TestGuessFormat: the chat template tells the family.
func TestGuessFormat(t *testing.T) {
	tk := loadFamily(t, "llama3")
	for _, c := range []struct{ template, want string }{
		{"", "plain"},
		{"{{bos_token}}<|start_header_id|>{{role}}", "llama3"},
		{"<|user|>\n{{m}}<|assistant|>\n", "tulu"},
		{"<|user|>\n{{m}}<|assistant|>\n<think>", "tulu-thinker"},
		{"[INST] {{m}} [/INST]", "mistral"},
		{"<|user|>\n{{ m }}{{ eos_token }}\n<|assistant|>\n", "zephyr"},
		{"<|user|>\n{{ m }}<|end_of_text|>\n<|assistant|>\n<think>", "zephyr"},
		{" \n", "plain"},
	} {
		tk.config.ChatTemplate = c.template
		f, err := tk.Format("")
		if err != nil {
			t.Fatal(err)
		}
		if f.Name != c.want {
			t.Errorf("template %q: format %s, want %s", c.template, f.Name, c.want)
		}
	}
}
