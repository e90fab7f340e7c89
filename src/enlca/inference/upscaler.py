"""The user's object: a network, a device, a limit of memory, and pictures of any kind in and out.

Letters:  B batch   H, W height and width   C channels   L layers: channels, then alpha   S scale   h rows
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from enlca.attention.block import NonLocalBlock
from enlca.checkpoint.catalog import load_with_card
from enlca.errors import DeviceError
from enlca.image.files import open_image
from enlca.image.picture import Picture, collect, rows_of
from enlca.image.rows import PictureRows, stack_bands
from enlca.inference import kinds
from enlca.inference.demand import check_mode
from enlca.inference.enlarge import Enlarger, all_finite
from enlca.inference.ensemble import Forward, self_ensemble
from enlca.inference.patient import Note, PatientEnlarger, Report, ignore, warn
from enlca.inference.raster import Raster, gathered, held, waiting_share
from enlca.network.sr import SRNetwork
from enlca.runtime.device import choose_device, choose_precision, in_half, survive_forks


class Upscaler:
    """Enlarges pictures: `Upscaler("enlcn-tiny", scale=4)("photo.jpg").save("photo_x4.png")`.

    A process that is forked after one was built computes by one thread, as PyTorch's do not live on in it.

    Args:
        model: a bundled name or a checkpoint file.
        scale: 2, 3 or 4; None is the checkpoint's own (x4 for a name, where there is one).
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16"; "auto" is bfloat16 for pictures of 8 bits without
            alpha on GPUs that have it and on processors with AMX, else float32.
        mode: "auto" takes a picture whole if that fits into memory, else streams it: the same result (to
            1e-5). "whole" and "stream" insist; "tiled" makes ordinary tiles: another result.
        max_memory: bytes that this process may use on the device; None: what it uses, and half of the rest.
        ensemble: average over the 8 symmetries of a square: a little better, 8 times slower.
        compile: let `torch.compile` make convolutions faster: worth it for many pictures.
        engine: makes what stands for the network where pictures or ordinary tiles go through it whole, for
            instance `partial(enlca.export.engines.load_engine, "openvino")`. Streams take the network itself.

    Attributes:
        network: the network, on the device.
        forward: the network or what stands for it, or its self-ensemble, for a batch of tensors.
        scale: how many times larger pictures get.

    Raises:
        CheckpointError: unknown model, or no weights for that scale.
        DeviceError: the device is not available, or cannot compile.
        PrecisionError: unknown precision.
        ValueError: unknown mode.
    """

    def __init__(
        self,
        model: str | os.PathLike = "enlcn-tiny",
        *,
        scale: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        mode: str = "auto",
        max_memory: int | None = None,
        ensemble: bool = False,
        compile: bool = False,
        engine: Callable[[SRNetwork], Forward] | None = None,
    ):
        survive_forks()
        self.device = choose_device(device)
        half = choose_precision(precision, self.device)
        check_mode(mode)
        network, self.card = load_with_card(model, scale)
        self.network = with_fast_convolutions(network, self.device)
        if compile:
            compile_local_stages(self.network)
        forward: Forward = engine(self.network) if engine else self.network
        self.forward: Forward = self_ensemble(forward) if ensemble else forward
        self.patient = PatientEnlarger(
            Enlarger(self.network, forward, ensemble=ensemble),
            self.device,
            half=half,
            half_for_all=precision != "auto",
            mode=mode,
            max_memory=max_memory,
        )
        self.scale = network.config.scale

    @overload
    def __call__(self, picture: str | os.PathLike | Picture) -> Picture: ...
    @overload
    def __call__(self, picture: np.ndarray) -> np.ndarray: ...
    @overload
    def __call__(self, picture: Tensor) -> Tensor: ...
    @overload
    def __call__(self, picture: Any) -> Any: ...
    def __call__(self, picture: Any) -> Any:
        """The enlarged picture, of the kind that came in; a path gives a `Picture`, which has `save`.

        Args:
            picture: a path, a `Picture`, a PIL image, a numpy array (uint8, uint16, or floating point in
                [0, 1]; H W or H W C with 1 to 4 channels), or a torch tensor (float in [0, 1], 3 H W or
                B 3 H W).

        Raises:
            PictureError: the file cannot be read.
            TooLarge: it does not fit into the memory that may be used.
            TypeError, ValueError: another kind of thing, or a shape or type that is not listed above.
        """
        if isinstance(picture, (str, os.PathLike)):
            return collect(self.rows(open_image(Path(picture), max_bits=16)))
        if isinstance(picture, Picture):
            return collect(self.rows(rows_of(picture)))
        if isinstance(picture, np.ndarray):
            return kinds.of_array(self._array, picture)
        if isinstance(picture, Tensor):
            return kinds.of_tensor(self._batch, picture)
        if hasattr(picture, "getbands"):
            return kinds.of_pil(self._array, picture)
        raise TypeError(
            f"cannot enlarge a {type(picture).__name__}; give a path, PIL, numpy or torch picture"
        )

    def rows(
        self, picture: PictureRows, *, reserve: int = 0, report: Report = ignore, note: Note = warn
    ) -> PictureRows:
        """The enlarged picture, or all its pages, as rows that are computed when they are asked for.

        The picture itself is read now. Colours and transparency keep their depth; grey stays grey.

        Args:
            picture: opened by `open_image`, or `rows_of` a `Picture`.
            reserve: bytes of the limit that somebody else will need: whoever takes the rows.
            report: is told how much of the work is done, from 0 to 1.
            note: gets a phrase where something was done otherwise than asked: out of memory, not finite.

        Raises:
            PictureError: the rows cannot be read.
            TooLarge: it does not fit into the memory that may be used.
            StoreError: the disk has no room; also while iterating.
            NotFinite: the network's numbers leave the range of float32; while iterating.
        """
        if not isinstance(picture.bands, Raster):
            _, limit = self.patient.room()
            picture = held(picture, limit=waiting_share(limit))
        whole = picture.bands
        assert isinstance(whole, Raster)
        pages = [whole.page(number, picture.height) for number in range(picture.pages)]
        # Now, so that what does not fit is refused before a file is begun.
        strategy = self.patient.strategy(pages[0], note=note, reserve=reserve)
        watch = self.patient.passes(picture, strategy, report)

        def bands() -> Iterator[np.ndarray]:
            for page in pages:
                yield from self.patient.bands(page, strategy, watch=watch, note=note)

        width, height = (self.scale * side for side in picture.size)
        return replace(picture, width=width, height=height, bands=bands())

    def stream(self, rows: Iterable[Shaped[np.ndarray, "_ W L"]]) -> Iterator[Shaped[np.ndarray, "_ SW L"]]:
        """Bands of rows in, bands of rows out, from top to bottom, in the type that came in.

        The picture waits in a file without a name, since every pixel is needed several times; its height
        need not be known. Neither it nor the result is ever held.

        Args:
            rows: uint8, uint16, or floating point in [0, 1]; 1 to 4 layers: grey or RGB, then alpha.

        Raises:
            ValueError: bands that are not alike or of another type, or none.
            TooLarge, StoreError, NotFinite: as `rows`; all while iterating.
        """
        picture = gathered(map(kinds.as_layers, rows))
        yield from self.patient.bands(picture, self.patient.strategy(picture))

    def _array(self, picture: Shaped[np.ndarray, "H W L"]) -> Shaped[np.ndarray, "SH SW L"]:
        height, width, layers = picture.shape
        raster = Raster.of(picture)
        bands = self.patient.bands(raster, self.patient.strategy(raster))
        return stack_bands(bands, (self.scale * height, self.scale * width, layers), picture.dtype)

    def _batch(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        if self.patient.takes_whole(pictures.shape):
            lr = pictures.to(self.network.mean)
            for half in dict.fromkeys((self.patient.half, None)):
                large = in_half(self.forward, half)(lr)
                if all_finite(large):
                    return large.clamp(0, 1)
        # One by one, within the limit of memory; what is not finite has its error there.
        arrays = pictures.permute(0, 2, 3, 1).float().cpu().numpy()
        return torch.stack([torch.from_numpy(self._array(array)).permute(2, 0, 1) for array in arrays])


def with_fast_convolutions(network: SRNetwork, device: torch.device) -> SRNetwork:
    """Return the network on the device, with the channels of its weights, and so of its features, last.

    Convolutions reorder their input and output otherwise, each by itself: on a processor with AVX-512 a
    network is 1.25 times as fast without, in bfloat16 1.4 to 2.5 times (benchmarks/NOTES.md).
    """
    return network.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def compile_local_stages(network: SRNetwork) -> None:
    """Compile the convolutions, part by part, so that tiles of a stream gain from it, too.

    The work is done by the first picture, once for all sizes. Attention is not compiled.

    Raises:
        DeviceError: there is no C++ compiler, which `torch.compile` needs for a processor.
    """
    if network.mean.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise DeviceError("compiling needs a C++ compiler, and none was found; install one, or leave it out")
    parts = [network.head, network.fuse, network.upsampler]
    parts += [stage.embed if isinstance(stage, NonLocalBlock) else stage for stage in network.body]
    for part in parts:
        part.compile(dynamic=True)
