"""What every result says about where and when it was measured, and where it goes."""

import csv
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import torch

import enlca

RESULTS = Path(__file__).parent / "results"
# Colours that colour-blind readers tell apart (Okabe and Ito 2008), and shapes for print without colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
MARKERS = ("o", "s", "v", "^", "D", "x")


def processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(threads: int) -> dict[str, str | int]:
    """Machine, versions, threads and date."""
    return {
        "processor": processor(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "enlca": enlca.__version__,
        "date": date.today().isoformat(),
    }


def show(*rows: dict) -> None:
    """Print results, one value a line and an empty line between rows."""
    for index, row in enumerate(rows):
        if index:
            print()
        width = max(18, *map(len, row))
        for key, value in row.items():
            print(f"{key:{width}} {value}")


def publish(name: str, *rows: dict, threads: int) -> None:
    """Print results and write them to `results/NAME.csv`, with the machine that they were measured on.

    All rows have the same keys.
    """
    described = [{**row, **describe(threads)} for row in rows]
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, described[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(described)
    show(*described)


@contextmanager
def axes_side_by_side(name: str) -> Iterator[tuple[Any, Any]]:
    """Two axes; what is drawn on them becomes `results/NAME.png`. Needs matplotlib (group `figures`)."""
    import matplotlib  # pyright: ignore[reportMissingImports]

    matplotlib.use("Agg")
    from matplotlib import pyplot  # pyright: ignore[reportMissingImports]

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    yield left, right
    figure.savefig(RESULTS / f"{name}.png", dpi=300)
