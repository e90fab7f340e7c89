"""PSNR and SSIM of a super-resolved picture against its original, on luma, as the literature reports them.

Both drop a border of `shave` pixels (the scale factor, by custom). Each comes twice: on uint8 pictures, and
on float planes of any origin (`psnr_plane`, `ssim_plane`), for whoever scores channels or other lumas.

Letters:  H height   W width   C channels: none, 1 or 3   (small letters: the super-resolved one)
"""

import math

import numpy as np
from jaxtyping import Float64, UInt8

from enlca.image.color import luma

PEAK = 255.0
# The constants of Wang et al. 2004: an 11x11 Gaussian of sigma 1.5, K1 = 0.01, K2 = 0.03.
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
# Rows that are scored at a time, and the window at each of their places.
STRIP = 32
BLOCK = STRIP + WINDOW - 1
_distance = np.arange(BLOCK) - np.arange(STRIP)[:, None] - WINDOW // 2
TABLE = np.where(abs(_distance) <= WINDOW // 2, np.exp(-0.5 * (_distance / SIGMA) ** 2), 0.0)
TABLE /= TABLE.sum(axis=1, keepdims=True)


def psnr(sr: UInt8[np.ndarray, "h w *c"], hr: UInt8[np.ndarray, "H W *C"], *, shave: int) -> float:
    """Peak signal-to-noise ratio on Y, in dB; infinite for pictures with the same luma.

    Raises:
        ValueError: the sizes differ, or nothing is left after `shave` pixels are dropped on each side.
    """
    return psnr_plane(luma(sr), luma(hr), shave=shave)


def ssim(sr: UInt8[np.ndarray, "h w *c"], hr: UInt8[np.ndarray, "H W *C"], *, shave: int) -> float:
    """Mean structural similarity on Y, 1 for identical pictures. (Wang et al. 2004, Eq. 13, 17)

    Raises:
        ValueError: the sizes differ, or less than 11x11 pixels are left after shaving.
    """
    return ssim_plane(luma(sr), luma(hr), shave=shave)


def psnr_plane(sr: Float64[np.ndarray, "h w"], hr: Float64[np.ndarray, "H W"], *, shave: int) -> float:
    """`psnr` of two planes whose peak is 255."""
    sr, hr = _shaved(sr, hr, shave=shave, smallest=1)
    error = sr - hr
    squared_error = float(np.vdot(error, error)) / error.size
    return math.inf if squared_error == 0.0 else 10.0 * math.log10(PEAK**2 / squared_error)


def ssim_plane(sr: Float64[np.ndarray, "h w"], hr: Float64[np.ndarray, "H W"], *, shave: int) -> float:
    """`ssim` of two planes whose peak is 255: the mean over all places where the window fits inside."""
    x, y = _shaved(sr, hr, shave=shave, smallest=WINDOW)
    places = len(x) - WINDOW + 1
    strips = (slice(start, start + BLOCK) for start in range(0, places, STRIP))
    total = math.fsum(_similarity(x[strip], y[strip]).sum() for strip in strips)
    return total / (places * (x.shape[1] - WINDOW + 1))


def _similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SSIM at every place of a strip of at most STRIP places in height, which stays in the cache."""
    planes = np.empty((4, *x.shape))
    planes[0], planes[1] = x, y
    np.multiply(x, y, out=planes[2])
    np.multiply(x, x, out=planes[3])
    planes[3] += y * y
    mean_x, mean_y, product, power = _blur(planes)
    means, powers = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance, variances = product - means, power - powers
    return (2 * means + C1) * (2 * covariance + C2) / ((powers + C1) * (variances + C2))


def _shaved(sr: np.ndarray, hr: np.ndarray, *, shave: int, smallest: int) -> tuple[np.ndarray, np.ndarray]:
    """Both planes without their border, at least `smallest` pixels on each side."""
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
    """Gaussian means over every window that lies inside each strip: rows first, then blocks of columns."""
    height, width = strips.shape[1:]
    down = _table(height) @ strips
    blocks = (down[..., start : start + BLOCK] for start in range(0, width - WINDOW + 1, STRIP))
    return np.concatenate([block @ _table(block.shape[2]).T for block in blocks], axis=2)


def _table(size: int) -> np.ndarray:
    """The window at each of its places along `size` pixels."""
    return TABLE[: size - WINDOW + 1, :size]
