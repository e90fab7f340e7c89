"""A strategy carried out: a picture of any kind through a network, as bands of finished rows.

    picture --views--> RGB --whole | stream | tiled--> pieces --levels, alpha--> bands

Every strategy gives *pieces*: the SR picture at any rectangle of the LR picture. `whole` has computed all of
it, `stream` and `tiled` compute the piece on demand.

Letters:  H, W height and width   h rows of a band   L layers: channels, then alpha   S scale
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from enlca.errors import NotFinite
from enlca.image.rows import count_colours
from enlca.inference.feature_cache import FeatureCache
from enlca.inference.pixel_source import (
    DihedralView,
    Pixels,
    RGBView,
    as_channels,
    as_tensor,
    single_colour,
    to_levels,
)
from enlca.inference.reach import Features
from enlca.inference.strategy import Strategy, smaller
from enlca.inference.streaming import Share, stream
from enlca.inference.tiles import Region, crop, cut
from enlca.inference.transforms import Forward, merged, self_ensemble, undo_dihedral
from enlca.network.interface import SRModel
from enlca.network.sr import SRNetwork
from enlca.runtime.concurrency import Passes, Progress
from enlca.runtime.device import in_half, is_out_of_memory

Note = Callable[[str], None]
CPU = torch.device("cpu")


def warn(remark: str) -> None:
    """Emit a UserWarning: the default handler of remarks."""
    warnings.warn(remark, stacklevel=3)


@dataclass(frozen=True)
class Executor:
    """A network and how it is applied.

    Attributes:
        model: the network, on `device`, in evaluation.
        forward: applies it to a batch of any size: the padded model, or an engine. Streams do not use it.
        device: where.
        ensemble: average over 8 views.
        folder: for what does not fit into memory; None is $TMPDIR.
    """

    model: SRModel
    forward: Forward
    device: torch.device = CPU
    ensemble: bool = False
    folder: Path | None = None

    def passes(self, strategy: Strategy, *, has_alpha: bool, pages: int, progress: Progress) -> Passes:
        """Return the progress of all passes over all pages of a picture."""
        total = 1
        if strategy.mode == "stream":
            assert isinstance(self.model, SRNetwork)
            fits = len(self.model.non_local_blocks) if self.model.fits_features else 0
            stages = len(self.model.body) + fits + self.ensemble
            total += stages * (8 if self.ensemble else 1) * (1 + has_alpha)
        return Passes(progress, pages * total)

    def bands(
        self,
        picture: Pixels,
        strategy: Strategy,
        *,
        passes: Passes | None = None,
        note: Note = warn,
        share: Share | None = None,
    ) -> Iterator[Shaped[np.ndarray, "h SW L"]]:
        """Upscale a picture (H W L); yield rows from top to bottom, in its type: uint8, uint16 or floating.

        Integers are rounded and all values clipped. A constant alpha and a picture of one colour are not
        computed. After running out of memory smaller tiles are tried, after numbers that are not finite in
        half precision float32; rows that were yielded already are not repeated.

        With `share` it yields the rows of that part, whose width is the picture's, and tries nothing again,
        since the other devices would not.

        Raises:
            NotFinite: the network's output holds NaN or infinity in float32.
            StoreError: the disk has no space for the features.
        """
        done = 0
        while True:
            try:
                seen = 0
                for band in self._attempt(picture, strategy, passes or Passes(), share):
                    new = band[max(0, done - seen) :]
                    seen += len(band)
                    if len(new):
                        done += len(new)
                        yield new
                return
            except NotFinite:
                if strategy.half is None or share:
                    raise
                strategy = replace(strategy, half=None)
                note("its numbers were not finite in half precision: computed again in fp32")
            except Exception as error:
                following = smaller(strategy, self.model) if is_out_of_memory(error) else None
                if following is None or share:
                    raise
                strategy = following
                note(f"out of memory: tried again in tiles of {strategy.tile}")

    def _attempt(
        self, picture: Pixels, strategy: Strategy, passes: Passes, share: Share | None
    ) -> Iterator[Shaped[np.ndarray, "h SW L"]]:
        scale, whole = self.model.scale, Region(0, 0, *picture.shape[:2])
        n_colours = count_colours(picture.shape[2])
        has_alpha = picture.shape[2] > n_colours
        alpha = single_colour(picture, slice(n_colours, None)) if has_alpha else None
        backgrounds = (0.0, 1.0) if has_alpha and alpha is None else (None,)
        views = [RGBView(picture, background) for background in backgrounds]
        height, width = strategy.output_tile(self.model, whole.height, whole.width)
        with ExitStack() as stack:
            pieces = [stack.enter_context(self._pieces(view, strategy, passes, share)) for view in views]
            own = share.own if share else whole
            for band in passes.over(cut(own, height, whole.width), "upscaling"):
                rows = np.empty((scale * band.height, scale * band.width, picture.shape[2]), picture.dtype)
                for region in cut(band, height, width):
                    parts = [checked(piece(region))[0].permute(1, 2, 0).cpu().numpy() for piece in pieces]
                    place = rows[region.times(scale).inside(band.times(scale))]
                    if len(parts) == 2:
                        place[:] = merged(parts[0], parts[1], picture, region, scale=scale)
                    else:
                        place[:, :, :n_colours] = to_levels(as_channels(parts[0], picture), rows.dtype)
                    if alpha is not None:
                        place[:, :, n_colours:] = alpha
                yield rows

    @contextmanager
    def _pieces(
        self, view: Pixels, strategy: Strategy, passes: Passes, share: Share | None
    ) -> Iterator[Features]:
        colour, scale = single_colour(view), self.model.scale
        if colour is not None:
            # The zeros around a picture tint its margin by a few levels, which nothing would hide here.
            flat = torch.from_numpy(colour.copy())[None, :, None, None]
            yield lambda region: flat.expand(1, 3, scale * region.height, scale * region.width)
        elif strategy.mode == "stream":
            with self._streamed(view, strategy, passes, share) as piece:
                yield piece
        else:
            assert share is None
            forward = self_ensemble(self.forward) if self.ensemble else self.forward
            forward, whole = in_half(forward, strategy.half), Region(0, 0, *view.shape[:2])
            if strategy.mode == "tiled":
                overlap = self.model.tile_overlap
                yield tiled(forward, view, scale=scale, overlap=overlap, device=self.device)
            else:
                with torch.inference_mode():
                    sr = forward(as_tensor(view, whole, self.device, torch.float32)).cpu()
                yield lambda region: crop(sr, region.times(scale), whole.times(scale))

    @contextmanager
    def _streamed(
        self, view: Pixels, strategy: Strategy, passes: Passes, share: Share | None
    ) -> Iterator[Features]:
        """Stream a view, or its 8 dihedral views, which are summed one after the other in a cache."""
        network, limit = self.model, strategy.cache_limit
        assert isinstance(network, SRNetwork)
        settings = {"tile": strategy.tile, "cache_limit": limit, "folder": self.folder, "half": strategy.half}
        if not self.ensemble:
            with stream(network, view, passes=passes, share=share, **settings) as piece:
                yield piece
            return
        assert share is None
        scale = network.scale
        height, width = (scale * side for side in view.shape[:2])
        with FeatureCache(3, height, width, dtype=torch.float32, limit=limit, folder=self.folder) as cache:
            total = cache.next_buffer()
            for index in range(8):
                turned = DihedralView(view, index)
                whole = Region(0, 0, *turned.shape[:2])
                tiles = cut(whole, *strategy.output_tile(network, whole.height, whole.width))
                with stream(network, turned, passes=passes, **settings) as piece:
                    for region in passes.over(tiles, f"view {index + 1} of 8"):
                        part = undo_dihedral(piece(region).cpu(), index)
                        place = turned.upright(region).times(scale)
                        total.write(place, part if index == 0 else total.read(place) + part)
            yield lambda region: total.read(region.times(scale)) / 8


def padded(model: SRModel) -> Forward:
    """Return `model` for any H and W: pad its input with edge pixels, crop its output."""
    return model if model.input_multiple == model.smallest_input == 1 else partial(_padded, model)


def _padded(model: SRModel, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
    (height, width), multiple = lr.shape[-2:], model.input_multiple
    tall, wide = (-(-max(side, model.smallest_input) // multiple) * multiple for side in (height, width))
    sr = model(pad(lr, (0, wide - width, 0, tall - height), mode="replicate"))
    return sr[..., : model.scale * height, : model.scale * width]


def tiled(
    forward: Forward, picture: Pixels, *, scale: int, overlap: int, device: torch.device | None
) -> Features:
    """Return pieces of tiles that do not see each other, each computed with `overlap` LR pixels around it.

    Raises:
        ValueError: `overlap` below 0.
    """
    if overlap < 0:
        raise ValueError(f"overlap must be at least 0, got {overlap}")
    whole = Region(0, 0, *picture.shape[:2])

    def at(region: Region) -> Tensor:
        wide = region.grown(overlap, whole)
        with torch.inference_mode():
            lr = as_tensor(picture, wide, device, torch.float32)
            return crop(forward(lr), region.times(scale), wide.times(scale))

    return at


def all_finite(part: Tensor) -> bool:
    """Whether there is neither NaN nor infinity; in one pass, without a mask."""
    return bool(torch.stack(part.aminmax()).isfinite().all())


def checked(part: Tensor) -> Tensor:
    """Return `part` unchanged. Raises NotFinite if it holds NaN or infinity."""
    if not all_finite(part):
        raise NotFinite("the network's numbers are not finite; try --precision fp32, or check its weights")
    return part
