"""Feature maps of a whole picture, which may be larger than memory: two of them, written in turn.

A map lives in memory or in an unnamed file, which is mapped for the rows of one access only: its pages do not
stay in the process, and nothing is left of it, however the process ends.

Letters:  C channels   H, W height and width of the picture   h, w those of a part
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

from enlca.inference.pixel_source import disk_full
from enlca.inference.tiles import Region


class FeatureMap:
    """Features of a whole picture on the host, channels last, so that a row of a tile is contiguous.

    Args:
        channels, height, width: its size.
        dtype: of its elements.
        file: the file that holds it; None is memory.
    """

    def __init__(self, channels: int, height: int, width: int, *, dtype: torch.dtype, file: Any = None):
        self.shape = (height, width, channels)
        self.dtype = dtype
        self.file = file
        self.memory = _allocate_pages(self.shape, dtype) if file is None else None

    def _rows(self, top: int, bottom: int) -> Tensor:
        if self.memory is not None:
            return self.memory[top:bottom]
        _, width, channels = self.shape
        row_bytes = width * channels * self.dtype.itemsize
        # As bytes, since numpy has no bfloat16.
        shape = (bottom - top, width, row_bytes // width)
        mapped = np.memmap(self.file, np.uint8, "r+", top * row_bytes, shape)
        return torch.from_numpy(mapped).view(self.dtype)

    def write(self, region: Region, features: Float[Tensor, "1 C h w"]) -> None:
        """Store the features of `region`, from any device."""
        rows = self._rows(region.top, region.bottom)
        rows[:, region.left : region.right] = features[0].permute(1, 2, 0).to("cpu")

    def read(self, region: Region) -> Float[Tensor, "1 C h w"]:
        """Return a copy of the features of `region`, in memory."""
        rows = self._rows(region.top, region.bottom)
        return rows[:, region.left : region.right].clone().permute(2, 0, 1)[None]


def _allocate_pages(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Allocate from the system itself: a map between small allocations would fragment the heap."""
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


class FeatureCache:
    """A double buffer of feature maps: while one is read, the other is written.

    Args:
        channels, height, width: size of a map.
        dtype: of its elements.
        limit: bytes that maps may take in memory; further maps live in files. None: no limit.
        folder: for these files; None is the system's folder for temporary files ($TMPDIR).
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

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.maps.clear()
        for file in self.files:
            file.close()

    def next_buffer(self) -> FeatureMap:
        """Return the map that was returned the time before last; its content is lost.

        Raises:
            StoreError: the disk has no space for it.
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
            # Reserve the space now: a full disk under a mapping would kill the process without a message.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(self.folder).free < size:
                raise OSError("not enough space")
            file.truncate(size)
        except OSError as error:
            raise disk_full(self.folder, f"{size / 2**30:.2f} GiB of features", error) from error
        return file


def maps_in_memory(n_maps: int, size: int, limit: int | None) -> int:
    """Return how many of `n_maps` maps of `size` bytes fit into `limit` bytes of memory."""
    return n_maps if limit is None else min(n_maps, limit // size)
