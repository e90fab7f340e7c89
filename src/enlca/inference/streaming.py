"""Exact streaming: a network's stages over one picture, tile by tile, with the result of the whole picture.

A network is a chain of local stages, which need a halo of neighbours, and global stages, which need one
small summary of everything. `Features`, a function that returns the features of any rectangle, is passed
along the chain:

    local stage     features of a wider rectangle, convolutions, crop                  kept in the cache
                    (attention inside windows is such a stage, from one multiple of the window to another)
    global stage    one pass over the tiles: embed, summarise, combine (Eq. 5-6)
                    then, at any rectangle: embed, read, add                           computed on demand
                    (before, with features that are fitted to the picture, one pass for its statistics)

The head is computed from the picture on demand: that is cheaper than caching it. Exact attention has no
summary; there each query meets the keys of one tile after the other (`StreamingForward.all_pairs`).

Letters:  C channels   D embedding channels   E value channels   N positions   S scale
         H, W height and width of the picture   h, w those of a part of it
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention.block import Embed, NonLocalBlock
from enlca.attention.linear import Fitted, KeyValueSummary, LinearAttend, combine, summarise
from enlca.attention.sharp import SharpAttend, Statistics, add, statistics
from enlca.attention.window import WindowAttend
from enlca.attention.workspace import CHUNK
from enlca.errors import StreamingError
from enlca.inference.bilinear import bilinear
from enlca.inference.feature_cache import FeatureCache, FeatureMap
from enlca.inference.pixel_source import Pixels, as_tensor
from enlca.inference.reach import Features, convolved, needed, windows_seen
from enlca.inference.tiles import Region, crop, cut
from enlca.network.sr import QUERIES, SRNetwork
from enlca.runtime.concurrency import Passes
from enlca.runtime.device import inference

Read = Callable[[Float[Tensor, "1 D N"]], Float[Tensor, "1 E N"]]
Sums = TypeVar("Sums", KeyValueSummary, Statistics)


@dataclass(frozen=True)
class Share:
    """The part of a picture that one of several devices computes; see `spread.py`.

    Attributes:
        own: where its SR pixels are asked for; the parts of all devices cover the picture once.
        gather: returns the sums of all devices in the same order everywhere, given those of this one.
    """

    own: Region
    gather: Callable[[Any], Sequence[Any]]


@contextmanager
def stream(
    network: SRNetwork,
    picture: Pixels,
    *,
    tile: int,
    cache_limit: int | None = None,
    folder: Path | None = None,
    half: torch.dtype | None = None,
    passes: Passes | None = None,
    share: Share | None = None,
) -> Iterator[Features]:
    """Run all stages but the upsampler; yield the function that returns the SR picture at a region of the LR.

    The result is `network(picture)`. Attention "linear" and "none" take time linear in the number of pixels,
    "exact" takes quadratic time.

    Args:
        network: on its device, in evaluation.
        picture: RGB (H W 3), uint8 or floating point in [0, 1]. Small parts are read, each several times.
        tile: side of a tile in LR pixels. A larger one takes more memory and computes fewer halos.
        cache_limit: bytes of features that may stay in memory between stages; see `FeatureCache`.
        folder: for features beyond that; see `FeatureCache`.
        half: type for convolutions; None is the network's own.
        passes: progress of the passes over the tiles.
        share: the part of this device, where several stream one picture; regions are within it. None: all.

    Raises:
        StreamingError: attention "lsh", which sorts all positions of a picture, or "exact" for a share.
        StoreError: the disk has no space for the features.
        ValueError: a picture or tile of a size or type that is not listed above.
    """
    if not network.streamable:
        raise StreamingError(
            f"attention {network.config.attention!r} sorts all positions of a picture and cannot be streamed "
            "exactly; upscale the picture whole, or in tiles that do not see each other (mode 'tiled')"
        )
    if share is not None and network.config.attention == "exact":
        raise StreamingError("exact attention meets the features of the whole picture: use one device")
    kind = np.dtype(picture.dtype)
    if 0 in picture.shape or not (kind == np.uint8 or kind.kind == "f"):
        raise ValueError(f"pictures must be uint8 or floating point, got {kind} {picture.shape}")
    forward = StreamingForward(network, picture, tile=tile, half=half, passes=passes or Passes(), share=share)
    size = (network.config.channels, forward.held.height, forward.held.width)
    with FeatureCache(*size, dtype=forward.dtype, limit=cache_limit, folder=folder) as cache:
        with inference(forward.device, half):
            piece = forward.upscaled(cache)

        def at(region: Region) -> Tensor:
            with inference(forward.device, half):
                return piece(region)

        yield at


def positions(u: Float[Tensor, "1 C wide"], region: Region, wide: Region) -> Float[Tensor, "1 C N"]:
    """Crop features at the positions of `wide` to those of `region`."""
    return crop(u.unflatten(-1, (wide.height, wide.width)), region, wide).flatten(2)


def dense(features: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 C h w"]:
    """Copy cropped features without gaps, once: each convolution would make a copy of its own."""
    return features.contiguous(memory_format=torch.channels_last)


class StreamingForward:
    """The features of one picture, stage after stage; arguments as in `stream`.

    Attributes:
        dtype: of the features between stages.
        held: where features are cached.
    """

    def __init__(
        self,
        network: SRNetwork,
        picture: Pixels,
        *,
        tile: int,
        passes: Passes,
        half: torch.dtype | None = None,
        share: Share | None = None,
    ):
        self.network = network
        self.picture = picture
        self.passes = passes
        self.whole = Region(0, 0, *picture.shape[:2])
        self.tile, self.share = tile, share
        self.tiles = cut(share.own if share else self.whole, tile, tile)
        self.needed = needed(network, share.own, self.whole) if share else [self.whole] * len(network.body)
        # What later stages need lies inside what the first one gives.
        self.held = self.needed[0]
        self.device = network.mean.device
        self.dtype = half or network.mean.dtype

    def upscaled(self, cache: FeatureCache) -> Features:
        """Compute all stages but the upsampler; return the SR picture at regions of the LR picture."""
        network, whole, scale = self.network, self.whole, self.network.scale
        head = convolved(lambda region: self.lr(region) - network.mean, network.head, whole)
        fused = convolved(self.body(head, cache), network.fuse, whole)
        detail = convolved(lambda region: head(region) + fused(region), network.upsampler, whole, scale=scale)
        if network.config.skip == "none":
            return lambda region: detail(region) + network.mean
        baseline = bilinear(self.lr, whole, scale=scale, like=network.mean)
        return lambda region: detail(region) + baseline(region)

    def lr(self, region: Region) -> Float[Tensor, "1 3 h w"]:
        """Return the picture itself."""
        return as_tensor(self.picture, region, self.device, self.network.mean.dtype)

    def body(self, x: Features, cache: FeatureCache) -> Features:
        """Apply the stages of the network's body."""
        kind = self.network.config.attention
        for number, (stage, region) in enumerate(zip(self.network.body, self.needed, strict=True), start=1):
            name = f"stage {number} of {len(self.network.body)}"
            if kind == "window" and isinstance(stage, NonLocalBlock):
                x = self.windowed(x, stage)
            elif isinstance(stage, NonLocalBlock):
                x = self.attended(x, stage, GLOBAL_STAGES[kind](self, x, stage, name))
            else:
                x = convolved(x, stage, self.whole)
            # Reading a summary is cheap: the next stage may repeat it in its halos.
            if kind != "linear" or not isinstance(stage, NonLocalBlock):
                x = self.cache_features(x, region, cache.next_buffer(), name)
        return x

    def windowed(self, x: Features, block: NonLocalBlock) -> Features:
        """Apply attention inside windows: at a region, to all windows that its own windows see."""
        embed, attend = block.embed, block.attend
        assert isinstance(embed, Embed)
        assert isinstance(attend, WindowAttend)

        def at(region: Region) -> Tensor:
            seen = windows_seen(attend, region, self.whole)
            wide = self.embedding_input(seen)
            features = dense(x(wide))
            q, k, v = (positions(u, seen, wide) for u in embed(features))
            y = attend(q, k, v, width=seen.width).to(features.dtype)
            y = crop(y.unflatten(-1, (seen.height, seen.width)), region, seen)
            return torch.add(crop(features, region, wide), y, alpha=block.res_scale)

        return at

    def cache_features(self, x: Features, needed: Region, buffer: FeatureMap, name: str) -> Features:
        """Compute features now, where they are needed, and return them from the buffer."""
        for region in self.passes.over(cut(needed, self.tile, self.tile), name):
            buffer.write(region.seen_from(self.held), x(region))
        return lambda region: buffer.read(region.seen_from(self.held)).to(self.device)

    def attended(self, x: Features, block: NonLocalBlock, read: Read) -> Features:
        """Add the output of attention to the features."""
        embed = block.embed
        assert isinstance(embed, Embed)

        def at(region: Region) -> Tensor:
            wide = self.embedding_input(region)
            features = dense(x(wide))
            y = read(positions(embed.queries(features), region, wide)).to(features.dtype)
            here = crop(features, region, wide)
            return torch.add(here, y.unflatten(-1, here.shape[-2:]), alpha=block.res_scale)

        return at

    def embedded(
        self, x: Features, block: NonLocalBlock, region: Region
    ) -> tuple[Float[Tensor, "1 D N"], Float[Tensor, "1 E N"]]:
        """Return k and v at the positions of `region`."""
        embed, wide = block.embed, self.embedding_input(region)
        assert isinstance(embed, Embed)
        k, v = embed.keys_and_values(dense(x(wide)))
        return positions(k, region, wide), positions(v, region, wide)

    def embedding_input(self, region: Region) -> Region:
        """Return `region` with the halo of the embedding convolutions."""
        return region.grown(self.network.config.embed_kernel // 2, self.whole)

    def summarised(self, x: Features, block: NonLocalBlock, name: str) -> Read:
        """Sum over all positions, tile by tile (ENLA)."""
        assert isinstance(block.attend, LinearAttend)
        attend = self.fitted(x, block, block.attend, name)

        def part(region: Region) -> KeyValueSummary:
            k, v = self.embedded(x, block, region)
            # Sums of many tiles lose no digits in float64, which not every device has.
            return attend.summarise(k, v).to("cpu", torch.float64)

        image = reduce(combine, map(part, self.passes.over(self.tiles, f"{name}, summary")))
        image = reduce(combine, self.gathered(image))
        dtype = torch.promote_types(self.dtype, torch.float32)
        return partial(attend.read, image=image.to(self.device, dtype))

    def fitted(self, x: Features, block: NonLocalBlock, attend: LinearAttend, name: str) -> Fitted:
        """Fit the features to the statistics of all tiles; positive features need none."""
        if not isinstance(attend, SharpAttend):
            return attend
        embed = block.embed
        assert isinstance(embed, Embed)

        def part(region: Region) -> Statistics:
            wide = self.embedding_input(region)
            embedded = embed.queries_and_keys(dense(x(wide)))
            return statistics(*(positions(u, region, wide) for u in embedded)).to("cpu", torch.float64)

        seen = reduce(add, map(part, self.passes.over(self.tiles, f"{name}, statistics")))
        return attend.fitted(reduce(add, self.gathered(seen)))

    def gathered(self, sums: Sums) -> Sequence[Sums]:
        """Return the sums of all devices that share the picture."""
        return self.share.gather(sums) if self.share else [sums]

    def all_pairs(self, x: Features, block: NonLocalBlock, name: str) -> Read:
        """Combine what each query reads in all tiles (exact attention): sums over keys add up."""

        def read(q: Float[Tensor, "1 D N"]) -> Float[Tensor, "1 E N"]:
            found: dict[int, KeyValueSummary] = {}
            for region in self.tiles:
                k, v = self.embedded(x, block, region)
                # Scores and sums stay in float32 whatever the convolutions compute in.
                with torch.autocast(q.device.type, enabled=False):
                    for keys, values in zip(k.split(CHUNK, dim=-1), v.split(CHUNK, dim=-1), strict=True):
                        for number, queries in enumerate(q.split(QUERIES, dim=-1)):
                            part = summarise(queries.mT @ keys, values)
                            found[number] = combine(found[number], part) if number in found else part
            return torch.cat([sums.mean.mT for sums in found.values()], dim=-1)

        return read


GLOBAL_STAGES = {"linear": StreamingForward.summarised, "exact": StreamingForward.all_pairs}
