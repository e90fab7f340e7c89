"""Arrays from and to the bytes of a picture: libvips, and Pillow for BMP and PPM, which libvips lacks.

Both libraries are loaded by the first picture that needs them. `files` is the door; nobody else calls this.

Letters:  H height   W width   C channels: 1 (grey) or 3 (red, green, blue)   L layers: channels, then alpha
"""

import io
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8

from enlca.errors import EnlcaError


class PictureError(EnlcaError):
    """A picture that cannot be read or written: one line naming the file, what is wrong and what is right."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Grey or RGB pixels of 8 bits, with straight (not premultiplied) alpha and their colour profile.

    Raises:
        ValueError: the shapes do not fit.
    """

    pixels: UInt8[np.ndarray, "H W C"]
    alpha: UInt8[np.ndarray, "H W"] | None = None
    icc: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse shapes that are no picture."""
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3) or self.pixels.size == 0:
            raise ValueError(f"pixels must have the shape H W 1 or H W 3, got {self.pixels.shape}")
        if self.alpha is not None and self.alpha.shape != self.pixels.shape[:2]:
            raise ValueError(f"alpha must have the shape {self.pixels.shape[:2]}, got {self.alpha.shape}")

    @property
    def rgb(self) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels as RGB: grey is repeated."""
        return self.pixels if self.pixels.shape[2] == 3 else np.repeat(self.pixels, 3, axis=2)

    def save(self, path: str | os.PathLike[str], *, quality: int = 95) -> None:
        """Write the picture; see `files.write_image`."""
        from enlca.image.files import write_image

        write_image(path, self, quality=quality)


@dataclass(frozen=True)
class Format:
    """What can be written under a suffix: who writes it, with which options, and what it cannot hold."""

    name: str
    library: str = "libvips"
    options: tuple[tuple[str, Any], ...] = ()
    has_quality: bool = False
    holds_alpha: bool = True
    longest_side: int | None = None


# libvips warns through this logger: for those who configured logging, not for everybody's stderr.
logging.getLogger("pyvips").addHandler(logging.NullHandler())


def _damaged(path: Path, error: Exception) -> PictureError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return PictureError(f"{path}: damaged or cut short, get a whole copy of it ({reason})")


def _deep(path: Path, held: str) -> PictureError:
    return PictureError(f"{path}: holds {held}; only 8 bits per channel are handled, convert it first")


def decode_with_vips(path: Path) -> Picture:
    """The first picture of a file that libvips reads. Raises PictureError."""
    import pyvips

    try:
        # A source takes the name literally, where new_from_file reads options out of "photo[1].png".
        source = pyvips.Source.new_from_file(os.fspath(path))
        image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error")
        if image.format != "uchar":
            raise _deep(path, "16 bits per channel" if image.format == "ushort" else f"{image.format} values")
        if image.interpretation == "cmyk":
            image = image.icc_transform("srgb", embedded=True, input_profile="cmyk").copy_memory()
            image.remove("icc-profile-data")
        bands = {"b-w": (1, 2), "srgb": (3, 4), "rgb": (3, 4)}
        if image.bands not in bands.get(str(image.interpretation), ()):
            kind = f"{image.bands} channels of {image.interpretation}"
            raise PictureError(f"{path}: holds {kind}; convert it to RGB or grey first")
        if image.get_typeof("orientation") and image.get("orientation") != 1:
            # Turning needs rows in another order than the decoder gives them.
            image = image.copy_memory().autorot()
        icc = image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
        layers = image.numpy().reshape(image.height, image.width, image.bands)
    except pyvips.Error as error:
        raise _damaged(path, error) from error
    return _picture(layers, cast("bytes | None", icc))


def decode_with_pillow(path: Path) -> Picture:
    """The picture of a BMP or PPM file. Raises PictureError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=("BMP", "PPM"))
        with image:
            # Pillow would scale a PPM of 16 bits to 8 without a word; its decoder is told the largest value.
            settings = image.tile[0][3]
            largest = settings[-1] if image.format == "PPM" and isinstance(settings, tuple) else 255
            if image.mode == "I" or (isinstance(largest, int) and largest > 255):
                raise _deep(path, "16 bits per channel")
            layers = np.array(image.convert({"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")))
    except PictureError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _damaged(path, error) from error
    return _picture(layers.reshape(*layers.shape[:2], -1), None)


def _picture(layers: np.ndarray, icc: bytes | None) -> Picture:
    """Colour and alpha apart: 1 or 3 layers of colour, and alpha as the 2nd or 4th."""
    n_colours = 3 if layers.shape[2] >= 3 else 1
    alpha = np.ascontiguousarray(layers[:, :, n_colours]) if layers.shape[2] > n_colours else None
    return Picture(np.ascontiguousarray(layers[:, :, :n_colours]), alpha, icc)


def encode_with_vips(
    path: Path, layers: UInt8[np.ndarray, "H W L"], icc: bytes | None, form: Format, quality: int
) -> bytes:
    """The bytes of a file; `path` gives the suffix and the name for errors. Raises PictureError."""
    import pyvips

    height, width, bands = layers.shape
    grey = bands < 3
    try:
        image = pyvips.Image.new_from_memory(np.ascontiguousarray(layers).data, width, height, bands, "uchar")
        image = image.copy(interpretation="b-w" if grey else "srgb")
        # Bytes 16 to 20 of a profile name its colour space; one that does not fit the channels is no use.
        if icc is not None and icc[16:20] == (b"GRAY" if grey else b"RGB "):
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", cast(Any, icc))
        options = dict(form.options) | ({"Q": quality} if form.has_quality else {})
        return image.write_to_buffer(path.suffix.lower(), **options)
    except pyvips.Error as error:
        reason = " ".join(str(error).split())
        raise PictureError(f"{path}: cannot be encoded as {form.name} ({reason})") from error


def encode_with_pillow(
    path: Path, layers: UInt8[np.ndarray, "H W L"], icc: bytes | None, form: Format, quality: int
) -> bytes:
    """The bytes of a BMP or PPM file, which hold neither profile nor quality."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(layers[:, :, 0] if layers.shape[2] == 1 else layers).save(out, format=form.name)
    return out.getvalue()
