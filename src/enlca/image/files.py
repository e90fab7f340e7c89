"""Picture files as rows: names, folders and formats. `decoding` and `encoding` handle the bytes.

What cannot be stored without loss is refused or listed in `remarks`, never silently cut.
"""

import os
import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from enlca.errors import PictureError
from enlca.image import apng, bmp, decoding, encoding, netpbm, pages, plugins
from enlca.image.encoding import WRITABLE, Format
from enlca.image.folders import SUFFIXES, natural_key, walk_pictures
from enlca.image.metadata import frames_of_png
from enlca.image.rows import MAX_PIXELS, PictureRows, damage_error
from enlca.image.source import File, Readable, Source, read_error
from enlca.runtime.files import PartialFiles

# First bytes of each format. Content decides, not the name: a JPEG named .png is read as a JPEG.
SIGNATURES = {
    "png": rb"\x89PNG\r\n\x1a\n",
    "jpeg": rb"\xff\xd8\xff",
    "webp": rb"RIFF....WEBP",
    "tiff": rb"II[*+]\0|MM\0[*+]",
    "avif": rb"....ftyp.*avi[fs]",
    "bmp": rb"BM",
    "ppm": rb"P[1-6]\s",
    "gif": rb"GIF8[79]a",
    # By plug-ins of Pillow's.
    "heic": rb"....ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)",
    "jxl": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
}
# Formats whose files may hold several pictures, and what these are called.
SEVERAL = {"gif": "frames", "webp": "frames", "avif": "pictures", "tiff": "pages", "png": "frames"}

FRAMES = ("first", "all")


def open_image(
    source: Readable | Source,
    *,
    max_bits: int = 8,
    max_pixels: int = MAX_PIXELS,
    frames: str = "first",
    name: str | None = None,
    salvage: bool = False,
) -> PictureRows:
    """Read the header of a picture; its rows are decoded while they are iterated over.

    Args:
        source: a path, the bytes of a file, or a binary file object, which must stay open.
        max_bits: 8 or 16 per channel, the deepest that the caller can use. Depths between 8 and 16 are
            stretched to the whole range of 16.
        max_pixels: limit for the size in the header, of all pages together.
        frames: "first" (a remark tells if there are more) or "all" pages or frames.
        name: of the picture in messages; by default its path, or "picture".
        salvage: takes what decodes of a damaged file that libvips reads; the rest is black or grey.

    Raises:
        PictureError: no such file, a folder, empty, not a picture, of a kind that is not handled (more bits
            per channel, unusual channels), more pixels than `max_pixels`, or pages of different kinds; by
            the bands: damaged or cut short.
        TypeError, ValueError: another kind of source; unknown `frames`.
    """
    if frames not in FRAMES:
        raise ValueError(f"frames must be one of {', '.join(FRAMES)}; got {frames!r}")
    source = Source.of(source, name=name)
    kind = format_of(source)
    limits = {"max_bits": max_bits, "max_pixels": max_pixels}
    try:
        if kind == "ppm":
            return netpbm.decode(source, **limits)
        if kind == "bmp":
            return bmp.decode(source, **limits)
        if kind in plugins.DECODERS:
            return plugins.decode(source, kind, **limits)
        several, n_frames = apng if kind == "png" else pages, 1
        if kind in SEVERAL:
            n_frames = frames_of_png(source.read_at) if kind == "png" else pages.count_frames(source)
        if frames == "all" and n_frames > 1 and kind != "avif":
            return several.open_frames(source, n_frames, salvage=salvage, **limits)
        rows = decoding.rows_with_vips(source, salvage=salvage, **limits)
    except OSError as error:
        raise read_error(source, error) from error
    except struct.error as error:
        raise damage_error(source, "it ends inside a header") from error
    return rows if n_frames == 1 else rows.with_remarks(f"only the first of {n_frames} {SEVERAL[kind]}")


def write_rows(
    target: str | os.PathLike[str] | File,
    rows: PictureRows,
    *,
    quality: int = 95,
    partial: PartialFiles | None = None,
    name: str | None = None,
) -> tuple[str, ...]:
    """Write a picture in the format of the suffix; `quality` (1 to 100) counts for JPEG, WebP and AVIF.

    A file appears whole under its name or not at all. A binary file object receives the same bytes once they
    are complete; the suffix of `name` says their format.

    PNG, TIFF and PPM store the pixels exactly, BMP those of 8 bits. Profile, EXIF and XMP are kept where the
    format can store them and the profile fits; EXIF and XMP are updated to the present size. Only the
    encoders of WebP, AVIF and BMP hold all rows in memory. `partial` lets another thread remove the file
    while it is unfinished.

    Returns:
        Remarks: what the format could not store and what was done about it, a phrase each.

    Raises:
        PictureError: unknown suffix, no such folder, no permission, no space, transparency or pages in a
            format that has none, or a side that is too long for the format.
        ValueError: `quality` is not in 1 to 100; a file object without `name`.
        Stopped: `partial` was abandoned.
        Exception: whatever iterating over the rows raises.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be from 1 to 100, got {quality}")
    if not isinstance(target, (str, os.PathLike)):
        return _write_to(target, rows, name, quality=quality)
    path = Path(target)
    about = {"opaque": rows.opaque, "pages": rows.pages, "animated": bool(rows.delays)}
    format = check_target(path, *rows.size, **about)
    fit, remarks = encoding.fit_to_format(rows, format)
    try:
        with (partial or PartialFiles()).atomic_path(path) as part, part.open("x+b") as file:
            encoding.encode(file, path, fit, format, quality=quality)
    except OSError as error:
        raise PictureError(f"{path}: cannot be written: {error.strerror or error}") from error
    return remarks


def _write_to(target: File, rows: PictureRows, name: str | None, *, quality: int) -> tuple[str, ...]:
    """Write a picture into a file object, through an unnamed file: encoders seek, and may fail midway."""
    if name is None:
        raise ValueError("a file object needs name=, whose suffix says the format")
    path = Path(name)
    about = {"opaque": rows.opaque, "pages": rows.pages, "animated": bool(rows.delays)}
    format = check_format(path, *rows.size, **about)
    fit, remarks = encoding.fit_to_format(rows, format)
    try:
        with tempfile.TemporaryFile() as whole:
            encoding.encode(whole, path, fit, format, quality=quality)
            whole.seek(0)
            shutil.copyfileobj(whole, cast(BinaryIO, target))
    except OSError as error:
        raise PictureError(f"{name}: cannot be written: {error.strerror or error}") from error
    return remarks


def check_target(
    path: Path, width: int, height: int, *, opaque: bool, pages: int = 1, animated: bool = False
) -> Format:
    """Return the format of a file to be written, or refuse the picture before any work is done.

    Raises:
        PictureError: as `write_rows`, except for permissions and space.
    """
    format = check_format(path, width, height, opaque=opaque, pages=pages, animated=animated)
    if path.is_dir():
        raise PictureError(f"{path}: is a folder; name a file")
    if path.exists() and not path.is_file():
        raise PictureError(f"{path}: is not a file but a pipe or a device; name a file, or - for stdout")
    if not path.parent.is_dir():
        raise PictureError(f"{path}: the folder {path.parent} does not exist; make it first")
    return format


def check_format(
    path: Path, width: int, height: int, *, opaque: bool, pages: int = 1, animated: bool = False
) -> Format:
    """Return the format of the suffix. Raises PictureError if it cannot store such a picture.

    `animated`: whether its pages are the frames of an animation.
    """
    if path.suffix.lower() not in WRITABLE:
        what = f"cannot write {path.suffix}" if path.suffix else "needs a suffix that says the format"
        raise PictureError(f"{path}: {what}; choose from {' '.join(WRITABLE)}")
    format = WRITABLE[path.suffix.lower()]
    if pages > 1 and not (format.holds_pages or (animated and format.holds_frames)):
        several = " ".join(
            suffix
            for suffix, format in WRITABLE.items()
            if format.holds_pages or (animated and format.holds_frames)
        )
        raise PictureError(f"{path}: {format.name} holds one picture, not {pages}; choose from {several}")
    if format.longest_side and max(height, width) > format.longest_side:
        limit = f"{format.name} holds at most {format.longest_side} pixels a side"
        raise PictureError(f"{path}: {limit}, this picture would be {width}x{height}; write .png or .tif")
    # Invisible alpha can be left out without loss.
    if not opaque and not format.holds_alpha:
        raise PictureError(f"{path}: {format.name} cannot hold transparency; write .png or .webp")
    return format


def is_upscaled(path: Path) -> bool:
    """Whether a file says that it is an upscaled picture of ours; False for what is no picture."""
    try:
        source = Source.of(path)
        marked = format_of(source) not in ("ppm", "bmp", *plugins.DECODERS)
        return marked and decoding.is_upscaled(source, decoding.open_with_vips(source))
    except (OSError, PictureError):
        return False


def find_pictures(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """List the visible pictures of a folder by suffix, in natural order (`img_2` before `img_10`).

    Raises:
        PictureError: no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise PictureError(f"{folder}: {what}; name a folder with pictures")
    pictures = walk_pictures(str(folder), recursive=recursive)
    found = sorted((natural_key(below, entry.name), below, entry.name) for below, entry in pictures)
    if not found:
        raise PictureError(f"{folder}: no pictures in this folder; looked for {' '.join(SUFFIXES)}")
    return [folder / below / name for _, below, name in found]


def format_of(source: Source) -> str:
    """Return the key of SIGNATURES that matches the picture. Raises PictureError."""
    try:
        start = source.read_at(0, 64)
    except OSError as error:
        raise read_error(source, error) from error
    if not start:
        raise PictureError(f"{source}: the file is empty (0 bytes)")
    for name, signature in SIGNATURES.items():
        if re.match(signature, start, re.DOTALL):
            return name
    supported = ", ".join(SIGNATURES)
    raise PictureError(f"{source}: not a picture in a format that is read here; these are: {supported}")
