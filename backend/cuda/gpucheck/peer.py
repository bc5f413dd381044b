"""What PyTorch and transformers do on the same card: the work of `nrt bench --device
cuda`, under the same names.

Weights are random, in bfloat16; attention is PyTorch's own (sdpa), AdamW its fused
one, with parameters and moments in bfloat16, where nrt keeps parameters, gradients
and moments in float32 beside. Sampling is transformers' generate.
"""

import argparse
import json
import sys
import time

SHAPES = {  # hidden, intermediate, layers, heads, key heads, head size, tied
    "tiny": (128, 352, 2, 4, 2, 32, True),
    "1b": (2048, 8192, 16, 32, 8, 64, True),
    "3b": (3072, 8192, 28, 24, 8, 128, True),
    "8b": (4096, 14336, 32, 32, 8, 128, False),
}


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--shape", choices=list(SHAPES), default="1b")
    args.add_argument("--out", default="peer.json")
    args.add_argument("--device", default="cuda")
    args.add_argument("--only", default="machine,prefill,decode,score,rollout,train")
    a = args.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("peer: needs PyTorch, which this Python lacks")
    try:
        import transformers
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        sys.exit(f"peer: needs transformers, which this Python (with PyTorch {torch.__version__}) lacks")
    if a.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"peer: PyTorch {torch.__version__} finds no CUDA card")

    card = a.device == "cuda"
    dtype = torch.bfloat16 if card else torch.float32
    small = a.shape == "tiny"
    report = {"torch": torch.__version__, "transformers": transformers.__version__, "shape": a.shape,
              "device": torch.cuda.get_device_name() if card else "cpu", "results": [], "failed": []}

    def sync():
        if card:
            torch.cuda.synchronize()

    def timed(f, runs=3):
        """The median of some runs after one that is thrown away, in seconds."""
        f()
        times = []
        for _ in range(runs):
            sync()
            began = time.perf_counter()
            f()
            sync()
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2]

    def add(part, work, rate, unit):
        report["results"].append({"part": part, "work": work, "rate": rate, "unit": unit})
        print(f"{part}: {work}: {rate:.4g} {unit}", flush=True)
        with open(a.out, "w") as f:  # what is there counts, whatever happens later
            json.dump(report, f, indent=1)

    def memory(part):
        if card:
            add(part, "memory taken so far, at most", torch.cuda.max_memory_reserved() / 1e9, "GB")

    def machine():
        n = 512 if small else 8192
        x, y = (torch.randn(n, n, device=a.device, dtype=dtype) for _ in range(2))
        z = torch.empty(n, n, device=a.device, dtype=dtype)

        def products():
            for _ in range(10):
                torch.matmul(x, y.t(), out=z)

        add("machine", f"the product {n}×{n}×{n}", 10 * 2 * n**3 / timed(products) * 1e-9, "GFLOP/s")
        m = (1 << 20 if small else 1 << 30) // 8
        p, q = torch.zeros(m, device=a.device), torch.ones(m, device=a.device)

        def copies():
            for _ in range(10):
                p.copy_(q)

        add("machine", "copying", 10 * 8 * m / timed(copies) * 1e-9, "GB/s")

    hidden, ffn, layers, heads, kv, dim, tied = SHAPES[a.shape]
    vocab = 512 if small else 128256
    config = LlamaConfig(vocab_size=vocab, hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers,
                         num_attention_heads=heads, num_key_value_heads=kv, head_dim=dim, max_position_embeddings=2048,
                         tie_word_embeddings=tied, bos_token_id=None, eos_token_id=None, pad_token_id=0)
    if card:
        config._attn_implementation = "sdpa"
    state = {}

    def model():
        if "model" not in state:
            torch.set_default_dtype(dtype)
            with torch.device(a.device):
                state["model"] = LlamaForCausalLM(config).eval()
            torch.set_default_dtype(torch.float32)
        return state["model"]

    def ids(rows, n):
        return torch.randint(0, vocab, (rows, n), device=a.device)

    lengths = dict(prefill=1024, prompt=256, chain=512, answer=64, context=128, generate=128, questions=32, rollout=512, sequences=8, train=1024)
    at = [1, 16, 64, 256]
    if small:
        lengths = dict(prefill=32, prompt=16, chain=16, answer=4, context=8, generate=8, questions=2, rollout=8, sequences=2, train=32)
        at = [1, 4]

    def prefill():
        n, m = lengths["prefill"], model()
        x = ids(1, n)

        def f():
            with torch.no_grad():
                h = m.model(x).last_hidden_state[:, -1]
                torch.multinomial(m.lm_head(h).float().softmax(-1), 1)

        add("prefill", f"prompt of {n}", n / timed(f, 10 if card else 3), "tokens/s")

    def generate(x, n):
        model().generate(x, attention_mask=torch.ones_like(x), max_new_tokens=n, min_new_tokens=n, do_sample=True,
                         temperature=1.0, top_k=0, top_p=1.0)

    def decode():
        c, n = lengths["context"], lengths["generate"]
        for k in at:
            x = ids(k, c)
            short = timed(lambda: generate(x, 1), 2)
            whole = timed(lambda: generate(x, n), 1)
            name = "1 sequence" if k == 1 else f"{k} sequences"
            add("decode", name, k * (n - 1) / max(whole - short, 1e-9), "tokens/s")

    def score():
        p, c, r = lengths["prompt"], lengths["chain"], lengths["answer"]
        x, m = ids(8, p + c + r), model()

        def f():
            with torch.no_grad():
                h = m.model(x).last_hidden_state[:, -r - 1:-1]
                m.lm_head(h).float().log_softmax(-1).gather(-1, x[:, -r:, None])

        add("score", "8 ", 8 / timed(f), "chains/s")

    def rollout():
        q, n = lengths["questions"], lengths["rollout"]
        x = ids(q, lengths["context"]).repeat_interleave(8, 0)
        generate(x, 4)
        sync()
        began = time.perf_counter()
        generate(x, n)
        sync()
        add("rollout", f"{q} questions × 8 chains × {n}", q * 8 * n / (time.perf_counter() - began), "tokens/s")
        memory("rollout")

    def train():
        k, n, m = lengths["sequences"], lengths["train"], model()
        m.train()
        x = ids(k, n)
        opt = torch.optim.AdamW(m.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.1, **({"fused": True} if card else {}))
        how = ""

        def step():
            opt.zero_grad(set_to_none=True)
            m(input_ids=x, labels=x, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
            opt.step()

        if card:
            torch.cuda.reset_peak_memory_stats()
        try:
            seconds = timed(step)
        except RuntimeError as e:
            if "out of memory" not in str(e):
                raise
            opt.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            m.gradient_checkpointing_enable()
            how, seconds = ", layers recomputed", timed(step)
        add("train", f"step of {k} × {n}", k * n / seconds, "tokens/s")
        report["train_how"] = how
        memory("train")

    for part in (machine, prefill, decode, score, rollout, train):
        if part.__name__ not in a.only.split(","):
            continue
        try:
            part()
        except Exception as e:  # the other parts count
            report["failed"].append({"part": part.__name__, "why": f"{type(e).__name__}: {e}"[:500]})
            print(f"{part.__name__} failed: {e}", file=sys.stderr, flush=True)
            if card:
                torch.cuda.empty_cache()
    with open(a.out, "w") as f:
        json.dump(report, f, indent=1)
    sys.exit(1 if report["failed"] else 0)


if __name__ == "__main__":
    main()
