"""One training step, as a LightningModule.

Letters:  B batch   P side of the LR patch   S scale
"""

import math
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from enlca.data.benchmark import as_rgb
from enlca.data.patches import ANCHORS, seed_of
from enlca.metrics import psnr
from enlca.network.sr import SRNetwork
from enlca.training.config import ScheduleConfig, TrainConfig

Batch = tuple[UInt8[Tensor, "B 3 P P"], UInt8[Tensor, "B 3 SP SP"]]


def learning_rate_factor(step: int, *, schedule: ScheduleConfig, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of step `step` (from 0), as a multiple of the initial one."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return 0.5 ** sum(step >= epoch * steps_per_epoch for epoch in schedule.halve_at)


class SRTraining(L.LightningModule):
    """L1 plus contrastive loss, Adam, a moving average of the weights.

    `network` is trained; `averaged` is validated and kept. Random features are copied into the
    average, never averaged: the mean of two orthogonal Gaussian matrices is neither.
    """

    def __init__(self, config: TrainConfig):
        super().__init__()
        self.config = config
        self.network = SRNetwork(config.network)
        self.average = None
        if config.optim.ema > 0:
            self.average = AveragedModel(
                self.network, multi_avg_fn=get_ema_multi_avg_fn(config.optim.ema), use_buffers=False
            ).requires_grad_(False)

    @property
    def averaged(self) -> SRNetwork:
        """The weights that count."""
        return self.network if self.average is None else cast(SRNetwork, self.average.module)

    def configure_optimizers(self) -> Any:
        """Adam and the schedule, advanced every step."""
        optim, run = self.config.optim, self.config.run
        optimizer = torch.optim.Adam(self.network.parameters(), lr=optim.lr, betas=optim.betas, fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(
                step, schedule=self.config.schedule, steps=run.steps, steps_per_epoch=run.steps_per_epoch
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch."""
        lr, hr = (side.to(memory_format=torch.channels_last).float() / 255 for side in batch)
        sr, embeddings = self.network.forward_with_embeddings(lr)
        seed = seed_of(self.config.run.seed, ANCHORS, self.global_step, self.global_rank)
        terms = self.config.loss(
            sr,
            hr,
            embeddings,
            contrast=self.current_epoch >= self.config.schedule.contrast_after,
            generator=torch.Generator(lr.device).manual_seed(seed),
        )
        self.log_dict({name: value.detach() for name, value in terms._asdict().items()}, prog_bar=True)
        return terms.total

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Follow the weights at once: checkpoints are written before the module's `on_train_batch_end`."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.network)

    def validation_step(self, batch: tuple[np.ndarray, np.ndarray], batch_index: int) -> None:
        """PSNR-Y of one picture, by the evaluation protocol."""
        small, large = batch
        lr = torch.from_numpy(as_rgb(small).transpose(2, 0, 1).copy()).to(self.device)
        sr = self.averaged(lr[None].float() / 255)[0].clamp(0, 1).mul(255).round().byte()
        score = psnr(sr.permute(1, 2, 0).cpu().numpy(), large, shave=self.config.network.scale)
        self.log("psnr", score, batch_size=1, on_epoch=True, prog_bar=True, sync_dist=True)
