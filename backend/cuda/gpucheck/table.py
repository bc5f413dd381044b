"""One table of what gpu-check.sh left in a folder; what is missing is named."""

import glob
import json
import os
import re
import sys


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def load(path):
    try:
        return json.loads(read(path) or "null")
    except ValueError:
        return None


def digits(x):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def status(folder, name):
    """How a part ended: '' if well."""
    said = read(os.path.join(folder, name + ".status")).split()
    if not said:
        log = read(os.path.join(folder, name + ".log")).strip()
        return log if log.startswith("skipped") else "not run"
    return {"0": "", "124": "stopped by its time limit", "137": "stopped by its time limit"}.get(said[0], f"exit {said[0]}")


def checks(folder):
    print("devices\n" + "".join("  " + line + "\n" for line in read(os.path.join(folder, "devices.log")).splitlines()))
    print("checks")
    log = read(os.path.join(folder, "conformance.log"))
    passed, failed, left = (len(re.findall(rf"(?m)^\s*--- {w}", log)) for w in ("PASS", "FAIL", "SKIP"))
    print(f"  conformance on the card: {passed} passed, {failed} failed, {left} skipped; {status(folder, 'conformance') or 'done'}")
    for name in re.findall(r"(?m)^\s*--- FAIL: (\S+)", log)[:20]:
        print(f"    failed: {name}")
    for tool in ("memcheck", "racecheck"):
        for name in [f"{tool}-{dtype}" for dtype in ("f32", "bf16")]:
            log = read(os.path.join(folder, name + ".log")) or read(os.path.join(folder, tool + ".log"))
            found = re.findall(r"ERROR SUMMARY: .*|RACECHECK SUMMARY: .*", log)
            said = log.strip() if log.startswith("skipped") else status(folder, name)
            print(f"  {name}: {'; '.join(filter(None, [found[-1] if found else '', said])) or 'no summary'}")
    rows = load(os.path.join(folder, "parity.json"))
    if rows is None:
        print(f"  parity with transformers: {status(folder, 'parity') or 'no results'}")
    for r in rows or []:
        mark = "ok" if r.get("ok") else "FAILED"
        if "gradients" in r:
            print(f"  parity, {r['model']}: {'; '.join(r['gradients']) or 'no gradients'}: {mark}")
        else:
            said = r.get("error", "")
            if "logprob" in r:
                said = f"log-probabilities differ by {r['logprob']:.2g} at most, {r['mean']:.2g} in the mean; bias {r['bias']:+.1g}"
            print(f"  parity, {r['model']}, {r['dtype']}: {said}: {mark}")


def speeds(folder):
    found = (re.fullmatch(r"(?:bench|train|peer)-(.*)\.(?:json|status)", os.path.basename(p)) for p in glob.glob(os.path.join(folder, "*")))
    names = {m[1] for m in found if m}
    for shape in sorted(names):
        rows, told, missing = [], set(), []
        for kind in ("bench", "train"):
            r = load(os.path.join(folder, f"{kind}-{shape}.json"))
            if r is None:
                missing.append(f"nrt {kind}: {status(folder, f'{kind}-{shape}') or 'no results'}")
                continue
            told.add(f"nrt on {r['device']}")
            rows += [(x["part"], x["work"], x["rate"], x["unit"], x.get("peak_share"), x.get("bandwidth_share")) for x in r["results"]]
            missing += [f"nrt {x['part']}: {x['why']}" for x in r["left_out"]]
        peer = load(os.path.join(folder, f"peer-{shape}.json"))
        if peer is None:
            said = read(os.path.join(folder, f"peer-{shape}.log")).strip().splitlines()
            missing.append("peer: " + (said[-1] if said else status(folder, f"peer-{shape}")))
            peer = {"results": [], "failed": []}
        else:
            told.add(f"PyTorch {peer['torch']}, transformers {peer['transformers']} on {peer['device']}")
        missing += [f"peer {x['part']}: {x['why']}" for x in peer["failed"]]
        print(f"\n{shape}: " + "; ".join(sorted(told)))
        print(f"  {'part':<9}{'work':<58}{'nrt':>12}{'peer':>12}{'ratio':>7}  unit")
        seen = set()
        for part, work, rate, unit, peak, reading in rows:
            other = next((i for i, x in enumerate(peer["results"]) if x["part"] == part and work.startswith(x["work"])), None)
            theirs, ratio = "", ""
            if other is not None:
                seen.add(other)
                theirs, ratio = digits(peer["results"][other]["rate"]), f"{rate / peer['results'][other]['rate']:.2f}"
            share = f", {100 * peak:.0f} % of the product" if peak else f", {100 * reading:.0f} % of the copy" if reading else ""
            print(f"  {part:<9}{work:<58}{digits(rate):>12}{theirs:>12}{ratio:>7}  {unit}{share}")
        for i, x in enumerate(peer["results"]):
            if i not in seen:
                print(f"  {x['part']:<9}{x['work']:<58}{'':>12}{digits(x['rate']):>12}{'':>7}  {x['unit']}")
        for m in missing:
            print(f"  missing: {m}")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "results"
    checks(folder)
    speeds(folder)


if __name__ == "__main__":
    main()
