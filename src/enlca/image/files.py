"""Picture files to arrays and back: whole and unharmed, or one clear line saying why not.

This file knows names, folders and formats; `decoding` and `encoding` turn bytes into rows and back. What
cannot be held without loss is refused or said in `remarks`, never silently cut.
"""

import os
import re
import stat
from pathlib import Path

from enlca.errors import PictureError
from enlca.image import decoding, encoding, netpbm
from enlca.image.encoding import Format
from enlca.image.frames import open_frames
from enlca.image.picture import MAX_PIXELS, Picture
from enlca.image.rows import PictureRows, rows_of
from enlca.runtime.files import PartialFiles

__all__ = ["SUFFIXES", "WRITABLE", "Picture", "PictureError", "find_pictures", "read_image", "write_image"]

# What a file of each format begins with. Content decides, not the name: a JPEG named .png is read as a JPEG.
SIGNATURES = {
    "png": rb"\x89PNG\r\n\x1a\n",
    "jpeg": rb"\xff\xd8\xff",
    "webp": rb"RIFF....WEBP",
    "tiff": rb"II[*+]\0|MM\0[*+]",
    "avif": rb"....ftyp.*avi[fs]",
    "bmp": rb"BM",
    "ppm": rb"P[1-6]\s",
    "gif": rb"GIF8[79]a",
}
# What files of a format may hold several of.
SEVERAL = {"gif": "frames", "webp": "frames", "avif": "pictures", "tiff": "pages"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif", ".bmp", ".ppm", ".pgm", ".gif")

FRAMES = ("first", "all")

# What libwebp and libaom take for each pixel, measured.
WEBP_BYTES, AVIF_BYTES = 14, 60

_JPEG = Format("JPEG", has_quality=True, holds_alpha=False, longest_side=65535)
_DEFLATE = (("compression", "deflate"), ("predictor", "horizontal"))
_TIFF = Format("TIFF", options=_DEFLATE, holds_16_bits=True, holds=("icc", "xmp"), holds_pages=True)
_WEBP = Format(
    "WebP", has_quality=True, holds_grey=False, holds_pages=True, longest_side=16383, bytes_held=WEBP_BYTES
)
# Effort 4, the default, takes 6 times as long for the same size and 0.4 dB more of 45.
_AV1 = (("compression", "av1"), ("effort", 2))
_AVIF = Format(
    "AVIF", options=_AV1, has_quality=True, holds_grey=False, longest_side=16384, bytes_held=AVIF_BYTES
)
WRITABLE = {
    ".png": Format("PNG", holds_16_bits=True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": _AVIF,
    ".bmp": Format("BMP", library="Pillow", holds_alpha=False, holds=(), bytes_held=7),
    ".ppm": Format("PPM", library="netpbm", holds_alpha=False, holds_16_bits=True, holds=()),
    ".gif": Format("GIF", holds=(), holds_pages=True, longest_side=65535, bytes_held=14),
}


def read_image(path: str | os.PathLike[str], *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture: upright (EXIF), palettes as RGB, 1 bit as grey, CMYK as sRGB; the first of several.

    Arguments, and what is raised: see `open_image`.
    """
    return open_image(path, max_bits=max_bits, max_pixels=max_pixels).collected()


def open_image(
    path: str | os.PathLike[str],
    *,
    max_bits: int = 8,
    max_pixels: int = MAX_PIXELS,
    frames: str = "first",
) -> PictureRows:
    """What a file says about its picture, and its rows, which are decoded when they are asked for.

    Args:
        path: of the file.
        max_bits: 8 or 16: what the caller can use. Depths between are stretched to the whole range of 16.
        max_pixels: the largest picture that is decoded, by its header; of all pages together.
        frames: "first", which says so in the remarks, or "all" pages or frames.

    Raises:
        PictureError: no such file, a folder, empty, not a picture, of a kind that is not handled (more bits
            per channel, unusual channels), more pixels than `max_pixels`, or pages of different kinds; by
            the bands: damaged or cut short.
        ValueError: unknown `frames`.
    """
    if frames not in FRAMES:
        raise ValueError(f"frames must be one of {', '.join(FRAMES)}; got {frames!r}")
    path = Path(path)
    name = format_of(path)
    limits = {"max_bits": max_bits, "max_pixels": max_pixels}
    try:
        if name == "ppm":
            return rows_of(netpbm.decode(path, **limits))
        if name == "bmp":
            return rows_of(decoding.decode_with_pillow(path, **limits))
        n_frames = decoding.count_frames(path) if name in SEVERAL else 1
        if frames == "all" and n_frames > 1 and name != "avif":
            return open_frames(path, n_frames, **limits)
        rows = decoding.rows_with_vips(path, **limits)
    except OSError as error:
        raise PictureError(f"{path}: cannot be read: {error.strerror or error}") from error
    return rows if n_frames == 1 else rows.noting(f"only the first of {n_frames} {SEVERAL[name]}")


def write_image(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> tuple[str, ...]:
    """Write a picture; see `write_rows`."""
    return write_rows(path, rows_of(picture), quality=quality)


def write_rows(
    path: str | os.PathLike[str],
    rows: PictureRows,
    *,
    quality: int = 95,
    partial: PartialFiles | None = None,
) -> tuple[str, ...]:
    """Write a picture in the format of the suffix; `quality` (1 to 100) counts for JPEG, WebP and AVIF.

    The file appears whole under its name or not at all. PNG, TIFF and PPM hold the pixels exactly, BMP those
    of 8 bits. Profile, EXIF and XMP go along where the format can hold them and the profile fits. Rows are
    taken as the format's encoder wants them: only WebP, AVIF and BMP hold all of them. `partial` lets another
    thread remove the file while it is unfinished.

    Returns:
        Remarks: what the format could not hold and what was done about it, a phrase each.

    Raises:
        PictureError: unknown suffix, no such folder, no permission, no space, transparency or pages in a
            format that has none, or a side that is too long for the format; and what the rows raise.
        ValueError: `quality` is not in 1 to 100.
        Stopped: `partial` was abandoned.
    """
    path = Path(path)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be from 1 to 100, got {quality}")
    form = check_target(path, *rows.size, opaque=rows.opaque, pages=rows.pages)
    fit, remarks = encoding.fitted(rows, form)
    if form.name == "GIF":
        remarks += ("GIF holds 256 colours: the rest were rounded to these",)
    try:
        with (partial or PartialFiles()).atomic_path(path) as part, part.open("x+b") as file:
            encoding.encode(file, path, fit, form, quality=quality)
    except OSError as error:
        raise PictureError(f"{path}: cannot be written: {error.strerror or error}") from error
    return remarks


def check_target(path: Path, width: int, height: int, *, opaque: bool, pages: int = 1) -> Format:
    """The format of a file to be written, if such a picture can be written there: before any work is done.

    Raises:
        PictureError: as `write_rows`, but for what only the file system knows.
    """
    form = check_format(path, width, height, opaque=opaque, pages=pages)
    if path.is_dir():
        raise PictureError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise PictureError(f"{path}: the folder {path.parent} does not exist; make it first")
    return form


def check_format(path: Path, width: int, height: int, *, opaque: bool, pages: int = 1) -> Format:
    """The format of the suffix, if it can hold such a picture. Raises PictureError."""
    if path.suffix.lower() not in WRITABLE:
        what = f"cannot write {path.suffix}" if path.suffix else "needs a suffix that says the format"
        raise PictureError(f"{path}: {what}; choose from {' '.join(WRITABLE)}")
    form = WRITABLE[path.suffix.lower()]
    if pages > 1 and not form.holds_pages:
        several = " ".join(suffix for suffix, form in WRITABLE.items() if form.holds_pages)
        raise PictureError(f"{path}: {form.name} holds one picture, not {pages}; choose from {several}")
    if form.longest_side and max(height, width) > form.longest_side:
        limit = f"{form.name} holds at most {form.longest_side} pixels a side"
        raise PictureError(f"{path}: {limit}, this picture would be {width}x{height}; write .png or .tif")
    # Alpha that hides nothing can be left out without loss.
    if not opaque and not form.holds_alpha:
        raise PictureError(f"{path}: {form.name} cannot hold transparency; write .png or .webp")
    return form


def find_pictures(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """The pictures of a folder by suffix, hidden ones left out, in natural order (`img_2` before `img_10`).

    Raises:
        PictureError: no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise PictureError(f"{folder}: {what}; name a folder with pictures")
    inside = (file.relative_to(folder) for file in folder.glob("**/*" if recursive else "*"))
    visible = (file for file in inside if not any(part.startswith(".") for part in file.parts))
    found = [file for file in visible if file.suffix.lower() in SUFFIXES and (folder / file).is_file()]
    if not found:
        raise PictureError(f"{folder}: no pictures in this folder; looked for {' '.join(SUFFIXES)}")
    return [folder / file for file in sorted(found, key=_natural)]


def _natural(file: Path) -> tuple[list[list[str | int]], str]:
    """Sorting key in which the digits of names count as numbers; folders before what they hold."""
    parts = [re.split(r"(\d+)", part.casefold()) for part in file.parts]
    return [[int(s) if i % 2 else s for i, s in enumerate(part)] for part in parts], str(file)


def format_of(path: Path) -> str:
    """The key of SIGNATURES that the file begins with."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            # To open a pipe would wait until somebody writes to it.
            raise PictureError(f"{path}: is not a file but a pipe or a device; save the picture in a file")
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise PictureError(f"{path}: is a folder; name a picture in it") from None
    except OSError as error:
        raise PictureError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not start:
        raise PictureError(f"{path}: the file is empty (0 bytes)")
    for name, signature in SIGNATURES.items():
        if re.match(signature, start, re.DOTALL):
            return name
    supported = ", ".join(SIGNATURES)
    raise PictureError(f"{path}: not a picture in a format that is read here; these are: {supported}")
