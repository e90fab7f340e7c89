"""Small files of every format, and ways to damage them.

A change is (kind, where, how much): `where` is a part from 0 to 1 of the file, or of its header, so that one
list of changes damages any file, and hypothesis can make it shorter.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from odd import pillow, png, pnm, vips
from PIL import Image

Change = tuple[str, float, int]
# Bytes in which formats say how large they are.
HEADER = 64
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def _animated(rgb: np.ndarray, format: str) -> bytes:
    frames = [Image.fromarray(np.roll(rgb, 5 * number, axis=1)) for number in range(3)]
    frames[0].save(out := io.BytesIO(), format, save_all=True, append_images=frames[1:], duration=40)
    return out.getvalue()


def _few_colours(rgb: np.ndarray, format: str) -> bytes:
    Image.fromarray(rgb).quantize(16).save(out := io.BytesIO(), format)
    return out.getvalue()


def files_of(rgb: np.ndarray) -> dict[str, bytes]:
    """A picture H W 3 of 8 bits as files of all formats, by names of different stems."""
    grey = rgb[:, :, 1:2]
    rgba = np.concatenate([rgb, rgb[:, :, :1]], axis=2)
    deep = rgb.astype(np.uint16) * 257
    return {
        "png-rgb.png": png(rgb),
        "png-interlaced.png": png(rgba, interlaced=True),
        "png-deep.png": png(deep, bits=16),
        "png-palette.png": _few_colours(rgb, "PNG"),
        "jpg-rgb.jpg": pillow(rgb, format="JPEG", exif=_EXIF),
        "jpg-progressive.jpg": pillow(rgb, format="JPEG", progressive=True),
        "jpg-grey.jpg": pillow(grey, format="JPEG"),
        "jpg-ink.jpg": pillow(rgba, mode="CMYK", format="JPEG"),
        "webp-lossy.webp": pillow(rgb, format="WEBP"),
        "webp-lossless.webp": pillow(rgba, format="WEBP", lossless=True),
        "webp-animated.webp": _animated(rgb, "WEBP"),
        "tif-strips.tif": vips(deep).tiffsave_buffer(compression="deflate", predictor="horizontal"),
        "tif-tiles.tif": vips(rgb).tiffsave_buffer(
            compression="lzw", tile=True, tile_width=16, tile_height=16
        ),
        "tif-big.tif": vips(rgba).tiffsave_buffer(bigtiff=True, miniswhite=False),
        "tif-jpeg.tif": vips(rgb).tiffsave_buffer(compression="jpeg"),
        "tif-pages.tif": _animated(rgb, "TIFF"),
        "avif-rgb.avif": pillow(rgb, format="AVIF", speed=10),
        "avif-alpha.avif": pillow(rgba, format="AVIF", speed=10),
        "bmp-rgb.bmp": pillow(rgb, format="BMP"),
        "bmp-palette.bmp": _few_colours(rgb, "BMP"),
        "pbm-bits.pbm": pnm(grey // 128, kind=4),
        "pgm-plain.pgm": pnm(grey, kind=2),
        "ppm-deep.ppm": pnm(deep, kind=6, peak=65535),
        "gif-still.gif": pillow(rgb, format="GIF"),
        "gif-animated.gif": _animated(rgb, "GIF"),
    }


def _exif() -> bytes:
    tags = Image.Exif()
    tags[0x0112] = 6
    tags.get_ifd(0x8769)[0xA002] = 100
    return tags.tobytes()


_EXIF = _exif()


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks agree with their checksums again, so that readers look into them; else no change."""
    if not data.startswith(b"\x89PNG"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        end = at + 8 + length
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def with_size(data: bytes, width: int, height: int) -> bytes:
    """A file whose header promises that many pixels, or as many as it has bits for."""
    out = bytearray(data)
    if data.startswith(b"\x89PNG"):
        struct.pack_into(">II", out, 16, width, height)
        return with_checksums(bytes(out))
    if data.startswith(b"\xff\xd8"):
        for marker in re.finditer(
            rb"\xff[\xc0\xc1\xc2]\x00\x11\x08|\xff[\xc0\xc1\xc2]\x00[\x0b\x14]\x08", data
        ):
            struct.pack_into(">HH", out, marker.end(), min(height, 65535), min(width, 65535))
    elif data.startswith(b"GIF"):
        size = struct.pack("<HH", min(width, 65535), min(height, 65535))
        # The first frame, too: what a huge canvas says alone is not believed.
        return bytes(out[:6]) + bytes(out[6:]).replace(data[6:10], size)
    elif data.startswith(b"BM"):
        struct.pack_into("<ii", out, 18, width, height)
    elif data.startswith(b"RIFF"):
        _set_webp_size(out, min(width, 16383), min(height, 16383))
    elif data[:4] in (b"II*\0", b"II+\0"):
        _set_tiff_size(out, width, height, big=data[2:3] == b"+")
    elif data[4:8] == b"ftyp":
        for box in re.finditer(b"ispe", data):
            struct.pack_into(">II", out, box.end() + 4, width, height)
    else:
        return re.sub(rb"^(P\d\s)\d+ \d+", rb"\g<1>%d %d" % (width, height), data)
    return bytes(out)


def _set_webp_size(out: bytearray, width: int, height: int) -> None:
    kind = bytes(out[12:16])
    if kind == b"VP8X":
        out[24:27], out[27:30] = (width - 1).to_bytes(3, "little"), (height - 1).to_bytes(3, "little")
    for frame in re.finditer(b"VP8 ", bytes(out)):
        struct.pack_into("<HH", out, frame.end() + 10, width, height)
    for frame in re.finditer(b"VP8L", bytes(out)):
        (word,) = struct.unpack_from("<I", out, frame.end() + 5)
        struct.pack_into("<I", out, frame.end() + 5, word >> 28 << 28 | (height - 1) << 14 | (width - 1))


def _set_tiff_size(out: bytearray, width: int, height: int, *, big: bool) -> None:
    head, count, entry = ("<Q", "<Q", "<HHQI") if big else ("<I", "<H", "<HHII")
    (at,) = struct.unpack_from(head, out, 8 if big else 4)
    (n_entries,) = struct.unpack_from(count, out, at)
    at += struct.calcsize(count)
    for start in range(at, at + n_entries * (20 if big else 12), 20 if big else 12):
        (tag,) = struct.unpack_from("<H", out, start)
        if tag in (256, 257):
            struct.pack_into(entry, out, start, tag, 4, 1, width if tag == 256 else height)


def _set(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new[: len(data) - at] + data[at + len(new) :]


def _extreme(data: bytes, at: int, amount: int) -> bytes:
    value = EXTREMES[amount % len(EXTREMES)]
    order = ("big", "little")[amount // len(EXTREMES) % 2]
    return _set(data, at, value.to_bytes(2 if value < 1 << 16 and amount % 3 else 4, order))


def _swap(data: bytes, at: int, amount: int) -> bytes:
    first, size = at // 2, 1 + amount % 200
    second = max(first + size, at)
    between, last = data[first + size : second], data[second : second + size]
    return data[:first] + last + between + data[first : first + size] + data[second + size :]


def _noise(amount: int) -> bytes:
    return np.random.default_rng(amount).bytes(1 + amount % 300)


CHANGES: dict[str, Callable[[bytes, int, int], bytes]] = {
    "flip": lambda data, at, amount: _set(data, at, bytes([data[at] ^ 1 << amount % 8])),
    "byte": lambda data, at, amount: _set(data, at, bytes([amount % 256])),
    "extreme": _extreme,
    "cut": lambda data, at, amount: data[:at],
    "insert": lambda data, at, amount: data[:at] + _noise(amount) + data[at:],
    "overwrite": lambda data, at, amount: _set(data, at, _noise(amount)),
    "delete": lambda data, at, amount: data[:at] + data[at + 1 + amount % 100 :],
    "repeat": lambda data, at, amount: data[: at + 1 + amount % 500] + data[at:],
    "swap": _swap,
    "size": lambda data, at, amount: with_size(data, 1 + amount % 70_000, 1 + amount * 7919 % 70_000),
}


def damaged(data: bytes, changes: Sequence[Change]) -> bytes:
    """The file after all changes. Where "head" is in a kind's name, its place is in the first bytes."""
    for kind, where, amount in changes:
        name = kind.removeprefix("head ")
        length = min(HEADER, len(data)) if kind != name else len(data)
        at = min(int(where * length), length - 1)
        try:
            data = CHANGES[name](data, at, amount) if data else data
        except (struct.error, IndexError, OverflowError):
            # Earlier changes have left no header to change.
            continue
    return with_checksums(data) if sum(amount for *_, amount in changes) % 2 else data
