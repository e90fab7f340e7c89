"""Where pictures come from: the objects of a store, or the addresses that a text file lists."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from enlca.bulk.addresses import Addresses, is_list
from enlca.bulk.stores import listed, open_store, read_into
from enlca.image.folders import is_picture_name


@runtime_checkable
class Origin(Protocol):
    """Pictures, each with a key."""

    def listed(self) -> Iterator[tuple[str, int]]:
        """Yield keys and sizes (0: not known), each key once. Raises BulkError."""
        ...

    def read_into(self, key: str, file: Any) -> None:
        """Copy a picture into a binary file object.

        Raises:
            FileNotFoundError, PermissionError, PictureError: it cannot be had.
            ConnectionError: none can be had: the way to all of them failed, again and again.
        """
        ...


class Objects:
    """Objects of a store whose names are those of visible pictures."""

    def __init__(self, store: Any):
        self.store = store

    def listed(self) -> Iterator[tuple[str, int]]:
        """Yield keys and sizes, page by page. Raises BulkError."""
        for key, size in listed(self.store):
            if is_picture_name(key) and not (key.startswith(".") or "/." in key):
                yield key, size

    def read_into(self, key: str, file: Any) -> None:
        """Copy an object into a binary file object. Raises as `Origin.read_into`, but PictureError."""
        read_into(self.store, key, file)


def open_origin(url: str, *, max_pixels: int) -> Origin:
    """Return the pictures of a URL. Raises BulkError as `open_store`.

    Args:
        url: as in `open_store`; or of a text file of addresses (`http://`, `https://`, or a file here).
        max_pixels: a picture that is downloaded has no more bytes than so many pixels can have.
    """
    if is_list(url):
        return Addresses(url, max_pixels=max_pixels)
    return Objects(open_store(url))
