"""PSNR, SSIM and MS-SSIM of an SR image against HR, on luma, as the literature reports them.

All drop a border of `shave` pixels (by convention the scale factor). They exist for float planes
(`psnr_plane`): single channels, or luma by another formula; PSNR and SSIM for uint8 images, too.

Letters:  H height   W width   C channels: none, 1 or 3   (small letters: of the SR image)
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, UInt8

# ITU-R BT.601, studio swing: black is 16 and white 235. The digits are those of MATLAB's rgb2ycbcr.
# In thousandths, so that the weighted sum of a pixel is exact in integers (and takes less time).
OFFSET = 16.0
RED, GREEN, BLUE = np.int32(65_481), np.int32(128_553), np.int32(24_966)

PEAK = 255.0
# The constants of Wang et al. 2004: an 11x11 Gaussian of sigma 1.5, K1 = 0.01, K2 = 0.03.
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
# Of Wang et al. 2003, section 3.2, the finest scale first.
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Windows are evaluated at STRIP places at a time, which cover SPAN rows or columns. TABLE holds their
# weights at each of these places.
STRIP = 32
SPAN = STRIP + WINDOW - 1
_distance = np.arange(SPAN) - np.arange(STRIP)[:, None] - WINDOW // 2
TABLE = np.where(abs(_distance) <= WINDOW // 2, np.exp(-0.5 * (_distance / SIGMA) ** 2), 0.0)
TABLE /= TABLE.sum(axis=1, keepdims=True)


def luma(rgb: UInt8[np.ndarray, "H W *C"]) -> Float64[np.ndarray, "H W"]:
    """Return Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, from 16 to 235, not rounded.

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
    # The type is said: NumPy 1 would multiply bytes by small numbers in 16 bits.
    total = np.multiply(red, RED, dtype=np.int32)
    total += np.multiply(green, GREEN, dtype=np.int32)
    total += np.multiply(blue, BLUE, dtype=np.int32)
    return OFFSET + total / 255_000


def psnr(sr: UInt8[np.ndarray, "h w *c"], hr: UInt8[np.ndarray, "H W *C"], *, shave: int) -> float:
    """Compute the peak signal-to-noise ratio on Y, in dB; infinite for images with the same luma.

    Raises:
        ValueError: if the sizes differ, or nothing is left after `shave` pixels are dropped on each side.
    """
    return psnr_plane(luma(sr), luma(hr), shave=shave)


def ssim(sr: UInt8[np.ndarray, "h w *c"], hr: UInt8[np.ndarray, "H W *C"], *, shave: int) -> float:
    """Compute the mean structural similarity on Y, 1 for identical images. (Wang et al. 2004, Eq. 13, 17)

    Raises:
        ValueError: if the sizes differ, or less than 11x11 pixels are left after shaving.
    """
    return ssim_plane(luma(sr), luma(hr), shave=shave)


def psnr_plane(sr: Float64[np.ndarray, "h w"], hr: Float64[np.ndarray, "H W"], *, shave: int) -> float:
    """Compute `psnr` of two planes whose peak is 255.

    Raises:
        ValueError: see `psnr`.
    """
    sr, hr = _shaved(sr, hr, shave=shave, smallest=1)
    error = sr - hr
    squared_error = float(np.vdot(error, error)) / error.size
    return math.inf if squared_error == 0.0 else 10.0 * math.log10(PEAK**2 / squared_error)


def ssim_plane(sr: Float64[np.ndarray, "h w"], hr: Float64[np.ndarray, "H W"], *, shave: int) -> float:
    """Compute `ssim` of two planes whose peak is 255: the mean over all places where the window fits inside.

    Raises:
        ValueError: see `ssim`.
    """
    x, y = _shaved(sr, hr, shave=shave, smallest=WINDOW)
    return _mean_of(_similarity, x, y)


def ms_ssim_plane(sr: Float64[np.ndarray, "h w"], hr: Float64[np.ndarray, "H W"], *, shave: int) -> float:
    """Compute the multi-scale similarity of two planes whose peak is 255. (Wang et al. 2003, Eq. 7)

    Contrast and structure at five scales, each half the size of the one before, and luminance at the last.

    Raises:
        ValueError: if the sizes differ, or less than 176x176 pixels are left after shaving.
    """
    x, y = _shaved(sr, hr, shave=shave, smallest=WINDOW << (len(MS_WEIGHTS) - 1))
    product = 1.0
    for weight in MS_WEIGHTS[:-1]:
        product *= max(_mean_of(_contrast, x, y), 0.0) ** weight
        x, y = _halved(x), _halved(y)
    return product * max(_mean_of(_similarity, x, y), 0.0) ** MS_WEIGHTS[-1]


def _halved(plane: np.ndarray) -> np.ndarray:
    """Return the means of squares of 2x2 pixels; an odd last row or column is dropped."""
    even = plane[: len(plane) // 2 * 2, : plane.shape[1] // 2 * 2]
    return even.reshape(len(even) // 2, 2, -1, 2).mean(axis=(1, 3))


def _mean_of(part: Callable[..., np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean of a part of SSIM over all places where the window fits inside."""
    places = len(x) - WINDOW + 1
    strips = (slice(start, start + SPAN) for start in range(0, places, STRIP))
    return math.fsum(part(x[strip], y[strip]).sum() for strip in strips) / (
        places * (x.shape[1] - WINDOW + 1)
    )


def _similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute SSIM at every place of a strip of at most STRIP places in height, which fits the cache."""
    means, powers, covariance, variances = _statistics(x, y)
    return (2 * means + C1) * (2 * covariance + C2) / ((powers + C1) * (variances + C2))


def _contrast(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute SSIM without luminance, in the same places."""
    _, _, covariance, variances = _statistics(x, y)
    return (2 * covariance + C2) / (variances + C2)


def _statistics(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the windows' products of means, sums of squared means, covariances and sums of variances."""
    planes = np.empty((4, *x.shape))
    planes[0], planes[1] = x, y
    np.multiply(x, y, out=planes[2])
    np.multiply(x, x, out=planes[3])
    planes[3] += y * y
    mean_x, mean_y, product, power = _blur(planes)
    means, powers = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    return means, powers, product - means, power - powers


def _shaved(sr: np.ndarray, hr: np.ndarray, *, shave: int, smallest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both planes without their border, at least `smallest` pixels on each side."""
    if sr.shape != hr.shape:
        (h, w), (height, width) = sr.shape, hr.shape
        raise ValueError(f"pictures must have the same size to be compared, got {w}x{h} and {width}x{height}")
    if shave < 0:
        raise ValueError(f"shave must be 0 or more pixels, got {shave}")
    height, width = hr.shape
    if min(height, width) - 2 * shave < smallest:
        raise ValueError(
            f"a picture of {width}x{height} pixels is too small: with {shave} pixels dropped on each side "
            f"at least {smallest}x{smallest} must be left"
        )
    inner = slice(shave, height - shave), slice(shave, width - shave)
    return sr[inner], hr[inner]


def _blur(strips: np.ndarray) -> np.ndarray:
    """Return the Gaussian mean of every window inside each strip: along rows first, then along columns."""
    height, width = strips.shape[1:]
    down = _table(height) @ strips
    spans = (down[..., start : start + SPAN] for start in range(0, width - WINDOW + 1, STRIP))
    return np.concatenate([span @ _table(span.shape[2]).T for span in spans], axis=2)


def _table(size: int) -> np.ndarray:
    """Return the window's weights at each of its places along `size` pixels."""
    return TABLE[: size - WINDOW + 1, :size]
