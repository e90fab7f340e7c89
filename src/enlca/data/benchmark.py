"""Benchmark folders: pairs of a large picture and, where the folder has it, the small one made of it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.image.files import PictureError, find_pictures, read_image
from enlca.image.resize import imresize, mod_crop


@dataclass(frozen=True)
class Pair:
    """A large picture and the small one on disk; `lr` is None where it has to be made."""

    name: str
    hr: Path
    lr: Path | None


def find_pairs(folder: Path, scale: int) -> list[Pair]:
    """The pairs of a benchmark folder: `HR_xS` with `LR_xS`, or a flat folder of large pictures.

    Raises:
        PictureError: if there are no pictures, or a large one has no partner among the small ones.
    """
    hr_folder, lr_folder = folder / f"HR_x{scale}", folder / f"LR_x{scale}"
    if not hr_folder.is_dir():
        return [Pair(path.stem, path, None) for path in find_pictures(folder)]
    large = find_pictures(hr_folder)
    if not lr_folder.is_dir():
        return [Pair(path.stem, path, None) for path in large]
    small = {path.stem: path for path in find_pictures(lr_folder)}
    for path in large:
        if path.stem not in small:
            raise PictureError(f"{path}: has no partner of the same name in {lr_folder}")
    return [Pair(path.stem, path, small[path.stem]) for path in large]


def load_pair(pair: Pair, scale: int) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W 3"]]:
    """(small, large): the large one mod-cropped; the small one from disk, else MATLAB's bicubic of it.

    A grey picture is degraded as it is and counts as RGB with equal channels.

    Raises:
        PictureError: if the two sizes do not fit.
    """
    large = read_image(pair.hr)
    hr = mod_crop(large.pixels, scale)
    if pair.lr is None:
        lr = imresize(hr, Fraction(1, scale))
    else:
        lr = read_image(pair.lr).pixels
        if (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
            raise PictureError(
                f"{pair.lr}: {lr.shape[1]}x{lr.shape[0]} times {scale} is not the size of its large partner"
                f" ({hr.shape[1]}x{hr.shape[0]})"
            )
    return as_rgb(lr), as_rgb(hr)


def as_rgb(pixels: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W 3"]:
    """A grey picture's channel three times; RGB as it is."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
