"""Whole pictures in memory: an array of 8 or 16 bits with alpha and metadata, read and written in one call.

Letters:  H height   W width   C channels: 1 (grey) or 3 (red, green, blue)
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8, UInt16

from enlca.image.files import open_image, write_rows
from enlca.image.metadata import update_metadata
from enlca.image.rows import MAX_PIXELS, ROWS, Band, PictureRows, count_colours, stack_bands
from enlca.image.source import File, Readable


@dataclass(frozen=True, eq=False)
class Picture:
    """Grey or RGB pixels with straight (not premultiplied) alpha, and the file's metadata.

    Attributes:
        pixels: 8 or 16 bits per channel; 16 bits use the whole range from 0 to 65535.
        alpha: of the same depth; None for a picture without transparency.
        icc: the colour profile.
        exif: a TIFF structure, as in a PNG; of an upright picture.
        xmp: the XML packet.
        remarks: what reading changed or left out, each a phrase to be printed after the file's name.
        inches: printed width and height; None if the file does not say.
        upscaled: whether it was made by upscaling here.

    Raises:
        ValueError: the shapes or depths do not fit.
    """

    pixels: UInt8[np.ndarray, "H W C"] | UInt16[np.ndarray, "H W C"]
    alpha: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    remarks: tuple[str, ...] = field(default=(), kw_only=True)
    inches: tuple[float, float] | None = field(default=None, kw_only=True)
    upscaled: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse shapes that are no picture."""
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3) or self.pixels.size == 0:
            raise ValueError(f"pixels must have the shape H W 1 or H W 3, got {self.pixels.shape}")
        if self.alpha is None:
            return
        if self.alpha.shape != self.pixels.shape[:2]:
            raise ValueError(f"alpha must have the shape {self.pixels.shape[:2]}, got {self.alpha.shape}")
        if self.alpha.dtype != self.pixels.dtype:
            raise ValueError(f"alpha must be {self.pixels.dtype} like the pixels, got {self.alpha.dtype}")

    @property
    def rgb(self) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]:
        """The pixels as RGB: grey is repeated."""
        return self.pixels if self.pixels.shape[2] == 3 else np.repeat(self.pixels, 3, axis=2)

    @property
    def layers(self) -> Band:
        """Colour and alpha as one array H W L."""
        if self.alpha is None:
            return self.pixels
        return np.concatenate([self.pixels, self.alpha[:, :, None]], axis=2)

    @property
    def bits(self) -> int:
        """Bits per channel: 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def opaque(self) -> bool:
        """Whether alpha is absent or at its maximum everywhere."""
        return self.alpha is None or int(self.alpha.min()) == np.iinfo(self.alpha.dtype).max

    def save(
        self, target: str | os.PathLike[str] | File, *, quality: int = 95, name: str | None = None
    ) -> tuple[str, ...]:
        """Write the picture; arguments, remarks and errors are those of `files.write_rows`."""
        return write_rows(target, rows_of(self), quality=quality, name=name)


def read_image(source: Readable, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture: upright (EXIF), palettes as RGB, 1 bit as grey, CMYK as sRGB; the first of several.

    Arguments and errors are those of `files.open_image`.
    """
    return collect(open_image(source, max_bits=max_bits, max_pixels=max_pixels))


def write_image(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> tuple[str, ...]:
    """Write a picture; arguments, remarks and errors are those of `files.write_rows`."""
    return picture.save(path, quality=quality)


def collect(rows: PictureRows) -> Picture:
    """Read the first page of `rows` into memory, with metadata that describes its present size."""
    return collect_pages(rows)[0]


def collect_pages(rows: PictureRows) -> list[Picture]:
    """Read all pages of `rows` into memory, with metadata that describes their present size."""
    rows = update_metadata(rows)
    shape = (rows.pages * rows.height, rows.width, rows.layers)
    pages = np.split(stack_bands(rows.bands, shape, rows.dtype), rows.pages)
    about = {name: getattr(rows, name) for name in ("icc", "exif", "xmp", "remarks", "inches", "upscaled")}
    return [replace(_split_alpha(page), **about) for page in pages]


def _split_alpha(layers: Band) -> Picture:
    n_colours = count_colours(layers.shape[2])
    alpha = np.ascontiguousarray(layers[:, :, n_colours]) if layers.shape[2] > n_colours else None
    return Picture(np.ascontiguousarray(layers[:, :, :n_colours]), alpha)


def rows_of(*pictures: Picture, delays: Sequence[int] = (), loop: int = 0) -> PictureRows:
    """Return the rows of pictures of one size and kind; metadata is that of the first.

    Raises:
        ValueError: they differ in size, channels or depth.
    """
    first = pictures[0]
    kinds = {(picture.pixels.shape, picture.bits, picture.alpha is None) for picture in pictures}
    if len(kinds) > 1:
        raise ValueError(f"pages must have one size and kind, got {sorted(map(str, kinds))}")

    def bands() -> Iterator[Band]:
        for picture in pictures:
            for top in range(0, picture.size[1], ROWS):
                part = slice(top, top + ROWS)
                alpha = None if picture.alpha is None else picture.alpha[part]
                yield Picture(picture.pixels[part], alpha).layers

    return PictureRows(
        width=first.size[0],
        height=first.size[1],
        channels=first.pixels.shape[2],
        bits=first.bits,
        bands=bands(),
        has_alpha=first.alpha is not None,
        alpha_is_visible=not all(picture.opaque for picture in pictures),
        icc=first.icc,
        exif=first.exif,
        xmp=first.xmp,
        remarks=tuple(dict.fromkeys(remark for picture in pictures for remark in picture.remarks)),
        pages=len(pictures),
        delays=tuple(delays),
        loop=loop,
        inches=first.inches,
        upscaled=first.upscaled,
    )
