"""Rows to the bytes of a picture: libvips by way of a `Pipe`, Pillow for BMP, and our own `netpbm`.

Letters:  h rows of a band   W width   L layers: channels, then alpha
"""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from enlca.errors import PictureError
from enlca.image import netpbm
from enlca.image.exif import updated_exif
from enlca.image.libvips import libvips
from enlca.image.picture import to_8_bits
from enlca.image.pipe import Pipe
from enlca.image.rows import PictureRows

# Bytes of pixels beyond which a TIFF needs the large variant of the format.
LARGE_TIFF = 4_000_000_000


@dataclass(frozen=True)
class Format:
    """What can be written under a suffix: who writes it, with which options, and what it cannot hold.

    `bytes_held`: memory that its encoder takes for each pixel; 0 where it works row by row.
    """

    name: str
    library: str = "libvips"
    options: tuple[tuple[str, Any], ...] = ()
    has_quality: bool = False
    holds_alpha: bool = True
    holds_16_bits: bool = False
    holds_grey: bool = True
    holds: tuple[str, ...] = ("icc", "exif", "xmp")
    holds_pages: bool = False
    longest_side: int | None = None
    bytes_held: int = 0


def encode(file: BinaryIO, path: Path, rows: PictureRows, form: Format, *, quality: int) -> None:
    """Write rows that `fitted` has made fit into an open file; `path` is named in errors.

    Raises:
        PictureError: they cannot be encoded.
        OSError: they cannot be written.
    """
    if form.library == "libvips":
        return _encode_with_vips(file, path, rows, form, quality=quality)
    if form.library == "netpbm":
        for part in netpbm.encoded(rows):
            file.write(part)
        return None
    from PIL import Image

    pixels = rows.collected().pixels
    return Image.fromarray(pixels[:, :, 0] if rows.channels == 1 else pixels).save(file, format=form.name)


def _encode_with_vips(file: BinaryIO, path: Path, rows: PictureRows, form: Format, *, quality: int) -> None:
    pyvips = libvips()

    pipe = None
    try:
        pipe = Pipe(rows)
        image = pipe.image.copy()
        blobs = {"icc-profile-data": rows.icc, "exif-data": rows.exif, "xmp-data": rows.xmp}
        for name, blob in blobs.items():
            if blob is not None:
                image.set_type(pyvips.GValue.blob_type, name, cast(Any, blob))
        numbers: dict[str, int] = {}
        if rows.pages > 1:
            numbers["page-height"] = rows.height
        if rows.delays:
            numbers["loop"] = rows.loop
            image.set_type(pyvips.GValue.array_int_type, "delay", cast(Any, list(rows.delays)))
        for name, number in numbers.items():
            image.set_type(pyvips.GValue.gint_type, name, cast(Any, number))
        options = dict(form.options) | ({"Q": quality} if form.has_quality else {})
        if form.name == "TIFF" and rows.nbytes > LARGE_TIFF:
            options["bigtiff"] = True
        target = pyvips.Target.new_to_descriptor(file.fileno())
        image.write_to_target(target, path.suffix.lower(), **options)
    except pyvips.Error as error:
        if pipe is not None and pipe.error is not None:
            raise pipe.error from None
        reason = " ".join(str(error).split())
        # libvips tells what the system said, but not as a number.
        for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO):
            if os.strerror(number) in reason:
                raise OSError(number, os.strerror(number)) from error
        raise PictureError(f"{path}: cannot be encoded as {form.name} ({reason})") from error


def fitted(rows: PictureRows, form: Format) -> tuple[PictureRows, tuple[str, ...]]:
    """The picture as the format can hold it, and what had to change or go. Not for alpha that hides."""
    remarks = []
    bands: Iterable[np.ndarray] = rows.bands
    deep = rows.bits == 16 and form.holds_16_bits
    if rows.bits == 16 and not deep:
        remarks.append(f"{form.name} holds 8 bits per channel here: 16 bits were rounded")
        bands = map(to_8_bits, bands)
    if rows.has_alpha and not form.holds_alpha:
        bands = (band[:, :, :-1] for band in bands)
    # Whoever resized the picture need not know about EXIF.
    exif = rows.exif and updated_exif(rows.exif, width=rows.width, height=rows.height)
    about = {"icc": rows.icc, "exif": exif, "xmp": rows.xmp}
    lost = [name for name, blob in about.items() if blob is not None and name not in form.holds]
    if lost:
        remarks.append(f"{form.name} cannot hold {', '.join(lost).upper()} data here: left out")
    about = {name: blob if name in form.holds else None for name, blob in about.items()}
    # Bytes 16 to 20 of a profile name its colour space; one that does not fit the channels is no use.
    space = b"GRAY" if rows.channels == 1 and form.holds_grey else b"RGB "
    if about["icc"] is not None and about["icc"][16:20] != space:
        remarks.append("the colour profile was left out, for it does not fit the file's channels")
        about["icc"] = None
    has_alpha = rows.has_alpha and form.holds_alpha
    return replace(rows, bands=bands, bits=16 if deep else 8, has_alpha=has_alpha, **about), tuple(remarks)
