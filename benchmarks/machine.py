"""What every result says about where and when it was measured."""

import platform
from datetime import date
from pathlib import Path

import torch

import enlca


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
