"""Benchmark folders: pairs of a large picture and, where the folder has it, the small one made of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.image.files import Picture, PictureError, find_pictures, read_image
from enlca.image.resize import imresize, mod_crop

# Where data sets keep large and small pictures; {s} is the scale.
LAYOUTS = (
    ("HR_x{s}", "LR_x{s}"),
    ("HR", "LR_bicubic/X{s}"),
    ("HR", "LR_x{s}"),
    ("HR", "LR"),
    ("original", "LRbicx{s}"),
    ("original", "LR_bicubic/X{s}"),
    ("GTmod12", "LRbicx{s}"),
    ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic/X{s}"),
)


@dataclass(frozen=True)
class Pair:
    """A large picture and the small one on disk.

    `lr` is None where the small picture has to be made; `fault` says why the pair cannot be used.
    """

    name: str
    hr: Path
    lr: Path | None = None
    fault: str | None = None


def find_pairs(folder: Path, scale: int) -> list[Pair]:
    """The pairs of a benchmark folder in one of LAYOUTS; a flat folder holds large pictures alone.

    Raises:
        PictureError: if there are no large pictures.
    """
    layouts = [tuple(folder / side.format(s=scale) for side in layout) for layout in LAYOUTS]
    layouts = [layout for layout in layouts if layout[0].is_dir()]
    complete = [layout for layout in layouts if layout[1].is_dir()]
    if not complete:
        return [Pair(path.stem, path) for path in find_pictures(layouts[0][0] if layouts else folder)]
    large, small = (find_pictures(side) for side in complete[0])
    pairs = []
    for path in large:
        try:
            pairs.append(Pair(path.stem, path, partner(path, small)))
        except PictureError as error:
            pairs.append(Pair(path.stem, path, fault=str(error)))
    return pairs


def load_pair(pair: Pair, scale: int) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W 3"]]:
    """(small, large): the large one mod-cropped; the small one from disk, else MATLAB's bicubic of it.

    A grey picture is degraded as it is and counts as RGB with equal channels.

    Raises:
        PictureError: if there is no partner, a file cannot be used, or the two sizes do not fit.
    """
    if pair.fault:
        raise PictureError(pair.fault)
    hr = read_large(pair.hr, scale).pixels
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


def read_large(path: Path, scale: int) -> Picture:
    """A large picture, mod-cropped to `scale`; transparency is left out.

    Raises:
        PictureError: if it cannot be read, or nothing would be left of it at the small size.
    """
    picture = read_image(path)
    height, width = picture.pixels.shape[:2]
    if min(height, width) < scale:
        raise PictureError(f"{path}: {width}x{height} is less than one pixel after x{scale}")
    return Picture(mod_crop(picture.pixels, scale))


def as_rgb(pixels: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W 3"]:
    """A grey picture's channel three times; RGB as it is."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def load_made(
    hr_path: Path, made: Sequence[Path], scale: int
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]:
    """(super-resolved, original): the one among `made` that belongs to `hr_path`, and that one mod-cropped.

    Raises:
        PictureError: there is no partner, a file cannot be used, or the two sizes differ.
    """
    sr_path = partner(hr_path, made)
    hr = read_large(hr_path, scale).rgb
    sr = read_image(sr_path).rgb
    if sr.shape != hr.shape:
        raise PictureError(
            f"{sr_path}: {sr.shape[1]}x{sr.shape[0]} is not the size of its original, mod-cropped"
            f" to x{scale} ({hr.shape[1]}x{hr.shape[0]})"
        )
    return sr, hr


# What methods and data sets append to a picture's name.
_SUFFIX = re.compile(r"(?i)(_?x[234]|_(sr|hr|lr|gt|enlcn[\w-]*|edsr[\w-]*|bicubic))$")


def partner(hr: Path, made: Sequence[Path]) -> Path:
    """The picture among `made` that belongs to `hr`: the one whose name needs the fewest suffixes cut off.

    Raises:
        PictureError: there is none, or more than one.
    """
    wanted = _stems(hr)
    matches: dict[int, list[Path]] = {}
    for path in made:
        cuts = [i + wanted.index(stem) for i, stem in enumerate(_stems(path)) if stem in wanted]
        if cuts:
            matches.setdefault(min(cuts), []).append(path)
    if not matches:
        raise PictureError(f"{hr}: has no partner of the same name in {made[0].parent}")
    closest = matches[min(matches)]
    if len(closest) > 1:
        names = " and ".join(path.name for path in closest)
        raise PictureError(f"{hr}: {names} in {made[0].parent} could all be its partner; move one away")
    return closest[0]


@cache
def _stems(path: Path) -> list[str]:
    """The name, and what is left of it without `_x4`, without `_SR` before that, and so on."""
    stems = [path.stem]
    while (shorter := _SUFFIX.sub("", stems[-1])) != stems[-1] and shorter:
        stems.append(shorter)
    return stems
