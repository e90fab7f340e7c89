"""EXIF and XMP of a picture that was turned upright and made larger: patched in place, nothing else moves.

EXIF is a TIFF file without pixels: a directory of 12-byte entries (tag, type, count, value or where it is),
with further directories behind some tags. All that must change fits into its entry, so that everything else,
even the maker's own notes, stays where it is, to the byte.
"""

import os
import re
import struct
from pathlib import Path

ORIENTATION, WIDTH, HEIGHT, PIXEL_X, PIXEL_Y, EXIF_DIRECTORY = 0x0112, 0x0100, 0x0101, 0xA002, 0xA003, 0x8769
SHORT, LONG = 3, 4
# What a TIFF header begins with, and the order of bytes that it means.
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def updated_exif(exif: bytes, *, width: int, height: int) -> bytes | None:
    """EXIF that says upright and `width` x `height` pixels, without its thumbnail; None if it is damaged.

    Only tags that are there are changed. The result begins with the TIFF header, without "Exif".
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
        # The thumbnail behind the first directory still lies on its side.
        struct.pack_into(order + "I", new, end, 0)
        if deeper is not None:
            _patch(new, order, deeper, sub_values)
    except struct.error:
        return None
    return bytes(new)


def _patch(new: bytearray, order: str, at: int, values: dict[int, tuple[int, int]]) -> tuple[int | None, int]:
    """Set values in the directory at `at`; returns where the EXIF directory is, and where this one ends."""
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
    """How a picture has to be turned, 1 to 8; 1 (not at all) where nothing sensible is said."""
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


def exif_of_png(path: Path) -> bytes | None:
    """The EXIF data of a PNG wherever they are: behind the pixels, too, where libvips does not look."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                data = file.read(size)
                return data if len(data) == size else None
            file.seek(size + 4, os.SEEK_CUR)
    return None


def upright_xmp(xmp: bytes) -> bytes:
    """The packet with its orientation, if it has one, set to upright."""
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)
