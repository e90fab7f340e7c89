"""A picture of any kind through a network, by one of three strategies, as bands of finished rows.

    picture --views--> RGB --whole | stream | tiled--> pieces --levels, alpha--> bands

Every strategy gives *pieces*: the large picture at any rectangle of the small one. `whole` has computed all
of it, `stream` (`streaming`) and `tiled` compute the piece when it is asked for.

Letters:  H, W height and width   h rows of a band   L layers: channels, then alpha   S scale
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from enlca.errors import NotFinite
from enlca.image.rows import count_colours
from enlca.inference.ensemble import Forward, self_ensemble, turned_back
from enlca.inference.matting import as_channels, merged, to_levels
from enlca.inference.raster import Pixels, constant
from enlca.inference.stages import Features, Walk, Watch, pixels
from enlca.inference.store import Store
from enlca.inference.streaming import OVERLAP, last_tile, streamed, tiled, unwatched
from enlca.inference.tiles import Region, crop, cut
from enlca.inference.views import Turned, View
from enlca.network.sr import SRNetwork
from enlca.runtime.device import in_half

# Small rows of a band where the whole picture is there.
WHOLE_BAND = 16


@dataclass(frozen=True)
class Strategy:
    """How a picture goes through a network.

    Attributes:
        mode: "whole", "stream" (the same result in bounded memory) or "tiled" (another result).
        tile: side of a tile in small pixels; not of "whole".
        store_limit: bytes of features that may stay in memory; "stream" only. None: no limit.
        half: what convolutions compute in; None is float32.
    """

    mode: str = "whole"
    tile: int = 0
    store_limit: int | None = None
    half: torch.dtype | None = None


@dataclass(frozen=True)
class Enlarger:
    """A network, a way to apply it, and how it shall be used.

    Attributes:
        network: on its device, in evaluation.
        forward: the network, or what stands for it where no stages are asked for (another engine).
        ensemble: average over 8 views.
        folder: for what does not fit into memory; None is $TMPDIR.
    """

    network: SRNetwork
    forward: Forward
    ensemble: bool = False
    folder: Path | None = None

    def bands(
        self, picture: Pixels, strategy: Strategy, *, watch: Watch = unwatched
    ) -> Iterator[Shaped[np.ndarray, "h SW L"]]:
        """The enlarged picture (H W L), from top to bottom, in its own type: uint8, uint16 or floating point.

        Whole numbers are rounded and all are clipped. A layer of alpha that is the same everywhere, and a
        picture of one colour, are not computed.

        Raises:
            NotFinite: the network's numbers leave their range; while iterating.
            StoreError: no room for the features; while iterating.
        """
        scale, whole = self.network.config.scale, Region(0, 0, *picture.shape[:2])
        n_colours = count_colours(picture.shape[2])
        has_alpha = picture.shape[2] > n_colours
        alpha = constant(picture, slice(n_colours, None)) if has_alpha else None
        grounds = (0.0, 1.0) if has_alpha and alpha is None else (None,)
        views = [View(picture, ground) for ground in grounds]
        if strategy.mode == "whole":
            height, width = min(WHOLE_BAND, whole.height), whole.width
        else:
            height = width = strategy.tile
            if strategy.mode == "stream":
                height = width = last_tile(strategy.tile, self.network.config)
        with ExitStack() as stack:
            pieces = [stack.enter_context(self._pieces(view, strategy, watch)) for view in views]
            for band in watch(cut(whole, height, whole.width), "enlarging"):
                rows = np.empty((scale * band.height, scale * band.width, picture.shape[2]), picture.dtype)
                for region in cut(band, height, width):
                    parts = [checked(piece(region))[0].permute(1, 2, 0).cpu().numpy() for piece in pieces]
                    place = rows[region.times(scale).inside(band.times(scale))]
                    if len(parts) == 2:
                        place[:] = merged(parts[0], parts[1], picture, region, scale=scale)
                    else:
                        colours = as_channels(parts[0], picture)
                        place[:, :, :n_colours] = to_levels(colours, rows.dtype)
                    if alpha is not None:
                        place[:, :, n_colours:] = alpha
                yield rows

    @contextmanager
    def _pieces(self, view: Pixels, strategy: Strategy, watch: Watch) -> Iterator[Features]:
        colour, scale = constant(view), self.network.config.scale
        device = self.network.mean.device
        if colour is not None:
            # The zeros around a picture tint its margin by a few levels, which here nothing would hide.
            flat = torch.from_numpy(colour.copy())[None, :, None, None]
            yield lambda region: flat.expand(1, 3, scale * region.height, scale * region.width)
        elif strategy.mode == "stream" and self.ensemble:
            with self._summed(view, strategy, watch) as piece:
                yield piece
        elif strategy.mode == "stream":
            with self._streamed(view, strategy, watch) as piece:
                yield piece
        else:
            forward = self_ensemble(self.forward) if self.ensemble else self.forward
            forward = in_half(forward, strategy.half)
            if strategy.mode == "tiled":
                yield tiled(forward, view, scale=scale, overlap=OVERLAP, device=device)
            else:
                whole = Region(0, 0, *view.shape[:2])
                with torch.inference_mode():
                    large = forward(pixels(view, whole, device, torch.float32)).cpu()
                yield lambda region: crop(large, region.times(scale), whole.times(scale))

    def _streamed(self, view: Pixels, strategy: Strategy, watch: Watch) -> AbstractContextManager[Features]:
        walk = Walk(self.network, view, tile=strategy.tile, watch=watch, half=strategy.half)
        return streamed(walk, store_limit=strategy.store_limit, folder=self.folder)

    @contextmanager
    def _summed(self, view: Pixels, strategy: Strategy, watch: Watch) -> Iterator[Features]:
        """The mean over 8 views, added up one after the other where the features are kept, too."""
        scale, tile = self.network.config.scale, last_tile(strategy.tile, self.network.config)
        height, width = (scale * side for side in view.shape[:2])
        with Store(
            3, height, width, dtype=torch.float32, limit=strategy.store_limit, folder=self.folder
        ) as store:
            total = store.turn()
            for move in range(8):
                seen = Turned(view, move)
                with self._streamed(seen, strategy, watch) as piece:
                    for region in watch(
                        cut(Region(0, 0, *seen.shape[:2]), tile, tile), f"view {move + 1} of 8"
                    ):
                        part = turned_back(piece(region).cpu(), move)
                        place = seen.upright(region).times(scale)
                        total.write(place, part if move == 0 else total.read(place) + part)
            yield lambda region: total.read(region.times(scale)) / 8


def enlarge(
    forward: Forward, rgb: UInt8[np.ndarray, "H W 3"], *, device: torch.device | None = None
) -> UInt8[np.ndarray, "SH SW 3"]:
    """One picture of 8 bits through a network, or a way to apply one: scaled to [0, 1], clipped, rounded."""
    with torch.inference_mode():
        lr = torch.from_numpy(rgb.copy()).to(device).float() / 255
        return to_uint8(forward(lr.permute(2, 0, 1)[None])[0]).permute(1, 2, 0).contiguous().cpu().numpy()


def to_uint8(picture: Float[Tensor, "*B 3 H W"]) -> UInt8[Tensor, "*B 3 H W"]:
    """[0, 1] to 0..255: clipped, then rounded."""
    return picture.clamp(0, 1).mul(255).round().to(torch.uint8)


def all_finite(part: Tensor) -> bool:
    """Whether there is neither NaN nor infinity; in one pass, without a mask."""
    return bool(torch.stack(part.aminmax()).isfinite().all())


def checked(part: Tensor) -> Tensor:
    """Return `part` unchanged. Raises NotFinite if it holds NaN or infinity."""
    if not all_finite(part):
        raise NotFinite("the network's numbers are not finite; try --precision fp32, or check its weights")
    return part
