"""Noise of photographs, and what denoising makes of it; operators as in `operators`."""

from dataclasses import dataclass

import numpy as np

from enlca.data.kernels import along
from enlca.data.operators import Operator, Pixels, clip, in_range

# Exponent between linear light and levels; sRGB is close to it.
GAMMA = 2.2
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class GaussianNoise(Operator):
    """Add Gaussian noise of `sigma` levels; `grey` adds the same to all channels."""

    sigma: float
    grey: bool = False

    def __post_init__(self):
        in_range(0, 255, sigma=self.sigma)

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Add noise and clip."""
        shape = (*pixels.shape[:2], 1 if self.grey else 3)
        return clip(pixels + self.sigma * random.standard_normal(shape, dtype=np.float32))


@dataclass(frozen=True)
class PoissonNoise(Operator):
    """Count `photons` for level 255: the variance of level x is 255 x / photons. `grey`: of luma alone."""

    photons: float
    grey: bool = False

    def __post_init__(self):
        in_range(1, 1e9, photons=self.photons)

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Count photons and clip."""
        light = clip(pixels)
        counted = (light @ LUMA)[..., None] if self.grey else light
        per_level = self.photons / 255
        noise = random.poisson(counted * per_level) / per_level - counted
        return clip(light + noise.astype(np.float32))


@dataclass(frozen=True)
class CameraNoise(Operator):
    """Add the noise of a sensor with a Bayer mosaic, in linear light from 0 to 1, then demosaic it.

    Its variance at a measured pixel is shot * light + read^2 (Foi et al. 2008); bilinear demosaicing spreads
    it to coloured blotches two pixels wide, which independent noise does not have.
    """

    shot: float
    read: float

    @property
    def reach(self) -> int:
        """That of bilinear interpolation."""
        return 1

    def __post_init__(self):
        in_range(0, 1, shot=self.shot, read=self.read)

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Add noise in linear light and clip."""
        light = (clip(pixels) / 255) ** GAMMA
        noise = np.sqrt(self.shot * light + self.read**2)
        noise *= random.standard_normal(light.shape[:2], dtype=np.float32)[..., None]
        rows, columns = np.ogrid[: light.shape[0], : light.shape[1]]
        red, blue = (rows % 2 == 0) & (columns % 2 == 0), (rows % 2 == 1) & (columns % 2 == 1)
        for channel, site in enumerate((red, red == blue, blue)):
            known = np.pad(noise[..., channel] * site, 1)
            down, right = known[:-2] + known[2:], known[:, :-2] + known[:, 2:]
            spread = known[1:-1, 1:-1]
            if channel == 1:
                noise[..., 1] = spread + (down[:, 1:-1] + right[1:-1]) / 4
            else:
                corners = down[:, :-2] + down[:, 2:]
                noise[..., channel] = spread + (down[:, 1:-1] + right[1:-1]) / 2 + corners / 4
        return 255 * np.clip(light + noise, 0, 1) ** np.float32(1 / GAMMA)


@dataclass(frozen=True)
class Smear(Operator):
    """Denoise as phones do: flatten what varies by less than `sigma` levels, keep edges. (He et al. 2013)"""

    sigma: float
    radius: int = 2

    def __post_init__(self):
        in_range(0, 255, sigma=self.sigma)
        in_range(1, 16, radius=self.radius)

    @property
    def reach(self) -> int:
        """Two means follow each other."""
        return 2 * self.radius

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Filter each channel, guided by itself."""
        mean = self._mean(pixels)
        variance = np.maximum(self._mean(pixels * pixels) - mean * mean, 0)
        kept = variance / (variance + np.float32(self.sigma**2) + np.float32(1e-6))
        return self._mean(kept) * pixels + self._mean((1 - kept) * mean)

    def _mean(self, planes: Pixels) -> Pixels:
        """Return the means over windows of 2 radius + 1 pixels, mirrored at the edges."""
        ones = np.ones(2 * self.radius + 1, dtype=np.float32)
        for axis in (0, 1):
            planes = along(planes, ones, axis=axis) / len(ones)
        return planes
