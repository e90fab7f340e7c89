"""Pixels of which any rectangle can be read: a picture in memory, or in a file without a name.

A network needs every pixel several times, but a file gives its rows once (`held`). The file is mapped for
the few rows of each access only, so its pages do not stay in the process; and nothing is left of it, however
the process ends.

Letters:  H, W height and width   L layers   h, w those of a part
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from enlca.image.rows import ROWS, Band, PictureRows, stack_bands
from enlca.inference.store import no_room

# Pictures up to this many bytes stay in memory, whoever counts.
SMALL = 1 << 20


@runtime_checkable
class Pixels(Protocol):
    """What a picture has to offer to be walked over: an array does, and so does a `Raster`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """H, W, L."""
        ...

    @property
    def dtype(self) -> Any:
        """numpy's."""
        ...

    def __getitem__(self, where: tuple[slice, slice], /) -> Shaped[np.ndarray, "h w L"]:
        """The pixels of some rows and columns."""
        ...


class Raster:
    """Rows of a picture in memory, or in a file that is closed when the last part of it is gone.

    Args:
        where: the array, or the file, in which the rows lie one after the other.
        shape: H, W, L.
        dtype: numpy's.
        first: row of the file where this part begins.
    """

    def __init__(self, where: Any, shape: tuple[int, int, int], dtype: np.dtype, *, first: int = 0):
        self.where = where
        self.shape = shape
        self.dtype = dtype
        self.first = first

    @classmethod
    def of(cls, array: Shaped[np.ndarray, "H W L"]) -> "Raster":
        """An array as it is."""
        return cls(array, array.shape, array.dtype)  # pyright: ignore[reportArgumentType]

    def __getitem__(self, where: tuple[slice, slice], /) -> Shaped[np.ndarray, "h w L"]:
        rows, columns = where
        top, bottom, _ = rows.indices(self.shape[0])
        top, bottom = self.first + top, self.first + bottom
        if isinstance(self.where, np.ndarray):
            return self.where[top:bottom, columns]
        offset = top * self.shape[1] * self.shape[2] * self.dtype.itemsize
        mapped = np.memmap(self.where, self.dtype, "r", offset, (bottom - top, *self.shape[1:]))
        return np.array(mapped[:, columns])

    def __iter__(self) -> Iterator[Band]:
        for top in range(0, self.shape[0], ROWS):
            yield self[top : top + ROWS, :]

    def page(self, number: int, height: int) -> "Raster":
        """One of the pictures that lie below one another."""
        first = self.first + number * height
        return Raster(self.where, (height, *self.shape[1:]), self.dtype, first=first)

    @property
    def nbytes_in_memory(self) -> int:
        """What it takes beside the disk."""
        return self.where.nbytes if isinstance(self.where, np.ndarray) else 0


def held(rows: PictureRows, *, limit: int | None = None, folder: Path | None = None) -> PictureRows:
    """The same picture with a `Raster` as its bands, which is filled now.

    Args:
        rows: whose bands are used up.
        limit: bytes that may stay in memory; a picture beyond it is written to a file. None: no limit.
        folder: where that file is; None is the system's place for temporary files ($TMPDIR).

    Raises:
        PictureError: what the bands raise.
        StoreError: the disk has no room.
    """
    if isinstance(rows.bands, Raster):
        return rows
    shape = (rows.pages * rows.height, rows.width, rows.layers)
    if limit is None or rows.nbytes <= max(limit, SMALL):
        raster = Raster(stack_bands(rows.bands, shape, rows.dtype), shape, rows.dtype)
    else:
        raster = gathered(rows.bands, folder=folder)
    return replace(
        rows, bands=raster, alpha_is_visible=rows.has_alpha and rows.alpha_is_visible and _hides(raster)
    )


def gathered(bands: Iterable[Shaped[np.ndarray, "_ W L"]], *, folder: Path | None = None) -> Raster:
    """Rows of a picture whose height nobody knows yet, in a file; arguments and errors as in `held`.

    Raises:
        ValueError: no rows, or bands that differ in width, layers or type.
    """
    place = Path(folder or tempfile.gettempdir())
    height, width, layers, kind = 0, 0, 0, np.dtype(np.uint8)
    try:
        # Closed by the last raster that reads it.
        file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115
        for band in bands:
            if height and ((width, layers) != band.shape[1:] or kind != band.dtype):
                raise ValueError(
                    f"rows must be alike: first {width} x {layers} {kind}, then {band.shape[1:]} {band.dtype}"
                )
            (width, layers), kind = band.shape[1:], band.dtype
            height += len(band)
            file.write(np.ascontiguousarray(band).data)
        file.flush()
    except OSError as error:
        raise no_room(place, "the picture", error) from error
    if height * width * layers == 0:
        raise ValueError("a picture needs at least one row and one column")
    return Raster(file, (height, width, layers), kind)


def _hides(raster: Raster) -> bool:
    """Whether any alpha is below white."""
    peak = np.iinfo(raster.dtype).max
    return any(int(band[:, :, -1].min()) < peak for band in raster)


def constant(pixels: Pixels, layers: slice = slice(None)) -> Shaped[np.ndarray, "_"] | None:
    """The one colour of a picture that has but one, in some of its layers."""
    first = pixels[0:1, 0:1][0, 0, layers]
    for top in range(0, pixels.shape[0], ROWS):
        if not (pixels[top : top + ROWS, 0 : pixels.shape[1]][:, :, layers] == first).all():
            return None
    return first


def waiting_share(limit: int) -> int:
    """Return how many bytes of `limit` a queued picture may occupy; larger ones are spooled to disk."""
    return limit // 32
