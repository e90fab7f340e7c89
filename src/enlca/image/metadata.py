"""EXIF and XMP of a picture that was turned upright and resized: patched in place, nothing else moves.

EXIF is a TIFF file without pixels: a directory of 12-byte entries (tag, type, count, value or offset), with
further directories behind some tags. All that must change fits into its entry, so that everything else, even
the maker's own notes, stays where it is, to the byte. (libvips, which writes it into files, makes a directory
of its own of the tags that it knows.)
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from enlca.image.rows import PictureRows

ORIENTATION, WIDTH, HEIGHT, PIXEL_X, PIXEL_Y, EXIF_DIRECTORY = 0x0112, 0x0100, 0x0101, 0xA002, 0xA003, 0x8769
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, SOFTWARE = 0x011A, 0x011B, 0x0128, 0x0131
SHORT, LONG, RATIONAL = 3, 4, 5
INCH, CENTIMETRE = 2, 3
# What files of upscaled pictures say about the program that made them (EXIF: Software).
MARK = "enlca upscale"
# A comment and the trailer, which end a GIF. (GIF89a, 24 and 27)
GIF_MARK = b"\x21\xfe" + bytes([len(MARK)]) + MARK.encode() + b"\0;"
# First bytes of a TIFF header, and the byte order that they mean.
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def update_metadata(rows: PictureRows) -> PictureRows:
    """Return `rows` with EXIF and XMP that say upright and the present size.

    Called once per picture, where rows leave for a file or an array: reading, upscaling and resizing pass
    EXIF on as they found it. Damaged EXIF is left out, and a remark says so.
    """
    xmp = rows.xmp and upright_xmp(rows.xmp)
    exif = rows.exif and update_exif(rows.exif, width=rows.width, height=rows.height, dpi=rows.dpi)
    if rows.exif is not None and not exif:
        rows = rows.with_remarks("its EXIF data are damaged and were left out")
    return replace(rows, exif=exif or None, xmp=xmp)


def update_exif(
    exif: bytes, *, width: int, height: int, dpi: tuple[float, float] | None = None
) -> bytes | None:
    """Return EXIF that says upright and `width` x `height` pixels, without thumbnail; None if damaged.

    Only existing tags are changed; `dpi` is the resolution across and down, in pixels per inch. The result
    begins with the TIFF header, without "Exif".
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(exif[:4])
    if order is None:
        return None
    new = bytearray(exif)
    values: dict[int, tuple[int, int | float]]
    values = {ORIENTATION: (SHORT, 1), WIDTH: (LONG, width), HEIGHT: (LONG, height)}
    sub_values = {PIXEL_X: (LONG, width), PIXEL_Y: (LONG, height)}
    if dpi is not None:
        values |= {X_RESOLUTION: (RATIONAL, dpi[0]), Y_RESOLUTION: (RATIONAL, dpi[1])}
        values[RESOLUTION_UNIT] = (SHORT, INCH)
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


def _patch(
    new: bytearray, order: str, at: int, values: Mapping[int, tuple[int, int | float]]
) -> tuple[int | None, int]:
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
            if kind == RATIONAL:
                # It does not fit into the entry, which says where it is.
                if (found := struct.unpack_from(order + "HII", new, entry + 2))[:2] == (RATIONAL, 1):
                    struct.pack_into(order + "II", new, found[2], round(1000 * value), 1000)
                continue
            packed = struct.pack(order + ("H2x" if kind == SHORT else "I"), int(value))
            struct.pack_into(order + "HI4s", new, entry + 2, kind, 1, packed)
    return deeper, end


def orientation_of(exif: bytes) -> int:
    """Return the orientation tag, 1 to 8; 1 (upright) if it is absent or invalid."""
    value = _first_tags(exif).get(ORIENTATION)
    return int(value) if isinstance(value, float) and 1 <= value <= 8 else 1


def dpi_of(exif: bytes) -> tuple[float, float] | None:
    """Return the resolution across and down in pixels per inch; None if it is absent or invalid."""
    tags = _first_tags(exif)
    per_inch = {INCH: 1.0, CENTIMETRE: 2.54}.get(int(tags.get(RESOLUTION_UNIT, INCH)))
    found = [tags.get(tag, 0.0) for tag in (X_RESOLUTION, Y_RESOLUTION)]
    if per_inch is None or min(found) <= 0:
        return None
    return found[0] * per_inch, found[1] * per_inch


def _first_tags(exif: bytes) -> dict[int, float]:
    """Return the numbers in the first directory that are one SHORT or RATIONAL each; those before damage."""
    exif = exif.removeprefix(b"Exif\0\0")
    order, found = _ORDERS.get(exif[:4], "<"), dict[int, float]()
    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (n_entries,) = struct.unpack_from(order + "H", exif, first)
        for entry in range(first + 2, first + 2 + 12 * n_entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", exif, entry)
            if kind == SHORT:
                found[tag] = float(struct.unpack_from(order + "H", exif, entry + 8)[0])
            elif kind == RATIONAL and count == 1:
                (at,) = struct.unpack_from(order + "I", exif, entry + 8)
                above, below = struct.unpack_from(order + "II", exif, at)
                found[tag] = above / below if below else 0.0
    except struct.error:
        pass
    return found


def exif_of_png(read_at: Callable[[int, int], bytes]) -> bytes | None:
    """Return the EXIF data of a PNG, None without: also those behind the pixels, which libvips ignores.

    `read_at` gives up to so many bytes from an offset on.
    """
    for kind, at, size in png_chunks(read_at):
        if kind == b"eXIf":
            data = read_at(at, size)
            return data if len(data) == size else None
    return None


def frames_of_png(read_at: Callable[[int, int], bytes]) -> int:
    """Return the number of frames that a PNG announces before its pixels; 1 for an ordinary one."""
    for kind, at, size in png_chunks(read_at):
        if kind == b"acTL" and size == 8:
            return max(1, struct.unpack(">I", read_at(at, 4))[0])
        if kind == b"IDAT":
            break
    return 1


def png_chunks(read_at: Callable[[int, int], bytes], at: int = 8) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a PNG from an offset on: their kind, the place of their data, and its size."""
    while len(head := read_at(at, 8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        yield kind, at + 8, size
        at += size + 12


def upright_xmp(xmp: bytes) -> bytes:
    """Return the packet with its orientation, if it has one, set to upright."""
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)
