"""HR folders to LR folders, by MATLAB's bicubic or a preset; HR patches blurred before LR is made of them.

Training pictures that were downscaled are sharper than photographs at their native resolution; a blur of some
patches makes up for it.

Letters:  h, w height and width of a patch   H, W of a picture   P side of the LR patch   S scale
"""

import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from enlca.data.kernels import along
from enlca.data.recipes import Degradation, degrade
from enlca.errors import EnlcaError, PictureError
from enlca.image.files import find_pictures
from enlca.image.picture import Picture, read_image, write_image
from enlca.image.resize import imresize, mod_crop

CLEAN = Degradation(preset="clean")
# Largest sigma that a configuration may ask for, in HR pixels.
MAX_SIGMA = 4.0
# LR pixels beside a patch that its own depend on: MATLAB's bicubic reaches 2 to each side.
BICUBIC_REACH = 2


class Degraded(NamedTuple):
    """How many LR files were made and how many were there already, and a line for each failure."""

    made: int
    kept: int
    failures: list[str]


def degrade_folder(
    hr_folder: Path,
    lr_folder: Path,
    *,
    scale: int,
    degradation: Degradation = CLEAN,
    seed: int = 0,
    on_picture: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Degraded:
    """Mod-crop and degrade each picture; grey stays grey.

    What happens to a picture depends on `seed` and its name alone. An LR file that is there already stays: it
    is a failure if its pixels are others.

    Raises:
        PictureError: no pictures, the two folders are one, or two pictures would become one file.
    """
    files = find_pictures(hr_folder)
    if lr_folder.resolve() == hr_folder.resolve():
        raise PictureError(f"{lr_folder}: LR pictures need a folder of their own")
    stems: dict[str, Path] = {}
    for path in files:
        if path.stem in stems:
            raise PictureError(f"{stems[path.stem]} and {path} would both become {path.stem}.png; rename one")
        stems[path.stem] = path
    try:
        lr_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"{lr_folder}: cannot be made: {error.strerror or error}") from error
    counts, failures = {True: 0, False: 0}, []
    for done, path in enumerate(files):
        on_picture(path.name, done, len(files))
        try:
            picture = read_image(path)
            if picture.alpha is not None:
                raise PictureError(f"{path}: has transparency, which benchmarks do not; flatten it first")
            if min(picture.pixels.shape[:2]) < scale:
                raise PictureError(f"{path}: smaller than one pixel after x{scale}")
            hr = mod_crop(picture.pixels, scale)
            lr = degrade_picture(hr, path.stem, scale=scale, degradation=degradation, seed=seed)
            counts[_write_new(lr_folder / f"{path.stem}.png", lr)] += 1
        except EnlcaError as error:
            failures.append(str(error))
    on_picture("", len(files), len(files))
    return Degraded(counts[True], counts[False], failures)


def degrade_picture(
    hr: UInt8[np.ndarray, "H W C"], name: str, *, scale: int, degradation: Degradation, seed: int
) -> UInt8[np.ndarray, "h w C"]:
    """Return the LR picture of a mod-cropped HR picture: a function of its pixels, its name and the seed.

    Raises:
        PictureError: a codec cannot hold it.
    """
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return degrade(hr, degradation.draw(random, scale=scale), scale=scale, random=random)


def _write_new(path: Path, pixels: UInt8[np.ndarray, "h w C"]) -> bool:
    """Write a picture, unless it is there, and return whether it was. Raises PictureError: another one is."""
    if not path.exists():
        write_image(path, Picture(pixels))
        return True
    if not np.array_equal(read_image(path).pixels, pixels):
        raise PictureError(f"{path}: exists, with other pixels; name another folder, or delete it")
    return False


def gaussian_blur(pixels: UInt8[np.ndarray, "h w 3"], sigma: float) -> UInt8[np.ndarray, "h w 3"]:
    """Convolve with a Gaussian of `sigma` pixels, mirrored at the edges; 0 returns `pixels`."""
    if sigma == 0:
        return pixels
    radius = blur_radius(sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    weights /= weights.sum()
    blurred = along(along(pixels.astype(np.float32), weights, axis=0), weights, axis=1)
    return np.clip(np.round(blurred), 0, 255).astype(np.uint8)


def blur_radius(sigma: float) -> int:
    """Return the radius in pixels at which a Gaussian of `sigma` is cut off."""
    return int(np.ceil(3 * sigma))


def softened_patch(
    hr_sides: Sequence[UInt8[np.ndarray, "H W 3"]],
    *,
    top: int,
    left: int,
    patch: int,
    scale: int,
    sigma: float,
) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Blur pictures of HR size; return the LR patch of the first one at (`top`, `left`), then all HR patches.

    Equal to the bit to blurring and degrading the whole pictures, but only the necessary region is computed.
    `top`, `left` and `patch` are in LR pixels, `sigma` in HR pixels.
    """
    margin = BICUBIC_REACH + -(-blur_radius(sigma) // scale)
    rows, columns = (
        slice(max(0, start - margin), min(size // scale, start + patch + margin))
        for start, size in zip((top, left), hr_sides[0].shape, strict=False)
    )
    region = (
        slice(scale * rows.start, scale * rows.stop),
        slice(scale * columns.start, scale * columns.stop),
    )
    y, x = top - rows.start, left - columns.start
    blurred = [gaussian_blur(side[region], sigma) for side in hr_sides]
    lr = imresize(blurred[0], Fraction(1, scale))
    inner = (slice(scale * y, scale * (y + patch)), slice(scale * x, scale * (x + patch)))
    return [lr[y : y + patch, x : x + patch], *(side[inner] for side in blurred)]
