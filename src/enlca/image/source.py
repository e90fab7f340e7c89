"""The bytes of a picture, from a path, from memory or from a file object; and libvips, fed from them.

libvips is loaded by the first picture that needs it; its errors are raised as ours.
"""

import errno
import io
import os
import re
import shutil
import stat
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from enlca.errors import PictureError, StoreError
from enlca.image.rows import damage_error, depth_error

_LOADING = threading.Lock()

File = BinaryIO | io.IOBase
Readable = str | os.PathLike[str] | bytes | bytearray | memoryview | File


class Source:
    """The bytes of a picture from a path, from memory or from a file object; as text, its name in messages.

    libvips maps a file that it opens by itself, and the process ends by SIGBUS if the file becomes shorter
    while it is read. It is handed bytes instead, so such a file is a damaged picture like any other.

    Attributes:
        name: of the file; "picture" where there is none.
        failure: what stopped a callback of libvips, which cannot raise it.
    """

    def __init__(self, file: Any, name: str, *, owned: bool = False):
        self.name, self.failure = name, cast("BaseException | None", None)
        self._file, self._start, self._guard = file, file.tell(), threading.Lock()
        if owned:
            # With the last reader, which may be a picture of libvips.
            weakref.finalize(self, file.close).atexit = False

    def __str__(self) -> str:
        return self.name

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

    def read_at(self, offset: int, size: int = -1) -> bytes:
        """Return `size` bytes (-1: all) from `offset` on; fewer only at the end. Raises OSError."""
        with self._guard:
            self._file.seek(self._start + offset)
            return self._file.read(size)

    def end(self) -> int:
        """Return the present number of bytes. Raises OSError."""
        with self._guard:
            return self._file.seek(0, os.SEEK_END) - self._start


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


def _spooled(file: Any) -> Any:
    whole = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(file, whole)
    whole.seek(0)
    return whole


def libvips() -> Any:
    """Return the module `pyvips`, imported by the first call.

    libvips' warnings are switched off and pyvips' own log handler is removed: GLib ends the process when a
    warning arrives while that handler, which is Python, is running, as garbage collection can cause. Faults
    of files are raised as errors all the same.
    """
    # Two threads that remove the handler at once make GLib complain that the second finds none.
    with _LOADING:
        os.environ.setdefault("VIPS_WARNING", "1")
        import pyvips

        pyvips._remove_log_handler()
        return pyvips


@contextmanager
def vips_errors(source: Source) -> Iterator[None]:
    """Raise libvips' errors about a file, and those of reading it, as one line of ours."""
    pyvips = libvips()
    try:
        yield
    except pyvips.Error as error:
        _raise_failure(source)
        text = " ".join(str(error).split()) or type(error).__name__
        if full := system_error(text):
            # Files are read by callbacks, whose errors are known: this is of a temporary file.
            raise StoreError(f"no room for the picture, to turn it: {full.strerror}") from error
        if found := re.search(r"Unsupported JPEG data precision (\d+)", text):
            content = f"{found[1]} bits per channel in a JPEG"
            raise depth_error(source, content, max_bits=8) from error
        raise damage_error(source, text) from error
    _raise_failure(source)


def system_error(text: str) -> OSError | None:
    """Return the error of the system in a message of libvips', which does not give its number."""
    numbers = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)
    known = (number for number in numbers if os.strerror(number) in text)
    number = next(known, None)
    return None if number is None else OSError(number, os.strerror(number))


def _raise_failure(source: Source) -> None:
    """Raise what stopped a callback."""
    failure, source.failure = source.failure, None
    if isinstance(failure, OSError):
        raise read_error(source, failure) from failure
    if failure is not None:
        raise failure


def open_with_vips(source: Source, *, salvage: bool = False, **settings: Any) -> Any:
    """Open a lazy pyvips image: reads the header, not the pixels.

    `salvage`: pixels that do not decode become black or grey. Raises PictureError.
    """
    pyvips = libvips()
    with vips_errors(source):
        feed = _feed(source)
        settings["fail_on"] = "none" if salvage else "error"
        return pyvips.Image.new_from_source(feed, "", access="sequential", **settings)


def _feed(source: Source) -> Any:
    """Return a pyvips source that reads through callbacks.

    They must not raise, and must not refer to what is returned: the file would stay open until the next
    search for garbage.
    """
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        try:
            part = source.read_at(position, size)
            position += len(part)
            return part
        except BaseException as error:
            source.failure = error
            return b""

    def seek(offset: int, whence: int) -> int:
        nonlocal position
        try:
            origin = source.end() if whence == os.SEEK_END else position if whence == os.SEEK_CUR else 0
        except BaseException as error:
            source.failure = error
            return -1
        if origin + offset < 0:
            return -1
        position = origin + offset
        return position

    feed = libvips().SourceCustom()
    feed.on_read(read)
    feed.on_seek(seek)
    return feed


def field_of(image: Any, name: str) -> Any:
    """Return a field of a pyvips image, None without."""
    value = image.get(name) if image.get_typeof(name) else None
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value
