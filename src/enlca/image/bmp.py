"""BMP files, by Pillow: libvips' wheel does not read them."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from enlca.errors import PictureError
from enlca.image.rows import MAX_PIXELS, Band, PictureRows, band_height, check_pixels, damage_error
from enlca.image.source import Source, read_error

# Pillow's modes that stay as they are; all others become RGB. "1" has no grey of its own.
KEPT = {"1": "L", "L": "L", "RGBA": "RGBA"}


def decode(source: Source, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> PictureRows:
    """Open a BMP file, which the first band decodes as a whole.

    Raises:
        PictureError: a damaged header, or more pixels than `max_pixels`; by the bands: damaged or cut short.
        OSError: its bytes cannot be read.
    """
    from PIL import Image

    with _errors(source), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        # Not read as a whole: what follows the pixels may be anything.
        image = Image.open(io.BufferedReader(_File(source)), formats=("BMP",))
    width, height = image.size
    check_pixels(source, width, height, max_pixels)
    mode = KEPT.get(image.mode, "RGB")
    dpi = image.info.get("dpi", (0, 0))
    return PictureRows(
        width=width,
        height=height,
        channels=1 if mode == "L" else 3,
        bits=8,
        bands=_bands(source, image, mode),
        has_alpha=mode == "RGBA",
        inches=(width / dpi[0], height / dpi[1]) if min(dpi) > 0 else None,
        # Pillow has 4 bytes for a pixel of colour.
        decoder_bytes=width * height * (1 if image.mode in ("1", "L", "P") else 4),
    )


def _bands(source: Source, image: Any, mode: str) -> Iterator[Band]:
    width, height = image.size
    with _errors(source), image:
        image.load()
        n_rows = band_height(4 * width)
        for top in range(0, height, n_rows):
            band = np.asarray(image.crop((0, top, width, min(top + n_rows, height))).convert(mode))
            yield band.reshape(*band.shape[:2], -1)


@contextmanager
def _errors(source: Source) -> Iterator[None]:
    """Raise Pillow's errors about a file as one line of ours."""
    from PIL import Image

    try:
        yield
    except Image.DecompressionBombError as error:
        raise PictureError(f"{source}: too many pixels for a BMP; save it as PNG or TIFF first") from error
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno:
            raise read_error(source, error) from error
        raise damage_error(source, " ".join(str(error).split()) or type(error).__name__) from error


class _File(io.RawIOBase):
    """The bytes of a source as a file."""

    def __init__(self, source: Source):
        super().__init__()
        self.source, self.position = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = (0, self.position, self.source.end() if whence == io.SEEK_END else 0)[whence]
        self.position = origin + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        part = self.source.read_at(self.position, len(buffer))
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)
