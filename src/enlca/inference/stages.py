"""A network's stages over one picture, tile by tile, with the numbers that the whole picture would give.

A network is a chain of local stages, which need a halo of neighbours, and global stages, which need one
small summary of everything. `Features`, a function that says what the features are at any rectangle, is
passed along the chain:

    local stage     features of a wider rectangle, convolutions, crop                  kept in the store
    global stage    one pass over the tiles: embed, summarise, combine (Eq. 5-6)
                    then, at any rectangle: embed, read, add                           computed when asked for

The head is computed from the picture whenever somebody asks for it: that is cheaper than keeping it. Exact
attention has no summary; there each query meets the keys of one tile after the other (`Walk.all_pairs`).

Letters:  C channels   D embedding channels   E value channels   N positions
         H, W height and width of the picture   h, w those of a part of it
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial, reduce
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.block import Embed, NonLocalBlock
from enlca.attention.linear import KeyValueSummary, LinearAttend, combine, summarise
from enlca.attention.workspace import CHUNK
from enlca.inference.bilinear import enlarge_axis, tap_weights
from enlca.inference.raster import Pixels
from enlca.inference.store import FeatureMap, Store
from enlca.inference.tiles import Region, crop, cut
from enlca.network.sr import SRNetwork

Features = Callable[[Region], Float[Tensor, "1 C h w"]]
Read = Callable[[Float[Tensor, "1 D N"]], Float[Tensor, "1 E N"]]
Watch = Callable[[Sequence[Region], str], Iterable[Region]]

# Queries that meet CHUNK keys at a time in exact attention: 16 MiB of scores.
QUERIES = 1024


def pixels(
    picture: Pixels, region: Region, device: torch.device | None, dtype: torch.dtype
) -> Float[Tensor, "1 3 h w"]:
    """A part of the picture, in [0, 1]."""
    rows, columns = region.inside(Region(0, 0, *picture.shape[:2]))
    # A copy, since read-only and mirrored arrays cannot be shared with torch.
    part = torch.from_numpy(np.array(picture[rows, columns])).to(device)
    values = part.to(dtype) / 255 if part.dtype == torch.uint8 else part.to(dtype)
    return values.permute(2, 0, 1)[None]


def halo_of(layers: nn.Module) -> int:
    """How far a chain of convolutions and pixel shuffles looks around itself, in pixels of its input."""
    halo, size = Fraction(0), 1
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            halo += Fraction(layer.kernel_size[0] // 2, size)
        elif isinstance(layer, nn.PixelShuffle):
            size *= layer.upscale_factor
    return ceil(halo)


def convolved(features: Features, layers: nn.Module, whole: Region, *, scale: int = 1) -> Features:
    """What a chain of layers that enlarges by `scale` makes of `features`."""
    halo = halo_of(layers)

    def at(region: Region) -> Tensor:
        wide = region.grown(halo, whole)
        return crop(layers(features(wide)), region.times(scale), wide.times(scale))

    return at


def positions(u: Float[Tensor, "1 C wide"], region: Region, wide: Region) -> Float[Tensor, "1 C N"]:
    """Of features at the positions of `wide`, those at the positions of `region`."""
    return crop(u.unflatten(-1, (wide.height, wide.width)), region, wide).flatten(2)


def dense(features: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 C h w"]:
    """The same without gaps: each convolution would make a copy of its own of features that were cut out."""
    return features.contiguous(memory_format=torch.channels_last)


class Walk:
    """The features of one picture, stage after stage.

    Args:
        network: on its device.
        picture: RGB, uint8 or floating point in [0, 1].
        tile: side of the tiles, in pixels.
        watch: see `enlarge_streaming`.
        half: what convolutions compute in under `computing`; None is the network's own type.

    Attributes:
        dtype: of the features between stages.
    """

    def __init__(
        self,
        network: SRNetwork,
        picture: Pixels,
        *,
        tile: int,
        watch: Watch,
        half: torch.dtype | None = None,
    ):
        self.network = network
        self.picture = picture
        self.watch = watch
        self.whole = Region(0, 0, *picture.shape[:2])
        self.tiles = cut(self.whole, tile, tile)
        self.device = network.mean.device
        self.half = half
        self.dtype = half or network.mean.dtype

    def enlarged(self, store: Store) -> Features:
        """The large picture, at rectangles of the small one. Does all stages but the upsampler at once."""
        network, whole, scale = self.network, self.whole, self.network.config.scale
        head = convolved(lambda region: self.lr(region) - network.mean, network.head, whole)
        fused = convolved(self.body(head, store), network.fuse, whole)
        large = convolved(lambda region: head(region) + fused(region), network.upsampler, whole, scale=scale)

        baseline = self.bilinear() if network.config.skip == "bilinear" else lambda region: network.mean
        return lambda region: large(region) + baseline(region)

    def lr(self, region: Region) -> Float[Tensor, "1 3 h w"]:
        """The picture itself."""
        return pixels(self.picture, region, self.device, self.network.mean.dtype)

    def bilinear(self) -> Features:
        """The bilinear enlargement of the picture."""
        scale, whole, mean = self.network.config.scale, self.whole, self.network.mean
        of_columns = tap_weights(whole.width, scale, like=mean)
        of_rows = tap_weights(whole.height, scale, like=mean)

        def at(region: Region) -> Tensor:
            wide = region.grown(1, whole)
            columns = {"owned": (region.left, region.right), "held": (wide.left, wide.right)}
            rows = {"owned": (region.top, region.bottom), "held": (wide.top, wide.bottom)}
            # Columns first, while there are few rows: then what is large is written in order.
            broad = enlarge_axis(self.lr(wide).mT, of_columns, scale=scale, **columns).mT
            return enlarge_axis(broad, of_rows, scale=scale, **rows)

        return at

    def body(self, x: Features, store: Store) -> Features:
        """What the network's body makes of the head's features."""
        kind = self.network.config.attention
        for number, stage in enumerate(self.network.body, start=1):
            name = f"stage {number} of {len(self.network.body)}"
            if isinstance(stage, NonLocalBlock):
                x = self.attended(x, stage, GLOBAL_STAGES[kind](self, x, stage, name))
            else:
                x = convolved(x, stage, self.whole)
            # To read a summary is cheap: the stage after it may do it again in its halos.
            if kind != "linear" or not isinstance(stage, NonLocalBlock):
                x = self.kept(x, store.turn(), name)
        return x

    def kept(self, x: Features, place: FeatureMap, name: str) -> Features:
        """The same features, computed now."""
        for region in self.watch(self.tiles, name):
            place.write(region, x(region))
        return lambda region: place.read(region).to(self.device)

    def attended(self, x: Features, block: NonLocalBlock, read: Read) -> Features:
        """The features with what each position reads elsewhere added to them."""
        embed = block.embed
        assert isinstance(embed, Embed)

        def at(region: Region) -> Tensor:
            wide = self.seen_by_embedding(region)
            features = dense(x(wide))
            y = read(positions(embed.queries(features), region, wide)).to(features.dtype)
            here = crop(features, region, wide)
            return torch.add(here, y.unflatten(-1, here.shape[-2:]), alpha=block.res_scale)

        return at

    def embedded(
        self, x: Features, block: NonLocalBlock, region: Region
    ) -> tuple[Float[Tensor, "1 D N"], Float[Tensor, "1 E N"]]:
        """k and v at the positions of `region`."""
        embed, wide = block.embed, self.seen_by_embedding(region)
        assert isinstance(embed, Embed)
        k, v = embed.keys_and_values(dense(x(wide)))
        return positions(k, region, wide), positions(v, region, wide)

    def seen_by_embedding(self, region: Region) -> Region:
        """`region` and the halo of the embedding convolutions."""
        return region.grown(self.network.config.embed_kernel // 2, self.whole)

    def summarised(self, x: Features, block: NonLocalBlock, name: str) -> Read:
        """ENLA: the sums over all positions, tile by tile.

        An estimator that wants statistics of the picture first takes one more such pass before it.
        """
        attend = block.attend
        assert isinstance(attend, LinearAttend)

        def part(region: Region) -> KeyValueSummary:
            k, v = self.embedded(x, block, region)
            # Sums of many tiles lose no digits in float64, which not every device has.
            return attend.summarise(k, v).to("cpu", torch.float64)

        image = reduce(combine, map(part, self.watch(self.tiles, f"{name}, summary")))
        dtype = torch.promote_types(self.dtype, torch.float32)
        return partial(attend.read, image=image.to(self.device, dtype))

    def all_pairs(self, x: Features, block: NonLocalBlock, name: str) -> Read:
        """Exact attention: a query is like a feature, exp(q.k): what it sees of two tiles adds up, too."""

        def read(q: Float[Tensor, "1 D N"]) -> Float[Tensor, "1 E N"]:
            found: dict[int, KeyValueSummary] = {}
            for region in self.tiles:
                k, v = self.embedded(x, block, region)
                # Scores and sums stay in q's float32 whatever the convolutions compute in.
                with torch.autocast(q.device.type, enabled=False):
                    for keys, values in zip(k.split(CHUNK, dim=-1), v.split(CHUNK, dim=-1), strict=True):
                        for number, queries in enumerate(q.split(QUERIES, dim=-1)):
                            part = summarise(queries.mT @ keys, values)
                            found[number] = combine(found[number], part) if number in found else part
            return torch.cat([sums.mean.mT for sums in found.values()], dim=-1)

        return read


GLOBAL_STAGES = {"linear": Walk.summarised, "exact": Walk.all_pairs}
