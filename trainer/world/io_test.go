package world

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestItemsRoundTrip(t *testing.T) {
	w := New(1)
	items := slices.Concat(w.Train(50, 1), w.HeldOut(50, 1), w.Longer(50, 1))
	var b bytes.Buffer
	if err := WriteItems(&b, items); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != len(items) {
		t.Errorf("%d lines, want %d", n, len(items))
	}
	for _, field := range []string{"question", "answer", "family", "steps", "split", "keys"} {
		if !strings.Contains(b.String(), `"`+field+`":`) {
			t.Errorf("no field %s", field)
		}
	}
	back, err := ReadItems(&b, "items.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(items, back) {
		t.Error("items changed on the way")
	}
}

func TestReadItemsNamesTheLine(t *testing.T) {
	good := `{"question":"q","answer":"a"}` + "\n\n"
	for in, want := range map[string]string{
		good + "{":                           "f.jsonl:3: ",
		good + `{"question":1,"answer":"a"}`: "f.jsonl:3: ",
		good + `{"question":"q"}`:            "f.jsonl:3: question and answer",
		strings.Repeat("x", 2<<20):           "f.jsonl: ",
	} {
		if _, err := ReadItems(strings.NewReader(in), "f.jsonl"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: error %v, want %q …", in, err, want)
		}
	}
}

func TestTexts(t *testing.T) {
	w := New(1)
	var b bytes.Buffer
	if err := WriteTexts(&b, w.Pretrain(20, 1)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	i := 0
	for doc := range w.Pretrain(20, 1) {
		if want := `{"text":"` + doc + `"}`; lines[i] != want {
			t.Errorf("line %d: have %s, want %s", i+1, lines[i], want)
		}
		i++
	}
	for range w.Pretrain(5, 1) {
		break // stopping early is allowed
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteErrors(t *testing.T) {
	w := New(1)
	if err := WriteItems(full{}, w.Train(500, 1)); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("items: error %v", err)
	}
	if err := WriteTexts(full{}, w.Pretrain(500, 1)); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("texts: error %v", err)
	}
}

func TestParseRejects(t *testing.T) {
	w := New(1)
	for question, want := range map[string]string{
		"":                                       "word 1: want a family, have the end",
		"sum : 4":                                "word 1: want a family, have sum",
		"calc 4 a) +3 ?":                         "word 2: want :, have 4",
		"calc : 14 a) +3 ?":                      "word 3: want a state, have 14",
		"calc : 4 ?":                             "word 4: want a), have ?",
		"calc : 4 b) +3 ?":                       "word 4: want a), have b)",
		"calc : 4 a) +7 ?":                       "word 5: want an operation, have +7",
		"calc : 4 a) +3":                         "word 6: want ?, have the end",
		"calc : 4 a) +3 ? ?":                     "word 7: want the end, have ?",
		"step : bob has 5 a) gets-3 how many ?":  "word 3: want a name, have bob",
		"step : ben 5 a) gets-3 how many ?":      "word 4: want has, have 5",
		"step : ben has 2 a) loses-3 how many ?": "word 7: want an operation that applies, have loses-3",
		"why : ben has 2 a) gets-3 ?":            "word 8: want pay, have ?",
		"why : ben has 2 a) gets-3 pay":          "word 9: want a price, have the end",
	} {
		if _, err := w.parse(question); err == nil || !errors.Is(err, errQuestion) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", question, err, want)
		}
	}
}

// FuzzGraders: graders take any strings, and parse is strict.
func FuzzGraders(f *testing.F) {
	w := New(1)
	for _, item := range w.Longer(14, 1) {
		f.Add(item.Question, w.RightChain(item), item.Answer)
	}
	f.Add("", "", "")
	f.Add("kin :", "a)", "\xff")
	f.Fuzz(func(t *testing.T, question, chain, answer string) {
		item := Item{Question: question, Answer: answer}
		if !slices.Contains(Kinds(), w.Kind(item, chain)) {
			t.Errorf("kind %q", w.Kind(item, chain))
		}
		if !w.Exact(item, answer) {
			t.Errorf("%q does not match itself", answer)
		}
		w.Key(item, answer)
		p, err := w.parse(question)
		if err != nil {
			return
		}
		if have, want := strings.Join(p.question(), " "), strings.Join(strings.Fields(question), " "); have != want {
			t.Errorf("parse reads %q, writes %q", want, have)
		}
		if chain := w.RightChain(item); w.Kind(item, chain) != Right {
			t.Errorf("%q: the right chain %q is %s", question, chain, w.Kind(item, chain))
		}
	})
}
