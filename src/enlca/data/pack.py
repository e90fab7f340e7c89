"""A folder of pictures, decoded and degraded once, as one memory-mapped file a side.

A pack is a folder with `hr.bin` and `lr.bin` (all pictures' uint8 RGB pixels, one after the other) and
`pack.json` (scale, and each picture's name, size, place and checksums). Training crops straight from the
memory map: a patch costs a few page reads, never a decoder. `packing` writes what is read here.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.data.journal import Entry
from enlca.data.layouts import training_pairs
from enlca.data.packing import FORMAT, UnusablePictures, stamp, too_small, write_pack
from enlca.errors import PackError
from enlca.runtime.files import cache_dir

__all__ = ["PackError", "PackedSet", "UnusablePictures", "open_pack", "open_training_set", "write_pack"]


@dataclass(frozen=True)
class PackedSet:
    """A pack, open for reading.

    Attributes:
        scale: LR is this many times smaller than HR.
        names: the pictures' file names.
        shapes: height and width of each LR picture.
        hr, lr: all pixels, flat.
        starts: where each LR picture starts in `lr`; in `hr` and `teacher` it is scale^2 times that.
        teacher: the pixels of a teacher's pictures, laid out as `hr`; None without one (see `data.teacher`).
    """

    scale: int
    names: list[str]
    shapes: list[tuple[int, int]]
    hr: UInt8[np.ndarray, "HRBytes"]
    lr: UInt8[np.ndarray, "LRBytes"]
    starts: list[int]
    teacher: UInt8[np.ndarray, "HRBytes"] | None = None

    @property
    def large(self) -> list[UInt8[np.ndarray, "HRBytes"]]:
        """The sides of HR size: HR, then the teacher's."""
        return [self.hr] if self.teacher is None else [self.hr, self.teacher]

    def __len__(self) -> int:
        return len(self.names)

    def lr_picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A view of the small picture."""
        height, width = self.shapes[index]
        start = self.starts[index]
        return self.lr[start : start + height * width * 3].reshape(height, width, 3)

    def hr_picture(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """A view of the large picture, `scale` times the size of the small one."""
        return self.large_pictures(index)[0]

    def large_pictures(self, index: int) -> list[UInt8[np.ndarray, "H W 3"]]:
        """Views of the HR picture and of the teacher's."""
        height, width = (self.scale * side for side in self.shapes[index])
        start = self.starts[index] * self.scale**2
        part = slice(start, start + height * width * 3)
        return [pixels[part].reshape(height, width, 3) for pixels in self.large]


def open_pack(folder: Path) -> PackedSet:
    """Open a pack made by `write_pack`; looks at sizes only, `damaged_pictures` looks at all bytes.

    Raises:
        PackError: if the pack is of another version, or its files are not what they should be.
    """
    scale, entries, lr_bytes = _read_index(folder)
    pixels = {}
    for side, expected in (("lr", lr_bytes), ("hr", lr_bytes * scale**2)):
        path = folder / f"{side}.bin"
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise PackError(f"{path}: {size} bytes, expected {expected}; delete {folder}")
        pixels[side] = np.memmap(path, dtype=np.uint8, mode="r")
    shapes = [(entry.height, entry.width) for entry in entries.values()]
    starts = [entry.start for entry in entries.values()]
    return PackedSet(scale, list(entries), shapes, pixels["hr"], pixels["lr"], starts)


def damaged_pictures(
    folder: Path, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> list[str]:
    """The names of a pack's pictures whose bytes are not those that were packed: reads all of them.

    Raises:
        PackError: see `open_pack`.
    """
    packed = open_pack(folder)
    damaged = []
    for done, (name, entry) in enumerate(_read_index(folder)[1].items(), 1):
        if not entry.is_intact(packed.lr, packed.hr, packed.scale):
            damaged.append(name)
        on_progress(done, len(packed))
    return damaged


def open_training_set(
    folder: Path,
    *,
    scale: int,
    min_side: int = 1,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PackedSet:
    """The pictures of `folder`: a pack, or what `layouts` finds in it, which is then packed on first use.

    The pack made then goes to `cache` (default: the user's cache folder). It is found again by the names,
    sizes and times of the files, so a changed folder is packed anew. `min_side` is that of an LR patch.

    Raises:
        PictureError: no pictures, or some cannot be used; all good ones are packed before that is said.
        PackError: `folder` is a pack of another scale or version, or damaged.
    """
    if is_pack(folder):
        packed = open_pack(folder)
        if packed.scale != scale:
            raise PackError(f"{folder}: a pack for x{packed.scale}, not for x{scale}; pack the pictures anew")
    else:
        pairs = training_pairs(folder, scale)
        home, name = cache or default_cache(), f"{folder.resolve().name}-x{scale}"
        out = home / f"{name}-{_digest([[pair.name, *stamp(pair)] for pair in pairs])}"
        if not is_pack(out):
            # By the folder's path alone: what is packed must be found again after a picture was mended.
            work = home / f".{name}-{_digest(str(folder.resolve()))}.part"
            write_pack(folder, pairs, out, scale=scale, min_side=min_side, work=work, on_progress=on_progress)
        packed = open_pack(out)
    if small := too_small(dict(zip(packed.names, packed.shapes, strict=True)), scale, min_side):
        advice = f"see `enlca data check {folder} --scale {scale} --patch {min_side}`"
        raise UnusablePictures(folder, list(small.values()), len(packed), advice)
    return packed


def is_pack(folder: Path) -> bool:
    """Whether a pack is there; not whether it is a good one."""
    return (folder / "pack.json").is_file()


def default_cache() -> Path:
    """Return the default folder of packs, the user's cache directory. Raises OSError: no home directory."""
    return cache_dir()


def _read_index(folder: Path) -> tuple[int, dict[str, Entry], int]:
    """Scale, pictures by name, and the size of `lr.bin`."""
    try:
        index = json.loads((folder / "pack.json").read_text())
        if index["format"] != FORMAT:
            raise PackError(
                f"{folder}: pack format {index['format']}, this version reads {FORMAT}; delete it"
            )
        entries = {record.pop("name"): Entry(**record) for record in index["pictures"]}
        return index["scale"], entries, index["lr_bytes"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PackError(f"{folder}: not a pack, or damaged; delete it ({error})") from error


def _digest(of: object) -> str:
    return hashlib.sha256(json.dumps([FORMAT, of]).encode()).hexdigest()[:16]
