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
    squared_error = float(np.mean((sr - hr) ** 2))
    return math.inf if squared_error == 0.0 else 10.0 * math.log10(PEAK**2 / squared_error)


def ssim_plane(sr: Float64[np.ndarray, "h w"], hr: Float64[np.ndarray, "H W"], *, shave: int) -> float:
    """`ssim` of two planes whose peak is 255: the mean over all places where the window fits inside."""
    x, y = _shaved(sr, hr, shave=shave, smallest=WINDOW)
    mean_x, mean_y = _blur(x), _blur(y)
    means = mean_x * mean_y
    powers = mean_x**2 + mean_y**2
    covariance = _blur(x * y) - means
    variances = _blur(x * x + y * y) - powers
    similarity = (2 * means + C1) * (2 * covariance + C2) / ((powers + C1) * (variances + C2))
    return float(similarity.mean())


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


def _blur(plane: np.ndarray) -> np.ndarray:
    """Gaussian means over every window that lies inside the plane: one axis after the other, 11 taps each."""
    taps = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    taps /= taps.sum()
    for _ in range(2):
        places = plane.shape[0] - WINDOW + 1
        blurred = np.zeros((places, plane.shape[1]))
        for start, tap in enumerate(taps):
            blurred += tap * plane[start : start + places]
        plane = blurred.T
    return plane
