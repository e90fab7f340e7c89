"""What every result says about where and when it was measured, and where it goes."""

import csv
import platform
from datetime import date
from pathlib import Path

import torch

import enlca

RESULTS = Path(__file__).parent / "results"


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


def publish(name: str, row: dict, *, threads: int) -> None:
    """Print a result and write it to `results/NAME.csv`, with the machine that it was measured on."""
    row = {**row, **describe(threads)}
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, row.keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
    for key, value in row.items():
        print(f"{key:18} {value}")
