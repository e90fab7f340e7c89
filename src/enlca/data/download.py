"""Download data sets: resumed, verified, unpacked whole, and not downloaded twice.

Unfinished files are in the hidden folder `.fetching` of the data set. `fetched.json` beside the pictures
records their source. A known checksum must match; an unknown one is trusted the first time, printed,
recorded, and must match from then on.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pooch
import requests
from filelock import FileLock, Timeout

from enlca.data.archives import Archive, Source, unpack
from enlca.errors import ArchiveError, EnlcaError, FetchError

RECORD = "fetched.json"
CHUNK = MIB = 1 << 20
RESUMABLE = "what came is kept, the same command resumes it"
# Seconds allowed for a connection, and between two bytes.
TIMEOUT = (20, 60)
# Called with the archive's name, and MiB done and of all.
OnProgress = Callable[[str, int, int], None]
log = logging.getLogger(__name__)
# pooch reports checksums on stderr, where only errors belong.
pooch.get_logger().setLevel("WARNING")


def fetch(
    source: Source,
    folder: Path,
    *,
    scale: int | None = None,
    url_base: str | None = None,
    hashes: Mapping[str, str] | None = None,
    on_progress: OnProgress = lambda name, done, total: None,
) -> Iterator[str]:
    """Download a data set into its own folder inside `folder`; yield a line for each archive.

    Args:
        source: of the data set.
        folder: receives a folder named after the data set.
        scale: leaves out LR pictures of other scales; None downloads all.
        url_base: replaces the source's address.
        hashes: SHA-256 of archives by name, instead of those that the source knows.
        on_progress: is called with an archive's name, and MiB done and of all.

    Raises:
        FetchError: the network, the server or the disk failed, or a checksum does not match.
        EnlcaError: `hashes` names an archive that the source does not have.
    """
    hashes = hashes or {}
    names = [archive.file for archive in source.archives]
    if foreign := [name for name in hashes if name not in names]:
        raise EnlcaError(f"--sha256: {source.title} has no archive {foreign[0]!r}; it has {', '.join(names)}")
    home = (folder / source.title).resolve()
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / ".fetching.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FetchError(f"{home}: another process is fetching into it; wait until it has finished") from None
    try:
        for archive in source.archives:
            if scale is None or archive.scale in (None, scale):
                url = f"{(url_base or source.base).rstrip('/')}/{archive.file}"
                yield _fetch_archive(home, archive, url, hashes.get(archive.file), on_progress)
        shutil.rmtree(home / ".fetching", ignore_errors=True)
    finally:
        (home / ".fetching.lock").unlink(missing_ok=True)
        lock.release()
        for empty in (home / ".fetching", home):
            with suppress(OSError):
                empty.rmdir()


def _fetch_archive(home: Path, archive: Archive, url: str, given: str | None, on_progress: OnProgress) -> str:
    """Download one archive unless its pictures exist; return a line about it."""
    target, record = home / archive.folder, _read(home)
    known = record.get(archive.file)
    if target.exists():
        if known is None or _tally(target) != (known["pictures"], known["bytes"]):
            raise FetchError(f"{target}: is there, but is not what was fetched; move it away")
        if given not in (None, known["sha256"]):
            raise FetchError(f"{target}: its archive had SHA-256 {known['sha256']}, not {given}")
        return f"{target}: {known['pictures']} pictures, there already"
    expected = f"sha256:{given}" if given else archive.known_hash
    if expected is None and known is not None:
        expected = f"sha256:{known['sha256']}"

    work = home / ".fetching"
    file = _download(url, work, archive.file, expected, on_progress)
    try:
        pictures = unpack(file, work / "unpacked")
    except ArchiveError as error:
        file.unlink()
        raise FetchError(f"{url}: {error}; it was removed, fetch it again or from elsewhere") from error
    count, size = _tally(pictures)
    digest = pooch.file_hash(str(file))
    record[archive.file] = {
        "url": url, "sha256": digest, "folder": archive.folder, "pictures": count, "bytes": size,
    }  # fmt: skip
    # The record first: pictures without one count as the user's own.
    fresh = home / f".{RECORD}.new"
    fresh.write_text(json.dumps(record, indent=2) + "\n")
    fresh.replace(home / RECORD)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(pictures, target)
    file.unlink()
    trust = "as expected" if expected else "not known beforehand: trusted as it came, and recorded"
    return f"{target}: {count} pictures; SHA-256 of {archive.file}: {digest} ({trust})"


def _download(url: str, work: Path, name: str, expected: str | None, on_progress: OnProgress) -> Path:
    """Complete the archive in `work`, verify its checksum and return its path.

    Raises:
        FetchError: the download failed; what came is kept unless its checksum is wrong.
    """
    part = work / f"{name}.part"
    try:
        # pooch declares its downloaders by the type of its processors.
        downloader = cast(Any, _Resumed(part, name, on_progress))
        pooch.retrieve(url, expected, name, work, downloader=downloader)
    except ValueError as error:
        part.unlink(missing_ok=True)
        got = re.search(r"got ([0-9a-f]+)", str(error))
        found = f", got {got[1]}" if got else ""
        raise FetchError(
            f"{url}: is not what it should be (expected {expected}{found}); it was removed, fetch it again"
        ) from error
    except requests.RequestException as error:
        reason = " ".join(str(error).split())
        # Of several nested errors, that of the system.
        system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", reason)
        raise FetchError(f"{url}: {system[1] if system else reason}; {RESUMABLE}") from error
    part.unlink(missing_ok=True)
    return work / name


class _Resumed:
    """A downloader for pooch that resumes a `.part` file, which survives every failure."""

    def __init__(self, part: Path, name: str, on_progress: OnProgress):
        self.part, self.name, self.on_progress = part, name, on_progress

    def __call__(self, url: str, output_file: str, _pooch: Any) -> None:
        """Complete the part and link it to `output_file`, so that it survives when pooch removes that."""
        done, total = self._go_on(url, self.part.stat().st_size if self.part.is_file() else 0)
        if total is not None and done != total:
            raise FetchError(f"{url}: broke off after {done} of {total} bytes; {RESUMABLE}")
        os.unlink(output_file)
        try:
            os.link(self.part, output_file)
        except OSError:
            self.part.replace(output_file)

    def _go_on(self, url: str, done: int) -> tuple[int, int | None]:
        """Append what is missing after `done` bytes; return the size of the part, and the one expected."""
        # With a compressed transfer, lengths would be those of the compressed data.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        log.info("%s from byte %d", url, done)
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            total = _total(response)
            if response.status_code == requests.codes.requested_range_not_satisfiable and done:
                return (done, total) if done == total else self._go_on(url, 0)
            if not response.ok:
                raise FetchError(f"{url}: the server answers {response.status_code} {response.reason}")
            if response.status_code != requests.codes.partial_content:
                # The server ignores the range and sends the whole file.
                done = 0
            # Keep what came before an interruption; the caller compares sizes afterwards.
            response.raw.enforce_content_length = False
            with self.part.open("ab" if done else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    self.on_progress(self.name, done // MIB, (total or done) // MIB)
        return done, total


def _total(response: requests.Response) -> int | None:
    """Return the size of the whole file in bytes, None if the server does not say."""
    whole = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    length = whole[1] if whole else response.headers.get("Content-Length")
    return int(length) if length else None


def _read(home: Path) -> dict[str, Any]:
    path = home / RECORD
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise FetchError(f"{path}: damaged; remove it and what was fetched beside it") from error


def _tally(folder: Path) -> tuple[int, int]:
    """Return the number of files, and their size in bytes."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)
