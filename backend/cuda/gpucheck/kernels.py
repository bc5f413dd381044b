"""What the kernels of one profile took: CSV of

    ncu --profile-from-start off --clock-control none --csv --log-file FILE \\
        --metrics gpu__time_duration.sum,dram__bytes.sum nrt bench --profile …

as a table for each file, the launches of a kernel with one grid together, the
longest first.
"""

import csv
import os
import sys

MICROSECONDS = {"ns": 1e-3, "nsecond": 1e-3, "us": 1, "usecond": 1, "ms": 1e3, "msecond": 1e3, "s": 1e6, "second": 1e6}
MEGABYTES = {"byte": 1e-6, "Kbyte": 1e-3, "Mbyte": 1, "Gbyte": 1e3}
UNITS = {"gpu__time_duration.sum": MICROSECONDS, "dram__bytes.sum": MEGABYTES}


def launches(lines):
    """The launches of a file, in order: kernel, grid, and each metric in its unit above."""
    table = [line for line in lines if line.startswith('"')]  # ncu's own messages start with ==
    found = {}
    for row in csv.DictReader(table):
        launch = found.setdefault(row["ID"], {"kernel": row["Kernel Name"].split("(")[0], "grid": row["Grid Size"]})
        units = UNITS.get(row["Metric Name"], {})
        if row["Metric Unit"] in units:
            launch[row["Metric Name"]] = float(row["Metric Value"].replace(",", "")) * units[row["Metric Unit"]]
    return list(found.values())


def groups(all):
    """(kernel, grid) → count, µs, MB; the longest first."""
    sums = {}
    for x in all:
        s = sums.setdefault((x["kernel"], x["grid"]), [0, 0.0, 0.0])
        s[0] += 1
        s[1] += x.get("gpu__time_duration.sum", 0)
        s[2] += x.get("dram__bytes.sum", 0)
    return sorted(sums.items(), key=lambda item: -item[1][1])


def show(path, most):
    name = os.path.splitext(os.path.basename(path))[0]
    try:
        with open(path) as f:
            lines = f.readlines()
    except OSError as e:
        print(f"{name}: {e}")
        return
    all = launches(lines)
    if not all:
        said = [line.strip() for line in lines if line.startswith(("==ERROR==", "==WARNING=="))]
        print(f"{name}: no kernels" + "".join("\n  " + line for line in said))
        return
    found = groups(all)
    total = sum(s[1] for _, s in found)
    print(f"{name}: {len(all)} launches, {total:,.0f} µs in kernels")
    print(f"  {'µs':>10}{'share':>8}{'count':>7}{'µs each':>10}{'GB/s':>7}  kernel and grid")
    for (kernel, grid), (count, time, bytes) in found[:most]:
        print(f"  {time:>10,.1f}{time / total if total else 0:>8.1%}{count:>7}{time / count:>10,.2f}{1e3 * bytes / time if time else 0:>7,.0f}  {kernel} {grid}")
    rest = found[most:]
    if rest:
        time = sum(s[1] for _, s in rest)
        print(f"  {time:>10,.1f}{time / total if total else 0:>8.1%}{sum(s[0] for _, s in rest):>7}{'':>17}  {len(rest)} more")


def main():
    for i, path in enumerate(sys.argv[1:]):
        if i:
            print()
        show(path, 40)


if __name__ == "__main__":
    main()
