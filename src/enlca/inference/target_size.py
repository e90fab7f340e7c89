"""Pictures of exactly the size that was asked for: the smallest network that reaches it, then a plain resize.

The resize is MATLAB's antialiased bicubic (`image.resize.weight_tables`), row by row, with a factor of its
own for each axis and rounded once: here no exact agreement with MATLAB is needed. Colours are weighted by
alpha, so that transparent ones do not bleed into visible ones.

Letters:  w width of the result   L layers: channels, then alpha
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from enlca.checkpoint.store import bundled, scale_of
from enlca.errors import CheckpointError
from enlca.image.resize import weight_tables
from enlca.image.rows import PictureRows, band_height
from enlca.network.interface import SRModel

NOT_LARGER = "not larger than the picture was: resized without a network"
# Rows and columns of the result per product: the tables stay small and dense.
BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of the results: a factor, one or both sides in pixels, the shorter one, or at least a box.

    With both sides the aspect ratio is as given, else it is kept. `at_least` is the smallest size that covers
    a width and a height; a picture that does is not shrunk.

    Raises:
        ValueError: no size, two kinds of size, or one that is not positive.
    """

    scale: Fraction | None = None
    width: int | None = None
    height: int | None = None
    shorter: int | None = None
    at_least: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check that exactly one kind of size is given."""
        kinds = (self.scale, self.width or self.height, self.shorter, self.at_least)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("a size is a scale, or else a width, a height or both, or one of the others")
        numbers = (self.scale, self.width, self.height, self.shorter, *(self.at_least or ()))
        if min(value for value in numbers if value is not None) <= 0:
            raise ValueError(f"sizes must be positive, got {self}")

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the result; halves are rounded to even, as `round` does."""
        factor = self.scale
        if self.shorter is not None:
            factor = Fraction(self.shorter, min(width, height))
        elif self.at_least is not None:
            factor = max(Fraction(1), *map(Fraction, self.at_least, (width, height)))
        if factor is not None:
            wide, high = round(factor * width), round(factor * height)
        else:
            wide = self.width or round(Fraction((self.height or 0) * width, height))
            high = self.height or round(Fraction((self.width or 0) * height, width))
        return max(wide, 1), max(high, 1)

    @property
    def name(self) -> str:
        """The size as part of a file name: x4, x3.5, w1920, h1080, 1920x1080, s1080 or min1920x1080."""
        if self.scale is not None:
            return f"x{float(self.scale):g}"
        if self.shorter is not None:
            return f"s{self.shorter}"
        if self.at_least is not None:
            return f"min{self.at_least[0]}x{self.at_least[1]}"
        if self.width and self.height:
            return f"{self.width}x{self.height}"
        return f"w{self.width}" if self.width else f"h{self.height}"


def network_scales(
    model: str | os.PathLike[str], *, at_least: float | None = None
) -> tuple[list[int], str | os.PathLike[str] | SRModel]:
    """Return the scales of a model, and what `Upscaler` takes for it.

    A bundled name has one scale or more, a file has one. A file whose scale is known by its tensors alone is
    loaded here, and what is returned for it is the model.

    Raises:
        CheckpointError: unknown model, or `at_least` is beyond all its scales.
    """
    scales, loaded = sorted(item.scale for item in bundled() if item.name == os.fspath(model)), None
    if not scales:
        scale, loaded = scale_of(model)
        scales = [scale]
    if at_least is not None and at_least > scales[-1]:
        hint = "--width and --height go further, by a plain resize"
        raise CheckpointError(f"{model}: upscales up to x{scales[-1]}, not x{at_least:g}; {hint}")
    return scales, loaded or model


def default_scale(scales: Sequence[int]) -> Fraction:
    """Return the scale to use by default: x4 if there is one."""
    return Fraction(4 if 4 in scales else scales[0])


@dataclass(frozen=True)
class ResizePlan:
    """The size of a result, the scale of its network (None: none) and a remark; a resize does the rest."""

    width: int
    height: int
    scale: int | None
    remark: str | None = None


def plan_resize(size: Size, scales: Sequence[int], width: int, height: int) -> ResizePlan:
    """Choose the network for a picture of `width` x `height`: the smallest scale that reaches `size`."""
    wide, high = size.of(width, height)
    if wide <= width and high <= height:
        return ResizePlan(wide, high, None, NOT_LARGER)
    for scale in sorted(scales):
        if scale * width >= wide and scale * height >= high:
            return ResizePlan(wide, high, scale)
    largest = max(scales)
    return ResizePlan(wide, high, largest, f"beyond x{largest}: the rest of the way is a plain resize")


def upscale_to(
    picture: PictureRows, plan: ResizePlan, load: Callable[[int], Callable[..., PictureRows]], **settings: Any
) -> PictureRows:
    """Return a picture, or all its pages, in the size of its plan, as rows that are computed on demand.

    Args:
        picture: what to upscale.
        plan: of `plan_resize`.
        load: returns `Upscaler.rows` for a scale; it is called only if a network is needed.
        settings: further arguments of `Upscaler.rows`, whose errors are raised here, too.
    """
    made = replace(picture, upscaled=True) if plan.scale is None else load(plan.scale)(picture, **settings)
    if made.size == (plan.width, plan.height):
        return made
    return resized(made, width=plan.width, height=plan.height)


def resized(picture: PictureRows, *, width: int, height: int) -> PictureRows:
    """Return a picture, or all its pages, resized to exactly `width` x `height`."""

    def bands() -> Iterator[np.ndarray]:
        rows = RowReader(picture.bands)
        for _ in range(picture.pages):
            yield from resize(rows, picture.size, (width, height), layers=picture.layers, kind=picture.dtype)

    return replace(picture, width=width, height=height, bands=bands())


class RowReader:
    """Read rows from bands of any height."""

    def __init__(self, bands: Iterable[np.ndarray]):
        self.bands = iter(bands)
        self.rest = np.empty((0, 0, 0))

    def take(self, n_rows: int) -> Shaped[np.ndarray, "_ _ L"]:
        """Return the next `n_rows` rows, which must exist."""
        taken = [self.rest] if len(self.rest) else []
        while sum(map(len, taken)) < n_rows:
            taken.append(next(self.bands))
        together = taken[0] if len(taken) == 1 else np.concatenate(taken)
        self.rest = together[n_rows:]
        return together[:n_rows]


def resize(
    rows: RowReader, size: tuple[int, int], target: tuple[int, int], *, layers: int, kind: np.dtype
) -> Iterator[Shaped[np.ndarray, "_ w L"]]:
    """Resize one picture; yield some rows at a time, clipped, integers rounded. Sizes are width and height.

    Rows are resized as they are read. Only those that the next ones are made of are in memory, at their new
    width: `resize_bytes`.
    """
    (columns, n_rows), (width, height) = size, target
    peak = 1 if kind.kind == "f" else np.iinfo(kind).max
    across, down = _tables(columns, width), _tables(n_rows, height)
    # The first row that is still needed from each block on.
    needed_from = list(accumulate((int(used.min()) for _, used, _ in reversed(down)), min))[::-1]
    window, first = np.empty((0, width, layers)), 0
    for (made, used, table), start in zip(down, needed_from, strict=True):
        window, first = window[start - first :], start
        if missing := max(0, int(used.max()) + 1 - first - len(window)):
            parts = _parts(missing, columns * layers)
            window = np.concatenate([window, *(_resize_across(rows.take(n), across, peak) for n in parts)])
        out = table @ window[used - first].reshape(len(used), -1)
        straight = _straight(out.reshape(made.stop - made.start, width, layers), peak)
        # Integers are truncated.
        yield (straight if kind.kind == "f" else straight + 0.5).astype(kind)
    # Skip to the first row of the next page.
    if left := n_rows - first - len(window):
        rows.take(left)


def resize_bytes(size: tuple[int, int], target: tuple[int, int], *, layers: int) -> int:
    """Return the bytes that `resize` takes, in float64. Sizes are width and height."""
    (columns, n_rows), (width, height) = size, target
    # Of both axes: the inputs of an output by their positions, indices and weights, and the tables of blocks.
    tables = sum(
        made * (_inputs(old, made) + 4 * _taps(old, made))
        for old, made in ((columns, width), (n_rows, height))
    )
    part = 4 * columns * _parts(n_rows, columns * layers)[0]
    # The window, before and after it is joined, and its rows in the order of the table.
    rows = 3 * _inputs(n_rows, height) + 3 * BLOCK
    return 8 * (tables + layers * (part + rows * width))


def _taps(size: int, target: int) -> int:
    return ceil(4 * max(1, size / target)) + 2


def _inputs(size: int, target: int) -> int:
    """Return how many inputs a block of outputs has."""
    return ceil(_block(size, target) * size / target) + _taps(size, target)


def _parts(n_rows: int, row_values: int) -> list[int]:
    """Split rows into parts that are low enough to be in memory as float64."""
    step = band_height(8 * row_values)
    return [min(step, n_rows - top) for top in range(0, n_rows, step)]


def _resize_across(
    rows: Shaped[np.ndarray, "h _ L"], across: list[tuple[slice, np.ndarray, np.ndarray]], peak: int
) -> Float64[np.ndarray, "h w L"]:
    """Return rows at their new width, their colours multiplied by alpha."""
    columns = _weighted(rows, peak).swapaxes(0, 1)
    out = np.empty((len(rows), across[-1][0].stop, rows.shape[2]))
    for own, needed, weights in across:
        out[:, own] = np.tensordot(weights, columns[needed], axes=1).swapaxes(0, 1)
    return out


def _weighted(rows: Shaped[np.ndarray, "_ _ L"], peak: int) -> Float64[np.ndarray, "_ _ L"]:
    """Multiply colours by alpha, if there is any."""
    values = rows.astype(np.float64)
    if values.shape[2] in (2, 4):
        values[:, :, :-1] *= values[:, :, -1:] / peak
    return values


def _straight(values: Float64[np.ndarray, "_ _ L"], peak: int) -> Float64[np.ndarray, "_ _ L"]:
    """Divide colours by alpha where there is some; clip to levels.

    By alpha before rounding: where it overshoots, colours do so as much.
    """
    least = 0.5 * min(1.0, peak / 255)
    if values.shape[2] in (2, 4):
        alpha = values[:, :, -1:]
        colours = np.where(alpha >= least, values[:, :, :-1] * (peak / np.maximum(alpha, least)), 0)
        values = np.concatenate([colours, alpha], axis=2)
    return values.clip(0, peak)


def _tables(size: int, target: int) -> list[tuple[slice, np.ndarray, np.ndarray]]:
    return list(weight_tables(size, Fraction(target, size), block=_block(size, target)))


def _block(size: int, target: int) -> int:
    """Return how many outputs a table has: fewer where one of them needs many inputs."""
    return max(1, min(BLOCK, BLOCK * target // size))
