"""A picture whose pixels come a few rows at a time: what is too large to be held is read and written so.

Letters:  h rows of a band   W width   L layers: 1 or 3 channels, then alpha if there is any
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from enlca.image.picture import Picture

# Rows at a time where nothing else decides.
ROWS = 64

Band = UInt8[np.ndarray, "_ _ L"] | UInt16[np.ndarray, "_ _ L"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PictureRows:
    """What a `Picture` says about itself, and its rows from top to bottom; several pages follow one another.

    Attributes:
        width, height: of each page, in pixels.
        channels: 1 (grey) or 3.
        bits: 8 or 16 per channel; 16 bits use the whole range from 0 to 65535.
        has_alpha: whether the last layer is straight (not premultiplied) alpha.
        hides: whether alpha hides something; as long as nobody knows, it does.
        bands: the rows, h W L each; an iterator gives them once.
        icc, exif, xmp, remarks: see `Picture`.
        pages: how many pictures of this size there are.
        delays: how long each is shown, in milliseconds; empty for pages.
        loop: how many times an animation is shown; 0 is for ever.
    """

    width: int
    height: int
    channels: int
    bits: int
    bands: Iterable[Band]
    has_alpha: bool = False
    hides: bool = True
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    remarks: tuple[str, ...] = ()
    pages: int = 1
    delays: tuple[int, ...] = ()
    loop: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a page, in pixels."""
        return self.width, self.height

    @property
    def layers(self) -> int:
        """Channels, and one more for alpha."""
        return self.channels + self.has_alpha

    @property
    def dtype(self) -> np.dtype:
        """Of the bands: uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def opaque(self) -> bool:
        """Whether alpha is absent or known to hide nothing."""
        return not (self.has_alpha and self.hides)

    @property
    def nbytes(self) -> int:
        """Of all rows of all pages together."""
        return self.pages * self.height * self.width * self.layers * self.dtype.itemsize

    def noting(self, *remarks: str) -> "PictureRows":
        """The same with further remarks."""
        return replace(self, remarks=(*self.remarks, *remarks))

    def collected(self) -> Picture:
        """The first page as a whole. Only for pictures that fit into memory."""
        return self.pictures()[0]

    def pictures(self) -> list[Picture]:
        """Each page as a whole."""
        shape = (self.pages * self.height, self.width, self.layers)
        pages = np.split(filled(self.bands, shape, self.dtype), self.pages)
        about = {"icc": self.icc, "exif": self.exif, "xmp": self.xmp, "remarks": self.remarks}
        return [replace(split(page), **about) for page in pages]


def filled(
    bands: Iterable[Shaped[np.ndarray, "_ _ L"]], shape: tuple[int, int, int], kind: np.dtype
) -> Shaped[np.ndarray, "_ _ L"]:
    """An array of that shape with the bands below one another."""
    array, done = np.empty(shape, kind), 0
    for band in bands:
        array[done : done + len(band)] = band
        done += len(band)
    return array


def count_colours(n_layers: int) -> int:
    """How many of 1 to 4 layers are colour: 1 or 3; what is left is alpha."""
    return 3 if n_layers >= 3 else 1


def split(layers: Band) -> Picture:
    """Colour and alpha apart: 1 or 3 layers of colour, and alpha as the 2nd or 4th."""
    n_colours = count_colours(layers.shape[2])
    alpha = np.ascontiguousarray(layers[:, :, n_colours]) if layers.shape[2] > n_colours else None
    return Picture(np.ascontiguousarray(layers[:, :, :n_colours]), alpha)


def joined(picture: Picture) -> Band:
    """Colour and alpha as one array."""
    if picture.alpha is None:
        return picture.pixels
    return np.concatenate([picture.pixels, picture.alpha[:, :, None]], axis=2)


def rows_of(*pictures: Picture, delays: Sequence[int] = (), loop: int = 0) -> PictureRows:
    """The rows of pictures of one size and kind; what belongs to them is that of the first.

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
                rows = slice(top, top + ROWS)
                alpha = None if picture.alpha is None else picture.alpha[rows]
                yield joined(Picture(picture.pixels[rows], alpha))

    return PictureRows(
        width=first.size[0],
        height=first.size[1],
        channels=first.pixels.shape[2],
        bits=first.bits,
        bands=bands(),
        has_alpha=first.alpha is not None,
        hides=not all(picture.opaque for picture in pictures),
        icc=first.icc,
        exif=first.exif,
        xmp=first.xmp,
        remarks=tuple(dict.fromkeys(remark for picture in pictures for remark in picture.remarks)),
        pages=len(pictures),
        delays=tuple(delays),
        loop=loop,
    )
