"""Upscale benchmark images by a method and score them; or score existing SR images."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from enlca.data.pairs import Pair, find_pairs, load_made, load_pair
from enlca.errors import EnlcaError, EvaluationError, PictureError
from enlca.evaluation.audit import AuditRow, audit
from enlca.evaluation.report import ImageScore, Protocol, Report
from enlca.image.files import find_pictures
from enlca.image.picture import Picture, write_image
from enlca.image.resize import imresize
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

    `upscale` takes and returns uint8.
    """

    name: str
    upscale: Callable[[UInt8[np.ndarray, "h w 3"]], UInt8[np.ndarray, "H W 3"]]
    about: dict[str, Any] = field(default_factory=dict)
    protocol: str = "whole"
    ensemble: bool = False


def method_called(
    model: str | SRModel,
    *,
    scale: int,
    device: str = "auto",
    protocol: str = "whole",
    ensemble: bool = False,
) -> Method:
    """Return the method of a network (a bundled name, a file or any `SRModel`), or "bicubic" (MATLAB's).

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
        return Method(BICUBIC, lambda rgb: imresize(rgb, Fraction(scale)), {"name": BICUBIC})
    upscaler = Upscaler(model, scale=scale, device=device)
    forward = padded(upscaler.network)
    if protocol == "chop":
        forward = chopped(forward, scale=scale)
    if ensemble:
        forward = self_ensemble(forward)
    about: dict[str, Any] = {"name": model.name if isinstance(model, SRModel) else model}
    if upscaler.card is not None:
        about |= {"variant": upscaler.card.variant, "network": upscaler.card.network.to_dict()}
    name = about["name"]
    name = Path(name).stem if Path(name).suffix else name
    return Method(
        name, lambda rgb: upscale_rgb(forward, rgb, device=upscaler.device), about, protocol, ensemble
    )


@dataclass(frozen=True)
class Evaluation:
    """The report of the pictures that could be scored, and a line for each one that could not."""

    report: Report
    failures: list[str]


def evaluate(
    method: Method,
    folders: Sequence[Path],
    *,
    scale: int,
    save_images: Path | None = None,
    on_image: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Evaluation:
    """Score `method` on benchmark folders; one bad pair does not stop the others.

    `save_images` receives the SR images, a folder for each data set.

    Raises:
        PictureError: a folder has no pictures or lacks partners.
        EvaluationError: two folders have the same name.
    """
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise EvaluationError("two data folders have the same name, so their scores would mix; rename one")
    work = [(folder.resolve().name, pair) for folder in folders for pair in find_pairs(folder, scale)]
    sources = {"matlab-bicubic" if pair.lr is None else "files" for _, pair in work}
    protocol = Protocol(
        name=method.protocol,
        scale=scale,
        lr_source=" and ".join(sorted(sources)),
        ensemble=method.ensemble,
    )
    rows, failures = [], []
    for done, (dataset, pair) in enumerate(work):
        on_image(f"{dataset}/{pair.name}", done, len(work))
        try:
            target = save_images / dataset / f"{pair.name}.png" if save_images else None
            rows.append(_score_pair(method, protocol, dataset, pair, save_as=target))
        except EnlcaError as error:
            failures.append(str(error))
    on_image("", len(work), len(work))
    return Evaluation(Report(protocol=protocol, model=method.about, images=rows), failures)


def score_folders(sr_folder: Path, hr_folder: Path, *, scale: int) -> Evaluation:
    """Score SR images of any method against HR, matched by name.

    Raises:
        PictureError: a folder without pictures.
    """
    made, originals = find_pictures(sr_folder), find_pictures(hr_folder)
    rows, failures = [], []
    for name, sr, hr in _pairs(made, originals, scale, failures):
        facts = {"dataset": hr_folder.resolve().name, "image": name, "model": sr_folder.resolve().name}
        try:
            rows.append(_row(sr, hr, scale=scale, protocol="given", seconds=0.0, **facts))
        except EnlcaError as error:
            failures.append(str(error))
    protocol = Protocol(name="given", scale=scale, lr_source="given")
    about = {"name": sr_folder.resolve().name}
    return Evaluation(Report(protocol=protocol, model=about, images=rows), failures)


def audit_folders(sr_folder: Path, hr_folder: Path, *, scale: int) -> tuple[list[AuditRow], list[str]]:
    """Audit SR images against HR, matched by name; also return a line for each that could not be used.

    Raises:
        PictureError: a folder without pictures.
        EvaluationError: no picture could be used, or they are too small.
    """
    made, originals = find_pictures(sr_folder), find_pictures(hr_folder)
    failures: list[str] = []
    pairs = ((sr, hr) for _, sr, hr in _pairs(made, originals, scale, failures))
    try:
        return audit(pairs, scale=scale), failures
    except ValueError as error:
        raise EvaluationError("; ".join([*failures, str(error)])) from error


def _pairs(
    made: Sequence[Path], originals: Sequence[Path], scale: int, failures: list[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, SR and HR, one pair at a time; `failures` gets a line for each that cannot be used."""
    for path in originals:
        try:
            sr, hr = load_made(path, made, scale)
        except EnlcaError as error:
            failures.append(str(error))
        else:
            yield path.stem, sr, hr


def _score_pair(
    method: Method, protocol: Protocol, dataset: str, pair: Pair, *, save_as: Path | None
) -> ImageScore:
    lr, hr = load_pair(pair, protocol.scale)
    started = time.perf_counter()
    sr = method.upscale(lr)
    seconds = time.perf_counter() - started
    if save_as is not None:
        save_as.parent.mkdir(parents=True, exist_ok=True)
        write_image(save_as, Picture(sr))
    return _row(
        sr,
        hr,
        dataset=dataset,
        image=pair.name,
        scale=protocol.scale,
        model=method.name,
        protocol=protocol.label,
        seconds=round(seconds, 4),
    )


def _row(sr: np.ndarray, hr: np.ndarray, *, scale: int, **named: Any) -> ImageScore:
    try:
        planes = luma(sr), luma(hr)
        psnr_y, ssim_y = psnr_plane(*planes, shave=scale), ssim_plane(*planes, shave=scale)
    except ValueError as error:
        raise PictureError(f"{named['dataset']}/{named['image']}: {error}") from error
    return ImageScore(
        scale=scale, psnr_y=psnr_y, ssim_y=ssim_y, height=hr.shape[0], width=hr.shape[1], **named
    )
