"""What may be dropped on the page, and the one folder that holds all that visitors bring and get."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enlca.errors import PictureError
from enlca.image.files import open_image
from enlca.image.picture import Picture, collect

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
    """The picture in a file that somebody dropped; in errors it has its own name, not the path it has here.

    Raises:
        PictureError: not a picture, damaged, or larger than `max_megapixels`.
    """
    try:
        rows = open_image(path, max_bits=16)
        megapixels = rows.width * rows.height / 1e6
        if megapixels > max_megapixels:
            size = f"{rows.width} x {rows.height}, {megapixels:.1f} megapixels"
            raise PictureError(
                f"{path}: {size}; this page takes up to {max_megapixels:g} (enlca explore --max-megapixels "
                "raises that; enlca upscale takes any size)"
            )
        return collect(rows)
    except PictureError as error:
        raise PictureError(str(error).replace(str(path), path.name)) from error
