"""The pictures in a folder, found one by one: a folder of millions needs no memory. Also their order."""

import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache

# Those of formats that a plug-in of Pillow's reads (the extra `formats`).
PLUGIN_SUFFIXES = (".heic", ".heif", ".hif", ".jxl")
SUFFIXES = (
    *(
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".tif",
        ".tiff",
        ".avif",
        ".bmp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".gif",
    ),
    *(".apng", ".jfif", ".jpe"),
    *PLUGIN_SUFFIXES,
)
_DIGITS = re.compile(r"\d+")


def walk_pictures(
    folder: str,
    *,
    recursive: bool,
    on_error: Callable[[OSError], None] = lambda error: None,
    on_other: Callable[[str, os.DirEntry[str]], None] = lambda below, entry: None,
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the visible pictures of a folder by suffix, in no order, each with its folder below `folder`.

    Links to folders are not followed. A link whose target is missing is yielded; opening it raises the error.
    `on_error` gets the errors of folders that cannot be listed, `on_other` visible files that are no pictures
    by their suffix.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(folder, below)) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if is_picture_name(entry.name) and (entry.is_file() or _is_broken(entry)):
                        yield below, entry
                    elif recursive and entry.is_dir(follow_symlinks=False):
                        waiting.append(os.path.join(below, entry.name))
                    elif entry.is_file():
                        on_other(below, entry)
        except OSError as error:
            on_error(error)


def _is_broken(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link whose target is missing."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def is_picture_name(name: str) -> bool:
    """Whether a name has the suffix of a format that is read."""
    return name.lower().endswith(SUFFIXES)


def split_suffix(name: str) -> tuple[str, str]:
    """Return a name without the suffix of a format that is read, and that suffix, empty if it has none."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem and is_picture_name(dot + suffix) else (name, "")


def natural_key(below: str, name: str) -> bytes:
    """Return a sorting key in which digits count as numbers; a folder sorts before its files."""
    return _folder_key(below) + _part_key(name)


@lru_cache(maxsize=1024)
def _folder_key(below: str) -> bytes:
    return b"".join(_part_key(part) for part in below.split(os.sep) if part)


def _part_key(part: str) -> bytes:
    # Names hold no zero: it ends a part (0 0), or begins a number (0, how many digits, the digits).
    text = _DIGITS.sub(_number_key, part.casefold()) + "\0\0"
    return text.encode("utf-8", "surrogatepass")


def _number_key(digits: re.Match[str]) -> str:
    number = str(int(digits[0]))
    return f"\0{chr(len(number))}{number}"
