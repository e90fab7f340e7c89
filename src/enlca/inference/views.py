"""What a network sees of a picture of any kind: RGB in [0, 1], of the rectangle that is asked for.

Grey is repeated. A picture with transparency is seen twice, over black and over white (`matting` says why).

Letters:  H, W height and width   h, w those of a part   L layers   C channels: 1 or 3
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from enlca.image.rows import count_colours
from enlca.inference.raster import Pixels
from enlca.inference.tiles import Region


def peak_of(dtype: Any) -> int:
    """What white is in an array of this type: 255, 65535, or 1 for floats."""
    return 1 if np.dtype(dtype).kind == "f" else int(np.iinfo(dtype).max)


@dataclass(frozen=True)
class View:
    """A picture as RGB.

    Attributes:
        picture: H W L, of 8 or 16 bits or floating point in [0, 1].
        background: what the picture lies over, from 0 (black) to 1 (white); None leaves alpha out.
    """

    picture: Pixels
    background: float | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, W, 3."""
        return (*self.picture.shape[:2], 3)  # pyright: ignore[reportReturnType]

    @property
    def dtype(self) -> np.dtype:
        """Of what is seen."""
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
class Turned:
    """A picture mirrored and turned, as `ensemble.turned` does it."""

    picture: Pixels
    move: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width may be exchanged."""
        height, width, *layers = self.picture.shape
        return (width, height, *layers) if self.move & 1 else (height, width, *layers)

    @property
    def dtype(self) -> Any:
        """The picture's."""
        return self.picture.dtype

    def __getitem__(self, where: tuple[slice, slice], /) -> Shaped[np.ndarray, "h w L"]:
        rows, columns = (side.indices(n) for side, n in zip(where, self.shape, strict=False))
        region = self.upright(Region(rows[0], columns[0], rows[1], columns[1]))
        part = self.picture[region.top : region.bottom, region.left : region.right]
        return np.rot90(part[:, ::-1] if self.move & 4 else part, self.move & 3)

    def upright(self, region: Region) -> Region:
        """Where a part of the turned picture lies in the picture as it was."""
        height, width = self.picture.shape[:2]
        for turn in range(self.move & 3, 0, -1):
            # A quarter turn takes the last column to the first row.
            n_columns = width if turn % 2 else height
            region = Region(region.left, n_columns - region.bottom, region.right, n_columns - region.top)
        if self.move & 4:
            region = Region(region.top, width - region.right, region.bottom, width - region.left)
        return region
