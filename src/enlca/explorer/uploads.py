"""Folders that this process made, files that visitors uploaded, and the reading of a file."""

import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enlca.errors import PictureError, TooManyPixels
from enlca.image.files import open_image
from enlca.image.picture import Picture, collect

PREFIX = "enlca-explore-"
# Bytes of an uploaded file: of metadata, and of each pixel (RGBA of 16 bits as text takes 24).
BYTES_OF_METADATA, BYTES_OF_PIXEL = 32 << 20, 24
# Uploads that no page has opened yet, older ones are deleted; and files of one upload, for the batch.
MAX_UNOPENED, MAX_FILES = 200, 100


class OwnFolder:
    """A folder that this object made, and the only one that it removes.

    It is identified by device and inode: if another folder is at its path when `remove` is called, that one
    stays.

    Args:
        parent: where to make it; None is the system's folder for temporary files.
        prefix: of its name.
    """

    def __init__(self, parent: Path | None = None, *, prefix: str = ""):
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
        self._made: tuple[int, int] | None = _folder_at(self.path)

    def remove(self) -> None:
        """Delete the folder and all files in it, once."""
        made, self._made = self._made, None
        if made is not None and _folder_at(self.path) == made:
            shutil.rmtree(self.path, ignore_errors=True)


def _folder_at(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the folder at a path; None for anything else, also a link to a folder."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that no other user can read; delete it with its content afterwards."""
    folder = OwnFolder(prefix=PREFIX)
    try:
        yield folder.path
    finally:
        folder.remove()


class Uploads:
    """Files that visitors sent and that no page has opened yet, each in a folder of its own.

    A path that a client sends is looked up here only, never in the file system. The name of the folder has
    128 random bits that only the sender gets, so only the sender can open the file, and only once.

    Args:
        root: parent of the folders.
        most: number of files beyond which the oldest is deleted.
    """

    def __init__(self, root: Path, *, most: int = MAX_UNOPENED):
        self.root = root
        self.most = most
        self._unopened: OrderedDict[str, OwnFolder] = OrderedDict()
        self._guard = threading.Lock()

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and path in self._unopened

    def folder(self) -> OwnFolder:
        """Make a folder to receive one upload."""
        return OwnFolder(self.root, prefix=f"{secrets.token_hex(16)}-")

    def add(self, path: Path, folder: OwnFolder) -> None:
        """Register a file until a page opens it; `folder` is removed with it.

        Raises:
            ValueError: `path` is not a regular file, or not in a folder directly inside `folder`.
        """
        if path.resolve() != path or path.parent.parent != folder.path or not _is_regular(path):
            raise ValueError(f"{path} is not a file of the upload in {folder.path}")
        with self._guard:
            self._unopened[str(path)] = folder
            surplus = [self._unopened.popitem(last=False)[1] for _ in range(len(self._unopened) - self.most)]
        for old in surplus:
            old.remove()

    def apart(self, path: Path) -> tuple[Path, OwnFolder]:
        """Move one of several received files into a folder of its own; return its new path and the folder."""
        folder = self.folder()
        place = folder.path / path.parent.name
        place.mkdir()
        return path.rename(place / path.name), folder

    @contextmanager
    def claimed(self, path: object) -> Iterator[Path]:
        """Yield the file of an upload; delete it afterwards.

        Raises:
            PictureError: no such upload, or opened before.
        """
        with self._guard:
            folder = self._unopened.pop(path, None) if isinstance(path, str) else None
        if folder is None:
            raise PictureError("There is no upload at this path: drop the picture once more.")
        try:
            # Checked again: the file may have changed since `add`.
            file = Path(str(path))
            if file.resolve() != file or not _is_regular(file):
                raise PictureError(f"{file.name}: the upload has changed; drop the picture once more")
            yield file
        finally:
            folder.remove()

    def close(self) -> None:
        """Delete all files that were not opened."""
        with self._guard:
            folders = list(self._unopened.values())
            self._unopened.clear()
        for folder in folders:
            folder.remove()


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def read_upload(path: Path, *, max_megapixels: float) -> Picture:
    """Decode an uploaded picture; errors call it by its name, not by its path on the server.

    Raises:
        PictureError: not a picture, damaged, or, by its header, larger than `max_megapixels`.
    """
    try:
        return collect(open_image(path, max_bits=16, max_pixels=int(1e6 * max_megapixels), name=path.name))
    except TooManyPixels as error:
        size = f"{error.width} x {error.height}, {error.width * error.height / 1e6:.1f} megapixels"
        raise PictureError(
            f"{path.name}: {size}; this page looks into up to {max_megapixels:g}; the tab Batch upscales "
            "larger ones (enlca explore --max-megapixels raises that; enlca upscale takes any size)"
        ) from error
