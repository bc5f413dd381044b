package browsertest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// slowModel writes a model of random weights with the small world's words: it
// says nothing of sense, at length, and takes its time.
func slowModel(t testing.TB) string {
	t.Helper()
	dir, base := filepath.Join(t.TempDir(), "untrained"), filepath.Join("..", "..", "trainer", "world", "models", "base")
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	fail(os.Mkdir(dir, 0o755))
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"} {
		raw, err := os.ReadFile(filepath.Join(base, name))
		fail(err)
		fail(os.WriteFile(filepath.Join(dir, name), raw, 0o644))
	}
	raw, err := os.ReadFile(filepath.Join(base, "config.json"))
	fail(err)
	var config map[string]any
	fail(json.Unmarshal(raw, &config))
	const hidden, inner, layers = 448, 1792, 8
	vocab := int(config["vocab_size"].(float64))
	for k, v := range map[string]any{"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
		"num_attention_heads": hidden / 32, "num_key_value_heads": hidden / 32, "max_position_embeddings": 1024, "torch_dtype": "float32"} {
		config[k] = v
	}
	raw, err = json.Marshal(config)
	fail(err)
	fail(os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644))

	head, data := map[string]any{}, []byte{}
	drawn := make([]float32, 100_003)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range drawn {
		drawn[i] = float32(0.04 * r.NormFloat64())
	}
	at := 0
	add := func(name string, shape ...int) {
		from, n := len(data), 1
		for _, d := range shape {
			n *= d
		}
		for range n {
			x := float32(1)
			if len(shape) == 2 {
				x, at = drawn[at], (at+1)%len(drawn)
			}
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
		head[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{from, len(data)}}
	}
	add("model.embed_tokens.weight", vocab, hidden)
	for l := range layers {
		of := fmt.Sprintf("model.layers.%d.", l)
		add(of+"input_layernorm.weight", hidden)
		add(of+"mlp.down_proj.weight", hidden, inner)
		add(of+"mlp.gate_proj.weight", inner, hidden)
		add(of+"mlp.up_proj.weight", inner, hidden)
		add(of+"post_attention_layernorm.weight", hidden)
		for _, name := range []string{"k", "o", "q", "v"} {
			add(of+"self_attn."+name+"_proj.weight", hidden, hidden)
		}
	}
	add("model.norm.weight", hidden)
	raw, err = json.Marshal(head)
	fail(err)
	for len(raw)%8 != 0 {
		raw = append(raw, ' ')
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(raw)))
	fail(os.WriteFile(filepath.Join(dir, "model.safetensors"), append(append(file, raw...), data...), 0o644))
	return dir
}
