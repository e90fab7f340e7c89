"""HEIC and JPEG XL, by plug-ins of Pillow's (the extra `formats`): libvips' wheel has no decoders of them.

Letters:  H height   W width   L layers: 1 or 3 channels, then alpha if there is any
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from enlca.errors import MissingExtra, PictureError, require
from enlca.image.metadata import dpi_of
from enlca.image.rows import (
    MAX_PIXELS,
    Band,
    PictureRows,
    check_pixels,
    damage_error,
    depth_error,
    rows_of_array,
)
from enlca.image.source import Source

# Bytes of a file in which a JPEG XL says its size, in a container after boxes of metadata.
_HEADER = 1 << 16
# Bytes of a codestream that hold the longest SizeHeader.
_SIZE_HEADER = 12
_CODESTREAM = b"\xff\x0a"


def decode(source: Source, kind: str, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> PictureRows:
    """Decode a file of a key of `DECODERS`, its first picture.

    Raises:
        PictureError: the plug-in is not installed; damaged, deeper than `max_bits`, or more pixels than
            `max_pixels`.
        OSError: the file cannot be read.
    """
    try:
        return DECODERS[kind](source, max_bits=max_bits, max_pixels=max_pixels)
    except MissingExtra as error:
        raise PictureError(f"{source}: {error}") from error


def _decode_heic(source: Source, *, max_bits: int, max_pixels: int) -> PictureRows:
    with require("formats", feature="reading HEIC"):
        import pillow_heif
    data = io.BytesIO(source.read_at(0))
    with _errors(source):
        # Lazy: the header says size and kind, the pixels are decoded when they are asked for.
        file = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
        image = file[file.primary_index]
    check_pixels(source, *image.size, max_pixels)
    mode, _, deep = image.mode.partition(";")
    if deep and max_bits < 16:
        raise depth_error(source, f"{image.info.get('bit_depth')} bits per channel", max_bits=max_bits)

    def bands() -> Iterator[Band]:
        with _errors(source):
            layers = np.asarray(image)
        yield layers.reshape(*layers.shape[:2], -1)

    width, height = image.size
    bits, has_alpha = 16 if deep else 8, mode.endswith("A")
    channels = 1 if mode.startswith("L") else 3
    rows = PictureRows(
        width=width, height=height, channels=channels, bits=bits, bands=bands(), has_alpha=has_alpha
    )
    # libheif's planes, and the pixels made of them.
    rows = replace(rows, decoder_bytes=2 * rows.nbytes)
    remarks = (f"only the first of {len(file)} pictures",) if len(file) > 1 else ()
    return _with_metadata(rows, image.info).with_remarks(*remarks)


def _decode_jxl(source: Source, *, max_bits: int, max_pixels: int) -> PictureRows:
    with require("formats", feature="reading JPEG XL"):
        import pillow_jxl  # noqa: F401 - registers the format
    from PIL import Image

    # The plug-in decodes all of the file when it opens it.
    size = size_of_jxl(source.read_at(0, _HEADER))
    if size is None:
        raise damage_error(source, "the header says no size")
    check_pixels(source, *size, max_pixels)
    with _errors(source):
        image = Image.open(io.BytesIO(source.read_at(0)), formats=("JXL",))
    with image:
        # What was decoded counts, should the plug-in have found another size than we did.
        check_pixels(source, *image.size, max_pixels)
        mode, about = image.mode, {**image.info}
        with _errors(source):
            layers = np.array(image)
    if mode not in ("L", "LA", "RGB", "RGBA", "I;16") or (mode == "I;16" and max_bits < 16):
        content = "16 bits per channel" if mode == "I;16" else f"values of mode {mode}"
        raise depth_error(source, content, max_bits=max_bits)
    return _with_metadata(rows_of_array(layers.reshape(*layers.shape[:2], -1)), about)


DECODERS: dict[str, Callable[..., PictureRows]] = {"heic": _decode_heic, "jxl": _decode_jxl}


def _with_metadata(rows: PictureRows, about: Mapping[Any, Any]) -> PictureRows:
    """Add the metadata that Pillow calls `info`."""
    exif = about.get("exif") or None
    dpi = dpi_of(exif) if exif else None
    inches = (rows.width / dpi[0], rows.height / dpi[1]) if dpi else None
    return replace(rows, icc=about.get("icc_profile") or None, exif=exif, xmp=about.get("xmp"), inches=inches)


@contextmanager
def _errors(source: Source) -> Iterator[None]:
    """Raise a plug-in's errors about a file, which have no common type, as one line of ours."""
    try:
        yield
    except Exception as error:
        raise damage_error(source, " ".join(str(error).split()) or type(error).__name__) from error


def size_of_jxl(data: bytes) -> tuple[int, int] | None:
    """Return width and height by the header of a JPEG XL, None without. (ISO 18181-1, SizeHeader)"""
    stream = _codestream(data)
    if not stream.startswith(_CODESTREAM) or len(stream) < _SIZE_HEADER:
        return None
    bits = int.from_bytes(stream[len(_CODESTREAM) : _SIZE_HEADER], "little")

    def take(n: int) -> int:
        nonlocal bits
        value = bits & ((1 << n) - 1)
        bits >>= n
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    height, ratio = side(), take(3)
    across, down = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return (height * across // down if ratio else side()), height


def _codestream(data: bytes) -> bytes:
    """Return what the first bytes of a JPEG XL hold of its codestream, at least a SizeHeader if there is one.

    Box by box, as a decoder finds it: metadata may contain anything, such as the start of another codestream.
    (ISO 18181-2)
    """
    if data.startswith(_CODESTREAM):
        return data
    stream, at = b"", 0
    while len(stream) < _SIZE_HEADER and at + 8 <= len(data):
        length, kind, start = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        # Without a length the box is the last one.
        end = at + length if length else len(data)
        if end < start:
            break
        if kind == b"jxlc":
            stream += data[start:end]
        elif kind == b"jxlp":
            # A part begins with its number.
            stream += data[start + 4 : end]
        at = end
    return stream
