"""What a run shows while it runs: `metrics.csv`, TensorBoard events, and numbers for a progress bar."""

import csv
import io
from collections.abc import Callable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch.utils.tensorboard import SummaryWriter

from enlca.checkpoint.store import write_atomically

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

    `step` counts the steps that are done. A run that goes on from step `start` keeps the rows up to there,
    but none from the first that is damaged: a power cut may leave zero bytes or half a row at the end.
    """

    def __init__(self, folder: Path, *, start: int = 0):
        self.path = folder / "metrics.csv"
        rows = [row for row in _whole_rows(self.path) if int(row["step"]) <= start] if start else []
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())
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


def _whole_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a `metrics.csv` before the first that is damaged; none without a file."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8", errors="replace").splitlines(keepends=True)
    # A line without an end may lack digits of its last number.
    rows = csv.DictReader(takewhile(lambda line: line.endswith("\n") and "\0" not in line, lines))
    if not {"step"} <= set(rows.fieldnames or ()):
        return []
    return list(takewhile(_is_whole, rows))


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a row has a value in each column: a count of steps, and numbers or nothing."""
    try:
        for value in row.values():
            float(value or 0)
        return int(row["step"]) >= 0 and None not in row and None not in row.values()
    except (TypeError, ValueError):
        return False
