"""Netpbm files (PBM, PGM, PPM; `P1` to `P6`), with 1 to 16 bits per channel, read band by band.

Ours, because libvips' wheel lacks them and Pillow silently cuts their 16 bits to 8.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from enlca.image.rows import (
    MAX_PIXELS,
    Band,
    PictureRows,
    band_height,
    check_pixels,
    damage_error,
    depth_error,
    stretch,
)
from enlca.image.source import Source, read_error

# White space and comments lie between the words of a header; one white space ends it.
_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(rb"P([1-6])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})")
_PEAK = re.compile(_GAP + rb"(\d{1,9})")
# The header lies within so many bytes, comments included.
HEADER_BYTES = 1 << 16
# Bytes of a text that are parsed at a time.
TEXT_BYTES = 1 << 17
SPACES = (b" ", b"\t", b"\n", b"\v", b"\f", b"\r")


@dataclass(frozen=True)
class _Header:
    """What a file begins with; `end` is where the header ends, before its last white space."""

    kind: int
    width: int
    height: int
    peak: int
    end: int

    @property
    def channels(self) -> int:
        return 3 if self.kind in (3, 6) else 1

    @property
    def row_bytes(self) -> int:
        """Length of a row of a binary file: one bit, one byte or two for a value."""
        if self.kind == 4:
            return -(-self.width // 8)
        return self.width * self.channels * (2 if self.peak > 255 else 1)


def decode(source: Source, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> PictureRows:
    """Open a Netpbm file; values are stretched so that the maximum in its header is white.

    Raises:
        PictureError: a damaged header, deeper than `max_bits`, or more pixels than `max_pixels`; by the
            bands: damaged or cut short.
        OSError: the file cannot be read.
    """
    header = _read_header(source, max_pixels)
    if header.peak > 255 and max_bits < 16:
        raise depth_error(source, "16 bits per channel", max_bits=max_bits)
    return PictureRows(
        width=header.width,
        height=header.height,
        channels=header.channels,
        bits=16 if header.peak > 255 else 8,
        bands=_bands(source, header),
    )


def _read_header(source: Source, max_pixels: int) -> _Header:
    data = source.read_at(0, HEADER_BYTES)
    found = _HEADER.match(data)
    if found is None:
        raise damage_error(source, "the header says no size")
    kind, width, height = (int(number) for number in found.groups())
    if not width or not height:
        raise damage_error(source, f"{width}x{height} pixels")
    check_pixels(source, width, height, max_pixels)
    if kind in (1, 4):
        return _Header(kind, width, height, 1, found.end())
    peak = _PEAK.match(data, found.end())
    if peak is None or not 1 <= int(peak[1]) <= 65535:
        raise damage_error(source, "the header says no largest value from 1 to 65535")
    return _Header(kind, width, height, int(peak[1]), peak.end())


def _bands(source: Source, header: _Header) -> Iterator[Band]:
    """Yield the rows; raise PictureError where they end early."""
    n_values, done = header.height * header.width * header.channels, 0
    try:
        for values in (_plain if header.kind < 4 else _binary)(source, header):
            if values.size and values.max() > header.peak:
                raise damage_error(source, f"a value above the largest, {header.peak}")
            done += values.size
            # In a bitmap 1 is ink.
            yield stretch(1 - values if header.kind in (1, 4) else values, header.peak)
    except OSError as error:
        raise read_error(source, error) from error
    if done < n_values:
        raise damage_error(source, f"{done} of {n_values} values")


def _binary(source: Source, header: _Header) -> Iterator[np.ndarray]:
    """Yield whole rows of values of one byte, of two (big endian), or of one bit, with padded rows."""
    n_rows, stride = band_height(header.width * header.channels), header.row_bytes
    shape = -1, header.width, header.channels
    for top in range(0, header.height, n_rows):
        wanted = min(n_rows, header.height - top) * stride
        data = source.read_at(header.end + 1 + top * stride, wanted)
        whole = data[: len(data) // stride * stride]
        if header.kind == 4:
            bits = np.unpackbits(np.frombuffer(whole, np.uint8).reshape(-1, stride), axis=1)
            yield bits[:, : header.width].reshape(shape)
        else:
            yield np.frombuffer(whole, ">u2" if header.peak > 255 else np.uint8).reshape(shape)
        if len(data) < wanted:
            return


def _plain(source: Source, header: _Header) -> Iterator[np.ndarray]:
    """Yield whole rows of decimal values; those of a bitmap need no space between them."""
    per_row, left = header.width * header.channels, header.height
    waiting: list[np.ndarray] = []
    parse = _digits if header.kind == 1 else _numbers
    for text in _texts(source, header.end, words=header.kind != 1):
        waiting.append(parse(text))
        n_rows = min(sum(map(len, waiting)) // per_row, left)
        if n_rows:
            together = np.concatenate(waiting)
            yield together[: n_rows * per_row].reshape(n_rows, header.width, header.channels)
            waiting, left = [together[n_rows * per_row :]], left - n_rows
        if not left:
            return


def _texts(source: Source, start: int, *, words: bool) -> Iterator[bytes]:
    """Yield a text in parts, without comments; with `words` cut at white space only."""
    rest = b""
    while block := source.read_at(start, TEXT_BYTES):
        start += len(block)
        text, comment, _ = re.sub(rb"#[^\n]*\n", b" ", rest + block).partition(b"#")
        rest = comment
        if words and not comment:
            at = 1 + max(text.rfind(space) for space in SPACES)
            # A word that is longer than any number stays so.
            text, rest = text[:at], text[at : at + 64]
        yield text
    yield rest.removesuffix(b"#")


def _digits(text: bytes) -> np.ndarray:
    digits = np.frombuffer(text, np.uint8)
    return digits[(digits == ord("0")) | (digits == ord("1"))] - np.uint8(ord("0"))


def _numbers(text: bytes) -> np.ndarray:
    # Five digits are enough for 65535.
    words = re.findall(rb"(?<![^\s])\d{1,6}(?![^\s])", text)
    return np.array(words, dtype="S6").astype(np.int64)


def encode(rows: PictureRows) -> Iterator[bytes]:
    """Yield the bytes of a PGM (grey) or PPM file of the picture's depth, a band at a time."""
    header = f"P{6 if rows.channels == 3 else 5}\n{rows.width} {rows.height}\n{2**rows.bits - 1}\n"
    yield header.encode()
    for band in rows.bands:
        yield np.ascontiguousarray(band, dtype=f">u{rows.bits // 8}").tobytes()
