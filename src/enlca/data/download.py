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
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast

import pooch
import requests
from urllib3.exceptions import HTTPError

from enlca.data.archives import Archive, Source, unpack
from enlca.errors import ArchiveError, EnlcaError, FetchError
from enlca.runtime.files import lock_folder

RECORD = "fetched.json"
CHUNK = MIB = 1 << 20
RESUMABLE = "what came is kept, the same command resumes it"
# Seconds allowed for a connection, and between two bytes.
TIMEOUT = (20, 60)
# Bytes in a second below which a download is given up, after so many seconds.
SLOWEST, PATIENCE = 1024, 60.0
# Of an archive of unknown size.
MOST_BYTES = 1 << 36
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
    busy = FetchError(f"{home}: another process is fetching into it; wait until it has finished")
    try:
        with lock_folder(home, ".fetching.lock", busy):
            for archive in source.archives:
                if scale is None or archive.scale in (None, scale):
                    url = f"{(url_base or source.base).rstrip('/')}/{archive.file}"
                    yield _fetch_archive(home, archive, url, hashes.get(archive.file), on_progress)
            shutil.rmtree(home / ".fetching", ignore_errors=True)
    finally:
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
    # The size of an archive that is not the known one is not known.
    size = None if given else archive.size
    file = _download(url, work, archive.file, expected, size, on_progress)
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


def _download(
    url: str, work: Path, name: str, expected: str | None, size: int | None, on_progress: OnProgress
) -> Path:
    """Complete the archive in `work`, verify its checksum and return its path; `size`: where it is known.

    Raises:
        FetchError: the download failed; what came is kept unless its checksum is wrong.
    """
    part = work / f"{name}.part"
    try:
        # pooch declares its downloaders by the type of its processors.
        downloader = cast(Any, _Resumed(part, name, size, on_progress))
        pooch.retrieve(url, expected, name, work, downloader=downloader)
    except (requests.RequestException, HTTPError, ValueError) as error:
        # A bad redirect is a ValueError, too.
        if got := re.search(r"expected \S+ but got ([0-9a-f]+)", str(error)):
            part.unlink(missing_ok=True)
            what = f"is not what it should be (expected {expected}, got {got[1]})"
            raise FetchError(f"{url}: {what}; it was removed, fetch it again") from error
        reason = " ".join(str(error).split())[:300]
        # Of several nested errors, that of the system.
        system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", reason)
        raise FetchError(f"{url}: {system[1] if system else reason}; {RESUMABLE}") from error
    part.unlink(missing_ok=True)
    return work / name


class _Resumed:
    """A downloader for pooch that resumes a `.part` file, which survives every failure of the network.

    Args:
        part: the file.
        name: of the archive.
        size: its bytes, where they are known.
        on_progress: is called with the name, and MiB done and of all.
    """

    def __init__(self, part: Path, name: str, size: int | None, on_progress: OnProgress):
        self.part, self.name, self.size, self.on_progress = part, name, size, on_progress

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
            begin = _first_byte(response)
            if begin not in (0, done):
                return self._go_on(url, 0) if done else self._refuse(url, f"sends bytes from {begin} on")
            # A server that ignores the range sends the whole file.
            done = begin
            limit = self.size or total or MOST_BYTES
            if total is not None and total > limit:
                self._refuse(url, f"would send {total:,} bytes instead of {limit:,}")
            # Keep what came before an interruption; the caller compares sizes afterwards.
            response.raw.enforce_content_length = False
            with self.part.open("ab" if done else "wb") as file:
                for chunk in _chunks(url, response):
                    file.write(chunk)
                    done += len(chunk)
                    if done > limit:
                        self._refuse(url, f"sends more than {limit:,} bytes")
                    self.on_progress(self.name, done // MIB, (total or done) // MIB)
        return done, total

    def _refuse(self, url: str, what: str) -> NoReturn:
        """Remove what came: it is not the archive. Raises FetchError."""
        self.part.unlink(missing_ok=True)
        raise FetchError(f"{url}: the server {what}; what came was removed")


def _chunks(url: str, response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes. Raises FetchError: below SLOWEST bytes a second, for PATIENCE seconds."""
    begun, came = time.monotonic(), 0
    # One byte a second would fill a chunk in days, without any time-out.
    while chunk := response.raw.read1(CHUNK):
        yield chunk
        came += len(chunk)
        if (waited := time.monotonic() - begun) > PATIENCE:
            if came < SLOWEST * waited:
                raise FetchError(
                    f"{url}: {came / waited:.0f} bytes in a second, which is no use; {RESUMABLE}"
                )
            begun, came = time.monotonic(), 0


def _first_byte(response: requests.Response) -> int:
    """Return the position in the file where the body of a response begins, -1 if it does not say."""
    if response.status_code != requests.codes.partial_content:
        return 0
    begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(begin[1]) if begin else -1


def _total(response: requests.Response) -> int | None:
    """Return the size of the whole file in bytes, None if the server does not say."""
    whole = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    length = whole[1] if whole else response.headers.get("Content-Length")
    return int(length) if length else None


def _read(home: Path) -> dict[str, Any]:
    path = home / RECORD
    try:
        record = json.loads(path.read_text()) if path.is_file() else {}
        for known in record.values():
            if not (isinstance(known["sha256"], str) and int(known["pictures"]) and int(known["bytes"])):
                raise ValueError("a record without numbers")
        return record
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FetchError(f"{path}: damaged; remove it and what was fetched beside it") from error


def _tally(folder: Path) -> tuple[int, int]:
    """Return the number of files, and their size in bytes."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)
