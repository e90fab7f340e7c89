"""A plain resize, row by row: MATLAB's antialiased bicubic (`image.resize.contributions`).

With a factor of its own for each axis, and rounded once: nobody compares with MATLAB here. Colours are
weighted by their alpha, so that what is transparent does not bleed into what is not.

Letters:  w width of the result   L layers: channels, then alpha
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

import numpy as np
from jaxtyping import Float64, Shaped, UInt8, UInt16

from enlca.image.resize import contributions
from enlca.image.rows import PictureRows

# Rows and columns of the result per product: the tables stay small and dense.
BLOCK = 64


def resized(picture: PictureRows, *, width: int, height: int) -> PictureRows:
    """A picture, or all its pages, with both sides exact."""

    def bands() -> Iterator[np.ndarray]:
        rows = Rows(picture.bands)
        for _ in range(picture.pages):
            yield from resize(rows, picture.size, (width, height), layers=picture.layers, kind=picture.dtype)

    return replace(picture, width=width, height=height, bands=bands())


class Rows:
    """Takes bands as they come and gives as many rows as are wanted."""

    def __init__(self, bands: Iterable[np.ndarray]):
        self.bands = iter(bands)
        self.rest = np.empty((0, 0, 0))

    def take(self, n_rows: int) -> Shaped[np.ndarray, "_ _ L"]:
        """The next rows, at least one. There are as many."""
        taken = [self.rest] if len(self.rest) else []
        while sum(map(len, taken)) < n_rows:
            taken.append(next(self.bands))
        together = taken[0] if len(taken) == 1 else np.concatenate(taken)
        self.rest = together[n_rows:]
        return together[:n_rows]


def resize(
    rows: Rows, size: tuple[int, int], target: tuple[int, int], *, layers: int, kind: np.dtype
) -> Iterator[UInt8[np.ndarray, "_ w L"] | UInt16[np.ndarray, "_ w L"]]:
    """Some rows at a time of one picture, clipped and rounded to `kind`; sizes are width and height.

    Of the picture those rows are held that the next ones are made of.
    """
    (columns, n_rows), (width, height) = size, target
    peak = np.iinfo(kind).max
    across, down = list(_tables(columns, width)), list(_tables(n_rows, height))
    # The first row that is still needed from each block on.
    needed_from = list(accumulate((int(used.min()) for _, used, _ in reversed(down)), min))[::-1]
    window, first = np.empty((0, columns, layers), kind), 0
    for (made, used, table), start in zip(down, needed_from, strict=True):
        window, first = window[start - first :], start
        if missing := max(0, int(used.max()) + 1 - first - len(window)):
            window = np.concatenate([window, rows.take(missing)])
        strip = table @ _weighted(window[used - first], peak).reshape(len(used), -1)
        strip = strip.reshape(-1, columns, layers).swapaxes(0, 1)
        out = np.empty((made.stop - made.start, width, layers), dtype=kind)
        for own, needed, weights in across:
            part = np.tensordot(weights, strip[needed], axes=1).swapaxes(0, 1)
            out[:, own] = _straight(part, peak).astype(kind)
        yield out
    # So that another page begins where it begins.
    if left := n_rows - first - len(window):
        rows.take(left)


def _weighted(rows: Shaped[np.ndarray, "_ _ L"], peak: int) -> Float64[np.ndarray, "_ _ L"]:
    """Colours times alpha, if there is any."""
    values = rows.astype(np.float64)
    if values.shape[2] in (2, 4):
        values[:, :, :-1] *= values[:, :, -1:] / peak
    return values


def _straight(values: Float64[np.ndarray, "_ _ L"], peak: int) -> Float64[np.ndarray, "_ _ L"]:
    """Levels, ready to be cut to whole numbers; colours are divided by alpha where any is left.

    By alpha as it is, not as it is stored: where it overshoots, colours do so as much.
    """
    if values.shape[2] in (2, 4):
        alpha = values[:, :, -1:]
        colours = np.where(alpha >= 0.5, values[:, :, :-1] * (peak / np.maximum(alpha, 0.5)), 0)
        values = np.concatenate([colours, alpha], axis=2)
    return values.clip(0, peak) + 0.5


def _tables(size: int, target: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """For each block of outputs along an axis: which they are, the inputs they need, and the weights."""
    index, weight = contributions(size, Fraction(target, size))
    # Where many inputs make one output, fewer outputs at a time.
    step = max(1, min(BLOCK, BLOCK * target // size))
    for start in range(0, target, step):
        block = slice(start, min(start + step, target))
        first, last = index[block].min(), index[block].max()
        table = np.zeros((len(index[block]), last - first + 1))
        np.put_along_axis(table, index[block] - first, weight[block], axis=1)
        # Beyond the edges the picture is mirrored, the edge pixel repeated: c b a | a b c | c b a.
        inputs = np.arange(first, last + 1) % (2 * size)
        yield block, np.where(inputs < size, inputs, 2 * size - 1 - inputs), table
