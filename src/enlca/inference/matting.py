"""Enlarging a picture with transparency, without fringes and without a trace of hidden colours.

What one sees of it is the picture over some background, so that is what goes through the network: the
composite over black and the composite over white. Their difference is how much background shows, which is
one minus alpha; what is not background is colour times alpha. So both composites of the result are, by
construction, the enlargements of the composites, and a colour under full transparency never counts.

Letters:  H, W height and width   S scale   C channels: 1 or 3
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

Layers = Shaped[np.ndarray, "_ _ C"]
Layer = Shaped[np.ndarray, "_ _"]
# Rows of the result that are computed at once: what lies between takes four bytes per value.
ROWS = 64


def peak_of(values: np.ndarray) -> int:
    """What white is in an array of this type: 255, 65535, or 1 for floats."""
    return 1 if values.dtype.kind == "f" else int(np.iinfo(values.dtype).max)


def enlarge_with_alpha(
    enlarge: Callable[[Layers], Layers], pixels: Layers, alpha: Layer, *, scale: int
) -> tuple[Layers, Layer]:
    """Straight colours (H W C) and alpha (H W) of one type to those of the large picture; two calls."""
    peak = peak_of(pixels)
    opacity = alpha.astype(np.float32)[:, :, None] / peak
    # Composites of 8 bits would round before the division by alpha.
    fine = np.float32 if pixels.dtype.kind == "f" else np.uint16
    top = 1 if fine is np.float32 else 65535
    black = opacity * (pixels.astype(np.float32) / peak)
    white = black + (1 - opacity)
    on_black, on_white = (enlarge(_as_type(composite, fine, top)) for composite in (black, white))
    solid = _spread(alpha == peak, scale)
    empty = _spread(alpha == 0, scale)
    out = np.empty(on_black.shape, pixels.dtype)
    out_alpha = np.empty(on_black.shape[:2], alpha.dtype)
    for first in range(0, len(out), ROWS):
        rows = slice(first, first + ROWS)
        over_black, over_white = (made[rows].astype(np.float32) / top for made in (on_black, on_white))
        cover = 1 - (over_white - over_black).mean(axis=2, keepdims=True)
        cover[solid[rows]] = 1
        cover[empty[rows]] = 0
        out_alpha[rows] = _as_type(cover, alpha.dtype, peak)[:, :, 0]
        # The alpha that will be stored, so that composites fit it and not the one before rounding.
        cover = out_alpha[rows].astype(np.float32)[:, :, None] / peak
        colour = (over_black + over_white - (1 - cover)) / 2
        out[rows] = _as_type(colour / np.maximum(cover, 1 / 65535), pixels.dtype, peak)
        out[rows][out_alpha[rows] == 0] = 0
    return out, out_alpha


def _as_type(values: np.ndarray, kind: type | np.dtype, peak: int) -> np.ndarray:
    """[0, 1] to 0..peak: clipped, and rounded for whole numbers."""
    values = np.clip(values, 0, 1) * np.float32(peak)
    return values.astype(kind) if np.dtype(kind).kind == "f" else np.rint(values).astype(kind)


def _spread(here: Layer, scale: int) -> Layer:
    """Where a pixel and all 8 around it are `here`, on the large grid.

    Far from edges alpha is known: the network, which sees the whole picture at once, should not blur it.
    """
    padded = np.pad(here, 1, mode="edge")
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    inner = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return inner.repeat(scale, axis=0).repeat(scale, axis=1)
