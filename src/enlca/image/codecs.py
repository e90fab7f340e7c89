"""Arrays from and to the bytes of a picture: libvips, Pillow for BMP, and our own `netpbm`.

libvips and Pillow are loaded by the first picture that needs them. `files` and `frames` are the doors.

Letters:  H height   W width   C channels: 1 (grey) or 3 (red, green, blue)   L layers: channels, then alpha
"""

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from enlca.image import netpbm
from enlca.image.exif import updated_exif, upright_xmp
from enlca.image.picture import (
    MAX_PIXELS,
    Picture,
    PictureError,
    check_pixels,
    damaged,
    stretched,
    to_8_bits,
    too_deep,
)

__all__ = ["Format", "Picture", "PictureError", "decode_with_pillow", "decode_with_vips", "encode_with_vips"]


@dataclass(frozen=True)
class Format:
    """What can be written under a suffix: who writes it, with which options, and what it cannot hold."""

    name: str
    library: str = "libvips"
    options: tuple[tuple[str, Any], ...] = ()
    has_quality: bool = False
    holds_alpha: bool = True
    holds_16_bits: bool = False
    holds_grey: bool = True
    holds: tuple[str, ...] = ("icc", "exif", "xmp")
    longest_side: int | None = None


# libvips warns through this logger: for those who configured logging, not for everybody's stderr.
logging.getLogger("pyvips").addHandler(logging.NullHandler())


@contextmanager
def _vips_errors(path: Path) -> Iterator[None]:
    """libvips' complaints about a file as one line of ours."""
    import pyvips

    try:
        yield
    except pyvips.Error as error:
        raise damaged(path, " ".join(str(error).split()) or type(error).__name__) from error


def open_with_vips(path: Path, **settings: Any) -> Any:
    """A lazy pyvips image: the header has been read, the pixels have not. Raises PictureError."""
    import pyvips

    with _vips_errors(path):
        # A source takes the name literally, where new_from_file reads options out of "photo[1].png".
        source = pyvips.Source.new_from_file(os.fspath(path))
        return pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error", **settings)


def decode_with_vips(
    path: Path, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS, **settings: Any
) -> Picture:
    """A picture of a file that libvips reads: the first one, or that of `page=`. Raises PictureError."""
    image = open_with_vips(path, **settings)
    check_pixels(path, image.width, image.height, max_pixels)
    if image.format not in ("uchar", "ushort"):
        raise too_deep(path, f"{image.format} values")
    if image.format == "ushort" and max_bits < 16:
        raise too_deep(path, "16 bits per channel")
    with _vips_errors(path):
        return _upright(path, image)


def count_frames(path: Path) -> int:
    """How many pages, frames or pictures a file holds by its header. Raises PictureError."""
    return int(field_of(open_with_vips(path), "n-pages") or 1)


def _upright(path: Path, image: Any) -> Picture:
    """Decode: ink to sRGB, turned as EXIF says, colour and alpha apart."""
    remarks = []
    if image.interpretation == "cmyk":
        how = "its profile" if image.get_typeof("icc-profile-data") else "a common profile, it has none"
        remarks.append(f"CMYK converted to sRGB through {how}")
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth).copy_memory()
        image.remove("icc-profile-data")
    bands = {"b-w": (1, 2), "grey16": (1, 2), "srgb": (3, 4), "rgb": (3, 4), "rgb16": (3, 4)}
    if image.bands not in bands.get(str(image.interpretation), ()):
        kind = f"{image.bands} channels of {image.interpretation}"
        raise PictureError(f"{path}: holds {kind}; convert it to RGB or grey first")
    if image.get_typeof("orientation") and image.get("orientation") != 1:
        # Turning needs rows in another order than the decoder gives them.
        image = image.copy_memory().autorot()
    layers = image.numpy().reshape(image.height, image.width, image.bands)
    n_bits = field_of(image, "bits-per-sample")
    if layers.dtype == np.uint16 and str(field_of(image, "vips-loader")).startswith("heif") and n_bits != 16:
        # The 10 or 12 bits of an AVIF come in the upper bits: its white is not yet 65535.
        layers = stretched(layers >> (16 - n_bits), 2**n_bits - 1)
    exif = field_of(image, "exif-data")
    if exif is not None:
        exif = updated_exif(exif, width=image.width, height=image.height)
        remarks += [] if exif else ["its EXIF data are damaged and were left out"]
    xmp = field_of(image, "xmp-data")
    picture = split(layers, cast("bytes | None", field_of(image, "icc-profile-data")))
    return replace(picture, exif=exif, xmp=xmp and upright_xmp(xmp), remarks=tuple(remarks))


def field_of(image: Any, name: str) -> Any:
    """A field of a pyvips image; None if it has none of that name."""
    value = image.get(name) if image.get_typeof(name) else None
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


def decode_with_pillow(path: Path, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture of a BMP file. Raises PictureError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=("BMP",))
        with image:
            check_pixels(path, *image.size, max_pixels)
            layers = np.array(image.convert({"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")))
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path}: too many pixels for a BMP; save it as PNG or TIFF first") from error
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        raise damaged(path, " ".join(str(error).split()) or type(error).__name__) from error
    return split(layers.reshape(*layers.shape[:2], -1), None)


def split(layers: np.ndarray, icc: bytes | None) -> Picture:
    """Colour and alpha apart: 1 or 3 layers of colour, and alpha as the 2nd or 4th."""
    n_colours = 3 if layers.shape[2] >= 3 else 1
    alpha = np.ascontiguousarray(layers[:, :, n_colours]) if layers.shape[2] > n_colours else None
    return Picture(np.ascontiguousarray(layers[:, :, :n_colours]), alpha, icc)


def joined(picture: Picture) -> np.ndarray:
    """Colour and alpha as one array, H W L."""
    if picture.alpha is None:
        return picture.pixels
    return np.concatenate([picture.pixels, picture.alpha[:, :, None]], axis=2)


def encode_with_vips(
    path: Path, pictures: Sequence[Picture], form: Format, *, quality: int, **settings: Any
) -> bytes:
    """The bytes of a file; `path` gives the suffix and the name for errors. Raises PictureError.

    Several pictures of one size and kind become pages or frames; `settings` are further fields, as `delay`.
    """
    import pyvips

    layers = np.ascontiguousarray(np.concatenate([joined(picture) for picture in pictures]))
    height, width, bands = layers.shape
    deep = layers.dtype == np.uint16
    space = ("grey16" if deep else "b-w") if bands < 3 else ("rgb16" if deep else "srgb")
    first = pictures[0]
    try:
        image = pyvips.Image.new_from_memory(
            layers.data, width, height, bands, "ushort" if deep else "uchar"
        ).copy(interpretation=space)
        blobs = {"icc-profile-data": first.icc, "exif-data": first.exif, "xmp-data": first.xmp}
        for name, blob in blobs.items():
            if blob is not None:
                image.set_type(pyvips.GValue.blob_type, name, cast(Any, blob))
        if len(pictures) > 1:
            image.set_type(pyvips.GValue.gint_type, "page-height", cast(Any, first.size[1]))
        for name, value in settings.items():
            kind = pyvips.GValue.gint_type if isinstance(value, int) else pyvips.GValue.array_int_type
            image.set_type(kind, name, cast(Any, value))
        options = dict(form.options) | ({"Q": quality} if form.has_quality else {})
        return image.write_to_buffer(path.suffix.lower(), **options)
    except pyvips.Error as error:
        reason = " ".join(str(error).split())
        raise PictureError(f"{path}: cannot be encoded as {form.name} ({reason})") from error


def encode(path: Path, picture: Picture, form: Format, *, quality: int) -> bytes:
    """The bytes of a file with one picture that `fitted` has made fit. Raises PictureError."""
    if form.library == "libvips":
        return encode_with_vips(path, [picture], form, quality=quality)
    if form.library == "netpbm":
        return netpbm.encode(picture.pixels)
    from PIL import Image

    out = io.BytesIO()
    grey = picture.pixels.shape[2] == 1
    Image.fromarray(picture.pixels[:, :, 0] if grey else picture.pixels).save(out, format=form.name)
    return out.getvalue()


def fitted(picture: Picture, form: Format) -> tuple[Picture, tuple[str, ...]]:
    """The picture as the format can hold it, and what had to change or go. Not for alpha that hides."""
    remarks = []
    pixels, alpha, icc = picture.pixels, picture.alpha, picture.icc
    if picture.bits == 16 and not form.holds_16_bits:
        remarks.append(f"{form.name} holds 8 bits per channel here: 16 bits were rounded")
        pixels, alpha = to_8_bits(pixels), None if alpha is None else to_8_bits(alpha)
    if not form.holds_alpha:
        alpha = None
    width, height = picture.size
    # Whoever resized the picture need not know about EXIF.
    exif = picture.exif and updated_exif(picture.exif, width=width, height=height)
    about = {"icc": icc, "exif": exif, "xmp": picture.xmp}
    lost = [name for name, blob in about.items() if blob is not None and name not in form.holds]
    if lost:
        remarks.append(f"{form.name} cannot hold {', '.join(lost).upper()} data here: left out")
    about = {name: blob if name in form.holds else None for name, blob in about.items()}
    # Bytes 16 to 20 of a profile name its colour space; one that does not fit the channels is no use.
    space = b"GRAY" if pixels.shape[2] == 1 and form.holds_grey else b"RGB "
    if about["icc"] is not None and about["icc"][16:20] != space:
        remarks.append("the colour profile was left out, for it does not fit the file's channels")
        about["icc"] = None
    return Picture(pixels, alpha, about["icc"], about["exif"], about["xmp"]), tuple(remarks)
