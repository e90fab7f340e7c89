"""Folders of pictures: HR alone, or pairs of HR and LR in one of the usual layouts.

Letters:  h, w height and width of LR   H, W of HR   S scale
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.errors import PictureError
from enlca.image.files import find_pictures
from enlca.image.picture import Picture, read_image
from enlca.image.resize import imresize, mod_crop

SCALES = (2, 3, 4)
# HR and LR folders of known data sets; {s} is the scale, {name} the name of the folder.
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
# DIV2K keeps both halves in one folder: training pictures must never be used for a score.
TRAIN_LAYOUT = ("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X{s}")


@dataclass(frozen=True)
class Pair:
    """An HR picture and its LR picture on disk.

    Attributes:
        name: of the picture.
        hr: its file.
        lr: the LR file; None where LR is made from HR.
        fault: why the pair cannot be used; None if it can.
    """

    name: str
    hr: Path
    lr: Path | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Part:
    """Pictures of a folder that belong together.

    Attributes:
        hr, lr: the folders they are in; `lr` is None where LR is made from HR.
        scale: the only scale that they serve; None for any.
        pairs: each named by its HR picture's path inside the folder.
        orphans: LR pictures without an HR picture.
    """

    hr: Path
    lr: Path | None
    scale: int | None
    pairs: list[Pair]
    orphans: list[Path]


def find_pairs(folder: Path, scale: int) -> list[Pair]:
    """Return the pairs of a benchmark folder in one of LAYOUTS; a flat folder holds HR pictures alone.

    Raises:
        PictureError: there are no HR pictures.
    """
    hr, lr = find_layout(folder, scale) or (folder, None)
    return _alone(find_pictures(hr)) if lr is None else match(find_pictures(hr), find_pictures(lr))


def training_pairs(folder: Path, scale: int) -> list[Pair]:
    """Return the training pairs of a folder: of a known layout, else all pictures as HR, recursively.

    Of DIV2K's own folder these are the training half.

    Raises:
        PictureError: there are no pictures, or only those of another scale.
    """
    train = _part(folder, scale, (TRAIN_LAYOUT,))
    return (train or _part(folder, scale, LAYOUTS) or _flat(folder, scale)).pairs


def find_parts(folder: Path, scale: int | None) -> list[Part]:
    """Return all that a folder holds, for one scale or for each that it has LR pictures of.

    Raises:
        PictureError: there are no pictures, or only those of another scale.
    """
    scales = SCALES if scale is None else (scale,)
    sets = ((TRAIN_LAYOUT,), LAYOUTS)
    found = [part for s in scales for layouts in sets if (part := _part(folder, s, layouts))]
    # HR pictures with LR ones at some scale are not also HR pictures alone.
    paired = {part.hr for part in found if part.lr}
    parts = {(part.hr, part.lr): part for part in found if part.lr or part.hr not in paired}
    return list(parts.values()) or [_flat(folder, scale)]


def find_layout(
    folder: Path, scale: int, layouts: Sequence[tuple[str, str]] = LAYOUTS
) -> tuple[Path, Path | None] | None:
    """Return the HR and LR folders inside `folder`, by the first of `layouts` that has both.

    The second is None where only HR exists; the result is None where no layout fits.
    """
    names = {"s": scale, "name": folder.resolve().name}
    sides = [(folder / hr.format(**names), folder / lr.format(**names)) for hr, lr in layouts]
    found = [(hr, lr if lr.is_dir() else None) for hr, lr in sides if hr.is_dir()]
    return min(found, key=lambda pair: pair[1] is None, default=None)


def _part(folder: Path, scale: int, layouts: Sequence[tuple[str, str]]) -> Part | None:
    sides = find_layout(folder, scale, layouts)
    if sides is None:
        return None
    hr, lr = sides
    if lr is None:
        only = scale if hr.name.endswith(f"x{scale}") else None
        return Part(hr, None, only, _named(folder, _alone(find_pictures(hr))), [])
    candidates = find_pictures(lr)
    pairs = match(find_pictures(hr), candidates)
    used = {pair.lr for pair in pairs}
    return Part(hr, lr, scale, _named(folder, pairs), [path for path in candidates if path not in used])


def _flat(folder: Path, scale: int | None) -> Part:
    """Return every picture under the folder, but refuse to take LR of another scale for HR."""
    others = [other for other in SCALES if other != scale and find_layout(folder, other)]
    if others:
        have = " and ".join(f"x{other}" for other in others)
        hr, _ = find_layout(folder, others[0]) or (folder, None)
        raise PictureError(
            f"{folder}: holds pictures for {have}, none for x{scale}; name {hr} to have LR made from these"
        )
    return Part(folder, None, None, _named(folder, _alone(find_pictures(folder, recursive=True))), [])


def _alone(files: Sequence[Path]) -> list[Pair]:
    return [Pair(path.stem, path) for path in files]


def _named(folder: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """Name pairs by their path inside the folder, which is unique."""
    return [replace(pair, name=pair.hr.relative_to(folder).as_posix()) for pair in pairs]


def load_pair(pair: Pair, scale: int) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W 3"]]:
    """Return LR and HR: HR mod-cropped; LR from disk, else MATLAB's bicubic of HR.

    A grey picture is degraded as it is and counts as RGB with equal channels.

    Raises:
        PictureError: there is no partner, a file cannot be used, or the two sizes do not fit.
    """
    if pair.fault:
        raise PictureError(pair.fault)
    hr = read_hr(pair.hr, scale).pixels
    if pair.lr is None:
        lr = imresize(hr, Fraction(1, scale))
    else:
        lr = read_image(pair.lr).pixels
        if (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
            raise PictureError(
                f"{pair.lr}: {lr.shape[1]}x{lr.shape[0]} times {scale} is not the size of its HR picture"
                f" ({hr.shape[1]}x{hr.shape[0]})"
            )
    return as_rgb(lr), as_rgb(hr)


def load_made(
    hr_path: Path, made: Sequence[Path], scale: int
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]:
    """Return the picture of `made` (super-resolved) that belongs to `hr_path`, and HR mod-cropped.

    Raises:
        PictureError: there is no partner, a file cannot be used, or the two sizes differ.
    """
    sr_path = partner(hr_path, made)
    hr = read_hr(hr_path, scale).rgb
    sr = read_image(sr_path).rgb
    if sr.shape != hr.shape:
        raise PictureError(
            f"{sr_path}: {sr.shape[1]}x{sr.shape[0]} is not the size of its original, mod-cropped"
            f" to x{scale} ({hr.shape[1]}x{hr.shape[0]})"
        )
    return sr, hr


def read_hr(path: Path, scale: int) -> Picture:
    """Read an HR picture, mod-cropped to `scale`, without its alpha.

    Raises:
        PictureError: it cannot be read, or is smaller than one LR pixel.
    """
    picture = read_image(path)
    height, width = picture.pixels.shape[:2]
    if min(height, width) < scale:
        raise PictureError(f"{path}: {width}x{height} is less than one pixel after x{scale}")
    return Picture(mod_crop(picture.pixels, scale))


def as_rgb(pixels: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return a view in which a grey channel is repeated three times; RGB is unchanged."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


# Suffixes that methods and data sets append to a picture's name.
_SUFFIX = re.compile(r"(?i)(_?x[234]|_(sr|hr|lr|gt|enlcn[\w-]*|edsr[\w-]*|bicubic))$")


def match(hr: Sequence[Path], lr: Sequence[Path]) -> list[Pair]:
    """Return a pair for each of `hr`; its `fault` says where there is no partner, or more than one."""
    partners = _Partners(lr)
    pairs = []
    for path in hr:
        try:
            pairs.append(Pair(path.stem, path, partners.of(path)))
        except PictureError as error:
            pairs.append(Pair(path.stem, path, fault=str(error)))
    return pairs


def partner(hr: Path, made: Sequence[Path]) -> Path:
    """Return the picture of `made` that belongs to `hr`: the one with the fewest suffixes to cut off.

    Raises:
        PictureError: there is none, or more than one.
    """
    return _Partners(made).of(hr)


class _Partners:
    """Pictures by name, with and without suffixes: comparing thousands pairwise would take a minute."""

    def __init__(self, made: Sequence[Path]):
        self.folder = made[0].parent
        self.cuts: dict[str, list[tuple[int, Path]]] = {}
        for path in made:
            for cuts, stem in enumerate(_stems(path)):
                self.cuts.setdefault(stem, []).append((cuts, path))

    def of(self, hr: Path) -> Path:
        """Return the picture that belongs to `hr`; see `partner`."""
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
    """Return the stem, and what is left of it without `_x4`, without `_SR` before that, and so on."""
    stems = [path.stem]
    while (shorter := _SUFFIX.sub("", stems[-1])) != stems[-1] and shorter:
        stems.append(shorter)
    return stems
