"""Rows into libvips, which takes no rows: as a PNG without compression that is read while it is made.

Any format that libvips writes row by row can so be written without holding the picture.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from enlca.image.libvips import libvips
from enlca.image.rows import PictureRows

# Layers -> colour type of a PNG.
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# Of a block of zlib that is stored as it is.
_BLOCK = 65535
_BAND = 1 << 20


def png_stream(rows: PictureRows) -> Iterator[bytes]:
    """The bytes of an uncompressed PNG with all pages below each other, a band at a time."""
    header = struct.pack(
        ">IIBBBBB", rows.width, rows.pages * rows.height, rows.bits, _COLOUR_TYPES[rows.layers], 0, 0, 0
    )
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"\x78\x01")
    check = 1
    for band in _flat(rows.bands):
        # Each row begins with the number of its filter: none.
        data = np.zeros((len(band), 1 + band[0].nbytes), np.uint8)
        data[:, 1:] = band.astype(f">u{rows.bits // 8}").reshape(len(band), -1).view(np.uint8)
        stored = data.tobytes()
        check = zlib.adler32(stored, check)
        blocks = (stored[at : at + _BLOCK] for at in range(0, len(stored), _BLOCK))
        yield _chunk(b"IDAT", b"".join(_stored(block, last=False) for block in blocks))
    yield _chunk(b"IDAT", _stored(b"", last=True) + struct.pack(">I", check)) + _chunk(b"IEND", b"")


def _flat(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows in bands of at most `_BAND` bytes, since each is copied several times here."""
    for band in bands:
        n_rows = max(1, _BAND // max(1, band[0].nbytes))
        for top in range(0, len(band), n_rows):
            yield band[top : top + n_rows]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _stored(block: bytes, *, last: bool) -> bytes:
    return struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block


class Pipe:
    """A lazy pyvips image of rows. What goes wrong in the rows is in `error`: a callback cannot raise."""

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
            taken, self._ready = self._ready[:size], self._ready[size:]
            return bytes(taken)
        # The end of the file, for libvips: an error there, and ours is told apart from its own.
        except BaseException as error:
            self.error = error
            return b""
