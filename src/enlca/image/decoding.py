"""Rows from the bytes of a picture: libvips, and Pillow for BMP.

libvips and Pillow are loaded by the first picture that needs them. `files.open_image` chooses between them.

Letters:  H height   W width   L layers: channels, then alpha
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedReader
from typing import Any, cast

import numpy as np

from enlca.errors import PictureError
from enlca.image.metadata import exif_of_png, orientation_of
from enlca.image.rows import (
    MAX_PIXELS,
    ROWS,
    PictureRows,
    check_pixels,
    damage_error,
    depth_error,
    rows_of_array,
    stretch,
)
from enlca.image.sources import Source, read_error

# Pictures with more bytes than this are rotated on disk instead of in memory.
ROTATE_IN_MEMORY = 1 << 26

_LOADING = threading.Lock()


def libvips() -> Any:
    """Return the module `pyvips`, imported by the first call.

    libvips' warnings are switched off and pyvips' own log handler is removed: GLib ends the process when a
    warning arrives while that handler, which is Python, is running, as garbage collection can cause. Faults
    of files are raised as errors all the same.
    """
    # Two threads that remove the handler at once make GLib complain that the second finds none.
    with _LOADING:
        os.environ.setdefault("VIPS_WARNING", "1")
        import pyvips

        pyvips._remove_log_handler()
        return pyvips


@contextmanager
def _vips_errors(source: Source) -> Iterator[None]:
    """Raise libvips' errors about a file, and those of reading it, as one line of ours."""
    pyvips = libvips()
    try:
        yield
    except pyvips.Error as error:
        _raise_failure(source)
        raise damage_error(source, " ".join(str(error).split()) or type(error).__name__) from error
    _raise_failure(source)


def _raise_failure(source: Source) -> None:
    """Raise what stopped a callback."""
    failure, source.failure = source.failure, None
    if isinstance(failure, OSError):
        raise read_error(source, failure) from failure
    if failure is not None:
        raise failure


def open_with_vips(source: Source, **settings: Any) -> Any:
    """Open a lazy pyvips image: reads the header, not the pixels. Raises PictureError."""
    pyvips = libvips()
    with _vips_errors(source):
        feed = _feed(source)
        return pyvips.Image.new_from_source(feed, "", access="sequential", fail_on="error", **settings)


def _feed(source: Source) -> Any:
    """Return a pyvips source that reads through callbacks.

    They must not raise, and must not hold what is returned: the file would stay open until the next search
    for garbage.
    """
    cursor = source.open()

    def read(size: int) -> bytes:
        try:
            return cursor.read(size) or b""
        except BaseException as error:
            source.failure = error
            return b""

    def seek(offset: int, whence: int) -> int:
        try:
            return cursor.seek(offset, whence)
        except BaseException as error:
            source.failure = error
            return -1

    feed = libvips().SourceCustom()
    feed.on_read(read)
    feed.on_seek(seek)
    return feed


def rows_with_vips(
    source: Source, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS, pages: int = 1, **settings: Any
) -> PictureRows:
    """Open a file that libvips reads: its first picture, or that of `page=`; the bands decode it.

    `pages`: the number of frames below one another, where `n=` asks for several.

    Raises:
        PictureError: as `files.open_image`.
    """
    image = open_with_vips(source, **settings)
    check_pixels(source, image.width, image.height, max_pixels)
    if image.format not in ("uchar", "ushort"):
        raise depth_error(source, f"{image.format} values")
    if image.format == "ushort" and max_bits < 16:
        raise depth_error(source, "16 bits per channel")
    with _vips_errors(source):
        return _upright(source, image, pages)


def count_frames(source: Source) -> int:
    """Return the number of pages, frames or pictures by the file's header. Raises PictureError."""
    return int(field_of(open_with_vips(source), "n-pages") or 1)


def _upright(source: Source, image: Any, pages: int) -> PictureRows:
    """Convert CMYK to sRGB and apply the EXIF orientation."""
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
        raise PictureError(f"{source}: holds {kind}; convert it to RGB or grey first")
    exif = field_of(image, "exif-data")
    orientation = int(field_of(image, "orientation") or 1)
    if exif is None and str(field_of(image, "vips-loader")).startswith("png"):
        exif = exif_of_png(source.open())
        orientation = orientation_of(exif) if exif else orientation
    if orientation != 1:
        image = _rotatable(image).copy()
        image.set_type(libvips().GValue.gint_type, "orientation", orientation)
        image = image.autorot()
    n_bits = field_of(image, "bits-per-sample")
    deep_avif = image.format == "ushort" and str(field_of(image, "vips-loader")).startswith("heif")
    icc = cast("bytes | None", field_of(image, "icc-profile-data"))
    if icc is not None and not _is_profile(icc):
        remarks.append("its colour profile is damaged and was left out")
        icc = None
    return PictureRows(
        width=image.width,
        height=image.height // pages,
        channels=3 if image.bands >= 3 else 1,
        bits=16 if image.format == "ushort" else 8,
        bands=_bands(source, image, n_bits if deep_avif and n_bits != 16 else None),
        has_alpha=image.bands in (2, 4),
        icc=icc,
        exif=exif,
        xmp=field_of(image, "xmp-data"),
        remarks=tuple(remarks),
        pages=pages,
    )


def _is_profile(icc: bytes) -> bool:
    """Return whether bytes have the signature and the length of a colour profile. (ICC.1, 7.2)"""
    return len(icc) >= 128 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") == len(icc)


def _rotatable(image: Any) -> Any:
    """Decode all pixels to memory or disk: rotation needs rows in another order than the decoder's."""
    pyvips = libvips()
    if image.width * image.height * image.bands <= ROTATE_IN_MEMORY:
        return image.copy_memory()
    # The file has no name while it is open, so nothing is left behind, however the process ends.
    spooled = pyvips.Image.new_temp_file("%s.v")
    image.write(spooled)
    return spooled


def _bands(source: Source, image: Any, n_bits: int | None) -> Iterator[np.ndarray]:
    """Decode band by band; `n_bits`: the depth of values that are stored in the upper bits of 16."""
    pyvips = libvips()
    kind = np.uint8 if image.format == "uchar" else np.uint16
    with _vips_errors(source):
        region = pyvips.Region.new(image)
        for top in range(0, image.height, ROWS):
            n_rows = min(ROWS, image.height - top)
            fetched = region.fetch(0, top, image.width, n_rows)
            band = np.frombuffer(fetched, kind).reshape(n_rows, image.width, image.bands)
            # 10 or 12 bits of an AVIF: white is not yet 65535.
            yield band if n_bits is None else stretch(band >> (16 - n_bits), 2**n_bits - 1)


def field_of(image: Any, name: str) -> Any:
    """Return a field of a pyvips image, None without."""
    value = image.get(name) if image.get_typeof(name) else None
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


def open_frames(source: Source, n_frames: int, *, max_bits: int, max_pixels: int) -> PictureRows:
    """Open all `n_frames` pages of a TIFF or frames of an animation, one below the other.

    A page is a picture of its own; a frame builds on those before it, so an animation is decoded in one go.

    Raises:
        PictureError: as `files.open_image`; and pages that differ in size, channels or depth.
    """
    first = open_with_vips(source)
    check_pixels(source, first.width, first.height * n_frames, max_pixels)
    if str(field_of(first, "vips-loader")).startswith("tiff"):
        return _open_pages(source, n_frames, max_bits, max_pixels)
    tall = rows_with_vips(source, max_bits=max_bits, max_pixels=max_pixels, pages=n_frames, n=-1)
    delays = field_of(first, "delay") or [100] * n_frames
    return replace(tall, delays=tuple(delays), loop=int(field_of(first, "loop") or 0))


def _open_pages(source: Source, n_pages: int, max_bits: int, max_pixels: int) -> PictureRows:
    pages = []
    for page in range(n_pages):
        pages.append(rows_with_vips(source, max_bits=max_bits, max_pixels=max_pixels, page=page))
        max_pixels -= pages[-1].width * pages[-1].height
    if len({(page.size, page.channels, page.has_alpha, page.bits) for page in pages}) > 1:
        what = "its pages differ in size, channels or depth, which one file cannot hold here"
        raise PictureError(f"{source}: {what}; split it, or take the first with --frames first")

    def bands() -> Iterator[np.ndarray]:
        for page in pages:
            yield from page.bands

    remarks = dict.fromkeys(remark for page in pages for remark in page.remarks)
    return replace(pages[0], bands=bands(), remarks=tuple(remarks), pages=n_pages)


def rows_with_pillow(source: Source, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> PictureRows:
    """Decode a BMP file. Raises PictureError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BufferedReader(source.open()), formats=("BMP",))
        with image:
            check_pixels(source, *image.size, max_pixels)
            layers = np.array(image.convert({"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")))
    except Image.DecompressionBombError as error:
        raise PictureError(f"{source}: too many pixels for a BMP; save it as PNG or TIFF first") from error
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        # Pillow's own have no number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise damage_error(source, " ".join(str(error).split()) or type(error).__name__) from error
    return rows_of_array(layers.reshape(*layers.shape[:2], -1))
