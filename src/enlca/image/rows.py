"""Pixel data as bands of rows, so that a picture larger than memory can be read and written.

This is the base of the room: every other module imports it, and it imports none of them.

Letters:  h rows of a band   W width   L layers: 1 or 3 channels, then alpha if there is any
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from enlca.errors import DamagedPicture, PictureError, TooManyPixels

# Rows per band where nothing else decides.
ROWS = 64
# Bytes of a band of that many rows; a picture that is wider has lower bands.
BAND_BYTES = 1 << 25
# Default limit on the pixels that a header may announce: 3 GiB as RGB of 8 bits.
MAX_PIXELS = 1 << 30

Band = UInt8[np.ndarray, "_ _ L"] | UInt16[np.ndarray, "_ _ L"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PictureRows:
    """Size, kind and metadata of a picture, and its rows from top to bottom; pages follow one another.

    Attributes:
        width, height: of each page, in pixels.
        channels: 1 (grey) or 3 (RGB).
        bits: 8 or 16 per channel; 16 bits use the whole range from 0 to 65535.
        has_alpha: whether the last layer is straight (not premultiplied) alpha.
        alpha_is_visible: whether some alpha is below its maximum; True while it is unknown.
        bands: the rows, each `h W L`; an iterator gives them once.
        icc: the colour profile.
        exif: a TIFF structure. It may still describe the file that was read, with another orientation and
            size: `metadata.update_metadata` brings it up to date at the end.
        xmp: the XML packet; may be outdated like `exif`.
        remarks: what was changed or left out so far, each a phrase to be printed after the file's name.
        pages: number of pictures of this size.
        delays: display time of each frame in milliseconds; empty for pages.
        loop: how many times an animation is shown; 0 is for ever.
        decoder_bytes: memory that the decoder takes for the whole picture while the bands are read; 0 for
            one that works row by row.
        inches: printed width and height of a page; None if the file does not say. Resizing keeps them.
        upscaled: whether they were made by upscaling here, now or by an earlier run that marked its file.
    """

    width: int
    height: int
    channels: int
    bits: int
    bands: Iterable[Band]
    has_alpha: bool = False
    alpha_is_visible: bool = True
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    remarks: tuple[str, ...] = ()
    pages: int = 1
    delays: tuple[int, ...] = ()
    loop: int = 0
    decoder_bytes: int = 0
    inches: tuple[float, float] | None = None
    upscaled: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a page, in pixels."""
        return self.width, self.height

    @property
    def layers(self) -> int:
        """Number of channels, plus one for alpha."""
        return self.channels + self.has_alpha

    @property
    def dtype(self) -> np.dtype:
        """Type of the bands: uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels per inch across and down, as the printed size says."""
        if self.inches is None:
            return None
        return round(self.width / self.inches[0], 3), round(self.height / self.inches[1], 3)

    @property
    def opaque(self) -> bool:
        """Whether alpha is absent or known to be at its maximum everywhere."""
        return not (self.has_alpha and self.alpha_is_visible)

    @property
    def nbytes(self) -> int:
        """Size of all rows of all pages in bytes."""
        return self.pages * self.height * self.width * self.layers * self.dtype.itemsize

    def with_remarks(self, *remarks: str) -> "PictureRows":
        """Return a copy with further remarks."""
        return replace(self, remarks=(*self.remarks, *remarks))


def rows_of_array(layers: Band) -> PictureRows:
    """Wrap an array `H W L` of 1 to 4 layers as rows."""
    height, width, n_layers = layers.shape
    channels = count_colours(n_layers)
    has_alpha = n_layers > channels
    return PictureRows(
        width=width,
        height=height,
        channels=channels,
        bits=8 * layers.dtype.itemsize,
        bands=[layers],
        has_alpha=has_alpha,
        alpha_is_visible=has_alpha and int(layers[:, :, -1].min()) < np.iinfo(layers.dtype).max,
    )


def stack_bands(
    bands: Iterable[Shaped[np.ndarray, "_ _ L"]], shape: tuple[int, int, int], dtype: np.dtype
) -> Shaped[np.ndarray, "_ _ L"]:
    """Copy bands below one another into a new array of `shape` (H W L)."""
    array, done = np.empty(shape, dtype), 0
    for band in bands:
        array[done : done + len(band)] = band
        done += len(band)
    return array


def count_colours(n_layers: int) -> int:
    """Return how many of 1 to 4 layers are colour: 1 or 3; a further one is alpha."""
    return 3 if n_layers >= 3 else 1


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Map 0..65535 to 0..255, rounded to the nearest (257 levels are one); uint8 is returned as it is."""
    if values.dtype == np.uint8:
        return values
    # In integers: 257 is odd, so there are no ties.
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def stretch(values: np.ndarray, peak: int) -> np.ndarray:
    """Scale integers from 0..`peak` to the range of 8 bits (`peak` up to 255) or 16 bits, rounded."""
    top, dtype = (255, np.uint8) if peak <= 255 else (65535, np.uint16)
    if peak == top:
        return values.astype(dtype)
    return ((values.astype(np.uint64) * (2 * top) + peak) // (2 * peak)).clip(max=top).astype(dtype)


def band_height(row_bytes: int) -> int:
    """Return the number of rows of a band, at least 1, for rows of so many bytes."""
    return max(1, min(ROWS, BAND_BYTES // row_bytes))


def check_pixels(source: object, width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture by the size in its header. Raises TooManyPixels."""
    if width * height > max_pixels:
        what = f"the header says {width}x{height}, more than {max_pixels} pixels"
        message = f"{source}: {what}; raise the limit (max_pixels) if you trust the file"
        raise TooManyPixels(message, width, height)


def depth_error(source: object, content: str, *, max_bits: int) -> PictureError:
    """Return the error for a picture whose depth is not supported by the caller."""
    handled = "integers of 8 or 16 bits" if max_bits == 16 else "8 bits"
    return PictureError(
        f"{source}: holds {content}; only {handled} per channel are handled here, convert it first"
    )


def damage_error(source: object, reason: str) -> DamagedPicture:
    """Return the error for a file that ends early or contradicts itself."""
    return DamagedPicture(f"{source}: damaged or cut short, get a whole copy of it ({reason})")
