"""What an evaluation costs beside its forward passes: reading, scoring, writing results.

    python -m benchmarks.evaluation_overhead DATA [--model enlcn-tiny] [--scale 4] [--threads 2] [--runs 3]

Reports the whole time of `evaluate` on a benchmark folder, divided by the sum of its forward passes, in the
same run; at most 1.2 is the aim. The scores are checked to be the same in every run before that.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.report import publish
from enlca.evaluation.evaluate import Method, evaluate, method_called


class Timed(NamedTuple):
    """Seconds of an evaluation and of its forward passes, and its scores."""

    whole: float
    forward: float
    scores: dict


def timed(method: Method, data: Path, scale: int) -> Timed:
    started = time.perf_counter()
    report = evaluate(method, [data], scale=scale).report
    for text in (report.to_json(), report.to_csv()):
        text.encode()
    whole = time.perf_counter() - started
    return Timed(whole, sum(row.seconds for row in report.images), report.datasets())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="enlcn-tiny")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    method = method_called(arguments.model, scale=arguments.scale, device="cpu")
    # The first run warms up: memory, files, libraries.
    runs = [timed(method, arguments.data, arguments.scale) for _ in range(arguments.runs + 1)]
    if any(run.scores != runs[0].scores for run in runs):
        raise RuntimeError("the scores differ from run to run: nothing to report")
    row = {
        "model": arguments.model,
        "data": arguments.data.resolve().name,
        "whole_by_forward": round(statistics.median(run.whole / run.forward for run in runs[1:]), 3),
        "forward_seconds": round(statistics.median(run.forward for run in runs[1:]), 2),
        "runs": arguments.runs,
    }
    publish("evaluation_overhead", row, threads=arguments.threads)


if __name__ == "__main__":
    main()
