"""HR patches blurred by a Gaussian before LR is made from them: photographs as soft as the world's.

Training pictures that were downscaled are sharper than photographs at their native resolution.

Letters:  h, w height and width of a patch   P side of the LR patch   S scale
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8

from enlca.image.resize import imresize

MAX_SIGMA = 4.0  # HR pixels
# LR pixels beside the patch that its own depend on: MATLAB's bicubic reaches 2 to each side.
BICUBIC_REACH = 2


def gaussian_blur(pixels: UInt8[np.ndarray, "h w 3"], sigma: float) -> UInt8[np.ndarray, "h w 3"]:
    """Convolve with a Gaussian of `sigma` pixels, the picture mirrored at its edges; 0 changes nothing."""
    if sigma == 0:
        return pixels
    radius = blur_radius(sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    weights /= weights.sum()
    blurred = pixels.astype(np.float32)
    for axis in (0, 1):
        size = blurred.shape[axis]
        pad = [(radius, radius) if other == axis else (0, 0) for other in range(3)]
        padded = np.pad(blurred, pad, mode="symmetric")
        parts = [padded.take(range(first, first + size), axis=axis) for first in range(2 * radius + 1)]
        blurred = np.tensordot(weights, np.stack(parts), axes=1)
    return np.clip(np.round(blurred), 0, 255).astype(np.uint8)


def blur_radius(sigma: float) -> int:
    """Pixels to each side that a Gaussian of `sigma` is cut off at."""
    return int(np.ceil(3 * sigma))


def softened_patch(
    large: Sequence[UInt8[np.ndarray, "H W 3"]],
    *,
    top: int,
    left: int,
    patch: int,
    scale: int,
    sigma: float,
) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """The LR patch at (`top`, `left`) of the first of `large` blurred, then the HR patches of all, blurred.

    Equal to the bit to blurring and degrading the whole picture: only the part that matters is computed.
    """
    margin = BICUBIC_REACH + -(-blur_radius(sigma) // scale)
    rows, columns = (
        slice(max(0, start - margin), min(size // scale, start + patch + margin))
        for start, size in zip((top, left), large[0].shape, strict=False)
    )
    region = (
        slice(scale * rows.start, scale * rows.stop),
        slice(scale * columns.start, scale * columns.stop),
    )
    y, x = top - rows.start, left - columns.start
    blurred = [gaussian_blur(side[region], sigma) for side in large]
    lr = imresize(blurred[0], Fraction(1, scale))
    inner = (slice(scale * y, scale * (y + patch)), slice(scale * x, scale * (x + patch)))
    return [lr[y : y + patch, x : x + patch], *(side[inner] for side in blurred)]
