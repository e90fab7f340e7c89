"""Upscaling a picture with transparency, without fringes and without a trace of hidden colours.

Two composites go through the network, over black and over white. Their difference is how much background
shows, one minus alpha; the rest is colour times alpha. So both composites of the result are, by construction,
the upscaled composites, and a colour under full transparency never counts.

Letters:  h, w height and width of a part   S scale   L layers: channels, then alpha
"""

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from enlca.inference.pixel_source import Pixels, as_channels, peak_of, to_levels
from enlca.inference.tiles import Region

Part = Float32[np.ndarray, "h w 3"]


def merged(
    over_black: Part, over_white: Part, picture: Pixels, region: Region, *, scale: int
) -> Shaped[np.ndarray, "h w L"]:
    """Return the SR part at `region` with straight alpha, in the levels of `picture`."""
    kind, peak = np.dtype(picture.dtype), peak_of(picture.dtype)
    # Values outside [0, 1] are not shown and must not count as a difference.
    over_black, over_white = (as_channels(over.clip(0, 1), picture) for over in (over_black, over_white))
    cover = 1 - (over_white - over_black).mean(axis=2, keepdims=True)
    cover[_far_inside(picture, region, peak, scale)] = 1
    cover[_far_inside(picture, region, 0, scale)] = 0
    # Alpha as it will be stored, so that composites fit it and not the one before rounding.
    alpha = to_levels(cover, kind)
    cover = alpha.astype(np.float32) / np.float32(peak)
    colour = (over_black + over_white - (1 - cover)) / 2
    colour = np.where(alpha > 0, colour / np.maximum(cover, np.float32(1 / 65535)), np.float32(0))
    return np.concatenate([to_levels(colour, kind), alpha], axis=2)


def _far_inside(picture: Pixels, region: Region, level: int, scale: int) -> Bool[np.ndarray, "h w"]:
    """Return where alpha is `level` in a pixel and all 8 around it, on the SR grid.

    Far from edges alpha is known: the network, whose attention sees the whole picture, must not blur it.
    """
    wide = region.grown(1, Region(0, 0, *picture.shape[:2]))
    here = picture[wide.top : wide.bottom, wide.left : wide.right][:, :, -1] == level
    # Beyond its edges the picture goes on as it is.
    beyond = (
        (1 - (region.top - wide.top), 1 - (wide.bottom - region.bottom)),
        (1 - (region.left - wide.left), 1 - (wide.right - region.right)),
    )
    padded = np.pad(here, beyond, mode="edge")
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    inner = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return inner.repeat(scale, axis=0).repeat(scale, axis=1)
