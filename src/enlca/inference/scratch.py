"""Files that appear whole or not at all, whatever ends the work: a hidden folder holds what is unfinished.

Each file is written in a folder of its own beside its final place, `.enlca-*.part`, and renamed. Who stops
early removes that folder with what is in it. A killed process cannot, so a later run does: the folder holds a
lock, which dies with its process, and one whose lock nobody holds is rubbish.
"""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from enlca.image.files import write_rows
from enlca.image.picture import PictureError
from enlca.image.rows import PictureRows

UNFINISHED = ".enlca-*.part"
# Files of that name, which hold no lock, and folders where locks do not work are rubbish after an hour.
OLD = 3600.0
LOCK = "lock"


class Scratch:
    """Writes pictures until it is abandoned."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._folder: Path | None = None
        self._abandoned = False

    def write(self, path: Path, rows: PictureRows, *, quality: int) -> tuple[str, ...]:
        """Write a picture; see `write_rows`, also for its remarks and what is raised, and OSError."""
        with self._unfinished(path.parent) as folder:
            part = folder / f"picture{path.suffix}"
            try:
                remarks = write_rows(part, rows, quality=quality)
            except PictureError as error:
                raise PictureError(str(error).replace(str(part), str(path))) from error
            os.replace(part, path)
        return remarks

    def abandon(self) -> None:
        """Remove what is unfinished, now; from here on nothing is written."""
        with self._guard:
            self._abandoned = True
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _unfinished(self, parent: Path) -> Iterator[Path]:
        with self._guard:
            if self._abandoned:
                raise PictureError(f"{parent}: nothing more is written, the work was stopped")
            folder, lock = _locked_folder(parent)
            self._folder = folder
        try:
            yield folder
        finally:
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)
            self._folder = None


def _locked_folder(parent: Path) -> tuple[Path, BaseFileLock]:
    while True:
        folder = parent / UNFINISHED.replace("*", secrets.token_hex(8))
        lock = FileLock(folder / LOCK)
        folder.mkdir()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            # Another run, just starting, has taken it for rubbish before it was locked.
            continue
        except (OSError, NotImplementedError):
            return folder, lock
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()


def sweep(folder: Path) -> None:
    """Remove what killed runs left unfinished in a folder; what cannot be removed stays."""
    with suppress(OSError):
        for path in folder.glob(UNFINISHED):
            if path.is_dir():
                _remove_if_nobodys(path)
            elif _old(path):
                path.unlink(missing_ok=True)


def _remove_if_nobodys(folder: Path) -> None:
    try:
        with FileLock(folder / LOCK).acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return
    except (OSError, NotImplementedError):
        if _old(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > OLD
