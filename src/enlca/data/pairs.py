"""Folders of pictures: HR alone, or pairs of HR and LR in one of the usual layouts.

Letters:  h, w height and width of LR   H, W of HR   S scale
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from enlca.data.names import Partners
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


def find_originals(folder: Path, scale: int) -> list[Path]:
    """Return the HR pictures of a benchmark folder, whatever its layout.

    Raises:
        PictureError: there are none.
    """
    return find_pictures((find_layout(folder, scale) or (folder, None))[0])


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
    hr = _hr(pair, scale)
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


def load_unrounded_pair(
    pair: Pair, scale: int
) -> tuple[Float64[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W 3"]]:
    """Return LR and HR as `load_pair`, but LR always made here and kept in float64 from 0 to 255.

    Raises:
        PictureError: the HR file cannot be used.
    """
    hr = _hr(pair, scale)
    return as_rgb(imresize(hr.astype(np.float64), Fraction(1, scale))), as_rgb(hr)


def _hr(pair: Pair, scale: int) -> UInt8[np.ndarray, "H W C"]:
    if pair.fault:
        raise PictureError(pair.fault)
    return read_hr(pair.hr, scale).pixels


def load_made(
    hr_path: Path, sr_path: Path, scale: int
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]:
    """Return an SR picture that exists already, and HR mod-cropped.

    Raises:
        PictureError: a file cannot be used, or the two sizes differ.
    """
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


def as_rgb(
    pixels: UInt8[np.ndarray, "H W C"] | Float64[np.ndarray, "H W C"],
) -> UInt8[np.ndarray, "H W 3"] | Float64[np.ndarray, "H W 3"]:
    """Return a view in which a grey channel is repeated three times; RGB is unchanged."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def match(hr: Sequence[Path], others: Sequence[Path]) -> list[Pair]:
    """Return a pair for each of `hr`; its `fault` says where there is no partner, or more than one."""
    partners = Partners(hr, others)
    pairs = []
    for path in hr:
        try:
            pairs.append(Pair(path.stem, path, partners.of(path)))
        except PictureError as error:
            pairs.append(Pair(path.stem, path, fault=str(error)))
    return pairs
