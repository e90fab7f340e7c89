"""Where the bytes of a picture come from: a path, bytes or a file object, all read in the same way.

libvips maps a file that it opens by itself, and the process ends by SIGBUS if the file becomes shorter while
it is read. Here it is handed bytes instead, so such a file is a damaged picture like any other.
"""

import io
import os
import shutil
import stat
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from enlca.errors import PictureError


@runtime_checkable
class ReadableFile(Protocol):
    """A binary file object that is open for reading."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to `size` bytes."""
        ...

    def seekable(self) -> bool:
        """Whether it has a position that can be set."""
        ...

    def seek(self, offset: int, whence: int = ..., /) -> int:
        """Set the position."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


@runtime_checkable
class WritableFile(Protocol):
    """A binary file object that is open for writing."""

    def write(self, data: bytes, /) -> Any:
        """Append `data`."""
        ...


Readable = str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile


class Source:
    """The bytes of a picture; as text, the name that messages give it.

    Attributes:
        name: of the file; "picture" where there is none.
        failure: what stopped a callback of a library, which cannot raise it.
    """

    def __init__(self, file: ReadableFile, name: str, *, owned: bool = False):
        self.name = name
        self.failure: BaseException | None = None
        self._file, self._guard = file, threading.Lock()
        self._start = file.tell()
        if owned:
            # With the last reader, which may be a picture of libvips.
            weakref.finalize(self, file.close).atexit = False

    @classmethod
    def of(cls, source: "Readable | Source", *, name: str | None = None) -> "Source":
        """Open a path, wrap bytes or a file object; a `Source` is returned as it is.

        A file object is read from its present position, and must not be moved by others meanwhile; it stays
        open. One that cannot seek, such as a pipe, is copied to an unnamed temporary file first.

        Raises:
            PictureError: no such file, a folder, a pipe or a device by its path, no permission.
            TypeError: another kind of object.
        """
        if isinstance(source, Source):
            return source
        if isinstance(source, (str, os.PathLike)):
            return cls(_open(Path(source)), name or str(Path(source)), owned=True)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls(io.BytesIO(source), name or "picture")
        if not hasattr(source, "read"):
            kind = type(source).__name__
            raise TypeError(f"a picture is opened from a path, bytes or a file object, not from {kind}")
        given = getattr(source, "name", None)
        name = name or (given if isinstance(given, str) else "picture")
        try:
            return cls(source, name) if source.seekable() else cls(_spooled(source), name, owned=True)
        except OSError as error:
            raise read_error(name, error) from error

    def __str__(self) -> str:
        return self.name

    def open(self) -> "Cursor":
        """Return a file object of its own position, 0."""
        return Cursor(self)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on: fewer only at the end. Raises OSError."""
        with self._guard:
            self._file.seek(self._start + offset)
            return self._file.read(size)

    def end(self) -> int:
        """Return the present number of bytes. Raises OSError."""
        with self._guard:
            return max(0, self._file.seek(0, os.SEEK_END) - self._start)


class Cursor(io.RawIOBase):
    """A position in a `Source`, as a read-only binary file object."""

    def __init__(self, source: Source):
        self.source, self.position = source, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as there are bytes."""
        view = memoryview(buffer).cast("B")
        part = self.source.read_at(self.position, len(view))
        view[: len(part)] = part
        self.position += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move and return the position. Raises OSError: before the first byte."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.position}
        position = (self.source.end() if whence == os.SEEK_END else origin[whence]) + offset
        if position < 0:
            raise OSError(f"cannot seek to {position}")
        self.position = position
        return position

    def tell(self) -> int:
        """Return the position."""
        return self.position


def read_error(name: object, error: OSError) -> PictureError:
    """Return the error about bytes that the system does not give."""
    return PictureError(f"{name}: cannot be read: {error.strerror or error}")


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            # Opening a pipe would block until another process writes to it.
            raise PictureError(f"{path}: is not a file but a pipe or a device; save the picture in a file")
        return path.open("rb")
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise PictureError(f"{path}: is a folder; name a picture in it") from None
    except OSError as error:
        raise read_error(path, error) from error


def _spooled(file: ReadableFile) -> ReadableFile:
    whole = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(file, whole)
    whole.seek(0)
    return whole
