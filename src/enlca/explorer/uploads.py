"""What may be dropped on the page, and the one folder that holds all that visitors bring and get."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enlca.image.files import open_image
from enlca.image.picture import Picture, PictureError, TooManyPixels

PREFIX = "enlca-explore-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that nobody else can read, and that is gone afterwards with everything in it."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_upload(path: Path, *, max_megapixels: float) -> Picture:
    """Decode an uploaded picture; errors call it by its name, not by its path on the server.

    Raises:
        PictureError: not a picture, damaged, or, by its header, larger than `max_megapixels`.
    """
    try:
        return open_image(path, max_bits=16, max_pixels=int(1e6 * max_megapixels)).collected()
    except TooManyPixels as error:
        size = f"{error.width} x {error.height}, {error.width * error.height / 1e6:.1f} megapixels"
        raise PictureError(
            f"{path.name}: {size}; this page takes up to {max_megapixels:g} (enlca explore --max-megapixels "
            "raises that; enlca upscale takes any size)"
        ) from error
    except PictureError as error:
        raise PictureError(str(error).replace(str(path), path.name)) from error
