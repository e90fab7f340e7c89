"""Pictures that can be read at any rectangle: in memory, in an unnamed file, or as a view of another one.

A network needs every pixel several times, but a file gives its rows once (`materialize`). A spooled file is
mapped for the rows of one access only, so its pages do not stay in the process; it has no name, so nothing is
left of it, however the process ends.

Letters:  H, W height and width   L layers: 1 or 3 channels, then alpha   h, w those of a part
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from enlca.errors import StoreError
from enlca.image.rows import ROWS, Band, PictureRows, count_colours, stack_bands
from enlca.inference.tiles import Region
from enlca.runtime.device import require_memory

# Bytes up to which a picture stays in memory whatever the limit.
ALWAYS_IN_MEMORY = 1 << 20


@runtime_checkable
class Pixels(Protocol):
    """A picture that can be read at any rectangle: an array, or one of the classes below."""

    @property
    def shape(self) -> tuple[int, ...]:
        """H, W, L."""
        ...

    @property
    def dtype(self) -> Any:
        """numpy's."""
        ...

    def __getitem__(self, where: tuple[slice, slice], /) -> Shaped[np.ndarray, "h w L"]:
        """Return the pixels of some rows and columns."""
        ...


class Raster:
    """Rows of a picture in memory, or in a file that is closed with its last reader.

    Args:
        where: the array, or the file that holds the rows one after the other.
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
        """Wrap an array."""
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
        """Return one of the pages of `height` rows that lie below one another."""
        first = self.first + number * height
        return Raster(self.where, (height, *self.shape[1:]), self.dtype, first=first)


@dataclass(frozen=True)
class RGBView:
    """A picture as RGB in [0, 1]: grey is repeated.

    Attributes:
        picture: H W L, of 8 or 16 bits or floating point in [0, 1].
        background: grey level from 0 (black) to 1 (white) that the picture is composited over; None ignores
            alpha.
    """

    picture: Pixels
    background: float | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, W, 3."""
        return (*self.picture.shape[:2], 3)  # pyright: ignore[reportReturnType]

    @property
    def dtype(self) -> np.dtype:
        """float32."""
        return np.dtype(np.float32)

    def __getitem__(self, where: tuple[slice, slice], /) -> Float32[np.ndarray, "h w 3"]:
        layers = self.picture[where].astype(np.float32) / np.float32(peak_of(self.picture.dtype))
        n_layers = layers.shape[2]
        seen = layers[:, :, : count_colours(n_layers)]
        if self.background is not None:
            opacity = layers[:, :, n_layers - 1 :]
            seen = opacity * seen + np.float32(self.background) * (1 - opacity)
        return np.broadcast_to(seen, (*seen.shape[:2], 3))


@dataclass(frozen=True)
class DihedralView:
    """A picture mirrored and rotated, as `transforms.dihedral` does it."""

    picture: Pixels
    index: int

    @property
    def shape(self) -> tuple[int, ...]:
        """H, W, L; height and width are exchanged by a quarter turn."""
        height, width, *layers = self.picture.shape
        return (width, height, *layers) if self.index & 1 else (height, width, *layers)

    @property
    def dtype(self) -> Any:
        """That of the picture."""
        return self.picture.dtype

    def __getitem__(self, where: tuple[slice, slice], /) -> Shaped[np.ndarray, "h w L"]:
        rows, columns = (side.indices(n) for side, n in zip(where, self.shape, strict=False))
        region = self.upright(Region(rows[0], columns[0], rows[1], columns[1]))
        part = self.picture[region.top : region.bottom, region.left : region.right]
        return np.rot90(part[:, ::-1] if self.index & 4 else part, self.index & 3)

    def upright(self, region: Region) -> Region:
        """Return where a part of this view lies in the picture."""
        height, width = self.picture.shape[:2]
        for turn in range(self.index & 3, 0, -1):
            # A quarter turn takes the last column to the first row.
            n_columns = width if turn % 2 else height
            region = Region(region.left, n_columns - region.bottom, region.right, n_columns - region.top)
        if self.index & 4:
            region = Region(region.top, width - region.right, region.bottom, width - region.left)
        return region


def materialize(
    rows: PictureRows,
    *,
    limit: int | None = None,
    max_memory: int | None = None,
    folder: Path | None = None,
    always_in_memory: int = ALWAYS_IN_MEMORY,
) -> PictureRows:
    """Read all rows of a picture now; return it with a `Raster` as its bands.

    Args:
        rows: the picture; its bands are used up.
        limit: bytes that may stay in memory; a larger picture is spooled to disk. None: no limit.
        max_memory: bytes that this process may use, which the decoder must keep; see `memory_budget`.
        folder: for the spooled file; None is the system's folder for temporary files ($TMPDIR).
        always_in_memory: bytes up to which a picture stays in memory whatever the limit.

    Raises:
        PictureError: what the bands raise.
        TooLarge: the decoder needs more memory than is left.
        StoreError: the disk has no space.
    """
    if isinstance(rows.bands, Raster):
        return rows
    if rows.decoder_bytes > always_in_memory:
        how = f"to decode its {rows.width}x{rows.height} pixels, which its format does not give row by row"
        hint = "save it as a plain PNG or TIFF"
        require_memory(rows.decoder_bytes, how, max_memory=max_memory, hint=hint)
    shape = (rows.pages * rows.height, rows.width, rows.layers)
    if limit is None or rows.nbytes <= max(limit, always_in_memory):
        raster = Raster(stack_bands(rows.bands, shape, rows.dtype), shape, rows.dtype)
    else:
        raster = spool_to_disk(rows.bands, folder=folder)
    visible = rows.has_alpha and rows.alpha_is_visible and _is_visible(raster)
    return replace(rows, bands=raster, alpha_is_visible=visible, decoder_bytes=0)


def spool_to_disk(bands: Iterable[Shaped[np.ndarray, "_ W L"]], *, folder: Path | None = None) -> Raster:
    """Write bands to an unnamed temporary file; return it as a picture. The height need not be known.

    Raises:
        StoreError: the disk has no space.
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
        raise disk_full(place, "the picture", error) from error
    if height * width * layers == 0:
        raise ValueError("a picture needs at least one row and one column")
    return Raster(file, (height, width, layers), kind)


def queue_share(limit: int) -> int:
    """Return how many bytes of a memory limit a queued picture may occupy; a larger one is spooled."""
    return limit // 32


def disk_full(folder: Path, what: str, error: OSError) -> StoreError:
    """Return the error about a disk without space for `what`."""
    return StoreError(
        f"{folder}: no room for {what} ({error.strerror or error}); "
        "set TMPDIR to a folder on a larger disk, or free some space"
    )


def single_colour(pixels: Pixels, layers: slice = slice(None)) -> Shaped[np.ndarray, "_"] | None:
    """Return the colour of a picture that is the same everywhere in some of its layers, else None."""
    first = pixels[0:1, 0:1][0, 0, layers]
    for top in range(0, pixels.shape[0], ROWS):
        if not (pixels[top : top + ROWS, 0 : pixels.shape[1]][:, :, layers] == first).all():
            return None
    return first


def as_tensor(
    picture: Pixels, region: Region, device: torch.device | None, dtype: torch.dtype
) -> Float[Tensor, "1 3 h w"]:
    """Return a part of an RGB picture as a tensor in [0, 1]."""
    rows, columns = region.inside(Region(0, 0, *picture.shape[:2]))
    # A copy, since read-only and mirrored arrays cannot be shared with torch.
    part = torch.from_numpy(np.array(picture[rows, columns])).to(device)
    values = part.to(dtype) / 255 if part.dtype == torch.uint8 else part.to(dtype)
    return values.permute(2, 0, 1)[None]


def peak_of(dtype: Any) -> int:
    """Return the value of white in an array of this type: 255, 65535, or 1 for floats."""
    return 1 if np.dtype(dtype).kind == "f" else int(np.iinfo(dtype).max)


def as_channels(rgb: Float32[np.ndarray, "h w 3"], picture: Pixels) -> Float32[np.ndarray, "h w _"]:
    """Return RGB, or the mean of the channels where `picture` is grey."""
    return rgb if picture.shape[2] >= 3 else rgb.clip(0, 1).mean(axis=2, keepdims=True)


def to_levels(values: Float32[np.ndarray, "*S"], kind: np.dtype) -> Shaped[np.ndarray, "*S"]:
    """Scale [0, 1] to the levels of a type: clip, and round for integers."""
    values = np.clip(values, 0, 1) * np.float32(peak_of(kind))
    return values.astype(kind) if kind.kind == "f" else np.rint(values).astype(kind)


def _is_visible(raster: Raster) -> bool:
    """Whether any alpha is below white."""
    peak = np.iinfo(raster.dtype).max
    return any(int(band[:, :, -1].min()) < peak for band in raster)
