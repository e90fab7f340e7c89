"""What a run writes: its state, its best weights, its rows. One process does, the first."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from enlca.checkpoint.store import save
from enlca.errors import TrainingFailed
from enlca.network.sr import SRNetwork
from enlca.training.config import TrainConfig
from enlca.training.sight import Log
from enlca.training.state import LAST, write_state


class RunFolder:
    """`run.dir` while its run is at work.

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
        self.log = Log(self.path, start=start)

    def write(self, step: int, numbers: Mapping[str, int | float]) -> None:
        """A row of `metrics.csv`."""
        self._try(lambda: self.log.write(step, numbers), self.log.path.name, last=False)

    def show(self, step: int, pictures: Sequence[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]) -> None:
        """Pictures for TensorBoard."""
        for name, pixels in pictures:
            self._try(
                lambda name=name, pixels=pixels: self.log.picture(name, pixels, step), "events", last=False
            )

    def save(self, state: dict[str, Any], *, last: bool) -> None:
        """Write `last.ckpt`.

        Raises:
            TrainingFailed: if it cannot be written and nothing comes after.
        """
        self._try(lambda: write_state(self.path, state), LAST, last=last)

    def keep(self, network: SRNetwork, *, step: int, psnr: float | None) -> None:
        """Write `best.safetensors`; `psnr` is the validation's, in dB.

        Raises:
            TrainingFailed: if it cannot be written and nothing comes after.
        """
        config = self.config
        scores = {}
        if config.data.validation is not None and psnr is not None:
            scores[config.data.validation.resolve().name] = {"psnr_y": round(psnr, 4)}
        path = self.path / "best.safetensors"
        training = self._history(step)
        self._try(
            lambda: save(network, path, variant=config.run.variant, training=training, scores=scores),
            path.name,
            last=step == config.run.steps,
        )

    def close(self) -> None:
        """Write what is still in memory."""
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
            "data": config.data.train.resolve().name,
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
            history |= {"muon_lr": config.optim.muon_lr, "momentum": config.optim.momentum}
        if config.schedule.decay_from is not None:
            history["decay_from"] = config.schedule.decay_from
        if config.data.teacher is not None:
            history |= {"teacher": config.data.teacher.resolve().name, "teacher_share": config.loss.teacher}
        if config.data.soften is not None:
            history |= {"soften": list(config.data.soften), "soften_share": config.data.soften_share}
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
            history["started_from"] = config.run.start_from.name
        return history
