"""Benchmark folders: pairs of a large picture and, where the folder has it, the small one made of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.errors import PictureError
from enlca.image.files import find_pictures
from enlca.image.picture import Picture, read_image
from enlca.image.resize import imresize, mod_crop

# Where data sets keep large and small pictures; {s} is the scale, {name} that of the folder.
LAYOUTS = (
    ("HR_x{s}", "LR_x{s}"),
    ("HR", "LR_bicubic/X{s}"),
    ("HR", "LR_x{s}"),
    ("HR", "LR"),
    ("original", "LRbicx{s}"),
    ("original", "LR_bicubic/X{s}"),
    ("GTmod12", "LRbicx{s}"),
    ("{name}_HR", "{name}_LR_x{s}"),
    ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic/X{s}"),
)
# DIV2K keeps both in one folder: what training takes must never be what a score is measured on.
TRAIN_LAYOUT = ("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X{s}")


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
    large, small = find_layout(folder, scale) or (folder, None)
    if small is None:
        return [Pair(path.stem, path) for path in find_pictures(large)]
    return match(find_pictures(large), find_pictures(small))


def find_layout(
    folder: Path, scale: int, layouts: Sequence[tuple[str, str]] = LAYOUTS
) -> tuple[Path, Path | None] | None:
    """The folders of large and of small pictures inside `folder`, by the first of `layouts` that has both.

    The second is None where only large pictures are there; all is None where no layout fits.
    """
    names = {"s": scale, "name": folder.resolve().name}
    sides = [(folder / large.format(**names), folder / small.format(**names)) for large, small in layouts]
    found = [(large, small if small.is_dir() else None) for large, small in sides if large.is_dir()]
    return min(found, key=lambda pair: pair[1] is None, default=None)


def match(large: Sequence[Path], small: Sequence[Path]) -> list[Pair]:
    """A pair for each of `large`; its `fault` says where there is no partner, or more than one."""
    partners = _Partners(small)
    pairs = []
    for path in large:
        try:
            pairs.append(Pair(path.stem, path, partners.of(path)))
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
    return _Partners(made).of(hr)


class _Partners:
    """Pictures, found by their names and by what is left of those without suffixes.

    Thousands of large pictures look here for theirs: comparing each with each would take a minute.
    """

    def __init__(self, made: Sequence[Path]):
        self.folder = made[0].parent
        self.cuts: dict[str, list[tuple[int, Path]]] = {}
        for path in made:
            for cuts, stem in enumerate(_stems(path)):
                self.cuts.setdefault(stem, []).append((cuts, path))

    def of(self, hr: Path) -> Path:
        """See `partner`."""
        fewest: dict[Path, int] = {}
        for cuts, stem in enumerate(_stems(hr)):
            for more_cuts, path in self.cuts.get(stem, ()):
                fewest[path] = min(cuts + more_cuts, fewest.get(path, cuts + more_cuts))
        if not fewest:
            raise PictureError(f"{hr}: has no partner of the same name in {self.folder}")
        closest = [path for path, cuts in fewest.items() if cuts == min(fewest.values())]
        if len(closest) > 1:
            names = " and ".join(path.name for path in closest)
            raise PictureError(f"{hr}: {names} in {self.folder} could all be its partner; move one away")
        return closest[0]


@cache
def _stems(path: Path) -> list[str]:
    """The name, and what is left of it without `_x4`, without `_SR` before that, and so on."""
    stems = [path.stem]
    while (shorter := _SUFFIX.sub("", stems[-1])) != stems[-1] and shorter:
        stems.append(shorter)
    return stems
