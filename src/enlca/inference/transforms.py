"""Several passes of a network for one picture, and their combination: alpha, symmetries, quadrants.

Transparency: two composites go through the network, over black and over white. Their difference is how much
background shows, one minus alpha; the rest is colour times alpha. So both composites of the result are, by
construction, the upscaled composites: no fringes, and a colour under full transparency never counts.

Letters:  B batch   H, W height and width   h, w those of a part   S scale   L layers: channels, then alpha
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Shaped
from torch import Tensor

from enlca.inference.pixel_source import Pixels, as_channels, peak_of, to_levels
from enlca.inference.tiles import Region

Forward = Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B 3 SH SW"]]
Part = Float32[np.ndarray, "h w 3"]

# Of the released code's quadrants: overlap beyond the half, and pixels from which one is chopped again.
SHAVE = 10
LARGEST = 120_000


def merged(
    over_black: Part, over_white: Part, picture: Pixels, region: Region, *, scale: int
) -> Shaped[np.ndarray, "h w L"]:
    """Return the SR part at `region` with straight alpha, in the levels of `picture`."""
    kind, peak = np.dtype(picture.dtype), peak_of(picture.dtype)
    # Values outside [0, 1] are not shown and must not count as a difference.
    over_black, over_white = (as_channels(over.clip(0, 1), picture) for over in (over_black, over_white))
    cover = 1 - (over_white - over_black).mean(axis=2, keepdims=True)
    cover[_far_inside(picture, region, peak, scale)] = 1
    cover[_far_inside(picture, region, 0, scale)] = 0
    # Alpha as it will be stored, so that composites fit it and not the one before rounding.
    alpha = to_levels(cover, kind)
    cover = alpha.astype(np.float32) / np.float32(peak)
    colour = (over_black + over_white - (1 - cover)) / 2
    colour = np.where(alpha > 0, colour / np.maximum(cover, np.float32(1 / 65535)), np.float32(0))
    return np.concatenate([to_levels(colour, kind), alpha], axis=2)


def _far_inside(picture: Pixels, region: Region, level: int, scale: int) -> Bool[np.ndarray, "h w"]:
    """Return where alpha is `level` in a pixel and all 8 around it, on the SR grid.

    Far from edges alpha is known: the network, whose attention sees the whole picture, must not blur it.
    """
    wide = region.grown(1, Region(0, 0, *picture.shape[:2]))
    here = picture[wide.top : wide.bottom, wide.left : wide.right][:, :, -1] == level
    # Beyond its edges the picture goes on as it is.
    beyond = (
        (1 - (region.top - wide.top), 1 - (wide.bottom - region.bottom)),
        (1 - (region.left - wide.left), 1 - (wide.right - region.right)),
    )
    padded = np.pad(here, beyond, mode="edge")
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    inner = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return inner.repeat(scale, axis=0).repeat(scale, axis=1)


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

    return partial(_mean_of_views, forward)


def _mean_of_views(forward: Forward, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
    total = sum(undo_dihedral(forward(dihedral(lr, index)), index) for index in range(8))
    return torch.as_tensor(total) / 8


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
