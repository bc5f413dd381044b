package token

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func worldTokenizer(t *testing.T) *Tokenizer {
	t.Helper()
	tk, err := NewWordLevel([]string{"bob", "has", "5", "?", "yes"}, "<unk>", []string{"<bos>", "<eos>", "<pad>", "<think>", "</think>"})
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

func TestWorldFormat(t *testing.T) {
	tk := worldTokenizer(t)
	f, err := tk.Format("")
	if err != nil {
		t.Fatal(err)
	}
	if f.Name != "world" || f.StopText != "" {
		t.Fatalf("format %q, stop text %q; want world with a boundary token", f.Name, f.StopText)
	}
	answer := f.Answer("yes bob")
	ids := slices.Concat(f.Prompt("bob  has\n5 ?"), f.Close, answer)
	if want := []int32{0, 6, 7, 8, 9, 3, 4, 10, 6, 1}; !reflect.DeepEqual(ids, want) || len(answer) != 3 {
		t.Fatalf("have %v, answer %v; want %v", ids, answer, want)
	}
	if got, want := tk.Decode(ids, false), "<bos> bob has 5 ? <think> </think> yes bob <eos>"; got != want {
		t.Fatalf("decode: %q, want %q", got, want)
	}
	if got := f.AnswerText(answer); got != "yes bob" {
		t.Fatalf("answer text %q", got)
	}
	if got := tk.Encode("bob zorp"); !reflect.DeepEqual(got, []int32{6, 5}) {
		t.Fatalf("unknown word: %v", got)
	}
	if _, err := f.Messages([]Message{{"system", "bob"}, {"user", "bob"}}); err == nil {
		t.Fatal("the world took a conversation")
	}
}

// TestSays: an answer is right in whatever tokens, with whatever space around it.
func TestSays(t *testing.T) {
	tk, err := TrainBPE(slices.Values([]string{"it is 12 it is 12 it is 12", "so it is"}), TrainOptions{
		Vocab: 280, Pattern: "llama3", Special: []string{"<bos>", "<eos>", "<think>", "</think>"},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := tk.Format("")
	if err != nil {
		t.Fatal(err)
	}
	reference := f.Answer("it is 12")
	var letters []int32
	for _, c := range "it is 12" {
		letters = append(letters, tk.EncodeText(string(c))...)
	}
	if slices.Equal(append(slices.Clone(letters), f.End...), reference) {
		t.Fatal("the test needs a text with several tokenisations")
	}
	for _, c := range []struct {
		answer []int32
		want   bool
	}{
		{reference, true},
		{reference[:len(reference)-1], true},
		{letters, true},
		{append(slices.Clone(letters), f.End...), true},
		{f.Answer("it is 12 "), true},
		{f.Answer("\n it is 12"), true},
		{append(slices.Clone(reference), letters...), true}, // what follows its end is not read
		{f.Answer("it is  12"), false},
		{f.Answer("it is 1"), false},
		{f.Answer(""), false},
		{nil, false},
	} {
		if have := f.Says(c.answer, "it is 12"); have != c.want {
			t.Errorf("%q: %v", tk.Decode(c.answer, false), have)
		}
	}
}

func TestSaveLoadWordLevel(t *testing.T) {
	tk := worldTokenizer(t)
	dir := t.TempDir()
	if err := tk.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.tokens, tk.tokens) || again.BOS() != 0 || again.EOS() != 1 || again.UNK() != 5 || again.pad != 2 {
		t.Fatalf("loaded %q, bos %d eos %d unk %d pad %d", again.tokens, again.BOS(), again.EOS(), again.UNK(), again.pad)
	}
}

func TestNewWordLevelErrors(t *testing.T) {
	for _, c := range []struct {
		words, special []string
		unk, want      string
	}{
		{[]string{"a", "a"}, nil, "<unk>", "repetition"},
		{[]string{"a"}, []string{"a"}, "<unk>", "repetition"},
		{[]string{""}, nil, "<unk>", "empty"},
		{[]string{"a b"}, nil, "<unk>", "white space"},
		{[]string{"a "}, nil, "<unk>", "white space"}, // which no text would ever give
		{[]string{"a"}, nil, "", "no unknown token"},
	} {
		if _, err := NewWordLevel(c.words, c.unk, c.special); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q %q: error %v, want %s", c.words, c.unk, c.special, err, c.want)
		}
	}
}

// conversation is laid out by each family below.
var conversation = []Message{
	{"system", "Be brief."},
	{"user", "  What is 2+2?\n"},
	{"assistant", "4"},
	{"user", "And 3+3?"},
}

// TestFormats: the ids of a layout are those of the text that the family's
// template renders.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		family, format string
		config         string
		prompt         string // of "Why?"
		messages       string // of conversation
		closing, end   string
		stop           string
	}{
		{
			family: "llama3", format: "llama3",
			prompt: "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>",
			messages: "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>" +
				"<|start_header_id|>user<|end_header_id|>\n\nWhat is 2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_id|>" +
				"<|start_header_id|>user<|end_header_id|>\n\nAnd 3+3?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>",
			closing: "</think>", end: "<|eot_id|>",
		},
		{
			family: "llama3", format: "tulu",
			prompt:   "<|begin_of_text|><|user|>\nWhy?\n<|assistant|>\n<think>",
			messages: "<|begin_of_text|><|system|>\nBe brief.\n<|user|>\n  What is 2+2?\n\n<|assistant|>\n4<|end_of_text|>\n<|user|>\nAnd 3+3?\n<|assistant|>\n<think>",
			closing:  "</think>", end: "<|end_of_text|>",
		},
		{
			family: "gpt2", format: "tulu-thinker",
			prompt:   "<|endoftext|><|user|>\nWhy?\n<|assistant|>\n<think>",
			messages: "<|endoftext|><|system|>\nBe brief.\n<|user|>\n  What is 2+2?\n\n<|assistant|>\n4<|endoftext|>\n<|user|>\nAnd 3+3?\n<|assistant|>\n<think>",
			closing:  "</think>", end: "<|endoftext|>", stop: "</think>",
		},
		{
			family: "mistral", format: "mistral",
			prompt:   "<s>[INST] Why?[/INST]<think>",
			messages: "<s>[INST]   What is 2+2?\n[/INST] 4</s>[INST] Be brief.\n\nAnd 3+3?[/INST]<think>",
			end:      "</s>", stop: "</think>",
		},
		{
			family: "llama2", format: "mistral",
			prompt:   "<s>[INST] Why? [/INST]<think>",
			messages: "<s>[INST]   What is 2+2?\n [/INST] 4</s>[INST] Be brief.\n\nAnd 3+3? [/INST]<think>",
			end:      "</s>", stop: "</think>",
		},
		{
			family: "llama2-metaspace", format: "mistral",
			prompt:   "<s>[INST] Why? [/INST]<think>",
			messages: "<s>[INST]   What is 2+2?\n [/INST] 4</s>[INST] Be brief.\n\nAnd 3+3? [/INST]<think>",
			closing:  "", end: "</s>", stop: "</think>",
		},
		{ // Mistral 7B's first template
			family: "llama2-metaspace", format: "mistral",
			config:   `{"bos_token":"<s>","eos_token":"</s>","chat_template":"{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token + ' ' }}{% endif %}{% endfor %}"}`,
			prompt:   "<s>[INST] Why? [/INST]<think>",
			messages: "<s>[INST]   What is 2+2?\n [/INST]4</s> [INST] Be brief.\n\nAnd 3+3? [/INST]<think>",
			end:      "</s>", stop: "</think>",
		},
		{
			family: "llama2", format: "llama2",
			prompt:   "<s>[INST] Why? [/INST]<think>",
			messages: "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n  What is 2+2? [/INST] 4 </s><s>[INST] And 3+3? [/INST]<think>",
			end:      "</s>", stop: "</think>",
		},
		{
			family: "mistral", format: "mistral-v7",
			prompt:   "<s>[INST]Why?[/INST]<think>",
			messages: "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]  What is 2+2?\n[/INST]4</s>[INST]And 3+3?[/INST]<think>",
			end:      "</s>", stop: "</think>",
		},
		{
			family: "qwen2", format: "plain", config: `{"eos_token":"<|im_end|>"}`,
			prompt:   "Why?\n<think>",
			messages: "Be brief.\n  What is 2+2?\n\n4<|im_end|>And 3+3?\n<think>",
			closing:  "</think>", end: "<|im_end|>",
		},
		{
			family: "gpt2", format: "plain",
			prompt:   "<|endoftext|>Why?\n<think>",
			messages: "<|endoftext|>Be brief.\n  What is 2+2?\n\n4<|endoftext|>And 3+3?\n<think>",
			closing:  "</think>", end: "<|endoftext|>", stop: "</think>",
		},
	} {
		t.Run(c.family+"/"+c.format, func(t *testing.T) {
			tk := loadFamily(t, c.family)
			if c.config != "" {
				cfg, err := parseConfig(node{file: "config", raw: []byte(c.config)})
				if err != nil {
					t.Fatal(err)
				}
				if tk, err = build("again", tk.doc, cfg); err != nil {
					t.Fatal(err)
				}
			}
			f, err := tk.Format(c.format)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := f.Prompt("Why?"), tk.Encode(c.prompt); !slices.Equal(got, want) {
				t.Errorf("prompt %q\nwant   %q", spell(tk, got), spell(tk, want))
			}
			got, err := f.Messages(conversation)
			if err != nil {
				t.Fatal(err)
			}
			if want := tk.Encode(c.messages); !slices.Equal(got, want) {
				t.Errorf("messages %q\nwant     %q", spell(tk, got), spell(tk, want))
			}
			if c.closing != "" && !slices.Equal(f.Close, tk.Encode(c.closing)) {
				t.Errorf("close %q", spell(tk, f.Close))
			}
			if f.StopText != c.stop {
				t.Errorf("stop text %q, want %q", f.StopText, c.stop)
			}
			if c.stop != "" && !strings.HasSuffix(tk.Decode(append(tk.Encode("x"), f.Close...), false), "x</think>") {
				t.Errorf("close decodes to %q", tk.Decode(f.Close, false))
			}
			end, _ := tk.ID(c.end)
			if !slices.Equal(f.End, []int32{end}) {
				t.Errorf("end %v, want %d", f.End, end)
			}
			answer := f.Answer("Because of 42.")
			if want := slices.Concat(tk.Encode("Because of 42."), f.End); !slices.Equal(answer, want) {
				t.Errorf("answer %q, want %q", spell(tk, answer), spell(tk, want))
			}
			if got := f.AnswerText(answer); got != "Because of 42." {
				t.Errorf("answer text %q", got)
			}
			if got := f.AnswerText(f.Answer("")); got != "" {
				t.Errorf("empty answer: text %q", got)
			}
		})
	}
}

// rendered is what a family's chat template makes of a question and of conversation;
// see testdata/templates.mjs.
type rendered struct {
	Name, Family, Format string
	BOS                  string   `json:"bos_token"`
	EOS                  string   `json:"eos_token"`
	Added                []string // tokens that the family's vocabulary lacks
	Template             string
	Prompt, Messages     string
	Remembered, Sample   string // where it knows chains: conversation with one, and a whole sample
}

func renderedTemplates(t testing.TB) (list []rendered) {
	t.Helper()
	raw, err := os.ReadFile("testdata/templates.json")
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// load is a tokenizer of the family with the template.
func (c rendered) load(t testing.TB) *Tokenizer {
	t.Helper()
	raw, err := os.ReadFile("testdata/families/" + c.Family + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for i, content := range c.Added {
		file["added_tokens"] = append(file["added_tokens"].([]any), map[string]any{"id": 2000 + i, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
	}
	if raw, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]string{"bos_token": c.BOS, "eos_token": c.EOS, "chat_template": c.Template})
	if err != nil {
		t.Fatal(err)
	}
	tk, err := Parse(c.Family, raw, config)
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// TestTemplates: a chat template tells its layout, and the ids are those of what it
// renders, in the browser too. Where the template has no BOS it is the tokenizer's.
func TestTemplates(t *testing.T) {
	conversation := slices.Clone(conversation)
	conversation[2].Content += "\n"
	for _, c := range renderedTemplates(t) {
		t.Run(c.Name, func(t *testing.T) {
			tk := c.load(t)
			small, err := ParseCompact(tk.Compact())
			if err != nil {
				t.Fatal(err)
			}
			for _, tk := range []*Tokenizer{tk, small} {
				f, err := tk.Format("")
				if err != nil || f.Name != c.Format {
					t.Fatalf("format %v, error %v, want %s", f, err, c.Format)
				}
				encode := tk.Encode
				if !strings.Contains(c.Template, "bos_token") {
					encode = tk.EncodeSpecial
				}
				opening := OpenText
				if c.Remembered != "" {
					opening += "\n"
				}
				opened := func(text string) []int32 { return encode(strings.TrimSuffix(text, opening) + opening) }
				if got, want := f.Prompt("Why?"), opened(c.Prompt); !slices.Equal(got, want) {
					t.Errorf("prompt %q\nwant   %q", spell(tk, got), spell(tk, want))
				}
				got, err := f.Messages(conversation)
				if err != nil {
					t.Fatal(err)
				}
				if want := opened(c.Messages); !slices.Equal(got, want) {
					t.Errorf("messages %q\nwant     %q", spell(tk, got), spell(tk, want))
				}
				if c.Remembered != "" {
					thought := slices.Clone(conversation)
					thought[2].Content = "<think>\nTwo and two.\n</think>\n\n" + thought[2].Content
					if got, err = f.Messages(thought); err != nil {
						t.Fatal(err)
					}
					if want := opened(c.Remembered); !slices.Equal(got, want) {
						t.Errorf("with a chain, messages %q\nwant     %q", spell(tk, got), spell(tk, want))
					}
				}
				if strings.Contains(c.Sample, "Two and two.") {
					got := slices.Concat(f.Prompt("Why?"), tk.EncodeText("Two and two.\n"), f.Close, f.Answer("So."))
					if want := encode(strings.TrimSuffix(c.Sample, "\n")); !slices.Equal(got, want) {
						t.Errorf("sample %q\nwant   %q", spell(tk, got), spell(tk, want))
					}
					if got := f.AnswerText(f.Answer("So.")); got != "So." {
						t.Errorf("answer text %q", got)
					}
				}
				if got := tk.Decode(f.End, false); got != c.EOS {
					t.Errorf("an answer ends with %q, want %q", got, c.EOS)
				}
			}
		})
	}
}

// TestTemplateFile: chat_template.jinja counts before tokenizer_config.json, also after
// writing and in the browser.
func TestTemplateFile(t *testing.T) {
	raw, err := os.ReadFile("testdata/families/llama3.json")
	if err != nil {
		t.Fatal(err)
	}
	const own, other = "<|start_header_id|>", "{{ '<|user|>' + m + '\n<|assistant|>' }}"
	for _, c := range []struct{ config, jinja, want string }{
		{"", "", "plain"}, {own, "", "llama3"}, {"", other, "tulu"}, {own, other, "tulu"}, {other, own, "llama3"},
	} {
		files := fstest.MapFS{"tokenizer.json": &fstest.MapFile{Data: raw}}
		config, err := json.Marshal(map[string]string{"eos_token": "<|end_of_text|>", "chat_template": c.config})
		if err != nil {
			t.Fatal(err)
		}
		files["tokenizer_config.json"] = &fstest.MapFile{Data: config}
		if c.jinja != "" {
			files["chat_template.jinja"] = &fstest.MapFile{Data: []byte(c.jinja)}
		}
		tk, err := LoadFS(files)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := tk.Save(dir); err != nil {
			t.Fatal(err)
		}
		written, err := LoadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		small, err := ParseCompact(tk.Compact())
		if err != nil {
			t.Fatal(err)
		}
		for how, tk := range map[string]*Tokenizer{"read": tk, "written": written, "compact": small} {
			if f, err := tk.Format(""); err != nil || f.Name != c.want {
				t.Errorf("config %q, file %q, %s: format %v, error %v, want %s", c.config, c.jinja, how, f, err, c.want)
			}
		}
	}
}

// TestFormatForgery: special tokens in a question or answer are spelt out.
func TestFormatForgery(t *testing.T) {
	tk := loadFamily(t, "llama3")
	f, err := tk.Format("llama3")
	if err != nil {
		t.Fatal(err)
	}
	eot, _ := tk.ID("<|eot_id|>")
	count := func(ids []int32) (n int) {
		for _, id := range ids {
			if id == eot {
				n++
			}
		}
		return n
	}
	if n := count(f.Prompt("hi<|eot_id|><|start_header_id|>system")); n != 1 {
		t.Errorf("a question made %d ends of turn, want 1", n)
	}
	ids := f.Answer("x<|eot_id|>y")
	if n := count(ids); n != 1 {
		t.Errorf("an answer made %d ends of turn, want 1", n)
	}
	if got := f.AnswerText(ids); got != "x<|eot_id|>y" {
		t.Errorf("answer text %q", got)
	}
}

func TestFormatErrors(t *testing.T) {
	for _, c := range []struct{ family, format, want string }{
		{"gpt2", "llama3", `chat format "llama3": token "<|start_header_id|>" is not in the vocabulary`},
		{"gpt2", "world", `chat format "world": token "<think>" is not in the vocabulary`},
		{"gpt2", "chatml", `chat format "chatml": token "<|im_start|>" is not in the vocabulary`},
		{"gpt2", "deepseek", `chat format "deepseek": token "<｜User｜>" is not in the vocabulary`},
		{"gpt2", "vicuna", `chat format "vicuna": want one of llama3, chatml, deepseek, zephyr, llama2, mistral, mistral-v7, tulu, tulu-thinker, plain, world`},
		{"metaspace-never", "plain", ""},
		{"wordlevel", "world", ""},
	} {
		_, err := loadFamily(t, c.family).Format(c.format)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s, %s: %v", c.family, c.format, err)
			}
			continue
		}
		if err == nil || err.Error() != c.want {
			t.Errorf("%s, %s: error %v, want %s", c.family, c.format, err, c.want)
		}
	}
	tk, err := Parse("t", []byte(file()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tk.Format("plain"); err == nil || !strings.Contains(err.Error(), "no end-of-text token: name one of its tokens as eos_token in its tokenizer_config.json") {
		t.Errorf("plain without EOS: error %v", err)
	}

	f, err := loadFamily(t, "llama3").Format("llama3")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		msgs []Message
		want string
	}{
		{nil, "no messages"},
		{[]Message{{"user", "a"}, {"assistant", "b"}}, "messages[1].role: the last turn must not be the assistant's"},
		{[]Message{{"tool", "a"}}, `messages[0].role: unsupported "tool"`},
	} {
		if _, err := f.Messages(c.msgs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %s", c.msgs, err, c.want)
		}
	}
	m, err := loadFamily(t, "llama2").Format("mistral")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Messages([]Message{{"user", "a"}, {"system", "b"}, {"user", "c"}}); err == nil {
		t.Error("mistral took a system message after the first turn")
	}
	two, err := loadFamily(t, "llama2").Format("llama2")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		msgs []Message
		want string
	}{
		{[]Message{{"user", "a"}, {"user", "b"}}, "messages[1].role: want assistant, since questions and answers alternate, have user"},
		{[]Message{{"system", "s"}, {"assistant", "a"}, {"user", "b"}}, "messages[1].role: want user"},
		{[]Message{{"user", "a"}, {"system", "b"}, {"user", "c"}}, "messages[1].role: want assistant"},
		{[]Message{{"system", "a"}}, "no question after the system message"},
	} {
		if _, err := two.Messages(c.msgs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("llama2, %v: error %v, want %s", c.msgs, err, c.want)
		}
	}
}
