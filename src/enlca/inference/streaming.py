"""A picture of any size through a network in bounded memory, as bands of finished rows.

`enlarge_streaming` gives the result of the whole picture (`stages` says how); `enlarge_tiled` is what others
do: tiles that do not see each other.

Letters:  S scale   H, W height and width of the small picture   h height of a band of the large one
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from enlca.errors import StreamingError
from enlca.inference.ensemble import Forward
from enlca.inference.raster import Pixels
from enlca.inference.stages import GLOBAL_STAGES, Features, Walk, Watch, pixels
from enlca.inference.store import Store
from enlca.inference.tiles import Region, crop, cut
from enlca.network.sr import SRConfig, SRNetwork
from enlca.runtime.device import inference

Finish = Callable[[Tensor], Tensor]

# Pixels around an ordinary tile that are computed and thrown away.
OVERLAP = 16


def unwatched(regions: Sequence[Region], what: str) -> Sequence[Region]:
    """No report of progress."""
    return regions


def unchanged(part: Tensor) -> Tensor:
    """No finish."""
    return part


def enlarge_streaming(
    network: SRNetwork,
    picture: Pixels,
    *,
    tile: int,
    store_limit: int | None = None,
    folder: Path | None = None,
    finish: Finish = unchanged,
    watch: Watch = unwatched,
) -> Iterator[Shaped[Tensor, "3 h SW"]]:
    """The enlarged picture as bands of rows, from top to bottom; equal to `network(picture)`.

    Attention "linear" and "none" take time linear in the number of pixels; "exact" takes quadratic time.

    Args:
        network: on the device where it is to run, in evaluation.
        picture: RGB (H W 3), uint8 or floating point in [0, 1]. Small parts are read, each several times: an
            array, a `numpy.memmap`, or a `Raster`, which `held` makes of rows that come only once.
        tile: side of a tile in small pixels. The larger, the more memory and the less work is done twice.
        store_limit: bytes of features that may stay in memory between stages; see `Store`.
        folder: for the features beyond; see `Store`.
        finish: applied to each piece of the result, for instance to round it; values may leave [0, 1].
        watch: gets the regions of each pass and its name, and gives them back: a place for a progress bar.

    Returns:
        An iterator over bands on the host, of the whole width. The work is done while it is asked.

    Raises:
        StreamingError: attention "lsh", which sorts all positions of a picture.
        StoreError: no room for the features; while iterating.
        ValueError: a picture or tile of a size or type that is not listed above.
    """
    if not streamable(network.config):
        raise StreamingError(
            f"attention {network.config.attention!r} sorts all positions of a picture and cannot be streamed "
            "exactly; enlarge the picture whole, or in tiles that do not see each other (mode 'tiled')"
        )
    kind = np.dtype(picture.dtype)
    if 0 in picture.shape or not (kind == np.uint8 or kind.kind == "f"):
        raise ValueError(f"pictures must be uint8 or floating point, got {kind} {picture.shape}")
    walk = Walk(network, picture, tile=tile, watch=watch)

    def rows() -> Iterator[Tensor]:
        with streamed(walk, store_limit=store_limit, folder=folder) as piece:
            yield from in_bands(
                piece,
                walk.whole,
                tile=last_tile(tile, network.config),
                scale=scale,
                finish=finish,
                watch=watch,
            )

    scale = network.config.scale
    return rows()


def streamable(config: SRConfig) -> bool:
    """Whether a network can be streamed exactly."""
    return config.attention in (*GLOBAL_STAGES, "none")


@contextmanager
def streamed(walk: Walk, *, store_limit: int | None = None, folder: Path | None = None) -> Iterator[Features]:
    """Any piece of the large picture, asked for by its place in the small one; `Walk.half` counts."""
    size = (walk.network.config.channels, walk.whole.height, walk.whole.width)
    with Store(*size, dtype=walk.dtype, limit=store_limit, folder=folder) as store:
        with inference(walk.device, walk.half):
            piece = walk.enlarged(store)

        def at(region: Region) -> Tensor:
            with inference(walk.device, walk.half):
                return piece(region)

        yield at


def last_tile(tile: int, config: SRConfig) -> int:
    """Side of the tiles that the upsampler gets: what the memory of a stage's tile allows, up to a limit.

    Beyond some 1024 large pixels a larger tile only leaves the processor's cache.
    """
    if config.upsampler == "direct":
        return min(tile, max(1, 1024 // config.scale))
    # All channels at the large size.
    return max(1, 2 * tile // config.scale)


def in_bands(
    piece: Features, whole: Region, *, tile: int, scale: int, finish: Finish, watch: Watch = unwatched
) -> Iterator[Tensor]:
    """Bands of `scale * tile` rows of the large picture, made of the large pieces of tiles."""
    for band in watch(cut(whole, tile, whole.width), "enlarging"):
        rows = torch.empty(0)
        for region in cut(band, tile, tile):
            part = finish(piece(region))[0]
            if region.left == band.left:
                rows = torch.empty(3, scale * band.height, scale * band.width, dtype=part.dtype)
            crop(rows, region.times(scale), band.times(scale)).copy_(part)
        yield rows


def tiled(
    forward: Forward, picture: Pixels, *, scale: int, overlap: int, device: torch.device | None
) -> Features:
    """Pieces of ordinary tiles: each region is a picture of its own, `overlap` pixels wider on each side."""
    whole = Region(0, 0, *picture.shape[:2])

    def at(region: Region) -> Tensor:
        wide = region.grown(overlap, whole)
        with torch.inference_mode():
            lr = pixels(picture, wide, device, torch.float32)
            return crop(forward(lr), region.times(scale), wide.times(scale))

    return at


def enlarge_tiled(
    forward: Forward,
    picture: Pixels,
    *,
    scale: int,
    tile: int,
    overlap: int = OVERLAP,
    device: torch.device | None = None,
    finish: Finish = unchanged,
) -> Iterator[Shaped[Tensor, "3 h SW"]]:
    """Ordinary tiles: each is a picture of its own, `overlap` pixels wider on each side than what is kept.

    Attention does not see beyond the tile, so the result is another one than that of the whole picture.
    It needs no store, and any `forward` will do. Arguments and bands as in `enlarge_streaming`.

    Raises:
        ValueError: `tile` below 1 or `overlap` below 0.
    """
    if tile < 1 or overlap < 0:
        raise ValueError(f"tile must be at least 1 and overlap at least 0, got {tile} and {overlap}")
    whole = Region(0, 0, *picture.shape[:2])
    piece = tiled(forward, picture, scale=scale, overlap=overlap, device=device)
    return in_bands(piece, whole, tile=tile, scale=scale, finish=finish)
