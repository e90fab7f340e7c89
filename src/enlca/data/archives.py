"""Archives of pictures from untrusted sources: checked in full, then unpacked into one folder, or refused."""

import gzip
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from enlca.errors import ArchiveError
from enlca.image.files import SUFFIXES

# Unpacked bytes per byte of the archive: pictures hardly shrink, a decompression bomb has a ratio of 1000.
MAX_RATIO = 50
# Small archives may exceed the ratio up to this size.
ALWAYS_ALLOWED = 1 << 26

_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, shutil.ReadError, zlib.error, EOFError,
    RuntimeError,
)  # fmt: skip


def unpack(archive: Path, staging: Path) -> Path:
    """Unpack the pictures of a .zip or .tar.gz to `staging`; return the innermost folder that holds them all.

    Raises:
        ArchiveError: it is damaged or cut short, holds no pictures, unpacks to far more bytes than it has
            itself, or has a member that would land outside `staging` or is neither a file nor a folder.
            Nothing is left in `staging` then.
    """
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _check(archive)
        if archive.suffix == ".zip":
            shutil.unpack_archive(archive, staging, "zip")
        else:
            # Python before 3.11.4 has no filter; `_check` has refused everything that it would.
            settings: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            shutil.unpack_archive(archive, staging, "gztar", **settings)
        pictures = []
        for path in [path for path in staging.rglob("*") if path.is_file()]:
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                pictures.append(path)
            else:
                path.unlink()
        if not pictures:
            raise ArchiveError("holds no pictures")
    except _DAMAGED as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise ArchiveError(f"is damaged ({' '.join(str(error).split()) or type(error).__name__})") from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Path(os.path.commonpath([path.parent for path in pictures]))


def _check(archive: Path) -> None:
    """Refuse an archive by the names, kinds and sizes of its members, and by the checksum at its end.

    The sizes are binding: both formats read no more than that many bytes of a member.
    """
    limit = max(ALWAYS_ALLOWED, MAX_RATIO * archive.stat().st_size)
    total = 0
    for name, size in _zip_members(archive) if archive.suffix == ".zip" else _tar_members(archive, limit):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
            raise ArchiveError(f"has a member that would land outside its folder ({name}): refused")
        total += size
        if total > limit:
            raise _too_large(limit)


def _zip_members(archive: Path) -> Iterator[tuple[str, int]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            yield member.filename, member.file_size


def _tar_members(archive: Path, limit: int) -> Iterator[tuple[str, int]]:
    with gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as opened:
        for member in opened:
            if not (member.isreg() or member.isdir()):
                raise ArchiveError(f"has a member that is no plain file ({member.name}): refused")
            yield member.name, member.size
        # The checksum follows the last member, where tarfile does not look.
        while unzipped.read(1 << 20):
            if unzipped.tell() > limit:
                raise _too_large(limit)


def _too_large(limit: int) -> ArchiveError:
    return ArchiveError(
        f"would unpack to more than {limit >> 20} MiB, {MAX_RATIO} times its own size: refused"
    )
