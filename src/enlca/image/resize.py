"""Bicubic resizing, of uint8 pictures equal to the bit to MATLAB's `imresize(picture, scale, 'bicubic')`.

All benchmarks of super-resolution made their LR pictures with that function, so a network is measured against
its exact arithmetic. When downscaling, the cubic is stretched by 1/scale (antialiasing), and the result is
rounded and clipped to uint8 after *each* axis, rows first. Float implementations miss the latter. Float64
pictures are neither rounded nor clipped: so MATLAB treats `double`.

For speed, outputs are computed in short blocks. The inputs of a block are neighbours, too, so its weights
form a small dense table, and resizing is a product of that table with a strip of the picture. The order of
additions does not matter: at the scales 1/2, 1/4, 2, 4 each weight is a dyadic fraction and sums are exact,
and at 1/3 and 3 the weights are multiples of 1/81 or 1/27, whose sums never end in one half.

Letters:  H height   W width   C channels   N outputs along an axis   P inputs that touch one output
         O outputs of a block   I inputs of a block
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8

KERNEL_WIDTH = 4.0
# Outputs per table, and bytes of picture per product, so that strips stay in the processor's cache.
BLOCK = 16
STRIP_BYTES = 1 << 20


def cubic(x: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """Return Keys' cubic with a = -0.5 at distance `x` in pixels; zero from 2 on. (Keys 1981, Eq. 15)"""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))


def contributions(size: int, scale: Fraction) -> tuple[Int[np.ndarray, "N P"], Float[np.ndarray, "N P"]]:
    """Return the inputs of each output along an axis of `size` pixels, and their weights.

    Indices count from 0 and may lie outside [0, size): the caller mirrors them. Weights of a row sum to 1.
    The arithmetic is that of `contributions` in MATLAB's imresize.m, with its 1-based positions.
    """
    n_outputs = -((-size * scale.numerator) // scale.denominator)
    factor = float(scale)
    stretch = min(factor, 1.0)
    width = KERNEL_WIDTH / stretch
    centre = np.arange(1, n_outputs + 1) / factor + 0.5 * (1.0 - 1.0 / factor)
    left = np.floor(centre - width / 2)
    index = left[:, None] + np.arange(int(np.ceil(width)) + 2)
    weight = stretch * cubic(stretch * (centre[:, None] - index))
    weight /= weight.sum(axis=1, keepdims=True)
    return index.astype(np.int64) - 1, weight


def weight_tables(
    size: int, scale: Fraction, *, block: int
) -> Iterator[tuple[slice, Int[np.ndarray, "I"], Float[np.ndarray, "O I"]]]:
    """Yield blocks of `block` outputs along an axis, the inputs that they need, and the weights.

    Inputs beyond the edges are mirrored, the edge pixel repeated: c b a | a b c | c b a.
    """
    index, weight = contributions(size, scale)
    for start in range(0, len(index), block):
        outputs = slice(start, min(start + block, len(index)))
        first, last = index[outputs].min(), index[outputs].max()
        table = np.zeros((len(index[outputs]), last - first + 1))
        np.put_along_axis(table, index[outputs] - first, weight[outputs], axis=1)
        inputs = np.arange(first, last + 1) % (2 * size)
        yield outputs, np.where(inputs < size, inputs, 2 * size - 1 - inputs), table


def imresize(
    pixels: UInt8[np.ndarray, "H W *C"] | Float64[np.ndarray, "H W *C"],
    scale: Fraction,
    *,
    block: int = BLOCK,
    strip_bytes: int = STRIP_BYTES,
) -> UInt8[np.ndarray, "h w *C"] | Float64[np.ndarray, "h w *C"]:
    """Resize both axes by `scale`, as MATLAB's `imresize(pixels, scale, 'bicubic')` does.

    A side of n pixels becomes ceil(n * scale) pixels. `block` (outputs) and `strip_bytes` affect speed only.

    Raises:
        ValueError: `scale` is not positive, or the picture has no pixels.
    """
    if scale <= 0:
        raise ValueError(f"scale must be positive, got {scale}")
    if pixels.size == 0:
        raise ValueError(f"cannot resize a picture without pixels, got shape {pixels.shape}")
    rows_done = _resize_rows(pixels, scale, block, strip_bytes)
    both = _resize_rows(rows_done.swapaxes(0, 1), scale, block, strip_bytes)
    return np.ascontiguousarray(both.swapaxes(0, 1))


def mod_crop(pixels: UInt8[np.ndarray, "H W *C"], scale: int) -> UInt8[np.ndarray, "h w *C"]:
    """Drop the last rows and columns so that both sides are multiples of `scale`, as benchmarks crop HR.

    Raises:
        ValueError: `scale` is below 1, or a side is shorter than `scale`, so that nothing would be left.
    """
    height, width = pixels.shape[:2]
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    if min(height, width) < scale:
        raise ValueError(f"a picture of {width}x{height} pixels is smaller than the scale {scale}")
    return pixels[: height - height % scale, : width - width % scale]


def _resize_rows(pixels: np.ndarray, scale: Fraction, block: int, strip_bytes: int) -> np.ndarray:
    """Resize axis 0; uint8 is rounded."""
    size = pixels.shape[0]
    flat = np.ascontiguousarray(pixels).reshape(size, -1)
    tables = list(weight_tables(size, scale, block=block))
    out = np.empty((tables[-1][0].stop, flat.shape[1]), dtype=pixels.dtype)
    for rows, inputs, table in tables:
        columns = max(1, strip_bytes // (8 * len(inputs)))
        for column in range(0, flat.shape[1], columns):
            strip = flat[inputs, column : column + columns]
            values = table @ strip.astype(np.float64)
            out[rows, column : column + columns] = to_uint8(values) if out.dtype == np.uint8 else values
    return out.reshape(-1, *pixels.shape[1:])


def to_uint8(values: Float64[np.ndarray, "*S"]) -> UInt8[np.ndarray, "*S"]:
    """Clip `values` in place, then round halves up: for values that are not negative, MATLAB's rounding."""
    np.clip(values, 0.0, 255.0, out=values)
    values += 0.5
    return values.astype(np.uint8)
