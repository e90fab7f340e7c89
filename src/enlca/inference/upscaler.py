"""The public object: a network, a device, a memory budget, and pictures of any kind in and out.

Letters:  B batch   H, W height and width   C channels   L layers: channels, then alpha   S scale
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from enlca.checkpoint import DEFAULT_MODEL
from enlca.checkpoint.file import Card
from enlca.checkpoint.store import load_model
from enlca.errors import CheckpointError
from enlca.image.files import open_image
from enlca.image.picture import Picture, collect, rows_of
from enlca.image.rows import PictureRows, stack_bands
from enlca.image.source import Readable
from enlca.inference.adapters import as_layers, upscale_numpy, upscale_pil, upscale_torch
from enlca.inference.execute import Executor, Note, all_finite, padded, warn
from enlca.inference.pixel_source import Pixels, Raster, materialize, queue_share, spool_to_disk
from enlca.inference.spread import Spread, spread_over
from enlca.inference.strategy import MemoryFootprint, Strategy, check_mode, choose_strategy
from enlca.inference.target_size import RowReader, Size, network_scales, resize
from enlca.inference.transforms import Forward, self_ensemble
from enlca.network.interface import SRModel
from enlca.network.layers import with_fast_convolutions
from enlca.runtime.concurrency import Progress, no_progress
from enlca.runtime.device import (
    SHARE,
    choose_device,
    choose_precision,
    free_memory,
    in_half,
    memory_budget,
    on_host,
    survive_forks,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    Kind = TypeVar("Kind", Picture, np.ndarray, Tensor, Image)

Made = Shaped[np.ndarray, "_ SW L"]
log = logging.getLogger(__name__)


class Upscaler:
    """Upscale pictures: `Upscaler("enlcn-tiny", scale=4)("photo.jpg").save("photo_x4.png")`.

    A process forked after one was built computes with one thread: PyTorch's do not survive a fork.

    Args:
        model: a bundled name, a file of weights of any known kind, a run folder, `module:function`, or any
            `SRModel`.
        scale: 2, 3 or 4; None is the model's own (x4 for a name, if there is one). Any other factor, such as
            3.5, is reached by the smallest network beyond it and a plain resize.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps", or a `torch.device`.
        devices: several of one kind, instead of `device`, that share each picture which has enough rows: the
            same result (to 1e-5). For networks that are streamed through sums, without `ensemble`, `engine`.
        precision: "auto", "fp32", "bf16" or "fp16"; "auto" is bfloat16 for pictures of 8 bits without
            alpha on hardware that is faster in it (`runtime.device.choose_precision`), else float32.
        mode: "auto" takes a picture whole if that fits into memory, else streams it: the same result (to
            1e-5). "whole" and "stream" insist; "tiled" makes ordinary tiles: another result.
        max_memory: bytes that this process may use on the device; None: what it uses, and half of the rest.
        ensemble: average over the 8 symmetries of a square: a little better, 8 times slower.
        compile: let `torch.compile` make convolutions faster: worth it for many pictures.
        engine: makes another implementation of the forward pass from the network, for whole pictures and
            ordinary tiles, for instance `partial(enlca.export.engines.load_engine, "openvino")`. Streams use
            the network itself.

    Attributes:
        network: the network, on the device.
        card: what its checkpoint says about it; None without a checkpoint.
        forward: the network or the engine, or its self-ensemble, for a batch of tensors of any size.
        scale: the upscaling factor.
        size: the size of the results.

    Raises:
        CheckpointError: unknown model, or no weights for that scale.
        DeviceError: the device is not available, or cannot compile.
        PrecisionError: unknown precision.
        StreamingError: several devices, and a network that they cannot share.
        ValueError: unknown mode; `devices` and something that goes with one device only.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SRModel = DEFAULT_MODEL,
        *,
        scale: int | float | Fraction | None = None,
        device: str | torch.device = "auto",
        devices: Sequence[str | torch.device] = (),
        precision: str = "auto",
        mode: str = "auto",
        max_memory: int | None = None,
        ensemble: bool = False,
        compile: bool = False,
        engine: Callable[[Any], Forward] | None = None,
    ):
        survive_forks()
        if devices and (device != "auto" or ensemble or engine or mode in ("whole", "tiled")):
            raise ValueError("devices go with mode auto or stream, and without device, ensemble and engine")
        self.device, *others = [choose_device(name) for name in devices or [device]]
        self.half = choose_precision(precision, self.device)
        check_mode(mode)
        self.mode, self.max_memory, self.ensemble = mode, max_memory, ensemble
        network, self.card = _load(model, scale)
        if precision == "auto" and not network.half_safe:
            self.half = None
        self.half_for_all = precision != "auto"
        self.network = with_fast_convolutions(network, self.device)
        if compile:
            self.network.compile_convolutions()
        forward = engine(self.network) if engine else padded(self.network)
        self.has_engine = engine is not None and forward is not self.network
        first = Executor(self.network, forward, self.device, ensemble=ensemble)
        self.executor = spread_over(first, others) if others else first
        self.forward: Forward = self_ensemble(forward) if ensemble else forward
        self.scale = network.scale if scale is None or scale == network.scale else float(scale)
        # From the text of the number: 1.1 is 11/10, not the nearest float.
        self.size = Size(scale=Fraction(str(self.scale)))
        log.info("%s x%g on %s, in %s", network.name, self.scale, self.device, self.half or torch.float32)

    @overload
    def __call__(self, picture: Readable | Picture) -> Picture: ...
    @overload
    def __call__(self, picture: np.ndarray) -> np.ndarray: ...
    @overload
    def __call__(self, picture: Tensor) -> Tensor: ...
    @overload
    def __call__(self, picture: "Image") -> "Image": ...
    @overload
    def __call__(self, picture: "list[Kind]") -> "list[Kind]": ...
    @overload
    def __call__(self, picture: Any) -> Any: ...
    def __call__(self, picture: Any) -> Any:
        """Return the upscaled picture, of the kind that came in; a file gives a `Picture`, which has `save`.

        Args:
            picture: a path, the bytes of a file or a binary file object, a `Picture`, a PIL image, a numpy
                array (uint8, uint16, or floating point in [0, 1]; H W, H W C or N H W C with 1 to 4
                channels), a torch tensor (uint8, or float in [0, 1]; 3 H W or B 3 H W), or a list of these.

        Raises:
            PictureError: the file cannot be read.
            TooLarge: the picture does not fit into the memory budget.
            TypeError, ValueError: another kind of object, or a shape or type that is not listed above.
        """
        if isinstance(picture, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(picture, "read"):
            return collect(self.rows(open_image(picture, max_bits=16)))
        if isinstance(picture, (list, tuple)):
            return [self(one) for one in picture]
        if isinstance(picture, Picture):
            return collect(self.rows(rows_of(picture)))
        if isinstance(picture, np.ndarray):
            return upscale_numpy(self._array, picture)
        if isinstance(picture, Tensor):
            half = self._half(eight_bits=picture.dtype == torch.uint8)
            return upscale_torch(partial(self._batch, half=half), picture)
        if hasattr(picture, "getbands"):
            return upscale_pil(self._array, picture)
        raise TypeError(
            f"cannot upscale a {type(picture).__name__}; "
            "give a path, bytes, a file object, or a PIL, numpy or torch picture, or a list of these"
        )

    def rows(
        self,
        picture: PictureRows,
        *,
        reserve: int = 0,
        progress: Progress = no_progress,
        note: Note = warn,
    ) -> PictureRows:
        """Return the upscaled picture, or all its pages, as rows that are computed on demand.

        The picture itself is read now. Colours and transparency keep their depth; grey stays grey.

        Args:
            picture: opened by `open_image`, or `rows_of` a `Picture`.
            reserve: bytes of the memory budget that the consumer of the rows needs.
            progress: called after each step of the work.
            note: called with a phrase about what was done otherwise than asked: out of memory, not finite.

        Raises:
            PictureError: the rows cannot be read.
            TooLarge: the picture does not fit into the memory budget.
            StoreError: the disk has no space; also while iterating.
            NotFinite: the network's output leaves the range of float32; while iterating.
        """
        if not isinstance(picture.bands, Raster):
            _, limit = self.memory_budget()
            host_limit = on_host(self.max_memory, self.device.type)
            picture = materialize(picture, limit=queue_share(limit), max_memory=host_limit)
        raster = picture.bands
        assert isinstance(raster, Raster)
        pages = [raster.page(number, picture.height) for number in range(picture.pages)]
        # Chosen now, so that a picture that does not fit is refused before its file is begun.
        strategy = self.strategy(pages[0], note=note, reserve=reserve)
        passes = self.executor.passes(
            strategy, has_alpha=picture.has_alpha, pages=picture.pages, progress=progress
        )

        def bands() -> Iterator[np.ndarray]:
            for page in pages:
                yield from self._sized(self.executor.bands(page, strategy, passes=passes, note=note), page)

        width, height = self.size.of(*picture.size)
        return replace(picture, width=width, height=height, bands=bands(), upscaled=True)

    def stream(self, rows: Iterable[Shaped[np.ndarray, "_ W L"]]) -> Iterator[Shaped[np.ndarray, "_ SW L"]]:
        """Upscale bands of rows, from top to bottom; yield bands of the type that came in.

        The picture is spooled to an unnamed file, since every pixel is needed several times; its height need
        not be known. Neither it nor the result is ever in memory as a whole.

        Args:
            rows: uint8, uint16, or floating point in [0, 1]; 1 to 4 layers: grey or RGB, then alpha.

        Raises:
            ValueError: bands that differ in width, layers or type, or none.
            TooLarge, StoreError, NotFinite: as `rows`; all while iterating.
        """
        picture = spool_to_disk(map(as_layers, rows))
        yield from self._sized(self.executor.bands(picture, self.strategy(picture)), picture)

    def bands(
        self, picture: Shaped[np.ndarray, "H W L"], *, progress: Progress = no_progress, note: Note = warn
    ) -> Iterator[Shaped[np.ndarray, "_ SW L"]]:
        """Upscale an array in memory; yield bands of rows of its type, from top to bottom.

        Args:
            picture: uint8, uint16, or floating point in [0, 1]; 1 to 4 layers: grey or RGB, then alpha.
            progress, note: see `rows`.

        Raises:
            ValueError: another shape or type.
            TooLarge, StoreError, NotFinite: as `rows`; all while iterating.
        """
        raster = Raster.of(as_layers(picture))
        strategy = self.strategy(raster, note=note)
        has_alpha = raster.shape[2] in (2, 4)
        passes = self.executor.passes(strategy, has_alpha=has_alpha, pages=1, progress=progress)
        yield from self._sized(self.executor.bands(raster, strategy, passes=passes, note=note), raster)

    def memory_budget(self) -> tuple[int, int]:
        """Return how many bytes this process uses on the device, and how many it may use."""
        return memory_budget(self.device, self.max_memory)

    def strategy(self, picture: Pixels, *, note: Note = warn, reserve: int = 0) -> Strategy:
        """Choose how to upscale a picture while `reserve` bytes are needed elsewhere. Raises TooLarge."""
        height, width, layers = picture.shape
        itemsize, has_alpha = np.dtype(picture.dtype).itemsize, layers in (2, 4)
        footprint = MemoryFootprint(self.network, height, width, layers, itemsize, has_alpha, self.ensemble)
        used, limit = self.memory_budget()
        used += reserve if self.device.type == "cpu" else 0
        half = self._half(eight_bits=itemsize == 1, has_alpha=has_alpha)
        spread = isinstance(self.executor, Spread) and self.executor.shares(height, width)
        mode = "stream" if spread else self.mode
        strategy, remark = choose_strategy(footprint, limit, used=used, mode=mode, half=half)
        if remark:
            note(remark)
        if strategy.mode == "stream" and self.has_engine:
            note("streamed by PyTorch: other engines take whole pictures")
        log.info("%dx%d: %s, tile %d", width, height, strategy.mode, strategy.tile)
        log.debug("bytes in use: %d of %d that may be", used, limit)
        if strategy.mode == "stream" and self.device.type != "cpu":
            # Features between the stages are cached on the host.
            strategy = replace(strategy, cache_limit=int(SHARE * free_memory(torch.device("cpu"))))
        return strategy

    def _half(self, *, eight_bits: bool, has_alpha: bool = False) -> torch.dtype | None:
        """Return the type for the convolutions of a picture; None is float32.

        More than 8 bits do not fit into the 8 of bfloat16's fraction; and dividing by alpha makes several
        levels of its rounding.
        """
        return self.half if self.half_for_all or (eight_bits and not has_alpha) else None

    def _array(self, picture: Shaped[np.ndarray, "H W L"]) -> Shaped[np.ndarray, "SH SW L"]:
        height, width, layers = picture.shape
        wide, high = self.size.of(width, height)
        return stack_bands(self.bands(picture), (high, wide, layers), picture.dtype)

    def _sized(self, bands: Iterator[Made], picture: Pixels) -> Iterator[Made]:
        """Resize what the network made of a picture, if another factor was asked for than its own."""
        own = self.network.scale
        if self.scale == own:
            return bands
        height, width, layers = picture.shape
        size, kind = (own * width, own * height), np.dtype(picture.dtype)
        return resize(RowReader(bands), size, self.size.of(width, height), layers=layers, kind=kind)

    def _batch(
        self, pictures: Float[Tensor, "B 3 H W"], *, half: torch.dtype | None
    ) -> Float[Tensor, "B 3 SH SW"]:
        if self.scale == self.network.scale and self._fits_whole(*pictures.shape):
            lr = pictures.to(self.device, torch.float32)
            for kind in dict.fromkeys((half, None)):
                sr = in_half(self.forward, kind)(lr)
                if all_finite(sr):
                    return sr.clamp(0, 1)
        # One by one, within the memory budget; output that is not finite raises its error there.
        arrays = pictures.permute(0, 2, 3, 1).float().cpu().numpy()
        return torch.stack([torch.from_numpy(self._array(array)).permute(2, 0, 1) for array in arrays])

    def _fits_whole(self, n: int, layers: int, height: int, width: int) -> bool:
        """Whether a batch goes through the network in one piece."""
        footprint = MemoryFootprint(self.network, n * height, width, layers, 4, ensemble=self.ensemble)
        used, limit = self.memory_budget()
        fits = footprint.peak_bytes(Strategy()) <= limit - used
        if isinstance(self.executor, Spread) and self.executor.shares(height, width):
            return False
        return self.mode in ("whole", "auto") and fits


def _load(
    model: str | os.PathLike[str] | SRModel, scale: int | float | Fraction | None
) -> tuple[SRModel, Card | None]:
    """Return a network: of the scale, or of the smallest beyond a factor between scales."""
    if scale is not None and scale <= 0:
        raise ValueError(f"scale must be positive, got {scale}")
    between = scale is not None and scale != int(scale)
    own = None if scale is None else int(scale)
    if scale is not None and between and not isinstance(model, SRModel):
        scales, model = network_scales(model, at_least=float(scale))
        own = min(one for one in scales if one >= scale)
    if not isinstance(model, SRModel):
        loaded = load_model(model, own)
        log.info("%s: %s (%s)", model, loaded.kind, loaded.path)
        return loaded.model, loaded.card
    if scale is not None and (scale > model.scale if between else scale != model.scale):
        raise CheckpointError(f"{model.name}: upscales by {model.scale}, not by {scale}")
    return model.eval(), None
