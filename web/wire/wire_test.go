package wire

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

func examples() (client, server []Message) {
	client = []Message{
		&Hello{Resume: "s1", After: 7, Owner: "o1"},
		&Ask{Head: Head{ID: "q1"}, Model: "world:nrt", Question: "who ?", Answer: "ruth", K: 8, Temperature: 1, TopP: 1, Seed: 42, MaxChain: 64},
		&Score{Head: Head{ID: "w1"}, Model: "world:nrt", Question: "who ?", Answer: "ruth", Own: true, Variants: []Variant{{}, {Parts: []ChainPart{{IDs: []int32{5, 6}}, {Text: " her mother ."}}}}},
		&Score{Head: Head{ID: "r1"}, Models: []string{"r1@10", "r1@20"}, Question: "who ?", Answer: "ruth", Variants: []Variant{{}, {Parts: []ChainPart{{IDs: []int32{5, 6}}}}}},
		&Resample{Head: Head{ID: "f1"}, Model: "world:nrt", Question: "who ?", Answer: "ruth", Chain: []int32{5, 6, 7, 3}, Of: 4, Cuts: []int{0, 2, 3}, N: 8, Temperature: 1, TopP: 0.9, Seed: 42, MaxChain: 64},
		&Cancel{Head{ID: "q1"}},
		&Train{Head: Head{ID: "t1"}, Method: "nrt", Mode: "ws-logp", Steps: 60, Questions: 16, K: 8, LR: 1e-3, Seed: 1, Upload: "{}\n"},
		&TrainPause{Run: "r1"}, &TrainResume{Run: "r1"}, &TrainStop{Run: "r1"},
		&Watch{Run: "r1", After: 3},
	}
	state := State{Run: "r1", Method: "nrt", Mode: "gm", Status: StatusRunning, Step: 3, Of: 60, Mine: true, Checkpoints: []Checkpoint{{Step: 0, Model: "r1@0"}}}
	server = []Message{
		&Welcome{Session: "s1", Models: []Model{{Name: "world:nrt", Label: "NRT", Vocab: "world"}}, Runs: []State{state}, Limits: Limits{K: 16}},
		&Models{Models: []Model{{Name: "r1@20", Run: "r1", Step: 20}}},
		&Queued{Head: Head{Seq: 1, ID: "q1"}, Place: 2, Seconds: 12},
		&Start{Head: Head{Seq: 2, ID: "q1"}, Model: "world:nrt", K: 1, Seed: 42, Prompt: []Piece{{ID: 1, Text: "who"}}, Answer: []Piece{{ID: 2, Text: "ruth"}, {ID: 3, Text: "<eos>", Special: true}}},
		&Frame{Head: Head{Seq: 3, ID: "q1"}, Tokens: []Tokens{
			{Chain: -1, Part: PartBaseline, IDs: []int32{2}, Texts: []string{"ruth"}, LogProbs: []float64{-2.5}, Entropies: []float64{1}},
			{Chain: 0, Part: PartChain, At: 4, IDs: []int32{9}, Texts: []string{" z"}, LogProbs: []float64{-0.12345678901234567}, Entropies: []float64{0.5}},
		}, Done: []Done{{Chain: 0, Finish: "close", Answer: "ruth", Match: true}}},
		&End{Head: Head{Seq: 4, ID: "q1"}, Seconds: 0.7},
		&Scored{Head: Head{Seq: 5, ID: "w1"}, Variants: []ScoredVariant{{LogProbs: []float64{-2.5, 0}}, {LogProbs: []float64{-0.5, 0}, Answer: "ruth", Match: true}}},
		&Scored{Head: Head{Seq: 5, ID: "r1"}, Model: "r1@10", Variants: []ScoredVariant{{LogProbs: []float64{-2.5, 0}}, {LogProbs: []float64{-0.5, 0}}}},
		&Resampled{Head: Head{Seq: 6, ID: "f1"}, Cut: 2, Fresh: []Fresh{{IDs: []int32{7, 3}, Text: " leo .", LogProbs: []float64{-2.5, 0}}, {Text: "", LogProbs: []float64{-0.5, 0}}}},
		&Failed{Head: Head{ID: "q1"}, Code: CodeBusy, Message: "The queue is full.", Retry: 60},
		&Step{Run: "r1", Of: 60, Points: []Point{{Step: 3, Values: map[string]float64{ValueReward: 0.25}}}},
		&Eval{Run: "r1", Points: []Point{{Step: 0, Values: map[string]float64{ValueAccuracy: 0.5}}}},
		&state,
	}
	return client, server
}

func TestEveryMessageSurvivesTheWire(t *testing.T) {
	client, server := examples()
	for i, m := range append(client, server...) {
		read := DecodeClient
		other := DecodeServer
		if i >= len(client) {
			read, other = other, read
		}
		data, err := Encode(m)
		if err != nil {
			t.Fatalf("%s: %v", m.Type(), err)
		}
		got, err := read(data)
		if err != nil {
			t.Fatalf("%s: %v\n%s", m.Type(), err, data)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("%s: have %+v, want %+v", m.Type(), got, m)
		}
		if _, err := other(data); err == nil {
			t.Errorf("%s is accepted from the wrong side", m.Type())
		}
	}
}

func TestBadMessagesNameTheField(t *testing.T) {
	ask := `{"v":1,"t":"ask","id":"q","model":"m","question":"a","answer":"b","k":8,"temperature":1,"top_p":1,"seed":1,"max_chain":9`
	score := `{"v":1,"t":"score","id":"w","model":"m","question":"a","answer":"b","variants":[`
	through := func(model, models string, chains int) string {
		chain := `{"parts":[{"text":"` + strings.Repeat("x", 2000) + `"}]}`
		return fmt.Sprintf(`{"v":1,"t":"score","id":"w","model":%q,"models":[%s],"question":"a","answer":"b","variants":[%s]}`, model, models, strings.TrimSuffix(strings.Repeat(chain+",", chains), ","))
	}
	resample := func(chain, cuts string, n, most int) string {
		return fmt.Sprintf(`{"v":1,"t":"resample","id":"f","model":"m","question":"a","answer":"b","chain":[%s],"cuts":[%s],"n":%d,"max_chain":%d,"temperature":1,"top_p":1,"seed":1,"of":0}`, chain, cuts, n, most)
	}
	long := strings.TrimSuffix(strings.Repeat("7,", 600), ",")
	for _, c := range []struct{ text, want string }{
		{``, "wire: unexpected end"},
		{`[]`, "wire: want wire.Head, have array"},
		{`{"v":2,"t":"ask"}`, "wire: v: want version 1, have 2"},
		{`{"v":1,"t":"shell"}`, `wire: t: unknown message "shell"`},
		{`{"v":1,"t":"welcome"}`, `wire: t: unknown message "welcome"`},
		{ask + `,"path":"/etc"}`, "wire: ask: path: unknown field"},
		{ask + `,"k":99}`, "wire: ask: k: want 1 to 16, have 99"},
		{ask + `,"k":"8"}`, "wire: ask: k: want int, have string"},
		{ask + `,"seed":-1}`, "wire: ask: seed: want uint64, have number -1"},
		{ask + `,"question":" "}`, "wire: ask: question: missing"},
		{ask + `,"temperature":1e9}`, "wire: ask: temperature: want 0 to 4, have 1e+09"},
		{ask + `,"id":"` + strings.Repeat("x", 65) + `"}`, "wire: ask: id: 65 bytes; want at most 64"},
		{ask + `}{}`, "wire: invalid character '{' after top-level value"},
		{score + `{"parts":[{"ids":[1],"text":"a"}]}]}`, "wire: score: variants[0].parts[0].ids: want ids or text, and not both"},
		{score + `{"parts":[{}]}]}`, "wire: score: variants[0].parts[0].ids: want ids or text, and not both"},
		{score + `{"parts":[{"ids":[-1]}]}]}`, "wire: score: variants[0].parts[0].ids: want 0 to 16777216, have -1"},
		{score + `{"parts":[{"text":"` + strings.Repeat("x", 32*MaxChain+1) + `"}]}]}`, "wire: score: variants[0].parts: 65537 entries; want at most 65536"},
		{score + `]}`, "wire: score: variants: want 1 to 64, have 0"},
		{through("m", `"n"`, 1), "wire: score: model: want model or models, and not both"},
		{through("", "", 1), "wire: score: model: missing"},
		{through("", `"n"," "`, 1), "wire: score: models[1]: missing"},
		{through("", `"n","`+strings.Repeat("x", 201)+`"`, 1), "wire: score: models[1]: 201 bytes; want at most 200"},
		{through("", strings.TrimSuffix(strings.Repeat(`"n",`, 17), ","), 1), "wire: score: models: 17 entries; want at most 16"},
		{through("", `"a","b","c","d","e"`, 27), "wire: score: models: 270000 tokens to read; want at most 262144"},
		{resample("", "0", 8, 9), "wire: resample: chain: want 1 to 2048, have 0"},
		{resample("5,-1", "0", 8, 9), "wire: resample: chain: want 0 to 16777216, have -1"},
		{resample("5,6", "", 8, 9), "wire: resample: cuts: want 1 to 64, have 0"},
		{resample("5,6", "2", 8, 9), "wire: resample: cuts: want 0 to 1, have 2"},
		{resample("5,6", "-1", 8, 9), "wire: resample: cuts: want 0 to 1, have -1"},
		{resample("5,6,7", "1,1", 8, 9), "wire: resample: cuts: want 2 to 2, have 1"},
		{resample("5,6,7", "1", 8, 1), "wire: resample: cuts: want 0 to 0, have 1"},
		{resample("5,6", "0", 17, 9), "wire: resample: n: want 1 to 16, have 17"},
		{resample("5,6", "0", 8, 4096), "wire: resample: max_chain: want 1 to 2048, have 4096"},
		{resample(long, "0,1,2,3,500", 16, 2048), "wire: resample: cuts: 155744 tokens to sample; want at most 65536"},
		{strings.Replace(resample("5,6", "0", 8, 9), `"of":0`, `"of":16`, 1), "wire: resample: of: want 0 to 15, have 16"},
		{`{"v":1,"t":"train","id":"t","method":"ppo"}`, `wire: train: method: want one of nrt, rlpr, verifree, sft, have "ppo"`},
		{`{"v":1,"t":"train","id":"t","method":"nrt","steps":1,"questions":1,"k":2,"seed":1}`, "wire: train: mode: missing: nrt needs a reward formula"},
	} {
		_, err := DecodeClient([]byte(c.text))
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: have %v, want %s", c.text, err, c.want)
		}
	}
	if _, err := DecodeClient(make([]byte, MaxClient+1)); err == nil || !strings.Contains(err.Error(), "at most 2097152") {
		t.Errorf("oversized: have %v", err)
	}
	frame := `{"v":1,"t":"frame","id":"q","tokens":[{"chain":0,"part":"chain","at":0,"ids":[1],"texts":["a"],"logprobs":[],"entropies":[0]}]}`
	if _, err := DecodeServer([]byte(frame)); err == nil || err.Error() != "wire: frame: tokens[0].logprobs: 0 entries for 1 ids" {
		t.Errorf("frame: have %v", err)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	_, err := Encode(&Frame{Head: Head{ID: "q"}, Tokens: []Tokens{{Part: PartChain, IDs: []int32{1}, Texts: []string{""}, LogProbs: []float64{math.Inf(-1)}, Entropies: []float64{0}}}})
	if err == nil || err.Error() != "wire: frame: tokens[0].logprobs: want a number, have -Inf" {
		t.Errorf("have %v", err)
	}
}

// FuzzDecode: nothing panics, what is accepted is encoded again, and to the
// same.
func FuzzDecode(f *testing.F) {
	client, server := examples()
	for _, m := range append(client, server...) {
		data, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"V":1,"T":"cancel","Id":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func([]byte) (Message, error){DecodeClient, DecodeServer} {
			m, err := read(data)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("not an *Error: %v", err)
				}
				continue
			}
			out, err := Encode(m)
			if err != nil {
				t.Fatalf("accepted, but not to be encoded: %v\n%s", err, data)
			}
			again, err := read(out)
			if err != nil {
				t.Fatalf("written, but not to be read: %v\n%s", err, out)
			}
			if twice, err := Encode(again); err != nil || string(twice) != string(out) {
				t.Fatalf("have %s (%v), want %s", twice, err, out)
			}
		}
	})
}
