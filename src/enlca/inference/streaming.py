"""A picture of any size through a network in bounded memory, as bands of finished rows.

`enlarge_streaming` gives the result of the whole picture (`stages` says how); `enlarge_tiled` is what others
do: tiles that do not see each other.

Letters:  S scale   H, W height and width of the small picture   h height of a band of the large one
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from enlca.attention.linear import BLOCK
from enlca.errors import EnlcaError
from enlca.inference.ensemble import Forward
from enlca.inference.stages import GLOBAL_STAGES, QUERIES, Features, Walk, Watch, halo_of, pixels
from enlca.inference.store import Store, maps_in_memory
from enlca.inference.tiles import Region, crop, cut
from enlca.network.blocks import UPSAMPLERS
from enlca.network.sr import SRConfig, SRNetwork

Finish = Callable[[Tensor], Tensor]


class StreamingError(EnlcaError):
    """A network that cannot be streamed exactly."""


def unwatched(regions: Sequence[Region], what: str) -> Sequence[Region]:
    """No report of progress."""
    return regions


def unchanged(part: Tensor) -> Tensor:
    """No finish."""
    return part


def enlarge_streaming(
    network: SRNetwork,
    picture: Shaped[np.ndarray, "H W 3"],
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
        picture: RGB, uint8 or floating point in [0, 1]. Small parts are read, each several times: a
            `numpy.memmap` will do, and `spooled` makes one of rows that come only once.
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
    kind = network.config.attention
    if kind not in (*GLOBAL_STAGES, "none"):
        raise StreamingError(
            f"attention {kind!r} sorts all positions of a picture and cannot be streamed exactly; "
            "enlarge the picture whole, or in tiles that do not see each other (mode 'tiled')"
        )
    if picture.size == 0 or not (picture.dtype == np.uint8 or np.issubdtype(picture.dtype, np.floating)):
        raise ValueError(f"pictures must be uint8 or floating point, got {picture.dtype} {picture.shape}")
    walk = Walk(network, picture, tile=tile, watch=watch)
    return _rows(walk, last_tile(tile, network.config.scale), store_limit, folder, finish)


def _rows(walk: Walk, tile: int, limit: int | None, folder: Path | None, finish: Finish) -> Iterator[Tensor]:
    config, whole = walk.network.config, walk.whole
    size = (config.channels, whole.height, whole.width)
    with Store(*size, dtype=walk.dtype, limit=limit, folder=folder) as store:
        with torch.inference_mode():
            piece = walk.enlarged(store)
        yield from in_bands(piece, whole, tile=tile, scale=config.scale, finish=finish, watch=walk.watch)


def last_tile(tile: int, scale: int) -> int:
    """Side of the tiles that the upsampler gets: smaller, since it works at larger sizes."""
    return max(1, 2 * tile // scale)


def in_bands(
    piece: Features, whole: Region, *, tile: int, scale: int, finish: Finish, watch: Watch = unwatched
) -> Iterator[Tensor]:
    """Bands of `scale * tile` rows of the large picture, made of the large pieces of tiles."""
    for band in watch(cut(whole, tile, whole.width), "enlarging"):
        yield _band(piece, band, tile=tile, scale=scale, finish=finish)


# Not around a `yield`: the mode would be the caller's, too.
@torch.inference_mode()
def _band(piece: Features, band: Region, *, tile: int, scale: int, finish: Finish) -> Tensor:
    rows = torch.empty(0)
    for region in cut(band, tile, tile):
        part = finish(piece(region))[0]
        if region.left == band.left:
            # An ordinary tensor, which the caller may change in place.
            with torch.inference_mode(False):
                rows = torch.empty(3, scale * band.height, scale * band.width, dtype=part.dtype)
        crop(rows, region.times(scale), band.times(scale)).copy_(part)
    return rows


def enlarge_tiled(
    forward: Forward,
    picture: Shaped[np.ndarray, "H W 3"],
    *,
    scale: int,
    tile: int,
    overlap: int = 16,
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

    def piece(region: Region) -> Tensor:
        wide = region.grown(overlap, whole)
        lr = pixels(picture, wide, device, torch.float32)
        return crop(forward(lr), region.times(scale), wide.times(scale))

    return in_bands(piece, whole, tile=tile, scale=scale, finish=finish)


def working_set(
    config: SRConfig,
    height: int,
    width: int,
    *,
    tile: int,
    dtype: torch.dtype = torch.float32,
    store_limit: int | None = None,
) -> int:
    """Bytes that `enlarge_streaming` takes at most, beside the weights and the picture itself.

    Counted by hand: what is alive at the widest point of a local stage and of the upsampler, where each
    convolution may copy its input, its output and its weights for the processor; twice that, as the C
    library keeps much of what was freed (measured: 1.0 to 2.1 times the count); then the maps in memory and
    two bands, not rounded: one being made, one in the caller's hands.
    """
    channels = config.channels
    attends = config.attention != "none"
    embed_halo = config.embed_kernel // 2 if attends else 0

    def area(side: int, halo: int) -> int:
        return min(side + 2 * halo, height) * min(side + 2 * halo, width)

    # A residual block: input, two copies of it inside the branch, the sum, and copies for one convolution.
    # Attention: the features, the values as maps and as positions, the output in parts and put together.
    per_position = 8 * channels + (8 * config.embed_channels if attends else 0)
    local = per_position * area(tile, 2 * config.blocks_per_stage + embed_halo)
    small = last_tile(tile, config.scale)
    with torch.device("meta"):
        upsampler = UPSAMPLERS[config.upsampler](config.scale, channels)
    widest = max(per_position, 2 * channels + _widest(upsampler))
    enlarging = widest * area(small, 1 + halo_of(upsampler) + embed_halo)
    scratch = {"linear": 4 * config.n_features * BLOCK, "exact": 4 * QUERIES * BLOCK}.get(config.attention, 0)
    bands = 2 * 3 * config.scale**2 * min(small, height) * width
    n_maps = 2 if config.attention == "exact" else min(2, config.n_blocks // config.blocks_per_stage)
    one_map = channels * height * width * dtype.itemsize
    weights = max([9 * channels**2, *(parameter.numel() for parameter in upsampler.parameters())])
    numbers = 2 * (max(local, enlarging) + scratch + 2 * weights) + bands
    return numbers * dtype.itemsize + maps_in_memory(n_maps, one_map, store_limit) * one_map


def _widest(upsampler: nn.Sequential) -> int:
    """Numbers alive in the widest layer for each small pixel: input and output, twice in a convolution."""
    widest, pixels_made = 0, 1
    for layer in upsampler:
        if isinstance(layer, nn.Conv2d):
            widest = max(widest, 2 * pixels_made * (layer.in_channels + layer.out_channels))
        elif isinstance(layer, nn.PixelShuffle):
            pixels_made *= layer.upscale_factor**2
    return widest
