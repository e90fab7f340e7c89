"""Pictures at addresses of the web, which a text file lists, one a line.

Empty lines and lines that begin with # are left out. In a list that is itself on the web a line may be
relative to the list's address. An address counts once, however often it is listed.
"""

import os
import posixpath
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from hashlib import sha256
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import quote, urldefrag, urljoin, urlsplit

from enlca import __version__
from enlca.bulk.stores import retried
from enlca.errors import BulkError, PictureError, require
from enlca.image.folders import split_suffix

SCHEMES = ("http://", "https://")
# Seconds for a connection, and between two parts of a body.
TIMEOUT = (20, 60)
# A body that comes slower is given up: seconds beside the time that its bytes take, and bytes per second.
BEGIN, RATE = 30.0, 8192
# Seconds before the second try, which is the last one: `--retry-failed` tries again, and other hosts wait.
PAUSES = (1.0,)
# Bytes of a list and of a line of it, at most.
LIST_BYTES, LINE_BYTES = 4 << 30, 1 << 14
# Bytes of a pixel without compression, four layers of 16 bits, and of what surrounds the pixels.
PIXEL_BYTES, META_BYTES = 8, 1 << 26
# Characters of a folder or a name in the place of a result.
LONGEST = 100
_PART = 1 << 16
_SAFE = "!$&'()+,;=@%"


def is_list(url: str) -> bool:
    """Whether a URL means a list of addresses: it is one of the web, or a file of this machine."""
    return url.startswith(SCHEMES) or os.path.isfile(url.removeprefix("file://"))


def place_of(key: str) -> str:
    """Return where the result of a picture belongs, as a relative path: a key, or an address's host and path.

    A digest in the name stands for what a path cannot say as it is: a query, or a part that is too long.
    """
    if not key.startswith(SCHEMES):
        return key
    parts = urlsplit(key)
    *folders, name = posixpath.normpath("/" + parts.path.lstrip("/"))[1:].split("/")
    stem, suffix = split_suffix(name or "index")
    path = "/".join(quote(part, safe=_SAFE)[:LONGEST] for part in (*folders, stem))
    if parts.query or f"/{path}{suffix}" != quote(parts.path, safe=_SAFE + "/"):
        path += "_" + sha256(f"{parts.path}?{parts.query}".encode()).hexdigest()[:16]
    return f"{_host(parts.netloc)}/{path}{suffix}"


def _host(netloc: str) -> str:
    """Return host and port of an address, without a user's name and password."""
    return quote(netloc.rpartition("@")[2].lower(), safe=_SAFE).replace("%3A", "_")


class Addresses:
    """The pictures of a list; an `Origin`.

    Args:
        url: of the list.
        max_pixels: of a picture.
    """

    def __init__(self, url: str, *, max_pixels: int):
        self.url, self.most = url, PIXEL_BYTES * max_pixels + META_BYTES

    @cached_property
    def _session(self) -> Any:
        with require("cloud", feature="bulk"):
            import requests
        session = requests.Session()
        session.headers["User-Agent"] = f"enlca/{__version__}"
        return session

    def listed(self) -> Iterator[tuple[str, int]]:
        """Yield the addresses, each place once; their sizes are not known. Raises BulkError."""
        # On disk: a list may have millions.
        with closing(sqlite3.connect("", isolation_level=None)) as seen, TemporaryFile() as copy:
            seen.execute("PRAGMA journal_mode = OFF")
            seen.execute("BEGIN")
            seen.execute("CREATE TABLE seen (place TEXT PRIMARY KEY) WITHOUT ROWID")
            for address in self._addresses(copy):
                if seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (place_of(address),)).rowcount:
                    yield address, 0

    def read_into(self, key: str, file: Any) -> None:
        """Copy a picture into a binary file object.

        Raises:
            FileNotFoundError, PermissionError, PictureError: it cannot be had. None is a ConnectionError,
                since others may be elsewhere.
        """
        try:
            self._copy(key, file, self.most)
        except ConnectionError as error:
            raise PictureError(f"{key}: cannot be fetched: {error}") from error

    def _addresses(self, copy: Any) -> Iterator[str]:
        """Yield what the lines say. Raises BulkError."""
        try:
            if self.url.startswith(SCHEMES):
                self._copy(self.url, copy, LIST_BYTES)
                copy.seek(0)
                yield from self._lines(copy)
            else:
                with open(self.url.removeprefix("file://"), "rb") as file:
                    yield from self._lines(file)
        except (OSError, PictureError) as error:
            text = str(error).removeprefix(f"{self.url}: ")
            raise BulkError(f"{self.url}: the list cannot be read: {text}") from error

    def _lines(self, file: Any) -> Iterator[str]:
        base = self.url if self.url.startswith(SCHEMES) else ""
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES), b""), 1):
            try:
                text = line.decode("utf-8-sig").strip()
                if not text or text.startswith("#"):
                    continue
                parts = urlsplit(urldefrag(urljoin(base, text)).url)
                # Raises ValueError where it is no number.
                _ = parts.port
                # The host is a folder of the results.
                names_host = parts.hostname and _host(parts.netloc) not in (".", "..")
                if len(line) < LINE_BYTES and parts.scheme in ("http", "https") and names_host:
                    yield parts.geturl()
                    continue
            except ValueError:
                pass
            what = ascii(line[:60].decode("utf-8", "replace").strip())
            raise BulkError(f"{self.url}: line {number} is no http(s) address: {what}")

    def _copy(self, url: str, file: Any, most: int) -> None:
        """Copy a body into a file, from its start. Raises as `retried`, and PictureError."""

        def copy() -> None:
            file.seek(0)
            file.truncate()
            for part in self._parts(url, most):
                file.write(part)

        retried(copy, pauses=PAUSES)

    def _parts(self, url: str, most: int) -> Iterator[bytes]:
        import requests
        from urllib3.exceptions import HTTPError

        begun, received = time.monotonic(), 0
        try:
            with self._session.get(url, stream=True, timeout=TIMEOUT) as response:
                _check(response, url)
                while part := response.raw.read1(_PART, decode_content=True):
                    received += len(part)
                    if received > most:
                        raise PictureError(f"{url}: has more than {most} bytes")
                    if time.monotonic() - begun > BEGIN + received / RATE:
                        raise TimeoutError("it comes too slowly")
                    yield part
        except (requests.RequestException, HTTPError) as error:
            if isinstance(error, ValueError):
                raise PictureError(f"{url}: is no address: {error}") from error
            raise OSError(_reason(error)) from error


def _check(response: Any, url: str) -> None:
    """Raise what a status other than 200 means: an answer, or (OSError) a failure that may pass."""
    status, answer = response.status_code, f"HTTP {response.status_code} {response.reason or ''}".strip()
    if status == 200:
        return
    if status in (404, 410):
        raise FileNotFoundError(answer)
    if status in (401, 403, 407):
        raise PermissionError(13, answer)
    if status in (408, 429) or status >= 500:
        raise OSError(answer)
    raise PictureError(f"{url}: cannot be fetched: {answer}")


def _reason(error: Exception) -> str:
    """Return the innermost cause in the nested errors of requests."""
    if system := re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(error)):
        return system[1]
    name = type(error).__name__
    return "no answer in time" if "Timeout" in name else f"the connection broke: {name}"
