"""Pictures of exactly the size that was asked for: the smallest network that reaches it, then a resize.

The network does what a resize cannot, and the resize what a network cannot: any size.
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

from enlca.checkpoint.catalog import bundled, locate
from enlca.checkpoint.store import read_card
from enlca.errors import CheckpointError
from enlca.image.rows import PictureRows
from enlca.inference.raster import held
from enlca.inference.resizing import resized
from enlca.inference.upscaler import Note, Report, Upscaler, ignore, warn

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


@runtime_checkable
class Load(Protocol):
    """What enlarges: `Upscaler.rows`."""

    def __call__(  # noqa: D102
        self, picture: PictureRows, *, reserve: int, report: Report, note: Note
    ) -> PictureRows: ...


class Sizer:
    """Enlarges pictures to a `Size`.

    Args:
        size: what is wished for.
        scales: what there are networks for.
        load: what enlarges by one of them; called once per scale that is used, when it is.
    """

    def __init__(self, size: Size, scales: Sequence[int], load: Callable[[int], Load]):
        self.size = size
        self.scales = sorted(scales)
        self.load = functools.cache(load)

    @classmethod
    def of(cls, upscaler: Upscaler) -> "Sizer":
        """What an upscaler does by itself."""
        return cls(Size(scale=Fraction(upscaler.scale)), [upscaler.scale], lambda scale: upscaler.rows)

    def way(self, width: int, height: int) -> Way:
        """How a picture of this size will get its size."""
        wide, high = self.size.of(width, height)
        if wide <= width and high <= height:
            return Way(wide, high, None, SMALLER)
        for scale in self.scales:
            if scale * width >= wide and scale * height >= high:
                return Way(wide, high, scale)
        largest = self.scales[-1]
        return Way(wide, high, largest, f"beyond x{largest}: the rest of the way is a plain resize")

    def __call__(
        self, picture: PictureRows, *, reserve: int = 0, report: Report = ignore, note: Note = warn
    ) -> PictureRows:
        """The picture in its size; rows are computed when they are asked for. All as in `Upscaler.rows`."""
        way = self.way(*picture.size)
        if way.scale is None:
            large = held(picture)
        else:
            large = self.load(way.scale)(picture, reserve=reserve, report=report, note=note)
        if large.size == (way.width, way.height):
            return large
        return resized(large, width=way.width, height=way.height)
