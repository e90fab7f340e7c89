"""Enlarge benchmark pictures by a method and score them; or score pictures that somebody already made."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from enlca.data.benchmark import Pair, find_pairs, load_pair
from enlca.errors import EnlcaError
from enlca.evaluation.protocol import Protocol
from enlca.evaluation.scores import ImageScore, Report
from enlca.image.codecs import Picture
from enlca.image.files import PictureError, find_pictures, read_image, write_image
from enlca.image.resize import imresize, mod_crop
from enlca.inference.upscaler import Upscaler, enlarge
from enlca.metrics import psnr, ssim

BICUBIC = "bicubic"


class EvaluationError(EnlcaError):
    """An evaluation that has nothing to score."""


@dataclass(frozen=True)
class Method:
    """Something that enlarges RGB pictures, and what to write about it."""

    name: str
    enlarge: Callable[[UInt8[np.ndarray, "h w 3"]], UInt8[np.ndarray, "H W 3"]]
    about: dict[str, Any] = field(default_factory=dict)


def method_called(model: str, *, scale: int, device: str = "auto") -> Method:
    """A network by name or file, or "bicubic" (MATLAB's).

    Raises:
        CheckpointError: unknown model, or not for this scale.
        DeviceError: the device is not available.
    """
    if model == BICUBIC:
        return Method(BICUBIC, lambda rgb: imresize(rgb, Fraction(scale)), {"name": BICUBIC})
    upscaler = Upscaler(model, scale=scale, device=device)
    network = upscaler.network
    about = {"name": model, "variant": upscaler.card.variant, "network": network.config.to_dict()}
    name = Path(model).stem if Path(model).suffix else model
    return Method(name, lambda rgb: enlarge(network, rgb), about)


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

    `save_images` receives the enlarged pictures, a folder for each data set.

    Raises:
        PictureError: a folder has no pictures or lacks partners.
        EvaluationError: two folders have the same name, or no picture could be scored.
    """
    work = [(folder.resolve().name, pair) for folder in folders for pair in find_pairs(folder, scale)]
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise EvaluationError("two data folders have the same name, so their scores would mix; rename one")
    rows, failures = [], []
    for done, (dataset, pair) in enumerate(work):
        on_image(f"{dataset}/{pair.name}", done, len(work))
        try:
            target = save_images / dataset / f"{pair.name}.png" if save_images else None
            rows.append(_score_pair(method, dataset, pair, scale=scale, save_as=target))
        except EnlcaError as error:
            failures.append(str(error))
    on_image("", len(work), len(work))
    sources = {"matlab-bicubic" if pair.lr is None else "files" for _, pair in work}
    protocol = Protocol(name="whole", scale=scale, lr_source=" and ".join(sorted(sources)))
    return _finished(protocol, method.about, rows, failures)


def score_folders(sr_folder: Path, hr_folder: Path, *, scale: int) -> Evaluation:
    """Score pictures that were made by any method against their originals, matched by name.

    Raises:
        PictureError: a folder without pictures.
        EvaluationError: no picture could be scored.
    """
    made = {_plain_stem(path): path for path in find_pictures(sr_folder)}
    rows, failures = [], []
    for hr_path in find_pictures(hr_folder):
        sr_path = made.get(_plain_stem(hr_path))
        try:
            if sr_path is None:
                raise PictureError(f"{hr_path}: has no partner of the same name in {sr_folder}")
            hr = mod_crop(read_image(hr_path).rgb, scale)
            sr = read_image(sr_path).rgb
            if sr.shape != hr.shape:
                raise PictureError(
                    f"{sr_path}: {sr.shape[1]}x{sr.shape[0]} is not the size of its original, mod-cropped"
                    f" to x{scale} ({hr.shape[1]}x{hr.shape[0]})"
                )
            rows.append(
                _row(
                    sr,
                    hr,
                    dataset=hr_folder.resolve().name,
                    image=hr_path.stem,
                    scale=scale,
                    model=sr_folder.resolve().name,
                    protocol="given",
                    seconds=0.0,
                )
            )
        except EnlcaError as error:
            failures.append(str(error))
    protocol = Protocol(name="given", scale=scale, lr_source="given")
    return _finished(protocol, {"name": sr_folder.resolve().name}, rows, failures)


def _score_pair(method: Method, dataset: str, pair: Pair, *, scale: int, save_as: Path | None) -> ImageScore:
    lr, hr = load_pair(pair, scale)
    started = time.perf_counter()
    sr = method.enlarge(lr)
    seconds = time.perf_counter() - started
    if save_as is not None:
        save_as.parent.mkdir(parents=True, exist_ok=True)
        write_image(save_as, Picture(sr))
    return _row(
        sr,
        hr,
        dataset=dataset,
        image=pair.name,
        scale=scale,
        model=method.name,
        protocol="whole",
        seconds=round(seconds, 4),
    )


def _row(sr: np.ndarray, hr: np.ndarray, *, scale: int, **named: Any) -> ImageScore:
    try:
        psnr_y, ssim_y = psnr(sr, hr, shave=scale), ssim(sr, hr, shave=scale)
    except ValueError as error:
        raise PictureError(f"{named['dataset']}/{named['image']}: {error}") from error
    return ImageScore(
        scale=scale, psnr_y=psnr_y, ssim_y=ssim_y, height=hr.shape[0], width=hr.shape[1], **named
    )


def _finished(
    protocol: Protocol, about: dict[str, Any], rows: list[ImageScore], failures: list[str]
) -> Evaluation:
    if not rows:
        raise EvaluationError("no picture could be scored: " + "; ".join(failures))
    return Evaluation(Report(protocol=protocol, model=about, images=rows), failures)


# What methods and data sets append to a picture's name.
_SUFFIX = re.compile(r"(?i)(_?x[234]|_(sr|hr|lr|gt|enlcn[\w-]*|edsr[\w-]*|bicubic))$")


def _plain_stem(path: Path) -> str:
    """The name without `_x4`, `x4`, `_SR`, `_enlcn-tiny` and the like, however many there are."""
    stem = path.stem
    while (shorter := _SUFFIX.sub("", stem)) != stem and shorter:
        stem = shorter
    return stem
