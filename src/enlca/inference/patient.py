"""Enlarging within a limit of memory, and trying again in another way when something runs out.

Letters:  S scale   W width of the small picture   L layers: channels, then alpha   h rows of a band
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped

from enlca.errors import NotFinite
from enlca.image.rows import PictureRows
from enlca.inference.demand import Demand, choose, smaller
from enlca.inference.enlarge import Enlarger, Strategy
from enlca.inference.raster import Pixels
from enlca.inference.stages import Watch
from enlca.inference.streaming import unwatched
from enlca.inference.tiles import Region
from enlca.runtime.device import SHARE, free_memory, is_out_of_memory, used_memory

Note = Callable[[str], None]
Report = Callable[[float], None]


def warn(remark: str) -> None:
    """What is to be said where nobody listens."""
    warnings.warn(remark, stacklevel=3)


def ignore(share: float) -> None:
    """Nobody wants to know how far it is."""


@dataclass(frozen=True)
class PatientEnlarger:
    """Chooses a strategy for each picture, and does not give up at once.

    Attributes:
        enlarger: what does the work.
        device: where.
        half: what convolutions compute in; None is float32.
        half_for_all: whether also for pictures of more than 8 bits, or with alpha, which it would show in.
        mode: see `Upscaler`.
        max_memory: see `Upscaler`.
    """

    enlarger: Enlarger
    device: torch.device
    half: torch.dtype | None = None
    half_for_all: bool = False
    mode: str = "auto"
    max_memory: int | None = None

    def room(self) -> tuple[int, int]:
        """Bytes that this process uses on the device, and may use; takes a moment (see `used_memory`)."""
        used = used_memory(self.device)
        if self.max_memory is not None:
            return used, self.max_memory
        return used, used + int(SHARE * free_memory(self.device))

    def demand(self, height: int, width: int, layers: int, dtype: Any) -> Demand:
        """What a picture of this size and kind takes."""
        config, ensemble = self.enlarger.network.config, self.enlarger.ensemble
        return Demand(config, height, width, layers, np.dtype(dtype).itemsize, layers in (2, 4), ensemble)

    def strategy(self, picture: Pixels, *, note: Note = warn, reserve: int = 0) -> Strategy:
        """How this picture is enlarged if `reserve` bytes go elsewhere. Raises TooLarge."""
        demand = self.demand(*picture.shape, dtype=picture.dtype)
        used, limit = self.room()
        used += reserve if self.device.type == "cpu" else 0
        # More than 8 bits do not fit into the 8 of bfloat16's fractions; and dividing by alpha makes of its
        # rounding several levels.
        fits = demand.itemsize == 1 and not demand.has_alpha
        half = self.half if self.half_for_all or fits else None
        strategy, remark = choose(demand, limit, used=used, mode=self.mode, half=half)
        if remark:
            note(remark)
        if strategy.mode == "stream" and self.enlarger.forward is not self.enlarger.network:
            note("streamed by PyTorch: other engines take whole pictures")
        if strategy.mode == "stream" and self.device.type != "cpu":
            # Features between the stages wait on the host.
            strategy = replace(strategy, store_limit=int(SHARE * free_memory(torch.device("cpu"))))
        return strategy

    def takes_whole(self, batch: tuple[int, ...]) -> bool:
        """Whether a batch B 3 H W goes through the network in one piece."""
        n, layers, height, width = batch
        demand = self.demand(n * height, width, layers, np.float32)
        used, limit = self.room()
        fits = demand.working_set(Strategy()) <= limit - used
        return self.mode == "whole" or (self.mode == "auto" and fits)

    def passes(self, picture: PictureRows, strategy: Strategy, report: Report) -> Watch:
        """Tells `report` how far all passes over the picture are, each counting as much as the others."""
        ensemble = self.enlarger.ensemble
        passes = (
            (len(self.enlarger.network.body) + ensemble) * (8 if ensemble else 1) * (1 + picture.has_alpha)
        )
        total = picture.pages * ((passes if strategy.mode == "stream" else 0) + 1)
        begun = count()

        def watch(regions: Sequence[Region], what: str) -> Iterator[Region]:
            before = next(begun)
            for number, region in enumerate(regions, start=1):
                yield region
                report(min(1.0, (before + number / len(regions)) / total))

        return watch

    def bands(
        self, picture: Pixels, strategy: Strategy, *, watch: Watch = unwatched, note: Note = warn
    ) -> Iterator[Shaped[np.ndarray, "h SW L"]]:
        """The rows, whatever it takes: smaller tiles when memory runs out, float32 where less does not do.

        A second try gives the same rows, so those that are out already are passed over.
        """
        demand, done = self.demand(*picture.shape, dtype=picture.dtype), 0
        while True:
            try:
                seen = 0
                for band in self.enlarger.bands(picture, strategy, watch=watch):
                    new = band[max(0, done - seen) :]
                    seen += len(band)
                    if len(new):
                        done += len(new)
                        yield new
                return
            except NotFinite:
                if strategy.half is None:
                    raise
                strategy = replace(strategy, half=None)
                note("its numbers were not finite in half precision: computed again in fp32")
            except Exception as error:
                following = smaller(strategy, demand) if is_out_of_memory(error) else None
                if following is None:
                    raise
                strategy = following
                note(f"out of memory: tried again in tiles of {strategy.tile}")
