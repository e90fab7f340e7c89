"""Choose how a picture goes through a network, whole, streamed or tiled, by the memory that each takes.

Footprints are counted by hand from the tensors that are alive at the widest point of a stage, and doubled,
because the C library keeps much of what was freed; `benchmarks/inference_memory.py` measures them.

Letters:  H, W height and width of the LR picture
"""

from dataclasses import dataclass, replace

import torch

from enlca.inference.feature_cache import maps_in_memory
from enlca.inference.reach import halo_of
from enlca.network.interface import SRModel
from enlca.network.layers import widest_elements
from enlca.network.sr import SRNetwork
from enlca.runtime.device import too_large

MODES = ("auto", "whole", "stream", "tiled")
# Sides of tiles, the best first: larger ones compute fewer halos, but gain little beyond the first.
TILES = (512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16)
# LR rows of a band where the whole SR picture is in memory.
WHOLE_BAND = 16


@dataclass(frozen=True)
class Strategy:
    """How a picture goes through a network.

    Attributes:
        mode: "whole", "stream" (the same result in bounded memory) or "tiled" (another result).
        tile: side of a tile in LR pixels; unused by "whole".
        cache_limit: bytes of features that may stay in memory, for "stream". None: no limit.
        half: type for convolutions; None is float32.
    """

    mode: str = "whole"
    tile: int = 0
    cache_limit: int | None = None
    half: torch.dtype | None = None

    def output_tile(self, model: SRModel, height: int, width: int) -> tuple[int, int]:
        """Return height and width, in LR pixels, of the pieces in which the result is computed."""
        if self.mode == "whole":
            return min(WHOLE_BAND, height), width
        if self.mode == "stream":
            assert isinstance(model, SRNetwork)
            side = last_tile(self.tile, model)
            return side, side
        return self.tile, self.tile


@dataclass(frozen=True)
class MemoryFootprint:
    """All that memory depends on, beside the strategy.

    Attributes:
        model: the network.
        height, width: of the LR picture.
        layers: of the picture, alpha included.
        itemsize: bytes of its numbers.
        has_alpha: two composites go through the network.
        ensemble: 8 views do.
    """

    model: SRModel
    height: int
    width: int
    layers: int = 3
    itemsize: int = 1
    has_alpha: bool = False
    ensemble: bool = False

    def peak_bytes(self, strategy: Strategy) -> int:
        """Return the bytes that a strategy takes at most, beside the weights and the picture itself."""
        model, item = self.model, (strategy.half or torch.float32).itemsize
        views = 2 if self.has_alpha else 1
        pixels = self.height * self.width
        band = min(strategy.output_tile(model, self.height, self.width)[0], self.height)
        bands = 2 * self.layers * self.itemsize * model.scale**2 * band * self.width
        if strategy.mode == "stream":
            assert isinstance(model, SRNetwork)
            return self._streaming_bytes(model, strategy) + bands
        sr = 3 * model.scale**2
        if strategy.mode == "tiled":
            area = self._area(strategy.tile, model.tile_overlap)
            results = 4 * 6 * sr * area
        else:
            area = pixels
            # The results of all views are in memory; of the current one also its parts before the sum.
            results = 4 * sr * pixels * (views + 2 + (2 if self.ensemble else 0))
        elements = model.elements_per_pixel * area + model.workspace_elements
        return 2 * item * elements + results + bands

    def _streaming_bytes(self, network: SRNetwork, strategy: Strategy) -> int:
        config, item = network.config, (strategy.half or torch.float32).itemsize
        views = 2 if self.has_alpha else 1
        pixels, sr = self.height * self.width, 3 * config.scale**2
        stage = network.stage_elements * self._area(
            strategy.tile, 2 * config.blocks_per_stage + network.attention_reach
        )
        upsampler = network.upsampler
        last = max(network.stage_elements, 2 * config.channels + widest_elements(upsampler) + 2 * sr * views)
        upscaling = last * self._area(
            last_tile(strategy.tile, network), 1 + halo_of(upsampler) + network.attention_reach
        )
        weights = max([9 * config.channels**2, *(part.numel() for part in upsampler.parameters())])
        elements = max(stage, upscaling) + network.workspace_elements + 2 * weights
        map_bytes = config.channels * pixels * item
        n_maps = views * (
            2
            if config.attention in ("exact", "window")
            else min(2, config.n_blocks // config.blocks_per_stage)
        )
        maps = maps_in_memory(n_maps, map_bytes, strategy.cache_limit) * map_bytes
        if self.ensemble:
            sums = 4 * sr * pixels
            maps += views * maps_in_memory(1, sums, strategy.cache_limit) * sums
        return 2 * item * elements + maps

    def _area(self, side: int, halo: int) -> int:
        return min(side + 2 * halo, self.height) * min(side + 2 * halo, self.width)


def last_tile(tile: int, network: SRNetwork) -> int:
    """Return the side of the tiles of the upsampler that take the memory of a stage's tile.

    Beyond some 1024 SR pixels a larger tile only leaves the processor's cache.
    """
    if network.config.upsampler == "direct":
        return min(tile, max(1, 1024 // network.scale))
    # All channels at the SR size.
    return max(1, 2 * tile // network.scale)


def check_mode(mode: str) -> None:
    """Raise ValueError for an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")


def choose_strategy(
    footprint: MemoryFootprint,
    limit: int,
    *,
    used: int = 0,
    mode: str = "auto",
    half: torch.dtype | None = None,
) -> tuple[Strategy, str | None]:
    """Return the fastest strategy within `limit` bytes, and a remark if it is not the one that was asked for.

    "auto" takes the whole picture if that fits, else streams it; a model that cannot be streamed is tiled.

    Args:
        footprint: of the picture.
        limit: bytes that may be used.
        used: bytes that are in use already.
        mode: one of MODES.
        half: see `Strategy`.

    Raises:
        TooLarge: not even the smallest tiles fit, or `mode` is "whole" and that does not.
        ValueError: an unknown mode.
    """
    check_mode(mode)
    budget, model = limit - used, footprint.model
    whole, remark = Strategy("whole", half=half), None
    if mode in ("auto", "whole") and footprint.peak_bytes(whole) <= budget:
        return whole, None
    if mode == "whole":
        raise too_large("as a whole", footprint.peak_bytes(whole), used, limit, "let --mode auto choose")
    if mode != "tiled" and not model.streamable:
        mode = "tiled"
        remark = f"{model.name} cannot be streamed: ordinary tiles, which do not see each other"
    elif mode != "tiled" and isinstance(model, SRNetwork) and model.config.attention == "exact":
        remark = "exact attention was streamed: its time grows with the square of the pixels"
    mode = "tiled" if mode == "tiled" else "stream"
    for tile in TILES:
        strategy = Strategy(mode, tile, cache_limit=0, half=half)
        rest = budget - footprint.peak_bytes(strategy)
        if rest >= 0:
            # The rest holds features: both maps, one or none.
            return replace(strategy, cache_limit=rest if mode == "stream" else None), remark
    least = footprint.peak_bytes(Strategy(mode, TILES[-1], cache_limit=0, half=half))
    raise too_large("in the smallest tiles", least, used, limit, "close other programs")


def smaller(strategy: Strategy, model: SRModel) -> Strategy | None:
    """Return what to try after `strategy` ran out of memory; None if there is nothing smaller."""
    if strategy.mode == "whole":
        mode = "stream" if model.streamable else "tiled"
        return replace(strategy, mode=mode, tile=TILES[0], cache_limit=0)
    tiles = [tile for tile in TILES if tile < strategy.tile]
    return replace(strategy, tile=tiles[0], cache_limit=0) if tiles else None
