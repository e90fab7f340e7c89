"""What happens beside the training step: redrawing F, keeping the best weights and the last state."""

import math
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint

from enlca.checkpoint.store import save
from enlca.data.patches import REDRAW, seed_of
from enlca.training.module import SRTraining


class RedrawFeatures(Callback):
    """A new F at the start of every epoch, as the paper does; the same on every rank."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw from a seed that depends on the epoch only."""
        assert isinstance(pl_module, SRTraining)
        generator = torch.Generator().manual_seed(seed_of(self.seed, REDRAW, trainer.current_epoch))
        pl_module.network.redraw_(generator)


class KeepBest(Callback):
    """Writes `best.safetensors` whenever validation says that the averaged weights are the best so far.

    Without validation pictures, the last weights are kept.
    """

    def __init__(self, path: Path):
        self.path = path
        self.best = float("-inf")

    def state_dict(self) -> dict:
        """The score to beat goes into `last.ckpt`."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict) -> None:
        """The inverse of `state_dict`."""
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare and keep."""
        score = trainer.callback_metrics.get("psnr")
        if score is not None and not trainer.sanity_checking and score > self.best:
            self.best = float(score)
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the last weights where nothing was validated."""
        if self.best == float("-inf"):
            self._write(trainer, pl_module)

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SRTraining)
        if not trainer.is_global_zero:
            return
        config = pl_module.config
        training = {
            "data": config.data.train.resolve().name,
            "steps": trainer.global_step,
            "steps_planned": config.run.steps,
            "steps_per_epoch": config.run.steps_per_epoch,
            "seed": config.run.seed,
            "patch": config.data.patch,
            "batch": config.data.batch,
            "lr": config.optim.lr,
            "contrast_weight": config.loss.contrast_weight,
            "contrast_after_epoch": config.schedule.contrast_after,
            "n1": config.loss.relevant,
            "n2": config.loss.start,
            "margin": config.loss.margin,
            "hinge": config.loss.hinge,
            "anchors": config.loss.anchors,
        }
        scores = {}
        if config.data.validation is not None and math.isfinite(self.best):
            scores[config.data.validation.resolve().name] = {"psnr_y": round(self.best, 4)}
        save(pl_module.averaged, self.path, variant=config.run.variant, training=training, scores=scores)


class KeepLast(Checkpoint):
    """Writes `last.ckpt`, with everything needed to go on, every so many steps and at the end."""

    def __init__(self, path: Path, *, every: int):
        self.path, self.every = path, every

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Every so many steps."""
        if trainer.global_step % self.every == 0:
            self._write(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """At the end."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        building = self.path.with_name(f".{self.path.name}.part")
        try:
            trainer.save_checkpoint(building)
            if trainer.is_global_zero:
                os.replace(building, self.path)
        finally:
            # The other ranks wait for the first one to write, and must not tidy up before it has.
            if trainer.is_global_zero:
                building.unlink(missing_ok=True)
