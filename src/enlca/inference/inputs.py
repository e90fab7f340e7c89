"""The pictures that a folder or a pattern means, one by one."""

import glob
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from enlca.image.folders import SUFFIXES, is_picture_name, natural_key, walk_pictures

# A picture: folder, name, the folder below the input that led to it, its sorting key there, and
# whether it is a link.
Entry = tuple[str, str, str, bytes, bool]
# Is given the name of each input, or part of one, that cannot be used, and a line about it.
Report = Callable[[str, str], None]
# Is given the path of each file that is no picture by its suffix.
Other = Callable[[str], None]


def pictures_in(
    folder: Path, *, recursive: bool, out: Path | None, report: Report, other: Other
) -> Iterator[Entry]:
    """Yield the pictures of a folder, in no order; those in the output folder `out` below it are left out."""
    failed, empty = [], True

    def unreadable(error: OSError) -> None:
        failed.append(f"{error.filename}: cannot be read: {error.strerror}")
        report(str(error.filename), failed[-1])

    is_output = _below(out, folder)
    # As Path writes it: the current folder is no part of a name.
    top = str(folder) if folder.parts else ""

    def no_picture(below: str, entry: os.DirEntry[str]) -> None:
        if not is_output(os.path.join(top, below) if below else top):
            other(os.path.join(top, below, entry.name))

    walk = walk_pictures(str(folder), recursive=recursive, on_error=unreadable, on_other=no_picture)
    for below, entry in walk:
        empty = False
        place = os.path.join(top, below) if below else top
        if not is_output(place):
            yield place, entry.name, below, natural_key(below, entry.name), entry.is_symlink()
    if empty and not failed:
        looked = f"looked for {' '.join(SUFFIXES)}"
        report(str(folder), f"{folder}: no pictures in this folder; {looked}")


def pictures_like(
    pattern: Path, root: Path, *, out: Path | None, report: Report, other: Other
) -> Iterator[Entry]:
    """Yield the pictures whose names match; `root` is the part of the pattern without wildcards."""
    empty, is_output = True, _below(out, root)
    for name in filter(os.path.isfile, glob.iglob(str(pattern), recursive=True)):
        own = os.path.basename(name)
        is_picture = is_picture_name(own)
        empty = empty and not is_picture
        if is_output(os.path.dirname(name)):
            continue
        if not is_picture:
            other(name)
            continue
        folder, below = _split(Path(name).parent, root)
        yield folder, own, below, os.fsencode(name), os.path.islink(name)
    if empty:
        report(str(pattern), f"{pattern}: no picture has such a name")


def _split(folder: Path, root: Path) -> tuple[str, str]:
    below = folder.relative_to(root)
    return str(folder) if folder.parts else "", str(below) if below.parts else ""


def _below(out: Path | None, root: Path) -> Callable[[str], bool]:
    """Return a function that says whether a folder lies in `out`, where `out` lies below `root`.

    Files in an output folder inside the inputs were made by an earlier run.
    """
    whole = Path(os.path.realpath(root))
    place = None if out is None else Path(os.path.realpath(out))
    if place is None or place == whole or not place.is_relative_to(whole):
        return lambda folder: False
    return lru_cache(maxsize=1024)(lambda folder: Path(os.path.realpath(folder)).is_relative_to(place))
