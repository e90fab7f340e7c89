"""Archives of data sets: which ones there are (`sources.toml`), and how untrusted ones are unpacked.

An archive is checked in full, then unpacked into one folder, or refused.
"""

import gzip
import lzma
import os
import shutil
import struct
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from enlca.errors import ArchiveError, EnlcaError
from enlca.image.files import SUFFIXES

# Unpacked bytes per byte of the archive: pictures hardly shrink, a decompression bomb has a ratio of 1000.
MAX_RATIO = 50
# Small archives may exceed the ratio up to this size.
ALWAYS_ALLOWED = 1 << 26

# The last ones are what zipfile and tarfile raise, undocumented, for headers that contradict themselves.
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, shutil.ReadError, zlib.error, lzma.LZMAError,
    EOFError, RuntimeError, ValueError, LookupError, TypeError, OverflowError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """A .zip or .tar.gz of pictures.

    Attributes:
        file: its name at the source's address.
        folder: target of its pictures inside the data set's folder.
        size: in bytes, if known.
        known_hash: "sha256:..." or "md5:..." in hexadecimal, if known.
        scale: of LR pictures; None for HR.
    """

    file: str
    folder: str
    size: int | None = None
    known_hash: str | None = None
    scale: int | None = None


@dataclass(frozen=True)
class Source:
    """A data set that can be downloaded.

    Attributes:
        title: name of its folder.
        base: address of its archives.
        archives: what it consists of.
        note: size and licence, for the list.
        ask: where to request it, if it must not be downloaded without permission.
    """

    title: str
    base: str = ""
    archives: tuple[Archive, ...] = ()
    note: str = ""
    ask: str | None = None


def _read_sources() -> dict[str, Source]:
    tables = tomllib.loads(Path(__file__).with_name("sources.toml").read_text("utf-8"))
    sources = {}
    for name, table in tables.items():
        included = tables.get(table.get("includes"), {})
        archives = [Archive(**one) for part in (table, included) for one in part.get("archives", ())]
        facts = {key: table[key] for key in ("base", "note", "ask") if key in table}
        sources[name] = Source(table["title"], archives=tuple(archives), **facts)
    return sources


SOURCES = _read_sources()


def find_source(name: str) -> Source:
    """Return the source called `name`, ignoring case.

    Raises:
        EnlcaError: there is none of that name, or it must be requested; the message says where.
    """
    source = SOURCES.get(name.lower())
    if source is None:
        raise EnlcaError(f"unknown data set {name!r}; known: {', '.join(SOURCES)} (see --list)")
    if source.ask:
        raise EnlcaError(f"{source.title} cannot be fetched without asking: {source.ask}")
    return source


def listing() -> str:
    """Return a line per source: name, size where known, note."""
    lines = []
    for name, source in SOURCES.items():
        sizes = [archive.size for archive in source.archives]
        known = [size for size in sizes if size is not None]
        size = f"{sum(known) / 1e9:.1f} GB" if known and len(known) == len(sizes) else "-"
        lines.append(f"{name:12}{size:>8}  {source.note}\n")
    return "".join(lines)


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
            # A sparse file is larger than what is stored of it.
            if not (member.isreg() or member.isdir()) or member.issparse():
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
