"""Rectangles of a picture, in whole pixels: which tile owns what, and what it must see around itself.

Tiles cover a picture exactly once. A convolution over a tile needs a *halo* of neighbours, which is thrown
away afterwards. The halo ends where the picture ends: there the tile's border is the picture's border, and
the zeros that a convolution puts beyond it are the very zeros that it puts around the whole picture.

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
        """`halo` more pixels on each side, as far as there are any in `whole`."""
        return Region(
            max(self.top - halo, whole.top),
            max(self.left - halo, whole.left),
            min(self.bottom + halo, whole.bottom),
            min(self.right + halo, whole.right),
        )

    def times(self, scale: int) -> "Region":
        """The same part of the picture that is `scale` times larger."""
        return Region(*(scale * side for side in self))

    def inside(self, outer: "Region") -> tuple[slice, slice]:
        """Where this lies in an array that holds `outer`."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


def cut(region: Region, height: int, width: int) -> list[Region]:
    """Tiles of `height` x `width` that cover `region` once, row by row; the last ones may be smaller.

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
    """The part at `region` of a tensor that holds `outer`; no copy."""
    return held[(..., *region.inside(outer))]
