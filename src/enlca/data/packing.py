"""Decode pictures once into .npy files: how a pack is written. `packed` reads it.

A pack is a folder with

    pack.json           format, scale and sides; for each picture its name, LR size and file name per side
    SIDE/KEY-CRC.npy    the uint8 pixels of a picture, `H W 3`; the sides are lr and hr, or teacher

KEY stands for the picture's name and scale and for the size and time of the files it is made from. CRC is the
CRC-32 of the pixels. So the file names alone record what is done: after an interruption, a picture whose
files are there with the right checksum is not decoded again, a torn file is written anew, and so is the file
of a picture that has changed. `pack.json` is written last, and then the folder gets its final name.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import UInt8

from enlca.data.pairs import Pair, load_pair
from enlca.errors import EnlcaError, NotWritten, PackError, PictureError
from enlca.runtime.concurrency import prefetch
from enlca.runtime.files import write_atomically

FORMAT = 3
INDEX = "pack.json"

# Called with the number of pictures done and of all.
OnProgress = Callable[[int, int], None]
Pixels = UInt8[np.ndarray, "H W 3"]


class UnusablePictures(PictureError):
    """Some pictures of many cannot be used: how many, and the first three with their reasons."""

    exit_code = 1

    def __init__(self, folder: Path, reasons: Sequence[str], total: int, advice: str):
        # The folder is named once.
        first = [reason.replace(f"{folder}{os.sep}", "") for reason in reasons[:3]]
        more = [f"(and {len(reasons) - 3} more)"] if len(reasons) > 3 else []
        what = f"{len(reasons)} of {total} pictures cannot be used"
        super().__init__(f"{folder}: {what}: {'; '.join([*first, *more])}; {advice}")
        self._made_of = (folder, reasons, total, advice)

    def __reduce__(self) -> tuple:
        return type(self), self._made_of


@dataclass(frozen=True)
class Item:
    """A picture to be packed.

    Attributes:
        name: unique in the pack.
        files: it is made from; their sizes and times tell whether it has changed.
        load: returns its pixels for each side. May raise PictureError.
    """

    name: str
    files: tuple[Path, ...]
    load: Callable[[], tuple[Pixels, ...]]

    def key(self, scale: int) -> str:
        """Return the digest that names its files in a pack."""
        stats = [file.stat() for file in self.files]
        stamp = [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]
        return digest(self.name, scale, stamp)


def items_of(pairs: Sequence[Pair], scale: int) -> list[Item]:
    """Return the items of a pack with the sides LR and HR."""
    return [
        Item(pair.name, (pair.hr, *([pair.lr] if pair.lr else [])), lambda pair=pair: load_pair(pair, scale))
        for pair in pairs
    ]


def write_pack(
    folder: Path,
    pairs: Sequence[Pair],
    out: Path,
    *,
    scale: int,
    min_side: int = 1,
    on_progress: OnProgress = lambda done, total: None,
) -> None:
    """Pack the LR and HR pictures of `pairs`, which belong to `folder`; does nothing where `out` is a pack.

    Until the pack is complete it grows in a hidden sibling of `out`, where the next call resumes it.
    `min_side` is the smallest LR side accepted, in pixels.

    Raises:
        UnusablePictures: pictures that cannot be read, are too small or do not fit together. All others are
            packed first, so that the next call, after those were mended, is short.
        PackError: `out` exists and is not a pack.
        NotWritten: the disk is full.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not is_pack(out)):
        raise PackError(f"{out}: is there and is not a pack; name another place")
    work = out.with_name(f".{out.name}.part")
    items = items_of(pairs, scale)
    sides = ("lr", "hr")
    failed = write_sides(
        items, out, work, sides=sides, scale=scale, min_side=min_side, on_progress=on_progress
    )
    if failed:
        raise UnusablePictures(folder, failed, len(pairs), advice(folder, scale, min_side))


def advice(folder: Path, scale: int, min_side: int) -> str:
    """Return the command that lists all unusable pictures of a folder."""
    return f"see `enlca data check {folder} --scale {scale} --patch {min_side}`"


def write_sides(
    items: Sequence[Item],
    out: Path,
    work: Path,
    *,
    sides: Sequence[str],
    scale: int,
    min_side: int = 1,
    on_progress: OnProgress = lambda done, total: None,
) -> list[str]:
    """Make the pack `out`, growing in `work`; the first of `sides` has the sizes that the index records.

    Processes that pack the same at once wait for one another.

    Returns:
        A line for each picture that cannot be used. `out` is made only if there are none.
    """
    with _locked(work, sides[-1], lambda done: on_progress(min(done, len(items)), len(items))):
        if is_pack(out):
            return []
        entries, failed = _fill(items, work, sides=sides, scale=scale, on_progress=on_progress)
        shapes = {name: (entry["height"], entry["width"]) for name, entry in entries.items()}
        failed |= too_small(shapes, scale, min_side)
        if not failed:
            pictures = [entries[item.name] for item in items]
            _clean(work, {work / side / entry[side] for side in sides for entry in pictures})
            index = {"format": FORMAT, "scale": scale, "sides": list(sides), "pictures": pictures}
            write_atomically(work / INDEX, (json.dumps(index, indent=0) + "\n").encode())
            os.replace(work, out)
    return [failed[item.name] for item in items if item.name in failed]


def _fill(
    items: Sequence[Item], work: Path, *, sides: Sequence[str], scale: int, on_progress: OnProgress
) -> tuple[dict[str, dict], dict[str, str]]:
    """Write the missing files of a work folder; return index entries and failures, both by name."""
    entries: dict[str, dict] = {}
    failed: dict[str, str] = {}

    def add(item: Item, files: Sequence[Path], lr: Pixels) -> None:
        names = {side: path.name for side, path in zip(sides, files, strict=True)}
        entries[item.name] = {"name": item.name, "height": lr.shape[0], "width": lr.shape[1], **names}

    def load(item: Item) -> tuple[Pixels, ...] | EnlcaError:
        try:
            return item.load()
        except EnlcaError as error:
            return error

    for side in sides:
        (work / side).mkdir(parents=True, exist_ok=True)
    stored = [{path.name[:16]: path for path in (work / side).iterdir()} for side in sides]
    keys = {item.name: item.key(scale) for item in items}
    for item in items:
        files = [side[keys[item.name]] for side in stored if keys[item.name] in side]
        intact = [pixels for pixels in map(read_intact, files) if pixels is not None]
        if len(intact) == len(sides):
            add(item, files, intact[0])
    missing = [item for item in items if item.name not in entries]
    already = len(entries)
    on_progress(already, len(items))
    for done, (item, result) in enumerate(prefetch(load, missing), already + 1):
        if isinstance(result, EnlcaError):
            failed[item.name] = str(result)
        else:
            key = keys[item.name]
            add(item, [_save(work / side, key, p) for side, p in zip(sides, result, strict=True)], result[0])
        on_progress(done, len(items))
    return entries, failed


def _save(folder: Path, key: str, pixels: Pixels) -> Path:
    pixels = np.ascontiguousarray(pixels)
    path = folder / f"{key}-{zlib.crc32(pixels.data):08x}.npy"
    try:
        np.save(path, pixels)
    except OSError as error:
        # numpy names no file, and on a full disk no reason.
        reason = error.strerror or "no space left on the device"
        raise NotWritten(f"{path}: cannot be written: {reason}; what was packed before is kept") from error
    return path


def _clean(work: Path, keep: set[Path]) -> None:
    """Delete all other files of a work folder; return when those to keep would survive a power cut."""
    for path in [path for path in work.rglob("*") if path.is_file()]:
        if path not in keep:
            path.unlink()
            continue
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def read_intact(path: Path) -> Pixels | None:
    """Return the pixels of a file of a pack; None if they do not have the checksum in its name."""
    try:
        pixels = np.load(path)
        intact = f"{zlib.crc32(pixels.data):08x}" == path.stem.rpartition("-")[2]
    except (OSError, ValueError, EOFError, MemoryError):
        return None
    return pixels if intact else None


@contextmanager
def _locked(work: Path, side: str, wait: Callable[[int], None]) -> Iterator[None]:
    """Lock a work folder; while another process has it, call `wait` with the number of pictures done."""
    work.parent.mkdir(parents=True, exist_ok=True)
    path = work.with_name(f"{work.name}.lock")
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.5, poll_interval=0.05)
        except Timeout:
            wait(len(list((work / side).glob("*"))))
    try:
        yield
        # Still locked: the next process to get the lock finds the finished pack.
        path.unlink(missing_ok=True)
    finally:
        lock.release()


def is_pack(folder: Path) -> bool:
    """Return whether a pack is there, of any version and state."""
    return (folder / INDEX).is_file()


def too_small(shapes: Mapping[str, tuple[int, int]], scale: int, min_side: int) -> dict[str, str]:
    """Return a line for each LR picture (name to height and width) with a side below `min_side`."""
    return {
        name: f"{name}: {scale * width}x{scale * height} is too small, training needs at least"
        f" {min_side * scale} pixels a side (LR patch {min_side} times scale {scale})"
        for name, (height, width) in shapes.items()
        if min(height, width) < min_side
    }


def digest(*of: object) -> str:
    """Return 16 hexadecimal digits that stand for JSON values and the pack format."""
    return hashlib.sha256(json.dumps([FORMAT, of]).encode()).hexdigest()[:16]
