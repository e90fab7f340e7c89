"""Table 4: what attention costs. The paper's operations, ours by formula and counted, and time and memory.

    python -m experiments.table4_cost [--runs 5] [--threads 1] [--out experiments/results]

Writes `table4_cost.md` and `table4_cost.csv`, and fails if a formula does not give what the paper prints.
Each row is measured in a process of its own, on the processor, in float32: the median time of the runs,
and how far the process grew beyond what it held before (Linux only). The networks' PSNR is `table4_psnr`.
"""

import argparse
import csv
import io
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import torch
from benchmarks.report import describe

from enlca.analysis.cost import count, lsh_flops_as_printed, seconds, table4
from enlca.runtime.files import write_atomically

HERE = Path(__file__).parent
# The paper does not say how it counts NLSA.
UNDERIVED = "NLSA-r4"


def measure(name: str, runs: int) -> dict[str, float | None]:
    """Seconds and MiB of one row, in this process."""
    row = table4()[name]
    # Libraries take memory when they are first used.
    small = table4(7, 5)[name]
    seconds(small.build, *small.shapes, runs=1)
    before = _start_of_peak()
    median = seconds(row.build, *row.shapes, runs=runs)
    return {"seconds": median, "peak_mib": None if before is None else (_status("VmHWM") - before) / 1024}


def _start_of_peak() -> int | None:
    """Memory held now, in KiB, after telling the system to forget the peak so far; None where it cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def rows(expected: dict, runs: int, threads: int) -> list[dict]:
    """A dictionary for each row of the paper's table, in its order; None where there is no number."""
    ours, found = table4(), []
    child = [sys.executable, "-m", "experiments.table4_cost", "--runs", str(runs), "--threads", str(threads)]
    for name, paper in expected["table4"].items():
        row = {"method": name, "paper_gflops": paper["gflops"], "paper_psnr": paper.get("psnr")}
        row |= dict.fromkeys(
            ("formula_gflops", "counted_gflops", "counted_mib", "measured_ms", "measured_mib")
        )
        if name in ours:
            done = subprocess.run([*child, "--row", name], capture_output=True, check=True, cwd=HERE.parent)
            measured = json.loads(done.stdout)
            counted = count(ours[name].build, *ours[name].shapes)
            row["formula_gflops"] = ours[name].flops / 1e9
            row["counted_gflops"] = counted.flops / 1e9
            row["counted_mib"] = round(counted.activation_bytes / 2**20, 1)
            row["measured_ms"] = round(1000 * measured["seconds"], 2)
            row["measured_mib"] = measured["peak_mib"] and round(measured["peak_mib"], 1)
        found.append(row)
    return found


def disagreements(table: list[dict]) -> list[str]:
    """Rows whose formula is not what the paper prints, to its last digit."""
    return [
        f"{row['method']}: the formula gives {row['formula_gflops']:.2f}, the paper {row['paper_gflops']:.2f}"
        for row in table
        if row["formula_gflops"] is not None
        and row["method"] != UNDERIVED
        and f"{row['formula_gflops']:.2f}" != f"{row['paper_gflops']:.2f}"
    ]


COLUMNS = (
    "method",
    "GFLOPs (paper)",
    "GFLOPs (formula)",
    "GFLOPs (counted)",
    "ms (measured)",
    "time / Conv (measured)",
    "MiB (counted)",
    "MiB (measured)",
    "PSNR, Urban100 x4 (paper)",
)
PAGE = """# Table 4: efficiency

Made by `python -m experiments.table4_cost`. 100 x 100 positions, 64 channels in and out, one picture,
float32.

{table}

* GFLOPs (formula): the closed forms of `enlca.analysis.cost`; (counted): PyTorch's FLOP counter on our
  code. Matrix products only; a product and a sum are two operations. Embeddings are not in it.
* NLSA-r4: the paper does not derive its number. Ours is what our code does: the hash (70 buckets, so 35
  axes, in each of 4 rounds) and chunks of 144, the last one filled up, by three chunks. No filler and a
  hash over all of 128 directions would give {as_printed:.2f}.
* MiB (counted): the most that tensors take at one time, inputs and output included; (measured): how much
  the process grew over those passes.
* ms: the median of {runs} forward passes after one to warm up, on a machine shared with other work.
* Measured on: {machine}.
"""


def markdown(table: list[dict], machine: dict, runs: int) -> str:
    """The table, with what each column means."""
    conv = next(row for row in table if row["method"] == "Conv")
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in table:
        ratio = row["measured_ms"] and row["measured_ms"] / conv["measured_ms"]
        cells = [
            f"{row['paper_gflops']:.2f}" if row["paper_gflops"] else "0",
            *(_cell(row[key], ".2f") for key in ("formula_gflops", "counted_gflops")),
            _cell(row["measured_ms"], ".1f"),
            _cell(ratio, ".2f"),
            *(_cell(row[key], ".1f") for key in ("counted_mib", "measured_mib")),
            _cell(row["paper_psnr"], ".2f"),
        ]
        lines.append(f"| {row['method']} | {' | '.join(cells)} |")
    return PAGE.format(
        table="\n".join(lines),
        as_printed=lsh_flops_as_printed(10_000, 64, 64) / 1e9,
        runs=runs,
        machine=", ".join(f"{name} {value}" for name, value in machine.items()),
    )


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--row", help="measure this row alone, and print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.row:
        print(json.dumps(measure(arguments.row, arguments.runs)))
        return 0
    expected = tomllib.loads((HERE / "expected.toml").read_text())
    table = rows(expected, arguments.runs, arguments.threads)
    machine = describe(arguments.threads)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*table[0], *machine], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **machine} for row in table)
    report = markdown(table, machine, arguments.runs)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out / "table4_cost.csv", text.getvalue().encode())
    write_atomically(arguments.out / "table4_cost.md", report.encode())
    print(report, end="")
    for line in (problems := disagreements(table)):
        print(line, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
