package token

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// file is a tokenizer.json with some of its fields.
func file(fields ...string) string {
	have := strings.Join(fields, ",")
	if !strings.Contains(have, `"model"`) {
		fields = append(fields, `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`)
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// TestErrors: what cannot be done exactly is refused by field and value.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{`, "tokenizer.json: unexpected end"},
		{`[]`, "tokenizer.json: json: cannot unmarshal array"},
		{`{}`, "tokenizer.json: model: missing"},
		{file(`"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\w+x"},"behavior":"Isolated"}`),
			`tokenizer.json: pre_tokenizer.pattern.Regex: unsupported pattern "\\w+x"`},
		{file(`"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits"},{"type":"UnicodeScripts"}]}`),
			`tokenizer.json: pre_tokenizer.pretokenizers[1].type: unsupported "UnicodeScripts"`},
		{file(`"pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"Sideways"}`),
			`tokenizer.json: pre_tokenizer.behavior: unsupported "Sideways"`},
		{file(`"pre_tokenizer":{"type":"Split","pattern":{"String":""},"behavior":"Removed"}`), "tokenizer.json: pre_tokenizer.pattern: want a Regex or a String"},
		{file(`"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}`),
			"tokenizer.json: pre_tokenizer.pretokenizers[1]: unsupported: a step after ByteLevel"},
		{file(`"pre_tokenizer":{"type":"Metaspace","replacement":"__"}`), "tokenizer.json: pre_tokenizer.replacement: want one character"},
		{file(`"pre_tokenizer":{"type":"Metaspace","prepend_scheme":"last"}`), `tokenizer.json: pre_tokenizer.prepend_scheme: unsupported "last"`},
		{file(`"pre_tokenizer":{"type":"Metaspace","prepend_scheme":"first","add_prefix_space":false}`),
			`tokenizer.json: pre_tokenizer.add_prefix_space: false contradicts prepend_scheme "first"`},
		{file(`"pre_tokenizer":{"type":"ByteLevel","use_regex":"yes"}`), "tokenizer.json: pre_tokenizer.use_regex: json:"},
		{file(`"normalizer":{"type":"Precompiled"}`), `tokenizer.json: normalizer.type: unsupported "Precompiled"`},
		{file(`"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]}`),
			`tokenizer.json: normalizer.normalizers[1].pattern.Regex: unsupported pattern " {2,}"`},
		{file(`"decoder":{"type":"CTC"}`), `tokenizer.json: decoder.type: unsupported "CTC"`},
		{file(`"decoder":{"type":"Strip","content":" ","start":-1}`), "tokenizer.json: decoder.start: want a number >= 0"},
		{file(`"post_processor":{"type":"Mystery"}`), `tokenizer.json: post_processor.type: unsupported "Mystery"`},
		{file(`"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],"special_tokens":{}}`),
			`tokenizer.json: post_processor.single[0].SpecialToken.id: "<s>" is not among special_tokens`},
		{file(`"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],"special_tokens":{"<s>":{"ids":[77]}}}`),
			"tokenizer.json: post_processor.special_tokens.<s>.ids[0]: no token has id 77"},
		{file(`"model":{"type":"Unigram","vocab":[["a",0]]}`), `tokenizer.json: model.type: unsupported "Unigram"`},
		{file(`"model":{"type":"WordPiece","vocab":{}}`), `tokenizer.json: model.type: unsupported "WordPiece"`},
		{file(`"model":{"vocab":{"a":0}}`), `tokenizer.json: model.type: unsupported ""`},
		{file(`"model":{"type":"BPE","merges":[]}`), "tokenizer.json: model.vocab: missing"},
		{file(`"model":{"type":"BPE","vocab":{"a":0}}`), "tokenizer.json: model.merges: missing"},
		{file(`"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}`), `tokenizer.json: model.merges: merge 0: token "b" is not in the vocabulary`},
		{file(`"model":{"type":"BPE","vocab":{"a":0},"merges":["a b c"]}`), "tokenizer.json: model.merges: merge 0: want two tokens with one space"},
		{file(`"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}`), "tokenizer.json: model.merges: merge 0: want 2 tokens, have 1"},
		{file(`"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}`), `tokenizer.json: model.vocab: tokens "a" and "b" share id 0`},
		{file(`"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}`), `tokenizer.json: model.vocab: token "a" has id -1`},
		{file(`"model":{"type":"BPE","vocab":{"a":2000000000},"merges":[]}`), `tokenizer.json: model.vocab: token "a" has id 2000000000`},
		{file(`"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1}`), "tokenizer.json: model.dropout: unsupported 0.1"},
		{file(`"model":{"type":"BPE","vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"}`), `tokenizer.json: model.end_of_word_suffix: unsupported "</w>"`},
		{file(`"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"<unk>"}`), `tokenizer.json: model.unk_token: "<unk>" is not in the vocabulary`},
		{file(`"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"<unk>"}`), `tokenizer.json: model.unk_token: "<unk>" is not in the vocabulary`},
		{file(`"added_tokens":[{"id":2000000000,"content":"x"}]`), "tokenizer.json: added_tokens[0].id: 2000000000 is too large"},
		{file(`"added_tokens":[{"content":"x"}]`), "tokenizer.json: added_tokens[0].id: want an id >= 0"},
		{file(`"added_tokens":[{"id":1,"content":"x"}]`), `tokenizer.json: added_tokens[0].id: 1 is already token "b"`},
		{file(`"normalizer":` + strings.Repeat(`{"type":"Sequence","normalizers":[`, 500) + strings.Repeat(`]}`, 500)), "nested too deeply"},
	} {
		_, err := Parse("tokenizer.json", []byte(c.in), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200s:\nerror %v\nwant  %s", c.in, err, c.want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`[]`, "tokenizer_config.json: json: cannot unmarshal array"},
		{`{"bos_token":5}`, "tokenizer_config.json: bos_token: json: cannot unmarshal number"},
		{`{"eos_token":{"content":5}}`, "tokenizer_config.json: eos_token.content: json: cannot unmarshal number"},
		{`{"chat_template":[5]}`, "tokenizer_config.json: chat_template[0]: json: cannot unmarshal number"},
	} {
		_, err := Parse("tokenizer.json", []byte(file()), []byte(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", c.in, err, c.want)
		}
	}
}

// TestConfig: the forms in which tokenizer_config.json names tokens.
func TestConfig(t *testing.T) {
	in := file(`"added_tokens":[{"id":3,"content":"<s>","special":true},{"id":4,"content":"</s>","special":true},{"id":5,"content":"<end>","special":true}]`)
	for _, c := range []struct {
		config   string
		bos, eos int32
		template string
	}{
		{``, 3, 4, ""},
		{`{}`, -1, -1, ""},
		{`{"bos_token":"<s>","eos_token":{"content":"<end>","lstrip":false}}`, 3, 5, ""},
		{`{"bos_token":null,"eos_token":"<gone>","chat_template":"one"}`, -1, -1, "one"},
		{`{"chat_template":[{"name":"rag","template":"two"},{"name":"default","template":"three"}]}`, -1, -1, "three"},
		{`{"chat_template":[{"name":"rag","template":"two"},{"name":"tool_use","template":"three"}]}`, -1, -1, "two"},
	} {
		tk, err := Parse("tokenizer.json", []byte(in), []byte(c.config))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(tk.BOS(), tk.EOS(), tk.config.ChatTemplate), fmt.Sprint(c.bos, c.eos, c.template); got != want {
			t.Errorf("%s: bos, eos, template %s; want %s", c.config, got, want)
		}
	}
}

// TestNotAFile: what is no regular file is refused at once.
func TestNotAFile(t *testing.T) {
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} {
		dir := t.TempDir()
		if name != "tokenizer.json" {
			if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte(file()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/dev/zero", filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
		if _, err := LoadDir(dir); err == nil || !strings.Contains(err.Error(), name+": want a regular file") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
