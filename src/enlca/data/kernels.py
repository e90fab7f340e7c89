"""Blur kernels of photographs, and convolution with them.  (Wang et al. 2021, Real-ESRGAN, section 3)

Every kernel has an odd side, is symmetric about its centre and sums to 1, so blurring keeps the mean of a
picture and moves nothing.

Letters:  H height   W width   K side of a kernel, 2 radius + 1
"""

import numpy as np
import torch
from jaxtyping import Float

Kernel = Float[np.ndarray, "K K"]


def gaussian_kernel(
    sigma: float, *, radius: int, other_sigma: float | None = None, angle: float = 0.0, shape: float = 1.0
) -> Kernel:
    """Return a generalised Gaussian, proportional to exp(-(x' C^-1 x)^shape / 2).

    Args:
        sigma: standard deviation in pixels along the direction `angle`.
        radius: the kernel is cut off beyond it, in pixels.
        other_sigma: across that direction; None is `sigma` (isotropic).
        angle: in radians, from the rows' direction.
        shape: 1 is the Gaussian; below it has heavier tails, above a flatter top.

    Raises:
        ValueError: a sigma or the shape is not positive and finite, or the radius is below 1.
    """
    other = sigma if other_sigma is None else other_sigma
    for name, value in (("sigma", sigma), ("other_sigma", other), ("shape", shape)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    y, x = _grid(radius)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return _normalised(np.exp(-0.5 * ((along / sigma) ** 2 + (across / other) ** 2) ** shape))


def sinc_kernel(cutoff: float, *, radius: int) -> Kernel:
    """Return the ideal circular low-pass filter, w J1(w r) / (2 pi r) within `radius`: it rings at edges.

    Args:
        cutoff: w in radians per pixel; pi keeps nearly everything.
        radius: in pixels.

    Raises:
        ValueError: the cutoff is outside (0, pi], or the radius is below 1.
    """
    if not 0 < cutoff <= np.pi:
        raise ValueError(f"cutoff must be above 0 and at most pi, got {cutoff}")
    distance = np.hypot(*_grid(radius))
    # The limit of J1(w r) / r at 0 is w / 2.
    distance[radius, radius] = 1.0
    kernel = torch.special.bessel_j1(torch.from_numpy(cutoff * distance)).numpy() / distance
    kernel[radius, radius] = cutoff / 2
    return _normalised(kernel)


def convolve(pixels: Float[np.ndarray, "H W 3"], kernel: Kernel) -> Float[np.ndarray, "H W 3"]:
    """Convolve each channel with `kernel`, mirrored at the edges, by FFT: single-threaded and repeatable."""
    radius = kernel.shape[0] // 2
    height, width = pixels.shape[:2]
    shape = _smooth(height + 2 * radius), _smooth(width + 2 * radius)
    spectrum = np.fft.rfft2(kernel, s=shape)
    blurred = np.empty_like(pixels)
    for channel in range(pixels.shape[2]):
        padded = np.pad(pixels[..., channel], radius, mode="symmetric")
        whole = np.fft.irfft2(np.fft.rfft2(padded, s=shape) * spectrum, s=shape)
        blurred[..., channel] = whole[2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]
    return blurred


def along(
    pixels: Float[np.ndarray, "H W *C"], weights: Float[np.ndarray, "K"], *, axis: int
) -> Float[np.ndarray, "H W *C"]:
    """Return sums of neighbours along one axis, weighted by their place; edges are mirrored."""
    radius, size = len(weights) // 2, pixels.shape[axis]
    pad = [(radius, radius) if other == axis else (0, 0) for other in range(pixels.ndim)]
    padded, total = np.pad(pixels, pad, mode="symmetric"), np.zeros_like(pixels)
    for first, weight in enumerate(weights):
        total += weight * padded.take(range(first, first + size), axis=axis)
    return total


def _grid(radius: int) -> np.ndarray:
    if radius < 1:
        raise ValueError(f"radius must be at least 1 pixel, got {radius}")
    return np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)


def _normalised(kernel: np.ndarray) -> Kernel:
    return kernel / kernel.sum()


def _smooth(size: int) -> int:
    """Return the next size without prime factors above 5, which an FFT is fast at."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1
