"""EXIF and XMP of a picture that was turned upright and resized: patched in place, nothing else moves.

EXIF is a TIFF file without pixels: a directory of 12-byte entries (tag, type, count, value or offset), with
further directories behind some tags. All that must change fits into its entry, so that everything else, even
the maker's own notes, stays where it is, to the byte.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import replace

from enlca.image.rows import PictureRows

ORIENTATION, WIDTH, HEIGHT, PIXEL_X, PIXEL_Y, EXIF_DIRECTORY = 0x0112, 0x0100, 0x0101, 0xA002, 0xA003, 0x8769
SHORT, LONG = 3, 4
# First bytes of a TIFF header, and the byte order that they mean.
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def update_metadata(rows: PictureRows) -> PictureRows:
    """Return `rows` with EXIF and XMP that say upright and the present size.

    Called once per picture, where rows leave for a file or an array: reading, upscaling and resizing pass
    EXIF on as they found it. Damaged EXIF is left out, and a remark says so.
    """
    xmp = rows.xmp and upright_xmp(rows.xmp)
    exif = rows.exif and update_exif(rows.exif, width=rows.width, height=rows.height)
    if rows.exif is not None and not exif:
        rows = rows.with_remarks("its EXIF data are damaged and were left out")
    return replace(rows, exif=exif or None, xmp=xmp)


def update_exif(exif: bytes, *, width: int, height: int) -> bytes | None:
    """Return EXIF that says upright and `width` x `height` pixels, without thumbnail; None if damaged.

    Only existing tags are changed. The result begins with the TIFF header, without "Exif".
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(exif[:4])
    if order is None:
        return None
    new = bytearray(exif)
    values = {ORIENTATION: (SHORT, 1), WIDTH: (LONG, width), HEIGHT: (LONG, height)}
    sub_values = {PIXEL_X: (LONG, width), PIXEL_Y: (LONG, height)}
    try:
        (first,) = struct.unpack_from(order + "I", new, 4)
        deeper, end = _patch(new, order, first, values)
        # Drop the thumbnail behind the first directory: it has the old orientation.
        struct.pack_into(order + "I", new, end, 0)
        if deeper is not None:
            _patch(new, order, deeper, sub_values)
    except struct.error:
        return None
    return bytes(new)


def _patch(new: bytearray, order: str, at: int, values: dict[int, tuple[int, int]]) -> tuple[int | None, int]:
    """Set values in the directory at `at`; return the offsets of the EXIF directory and of this one's end."""
    deeper = None
    (n_entries,) = struct.unpack_from(order + "H", new, at)
    end = at + 2 + 12 * n_entries
    # Reach the end first: nothing is patched in a directory that is cut short.
    struct.unpack_from(order + "I", new, end)
    for entry in range(at + 2, end, 12):
        (tag,) = struct.unpack_from(order + "H", new, entry)
        if tag == EXIF_DIRECTORY:
            (deeper,) = struct.unpack_from(order + "I", new, entry + 8)
        elif tag in values:
            kind, value = values[tag]
            packed = struct.pack(order + ("H2x" if kind == SHORT else "I"), value)
            struct.pack_into(order + "HI4s", new, entry + 2, kind, 1, packed)
    return deeper, end


def orientation_of(exif: bytes) -> int:
    """Return the orientation tag, 1 to 8; 1 (upright) if it is absent or invalid."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(exif[:4], "<")
    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (n_entries,) = struct.unpack_from(order + "H", exif, first)
        for entry in range(first + 2, first + 2 + 12 * n_entries, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == ORIENTATION and kind == SHORT and 1 <= value <= 8:
                return value
    except struct.error:
        pass
    return 1


def exif_of_png(read_at: Callable[[int, int], bytes]) -> bytes | None:
    """Return the EXIF data of a PNG, None without: also those behind the pixels, which libvips ignores.

    `read_at` gives up to so many bytes from an offset on.
    """
    at = 8
    while len(head := read_at(at, 8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            data = read_at(at + 8, size)
            return data if len(data) == size else None
        at += 8 + size + 4
    return None


def upright_xmp(xmp: bytes) -> bytes:
    """Return the packet with its orientation, if it has one, set to upright."""
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)
