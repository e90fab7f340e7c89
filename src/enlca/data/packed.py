"""Packs opened for reading, and made on first use: the pictures of a training set and of its teacher.

Training crops patches straight from memory-mapped files: a patch costs a few page reads, never a decoder.
`packing` describes the format and writes it.

Letters:  h, w height and width of LR   H, W of HR, S times those   S scale
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from enlca.data.packing import (
    FORMAT,
    INDEX,
    Item,
    OnProgress,
    UnusablePictures,
    advice,
    digest,
    is_pack,
    items_of,
    read_intact,
    too_small,
    write_sides,
)
from enlca.data.pairs import training_pairs
from enlca.errors import PackError, PictureError
from enlca.image.files import find_pictures, open_image
from enlca.image.picture import read_image
from enlca.runtime.files import as_utf8, cache_dir

Pictures = Sequence[UInt8[np.ndarray, "_ _ 3"]]

# Length of the header of a .npy file of three dimensions.
NPY_HEADER = 128
# Mapped files per side at a time; Linux allows a process about 65,000 in all.
MAX_MAPPED = 16_384
# Pixels of a side, and beyond any picture.
MOST_SIDE = 1 << 24


@dataclass(frozen=True, eq=False)
class PackedSet:
    """The pictures of a pack, in order.

    Attributes:
        scale: S.
        names: file names.
        shapes: height and width of each LR picture.
        lr, hr: the pictures, `h w 3` and `H W 3`.
        teacher: another method's pictures of the size of HR; None without (see `data.teacher`).
        shares: runs of pictures and the share of all patches that come from each; without, every place for a
            patch is as likely as any other.
    """

    scale: int
    names: list[str]
    shapes: list[tuple[int, int]]
    lr: Pictures
    hr: Pictures
    teacher: Pictures | None = None
    shares: tuple[tuple[slice, float], ...] = ()

    @property
    def hr_sides(self) -> list[Pictures]:
        """The sides of HR size: HR, then the teacher's."""
        return [self.hr] if self.teacher is None else [self.hr, self.teacher]

    @property
    def nbytes(self) -> int:
        """Size of the LR and HR pixels in bytes."""
        return sum(3 * height * width for height, width in self.shapes) * (1 + self.scale**2)

    def __len__(self) -> int:
        return len(self.names)


class MappedPictures(Sequence):
    """Read-only arrays `H W 3` over .npy files, each mapped when it is first used.

    `np.load(mmap_mode="r")` would keep a file descriptor for each picture, more than many systems allow;
    `torch.from_file` keeps none. Pickled, only the paths travel.
    """

    def __init__(
        self, paths: Sequence[Path], shapes: Sequence[tuple[int, int]], *, max_mapped: int = MAX_MAPPED
    ):
        self.paths, self.shapes, self.max_mapped = paths, shapes, max_mapped
        self._mapped: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if index not in self._mapped:
            if len(self._mapped) >= self.max_mapped:
                self._mapped.clear()
            self._mapped[index] = self._map(index)
        return self._mapped[index]

    def __reduce__(self) -> tuple:
        return MappedPictures, (self.paths, self.shapes)

    def _map(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        height, width = self.shapes[index]
        size = NPY_HEADER + 3 * height * width
        pixels = torch.from_file(str(self.paths[index]), size=size, dtype=torch.uint8).numpy()[NPY_HEADER:]
        pixels.flags.writeable = False
        return pixels.reshape(height, width, 3)


def open_pack(folder: Path) -> PackedSet:
    """Open a pack made by `write_pack`; checks file sizes only, `damaged_pictures` checks all bytes.

    Raises:
        PackError: the pack has another format, or a file is missing or has another size.
    """
    index = _read_index(folder)
    if index["sides"] != ["lr", "hr"]:
        raise PackError(f"{folder}: holds {' and '.join(index['sides'])} pictures, not LR and HR")
    scale = index["scale"]
    lr, hr = _open_side(folder, index, "lr"), _open_side(folder, index, "hr", factor=scale)
    names = [entry["name"] for entry in index["pictures"]]
    return PackedSet(scale, names, list(lr.shapes), lr, hr)


def damaged_pictures(folder: Path, on_progress: OnProgress = lambda done, total: None) -> list[str]:
    """Read a whole pack; return the names of pictures whose bytes are not those that were packed.

    Raises:
        PackError: see `open_pack`.
    """
    open_pack(folder)
    index = _read_index(folder)
    damaged = []
    for done, entry in enumerate(index["pictures"], 1):
        if any(read_intact(folder / side / entry[side]) is None for side in index["sides"]):
            damaged.append(entry["name"])
        on_progress(done, len(index["pictures"]))
    return damaged


def open_training_set(
    folder: Path,
    *,
    scale: int,
    min_side: int = 1,
    cache: Path | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> PackedSet:
    """Open the pictures of `folder`: a pack, or pictures and pairs (see `pairs`), packed on first use.

    The pack made then goes to `cache` (default: the user's cache directory). It is found again by the names,
    sizes and times of the files, so a changed folder is packed anew. `min_side` is that of an LR patch.

    Raises:
        PictureError: no pictures, or some cannot be used; all others are packed before that is raised.
        PackError: `folder` is a pack of another scale or format, or damaged.
    """
    remedy = advice(folder, scale, min_side)
    if is_pack(folder):
        packed = open_pack(folder)
        if packed.scale != scale:
            raise PackError(f"{folder}: a pack for x{packed.scale}, not for x{scale}; pack the pictures anew")
    else:
        items = items_of(training_pairs(folder, scale), scale)
        settings = {"scale": scale, "min_side": min_side, "on_progress": on_progress}
        out, failed = _cached(folder, items, cache, sides=("lr", "hr"), **settings)
        if failed:
            raise UnusablePictures(folder, failed, len(items), remedy)
        packed = open_pack(out)
    if small := too_small(dict(zip(packed.names, packed.shapes, strict=True)), scale, min_side):
        raise UnusablePictures(folder, list(small.values()), len(packed), remedy)
    return packed


def open_teacher(
    folder: Path,
    packed: PackedSet,
    *,
    cache: Path | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Pictures:
    """Open the pictures that another method made of the LR of `packed`, in its order, as training targets.

    They have the names of the HR pictures, apart from the suffix, and HR size; names and sizes are compared
    before anything is decoded. They are packed on first use, as in `open_training_set`.

    Raises:
        PictureError: `folder` holds no pictures.
        UnusablePictures: pictures of `packed` that have none here, more than one, or one of another size or
            unreadable, and pictures that share a name, apart from the suffix.
    """
    files: dict[str, list[Path]] = {}
    for path in find_pictures(folder, recursive=True):
        files.setdefault(_stem(path.relative_to(folder)), []).append(path)
    counts = Counter(_stem(Path(name)) for name in packed.names)
    items, reasons = [], []
    for name in dict.fromkeys(packed.names):
        if counts[_stem(Path(name))] > 1:
            reasons.append(f"{name}: two pictures have this name, whatever their suffix")
    for name, (height, width) in zip(packed.names, packed.shapes, strict=True):
        found, size = files.get(_stem(Path(name)), []), (packed.scale * width, packed.scale * height)
        try:
            if len(found) != 1:
                many = f"{len(found)} pictures" if found else "no picture"
                raise PictureError(f"{name}: the teacher has {many} of this name")
            path = found[0]
            wide, high = open_image(path).size
            if (wide, high) != size:
                what = f"{wide}x{high}, but its HR picture is {size[0]}x{size[1]}"
                raise PictureError(f"{path}: {what}")
        except PictureError as error:
            reasons.append(str(error))
        else:
            items.append(Item(name, (path,), lambda path=path: (read_image(path).rgb,)))
    if not reasons:
        settings = {"scale": packed.scale, "on_progress": on_progress}
        out, reasons = _cached(folder, items, cache, sides=("teacher",), **settings)
        if not reasons:
            return _open_side(out, _read_index(out), "teacher")
    remedy = "data.teacher needs a picture of the HR size for each picture of data.train and data.more"
    raise UnusablePictures(folder, reasons, len(packed), remedy)


def _stem(path: Path) -> str:
    return path.with_suffix("").as_posix()


def _cached(
    folder: Path,
    items: Sequence[Item],
    cache: Path | None,
    *,
    sides: tuple[str, ...],
    scale: int,
    **settings: Any,
) -> tuple[Path, list[str]]:
    """Return the pack of `items` in the cache, made if missing, and a line for each unusable picture."""
    # PyTorch maps no file in a folder whose name is not UTF-8.
    home, name = cache or cache_dir(), f"{as_utf8(folder.resolve().name)}-x{scale}"
    out = home / f"{name}-{digest(sides, [[item.name, item.key(scale)] for item in items])}"
    if is_pack(out):
        return out, []
    # Named by the folder's path alone, so that it is found again after a picture was mended.
    work = home / f".{name}-{digest(sides, str(folder.resolve()))}.part"
    return out, write_sides(items, out, work, sides=sides, scale=scale, **settings)


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / INDEX).read_text())
        found = index["format"]
        if found == FORMAT:
            _check_index(index)
            return index
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PackError(f"{folder}: not a pack, or damaged; delete it ({error})") from error
    raise PackError(
        f"{folder}: pack format {found}, this version reads {FORMAT}; delete it and make it anew from the"
        f" pictures: enlca data pack DIR {folder} --scale S"
    )


def _check_index(index: dict[str, Any]) -> None:
    """Raise ValueError or LookupError for entries that are missing or of another kind."""
    for entry in index["pictures"]:
        files = [entry[side] for side in index["sides"]]
        if not all(isinstance(text, str) for text in (entry["name"], *files)):
            raise ValueError("a picture whose name or file is no text")
        # A name alone: no path that leads out of the pack.
        if any("\0" in file or Path(file).name != file for file in files):
            raise ValueError("a picture whose file is in another folder")
        for number in (entry["height"], entry["width"], index["scale"]):
            if type(number) is not int or not 1 <= number <= MOST_SIDE:
                raise ValueError("a size or scale that is no count of pixels")


def _open_side(folder: Path, index: dict[str, Any], side: str, *, factor: int = 1) -> MappedPictures:
    """Open the pictures of a side, `factor` times as large as the index says. Raises PackError."""
    entries = index["pictures"]
    paths = [folder / side / entry[side] for entry in entries]
    shapes = [(factor * entry["height"], factor * entry["width"]) for entry in entries]
    for path, (height, width) in zip(paths, shapes, strict=True):
        expected = NPY_HEADER + 3 * height * width
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise PackError(f"{path}: {size} bytes, expected {expected}; delete {folder}")
    return MappedPictures(paths, shapes)
