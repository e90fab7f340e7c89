"""Picture files to arrays and back: whole and unharmed, or one clear line saying why not.

This file knows names, folders and formats; `codecs` turns bytes into arrays. A picture that cannot be held
without loss (16 bits per channel, for now) is refused, never silently cut. Of an animation or of several
pages the first picture is read.
"""

import os
import re
import secrets
from pathlib import Path

import numpy as np

from enlca.image import codecs
from enlca.image.codecs import Format, Picture, PictureError

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
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif", ".bmp", ".ppm", ".pgm")


_JPEG = Format("JPEG", has_quality=True, holds_alpha=False, longest_side=65535)
_TIFF = Format("TIFF", options=(("compression", "deflate"), ("predictor", "horizontal")))
WRITABLE = {
    ".png": Format("PNG"),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format("WebP", has_quality=True, longest_side=16383),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": Format("AVIF", options=(("compression", "av1"),), has_quality=True, longest_side=16384),
    ".bmp": Format("BMP", library="Pillow", holds_alpha=False),
    ".ppm": Format("PPM", library="Pillow", holds_alpha=False),
}


def read_image(path: str | os.PathLike[str]) -> Picture:
    """Read a picture of 8 bits per channel: upright (EXIF), palettes as RGB, 1 bit as grey, CMYK as sRGB.

    Raises:
        PictureError: no such file, a folder, empty, not a picture, damaged or cut short, or of a kind that is
            not handled (more than 8 bits per channel, unusual channels).
    """
    path = Path(path)
    name = _format_of(path)
    try:
        return codecs.decode_with_pillow(path) if name in ("bmp", "ppm") else codecs.decode_with_vips(path)
    except OSError as error:
        raise PictureError(f"{path}: cannot be read: {error.strerror or error}") from error


def write_image(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> None:
    """Write a picture in the format of the suffix; `quality` (1 to 100) counts for JPEG, WebP and AVIF.

    The file appears whole under its name or not at all. PNG, TIFF, BMP and PPM hold the pixels exactly. The
    profile goes along where the format can hold one (not BMP, PPM) and it fits the channels.

    Raises:
        PictureError: unknown suffix, no such folder, no permission, no space, transparency in a format that
            has none, or a side that is too long for the format.
        ValueError: `quality` is not in 1 to 100.
    """
    path = Path(path)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be from 1 to 100, got {quality}")
    if path.suffix.lower() not in WRITABLE:
        what = f"cannot write {path.suffix}" if path.suffix else "needs a suffix that says the format"
        raise PictureError(f"{path}: {what}; choose from {' '.join(WRITABLE)}")
    form = WRITABLE[path.suffix.lower()]
    if path.is_dir():
        raise PictureError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise PictureError(f"{path}: the folder {path.parent} does not exist; make it first")
    height, width = picture.pixels.shape[:2]
    if form.longest_side and max(height, width) > form.longest_side:
        limit = f"{form.name} holds at most {form.longest_side} pixels a side"
        raise PictureError(f"{path}: {limit}, this picture is {width}x{height}; write .png or .tif")
    alpha = picture.alpha
    if alpha is not None and not form.holds_alpha:
        # Alpha that hides nothing can be left out without loss.
        if alpha.min() < 255:
            raise PictureError(f"{path}: {form.name} cannot hold transparency; write .png or .webp")
        alpha = None
    layers = picture.pixels if alpha is None else np.concatenate([picture.pixels, alpha[:, :, None]], axis=2)
    encode = codecs.encode_with_vips if form.library == "libvips" else codecs.encode_with_pillow
    _replace(path, encode(path, layers, picture.icc, form, quality))


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


def _format_of(path: Path) -> str:
    """The key of SIGNATURES that the file begins with."""
    try:
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


def _replace(path: Path, data: bytes) -> None:
    """Put `data` under `path` in one step, by way of a sibling file that is gone whatever happens."""
    sibling = path.with_name(f".enlca-{secrets.token_hex(8)}.part")
    try:
        with sibling.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(sibling, path)
    except OSError as error:
        raise PictureError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        sibling.unlink(missing_ok=True)
