"""What the benchmarks of training time: steps, batches and losses, in rounds."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.released import ReleasedLoss
from benchmarks.upscale_command import smooth_picture
from enlca.attention.block import Embeddings
from enlca.data.packed import open_training_set
from enlca.data.patches import PatchBatches
from enlca.image.picture import Picture, write_image
from enlca.losses import ENLCALoss
from enlca.network.sr import SRNetwork

Batch = tuple[Tensor, Tensor]
Loss = ENLCALoss | ReleasedLoss


class Trainee:
    """A network with its loss, optimiser and moving average, and the step of `enlca.training.loop`."""

    def __init__(self, network: SRNetwork, loss: Loss, optim: dict[str, Any]):
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.loss, self.clip = loss, optim["clip"]
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=optim["lr"], betas=optim["betas"], fused=True
        )
        self.average = AveragedModel(
            network, multi_avg_fn=get_ema_multi_avg_fn(optim["ema"]), use_buffers=False
        ).requires_grad_(False)

    def step(self, batch: Batch, *, contrast: bool = True) -> None:
        lr, hr = pixels(batch)
        sr, embeddings = self.network.forward_with_embeddings(lr)
        terms = self.loss(sr, hr, embeddings, contrast=contrast, generator=torch.Generator().manual_seed(1))
        self.optimizer.zero_grad()
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        self.average.update_parameters(self.network)

    def check_finite(self) -> None:
        """A network that diverged is not what was meant to be timed.

        Raises:
            RuntimeError: if a weight is not finite.
        """
        if not all(weight.isfinite().all() for weight in self.network.parameters()):
            raise RuntimeError("the network diverged: nothing to report")

    @torch.no_grad()
    def embeddings(self, batch: Batch) -> list[Embeddings]:
        return self.network.forward_with_embeddings(pixels(batch)[0])[1]


class Feed:
    """Batches of a synthetic pack, in order; the last one loaded is kept."""

    def __init__(self, folder: Path, *, scale: int, patch: int, batch: int, pictures: int):
        large = folder / "large"
        large.mkdir()
        base = smooth_picture(512)
        for index in range(pictures):
            write_image(large / f"{index}.png", Picture(np.roll(base, 37 * index, axis=(0, 1))))
        packed = open_training_set(large, scale=scale, cache=folder / "cache")
        patches = PatchBatches(packed, patch=patch, batch=batch, seed=1)
        self.batches = map(patches.__getitem__, itertools.count())
        self.load()

    def load(self) -> None:
        lr, hr, *_ = next(self.batches)
        self.batch = lr, hr


def pixels(batch: Batch) -> list[Tensor]:
    return [side.to(memory_format=torch.channels_last).float() / 255 for side in batch]


def loss_alone(loss: Loss, embeddings: Sequence[Embeddings]) -> None:
    """The contrastive loss and its gradient for q and k, block by block (so that memory is that of one)."""
    picture = torch.zeros(1, 3, 1, 1)
    for seen in embeddings:
        q, k = (u.detach().requires_grad_() for u in (seen.q, seen.k))
        generator = torch.Generator().manual_seed(1)
        terms = loss(picture, picture, [Embeddings(q, k, seen.v)], contrast=True, generator=generator)
        torch.autograd.grad(terms.contrast, (q, k))


def interleaved(works: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round, one after the other; a round before the first warms up."""
    seconds = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: values[1:] for name, values in seconds.items()}


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Median over rounds of the ratio within a round: what slows a whole round does not count."""
    return round(statistics.median(a / b for a, b in zip(values, others, strict=True)), 4)


def added(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(values, others, strict=True)]


def share_by_difference(seconds: dict[str, list[float]]) -> float:
    """The step less the step without contrast, of the step: noisy, but nothing is left out."""
    return round(1 - ratio(seconds["without_contrast"], seconds["step"]), 4)
