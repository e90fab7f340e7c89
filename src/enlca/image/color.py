"""Luma: the one number per pixel on which super-resolution is scored.

Letters:  H height   W width   C channels: none, 1 (grey) or 3 (red, green, blue)
"""

import numpy as np
from jaxtyping import Float64, UInt8

# ITU-R BT.601, studio swing: black is 16 and white 235. The digits are those of MATLAB's rgb2ycbcr.
# In thousandths, so that the weighted sum of a pixel is exact in integers (and takes less time).
OFFSET = 16.0
RED, GREEN, BLUE = np.int32(65_481), np.int32(128_553), np.int32(24_966)


def luma(rgb: UInt8[np.ndarray, "H W *C"]) -> Float64[np.ndarray, "H W"]:
    """Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, from 16 to 235, not rounded.

    A grey picture counts as RGB with equal channels. MATLAB's rgb2ycbcr rounds uint8 pictures; the scores of
    the literature do not, and rounding would cost a strong method up to 0.09 dB.

    Raises:
        ValueError: not uint8, or neither grey (`H W`, `H W 1`) nor RGB (`H W 3`).
    """
    if rgb.dtype != np.uint8:
        raise ValueError(f"luma is defined here for uint8 pictures from 0 to 255, got {rgb.dtype}")
    if rgb.ndim == 2:
        rgb = rgb[:, :, None]
    if rgb.ndim != 3 or rgb.shape[2] not in (1, 3):
        raise ValueError(f"expected a picture of shape H W, H W 1 or H W 3, got {rgb.shape}")
    red, green, blue = (rgb[:, :, channel] for channel in (0, rgb.shape[2] // 2, -1))
    total = red * RED
    total += green * GREEN
    total += blue * BLUE
    return OFFSET + total / 255_000
