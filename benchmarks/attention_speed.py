"""Speed and memory of attention alone: exact, NLSA, released code, ours, a convolution, bare products.

    python -m benchmarks.attention_speed [--threads 1] [--device cpu] [--quick]

c = c_out = 64, float32, one feature map of N positions, m random features (128 where N varies; N = 100 x 100
where m varies). Every round runs all methods one after the other; one that takes under a second runs once
untimed first, so that it does not pay for memory that the method before it freed; a method takes part in no
more rounds after five seconds. ("In turn" is without the untimed run.) Times are medians over rounds, ratios
medians of the ratios within a round. Two lower bounds, with all memory allocated beforehand:

* `products`: the four matrix products and one exponential per feature, over all positions at once;
* `floor`: the same in chunks of 2048 positions, whose features stay in the CPU's cache.

Writes `attention_speed_N.csv` for N threads (or the device), `attention_speed_N_aims.csv` with aims and
results (among them exponents of time over N, and peak memory at a million positions), and
`attention_speed_N.png`. `--quick` is a smoke test with small sizes, and writes nothing.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.attention_works import Inputs, M, check, forward_works, gradient_works
from benchmarks.report import axes_side_by_side, publish, show

SIZES = (32, 100, 178, 316, 563, 1000)
FEATURES = (8, 16, 32, 64, 128, 256)
# Beyond so many positions they take minutes, or the memory of a large machine.
AFFORDABLE = {"exact": 316**2, "nlsa": 316**2}
# Seconds for all rounds of one method.
ENOUGH = 5.0
Seconds = dict[str, list[float]]


def timed(
    works: dict[str, Callable[[], Any]],
    rounds: int,
    device: str,
    *,
    warm: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Measure the seconds of each work in each round; one that has taken `ENOUGH` in all is skipped then."""

    def seconds(work: Callable[[], Any]) -> float:
        started = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - started

    found: Seconds = {name: [] for name in works}
    spent = dict.fromkeys(works, 0.0)
    for _ in range(rounds):
        for name, work in works.items():
            if spent[name] < ENOUGH:
                again = warm and (not found[name] or found[name][-1] < 1)
                before = seconds(work) if again else 0.0
                # A long run is not repeated.
                found[name].append(before if before > 1 else seconds(work))
                spent[name] += before + found[name][-1]
    return found


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the median ratio over the rounds that both took part in."""
    return statistics.median(a / b for a, b in zip(values, others, strict=False))


def in_turn(device: str) -> dict[str, float]:
    """Measure released / ours without untimed runs: each method gets memory as the others left it."""
    ratios = {}
    for direction, works in (("forward", forward_works), ("both", gradient_works)):
        made = works(Inputs(10_000, device=device), without=("exact", "nlsa"))
        seconds = timed(made, 22, device, warm=False)
        ratios[direction] = round(ratio(seconds["released"][1:], seconds["ours"][1:]), 3)
    return ratios


def rows_of(seconds: Seconds, **common: Any) -> list[dict[str, Any]]:
    return [
        {
            "method": name,
            **common,
            "milliseconds": round(1e3 * statistics.median(values), 3),
            "by_ours": round(ratio(values, seconds["ours"]), 3),
            "by_floor": round(ratio(values, seconds["floor"]), 3) if "floor" in seconds else "",
            "rounds": len(values),
        }
        for name, values in seconds.items()
    ]


def exponent(rows: list[dict[str, Any]], method: str) -> float:
    """Return the exponent of time over N, by least squares in logarithms."""
    points = [(math.log(row["n"]), math.log(row["milliseconds"])) for row in rows if row["method"] == method]
    return round(statistics.linear_regression(*zip(*points, strict=True)).slope, 3)


CHILD = """
import re, sys, torch
from pathlib import Path
from benchmarks.attention_works import Inputs, forward_works, gradient_works

def resident(key):
    return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

torch.set_num_threads(int(sys.argv[2]))
name, backward, n = sys.argv[1], sys.argv[3] == "both", int(sys.argv[4])
works = gradient_works if backward else forward_works
works(Inputs(1000), only=(name,))[name]()
inputs = Inputs(n)
work = works(inputs, only=(name,))[name]
results = 4 * 64 * n * (4 if backward else 1) / 2**20
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = resident("VmRSS")
kept = work()
print(resident("VmHWM") - before - results)
"""


def extra_memory(method: str, threads: int, direction: str, n: int) -> float:
    """Measure MiB of resident memory at the peak, beyond inputs and results, in a subprocess (Linux)."""
    command = [sys.executable, "-c", CHILD, method, str(threads), direction, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(done.stdout), 1)


def measure(device: str, quick: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for side in SIZES[:2] if quick else SIZES:
        n = side**2
        rounds = 2 if quick else 21 if n <= 10_000 else 5
        out = tuple(name for name, most in AFFORDABLE.items() if n > most)
        for direction, works in (("forward", forward_works), ("both", gradient_works)):
            if direction == "both" and n > 100_000:
                continue
            left_out = (*out, *(("exact", "nlsa") if direction == "both" and n > 10_000 else ()))
            made = works(Inputs(n, device=device), without=left_out)
            rows += rows_of(timed(made, rounds, device), n=n, m=M, direction=direction)
    for m in FEATURES[:1] if quick else FEATURES:
        if m != M:
            made = forward_works(Inputs(10_000, m, device=device), without=("exact", "nlsa", "conv3x3"))
            rows += rows_of(timed(made, 2 if quick else 21, device), n=10_000, m=m, direction="forward")
    return rows


def aims(rows: list[dict[str, Any]], threads: int, memory_at: int) -> list[dict[str, Any]]:
    """Return each aim beside the result."""

    def found(method: str, n: int, direction: str, column: str) -> Any:
        for row in rows:
            if (row["method"], row["n"], row["m"], row["direction"]) == (method, n, M, direction):
                return row[column]
        return ""

    at, large, cold = 100**2, 316**2, in_turn("cpu")
    ours = [row for row in rows if row["direction"] == "forward" and row["m"] == M]
    sizes = f"{min(row['n'] for row in ours)} to {max(row['n'] for row in ours)}"
    table = [
        ("ours / floor", at, "forward", "at most 1.25", found("ours", at, "forward", "by_floor")),
        ("ours / products", at, "forward", "", round(1 / found("products", at, "forward", "by_ours"), 3)),
        ("released / ours", at, "forward", "at least 1.8", found("released", at, "forward", "by_ours")),
        ("released / ours, in turn", at, "forward", "at least 1.8", cold["forward"]),
        ("released / floor", at, "forward", "", found("released", at, "forward", "by_floor")),
        ("exact / ours", at, "forward", "at least 25", found("exact", at, "forward", "by_ours")),
        ("exact / ours", large, "forward", "at least 250", found("exact", large, "forward", "by_ours")),
        ("released / ours", at, "both", "at least 1.8", found("released", at, "both", "by_ours")),
        ("released / ours, in turn", at, "both", "at least 1.8", cold["both"]),
        ("released / ours", large, "both", "", found("released", large, "both", "by_ours")),
        ("exponent of time over N, ours", sizes, "forward", "at most 1.03", exponent(ours, "ours")),
        ("exponent of time over N, exact", sizes, "forward", "", exponent(ours, "exact")),
    ]
    for method, direction in (("ours", "forward"), ("ours", "both"), ("released", "forward")):
        aim = "at most 64" if (method, direction) == ("ours", "forward") else ""
        beside = extra_memory(method, threads, direction, memory_at)
        table.append((f"MiB beside inputs and results, {method}", memory_at, direction, aim, beside))
    return [dict(zip(("what", "n", "direction", "aim", "found"), line, strict=True)) for line in table]


def plot(rows: list[dict[str, Any]], name: str) -> None:
    """Plot time against N and against m; needs matplotlib."""
    looks = {
        "exact": ("exact (SDPA)", "#D55E00", "s"),
        "nlsa": ("NLSA, 4 rounds", "#CC79A7", "^"),
        "released": ("ENLA, the released code's way", "#E69F00", "D"),
        "ours": ("ENLA, ours", "#0072B2", "o"),
        "conv3x3": ("3x3 convolution", "#009E73", "v"),
        "floor": ("measured floor", "#000000", ""),
    }
    with axes_side_by_side(name) as (left, right):
        for axes, column, fixed in ((left, "n", ("m", M)), (right, "m", ("n", 10_000))):
            for method, (label, colour, marker) in looks.items():
                points = sorted(
                    (row[column], row["milliseconds"])
                    for row in rows
                    if row["method"] == method and row["direction"] == "forward" and row[fixed[0]] == fixed[1]
                )
                if len(points) > 1:
                    style = {"color": colour, "marker": marker, "linestyle": "-" if marker else "--"}
                    axes.plot(*zip(*points, strict=True), label=label, **style)
            axes.set_xscale("log", base=10 if column == "n" else 2)
            axes.set_yscale("log")
            axes.set_ylabel("forward pass, milliseconds")
            axes.grid(alpha=0.3)
        left.set_xlabel("positions N (m = 128)")
        right.set_xlabel("random features m (N = 100 x 100)")
        right.set_xticks(FEATURES, map(str, FEATURES))
        left.legend(frameon=False, fontsize=8, loc="upper left")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    check(arguments.device)
    rows = measure(arguments.device, arguments.quick)
    if arguments.quick:
        show(*rows, *aims(rows, arguments.threads, 50_000))
        return
    name = f"attention_speed_{arguments.threads if arguments.device == 'cpu' else arguments.device}"
    # Published before the slow measurements of memory.
    publish(name, *rows, threads=arguments.threads)
    if arguments.device == "cpu":
        publish(f"{name}_aims", *aims(rows, arguments.threads, 1_000_000), threads=arguments.threads)
    plot(rows, name)


if __name__ == "__main__":
    main()
