"""Stores of objects by URL: s3, gs, az, folders and memory, through obstore; loaded by the first use."""

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from enlca.errors import BulkError, require

SCHEMES = ("s3", "gs", "az", "file", "memory")
# Seconds before the next try of a request that failed, beside obstore's own.
PAUSES = (1.0, 4.0, 16.0)
PROBE = ".enlca-probe-"
_CHUNK = 1 << 22

Result = TypeVar("Result")


def open_store(url: str, *, make: bool = False) -> Any:
    """Return the store of a URL; keys are relative to it. A path without a scheme is a folder.

    Credentials and endpoints come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).

    Args:
        url: `s3://bucket/prefix`, `gs://`, `az://`, `file:///folder`, or a path.
        make: make a folder that does not exist.

    Raises:
        BulkError: unknown scheme, no such folder, or Google's store without credentials.
        MissingExtra: obstore is not installed.
    """
    with require("cloud", feature="bulk"):
        from obstore.store import LocalStore, MemoryStore, from_url
    scheme, found, rest = url.partition("://")
    if not found or scheme == "file":
        folder = Path(rest if found else url)
        if not make and not folder.is_dir():
            raise BulkError(f"{url}: no such folder")
        try:
            return LocalStore(folder.absolute(), mkdir=True)
        except Exception as error:
            raise BulkError(f"{url}: no folder that can be written: {first_line(error)}") from error
    if scheme == "memory":
        return MemoryStore()
    if scheme not in SCHEMES:
        raise BulkError(f"{url}: unknown kind of store; known: {' '.join(f'{s}://' for s in SCHEMES[:-1])}")
    if scheme == "gs" and not any(name.startswith("GOOGLE_") for name in os.environ):
        # Without, each request would ask an address that only Google's own machines have.
        raise BulkError(f"{url}: no credentials; set GOOGLE_APPLICATION_CREDENTIALS")
    # By default a request, whose body is a whole picture, has 30 s.
    options: Any = {"timeout": "1h", "read_timeout": "60s"}
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options["allow_http"] = True
    try:
        return from_url(url, client_options=options)
    except Exception as error:
        raise BulkError(f"{url}: {first_line(error)}") from error


def read_into(store: Any, key: str, file: Any) -> None:
    """Copy an object into a binary file object. Raises as `retried`; FileNotFoundError: there is none."""

    def copy() -> None:
        file.seek(0)
        file.truncate()
        for part in store.get(key).stream(min_chunk_size=_CHUNK):
            file.write(part)

    retried(copy)


def exists(store: Any, key: str) -> bool:
    """Whether there is such an object. Raises as `retried`."""
    try:
        retried(lambda: store.head(key))
    except FileNotFoundError:
        return False
    return True


def put(store: Any, key: str, content: bytes, *, replace: bool = False) -> bool:
    """Write an object whole; return False, and write nothing, if there is one and `replace` is False.

    Raises as `retried`.
    """
    from obstore.exceptions import AlreadyExistsError

    def once() -> None:
        # Parts of a multipart upload could not be refused together.
        store.put(key, content, mode="overwrite" if replace else "create", use_multipart=False)

    try:
        retried(once)
    except AlreadyExistsError:
        return False
    return True


def retried(call: Callable[[], Result], *, pauses: tuple[float, ...] | None = None) -> Result:
    """Return what `call` returns; try again after a pause where the way to the store failed.

    Raises:
        FileNotFoundError, PermissionError, AlreadyExistsError: the store's answer, at once.
        ConnectionError: all tries failed.
    """
    from obstore import exceptions

    answers = (FileNotFoundError, exceptions.AlreadyExistsError)
    denied = (PermissionError, exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    for pause in (*(PAUSES if pauses is None else pauses), None):
        try:
            return call()
        except answers:
            raise
        except (exceptions.BaseError, OSError) as error:
            # Of a folder, obstore has no type for it.
            if isinstance(error, denied) or "(os error 13)" in str(error):
                why = getattr(error, "strerror", None) or first_line(error)
                raise PermissionError(errno.EACCES, why) from error
            if pause is None:
                raise ConnectionError(first_line(error)) from error
            time.sleep(pause)
    raise AssertionError


def check_create_only(store: Any, url: str) -> None:
    """Write a small object twice, and remove it; refuse a store that does not refuse the second.

    Raises:
        BulkError: it cannot be written, or it would write pictures twice.
    """
    key = PROBE + secrets.token_hex(8)
    try:
        first, second = put(store, key, b"probe"), put(store, key, b"probe again")
        retried(lambda: store.delete(key))
    except (OSError, NotImplementedError) as error:
        raise BulkError(f"{url}: cannot be written: {first_line(error)}") from error
    if not first or second:
        why = "this store replaces objects even where it is asked to create them only"
        raise BulkError(f"{url}: {why}, so pictures could be written twice; --allow-overwrite accepts that")


def listed(store: Any, prefix: str | None = None) -> Iterator[tuple[str, int]]:
    """Yield keys and sizes, page by page. Raises BulkError."""
    try:
        for page in store.list(prefix, chunk_size=1000):
            for item in page:
                yield item["path"], item["size"]
    except Exception as error:
        raise BulkError(f"cannot be listed: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error of obstore, whose others are for its developers."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
