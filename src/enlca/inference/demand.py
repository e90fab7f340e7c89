"""What each way to enlarge a picture takes of memory, and which way is chosen.

The counts are made by hand from what is alive at the widest point of a stage, and doubled where the C library
keeps much of what was freed; `benchmarks/inference_memory.py` measures what they promise.

Letters:  H, W height and width of the small picture
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from enlca.attention.workspace import CHUNK
from enlca.errors import TooLarge
from enlca.inference.enlarge import WHOLE_BAND, Strategy
from enlca.inference.stages import QUERIES, halo_of
from enlca.inference.store import maps_in_memory
from enlca.inference.streaming import OVERLAP, last_tile, streamable
from enlca.network.layers import UPSAMPLERS
from enlca.network.sr import SRConfig
from enlca.runtime.device import as_text

MODES = ("auto", "whole", "stream", "tiled")
# Sides of tiles, the best first: larger ones do less work twice, but gain little beyond the first.
TILES = (512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16)


@dataclass(frozen=True)
class Demand:
    """What is to be enlarged: all that memory depends on, beside the strategy.

    Attributes:
        config: of the network.
        height, width: of the small picture.
        layers: of the picture, alpha included.
        itemsize: bytes of its numbers.
        has_alpha: whether two composites go through the network.
        ensemble: whether 8 views do.
    """

    config: SRConfig
    height: int
    width: int
    layers: int = 3
    itemsize: int = 1
    has_alpha: bool = False
    ensemble: bool = False

    def working_set(self, strategy: Strategy) -> int:
        """Bytes that `Enlarger.bands` takes at most, beside the weights and the picture itself."""
        config, item = self.config, (strategy.half or torch.float32).itemsize
        views = 2 if self.has_alpha else 1
        pixels = self.height * self.width
        rows_of_band = {"whole": WHOLE_BAND, "stream": last_tile(strategy.tile, config)}
        band = min(rows_of_band.get(strategy.mode, strategy.tile), self.height)
        bands = 2 * self.layers * self.itemsize * config.scale**2 * band * self.width
        large = 3 * config.scale**2
        if strategy.mode == "whole":
            # The results of all views are held; of the one at work also its parts before the sum.
            results = 4 * large * pixels * (views + 2 + (2 if self.ensemble else 0))
            return 2 * item * (_whole(config) * pixels + _scratch(config)) + results + bands
        if strategy.mode == "tiled":
            area = self._area(strategy.tile, OVERLAP)
            return 2 * item * (_whole(config) * area + _scratch(config)) + 4 * 6 * large * area + bands
        embed_halo = config.embed_kernel // 2 if config.attention != "none" else 0
        local = _local(config) * self._area(strategy.tile, 2 * config.blocks_per_stage + embed_halo)
        small = last_tile(strategy.tile, config)
        with torch.device("meta"):
            upsampler = UPSAMPLERS[config.upsampler](config.scale, config.channels)
        last = max(_local(config), 2 * config.channels + _widest(upsampler) + 2 * large * views)
        enlarging = last * self._area(small, 1 + halo_of(upsampler) + embed_halo)
        weights = max([9 * config.channels**2, *(part.numel() for part in upsampler.parameters())])
        numbers = 2 * item * (max(local, enlarging) + _scratch(config) + 2 * weights)
        one_map = config.channels * pixels * item
        n_maps = views * (
            2 if config.attention == "exact" else min(2, config.n_blocks // config.blocks_per_stage)
        )
        maps = maps_in_memory(n_maps, one_map, strategy.store_limit) * one_map
        if self.ensemble:
            maps += views * maps_in_memory(1, 4 * large * pixels, strategy.store_limit) * 4 * large * pixels
        return numbers + maps + bands

    def _area(self, side: int, halo: int) -> int:
        return min(side + 2 * halo, self.height) * min(side + 2 * halo, self.width)


def _local(config: SRConfig) -> int:
    """Numbers alive for each position of a stage.

    A residual block: input, two copies of it inside the branch, the sum, and copies for one convolution.
    Attention: the features, the values as maps and as positions, the output in parts and put together.
    """
    return 8 * config.channels + (8 * config.embed_channels if config.attention != "none" else 0)


def _whole(config: SRConfig) -> int:
    """Numbers alive for each position of a picture that goes through the network whole."""
    with torch.device("meta"):
        upsampler = UPSAMPLERS[config.upsampler](config.scale, config.channels)
    return config.channels + max(_local(config), config.channels + _widest(upsampler))


def _scratch(config: SRConfig) -> int:
    """Numbers of attention that do not depend on the picture."""
    return {"linear": 4 * config.n_features * CHUNK, "exact": 4 * QUERIES * CHUNK}.get(config.attention, 0)


def _widest(upsampler: nn.Sequential) -> int:
    """Numbers alive in the widest layer for each small pixel: input and output, twice in a convolution."""
    widest, pixels_made = 0, 1
    for layer in upsampler:
        if isinstance(layer, nn.Conv2d):
            widest = max(widest, 2 * pixels_made * (layer.in_channels + layer.out_channels))
        elif isinstance(layer, nn.PixelShuffle):
            pixels_made *= layer.upscale_factor**2
    return widest


def check_mode(mode: str) -> None:
    """Raises ValueError: an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")


def choose(
    demand: Demand, limit: int, *, used: int = 0, mode: str = "auto", half: torch.dtype | None = None
) -> tuple[Strategy, str | None]:
    """The fastest strategy that stays within `limit` bytes, and a remark if it is not what was meant.

    "auto" takes the whole picture if that fits, else streams it. NLSA, which cannot be streamed, is tiled.

    Args:
        demand: what is to be enlarged.
        limit: bytes that may be used.
        used: bytes that are used already.
        mode: one of MODES.
        half: see `Strategy`.

    Raises:
        TooLarge: not even the smallest tiles fit, or `mode` is "whole" and that does not.
        ValueError: an unknown mode.
    """
    check_mode(mode)
    budget = limit - used
    whole, remark = Strategy("whole", half=half), None
    if mode in ("auto", "whole") and demand.working_set(whole) <= budget:
        return whole, None
    if mode == "whole":
        raise _too_large("as a whole", demand.working_set(whole), used, limit, "let --mode auto choose")
    kind = demand.config.attention
    if mode != "tiled" and not streamable(demand.config):
        mode = "tiled"
        remark = f"attention {kind!r} cannot be streamed: ordinary tiles, which do not see each other"
    elif mode != "tiled" and kind == "exact":
        remark = "exact attention was streamed: its time grows with the square of the pixels"
    mode = "tiled" if mode == "tiled" else "stream"
    for tile in TILES:
        strategy = Strategy(mode, tile, store_limit=0, half=half)
        rest = budget - demand.working_set(strategy)
        if rest >= 0:
            # What is left holds features, all or one map of two.
            return replace(strategy, store_limit=rest if mode == "stream" else None), remark
    least = demand.working_set(Strategy(mode, TILES[-1], store_limit=0, half=half))
    raise _too_large("in the smallest tiles", least, used, limit, "close other programs")


def _too_large(how: str, needed: int, used: int, limit: int, hint: str) -> TooLarge:
    needs = f"needs {as_text(used + needed)} {how} ({as_text(used)} of it are in use)"
    return TooLarge(f"{needs}, and {as_text(limit)} may be used; raise --max-memory, or {hint}")


def smaller(strategy: Strategy, demand: Demand) -> Strategy | None:
    """What to try after `strategy` ran out of memory; None if there is nothing smaller."""
    if strategy.mode == "whole":
        mode = "stream" if streamable(demand.config) else "tiled"
        return replace(strategy, mode=mode, tile=TILES[0], store_limit=0)
    tiles = [tile for tile in TILES if tile < strategy.tile]
    return replace(strategy, tile=tiles[0], store_limit=0) if tiles else None
