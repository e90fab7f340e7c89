"""Aligned random patches and the 8 dihedral moves, each a function of (seed, step, rank) alone.

No state is kept between batches, so a resumed run sees the same patches. The patches of a step are drawn for
all devices together, so that two devices with 8 patches each see the same as one with 16.

Letters:  B batch   P side of the LR patch   S scale
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from enlca.data.degradations import softened_patch
from enlca.data.packed import PackedSet, Pictures
from enlca.data.recipes import Degradation, degraded_patch

# Purposes of random streams; part of the seed, so that no stream repeats another.
PATCHES, ANCHORS, REDRAW, SOFTEN, DEGRADE, DROPOUT = range(6)

# LR, HR and, with a teacher, its patches of the same places.
Batch = tuple[UInt8[Tensor, "B 3 P P"], *tuple[UInt8[Tensor, "B 3 SP SP"], ...]]


def seed_of(seed: int, purpose: int, *counters: int) -> int:
    """Return a 63-bit seed for one purpose at one moment of a run."""
    state = np.random.SeedSequence([seed, purpose, *counters]).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def dihedral(picture: Any, move: int) -> Any:
    """Apply one of the 8 symmetries of a square to the first two axes: `move & 3` turns, `& 4` mirrors."""
    rotated = np.rot90(picture, move & 3)
    return rotated[:, ::-1] if move & 4 else rotated


class Places(NamedTuple):
    """The patches of a batch: index of the picture, corner of the LR patch, index of the symmetry."""

    picture: Int[np.ndarray, "B"]
    top: Int[np.ndarray, "B"]
    left: Int[np.ndarray, "B"]
    move: Int[np.ndarray, "B"]


class Soften(NamedTuple):
    """Blur a `share` of the patches by a Gaussian of `low` to `high` HR pixels; see `softened_patch`."""

    low: float
    high: float
    share: float


class PatchBatches(Dataset):
    """Batches of a run by step: LR and HR patches, `B 3 P P` and `B 3 SP SP`, uint8, and the teacher's.

    A picture is chosen with a probability proportional to the number of places for a patch in it, within its
    part of the set where `packed.shares` says what each part gets.

    Args:
        packed: the pictures.
        patch: P.
        batch: B, on each device.
        seed: of the run.
        rank: index of this device.
        world: number of devices.
        soften: blur some patches before LR is made from them; None blurs none.
        degradation: make LR patches from HR by recipes; None takes them from the pack.

    Raises:
        ValueError: a picture is smaller than the patch.
    """

    def __init__(
        self,
        packed: PackedSet,
        *,
        patch: int,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        soften: Soften | None = None,
        degradation: Degradation | None = None,
    ):
        self.soften, self.degradation = soften, degradation
        self.packed, self.patch, self.batch, self.seed = packed, patch, batch, seed
        self.rank, self.world = rank, world
        self.rows, self.columns = (np.array(sides) - patch + 1 for sides in zip(*packed.shapes, strict=True))
        for name, rows, columns in zip(packed.names, self.rows, self.columns, strict=True):
            if min(rows, columns) < 1:
                raise ValueError(f"{name} is smaller than the LR patch of {patch} pixels at x{packed.scale}")
        areas = (self.rows * self.columns).astype(np.float64)
        for part, share in packed.shares:
            areas[part] *= share / areas[part].sum()
        self.cumulative = np.cumsum(areas) / areas.sum()

    def places(self, step: int) -> Places:
        """Draw the places of this device's patches of a step."""
        total = self.world * self.batch
        random = np.random.default_rng(seed_of(self.seed, PATCHES, step))
        chance, down, right = random.random((3, total))
        move = random.integers(8, size=total)
        picture = np.searchsorted(self.cumulative, chance, side="right").clip(max=len(self.packed) - 1)
        top = (down * self.rows[picture]).astype(np.int64)
        left = (right * self.columns[picture]).astype(np.int64)
        mine = slice(self.rank * self.batch, (self.rank + 1) * self.batch)
        return Places(*(values[mine] for values in (picture, top, left, move)))

    def sigmas(self, step: int) -> Float[np.ndarray, "B"]:
        """Draw the blur of each of this device's patches, in HR pixels; 0 is none."""
        mine = slice(self.rank * self.batch, (self.rank + 1) * self.batch)
        total = self.world * self.batch
        if self.soften is None:
            return np.zeros(total)[mine]
        low, high, share = self.soften
        chance, where = np.random.default_rng(seed_of(self.seed, SOFTEN, step)).random((2, total))
        return np.where(chance < share, low + (high - low) * where, 0.0)[mine]

    def __getitem__(self, step: int) -> Batch:
        places = zip(*(values.tolist() for values in self.places(step)), strict=True)
        patches = [
            self._patch(*place, sigma=sigma, random=self._generator(step, index))
            for index, (place, sigma) in enumerate(zip(places, self.sigmas(step).tolist(), strict=True))
        ]
        sides = (np.stack(side).transpose(0, 3, 1, 2) for side in zip(*patches, strict=True))
        lr, *hr_sides = (torch.from_numpy(np.ascontiguousarray(side)) for side in sides)
        return lr, *hr_sides

    def _generator(self, step: int, index: int) -> np.random.Generator:
        """Return the source of one patch's degradation; `index` counts this device's patches."""
        return np.random.default_rng(seed_of(self.seed, DEGRADE, step, self.rank * self.batch + index))

    def _patch(
        self, picture: int, top: int, left: int, move: int, *, sigma: float, random: np.random.Generator
    ) -> list[np.ndarray]:
        packed, size = self.packed, self.patch
        hr_sides = [side[picture] for side in packed.hr_sides]
        place = {"top": top, "left": left, "patch": size, "scale": packed.scale}
        if sigma > 0:
            sides = softened_patch(hr_sides, sigma=sigma, **place)
        else:
            if self.degradation is None:
                sides = [packed.lr[picture][top : top + size, left : left + size]]
            else:
                recipe = self.degradation.draw(random, scale=packed.scale)
                sides = [degraded_patch(hr_sides[0], recipe, random=random, **place)]
            top, left, size = (packed.scale * number for number in (top, left, size))
            sides += [side[top : top + size, left : left + size] for side in hr_sides]
        return [dihedral(side, move) for side in sides]


class ResidentPatches:
    """The batches of a `PatchBatches` with all pictures on `device`: a batch is one gather there.

    Needs 3 (1 + 1 / S^2) bytes of device memory for each HR pixel, 3 more with a teacher.
    """

    def __init__(self, patches: PatchBatches, device: torch.device):
        packed = patches.packed
        self.patches, self.device = patches, device
        sizes = [3 * height * width for height, width in packed.shapes]
        self.starts = torch.tensor([0, *sizes[:-1]], device=device).cumsum(0)
        self.widths = torch.tensor([width for _, width in packed.shapes], device=device)
        self.sides = [
            (scale, self._flat(pictures).to(device), self._grid(scale * patches.patch))
            for scale, pictures in ((1, packed.lr), *((packed.scale, side) for side in packed.hr_sides))
        ]

    def _flat(self, pictures: Pictures) -> UInt8[Tensor, "Bytes"]:
        return torch.from_numpy(np.concatenate([picture.reshape(-1) for picture in pictures]))

    def _grid(self, side: int) -> tuple[Tensor, Tensor]:
        """Return, for each symmetry, the source row and column of each pixel of a patch."""
        place = np.moveaxis(np.indices((side, side)), 0, -1)
        moved = np.stack([dihedral(place, move) for move in range(8)])
        rows, columns = torch.from_numpy(moved).to(self.device).unbind(-1)
        return rows, columns

    def __getitem__(self, step: int) -> Batch:
        places = self.patches.places(step)
        picture, top, left, move = (torch.from_numpy(x).to(self.device, non_blocking=True) for x in places)
        lr, *hr_sides = (self._cut(*side, picture, top, left, move) for side in self.sides)
        return lr, *hr_sides

    def _cut(
        self,
        scale: int,
        pixels: UInt8[Tensor, "Bytes"],
        grid: tuple[Tensor, Tensor],
        picture: Tensor,
        top: Tensor,
        left: Tensor,
        move: Tensor,
    ) -> UInt8[Tensor, "B 3 side side"]:
        def wide(values: Tensor) -> Tensor:
            return values.view(-1, 1, 1)

        rows = wide(scale * top) + grid[0][move]
        columns = wide(scale * left) + grid[1][move]
        first = wide(self.starts[picture] * scale**2) + 3 * (
            rows * wide(scale * self.widths[picture]) + columns
        )
        return pixels[first.unsqueeze(1) + torch.arange(3, device=self.device).view(1, 3, 1, 1)]
