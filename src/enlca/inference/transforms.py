"""Ways to apply a network to an image: over its 8 symmetries, or in overlapping quadrants.

Letters:  B batch   H, W height and width   S scale
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Forward = Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B 3 SH SW"]]

# Of the released code's quadrants: overlap beyond the half, and pixels from which one is chopped again.
SHAVE = 10
LARGEST = 120_000


def dihedral(picture: Float[Tensor, "B 3 H W"], index: int) -> Float[Tensor, "B 3 h w"]:
    """Apply symmetry `index` of the square: mirror if `index & 4`, then `index & 3` quarter turns."""
    return torch.rot90(picture.flip(-1) if index & 4 else picture, index & 3, dims=(-2, -1))


def undo_dihedral(picture: Float[Tensor, "B 3 H W"], index: int) -> Float[Tensor, "B 3 h w"]:
    """Apply the inverse of `dihedral`."""
    upright = torch.rot90(picture, -(index & 3), dims=(-2, -1))
    return upright.flip(-1) if index & 4 else upright


def self_ensemble(forward: Forward) -> Forward:
    """Average `forward` over the 8 dihedral views, before any rounding.  (Timofte et al. 2016, EDSR's "+")

    8 times the work.
    """

    def run(lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        total = sum(undo_dihedral(forward(dihedral(lr, index)), index) for index in range(8))
        return torch.as_tensor(total) / 8

    return run


def quadrant(height: int, width: int) -> tuple[int, int]:
    """Return height and width of each quadrant: half plus 10, up to the next multiple of 4 and 8.

    A full step is added also where it already divides, as in the released code.
    NOTE(released): on pictures too small for that their slices wrap around; ours end at the picture.
    """
    tall, wide = height // 2 + SHAVE, width // 2 + SHAVE
    return min(tall + 4 - tall % 4, height), min(wide + 8 - wide % 8, width)


def chopped(forward: Forward, *, scale: int) -> Forward:
    """Apply `forward` to 4 overlapping quadrants: the released code's `--chop`.

    Quadrants are chopped again until one has under 120,000 pixels; the output is not blended. It changes
    results, since attention never sees the whole; kept to compare with numbers that were made this way.
    """

    def run(lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        height, width = lr.shape[-2:]
        tall, wide = quadrant(height, width)
        step = forward if tall * wide < LARGEST else run
        sr = lr.new_empty(len(lr), 3, scale * height, scale * width)
        # Along each axis: where the quadrant starts, and which part of the output it owns.
        rows = ((0, 0, height // 2), (height - tall, height // 2, height))
        columns = ((0, 0, width // 2), (width - wide, width // 2, width))
        for top, first_row, last_row in rows:
            for left, first_column, last_column in columns:
                part = step(lr[..., top : top + tall, left : left + wide])
                own_rows = slice(scale * (first_row - top), scale * (last_row - top))
                own_columns = slice(scale * (first_column - left), scale * (last_column - left))
                sr[
                    ...,
                    scale * first_row : scale * last_row,
                    scale * first_column : scale * last_column,
                ] = part[..., own_rows, own_columns]
        return sr

    return run
