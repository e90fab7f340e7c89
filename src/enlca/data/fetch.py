"""Data sets from the network: resumed, checked, unpacked whole, and not fetched twice.

While it works, everything is in the hidden folder `.fetching` of the data set. What was fetched is written to
`fetched.json` beside the pictures. A checksum that is known beforehand must be met; one that is not is taken
as it comes the first time, said, recorded, and must be met from then on.
"""

import json
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

from enlca.data.sources import Archive, Source
from enlca.data.unpack import unpack
from enlca.errors import ArchiveError, EnlcaError, FetchError

RECORD = "fetched.json"
CHUNK = MIB = 1 << 20
KEPT = "what came is kept, the same command goes on from there"
# Seconds until a connection stands, and between two bytes.
TIMEOUT = (20, 60)
# Called with the archive's name, and MiB done and in all.
OnProgress = Callable[[str, int, int], None]
# Its remarks on checksums go to stderr, where errors alone belong.
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
    """Fetch a data set into its own folder inside `folder`, and say a line for each archive.

    `scale` leaves out small pictures of other scales; `url_base` replaces the source's address; `hashes`
    says the SHA-256 of archives by name, and overrules what the source knows.

    Raises:
        FetchError: the network, the server or the disk failed, or a file is not what it must be.
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
        raise FetchError(f"{home}: somebody else is fetching into it; wait for them") from None
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
    """One archive, if it is not there already. Returns what there is to say of it."""
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
    # The record first: pictures without one would be taken for somebody else's.
    fresh = home / f".{RECORD}.new"
    fresh.write_text(json.dumps(record, indent=2) + "\n")
    fresh.replace(home / RECORD)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(pictures, target)
    file.unlink()
    trust = "as expected" if expected else "not known beforehand: trusted as it came, and recorded"
    return f"{target}: {count} pictures; SHA-256 of {archive.file}: {digest} ({trust})"


def _download(url: str, work: Path, name: str, expected: str | None, on_progress: OnProgress) -> Path:
    """The archive in `work`, whole and with the checksum that is expected.

    Raises:
        FetchError: it could not be had; what came is kept unless its checksum is wrong.
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
        # Of several nested errors, the one that the system gave.
        system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", reason)
        raise FetchError(f"{url}: {system[1] if system else reason}; {KEPT}") from error
    part.unlink(missing_ok=True)
    return work / name


class _Resumed:
    """What pooch downloads with: into a `.part` file that outlives every failure, and from its end on."""

    def __init__(self, part: Path, name: str, on_progress: OnProgress):
        self.part, self.name, self.on_progress = part, name, on_progress

    def __call__(self, url: str, output_file: str, _pooch: Any) -> None:
        """Complete the part, then give it to `output_file`, too: it may still be needed when that is gone."""
        done, total = self._go_on(url, self.part.stat().st_size if self.part.is_file() else 0)
        if total is not None and done != total:
            raise FetchError(f"{url}: broke off after {done} of {total} bytes; {KEPT}")
        os.unlink(output_file)
        try:
            os.link(self.part, output_file)
        except OSError:
            self.part.replace(output_file)

    def _go_on(self, url: str, done: int) -> tuple[int, int | None]:
        """Append to the part what it lacks after `done` bytes: bytes there are then, and should be."""
        # Packed in transit, lengths would be those of the packing.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            total = _total(response)
            if response.status_code == requests.codes.requested_range_not_satisfiable and done:
                return (done, total) if done == total else self._go_on(url, 0)
            if not response.ok:
                raise FetchError(f"{url}: the server answers {response.status_code} {response.reason}")
            if response.status_code != requests.codes.partial_content:
                # The server sends all of it, whatever was asked for.
                done = 0
            # What came before a break is wanted; whether all came is looked at afterwards.
            response.raw.enforce_content_length = False
            with self.part.open("ab" if done else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    self.on_progress(self.name, done // MIB, (total or done) // MIB)
        return done, total


def _total(response: requests.Response) -> int | None:
    """Size of the whole file, if the server says it."""
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
    """How many files, and their bytes."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)
