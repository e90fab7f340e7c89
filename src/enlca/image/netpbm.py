"""Netpbm files (PBM, PGM, PPM; `P1` to `P6`), with 1 to 16 bits per channel.

Ours, because libvips' wheel lacks them and Pillow silently cuts their 16 bits to 8.
"""

import re
from collections.abc import Iterator
from itertools import islice

import numpy as np

from enlca.image.decoding import Source
from enlca.image.rows import (
    MAX_PIXELS,
    PictureRows,
    check_pixels,
    damage_error,
    depth_error,
    rows_of_array,
    stretch,
)

# White space and comments lie between the words of a header; one white space ends it.
_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(rb"P([1-6])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})")
# The size lies within so many bytes, comments included.
HEADER_BYTES = 1 << 16
_PEAK = re.compile(_GAP + rb"(\d{1,9})")


def decode(source: Source, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> PictureRows:
    """Read a Netpbm file; values are stretched so that the maximum in its header is white.

    Raises:
        PictureError: damaged or cut short, deeper than `max_bits`, or more pixels than `max_pixels`.
        OSError: the file cannot be read.
    """
    # A picture with too many pixels is refused before the rest is read.
    header = _HEADER.match(source.read_at(0, HEADER_BYTES))
    if header is None:
        raise damage_error(source, "the header says no size")
    kind, width, height = (int(number) for number in header.groups())
    if not width or not height:
        raise damage_error(source, f"{width}x{height} pixels")
    check_pixels(source, width, height, max_pixels)
    data, start, peak = source.read_at(0), header.end(), 1
    if kind not in (1, 4):
        found = _PEAK.match(data, start)
        if found is None or not 1 <= int(found[1]) <= 65535:
            raise damage_error(source, "the header says no largest value from 1 to 65535")
        start, peak = found.end(), int(found[1])
    if peak > 255 and max_bits < 16:
        raise depth_error(source, "16 bits per channel", max_bits=max_bits)
    shape = height, width, 3 if kind in (3, 6) else 1
    n_values = height * width * shape[2]
    values = (
        _plain(data[start:], kind, n_values) if kind < 4 else _binary(data[start + 1 :], kind, shape, peak)
    )
    if len(values) < n_values:
        raise damage_error(source, f"{len(values)} of {n_values} values")
    values = values[:n_values].reshape(shape)
    if values.max() > peak:
        raise damage_error(source, f"a value above the largest, {peak}")
    # In a bitmap 1 is ink.
    return rows_of_array(stretch(1 - values if kind in (1, 4) else values, peak))


def _plain(data: bytes, kind: int, n_values: int) -> np.ndarray:
    """Parse decimal values; those of a bitmap need no space between them."""
    data = re.sub(rb"#[^\n]*", b" ", data)
    if kind == 1:
        digits = np.frombuffer(data, np.uint8)
        return digits[(digits == ord("0")) | (digits == ord("1"))] - np.uint8(ord("0"))
    # A number at the very end may have been cut in two; five digits are enough for 65535.
    words = islice(re.finditer(rb"(?<![^\s])\d{1,6}(?![^\s])", data), n_values)
    return np.array([word[0] for word in words], dtype="S6").astype(np.int64)


def _binary(data: bytes, kind: int, shape: tuple[int, int, int], peak: int) -> np.ndarray:
    """Parse values of one byte, of two (big endian), or of one bit, with padded rows."""
    if kind == 4:
        stride = -(-shape[1] // 8)
        rows = np.frombuffer(data[: len(data) // stride * stride], np.uint8).reshape(-1, stride)
        return np.unpackbits(rows[: shape[0]], axis=1)[:, : shape[1]].ravel()
    size = 2 if peak > 255 else 1
    return np.frombuffer(data[: len(data) // size * size], f">u{size}")


def encode(rows: PictureRows) -> Iterator[bytes]:
    """Yield the bytes of a PGM (grey) or PPM file of the picture's depth, a band at a time."""
    header = f"P{6 if rows.channels == 3 else 5}\n{rows.width} {rows.height}\n{2**rows.bits - 1}\n"
    yield header.encode()
    for band in rows.bands:
        yield np.ascontiguousarray(band, dtype=f">u{rows.bits // 8}").tobytes()
