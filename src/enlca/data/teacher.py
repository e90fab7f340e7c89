"""A teacher's pictures: what any other method made of the training set's LR pictures, as targets.

They lie in one folder under the names of the HR pictures, and are decoded once into a memory-mapped file
that has the layout of the pack's `hr.bin`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.data.pack import PackedSet, default_cache
from enlca.data.packing import UnusablePictures
from enlca.errors import PictureError
from enlca.image.files import find_pictures, open_image
from enlca.image.picture import read_image
from enlca.runtime.concurrency import prefetch
from enlca.runtime.files import atomic_path


def open_teacher(
    folder: Path,
    packed: PackedSet,
    *,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> UInt8[np.ndarray, "HRBytes"]:
    """All pixels of the teacher's pictures, flat, in the order of `packed`.

    Names are compared without their suffix. All sizes are compared before anything is decoded.

    Raises:
        PictureError: `folder` holds no pictures.
        UnusablePictures: pictures of `packed` that have none here, or one of another size or unreadable.
    """
    files = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in find_pictures(folder, recursive=True)
    }
    found = [files.get(Path(name).with_suffix("").as_posix()) for name in packed.names]
    _refuse(folder, packed, found)
    paths = [path for path in found if path is not None]
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    digest = hashlib.sha256(json.dumps([stamps, packed.shapes, packed.scale]).encode()).hexdigest()[:16]
    out = (cache or default_cache()) / f"{folder.resolve().name}-x{packed.scale}-{digest}.bin"
    if not out.exists():
        _decode(paths, packed, out, on_progress)
    return np.memmap(out, dtype=np.uint8, mode="r")


def _refuse(folder: Path, packed: PackedSet, found: Sequence[Path | None]) -> None:
    """Raise UnusablePictures that names what is missing or of another size."""
    reasons = []
    for name, shape, path in zip(packed.names, packed.shapes, found, strict=True):
        height, width = (packed.scale * side for side in shape)
        if path is None:
            reasons.append(f"{name}: the teacher has no picture of this name")
            continue
        try:
            size = open_image(path).size
        except PictureError as error:
            reasons.append(str(error))
            continue
        if size != (width, height):
            reasons.append(f"{path}: {size[0]}x{size[1]}, but its HR picture is {width}x{height}")
    if reasons:
        advice = "data.teacher needs a picture of the HR size for each picture of data.train"
        raise UnusablePictures(folder, reasons, len(packed), advice)


def _decode(
    paths: Sequence[Path], packed: PackedSet, out: Path, on_progress: Callable[[int, int], None]
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as part, part.open("wb") as file:
        pictures = prefetch(lambda path: read_image(path).rgb, paths)
        for done, (_, pixels) in enumerate(pictures, 1):
            file.write(np.ascontiguousarray(pixels).data)
            on_progress(done, len(packed))
