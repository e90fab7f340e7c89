"""Files that appear whole or not at all, and the user's cache directory.

A file is written inside a hidden folder beside its final place, `.enlca-*.part`, and renamed when it is
complete. The folder is removed on success and on failure. A killed process leaves it behind, so a later run
removes it: the folder holds a lock file, and the operating system drops the lock when its process ends.
"""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from enlca.errors import EnlcaError, Stopped

PARTIAL = ".enlca-*.part"
LOCK = "lock"
# Seconds after which a partial folder without a working lock counts as left behind.
STALE_AFTER = 3600.0


class PartialFiles:
    """The unfinished files of one job, which another thread can remove at once with `abandon`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._folders: set[Path] = set()
        self._abandoned = False

    @contextmanager
    def folder(self, parent: Path) -> Iterator[Path]:
        """Yield a locked, hidden folder in `parent`; remove it and its content afterwards.

        Raises:
            Stopped: after `abandon`.
            OSError: the folder cannot be made.
        """
        with self._guard:
            if self._abandoned:
                raise Stopped(f"{parent}: nothing more is written, the work was stopped")
            folder, lock = _locked_folder(parent)
            self._folders.add(folder)
        try:
            yield folder
        finally:
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)
            self._folders.discard(folder)

    @contextmanager
    def atomic_path(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path with the suffix of `path`; rename it to `path` if the block succeeds.

        The content is on the disk before the rename, so a power failure leaves the old file or the new one.

        Raises:
            Stopped: after `abandon`.
            OSError: no space, no permission, no such folder, or `abandon` during the block.
        """
        with self.folder(path.parent) as folder:
            part = folder / f"part{path.suffix}"
            yield part
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(part, path)

    def abandon(self) -> None:
        """Remove all unfinished files now and refuse to begin others."""
        with self._guard:
            self._abandoned = True
            # A thread may end one meanwhile.
            for folder in list(self._folders):
                shutil.rmtree(folder, ignore_errors=True)


def partial_folder(parent: Path) -> AbstractContextManager[Path]:
    """Return the context of a temporary folder in `parent`; see `PartialFiles.folder`."""
    return PartialFiles().folder(parent)


def atomic_path(path: Path) -> AbstractContextManager[Path]:
    """Return the context of a file that appears whole or not at all; see `PartialFiles.atomic_path`."""
    return PartialFiles().atomic_path(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` appears whole or not at all. Raises OSError."""
    with atomic_path(path) as part:
        part.write_bytes(content)


def sweep(folder: Path) -> None:
    """Remove the partial files that killed processes left in `folder`; what cannot be removed stays."""
    with suppress(OSError):
        for path in folder.glob(PARTIAL):
            if path.is_dir():
                _remove_if_unlocked(path)
            elif _is_stale(path):
                path.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path, name: str, busy: EnlcaError) -> Iterator[None]:
    """Hold the lock file `name` in a folder; raise `busy` if another process holds it.

    A killed process holds none. On a file system without locks there is no protection.
    """
    path = folder / name
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
        # Removed by its last holder in this moment: the lock is of no file any more.
        if not path.exists():
            raise busy
    except Timeout:
        raise busy from None
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def as_utf8(name: str) -> str:
    """Return a file name with the bytes in it that are not UTF-8 escaped, for what holds text only."""
    return name.encode("utf-8", "backslashreplace").decode()


def cache_dir() -> Path:
    """Return the user's cache directory for this package, which need not exist.

    Raises:
        OSError: this user has no home directory.
    """
    import platformdirs

    try:
        path = platformdirs.user_cache_path("enlca", appauthor=False, opinion=False)
    except RuntimeError as error:
        # Of a user whom the system does not know.
        raise FileNotFoundError(f"no cache directory: {error}") from error
    if not path.is_absolute():
        raise FileNotFoundError(f"no cache directory: {path} is not an absolute path")
    return path


def _locked_folder(parent: Path) -> tuple[Path, BaseFileLock]:
    """Make a partial folder in `parent` and lock it; return the folder and the lock."""
    while True:
        folder = parent / PARTIAL.replace("*", secrets.token_hex(8))
        lock = FileLock(folder / LOCK)
        folder.mkdir()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            # A starting process swept the folder before it was locked.
            continue
        except (OSError, NotImplementedError):
            return folder, lock
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()


def _remove_if_unlocked(folder: Path) -> None:
    try:
        with FileLock(folder / LOCK).acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return
    except (OSError, NotImplementedError):
        if _is_stale(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_stale(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > STALE_AFTER
