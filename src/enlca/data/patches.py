"""Aligned random patches and the 8 dihedral moves, each a function of (seed, step, rank) alone.

Nothing is remembered between batches, so a run that is stopped and resumed sees the same patches.

Letters:  B batch   P side of the LR patch   S scale
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from enlca.data.pack import PackedSet

# What a random stream is for; part of its seed, so that streams never repeat one another.
PATCHES, ANCHORS, REDRAW = range(3)


def seed_of(seed: int, purpose: int, *counters: int) -> int:
    """A 63-bit seed for one purpose at one moment of a run."""
    state = np.random.SeedSequence([seed, purpose, *counters]).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def dihedral(picture: Any, move: int) -> Any:
    """One of the 8 symmetries of a square on the first two axes: `move & 3` quarter turns, `& 4` mirrors."""
    turned = np.rot90(picture, move & 3)
    return turned[:, ::-1] if move & 4 else turned


class PatchBatches(Dataset):
    """Batch number `step` of a run: LR and HR patches, `B 3 P P` and `B 3 SP SP`, uint8.

    A picture is chosen in proportion to the number of patches that it holds.

    Raises:
        ValueError: if a picture is smaller than the patch.
    """

    def __init__(self, packed: PackedSet, *, patch: int, batch: int, seed: int, rank: int = 0):
        self.packed, self.patch, self.batch, self.seed, self.rank = packed, patch, batch, seed, rank
        places = [(height - patch + 1, width - patch + 1) for height, width in packed.shapes]
        for name, (rows, columns) in zip(packed.names, places, strict=True):
            if min(rows, columns) < 1:
                raise ValueError(f"{name} is smaller than the LR patch of {patch} pixels at x{packed.scale}")
        areas = np.array([rows * columns for rows, columns in places], dtype=np.float64)
        self.cumulative = np.cumsum(areas) / areas.sum()

    def __getitem__(self, step: int) -> tuple[UInt8[Tensor, "B 3 P P"], UInt8[Tensor, "B 3 SP SP"]]:
        random = np.random.default_rng(seed_of(self.seed, PATCHES, step, self.rank))
        patches = [self._patch(random) for _ in range(self.batch)]
        lr, hr = (np.stack(side).transpose(0, 3, 1, 2) for side in zip(*patches, strict=True))
        return torch.from_numpy(np.ascontiguousarray(lr)), torch.from_numpy(np.ascontiguousarray(hr))

    def _patch(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        index = min(
            int(np.searchsorted(self.cumulative, random.random(), side="right")), len(self.packed) - 1
        )
        height, width = self.packed.shapes[index]
        top = int(random.integers(height - self.patch + 1))
        left = int(random.integers(width - self.patch + 1))
        move = int(random.integers(8))

        def crop(picture: np.ndarray, scale: int) -> np.ndarray:
            rows = slice(scale * top, scale * (top + self.patch))
            columns = slice(scale * left, scale * (left + self.patch))
            return dihedral(picture[rows, columns], move)

        return crop(self.packed.lr_picture(index), 1), crop(self.packed.hr_picture(index), self.packed.scale)


class StepSampler(Sampler[int]):
    """The steps of one epoch, numbered through the whole run: epoch e has e L .. (e + 1) L - 1."""

    def __init__(self, steps_per_epoch: int):
        self.steps_per_epoch = steps_per_epoch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.steps_per_epoch
        return iter(range(first, first + self.steps_per_epoch))

    def __len__(self) -> int:
        return self.steps_per_epoch
