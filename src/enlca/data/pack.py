"""A folder of large pictures, decoded and degraded once, as one memory-mapped file a side.

A pack is a folder with `hr.bin` and `lr.bin` (all pictures' uint8 RGB pixels, one after the other) and
`pack.json` (scale, and each picture's name and size). Training crops straight from the memory map: a
patch costs a few page reads, never a decoder.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.errors import EnlcaError
from enlca.image.files import Picture, PictureError, find_pictures, read_image
from enlca.image.resize import imresize, mod_crop

FORMAT = 1


class PackError(EnlcaError):
    """A pack that cannot be used; deleting it is enough, since it is made anew."""


@dataclass(frozen=True)
class PackedSet:
    """A pack, open for reading.

    Attributes:
        scale: LR is this many times smaller than HR.
        names: the pictures' file names.
        shapes: height and width of each LR picture.
        hr, lr: all pixels, flat.
        starts: where each LR picture starts in `lr`; in `hr` it is scale^2 times that.
    """

    scale: int
    names: list[str]
    shapes: list[tuple[int, int]]
    hr: UInt8[np.ndarray, "HRBytes"]
    lr: UInt8[np.ndarray, "LRBytes"]
    starts: list[int]

    def __len__(self) -> int:
        return len(self.names)

    def lr_picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A view of the small picture."""
        height, width = self.shapes[index]
        start = self.starts[index]
        return self.lr[start : start + height * width * 3].reshape(height, width, 3)

    def hr_picture(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """A view of the large picture, `scale` times the size of the small one."""
        height, width = (self.scale * side for side in self.shapes[index])
        start = self.starts[index] * self.scale**2
        return self.hr[start : start + height * width * 3].reshape(height, width, 3)


def open_pack(folder: Path) -> PackedSet:
    """Open a pack made by `write_pack`.

    Raises:
        PackError: if the pack is of another version, or its files are not what they should be.
    """
    try:
        index = json.loads((folder / "pack.json").read_text())
    except (OSError, ValueError) as error:
        raise PackError(f"{folder}: not a pack, or damaged; delete it ({error})") from error
    if index.get("format") != FORMAT:
        found = index.get("format")
        raise PackError(f"{folder}: pack format {found}, this version reads {FORMAT}; delete it")
    shapes = [(height, width) for _, height, width in index["pictures"]]
    sizes = [height * width * 3 for height, width in shapes]
    starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    pixels = {}
    for side, expected in (("lr", starts[-1]), ("hr", starts[-1] * index["scale"] ** 2)):
        path = folder / f"{side}.bin"
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise PackError(f"{path}: {size} bytes, expected {expected}; delete {folder}")
        pixels[side] = np.memmap(path, dtype=np.uint8, mode="r")
    names = [name for name, _, _ in index["pictures"]]
    return PackedSet(index["scale"], names, shapes, pixels["hr"], pixels["lr"], starts)


def write_pack(
    files: Sequence[Path],
    out: Path,
    *,
    scale: int,
    min_side: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Decode `files`, mod-crop them to `scale`, degrade them by MATLAB's bicubic, and store both.

    The pack appears whole under `out`, or not at all. `min_side` is the smallest LR side accepted.

    Raises:
        PictureError: if a picture cannot be read or is too small, naming it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        pictures = []
        with open(building / "hr.bin", "wb") as hr_file, open(building / "lr.bin", "wb") as lr_file:
            for done, path in enumerate(files):
                on_progress(done, len(files))
                hr = _large_picture(path, scale, min_side)
                lr = imresize(hr, Fraction(1, scale))
                hr.tofile(hr_file)
                lr.tofile(lr_file)
                pictures.append((path.name, *lr.shape[:2]))
        on_progress(len(files), len(files))
        index = {"format": FORMAT, "scale": scale, "pictures": pictures}
        (building / "pack.json").write_text(json.dumps(index))
        try:
            os.replace(building, out)
        except OSError:
            # Somebody else packed the same pictures meanwhile: then theirs will do.
            if not (out / "pack.json").exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def cached_pack(
    folder: Path,
    *,
    scale: int,
    min_side: int = 1,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PackedSet:
    """The pack of all pictures under `folder`, made on first use.

    It is found again by the names, sizes and times of the files, so a changed folder is packed anew.
    `cache` defaults to the user's cache folder.
    """
    files = find_pictures(folder, recursive=True)
    stamps = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([FORMAT, scale, min_side, stamps]).encode()).hexdigest()[:16]
    out = (cache or default_cache()) / f"{folder.resolve().name}-x{scale}-{key}"
    if not (out / "pack.json").exists():
        write_pack(files, out, scale=scale, min_side=min_side, on_progress=on_progress)
    return open_pack(out)


def default_cache() -> Path:
    """Where packs go when nobody says otherwise: `$XDG_CACHE_HOME/enlca`, usually `~/.cache/enlca`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "enlca"


def _large_picture(path: Path, scale: int, min_side: int) -> UInt8[np.ndarray, "H W 3"]:
    picture: Picture = read_image(path)
    height, width = picture.pixels.shape[:2]
    if min(height, width) < min_side * scale:
        raise PictureError(
            f"{path}: {width}x{height} is too small, training needs at least {min_side * scale} pixels a side"
            f" (LR patch {min_side} times scale {scale})"
        )
    return mod_crop(picture.rgb, scale)
