"""Parts of a picture: rectangles in whole pixels with their halos.

Tiles cover a picture exactly once. A convolution over a tile needs a *halo* of neighbours, which is cropped
afterwards. The halo ends where the picture ends: there the tile's border is the picture's border, and the
zero padding of a convolution is that of the whole picture.

Letters:  X the leading axes of an array   H, W its height and width   h, w those of a part of it
"""

from typing import NamedTuple

from jaxtyping import Shaped
from torch import Tensor


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
