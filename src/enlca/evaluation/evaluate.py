"""Upscale benchmark images by a method and score them; or score existing SR images."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8

from enlca.checkpoint.store import load_model, short_name
from enlca.data.pairs import Pair, find_pairs, load_pair, load_unrounded_pair
from enlca.errors import EnlcaError, EvaluationError, PictureError
from enlca.evaluation.given import GivenPictures
from enlca.evaluation.report import ImageScore, Lr, Metric, Protocol, Report
from enlca.image.picture import Picture, write_image
from enlca.image.resize import imresize, to_uint8
from enlca.inference.adapters import upscale_rgb
from enlca.inference.execute import padded
from enlca.inference.transforms import chopped, self_ensemble
from enlca.inference.upscaler import Upscaler
from enlca.metrics import luma, psnr_plane, ssim_plane
from enlca.network.interface import SRModel

BICUBIC = "bicubic"
PROTOCOLS = ("whole", "chop")


@dataclass(frozen=True)
class Method:
    """A way to upscale RGB images, and its description in reports; `protocol`, `ensemble`: see `Protocol`.

    `upscale` takes uint8, or float64 from 0 to 255 where LR is not rounded, and returns uint8.
    """

    name: str
    upscale: Callable[[UInt8[np.ndarray, "h w 3"] | Float64[np.ndarray, "h w 3"]], UInt8[np.ndarray, "H W 3"]]
    about: dict[str, Any] = field(default_factory=dict)
    protocol: str = "whole"
    ensemble: bool = False

    def pairs(self, dataset: Path, scale: int) -> list[Pair]:
        """Return the pictures of a benchmark folder. Raises PictureError: there are none."""
        return find_pairs(dataset, scale)

    def source(self, pairs: Sequence[Pair], lr: Lr) -> str:
        """Return the origin of the LR images."""
        made = "matlab-bicubic"
        return " and ".join(sorted({made if pair.lr is None or lr == "float" else "files" for pair in pairs}))

    def make(self, pair: Pair, *, scale: int, lr: Lr) -> tuple[np.ndarray, np.ndarray, float]:
        """Return SR, HR, and the seconds that upscaling took.

        Raises:
            PictureError: a file cannot be used, or the sizes do not fit.
        """
        small, hr = (load_unrounded_pair if lr == "float" else load_pair)(pair, scale)
        started = time.perf_counter()
        sr = self.upscale(small)
        return sr, hr, time.perf_counter() - started


def method_called(
    model: str | SRModel,
    *,
    scale: int,
    device: str = "auto",
    protocol: str = "whole",
    ensemble: bool = False,
) -> Method:
    """Return the method of a model (whatever `load_model` takes, or any `SRModel`), or "bicubic" (MATLAB's).

    It is called as it is given: a file by its stem, a run's best weights by the run's folder, a function of
    one's own and a repository by their names.

    Raises:
        CheckpointError: unknown model, or not for this scale.
        DeviceError: the device is not available.
        EvaluationError: a protocol that is unknown, or that bicubic does not have.
    """
    if protocol not in PROTOCOLS:
        raise EvaluationError(f"unknown protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}")
    if model == BICUBIC:
        if protocol != "whole" or ensemble:
            raise EvaluationError("bicubic sees whole pictures and has no ensemble; leave these options out")
        return Method(BICUBIC, lambda rgb: _bicubic(rgb, scale), {"name": BICUBIC})
    if isinstance(model, SRModel):
        about: dict[str, Any] = {"name": model.name}
        upscaler = Upscaler(model, scale=scale, device=device)
    else:
        loaded = load_model(model, scale)
        about = {"name": model, "kind": loaded.kind}
        if loaded.card is not None:
            about |= {"variant": loaded.card.variant, "network": loaded.card.network.to_dict()}
        upscaler = Upscaler(loaded.model, scale=scale, device=device)
    forward = padded(upscaler.network)
    if protocol == "chop":
        forward = chopped(forward, scale=scale)
    if ensemble:
        forward = self_ensemble(forward)
    return Method(
        short_name(about["name"]),
        lambda rgb: upscale_rgb(forward, rgb, device=upscaler.device),
        about,
        protocol,
        ensemble,
    )


def _bicubic(rgb: np.ndarray, scale: int) -> UInt8[np.ndarray, "H W 3"]:
    sr = imresize(rgb, Fraction(scale))
    return sr if sr.dtype == np.uint8 else to_uint8(sr)


class Files(NamedTuple):
    """The files of one scored image; `sr` is None where it was not kept."""

    hr: Path
    sr: Path | None


@dataclass(frozen=True)
class Evaluation:
    """The report of the images that could be scored, and a line for each one that could not be.

    `files` has an entry for each data set and image that was scored.
    """

    report: Report
    failures: list[str]
    files: Mapping[tuple[str, str], Files]


def evaluate(
    method: Method | GivenPictures,
    folders: Sequence[Path],
    *,
    scale: int,
    lr: Lr = "uint8",
    metrics: Sequence[Metric] = (),
    save_images: Path | None = None,
    on_image: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Evaluation:
    """Score `method` on benchmark folders; one bad pair does not stop the others.

    `lr`: see `Protocol`. `metrics`: further columns. `save_images` receives the SR images that are made, a
    folder for each data set.

    Raises:
        PictureError: a folder has no pictures or lacks partners.
        EvaluationError: two folders have the same name.
    """
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise EvaluationError("two data folders have the same name, so their scores would mix; rename one")
    work = [(folder.resolve().name, pair) for folder in folders for pair in method.pairs(folder, scale)]
    protocol = Protocol(
        name=method.protocol,
        scale=scale,
        lr_source=method.source([pair for _, pair in work], lr),
        ensemble=method.ensemble,
        lr_type=lr,
    )
    rows, failures, files = [], [], {}
    for done, (dataset, pair) in enumerate(work):
        on_image(f"{dataset}/{pair.name}", done, len(work))
        try:
            sr, hr, seconds = method.make(pair, scale=scale, lr=lr)
            kept = pair.lr if isinstance(method, GivenPictures) else None
            if save_images is not None and kept is None:
                kept = save_images / dataset / f"{pair.name}.png"
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_image(kept, Picture(sr))
            facts = {"dataset": dataset, "image": pair.name, "model": method.name, "protocol": protocol.label}
            rows.append(_row(sr, hr, metrics, scale=scale, seconds=round(seconds, 4), **facts))
            files[dataset, pair.name] = Files(pair.hr, kept)
        except EnlcaError as error:
            failures.append(str(error))
    on_image("", len(work), len(work))
    return Evaluation(
        Report(protocol=protocol, model=method.about, images=rows, metrics=metrics), failures, files
    )


def score_folders(
    sr_folder: Path, hr_folder: Path, *, scale: int, metrics: Sequence[Metric] = ()
) -> Evaluation:
    """Score SR images of any method against the HR images of a benchmark folder, matched by name.

    Raises:
        PictureError: a folder without pictures.
    """
    return evaluate(GivenPictures.of(sr_folder), [hr_folder], scale=scale, metrics=metrics)


def _row(
    sr: np.ndarray, hr: np.ndarray, metrics: Sequence[Metric], *, scale: int, **named: Any
) -> ImageScore:
    try:
        planes = luma(sr), luma(hr)
        psnr_y, ssim_y = psnr_plane(*planes, shave=scale), ssim_plane(*planes, shave=scale)
        more = {metric.column: metric.compute(sr, hr, scale) for metric in metrics}
    except ValueError as error:
        raise PictureError(f"{named['dataset']}/{named['image']}: {error}") from error
    return ImageScore(
        scale=scale, psnr_y=psnr_y, ssim_y=ssim_y, height=hr.shape[0], width=hr.shape[1], more=more, **named
    )
