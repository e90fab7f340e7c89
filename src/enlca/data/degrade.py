"""A folder of large pictures to a folder of small ones, as benchmarks make them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from enlca.errors import EnlcaError, PictureError
from enlca.image.files import find_pictures
from enlca.image.picture import Picture, read_image, write_image
from enlca.image.resize import imresize, mod_crop


def degrade_folder(
    hr_folder: Path,
    lr_folder: Path,
    *,
    scale: int,
    on_picture: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[str]:
    """Mod-crop and shrink each picture by MATLAB's bicubic; grey stays grey. Returns a line per failure.

    Raises:
        PictureError: no pictures, the two folders are one, or two pictures would become one file.
    """
    files = find_pictures(hr_folder)
    if lr_folder.resolve() == hr_folder.resolve():
        raise PictureError(f"{lr_folder}: the small pictures need a folder of their own")
    stems: dict[str, Path] = {}
    for path in files:
        if path.stem in stems:
            raise PictureError(f"{stems[path.stem]} and {path} would both become {path.stem}.png; rename one")
        stems[path.stem] = path
    try:
        lr_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"{lr_folder}: cannot be made: {error.strerror or error}") from error
    failures = []
    for done, path in enumerate(files):
        on_picture(path.name, done, len(files))
        try:
            picture = read_image(path)
            if picture.alpha is not None:
                raise PictureError(f"{path}: has transparency, which benchmarks do not; flatten it first")
            if min(picture.pixels.shape[:2]) < scale:
                raise PictureError(f"{path}: smaller than one pixel after x{scale}")
            lr = imresize(mod_crop(picture.pixels, scale), Fraction(1, scale))
            write_image(lr_folder / f"{path.stem}.png", Picture(lr))
        except EnlcaError as error:
            failures.append(str(error))
    on_picture("", len(files), len(files))
    return failures
