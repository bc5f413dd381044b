"""Training steps as PyTorch makes them, written from the methods' formulas.

usage: update.py < requests

stdin    [{"folder": ..., "config": ..., "total": steps of the run, "close": [...],
           "steps": [[question, ...], ...]}, ...]
         question: {"prompt": [...], "answer": [...], "chains": [chain, ...]}
         chain: {"drawn": [...], "closed": bool, "stopped": bool, "right": bool}
stdout   [{"metrics": [{name: value}, ...] a step, "params": {name: [...]}}, ...]

It is given ids alone: log-probabilities, rewards, gradients and updates are its own, in
float64. Derivatives, also those of rewards, are autograd's, AdamW is torch.optim's, and
the model is that of backend/llama's oracle.py, one sequence at a time, nothing shared.
"""

import json
import math
import os
import sys
from types import SimpleNamespace

import torch

sys.dont_write_bytecode = True  # no __pycache__ among the test's files
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), *"../../../backend/llama/testdata".split("/")))
from oracle import forward, read_adapter, read_weights  # noqa: E402

NONE = torch.zeros(0, dtype=torch.float64)


class Policy:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as f:
            self.cfg = json.load(f)
        self.base = read_weights(folder)
        factors, self.scale = read_adapter(folder)
        self.learned = factors or {name: x.clone() for name, x in self.base.items()}
        for x in self.learned.values():
            x.requires_grad_(True)

    def read(self, chain, temperature, before=False):
        """Log-probabilities of all parts of a chain, by the policy now or before training."""
        weights = self.base if before else {**self.base, **self.learned}
        seen = chain.drawn[:-1] if chain.stopped else chain.drawn
        after = chain.boundary + chain.answer
        logits = forward(self.cfg, weights, chain.prompt + seen + after, self.scale)[len(chain.prompt) - 1 :]
        drawn = torch.log_softmax(logits[: len(chain.drawn)] / temperature, -1)
        given = torch.log_softmax(logits[len(seen) : -1], -1)
        picked = given[torch.arange(len(after)), after] if after else NONE
        return SimpleNamespace(
            drawn=drawn[torch.arange(len(chain.drawn)), chain.drawn] if chain.drawn else NONE,
            entropy=-(drawn.exp() * drawn).sum(-1),
            boundary=picked[: len(chain.boundary)],
            answer=picked[len(chain.boundary) :],
        )


def reward(o, s, b):
    """R of an answer's log-probabilities s, where those after no chain are b."""
    w = {"ws-1/p": 1 / b.exp().clamp(min=o["base_floor"] or 1e-4), "ws-logp": -b}.get(o["reward_mode"], torch.ones_like(b))
    by = w.sum() if o["normalize_weights"] and o["reward_mode"].startswith("ws") else len(b)
    return {"logp": lambda: s.sum(), "p": lambda: s.sum().exp(), "gm": lambda: s.mean().exp()}.get(
        o["reward_mode"], lambda: (w * s.exp()).sum() / by
    )()


def deviation(r, scale=1.0):
    """Unbiased, and 0 where it is rounding."""
    x = torch.tensor(r, dtype=torch.float64)
    d = x.std(unbiased=True).item() if len(r) > 1 else 0.0
    return d if d > 1e-9 * scale else 0.0


class Averages:
    """Moving averages of what steps had, each step's weight falling by the decay."""

    def __init__(self, decay):
        self.decay, self.values = decay, {}

    def add(self, name, x):
        self.values.setdefault(name, []).append(x)

    def get(self, name):
        values = self.values.get(name, [])
        weights = [self.decay**age for age in reversed(range(len(values)))]
        return sum(w * x for w, x in zip(weights, values)) / sum(weights) if values else 0.0


def average(values):
    values = list(values)
    return sum(values) / len(values)


def credit(o, number, questions, averages, metrics):
    """Sets of each chain: advantage; weights of the answer's tokens (None: untrained); out."""
    method, centred = o["method"], o["no_std"]
    chains = [c for q in questions for c in q]
    spreads = floor = None
    for c in chains:
        c.advantage, c.weights, c.out, c.forces = 0.0, None, False, False
    if method in ("sft", "lm"):
        for c in chains:
            c.advantage, c.forces = 1.0, True
    elif method == "star":
        for c in chains:
            c.out, c.forces, c.advantage = not c.right, True, float(c.right)
            c.weights = torch.ones(len(c.answer), dtype=torch.float64)
            c.earned = float(c.right)
        spreads = [deviation([c.earned for c in q]) for q in questions]
        metrics["reward"] = average(c.earned for c in chains)
    elif method == "jepo":
        bounds, spread = [], []
        for q in questions:
            total = torch.stack([c.old.answer.sum() for c in q]).requires_grad_(True)
            bound = torch.logsumexp(total, 0) - math.log(len(q))
            (shares,) = torch.autograd.grad(bound, total)
            bounds.append(bound.item())
            spread.append(deviation(total.tolist()))
            for i, c in enumerate(q):
                others = torch.logsumexp(torch.cat((total[:i], total[i + 1 :])), 0) - math.log(len(q) - 1)
                # The sum over chains is not a mean: K undoes the one that all methods have.
                c.advantage = len(q) * (bound - others).item()
                c.weights = len(q) * shares[i] * torch.ones(len(c.answer), dtype=torch.float64)
        metrics["reward"], spreads = average(bounds), spread
    else:
        for q in questions:
            for c in q:
                if method == "rlvr":
                    c.earned, c.weights, c.scale = float(c.right), torch.ones(len(c.answer), dtype=torch.float64) * c.right, 1.0
                    continue
                s = c.old.answer.clone().requires_grad_(True)
                r, base = reward(o, s, c.baseline), reward(o, c.baseline, c.baseline)
                harmful = (r - base <= 1e-12 * abs(base)).item()
                value = (r - base) * (not harmful) if o["reward_clip"] else r
                (c.weights,) = torch.autograd.grad(value, s)
                c.earned, c.scale = value.item(), max(abs(r.item()), abs(base.item()) * o["reward_clip"])
                c.raw, c.base, c.clipped, c.harmful = r.item(), base.item(), value.item(), harmful
                if method == "rlpr":
                    c.earned = (1 - o["format_reward"]) * c.earned + o["format_reward"] * c.closed
                    c.weights = None
        spreads = [deviation([c.earned for c in q], max(c.scale for c in q)) for q in questions]
        floor = 0.0
        if o["sigma_floor"] and not centred:
            if any(spreads):
                averages.add("floor", sum(spreads) / sum(x > 0 for x in spreads))
            floor = averages.get("floor")
        metrics["reward"] = average(c.earned for c in chains)
        metrics["reward_std"] = average(spreads)
        for q, spread in zip(questions, spreads):
            by = 1.0 if centred else max(spread, floor)
            for i, c in enumerate(q):
                others = [d.earned for j, d in enumerate(q) if j != i]
                mean = sum(others) / len(others) if centred else (sum(others) + c.earned) / len(q)
                c.advantage = (c.earned - mean) / by if spread else 0.0
                if c.weights is not None:
                    c.weights = c.weights / by if by else c.weights * 0
                # Only RLPR filters; there is nothing to compare with before its first step.
                c.out = method == "rlpr" and number >= o["filter_from"] and spread < o["filter_beta"] * averages.get("filter")
        averages.add("filter", metrics["reward_std"])
        metrics["nrt/floored_groups"] = average(not centred and floor > x for x in spreads)
        if o["sigma_floor"] and not centred:
            metrics["nrt/sigma_floor"] = floor
    if spreads is not None:
        metrics["reward_std"] = average(spreads)
        metrics["frac_reward_zero_std"] = average(x == 0 for x in spreads)
    derived = [w for c in chains if c.weights is not None and not c.out for w in c.weights.tolist()]
    if o["token_cap"] and o["token_loss"] == "derived" and derived:
        metrics["nrt/token_capped"] = average(w > o["token_cap"] for w in derived)
    for c in chains:
        if o["token_loss"] == "nll":
            c.weights = torch.ones(len(c.answer), dtype=torch.float64)
        elif o["token_loss"] == "off":
            c.weights = None
        elif c.weights is not None and o["token_cap"]:
            c.weights = c.weights.clamp(max=o["token_cap"])
        c.advantage *= not c.out
    if method not in ("sft", "lm"):
        describe(method, questions, metrics)


def describe(method, questions, metrics):
    """What the metrics say of a rollout, beside its rewards."""
    chains = [c for q in questions for c in q]
    metrics["nrt/advantage_abs"] = average(abs(c.advantage) for c in chains)
    metrics["nrt/advantage_max"] = max(abs(c.advantage) for c in chains)
    weights = [[] if c.weights is None or c.out else c.weights.tolist() for c in chains]
    if any(weights):
        metrics["nrt/token_weight"] = average(w for list in weights for w in list)
        metrics["nrt/token_weight_max"] = max(w for list in weights for w in list)
    acts = {id(c): c.advantage != 0 or any(list) for c, list in zip(chains, weights)}
    metrics["nrt/signal_groups"] = average(any(acts[id(c)] for c in q) for q in questions)
    if method in ("nrt", "rlpr", "verifree"):
        metrics["nrt/reward_raw"], metrics["nrt/reward_base"] = average(c.raw for c in chains), average(c.base for c in chains)
        metrics["nrt/harmful"] = average(c.harmful for c in chains)
    if method == "rlpr":
        metrics["nrt/filtered_groups"] = average(all(c.out for c in q) for q in questions)
    if method in ("star", "rlvr"):
        metrics["nrt/matched"] = average(c.right for c in chains)
    metrics["nrt/closed"] = average(c.closed for c in chains)
    metrics["nrt/answer_logprob"] = average(x for c in chains for x in c.old.answer.tolist())
    metrics["nrt/answer_prob"] = average(math.exp(x) for c in chains for x in c.old.answer.tolist())
    metrics["nrt/base_prob"] = average(math.exp(x) for q in questions for x in q[0].present.tolist())
    lengths = [len(c.drawn) for c in chains]
    metrics["completions/mean_length"], metrics["completions/min_length"], metrics["completions/max_length"] = average(lengths), min(lengths), max(lengths)
    metrics["completions/clipped_ratio"] = average(not c.closed and not c.stopped for c in chains)
    metrics["entropy"] = average(x for c in chains for x in c.old.entropy.tolist())


class Watch:
    """What the chains looked like that updates were made of."""

    def __init__(self):
        self.ratios, self.low, self.high, self.whole, self.kl, self.loss = [], [], [], [], [], 0.0

    def metrics(self, o):
        ratios = [r for list in self.ratios for r in list]
        if not ratios:
            return {}
        shifts = [abs(math.log(r)) for r in ratios]
        low, high = [x for list in self.low for x in list], [x for list in self.high for x in list]
        m = {
            "clip_ratio/low_mean": average(low),
            "clip_ratio/high_mean": average(high),
            "clip_ratio/region_mean": average(a or b for a, b in zip(low, high)),
            "clip_ratio/low_min": min(average(list) for list in self.low),
            "clip_ratio/high_max": max(average(list) for list in self.high),
            "nrt/ratio_mean": average(ratios),
            "nrt/ratio_max": max(ratios),
            "nrt/logprob_shift_mean": average(shifts),
            "nrt/logprob_shift_max": max(shifts),
            "nrt/sequence_clipped": average(not 1 - o["clip_low"] <= r <= 1 + o["clip_high"] for r in self.whole),
        }
        if self.kl:
            m["kl"] = average(self.kl)
        return m


def norms(o, questions):
    """Sets of each chain: by, what its loss is divided by; mean, what a mean over chains is."""
    chains = [c for q in questions for c in q]
    count = sum(not all(c.out for c in q) for q in questions) if o["method"] == "rlpr" else len(questions)
    for c in chains:
        forced = len(c.boundary) if c.forces and o["method"] != "sft" else 0
        c.length = (len(c.drawn) + forced + (len(c.answer) if c.weights is not None else 0)) * (not c.out)
    for q in questions:
        for c in q:
            c.mean = count * len(q)
            c.by = {"constant": c.mean * o["length_constant"], "token": sum(d.length for d in chains)}.get(o["length_norm"], c.mean * c.length)


def loss(o, c, now, watch):
    """The loss of one chain."""
    if c.out:
        return 0.0
    low, high = 1 - o["clip_low"], 1 + o["clip_high"]
    ratio, whole = (now.drawn - c.old.drawn).detach().exp(), (now.drawn - c.old.drawn).detach().sum().exp()
    corrects = o["ratio"] and c.sampled
    above, below = (ratio > high) & (c.advantage > 0), (ratio < low) & (c.advantage < 0)
    keep = ~(above | below)
    if c.sampled:
        watch.ratios.append(ratio.tolist())
        watch.high.append((above & corrects).tolist())
        watch.low.append((below & corrects).tolist())
        watch.whole.append(whole.item())
    trace = ratio.clamp(low, high) * keep if corrects else torch.ones_like(ratio)
    gain = o["lambda_trace"] * c.advantage * (trace * now.drawn).sum() + o["entropy"] * now.entropy.sum()
    if c.weights is not None:
        rho = whole.clamp(low, high) if corrects and o["token_loss"] == "derived" else 1.0
        gain = gain + o["lambda_token"] * rho * (c.weights * now.answer).sum()
    if o["kl"]:
        d = c.before.drawn - now.drawn
        gain = gain - o["kl"] * (d.exp() - d - 1).sum()
        watch.kl += (d.exp() - d - 1).tolist()
    if c.forces and o["method"] != "sft":
        gain = gain + o["lambda_trace"] * now.boundary.sum()
    if c.boundary and o["format_per_length"]:
        gain = gain + o["format_weight"] * now.boundary.sum()
    total = -gain / c.by if c.by else 0.0 * gain
    if c.boundary and not o["format_per_length"]:
        total = total - o["format_weight"] * now.boundary.mean() / c.mean
    return total


def rate(o, u, total):
    """The learning rate of update u, from 1, of so many."""
    warmup = math.floor(o["warmup"] * total + 0.5) if o["warmup"] < 1 else o["warmup"]
    start = max(warmup, total - math.ceil(o["decay"] * total)) if o["schedule"] == "wsd" else warmup
    if u <= warmup:
        return o["lr"] * u / warmup
    if o["schedule"] == "constant" or u <= start:
        return o["lr"]
    done = (u - 1 - start) / (total - start)
    left = (1 + math.cos(math.pi * done)) / 2 if o["schedule"] == "cosine" else 1 - done
    return o["lr"] * (o["min_lr_ratio"] + (1 - o["min_lr_ratio"]) * left)


def train(request):
    o, optim, temperature = (request["config"][x] for x in ("objective", "optim", "rollout"))
    size, temperature = temperature["questions"], temperature["temperature"]
    policy, averages = Policy(request["folder"]), Averages(o["ema_decay"])
    learned = list(policy.learned.values())
    adam = torch.optim.AdamW(
        [
            {"params": [x for x in learned if x.dim() > 1], "weight_decay": optim["weight_decay"]},
            {"params": [x for x in learned if x.dim() == 1], "weight_decay": 0.0},
        ],
        betas=(optim["beta1"], optim["beta2"]),
        eps=optim["adam_eps"],
    )
    mini = min(optim["mini_batch"] or size, size)
    each = math.ceil(size / mini) * optim["iterations"]  # updates of a step
    answer = {"metrics": [], "params": {}}
    for number, asked in enumerate(request["steps"], 1):
        questions, metrics = [], {}
        for q in asked:
            empty = SimpleNamespace(prompt=q["prompt"], answer=q["answer"], drawn=[], boundary=request["close"], stopped=False)
            chains = [SimpleNamespace(**{**vars(empty), **c}) for c in q["chains"]]
            for c in chains:
                c.sampled = o["method"] not in ("sft", "lm")
                if c.closed:
                    c.boundary = []
                with torch.no_grad():
                    c.old, c.before = policy.read(c, temperature), policy.read(c, temperature, before=True)
                    c.present = policy.read(empty, 1.0).answer
                    c.baseline = policy.read(empty, 1.0, before=o["fixed_baseline"]).answer
            questions.append(chains)
        credit(o, number, questions, averages, metrics)
        norms(o, questions)
        counted = [q for q in questions if not all(c.out for c in q)]
        gradients, watch = [], Watch()
        for _ in range(optim["iterations"]):
            for at in range(0, len(counted), mini):
                batch = counted[at : at + mini]
                part = sum(loss(o, c, policy.read(c, temperature), watch) for q in batch for c in q)
                watch.loss += float(part) / optim["iterations"]
                adam.zero_grad()
                part.backward()
                norm = torch.sqrt(sum((x.grad**2).sum() for x in learned)).item() * len(counted) / len(batch)
                if norm == 0:
                    continue
                clip = min(1.0, optim["max_grad_norm"] / norm) if optim["max_grad_norm"] else 1.0
                for x in learned:
                    x.grad *= clip * len(counted) / len(batch)
                gradients.append(norm)
                for group in adam.param_groups:
                    group["lr"] = rate(optim, (number - 1) * each + len(gradients), request["total"] * each)
                adam.step()
        metrics["grad_norm"] = sum(gradients) / max(1, len(gradients))
        if not o["kl"]: # whose weights, times log-probabilities, are no divergence
            metrics["loss"] = watch.loss
        metrics.update(watch.metrics(o))
        if gradients:
            metrics["learning_rate"] = adam.param_groups[0]["lr"]
        answer["metrics"].append(metrics)
    answer["params"] = {name: x.detach().reshape(-1).tolist() for name, x in policy.learned.items()}
    return answer


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump([train(request) for request in json.load(sys.stdin)], sys.stdout)
