"""Rows to the bytes of a picture: libvips, Pillow for BMP, and our own `netpbm`.

Letters:  h rows of a band   W width   L layers: channels, then alpha
"""

import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from enlca.errors import PictureError
from enlca.image import apng, netpbm
from enlca.image.metadata import GIF_MARK, MARK, update_metadata
from enlca.image.rows import PictureRows, stack_bands, to_8_bits
from enlca.image.source import libvips, system_error

# Bytes of pixels beyond which a TIFF needs the large variant of the format.
LARGE_TIFF = 4_000_000_000
# Layers -> colour type of a PNG.
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# Largest block of zlib without compression.
_BLOCK = 65535
_BAND = 1 << 20
# Bytes of XMP beyond which libvips leaves it out of a JPEG: it is one segment there.
_JPEG_XMP = 60_000


@dataclass(frozen=True)
class Format:
    """A file format that can be written: encoder, options and limits.

    Attributes:
        name: as in remarks and errors.
        library: "libvips", "Pillow" or "netpbm".
        options: of the encoder.
        has_quality: whether the encoder takes a quality from 1 to 100.
        holds_alpha, holds_16_bits, holds_grey, holds_pages: what the format can store.
        holds_frames: whether it can store an animation, if not pages.
        holds: which metadata the format can store, of "icc", "exif", "xmp".
        holds_mark: whether its files can say that they are upscaled pictures.
        longest_side: limit in pixels, None without.
        memory_per_pixel: bytes that its encoder holds for each pixel; 0 where it works row by row.
    """

    name: str
    library: str = "libvips"
    options: tuple[tuple[str, Any], ...] = ()
    has_quality: bool = False
    holds_alpha: bool = True
    holds_16_bits: bool = False
    holds_grey: bool = True
    holds: tuple[str, ...] = ("icc", "exif", "xmp")
    holds_mark: bool = True
    holds_pages: bool = False
    holds_frames: bool = False
    longest_side: int | None = None
    memory_per_pixel: int = 0


# Bytes per pixel that libwebp and libaom hold, measured.
WEBP_BYTES, AVIF_BYTES = 14, 60

_JPEG = Format("JPEG", has_quality=True, holds_alpha=False, longest_side=65535)
_DEFLATE = (("compression", "deflate"), ("predictor", "horizontal"))
_TIFF = Format("TIFF", options=_DEFLATE, holds_16_bits=True, holds=("icc", "xmp"), holds_pages=True)
_WEBP = Format(
    "WebP",
    has_quality=True,
    holds_grey=False,
    holds_pages=True,
    longest_side=16383,
    memory_per_pixel=WEBP_BYTES,
)
# The default effort, 4, is 6 times slower for the same size and 0.4 dB more of 45.
_AV1 = (("compression", "av1"), ("effort", 2))
_AVIF = Format(
    "AVIF", options=_AV1, has_quality=True, holds_grey=False, longest_side=16384, memory_per_pixel=AVIF_BYTES
)
_PNG = Format("PNG", holds_16_bits=True, holds_frames=True)
WRITABLE = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": _AVIF,
    ".bmp": Format(
        "BMP", library="Pillow", holds_alpha=False, holds=(), holds_mark=False, memory_per_pixel=7
    ),
    ".ppm": Format(
        "PPM", library="netpbm", holds_alpha=False, holds_16_bits=True, holds=(), holds_mark=False
    ),
    ".gif": Format("GIF", holds=(), holds_pages=True, longest_side=65535, memory_per_pixel=14),
    ".apng": _PNG,
}


def encode(file: BinaryIO, path: Path, rows: PictureRows, format: Format, *, quality: int) -> None:
    """Write rows prepared by `fit_to_format` into an open file; `path` is named in errors.

    Raises:
        PictureError: they cannot be encoded.
        OSError: they cannot be written.
    """
    if format is _PNG and rows.pages > 1:
        stills = (_png_bytes(frame, path) for frame in _frames(rows))
        return apng.write(file, stills, delays=rows.delays, loop=rows.loop)
    if format.library == "libvips":
        return _encode_with_vips(file, path, rows, format, quality=quality)
    if format.library == "netpbm":
        for part in netpbm.encode(rows):
            file.write(part)
        return None
    from PIL import Image

    pixels = stack_bands(rows.bands, (rows.height, rows.width, rows.layers), rows.dtype)
    image = Image.fromarray(pixels[:, :, 0] if rows.channels == 1 else pixels)
    return image.save(file, format=format.name, **({"dpi": rows.dpi} if rows.dpi else {}))


def _frames(rows: PictureRows) -> Iterator[PictureRows]:
    """Yield the pages one by one, each of them in memory."""
    bands, shape = iter(rows.bands), (rows.height, rows.width, rows.layers)
    rest: list[np.ndarray] = []
    for _ in range(rows.pages):
        held = sum(map(len, rest))
        while held < rows.height:
            rest.append(next(bands))
            held += len(rest[-1])
        together = rest[0] if len(rest) == 1 else np.concatenate(rest)
        rest = [together[rows.height :]]
        page = stack_bands([together[: rows.height]], shape, rows.dtype)
        yield replace(rows, bands=[page], pages=1, delays=())


def _png_bytes(frame: PictureRows, path: Path) -> bytes:
    with tempfile.TemporaryFile() as file:
        _encode_with_vips(file, path, frame, _PNG, quality=100)
        file.seek(0)
        return file.read()


def _encode_with_vips(file: BinaryIO, path: Path, rows: PictureRows, format: Format, *, quality: int) -> None:
    pyvips = libvips()
    source = None
    try:
        source = RowSource(rows)
        image = source.image.copy()
        blobs = {"icc-profile-data": rows.icc, "exif-data": rows.exif, "xmp-data": rows.xmp}
        for name, blob in blobs.items():
            if blob is not None:
                image.set_type(pyvips.GValue.blob_type, name, cast(Any, blob))
        numbers: dict[str, int] = {}
        if rows.pages > 1:
            numbers["page-height"] = rows.height
        if rows.delays:
            numbers["loop"] = rows.loop
            image.set_type(pyvips.GValue.array_int_type, "delay", cast(Any, list(rows.delays)))
        for name, number in numbers.items():
            image.set_type(pyvips.GValue.gint_type, name, cast(Any, number))
        if rows.upscaled:
            # libvips writes no Software tag into a TIFF.
            name = "image-description" if format.name == "TIFF" else "exif-ifd0-Software"
            image.set_type(pyvips.GValue.gstr_type, name, cast(Any, MARK))
        options = dict(format.options) | ({"Q": quality} if format.has_quality else {})
        if rows.dpi is not None:
            image = image.copy(xres=rows.dpi[0] / 25.4, yres=rows.dpi[1] / 25.4)
            options |= {"resunit": "inch"} if format.name == "TIFF" else {}
        if format.name == "TIFF" and rows.nbytes > LARGE_TIFF:
            options["bigtiff"] = True
        target = pyvips.Target.new_to_descriptor(file.fileno())
        image.write_to_target(target, f".{format.name.lower()}", **options)
        if format.name == "GIF" and rows.upscaled:
            # In the place of the trailer.
            file.seek(-1, os.SEEK_END)
            file.write(GIF_MARK)
            file.flush()
    except pyvips.Error as error:
        if source is not None and source.error is not None:
            raise source.error from None
        reason = " ".join(str(error).split())
        if (failure := system_error(reason)) is not None:
            raise failure from error
        raise PictureError(f"{path}: cannot be encoded as {format.name} ({reason})") from error


def fit_to_format(rows: PictureRows, format: Format) -> tuple[PictureRows, tuple[str, ...]]:
    """Return the picture as the format can hold it, with metadata up to date, and what changed or was lost.

    Alpha is dropped where the format has none: `files.check_format` has refused visible alpha before.
    """
    n_remarks = len(rows.remarks)
    rows = update_metadata(rows)
    remarks = list(rows.remarks[n_remarks:])
    bands: Iterable[np.ndarray] = rows.bands
    deep = rows.bits == 16 and format.holds_16_bits
    if rows.bits == 16 and not deep:
        remarks.append(f"{format.name} holds 8 bits per channel here: 16 bits were rounded")
        bands = map(to_8_bits, bands)
    if rows.has_alpha and not format.holds_alpha:
        bands = (band[:, :, :-1] for band in bands)
    blobs = {"icc": rows.icc, "exif": rows.exif, "xmp": rows.xmp}
    lost = [name for name, blob in blobs.items() if blob is not None and name not in format.holds]
    if format.name == "JPEG" and len(rows.xmp or b"") > _JPEG_XMP:
        lost.append("xmp")
    if lost:
        remarks.append(f"{format.name} cannot hold {', '.join(lost).upper()} data here: left out")
    blobs = {name: None if name in lost else blob for name, blob in blobs.items()}
    # Bytes 16 to 20 of a profile name its colour space; one that does not fit the channels is no use.
    space = b"GRAY" if rows.channels == 1 and format.holds_grey else b"RGB "
    if blobs["icc"] is not None and blobs["icc"][16:20] != space:
        remarks.append("the colour profile was left out, for it does not fit the file's channels")
        blobs["icc"] = None
    if format.name == "GIF":
        remarks.append("GIF holds 256 colours: the rest were rounded to these")
        if rows.has_alpha and not rows.opaque:
            remarks.append("GIF's pixels are opaque or transparent: what lies between became one of both")
    has_alpha = rows.has_alpha and format.holds_alpha
    return replace(rows, bands=bands, bits=16 if deep else 8, has_alpha=has_alpha, **blobs), tuple(remarks)


def png_stream(rows: PictureRows) -> Iterator[bytes]:
    """Yield the bytes of an uncompressed PNG with all pages below each other, a band at a time."""
    header = struct.pack(
        ">IIBBBBB", rows.width, rows.pages * rows.height, rows.bits, _COLOUR_TYPES[rows.layers], 0, 0, 0
    )
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"\x78\x01")
    check = 1
    for band in _limit_bands(rows.bands):
        # Each row begins with the number of its filter: none.
        data = np.zeros((len(band), 1 + band[0].nbytes), np.uint8)
        data[:, 1:] = band.astype(f">u{rows.bits // 8}").reshape(len(band), -1).view(np.uint8)
        stored = data.tobytes()
        check = zlib.adler32(stored, check)
        blocks = (stored[at : at + _BLOCK] for at in range(0, len(stored), _BLOCK))
        yield _chunk(b"IDAT", b"".join(_stored(block, last=False) for block in blocks))
    yield _chunk(b"IDAT", _stored(b"", last=True) + struct.pack(">I", check)) + _chunk(b"IEND", b"")


def _limit_bands(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same rows in bands of at most `_BAND` bytes, since each is copied several times here."""
    for band in bands:
        n_rows = max(1, _BAND // max(1, band[0].nbytes))
        for top in range(0, len(band), n_rows):
            yield band[top : top + n_rows]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _stored(block: bytes, *, last: bool) -> bytes:
    return struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block


class RowSource:
    """A lazy pyvips image of rows: libvips reads a PNG without compression while it is made from them.

    Attributes:
        image: the pyvips image.
        error: what the rows raised, since a callback of libvips cannot raise.
    """

    def __init__(self, rows: PictureRows):
        pyvips = libvips()
        self.error: BaseException | None = None
        self._stream = png_stream(rows)
        self._ready = memoryview(b"")
        self._source = pyvips.SourceCustom()
        self._source.on_read(self._read)
        self.image: Any = pyvips.Image.new_from_source(self._source, "", access="sequential", fail_on="error")

    def _read(self, size: int) -> bytes:
        try:
            while not self._ready:
                self._ready = memoryview(next(self._stream, b""))
                if not self._ready:
                    return b""
            part, self._ready = self._ready[:size], self._ready[size:]
            return bytes(part)
        # An empty part ends the file, which libvips reports as an error; ours is told apart from its own.
        except BaseException as error:
            self.error = error
            return b""
