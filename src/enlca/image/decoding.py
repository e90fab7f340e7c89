"""Rows from the bytes of a picture: libvips, and Pillow for BMP.

libvips and Pillow are loaded by the first picture that needs them. `files` is the door.

Letters:  H height   W width   L layers: channels, then alpha
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from enlca.errors import PictureError
from enlca.image.exif import exif_of_png, orientation_of, updated_exif, upright_xmp
from enlca.image.libvips import libvips
from enlca.image.picture import MAX_PIXELS, Picture, check_pixels, damaged, stretched, too_deep
from enlca.image.rows import ROWS, PictureRows, split

# A picture to be turned that takes more than this is turned on the disk.
HELD_BYTES = 1 << 26


@contextmanager
def _vips_errors(path: Path) -> Iterator[None]:
    """libvips' complaints about a file as one line of ours."""
    pyvips = libvips()

    try:
        yield
    except pyvips.Error as error:
        raise damaged(path, " ".join(str(error).split()) or type(error).__name__) from error


def open_with_vips(path: Path, **settings: Any) -> Any:
    """A lazy pyvips image: the header has been read, the pixels have not. Raises PictureError."""
    pyvips = libvips()

    with _vips_errors(path):
        # A source takes the name literally, where new_from_file reads options out of "photo[1].png".
        source = pyvips.Source.new_from_file(os.fspath(path))
        return pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error", **settings)


def rows_with_vips(
    path: Path, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS, pages: int = 1, **settings: Any
) -> PictureRows:
    """The picture of a file that libvips reads: the first one, or that of `page=`; not decoded yet.

    `pages`: how many frames lie below one another, where `n=` asks for several. What can only be seen while
    decoding is raised by the bands.

    Raises:
        PictureError: as `files.read_image`.
    """
    image = open_with_vips(path, **settings)
    check_pixels(path, image.width, image.height, max_pixels)
    if image.format not in ("uchar", "ushort"):
        raise too_deep(path, f"{image.format} values")
    if image.format == "ushort" and max_bits < 16:
        raise too_deep(path, "16 bits per channel")
    with _vips_errors(path):
        return _upright(path, image, pages)


def count_frames(path: Path) -> int:
    """How many pages, frames or pictures a file holds by its header. Raises PictureError."""
    return int(field_of(open_with_vips(path), "n-pages") or 1)


def _upright(path: Path, image: Any, pages: int) -> PictureRows:
    """Ink to sRGB, turned as EXIF says."""
    remarks = []
    if image.interpretation == "cmyk":
        how = "its profile" if image.get_typeof("icc-profile-data") else "a common profile, it has none"
        remarks.append(f"CMYK converted to sRGB through {how}")
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth).copy()
        image.remove("icc-profile-data")
    bands = {"b-w": (1, 2), "grey16": (1, 2), "srgb": (3, 4), "rgb": (3, 4), "rgb16": (3, 4)}
    if image.bands not in bands.get(str(image.interpretation), ()):
        kind = f"{image.bands} channels of {image.interpretation}"
        raise PictureError(f"{path}: holds {kind}; convert it to RGB or grey first")
    exif = field_of(image, "exif-data")
    turned = int(field_of(image, "orientation") or 1)
    if exif is None and str(field_of(image, "vips-loader")).startswith("png"):
        exif = exif_of_png(path)
        turned = orientation_of(exif) if exif else turned
    if turned != 1:
        image = _held(image).copy()
        image.set_type(libvips().GValue.gint_type, "orientation", turned)
        image = image.autorot()
    n_bits = field_of(image, "bits-per-sample")
    deep_avif = image.format == "ushort" and str(field_of(image, "vips-loader")).startswith("heif")
    if exif is not None:
        exif = updated_exif(exif, width=image.width, height=image.height)
        remarks += [] if exif else ["its EXIF data are damaged and were left out"]
    icc = cast("bytes | None", field_of(image, "icc-profile-data"))
    if icc is not None and not _is_profile(icc):
        remarks.append("its colour profile is damaged and was left out")
        icc = None
    xmp = field_of(image, "xmp-data")
    return PictureRows(
        width=image.width,
        height=image.height // pages,
        channels=3 if image.bands >= 3 else 1,
        bits=16 if image.format == "ushort" else 8,
        bands=_bands(path, image, n_bits if deep_avif and n_bits != 16 else None),
        has_alpha=image.bands in (2, 4),
        icc=icc,
        exif=exif,
        xmp=xmp and upright_xmp(xmp),
        remarks=tuple(remarks),
        pages=pages,
    )


def _is_profile(icc: bytes) -> bool:
    """Whether bytes begin as a colour profile does, and are as long as it says. (ICC.1, 7.2)"""
    return len(icc) >= 128 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") == len(icc)


def _held(image: Any) -> Any:
    """All pixels in memory or on the disk: turning needs rows in another order than the decoder gives."""
    pyvips = libvips()

    if image.width * image.height * image.bands <= HELD_BYTES:
        return image.copy_memory()
    # It has no name while it is open, so nothing is left, however the process ends.
    held = pyvips.Image.new_temp_file("%s.v")
    image.write(held)
    return held


def _bands(path: Path, image: Any, n_bits: int | None) -> Iterator[np.ndarray]:
    """Decode, some rows at a time; `n_bits`: of values that lie in the upper bits of 16."""
    pyvips = libvips()

    kind = np.uint8 if image.format == "uchar" else np.uint16
    with _vips_errors(path):
        region = pyvips.Region.new(image)
        for top in range(0, image.height, ROWS):
            n_rows = min(ROWS, image.height - top)
            fetched = region.fetch(0, top, image.width, n_rows)
            band = np.frombuffer(fetched, kind).reshape(n_rows, image.width, image.bands)
            # The 10 or 12 bits of an AVIF: its white is not yet 65535.
            yield band if n_bits is None else stretched(band >> (16 - n_bits), 2**n_bits - 1)


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
    return split(layers.reshape(*layers.shape[:2], -1))
