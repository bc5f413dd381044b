"""An independent Llama, Mistral, Qwen2 and Qwen3 in plain PyTorch, to check this package by.

Reads Hugging Face folders and a list of as many requests on stdin, and prints what
the models should compute; nothing here shares code or formulas' spelling with the Go
side.

    python3 oracle.py MODEL_DIR... < requests.json > answers.json

A folder that also holds an adapter as PEFT writes it is a frozen model with LoRA
beside its matrices: the gradients are then those of the adapter's tensors.

request  {"sequences": [{"ids": [...], "weights": [...]}, ...], "probe": 4}
         weights[t] belongs to the prediction of ids[t+1]
answer   {"logprobs": [[...], ...], "entropies": [[...], ...],
          "loss": L, "gradients": {name: {"norm": x, "at": [[index, value], ...]}}}
         L = sum of weights[t] * log p(ids[t+1] | ids[:t+1]); gradients are of L

Everything is computed in float64, so that only the Go side rounds.
"""

import json
import math
import os
import struct
import sys

import numpy
import torch

torch.set_num_threads(1)


def read_safetensors(path):
    with open(path, "rb") as f:
        blob = f.read()
    (n,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + n])
    header.pop("__metadata__", None)
    tensors = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        raw = blob[8 + n + begin : 8 + n + end]
        kind = info["dtype"]
        if kind == "BF16":
            words = numpy.frombuffer(raw, "<u2").astype(numpy.uint32) << 16
            values = words.view(numpy.float32)
        else:
            values = numpy.frombuffer(raw, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[kind])
        tensors[name] = torch.tensor(values.astype(numpy.float64).reshape(info["shape"]))
    return tensors


def read_weights(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_safetensors(os.path.join(folder, "model.safetensors"))
    with open(index) as f:
        placed = json.load(f)["weight_map"]
    tensors = {}
    for shard in sorted(set(placed.values())):
        found = read_safetensors(os.path.join(folder, shard))
        assert all(placed[name] == shard for name in found), shard
        tensors.update(found)
    assert set(tensors) == set(placed)
    return tensors


def read_adapter(folder):
    """The adapter's tensors by name and its scale, or none."""
    path = os.path.join(folder, "adapter_config.json")
    if not os.path.exists(path):
        return {}, None
    with open(path) as f:
        cfg = json.load(f)
    assert cfg["peft_type"] == "LORA" and cfg["bias"] == "none" and cfg["lora_dropout"] == 0
    tensors = read_safetensors(os.path.join(folder, "adapter_model.safetensors"))
    for name, tensor in tensors.items():
        module, factor = name.split(".")[-3], name.split(".")[-2]
        assert module in cfg["target_modules"], name
        assert tensor.shape[0 if factor == "lora_A" else 1] == cfg["r"], name
    return tensors, cfg["lora_alpha"] / cfg["r"]


def linear(h, w, name, scale):
    """A layer as PEFT wraps it: the frozen matrix's product, and scale·B(A(h))."""
    out = torch.nn.functional.linear(h, w[name + ".weight"], w.get(name + ".bias"))
    adapter = "base_model.model." + name
    if adapter + ".lora_A.weight" in w:
        low = torch.nn.functional.linear(h, w[adapter + ".lora_A.weight"])
        out = out + torch.nn.functional.linear(low, w[adapter + ".lora_B.weight"]) * scale
    return out


def inverse_frequencies(cfg, dim):
    freqs = 1.0 / cfg["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    scaling = cfg.get("rope_scaling")
    if scaling is None:
        return freqs
    assert scaling["rope_type"] == "llama3"
    factor, old = scaling["factor"], scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    wavelen = 2 * math.pi / freqs
    blend = (old / wavelen - low) / (high - low)
    blended = (1 - blend) * freqs / factor + blend * freqs
    scaled = torch.where(wavelen > old / low, freqs / factor, freqs)
    medium = (wavelen >= old / high) & (wavelen <= old / low)
    return torch.where(medium, blended, scaled)


def rotate(x, cos, sin):
    """x is (heads, length, dim); halves are the pairs, as in Hugging Face files."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def rms_norm(x, weight, eps):
    return weight * (x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps))


CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def expected_vectors(cfg):
    """The names of a layer's tensors of one dimension, which the class decides."""
    names = {"input_layernorm.weight", "post_attention_layernorm.weight"}
    if cfg["model_type"] == "qwen2":
        names |= {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}
    elif cfg.get("attention_bias"):
        names |= {"self_attn.%s_proj.bias" % which for which in "qkvo"}
    if cfg["model_type"] == "qwen3":
        names |= {"self_attn.q_norm.weight", "self_attn.k_norm.weight"}
    return names


def forward(cfg, w, ids, scale=None):
    """Logits (length, vocab) for one sequence."""
    length = len(ids)
    heads, groups = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    dim = cfg.get("head_dim") or cfg["hidden_size"] // heads
    eps = cfg["rms_norm_eps"]

    angles = torch.outer(torch.arange(length, dtype=torch.float64), inverse_frequencies(cfg, dim))
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos(), angles.sin()

    query, key = torch.arange(length)[:, None], torch.arange(length)[None, :]
    hidden = key > query
    if cfg.get("sliding_window"):
        hidden = hidden | (query - key >= cfg["sliding_window"])

    x = w["model.embed_tokens.weight"][torch.tensor(ids)]
    for layer in range(cfg["num_hidden_layers"]):
        p = "model.layers.%d." % layer
        h = rms_norm(x, w[p + "input_layernorm.weight"], eps)
        q = linear(h, w, p + "self_attn.q_proj", scale).reshape(length, heads, dim).transpose(0, 1)
        k = linear(h, w, p + "self_attn.k_proj", scale).reshape(length, groups, dim).transpose(0, 1)
        v = linear(h, w, p + "self_attn.v_proj", scale).reshape(length, groups, dim).transpose(0, 1)
        if cfg["model_type"] == "qwen3":
            q = rms_norm(q, w[p + "self_attn.q_norm.weight"], eps)
            k = rms_norm(k, w[p + "self_attn.k_norm.weight"], eps)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k = k.repeat_interleave(heads // groups, dim=0)
        v = v.repeat_interleave(heads // groups, dim=0)
        scores = (q @ k.transpose(1, 2)) / math.sqrt(dim)
        scores = scores.masked_fill(hidden, float("-inf"))
        mixed = torch.softmax(scores, dim=-1) @ v
        x = x + linear(mixed.transpose(0, 1).reshape(length, heads * dim), w, p + "self_attn.o_proj", scale)
        h = rms_norm(x, w[p + "post_attention_layernorm.weight"], eps)
        gate = linear(h, w, p + "mlp.gate_proj", scale)
        up = linear(h, w, p + "mlp.up_proj", scale)
        x = x + linear(torch.nn.functional.silu(gate) * up, w, p + "mlp.down_proj", scale)
    x = rms_norm(x, w["model.norm.weight"], eps)
    head = "model.embed_tokens.weight" if cfg["tie_word_embeddings"] else "lm_head.weight"
    return x @ w[head].T


def answer(folder, request):
    with open(os.path.join(folder, "config.json")) as f:
        cfg = json.load(f)
    assert cfg["hidden_act"] == "silu"
    assert cfg["architectures"] == [CLASSES[cfg["model_type"]]]
    assert not cfg.get("use_sliding_window")
    w = read_weights(folder)
    for layer in range(cfg["num_hidden_layers"]):
        p = "model.layers.%d." % layer
        found = {name[len(p) :] for name, tensor in w.items() if name.startswith(p) and tensor.dim() == 1}
        assert found == expected_vectors(cfg), found
    factors, scale = read_adapter(folder)
    learned = factors or w
    for tensor in learned.values():
        tensor.requires_grad_(True)
    w = {**w, **factors}

    loss = torch.zeros((), dtype=torch.float64)
    logprobs, entropies = [], []
    for seq in request["sequences"]:
        dist = torch.log_softmax(forward(cfg, w, seq["ids"], scale)[:-1], dim=-1)
        picked = dist.gather(1, torch.tensor(seq["ids"][1:])[:, None])[:, 0]
        loss = loss + (torch.tensor(seq["weights"], dtype=torch.float64) * picked).sum()
        logprobs.append(picked.tolist())
        entropies.append((-(dist.exp() * dist).sum(-1)).tolist())
    loss.backward()

    gradients = {}
    for name in sorted(learned):
        g = learned[name].grad.reshape(-1)
        count = min(request["probe"], len(g))
        spots = [i * (len(g) - 1) // max(count - 1, 1) for i in range(count)]
        gradients[name] = {"norm": g.norm().item(), "at": [[i, g[i].item()] for i in spots]}
    return {"logprobs": logprobs, "entropies": entropies, "loss": loss.item(), "gradients": gradients}


if __name__ == "__main__":
    folders, requests = sys.argv[1:], json.load(sys.stdin)
    assert len(folders) == len(requests)
    json.dump([answer(*asked) for asked in zip(folders, requests)], sys.stdout)
