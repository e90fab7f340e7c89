"""What a run shows while it runs: `metrics.csv`, TensorBoard events, and numbers for a progress bar."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch.utils.tensorboard import SummaryWriter

COLUMNS: tuple[str, ...] = (
    "step",
    "epoch",
    "lr",
    "total",
    "l1",
    "contrast",
    "gap",
    "psnr",
    "steps_per_second",
)


class Progress(NamedTuple):
    """Where a run is: `step` of `steps`, and the last value of each number that it measures."""

    step: int
    steps: int
    numbers: Mapping[str, int | float]


OnProgress = Callable[[Progress], None]


class Log:
    """Rows of numbers to `metrics.csv` and to TensorBoard; pictures to TensorBoard.

    `step` counts the steps that are done. A run that goes on from step `start` keeps the rows up to there.
    """

    def __init__(self, folder: Path, *, start: int = 0):
        self.path = folder / "metrics.csv"
        rows = []
        if start and self.path.exists():
            with open(self.path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= start]
        with open(self.path, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        self.board = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def write(self, step: int, numbers: Mapping[str, int | float]) -> None:
        """One row; columns without a number stay empty."""
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow({"step": step, **numbers})
        for name, value in numbers.items():
            self.board.add_scalar(name, value, step)
        self.board.flush()

    def picture(self, name: str, pixels: UInt8[np.ndarray, "H W 3"], step: int) -> None:
        """A picture to look at in TensorBoard."""
        self.board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        self.board.close()
