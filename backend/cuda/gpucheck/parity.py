"""Compares nrt on a card with transformers in float32: the same random weights,
log-probabilities and gradients.

Each model is made by transformers, on the card where PyTorch finds one and without
the shortened products of tensor cores (TF32), saved in float32, and read by nrt. `nrt
logprobs` gives the log-probabilities of a row of ids; the gradients of their sum
come from cuda.test, which compares them itself (backend/cuda/parity_test.go).

Of the log-probabilities three distances count: the largest, the mean of what they
differ by, and the mean with its sign. Rounding differs up and down; a mean that leans
to one side would say that something is wrong which the largest one hides.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

# The bounds of a distance in nats: of the largest, of the mean, and of the mean with
# its sign. Some hundred tokens that differ by 0.02 at random have one of 0.001 or 0.002.
BOUNDS = {"f32": (2e-4, 1e-4, 2e-5), "bf16": (0.15, 2e-2, 5e-3)}


def models(full):
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    tiny = dict(vocab_size=512, hidden_size=128, intermediate_size=352, num_hidden_layers=3, num_attention_heads=8,
                num_key_value_heads=2, max_position_embeddings=512)
    yield "llama tiny", LlamaForCausalLM, LlamaConfig(**tiny, rope_theta=500000.0, tie_word_embeddings=True), 96
    yield "mistral tiny", MistralForCausalLM, MistralConfig(**tiny, sliding_window=32, rope_theta=10000.0), 96
    yield "qwen2 tiny", Qwen2ForCausalLM, Qwen2Config(**tiny, rope_theta=1000000.0, tie_word_embeddings=True), 96
    yield "qwen3 tiny", Qwen3ForCausalLM, Qwen3Config(**tiny, head_dim=32, rope_theta=1000000.0), 96
    if not full:
        return
    # Two layers of the real width: what a layer computes, in the memory of a small model.
    yield "llama 3.2 1b, 2 layers", LlamaForCausalLM, LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=2, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=2048, rope_theta=500000.0, tie_word_embeddings=True), 256
    yield "mistral 7b, 2 layers", MistralForCausalLM, MistralConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=2, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=2048, sliding_window=128, rope_theta=10000.0), 256


def reference(torch, cls, config, n, folder, where):
    """Saves a random model in folder with parity.json and gradients; returns the ids and log-probabilities."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    torch.set_float32_matmul_precision("highest")
    config._attn_implementation = "eager"
    with torch.device(where):
        model = cls(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))  # norms of 1 and biases of 0 would hide mistakes
    model.save_pretrained(folder, safe_serialization=True)
    ids = torch.randint(0, config.vocab_size, (1, n)).to(where)
    logp = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    (-logp.sum()).backward()
    grads = {name: p.grad.cpu().contiguous() for name, p in model.named_parameters() if p.grad is not None}
    save_file(grads, os.path.join(folder, "gradients.safetensors"))
    ids = ids[0].tolist()
    with open(os.path.join(folder, "parity.json"), "w") as f:
        json.dump({"ids": ids}, f)
    want = logp.tolist()
    del model, grads, logp
    if where == "cuda":
        torch.cuda.empty_cache()  # nrt and other checks need the memory
    return ids, want


def compare(have, want, dtype):
    """The distances of log-probabilities, and whether they are within bounds."""
    if len(have) != len(want):
        return {"error": f"{len(have)} log-probabilities, want {len(want)}"}
    by = [x - y for x, y in zip(have, want)]
    row = {"logprob": max(map(abs, by)), "mean": sum(map(abs, by)) / len(by), "bias": sum(by) / len(by)}
    most, mean, bias = BOUNDS[dtype]
    row["ok"] = row["logprob"] <= most and row["mean"] <= mean and abs(row["bias"]) <= bias
    return row


def scratch():
    """Where models are saved: in memory, where there is room for the largest, else as Python chooses."""
    try:
        if shutil.disk_usage("/dev/shm").free > 10e9:
            return "/dev/shm"
    except OSError:
        pass
    return None


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--device", default="cuda")
    args.add_argument("--out", default="parity.json")
    args.add_argument("--nrt", default="./nrt-cuda")
    args.add_argument("--test", default="./cuda.test", help="where gradients are compared; empty leaves them out")
    args.add_argument("--small", action="store_true", help="the tiny models alone")
    args.add_argument("--types", default="f32,bf16")
    a = args.parse_args()
    try:
        import torch
        import transformers
        import safetensors  # noqa: F401
    except ImportError as e:
        sys.exit(f"parity: needs PyTorch, transformers and safetensors: {e}")
    where = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, on {where}")
    rows, bad = [], 0
    for name, cls, config, n in models(not a.small):
        with tempfile.TemporaryDirectory(dir=scratch()) as folder:
            began = time.monotonic()
            ids, want = reference(torch, cls, config, n, folder, where)
            print(f"{name}: reference made in {time.monotonic() - began:.1f} s", flush=True)
            for dtype in a.types.split(","):
                call = [a.nrt, "logprobs", "--model", folder, "--ids", ",".join(map(str, ids)), "--top", "0", "--json",
                        "--device", a.device, "--dtype", dtype]
                began = time.monotonic()
                r = subprocess.run(call, capture_output=True, text=True)
                row = {"model": name, "dtype": dtype, "seconds": round(time.monotonic() - began, 1)}
                if r.returncode != 0:
                    row["error"] = r.stderr.strip()
                else:
                    row |= compare([t["logprob"] for t in json.loads(r.stdout)["tokens"]][1:], want, dtype)
                bad += not row.get("ok", False)
                rows.append(row)
                print(row, flush=True)
            if a.test:
                env = dict(os.environ, NRT_PARITY=folder)
                r = subprocess.run([a.test, "-test.v", "-test.timeout", "0", "-test.run", "ParityOfGradients"], capture_output=True, text=True, env=env)
                said = [line.split("parity:", 1)[1].strip() for line in r.stdout.splitlines() if "parity:" in line]
                rows.append({"model": name, "gradients": said, "ok": r.returncode == 0 and bool(said)})
                bad += not rows[-1]["ok"]
                print(rows[-1], "" if rows[-1]["ok"] else r.stdout[-2000:] + r.stderr[-500:], flush=True)
    with open(a.out, "w") as f:
        json.dump(rows, f, indent=1)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
