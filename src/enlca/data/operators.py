"""What happens to a photograph before it is upscaled, one operator each; `recipes` composes them.

The operators are those of Zhang et al. 2021 (BSRGAN) and Wang et al. 2021 (Real-ESRGAN); `noise` has more.
JPEG and WebP are the real encoders. Pixels are float32 levels from 0 to 255; only noise and codecs clip them.

Letters:  H height   W width   (small letters: of the resized picture)
"""

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from enlca.data.kernels import Kernel, convolve
from enlca.errors import PictureError

Pixels = Float32[np.ndarray, "H W 3"]
# Pixels of the smaller grid to each side that a resized pixel depends on.
SUPPORT = {"box": 1, "bilinear": 1, "bicubic": 2, "lanczos": 3}
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
# Pixels beside a patch that are encoded with it: a block of a codec.
CODEC_BLOCK = 8


class Operator(ABC):
    """A degradation of pixels that keeps their size."""

    @property
    def reach(self) -> int:
        """How many pixels beside it an output depends on."""
        return 0

    @abstractmethod
    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Degrade pixels; `random` draws what is random."""


@dataclass(frozen=True, eq=False)
class Blur(Operator):
    """Convolve with a kernel (see `kernels`)."""

    kernel: Kernel

    @property
    def reach(self) -> int:
        """The radius of the kernel."""
        return self.kernel.shape[0] // 2

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Blur."""
        return convolve(pixels, self.kernel)


@dataclass(frozen=True)
class Resize:
    """Resample, antialiased, to `factor` times the size of the HR picture that the recipe began with."""

    factor: float
    interpolation: str = "bicubic"

    def __post_init__(self):
        if not 0 < self.factor <= 4:
            raise ValueError(f"factor must be above 0 and at most 4, got {self.factor}")
        if self.interpolation not in SUPPORT:
            raise ValueError(f"interpolation must be one of {', '.join(SUPPORT)}; got {self.interpolation!r}")

    def to(self, pixels: Pixels, *, width: int, height: int) -> Float32[np.ndarray, "h w 3"]:
        """Resample to exactly `width` by `height` pixels."""
        from PIL import Image

        how = Image.Resampling[self.interpolation.upper()]
        planes = [Image.fromarray(np.ascontiguousarray(pixels[..., channel])) for channel in range(3)]
        return np.stack([np.asarray(plane.resize((width, height), how)) for plane in planes], axis=2)


@dataclass(frozen=True)
class Jpeg(Operator):
    """Encode as JPEG and decode again."""

    quality: int
    subsampling: str = "4:2:0"

    @property
    def reach(self) -> int:
        """A block, so that none is cut."""
        return CODEC_BLOCK

    def __post_init__(self):
        in_range(1, 100, quality=self.quality)
        if self.subsampling not in SUBSAMPLINGS:
            raise ValueError(
                f"subsampling must be one of {', '.join(SUBSAMPLINGS)}; got {self.subsampling!r}"
            )

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Encode and decode. Raises PictureError: too large for the codec."""
        return recoded(pixels, "JPEG", quality=self.quality, subsampling=self.subsampling)


@dataclass(frozen=True)
class WebP(Operator):
    """Encode as lossy WebP, whose chroma always has half the resolution, and decode again."""

    quality: int

    @property
    def reach(self) -> int:
        """A block, so that none is cut."""
        return CODEC_BLOCK

    def __post_init__(self):
        in_range(1, 100, quality=self.quality)

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Encode and decode. Raises PictureError: too large for the codec."""
        return recoded(pixels, "WEBP", quality=self.quality)


def recoded(pixels: Pixels, kind: str, **settings: int | str) -> Pixels:
    """Encode with Pillow, in memory, and decode again.

    Raises:
        PictureError: the codec cannot hold a picture of this size.
    """
    from PIL import Image

    file = io.BytesIO()
    try:
        Image.fromarray(levels(pixels)).save(file, kind, **settings)
    except (OSError, ValueError) as error:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise PictureError(f"{size} pixels cannot be encoded as {kind}: {error}") from error
    file.seek(0)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(np.float32)


def clip(pixels: Pixels) -> Pixels:
    """Return levels in [0, 255]."""
    return np.clip(pixels, 0, 255)


def levels(pixels: Pixels) -> UInt8[np.ndarray, "H W 3"]:
    """Round to uint8."""
    return np.round(clip(pixels)).astype(np.uint8)


def in_range(low: int | float, high: int | float, **values: int | float) -> None:
    """Raise ValueError for a value outside [`low`, `high`], or NaN."""
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value}")
