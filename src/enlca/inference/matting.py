"""Enlarging a picture with transparency, without fringes and without a trace of hidden colours.

What one sees of it is the picture over some background, so that is what goes through the network: the
composite over black and the composite over white. Their difference is how much background shows, which is
one minus alpha; what is not background is colour times alpha. So both composites of the result are, by
construction, the enlargements of the composites, and a colour under full transparency never counts.

Letters:  h, w height and width of a part   S scale   L layers: channels, then alpha
"""

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from enlca.inference.raster import Pixels
from enlca.inference.tiles import Region
from enlca.inference.views import peak_of

Part = Float32[np.ndarray, "h w 3"]


def merged(
    over_black: Part, over_white: Part, picture: Pixels, region: Region, *, scale: int
) -> Shaped[np.ndarray, "h w L"]:
    """The large part at `region` with straight alpha, of the two enlarged composites; levels of `picture`."""
    kind, peak = np.dtype(picture.dtype), peak_of(picture.dtype)
    # What leaves [0, 1] is not seen, and must not count as a difference.
    over_black, over_white = (as_channels(over.clip(0, 1), picture) for over in (over_black, over_white))
    cover = 1 - (over_white - over_black).mean(axis=2, keepdims=True)
    cover[_far_inside(picture, region, peak, scale)] = 1
    cover[_far_inside(picture, region, 0, scale)] = 0
    # The alpha that will be stored, so that composites fit it and not the one before rounding.
    alpha = to_levels(cover, kind)
    cover = alpha.astype(np.float32) / np.float32(peak)
    colour = (over_black + over_white - (1 - cover)) / 2
    colour = np.where(alpha > 0, colour / np.maximum(cover, np.float32(1 / 65535)), np.float32(0))
    return np.concatenate([to_levels(colour, kind), alpha], axis=2)


def as_channels(rgb: Part, picture: Pixels) -> Float32[np.ndarray, "h w _"]:
    """Grey for grey: the mean of three channels that should be equal."""
    return rgb if picture.shape[2] >= 3 else rgb.clip(0, 1).mean(axis=2, keepdims=True)


def to_levels(values: Float32[np.ndarray, "*S"], kind: np.dtype) -> Shaped[np.ndarray, "*S"]:
    """[0, 1] to the levels of a type: clipped, and rounded for whole numbers."""
    values = np.clip(values, 0, 1) * np.float32(peak_of(kind))
    return values.astype(kind) if kind.kind == "f" else np.rint(values).astype(kind)


def _far_inside(picture: Pixels, region: Region, level: int, scale: int) -> Bool[np.ndarray, "h w"]:
    """Where alpha is `level` in a pixel and all 8 around it, on the large grid.

    Far from edges alpha is known: the network, which sees the whole picture at once, should not blur it.
    """
    wide = region.grown(1, Region(0, 0, *picture.shape[:2]))
    here = picture[wide.top : wide.bottom, wide.left : wide.right][:, :, -1] == level
    # Beyond the picture's edges there is nothing else.
    beyond = (
        (1 - (region.top - wide.top), 1 - (wide.bottom - region.bottom)),
        (1 - (region.left - wide.left), 1 - (wide.right - region.right)),
    )
    padded = np.pad(here, beyond, mode="edge")
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    inner = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return inner.repeat(scale, axis=0).repeat(scale, axis=1)
