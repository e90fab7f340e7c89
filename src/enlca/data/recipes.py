"""Recipes: the operators that a photograph is degraded by, drawn at random from a preset.

A recipe drawn from a generator, and the noise that the same generator then draws, are functions of its seed
alone. So a patch of a training run is a function of (seed, step, index), whatever process makes it.

Blurs are drawn in LR pixels, so that they mean the same at every scale.

Letters:  H, W height and width of HR   h, w of LR   C channels, 1 or 3   P side of the LR patch   S scale
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float32, UInt8

from enlca.data.kernels import gaussian_kernel, sinc_kernel
from enlca.data.noise import CameraNoise, GaussianNoise, PoissonNoise, Smear
from enlca.data.operators import (
    SUPPORT,
    Blur,
    Jpeg,
    Operator,
    Resize,
    WebP,
    levels,
)
from enlca.errors import ConfigError
from enlca.image.resize import imresize

Recipe = Sequence[Operator | Resize]
Random = np.random.Generator
# Largest radius of a kernel, in pixels of the picture that it blurs (Wang et al. 2021).
RADIUS = 10


def clean(random: Random, scale: int) -> Iterator[Operator | Resize]:
    """Nothing but MATLAB's bicubic: what benchmarks have."""
    return iter(())


def web(random: Random, scale: int) -> Iterator[Operator | Resize]:
    """What a site stores: mild blur, one resize, JPEG or WebP of quality 30 to 95."""
    if _happens(random, 0.7):
        yield _blur(random, 0.05, 0.5, scale=scale)
    yield Resize(1 / scale, _interpolation(random))
    yield _codec(random, 30, 95, webp=0.15)


def phone(random: Random, scale: int) -> Iterator[Operator | Resize]:
    """A phone's photo: lens blur, sensor noise, a denoiser's smear, JPEG of quality 70 to 95."""
    if _happens(random, 0.8):
        yield _blur(random, 0.05, 0.7, scale=scale)
    yield Resize(_log_uniform(random, 1.0, 2.0) / scale, _interpolation(random))
    yield CameraNoise(shot=_log_uniform(random, 1e-4, 4e-3), read=_log_uniform(random, 5e-4, 4e-3))
    if _happens(random, 0.7):
        yield Smear(_log_uniform(random, 2.0, 15.0))
    yield Resize(1 / scale, _interpolation(random))
    yield _codec(random, 70, 95)


def noisy(random: Random, scale: int) -> Iterator[Operator | Resize]:
    """What too little light leaves: white noise of 1 to 25 levels, stored with care or not compressed."""
    if _happens(random, 0.5):
        yield _blur(random, 0.05, 0.5, scale=scale)
    yield Resize(1 / scale, _interpolation(random))
    yield _noise(random, most=25.0)
    if _happens(random, 0.3):
        yield _codec(random, 80, 95)


def strong(random: Random, scale: int) -> Iterator[Operator | Resize]:
    """Everything, twice; then ringing and JPEG in either order. (Wang et al. 2021, Fig. 2)"""
    yield _blur(random, 0.05, 1.0, scale=scale)
    yield Resize(_log_uniform(random, 0.7 / scale, 1.2), _interpolation(random))
    yield _noise(random, most=20.0)
    yield _codec(random, 30, 95)
    if _happens(random, 0.8):
        yield _blur(random, 0.1, 0.8, scale=1)
    yield Resize(_log_uniform(random, 0.7, 1.4) / scale, _interpolation(random))
    yield _noise(random, most=12.0)
    last: list[Operator | Resize] = [Resize(1 / scale, _interpolation(random))]
    if _happens(random, 0.8):
        last.append(Blur(sinc_kernel(random.uniform(np.pi / 3, np.pi), radius=RADIUS)))
    codec = _codec(random, 30, 95, webp=0.15)
    yield from [*last, codec] if _happens(random, 0.5) else [codec, *last]


PRESETS: dict[str, Callable[[Random, int], Iterator[Operator | Resize]]] = {
    "clean": clean,
    "web": web,
    "phone": phone,
    "noisy": noisy,
    "strong": strong,
}


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How the LR patches of a run are degraded.

    Args:
        preset: clean, web, phone, noisy or strong; or several with their weights, as {web: 2, phone: 1}.
    """

    preset: str | dict[str, int | float] = "web"

    def __post_init__(self):
        weights = self.weights
        if unknown := sorted(weights.keys() - PRESETS.keys()):
            raise ConfigError(f"unknown preset {unknown[0]!r}; there are {', '.join(PRESETS)}")
        if not all(0 <= weight < math.inf for weight in weights.values()) or sum(weights.values()) <= 0:
            raise ConfigError(f"the weights of presets must be at least 0 and one above it, got {weights}")

    @property
    def weights(self) -> dict[str, int | float]:
        """The weight of each preset."""
        return {self.preset: 1.0} if isinstance(self.preset, str) else self.preset

    def draw(self, random: Random, *, scale: int) -> Recipe:
        """Draw a preset by its weight, then a recipe."""
        names, weights = zip(*sorted(self.weights.items()), strict=True)
        share = np.cumsum(weights) / sum(weights)
        chosen = min(int(np.searchsorted(share, random.random(), side="right")), len(names) - 1)
        return tuple(PRESETS[names[chosen]](random, scale))


def degrade(
    hr: UInt8[np.ndarray, "H W C"], recipe: Recipe, *, scale: int, random: Random
) -> UInt8[np.ndarray, "h w C"]:
    """Return the LR picture of HR, whose sides are multiples of the scale; grey stays grey.

    Raises:
        PictureError: a codec cannot hold it.
    """
    if not recipe:
        return imresize(hr, Fraction(1, scale))
    lr = apply(recipe, np.broadcast_to(hr, (*hr.shape[:2], 3)), random)
    if hr.shape[2] == 1:
        return levels(np.repeat(lr.mean(axis=2, keepdims=True), 3, axis=2))[..., :1]
    return levels(lr)


def degraded_patch(
    hr: UInt8[np.ndarray, "H W 3"],
    recipe: Recipe,
    *,
    top: int,
    left: int,
    patch: int,
    scale: int,
    random: Random,
) -> UInt8[np.ndarray, "P P 3"]:
    """Return the LR patch at (`top`, `left`), in LR pixels, of a degraded region around it.

    The region reaches as far as the recipe does: without noise, codecs and resizing in between, the patch is
    that of the whole picture degraded.
    """
    margin = -(-reach_of(recipe, scale=scale) // scale)
    rows, columns = (
        slice(max(0, start - margin), min(size // scale, start + patch + margin))
        for start, size in zip((top, left), hr.shape, strict=False)
    )
    region = hr[scale * rows.start : scale * rows.stop, scale * columns.start : scale * columns.stop]
    lr = degrade(region, recipe, scale=scale, random=random)
    y, x = top - rows.start, left - columns.start
    return lr[y : y + patch, x : x + patch]


def apply(recipe: Recipe, hr: UInt8[np.ndarray, "H W 3"], random: Random) -> Float32[np.ndarray, "h w 3"]:
    """Apply the operators in turn; `random` draws their noise."""
    pixels = hr.astype(np.float32)
    height, width = hr.shape[:2]
    for operator in recipe:
        if isinstance(operator, Resize):
            size = [max(1, round(operator.factor * side)) for side in (width, height)]
            pixels = operator.to(pixels, width=size[0], height=size[1])
        else:
            pixels = operator(pixels, random)
    return pixels


def reach_of(recipe: Recipe, *, scale: int) -> int:
    """Return how many HR pixels beside a patch its degraded pixels depend on."""
    total, resolution = 0.0, 1.0
    for operator in recipe or [Resize(1 / scale)]:
        if isinstance(operator, Resize):
            coarser = min(resolution, operator.factor)
            # The grids of a patch and of the whole picture may differ by a part of a pixel.
            total += (SUPPORT[operator.interpolation] + 1) / coarser
            resolution = operator.factor
        else:
            total += operator.reach / resolution
    return math.ceil(total)


def _happens(random: Random, probability: float) -> bool:
    return bool(random.random() < probability)


def _log_uniform(random: Random, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _interpolation(random: Random) -> str:
    return tuple(SUPPORT)[random.integers(len(SUPPORT))]


def _blur(random: Random, low: float, high: float, *, scale: int) -> Blur:
    """Draw a Gaussian of `low` to `high` LR pixels: isotropic, anisotropic or generalised."""
    sigma, other = (scale * random.uniform(low, high) for _ in range(2))
    kind = random.random()
    if kind < 0.5:
        other = sigma
    shape = random.uniform(0.5, 2.0) if kind > 0.8 else 1.0
    radius = min(RADIUS, max(1, math.ceil(3 * max(sigma, other))))
    angle = random.uniform(0, np.pi)
    return Blur(gaussian_kernel(sigma, radius=radius, other_sigma=other, angle=angle, shape=shape))


def _noise(random: Random, *, most: float) -> Operator:
    """Draw Gaussian or Poisson noise of 1 to `most` levels in mid-grey; 4 in 10 are without colour."""
    sigma, grey = random.uniform(1.0, most), _happens(random, 0.4)
    if _happens(random, 0.5):
        return GaussianNoise(sigma, grey=grey)
    return PoissonNoise(photons=255 * 128 / sigma**2, grey=grey)


def _codec(random: Random, low: int, high: int, *, webp: float = 0.0) -> Operator:
    """Draw JPEG, or WebP with the probability `webp`, of quality `low` to `high`."""
    quality = int(random.integers(low, high + 1))
    if _happens(random, webp):
        return WebP(quality)
    return Jpeg(quality, ("4:2:0", "4:2:0", "4:2:2", "4:4:4")[random.integers(4)])
