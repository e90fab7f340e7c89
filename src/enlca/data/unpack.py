"""Archives of pictures from anywhere: read to the last byte, never written outside, whole or not at all."""

import gzip
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from enlca.errors import ArchiveError
from enlca.image.files import SUFFIXES

_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError)


def unpack(archive: Path, staging: Path) -> Path:
    """Unpack the pictures of a .zip or .tar.gz to `staging`; the folder there that holds them all.

    Raises:
        ArchiveError: it is damaged or cut short, holds no pictures, or has a member that would land
            outside `staging` or is no plain file. Nothing is left in `staging` then.
    """
    shutil.rmtree(staging, ignore_errors=True)
    written = []
    try:
        with _members(archive) as members:
            for name, file in members:
                path = staging / _inside(name)
                if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                    _drain(file.read)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as out:
                    shutil.copyfileobj(file, out, 1 << 20)
                written.append(path)
        if not written:
            raise ArchiveError("holds no pictures")
    except _DAMAGED as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise ArchiveError(f"is damaged ({' '.join(str(error).split()) or type(error).__name__})") from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Path(os.path.commonpath([path.parent for path in written]))


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Names and contents of all plain files, with the checksum of each, or of all, looked at."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            yield _of_zip(opened)
    else:
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as opened:
            yield _of_tar(opened)
            # The checksum comes after the last member, where tarfile does not look.
            _drain(unzipped.read)


def _of_zip(opened: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for member in opened.infolist():
        if not member.is_dir():
            with opened.open(member) as file:
                yield member.filename, file


def _of_tar(opened: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    for member in opened:
        if member.isdir():
            continue
        file = opened.extractfile(member) if member.isreg() else None
        if file is None:
            raise ArchiveError(f"has a member that is no plain file ({member.name}): refused")
        yield member.name, file


def _inside(name: str) -> PurePosixPath:
    """The member's path, if that stays inside the folder it is unpacked to."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise ArchiveError(f"has a member that would land outside its folder ({name}): refused")
    return path


def _drain(read: Callable[[int], bytes]) -> None:
    while read(1 << 20):
        pass
