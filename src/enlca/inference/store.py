"""Feature maps that may be larger than memory: two of them, written in turn, in memory or in a file.

A file is mapped for the few rows of each access only, so its pages do not stay in the process. It has no
name, so nothing is left behind, however the process ends.

Letters:  C channels   H, W height and width of the picture   h, w those of a part of it
"""

import math
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enlca.errors import StoreError
from enlca.inference.tiles import Region


class FeatureMap:
    """Features of a whole picture on the host; channels lie together, so a tile's row is one piece.

    Args:
        channels, height, width: its size.
        dtype: of its numbers.
        file: where it lives; None is memory.
    """

    def __init__(self, channels: int, height: int, width: int, *, dtype: torch.dtype, file: Any = None):
        self.shape = (height, width, channels)
        self.dtype = dtype
        self.file = file
        self.memory = _pages(self.shape, dtype) if file is None else None

    def _rows(self, top: int, bottom: int) -> Tensor:
        if self.memory is not None:
            return self.memory[top:bottom]
        _, width, channels = self.shape
        bytes_of_row = width * channels * self.dtype.itemsize
        # Bytes, as numpy has no bfloat16.
        mapped = np.memmap(
            self.file, np.uint8, "r+", top * bytes_of_row, (bottom - top, width, bytes_of_row // width)
        )
        return torch.from_numpy(mapped).view(self.dtype)

    def write(self, region: Region, features: Float[Tensor, "1 C h w"]) -> None:
        """Put the features of `region` in place; they may be on any device."""
        rows = self._rows(region.top, region.bottom)
        rows[:, region.left : region.right] = features[0].permute(1, 2, 0).to("cpu")

    def read(self, region: Region) -> Float[Tensor, "1 C h w"]:
        """A copy of the features of `region`, in memory."""
        rows = self._rows(region.top, region.bottom)
        return rows[:, region.left : region.right].clone().permute(2, 0, 1)[None]


def _pages(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory from the system itself: among smaller pieces that come and go, a map would leave gaps."""
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


class Store:
    """Two feature maps of one size: while one is read, `turn` gives the other to be written.

    Args:
        channels, height, width: size of a map.
        dtype: of its numbers.
        limit: bytes that maps may take in memory; a map beyond it lives in a file. None: no limit.
        folder: where that file is; None is the system's place for temporary files ($TMPDIR).
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        *,
        dtype: torch.dtype,
        limit: int | None = None,
        folder: Path | None = None,
    ):
        self.size = (channels, height, width)
        self.dtype = dtype
        self.folder = Path(folder or tempfile.gettempdir())
        self.maps: list[FeatureMap] = []
        self.files: list[Any] = []
        self.in_memory = maps_in_memory(2, math.prod(self.size) * dtype.itemsize, limit)

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.maps.clear()
        for file in self.files:
            file.close()

    def turn(self) -> FeatureMap:
        """The map that was given the time before last; what it held is lost.

        Raises:
            StoreError: the disk has no room for it.
        """
        if len(self.maps) < 2:
            file = None if len(self.maps) < self.in_memory else self._file()
            self.maps.append(FeatureMap(*self.size, dtype=self.dtype, file=file))
        else:
            self.maps.reverse()
        return self.maps[-1]

    def _file(self) -> Any:
        size = math.prod(self.size) * self.dtype.itemsize
        try:
            file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed by __exit__
            self.files.append(file)
            # Room is taken now: a full disk under a mapping would end the process without a word.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(self.folder).free < size:
                raise OSError("not enough space")
            file.truncate(size)
        except OSError as error:
            what = f"{size / 2**30:.2f} GiB of features"
            raise no_room(self.folder, what, error) from error
        return file


def no_room(folder: Path, what: str, error: OSError) -> StoreError:
    """The error about a disk that is full."""
    return StoreError(
        f"{folder}: no room for {what} ({error.strerror or error}); "
        "set TMPDIR to a folder on a larger disk, or free some space"
    )


def maps_in_memory(n_maps: int, size: int, limit: int | None) -> int:
    """How many of `n_maps` maps of `size` bytes stay in memory."""
    return n_maps if limit is None else min(n_maps, limit // size)
