"""Aligned random patches and the 8 dihedral moves, each a function of (seed, step, rank) alone.

Nothing is remembered between batches, so a run that is stopped and resumed sees the same patches; and
the patches of a step are drawn for all devices together, so that two devices with 8 patches each see
what one with 16 does.

Letters:  B batch   P side of the LR patch   S scale
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from enlca.data.pack import PackedSet
from enlca.data.soften import softened_patch

# What a random stream is for; part of its seed, so that streams never repeat one another.
PATCHES, ANCHORS, REDRAW, SOFTEN = range(4)

# LR, HR and, where there is a teacher, its pictures of the same places.
Batch = tuple[UInt8[Tensor, "B 3 P P"], *tuple[UInt8[Tensor, "B 3 SP SP"], ...]]


def seed_of(seed: int, purpose: int, *counters: int) -> int:
    """A 63-bit seed for one purpose at one moment of a run."""
    state = np.random.SeedSequence([seed, purpose, *counters]).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def dihedral(picture: Any, move: int) -> Any:
    """One of the 8 symmetries of a square on the first two axes: `move & 3` quarter turns, `& 4` mirrors."""
    turned = np.rot90(picture, move & 3)
    return turned[:, ::-1] if move & 4 else turned


class Places(NamedTuple):
    """Where the patches of a batch are: a picture's number, the LR patch's corner, and a move."""

    picture: Int[np.ndarray, "B"]
    top: Int[np.ndarray, "B"]
    left: Int[np.ndarray, "B"]
    move: Int[np.ndarray, "B"]


class Soften(NamedTuple):
    """Blur a `share` of the patches by a Gaussian of `low` to `high` HR pixels; see `soften`."""

    low: float
    high: float
    share: float


class PatchBatches(Dataset):
    """Batch number `step` of a run: LR and HR patches, `B 3 P P` and `B 3 SP SP`, uint8, cut from the map.
    With a teacher, its patches are the third tensor.

    A picture is chosen in proportion to the number of patches that it holds.

    Args:
        packed: the pictures.
        patch: P.
        batch: B, on each device.
        seed: of the run.
        rank: this device's number.
        world: how many devices there are.
        soften: blur some patches before LR is made from them; None blurs none.

    Raises:
        ValueError: if a picture is smaller than the patch.
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
    ):
        self.soften = soften
        self.packed, self.patch, self.batch, self.seed = packed, patch, batch, seed
        self.rank, self.world = rank, world
        self.rows, self.columns = (np.array(sides) - patch + 1 for sides in zip(*packed.shapes, strict=True))
        for name, rows, columns in zip(packed.names, self.rows, self.columns, strict=True):
            if min(rows, columns) < 1:
                raise ValueError(f"{name} is smaller than the LR patch of {patch} pixels at x{packed.scale}")
        areas = (self.rows * self.columns).astype(np.float64)
        self.cumulative = np.cumsum(areas) / areas.sum()

    def places(self, step: int) -> Places:
        """Where this device's patches of a step are."""
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
        """The blur of each of this device's patches, in HR pixels; 0 is none."""
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
            self._patch(*place, sigma=sigma)
            for place, sigma in zip(places, self.sigmas(step).tolist(), strict=True)
        ]
        sides = (np.stack(side).transpose(0, 3, 1, 2) for side in zip(*patches, strict=True))
        lr, *large = (torch.from_numpy(np.ascontiguousarray(side)) for side in sides)
        return lr, *large

    def _patch(self, picture: int, top: int, left: int, move: int, *, sigma: float) -> list[np.ndarray]:
        packed, size = self.packed, self.patch
        large = packed.large_pictures(picture)
        if sigma > 0:
            place = {"top": top, "left": left, "patch": size, "scale": packed.scale}
            sides = softened_patch(large, sigma=sigma, **place)
        else:
            sides = [packed.lr_picture(picture)[top : top + size, left : left + size]]
            top, left, size = (packed.scale * number for number in (top, left, size))
            sides += [side[top : top + size, left : left + size] for side in large]
        return [dihedral(side, move) for side in sides]


class ResidentPatches:
    """The batches of a `PatchBatches`, with all pictures on `device`: crops and moves are one gather there.

    It costs the memory of all pixels, 3 (1 + 1 / S^2) bytes for each of HR, 3 more with a teacher.
    """

    def __init__(self, patches: PatchBatches, device: torch.device):
        packed = patches.packed
        self.patches, self.device = patches, device
        self.starts = torch.tensor(packed.starts[: len(packed)], device=device)
        self.widths = torch.tensor([width for _, width in packed.shapes], device=device)
        # A copy first: the map is read-only, which tensors cannot be.
        self.sides = [
            (scale, torch.from_numpy(np.array(pixels)).to(device), self._grid(scale * patches.patch))
            for scale, pixels in ((1, packed.lr), *((packed.scale, side) for side in packed.large))
        ]

    def _grid(self, side: int) -> tuple[Tensor, Tensor]:
        """For each move, the row and the column that each pixel of a moved patch comes from."""
        place = np.moveaxis(np.indices((side, side)), 0, -1)
        moved = np.stack([dihedral(place, move) for move in range(8)])
        rows, columns = torch.from_numpy(moved).to(self.device).unbind(-1)
        return rows, columns

    def __getitem__(self, step: int) -> Batch:
        places = self.patches.places(step)
        picture, top, left, move = (torch.from_numpy(x).to(self.device, non_blocking=True) for x in places)
        lr, *large = (self._cut(*side, picture, top, left, move) for side in self.sides)
        return lr, *large

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
