"""What a picture is here: an array of 8 or 16 bits, and what belongs to it.

Letters:  H height   W width   C channels: 1 (grey) or 3 (red, green, blue)
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from enlca.errors import EnlcaError

# Of a header that is believed unless the caller says otherwise: 3 GiB as RGB of 8 bits.
MAX_PIXELS = 1 << 30


class PictureError(EnlcaError):
    """A picture that cannot be read or written: one line naming the file, what is wrong and what is right."""


class TooManyPixels(PictureError):
    """A picture whose header says more pixels than the caller decodes.

    Attributes:
        width, height: what the header says.
    """

    def __init__(self, message: str, width: int, height: int):
        super().__init__(message)
        self.width, self.height = width, height


@dataclass(frozen=True, eq=False)
class Picture:
    """Grey or RGB pixels with straight (not premultiplied) alpha, and what the file says about them.

    Attributes:
        pixels: 8 or 16 bits per channel; 16 bits use the whole range from 0 to 65535.
        alpha: of the same depth; None for a picture without transparency.
        icc: the colour profile.
        exif: a TIFF structure, as in a PNG; of an upright picture.
        xmp: the XML packet.
        remarks: what reading changed or left out, each a phrase to be printed after the file's name.

    Raises:
        ValueError: the shapes or depths do not fit.
    """

    pixels: UInt8[np.ndarray, "H W C"] | UInt16[np.ndarray, "H W C"]
    alpha: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    remarks: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        """Refuse shapes that are no picture."""
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3) or self.pixels.size == 0:
            raise ValueError(f"pixels must have the shape H W 1 or H W 3, got {self.pixels.shape}")
        if self.alpha is None:
            return
        if self.alpha.shape != self.pixels.shape[:2]:
            raise ValueError(f"alpha must have the shape {self.pixels.shape[:2]}, got {self.alpha.shape}")
        if self.alpha.dtype != self.pixels.dtype:
            raise ValueError(f"alpha must be {self.pixels.dtype} like the pixels, got {self.alpha.dtype}")

    @property
    def rgb(self) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]:
        """The pixels as RGB: grey is repeated."""
        return self.pixels if self.pixels.shape[2] == 3 else np.repeat(self.pixels, 3, axis=2)

    @property
    def bits(self) -> int:
        """Per channel: 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def opaque(self) -> bool:
        """Whether alpha is absent or hides nothing."""
        return self.alpha is None or int(self.alpha.min()) == np.iinfo(self.alpha.dtype).max

    def save(self, path: str | os.PathLike[str], *, quality: int = 95) -> tuple[str, ...]:
        """Write the picture; see `files.write_image`."""
        from enlca.image.files import write_image

        return write_image(path, self, quality=quality)


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, rounded to the nearest (257 levels are one); 8 bits as they are. Any shape."""
    if values.dtype == np.uint8:
        return values
    # In whole numbers: 257 is odd, so that nothing ever lies in the middle.
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def stretched(values: np.ndarray, peak: int) -> np.ndarray:
    """Whole numbers from 0 to `peak` onto the range of 8 bits (`peak` up to 255) or 16 bits, rounded."""
    top, kind = (255, np.uint8) if peak <= 255 else (65535, np.uint16)
    if peak == top:
        return values.astype(kind)
    return ((values.astype(np.uint64) * (2 * top) + peak) // (2 * peak)).clip(max=top).astype(kind)


def check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture by the size that its header says. Raises TooManyPixels."""
    if width * height > max_pixels:
        what = f"the header says {width}x{height}, more than {max_pixels} pixels"
        message = f"{path}: {what}; raise the limit (max_pixels) if you trust the file"
        raise TooManyPixels(message, width, height)


def too_deep(path: Path, held: str) -> PictureError:
    """The refusal of a picture where its depth cannot be used."""
    return PictureError(f"{path}: holds {held}; only 8 bits per channel are handled here, convert it first")


def damaged(path: Path, reason: str) -> PictureError:
    """The refusal of a file that ends early or contradicts itself."""
    return PictureError(f"{path}: damaged or cut short, get a whole copy of it ({reason})")
