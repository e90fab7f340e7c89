"""Pictures of exactly the size that was asked for: the smallest network that reaches it, then a resize.

The network does what a resize cannot, and the resize what a network cannot: any size. It is MATLAB's
antialiased bicubic (`image.resize.contributions`), with a factor of its own for each axis, and rounded once:
nobody compares with MATLAB here.

Letters:  H, W height and width   h, w those of the result   C channels
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8, UInt16

from enlca.checkpoint.catalog import bundled, locate
from enlca.checkpoint.store import CheckpointError, read_card
from enlca.image.files import Picture
from enlca.image.resize import contributions
from enlca.inference.upscaler import Upscaler

# Rows and columns of the result per product: the tables stay small and dense.
BLOCK = 64
SMALLER = "not larger than the picture was: resized without a network"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large pictures shall become: by a factor, or to one side or both in pixels.

    With one side the other one follows, so that the aspect stays; with both the aspect is as asked for.
    """

    scale: Fraction | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        if (self.scale is None) == (self.width is None and self.height is None):
            raise ValueError("a size is a scale, or else a width, a height or both")
        if min(value for value in (self.scale, self.width, self.height) if value is not None) <= 0:
            raise ValueError(f"sizes must be positive, got {self}")

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what becomes of a picture; halves are rounded to even, as `round` does."""
        if self.scale is not None:
            wide, high = round(self.scale * width), round(self.scale * height)
        else:
            wide = self.width or round(Fraction((self.height or 0) * width, height))
            high = self.height or round(Fraction((self.width or 0) * height, width))
        return max(wide, 1), max(high, 1)

    @property
    def name(self) -> str:
        """What the names of files say: x4, x3.5, w1920, h1080 or 1920x1080."""
        if self.scale is not None:
            return f"x{float(self.scale):g}"
        if self.width and self.height:
            return f"{self.width}x{self.height}"
        return f"w{self.width}" if self.width else f"h{self.height}"


def network_scales(model: str | os.PathLike, *, at_least: float | None = None) -> list[int]:
    """The scales that a model has networks for: a bundled name has one or more, a file has one.

    Raises:
        CheckpointError: there is no such model, or `at_least` is beyond all its scales.
    """
    scales = [item.scale for item in bundled() if item.name == os.fspath(model)]
    scales = sorted(scales) or [read_card(locate(model)).network.scale]
    if at_least is not None and at_least > scales[-1]:
        hint = "--width and --height go further, by a plain resize"
        raise CheckpointError(f"{model}: enlarges up to x{scales[-1]}, not x{at_least:g}; {hint}")
    return scales


def own_scale(scales: Sequence[int]) -> Fraction:
    """The scale of a model whose user names none: x4 where there is one."""
    return Fraction(4 if 4 in scales else scales[0])


@dataclass(frozen=True)
class Way:
    """How a picture gets its size: by the network of a scale (None: by none), then a resize if need be."""

    width: int
    height: int
    scale: int | None
    remark: str | None = None


class Sizer:
    """Enlarges pictures to a `Size`.

    Args:
        size: what is wished for.
        scales: what there are networks for.
        load: what enlarges by one of them; called once per scale that is used, when it is.
    """

    def __init__(
        self, size: Size, scales: Sequence[int], load: Callable[[int], Callable[[Picture], Picture]]
    ):
        self.size = size
        self.scales = sorted(scales)
        self.load = functools.cache(load)

    @classmethod
    def of(cls, upscaler: Upscaler) -> "Sizer":
        """What an upscaler does by itself."""
        return cls(Size(scale=Fraction(upscaler.scale)), [upscaler.scale], lambda scale: upscaler)

    def way(self, picture: Picture) -> Way:
        """How this picture will get its size."""
        height, width = picture.pixels.shape[:2]
        wide, high = self.size.of(width, height)
        if wide <= width and high <= height:
            return Way(wide, high, None, SMALLER)
        for scale in self.scales:
            if scale * width >= wide and scale * height >= high:
                return Way(wide, high, scale)
        largest = self.scales[-1]
        return Way(wide, high, largest, f"beyond x{largest}: the rest of the way is a plain resize")

    def __call__(self, picture: Picture) -> Picture:
        """The picture in its size."""
        way = self.way(picture)
        large = picture if way.scale is None else self.load(way.scale)(picture)
        if large.pixels.shape[:2] == (way.height, way.width):
            return large
        return resized(large, width=way.width, height=way.height)


def resized(picture: Picture, *, width: int, height: int) -> Picture:
    """A picture with both sides exact, its alpha too."""
    alpha = picture.alpha
    if alpha is not None:
        alpha = resize(alpha[..., None], width=width, height=height)[..., 0]
    return replace(picture, pixels=resize(picture.pixels, width=width, height=height), alpha=alpha)


def resize(
    pixels: UInt8[np.ndarray, "H W C"] | UInt16[np.ndarray, "H W C"], *, width: int, height: int
) -> UInt8[np.ndarray, "h w C"] | UInt16[np.ndarray, "h w C"]:
    """Bicubic, antialiased along each axis that shrinks; clipped and rounded to the type that came in."""
    rows, columns, channels = pixels.shape
    across = list(_tables(columns, width))
    out = np.empty((height, width, channels), dtype=pixels.dtype)
    for made, used, table in _tables(rows, height):
        # One strip of the result at a time: nothing as large as the picture is held in floating point.
        strip = table @ pixels[used].reshape(len(used), -1).astype(np.float64)
        strip = strip.reshape(-1, columns, channels).swapaxes(0, 1)
        for own, needed, weights in across:
            part = np.tensordot(weights, strip[needed], axes=1).swapaxes(0, 1)
            out[made, own] = (part.clip(0, np.iinfo(pixels.dtype).max) + 0.5).astype(pixels.dtype)
    return out


def _tables(size: int, target: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """For each block of outputs along an axis: which they are, the inputs they need, and the weights."""
    index, weight = contributions(size, Fraction(target, size))
    for start in range(0, target, BLOCK):
        block = slice(start, min(start + BLOCK, target))
        first, last = index[block].min(), index[block].max()
        table = np.zeros((len(index[block]), last - first + 1))
        np.put_along_axis(table, index[block] - first, weight[block], axis=1)
        # Beyond the edges the picture is mirrored, the edge pixel repeated: c b a | a b c | c b a.
        inputs = np.arange(first, last + 1) % (2 * size)
        yield block, np.where(inputs < size, inputs, 2 * size - 1 - inputs), table
