"""The bytes of a picture, and rows from them by libvips, which is loaded by the first picture that needs it.

`files.open_image` chooses between this, `pages`, `bmp` and `netpbm`.

Letters:  H height   W width   L layers: channels, then alpha
"""

import io
import os
import re
import shutil
import stat
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from enlca.errors import PictureError
from enlca.image.metadata import GIF_MARK, MARK, dpi_of, exif_of_png, orientation_of
from enlca.image.rows import (
    MAX_PIXELS,
    PictureRows,
    band_height,
    check_pixels,
    damage_error,
    depth_error,
    stretch,
)

# Pictures with more bytes than this are rotated on disk instead of in memory.
ROTATE_IN_MEMORY = 1 << 26
# Pixels per metre that libvips assumes of a PNG that does not say.
_NO_PNG_RESOLUTION = 2834

# Bytes that libvips takes for a pixel of formats that it decodes as a whole, of 8 bits.
PIXEL_BYTES = {"webp": 10, "heif": 16, "gif": 7}
# Blank pages of so many pixels exist, and files with so many pixels in each byte do not.
MOST_EMPTY, MOST_PIXELS_PER_BYTE = 100_000_000, 100_000

_LOADING = threading.Lock()


File = BinaryIO | io.IOBase
Readable = str | os.PathLike[str] | bytes | bytearray | memoryview | File


class Source:
    """The bytes of a picture from a path, from memory or from a file object; as text, its name in messages.

    libvips maps a file that it opens by itself, and the process ends by SIGBUS if the file becomes shorter
    while it is read. It is handed bytes instead, so such a file is a damaged picture like any other.

    Attributes:
        name: of the file; "picture" where there is none.
        failure: what stopped a callback of libvips, which cannot raise it.
    """

    def __init__(self, file: Any, name: str, *, owned: bool = False):
        self.name, self.failure = name, cast("BaseException | None", None)
        self._file, self._start, self._guard = file, file.tell(), threading.Lock()
        if owned:
            # With the last reader, which may be a picture of libvips.
            weakref.finalize(self, file.close).atexit = False

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, source: "Readable | Source", *, name: str | None = None) -> "Source":
        """Open a path, wrap bytes or a file object; a `Source` is returned as it is.

        A file object is read from its present position, and must not be moved by others meanwhile; it stays
        open. One that cannot seek, such as a pipe, is copied to an unnamed temporary file first.

        Raises:
            PictureError: no such file, a folder, a pipe or a device by its path, no permission.
            TypeError: another kind of object.
        """
        if isinstance(source, Source):
            return source
        if isinstance(source, (str, os.PathLike)):
            return cls(_open(Path(source)), name or str(Path(source)), owned=True)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls(io.BytesIO(source), name or "picture")
        if not hasattr(source, "read"):
            kind = type(source).__name__
            raise TypeError(f"a picture is opened from a path, bytes or a file object, not from {kind}")
        given = getattr(source, "name", None)
        name = name or (given if isinstance(given, str) else "picture")
        try:
            return cls(source, name) if source.seekable() else cls(_spooled(source), name, owned=True)
        except OSError as error:
            raise read_error(name, error) from error

    def read_at(self, offset: int, size: int = -1) -> bytes:
        """Return `size` bytes (-1: all) from `offset` on; fewer only at the end. Raises OSError."""
        with self._guard:
            self._file.seek(self._start + offset)
            return self._file.read(size)

    def end(self) -> int:
        """Return the present number of bytes. Raises OSError."""
        with self._guard:
            return self._file.seek(0, os.SEEK_END) - self._start


def read_error(name: object, error: OSError) -> PictureError:
    """Return the error about bytes that the system does not give."""
    return PictureError(f"{name}: cannot be read: {error.strerror or error}")


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            # Opening a pipe would block until another process writes to it.
            raise PictureError(f"{path}: is not a file but a pipe or a device; save the picture in a file")
        return path.open("rb")
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise PictureError(f"{path}: is a folder; name a picture in it") from None
    except OSError as error:
        raise read_error(path, error) from error


def _spooled(file: Any) -> Any:
    whole = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(file, whole)
    whole.seek(0)
    return whole


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
        text = " ".join(str(error).split()) or type(error).__name__
        if found := re.search(r"Unsupported JPEG data precision (\d+)", text):
            content = f"{found[1]} bits per channel in a JPEG"
            raise depth_error(source, content, max_bits=8) from error
        raise damage_error(source, text) from error
    _raise_failure(source)


def _raise_failure(source: Source) -> None:
    """Raise what stopped a callback."""
    failure, source.failure = source.failure, None
    if isinstance(failure, OSError):
        raise read_error(source, failure) from failure
    if failure is not None:
        raise failure


def open_with_vips(source: Source, *, salvage: bool = False, **settings: Any) -> Any:
    """Open a lazy pyvips image: reads the header, not the pixels.

    `salvage`: pixels that do not decode become black or grey. Raises PictureError.
    """
    pyvips = libvips()
    with _vips_errors(source):
        feed = _feed(source)
        settings["fail_on"] = "none" if salvage else "error"
        return pyvips.Image.new_from_source(feed, "", access="sequential", **settings)


def _feed(source: Source) -> Any:
    """Return a pyvips source that reads through callbacks.

    They must not raise, and must not refer to what is returned: the file would stay open until the next
    search for garbage.
    """
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        try:
            part = source.read_at(position, size)
            position += len(part)
            return part
        except BaseException as error:
            source.failure = error
            return b""

    def seek(offset: int, whence: int) -> int:
        nonlocal position
        try:
            origin = source.end() if whence == os.SEEK_END else position if whence == os.SEEK_CUR else 0
        except BaseException as error:
            source.failure = error
            return -1
        if origin + offset < 0:
            return -1
        position = origin + offset
        return position

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
        raise depth_error(source, f"{image.format} values", max_bits=max_bits)
    if image.format == "ushort" and max_bits < 16:
        raise depth_error(source, "16 bits per channel", max_bits=max_bits)
    needs = _decoder_bytes(source, image, pages)
    with _vips_errors(source):
        return replace(_upright(source, image, pages), decoder_bytes=needs)


def _decoder_bytes(source: Source, image: Any, pages: int) -> int:
    """Return the bytes that the decoder of a picture takes for all of it; 0 where it works row by row.

    Measured for each pixel, and the bytes of the file for loaders that read it as a whole.

    Raises:
        PictureError: a file that is far too small for so many pixels.
    """
    loader = str(field_of(image, "vips-loader"))
    pixels, sample = image.width * image.height // pages, 2 if image.format == "ushort" else 1
    if (name := loader.partition("load")[0]) in PIXEL_BYTES:
        size = source.end()
        if pixels > MOST_EMPTY and pixels > MOST_PIXELS_PER_BYTE * size:
            raise PictureError(f"{source}: {image.width}x{image.height} pixels in {size} bytes: refused")
        # An animation has the frame before beside the present one.
        return pixels * PIXEL_BYTES[name] * sample * (1 if pages == 1 else 2) + size
    if not field_of(image, "interlaced"):
        return 0
    if loader.startswith("jpeg"):
        # Two bytes for a coefficient; of colours often a fourth is stored.
        small = str(field_of(image, "jpeg-chroma-subsample")) == "4:2:0"
        return pixels * (3 if small else 2 * image.bands)
    return pixels * image.bands * sample


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
    exif, loader = field_of(image, "exif-data"), str(field_of(image, "vips-loader"))
    orientation = int(field_of(image, "orientation") or 1)
    if exif is None and loader.startswith("png"):
        exif = exif_of_png(source.read_at)
        orientation = orientation_of(exif) if exif else orientation
    inches = _printed_size(image, loader, exif)
    if orientation != 1:
        image = _rotatable(image).copy()
        image.set_type(libvips().GValue.gint_type, "orientation", orientation)
        image = image.autorot()
        inches = (inches[1], inches[0]) if inches and orientation >= 5 else inches
    n_bits = field_of(image, "bits-per-sample")
    deep_avif = image.format == "ushort" and loader.startswith("heif")
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
        inches=inches,
        upscaled=is_upscaled(source, image),
    )


def is_upscaled(source: Source, image: Any) -> bool:
    """Whether a file says that it is an upscaled picture of ours. Raises OSError."""
    loader = str(field_of(image, "vips-loader"))
    if loader.startswith("gif"):
        # libvips does not read comments.
        return source.read_at(max(0, source.end() - len(GIF_MARK))) == GIF_MARK
    name = "image-description" if loader.startswith("tiff") else "exif-ifd0-Software"
    # libvips appends the tag's type.
    return str(field_of(image, name)).partition(" (")[0] == MARK


def _printed_size(image: Any, loader: str, exif: bytes | None) -> tuple[float, float] | None:
    """Return the printed width and height in inches, as the file stores them; None if it does not say."""
    dpi = 25.4 * image.xres, 25.4 * image.yres
    if loader.startswith("png"):
        known = round(1000 * image.xres) != _NO_PNG_RESOLUTION
    elif loader.startswith(("jpeg", "tiff")):
        known = field_of(image, "resolution-unit") is not None
    else:
        dpi = (dpi_of(exif) if exif else None) or (0.0, 0.0)
        known = True
    return (image.width / dpi[0], image.height / dpi[1]) if known and min(dpi) > 0 else None


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
        step = band_height(image.width * image.bands * kind().itemsize)
        for top in range(0, image.height, step):
            n_rows = min(step, image.height - top)
            fetched = region.fetch(0, top, image.width, n_rows)
            band = np.frombuffer(fetched, kind).reshape(n_rows, image.width, image.bands)
            # 10 or 12 bits of an AVIF: white is not yet 65535.
            yield band if n_bits is None else stretch(band >> (16 - n_bits), 2**n_bits - 1)


def field_of(image: Any, name: str) -> Any:
    """Return a field of a pyvips image, None without."""
    value = image.get(name) if image.get_typeof(name) else None
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value
