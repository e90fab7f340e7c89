"""Write the files of a run: its state, its best weights, its numbers. Only the first process does."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch.utils.tensorboard import SummaryWriter

from enlca.checkpoint.file import save
from enlca.errors import TrainingFailed
from enlca.runtime.files import as_utf8, write_atomically
from enlca.training.config import TrainConfig
from enlca.training.objective import Trainable
from enlca.training.state import LAST, write_state

COLUMNS: tuple[str, ...] = (
    "step",
    "epoch",
    "lr",
    "total",
    "l1",
    "contrast",
    "gap",
    "psnr",
    "dead_units",
    "steps_per_second",
)


class TrainingProgress(NamedTuple):
    """Step `step` of `steps`, and the last value of each number that the run measures."""

    step: int
    steps: int
    numbers: Mapping[str, int | float]


OnProgress = Callable[[TrainingProgress], None]


class MetricsLogger:
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
        """Append a row; columns without a number stay empty."""
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow({"step": step, **numbers})
        for name, value in numbers.items():
            self.board.add_scalar(name, value, step)
        self.board.flush()

    def picture(self, name: str, pixels: UInt8[np.ndarray, "H W 3"], step: int) -> None:
        """Add a picture to TensorBoard."""
        self.board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        self.board.close()


def _whole_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a `metrics.csv` before the first that is damaged; none without a file."""
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


class RunFolder:
    """Write the files of `run.dir`.

    A full disk does not cost a run: what was saved before is kept, a remark is made, and the next save may
    succeed. Only where nothing comes after is it an error.

    Args:
        config: the run's.
        start: step that the run goes on from.
        devices: how many devices share the batch.
        say: receives remarks, a line each.
    """

    def __init__(self, config: TrainConfig, *, start: int, devices: int, say: Callable[[str], None]):
        self.config, self.devices, self.say = config, devices, say
        self.path = config.run.dir
        self.log = MetricsLogger(self.path, start=start)

    def write(self, step: int, numbers: Mapping[str, int | float]) -> None:
        """Append a row to `metrics.csv`."""
        self._try(lambda: self.log.write(step, numbers), self.log.path.name, last=False)

    def show(self, step: int, pictures: Sequence[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]) -> None:
        """Add pictures to TensorBoard."""
        for name, pixels in pictures:
            self._try(
                lambda name=name, pixels=pixels: self.log.picture(as_utf8(name), pixels, step),
                "events",
                last=False,
            )

    def save(self, state: dict[str, Any], *, last: bool) -> None:
        """Write `last.ckpt`.

        Raises:
            TrainingFailed: if it cannot be written and nothing comes after.
        """
        self._try(lambda: write_state(self.path, state), LAST, last=last)

    def keep(self, network: Trainable, *, step: int, psnr: float | None) -> None:
        """Write `best.safetensors`; `psnr` is the validation's, in dB.

        Raises:
            TrainingFailed: if it cannot be written and nothing comes after.
        """
        config = self.config
        scores = {}
        if config.data.validation is not None and psnr is not None:
            scores[as_utf8(config.data.validation.resolve().name)] = {"psnr_y": round(psnr, 4)}
        path = self.path / "best.safetensors"
        training = self._history(step)
        self._try(
            lambda: save(network, path, variant=config.run.variant, training=training, scores=scores),
            path.name,
            last=step == config.run.steps,
        )

    def close(self) -> None:
        """Flush and close."""
        self._try(self.log.close, "events", last=False)

    def _try(self, write: Callable[[], None], name: str, *, last: bool) -> None:
        try:
            write()
        except OSError as error:
            reason = f"{self.path / name} cannot be written: {error.strerror or error}"
            if last:
                raise TrainingFailed(f"{reason}; what was saved before is kept") from error
            self.say(f"{reason}; training goes on, and what was saved before is kept")

    def _history(self, step: int) -> dict[str, Any]:
        config = self.config
        history = {
            "data": as_utf8(config.data.train.resolve().name),
            "steps": step,
            "steps_planned": config.run.steps,
            "steps_per_epoch": config.run.steps_per_epoch,
            "seed": config.run.seed,
            "patch": config.data.patch,
            "batch": config.data.batch * self.devices,
            "optimizer": config.optim.kind,
            "lr": config.optim.lr,
            "schedule": config.schedule.kind,
        }
        if config.optim.kind == "muon":
            optim = config.optim
            history |= {
                "muon_lr": optim.muon_lr,
                "momentum": optim.momentum,
                "weight_decay": optim.weight_decay,
            }
        if config.schedule.decay_from is not None:
            history["decay_from"] = config.schedule.decay_from
        if config.data.leave_out is not None:
            history["left_out"] = as_utf8(config.data.leave_out.name)
        if config.data.more is not None:
            more = as_utf8(config.data.more.resolve().name)
            history |= {"more": more, "more_share": config.data.more_share}
        if config.data.teacher is not None:
            teacher = as_utf8(config.data.teacher.resolve().name)
            history |= {"teacher": teacher, "teacher_share": config.loss.teacher}
        if config.data.soften is not None:
            history |= {"soften": list(config.data.soften), "soften_share": config.data.soften_share}
        if config.data.degradation is not None:
            history["degradation"] = config.data.degradation.weights
        if config.loss.kind != "l1":
            history["loss"] = config.loss.kind
        if config.loss.gradient:
            history["gradient"] = config.loss.gradient
        if config.loss.contrast_weight and config.network.attention != "none":
            history |= {
                "contrast_weight": config.loss.contrast_weight,
                "contrast_after_epoch": config.schedule.contrast_after,
                "n1": config.loss.relevant,
                "n2": config.loss.start,
                "margin": config.loss.margin,
                "hinge": config.loss.hinge,
                "anchors": config.loss.anchors,
            }
        if config.run.start_from is not None:
            history["started_from"] = as_utf8(config.run.start_from.name)
        return history
