"""Parts of a picture: rectangles in whole pixels with their halos, and the bilinear upscaling of a part.

Tiles cover a picture exactly once. A convolution over a tile needs a *halo* of neighbours, which is cropped
afterwards. The halo ends where the picture ends: there the tile's border is the picture's border, and the
zero padding of a convolution is that of the whole picture.

The bilinear upscaling of a part has the rounding errors of upscaling the whole picture. PyTorch computes the
position of an SR pixel, (x + 1/2) / S - 1/2, in float32. At S = 3 and x = 60,000 the position
is wrong by 1e-3 pixels, and the result by 1e-3 of the contrast there. A tile that counts from its own
corner is more exact, and therefore not equal. So the weights are taken from PyTorch itself, for a row and a
column of the whole picture: each SR pixel is a mean of its nearest LR pixel and the two beside it, which
differ modulo 3, so upscaling an indicator of each class modulo 3 gives the weights.

Letters:  X the leading axes of an array   H, W its height and width   h, w those of a part of it   S scale
         L length of a row or column of the LR picture, SL of the SR picture
         n length of a part of the LR picture   l that part upscaled   Y the last axis
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import interpolate, one_hot


class Region(NamedTuple):
    """The pixels of rows top to bottom - 1 and columns left to right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    def grown(self, halo: int, whole: "Region") -> "Region":
        """Return the region with `halo` more pixels on each side, within `whole`."""
        return Region(
            max(self.top - halo, whole.top),
            max(self.left - halo, whole.left),
            min(self.bottom + halo, whole.bottom),
            min(self.right + halo, whole.right),
        )

    def aligned(self, step: int, whole: "Region") -> "Region":
        """Return the region with sides moved outwards to multiples of `step`, within `whole`."""
        return Region(
            self.top - self.top % step,
            self.left - self.left % step,
            min(self.bottom + -self.bottom % step, whole.bottom),
            min(self.right + -self.right % step, whole.right),
        )

    def times(self, scale: int) -> "Region":
        """Return the same part of the picture upscaled by `scale`."""
        return Region(*(scale * side for side in self))

    def seen_from(self, outer: "Region") -> "Region":
        """Return the same part, counted from the upper left corner of `outer`."""
        return Region(
            self.top - outer.top, self.left - outer.left, self.bottom - outer.top, self.right - outer.left
        )

    def inside(self, outer: "Region") -> tuple[slice, slice]:
        """Return where this lies in an array of the pixels of `outer`."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


def cut(region: Region, height: int, width: int) -> list[Region]:
    """Return tiles of `height` x `width` that cover `region` once, row by row; the last ones may be smaller.

    Raises:
        ValueError: if `height` or `width` is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"tiles must be at least 1 x 1, got {height} x {width}")
    return [
        Region(top, left, min(top + height, region.bottom), min(left + width, region.right))
        for top in range(region.top, region.bottom, height)
        for left in range(region.left, region.right, width)
    ]


def crop(held: Shaped[Tensor, "*X H W"], region: Region, outer: Region) -> Shaped[Tensor, "*X h w"]:
    """Return the part at `region` of a tensor of the pixels of `outer`; no copy."""
    return held[(..., *region.inside(outer))]


def tap_weights(length: int, scale: int, *, like: Tensor) -> Float[Tensor, "3 SL"]:
    """Return the weights of the neighbours with index 0, 1 and 2 modulo 3, for each SR pixel of a row."""
    classes = one_hot(torch.arange(length, device=like.device) % 3, 3).to(like.dtype)
    row = classes.mT[None, :, None]
    upscaled = interpolate(row, scale_factor=(1.0, float(scale)), mode="bilinear", align_corners=False)
    return upscaled[0, :, 0]


def upscale_axis(
    part: Float[Tensor, "*X n Y"],
    weights: Float[Tensor, "3 SL"],
    *,
    scale: int,
    owned: tuple[int, int],
    held: tuple[int, int],
) -> Float[Tensor, "*X l Y"]:
    """Upscale the last axis but one: `part` has the pixels `held`, the result those of `owned`.

    Both are first and last + 1; `held` is one pixel wider on each side, except at the picture's border.
    """
    sr = torch.arange(scale * owned[0], scale * owned[1], device=part.device)
    nearest = sr // scale
    taps = (nearest + step for step in (-1, 0, 1))
    first, *others = (
        (part.index_select(-2, tap.clamp(held[0], held[1] - 1) - held[0]), weights[tap % 3, sr, None])
        for tap in taps
    )
    total = first[0].mul_(first[1])
    for pixels, weight in others:
        total.addcmul_(pixels, weight)
    return total
