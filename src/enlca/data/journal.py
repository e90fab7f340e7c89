"""The work folder of a pack in the making: whatever kills the process, what was packed before is kept.

`hr.bin` and `lr.bin` grow by one picture after the other, and only then `journal.jsonl` by the line that
says so. A line that is there thus speaks of bytes that are there; bytes without a line are cut off.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import UInt8

JOURNAL = "journal.jsonl"
# How a file was when it was read: if its size or time is another now, it is read anew.
Stamp = list[int]


@dataclass(frozen=True)
class Entry:
    """A packed picture.

    Attributes:
        height, width: of the LR picture.
        start: where it starts in `lr.bin`; in `hr.bin` it is scale^2 times that.
        lr_crc, hr_crc: CRC-32 of the pixels.
    """

    height: int
    width: int
    start: int
    lr_crc: int
    hr_crc: int

    @property
    def size(self) -> int:
        """Bytes in `lr.bin`."""
        return self.height * self.width * 3

    def is_intact(
        self, lr: UInt8[np.ndarray, "LRBytes"], hr: UInt8[np.ndarray, "HRBytes"], scale: int
    ) -> bool:
        """Whether its bytes, in all those of both sides, are what they were."""
        for pixels, factor, crc in ((lr, 1, self.lr_crc), (hr, scale**2, self.hr_crc)):
            part = pixels[self.start * factor : (self.start + self.size) * factor]
            if part.size != self.size * factor or zlib.crc32(part.data) != crc:
                return False
        return True


@contextmanager
def locked(work: Path, wait: Callable[[int], None]) -> Iterator[None]:
    """Alone with the work folder; until then, `wait` hears how many pictures somebody else has packed."""
    path = work.with_name(f"{work.name}.lock")
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.5, poll_interval=0.05)
        except Timeout:
            wait(max(0, _count_lines(work / JOURNAL) - 1))
    try:
        yield
        # Still held: whoever gets it now finds the finished pack.
        path.unlink(missing_ok=True)
    finally:
        lock.release()


class Journal:
    """The work folder, open for writing; for one process at a time (see `locked`).

    Attributes:
        done: the entry of each picture that is packed already, by name.
    """

    def __init__(self, work: Path, header: Mapping[str, Any], stamps: Mapping[str, Stamp], scale: int):
        """Keep what belongs to pictures of these `stamps` (by name) and is undamaged; forget the rest.

        `header` says what else the pixels depend on: another one begins anew.
        """
        self.work, self.scale = work, scale
        work.mkdir(parents=True, exist_ok=True)
        kept = dict(self._read(dict(header), stamps))
        self.done = {name: entry for name, (entry, _) in kept.items()}
        self.end = max((entry.start + entry.size for entry in self.done.values()), default=0)
        # In this order: a journal of less than there is does no harm, one of more would.
        lines = [json.dumps(dict(header)), *(line for _, line in kept.values())]
        fresh = work / f"{JOURNAL}.new"
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.replace(work / JOURNAL)
        self.files = {}
        for side, factor in (("lr", 1), ("hr", scale**2)):
            self.files[side] = open(work / f"{side}.bin", "ab")  # noqa: SIM115 - closed by `close`
            self.files[side].truncate(self.end * factor)
        self.journal = open(work / JOURNAL, "a")  # noqa: SIM115

    def append(
        self, name: str, stamp: Stamp, lr: UInt8[np.ndarray, "h w 3"], hr: UInt8[np.ndarray, "H W 3"]
    ) -> None:
        """Store a picture, then say so."""
        lr, hr = np.ascontiguousarray(lr), np.ascontiguousarray(hr)
        for side, pixels in (("lr", lr), ("hr", hr)):
            self.files[side].write(pixels.data)
            self.files[side].flush()
        entry = Entry(lr.shape[0], lr.shape[1], self.end, zlib.crc32(lr.data), zlib.crc32(hr.data))
        self.journal.write(json.dumps({"name": name, "stamp": stamp, **vars(entry)}) + "\n")
        self.journal.flush()
        self.end += entry.size
        self.done[name] = entry

    def sync(self) -> None:
        """Return when the pixels would outlive a power cut."""
        for file in self.files.values():
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files; the folder stays."""
        for file in (*self.files.values(), self.journal):
            file.close()

    def _read(
        self, header: dict[str, Any], stamps: Mapping[str, Stamp]
    ) -> Iterator[tuple[str, tuple[Entry, str]]]:
        """Name, entry and line of each picture that can be kept."""
        path = self.work / JOURNAL
        lines = path.read_text().split("\n") if path.is_file() else []
        # What follows the last line's end was cut off while it was written.
        records = [_parse(line) for line in lines[:-1]]
        if not records or records[0] != header:
            return
        sides = [_bytes(self.work / f"{side}.bin") for side in ("lr", "hr")]
        for line, record in zip(lines[1:], records[1:], strict=False):
            if record is None:
                return
            name, stamp = record.pop("name"), record.pop("stamp")
            entry = Entry(**record)
            if stamps.get(name) == stamp and entry.is_intact(sides[0], sides[1], self.scale):
                yield name, (entry, line)


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _bytes(path: Path) -> UInt8[np.ndarray, "Bytes"]:
    """A file's bytes, mapped; none where there is no file."""
    if not path.is_file() or path.stat().st_size == 0:
        return np.empty(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")


def _count_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0
