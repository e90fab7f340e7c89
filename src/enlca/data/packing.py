"""Pictures, decoded and degraded once: how a pack is written. `pack` says what it is and reads it.

A picture that cannot be used stops nothing: all others are packed first, so that the next try, after it was
mended or removed, is short. Going on after an interruption does only what is missing.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.data.benchmark import Pair, load_pair
from enlca.data.journal import JOURNAL, Journal, Stamp, locked
from enlca.errors import EnlcaError, PackError, PictureError
from enlca.runtime.concurrency import prefetch

FORMAT = 2

OnProgress = Callable[[int, int], None]
Pixels = tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W 3"]]


class UnusablePictures(PictureError):
    """Some pictures of many cannot be used: how many, and the first three with their reasons."""

    exit_code = 1

    def __init__(self, folder: Path, reasons: Sequence[str], total: int, advice: str):
        # The folder is named once.
        first = [reason.replace(f"{folder}{os.sep}", "") for reason in reasons[:3]]
        more = [f"(and {len(reasons) - 3} more)"] if len(reasons) > 3 else []
        what = f"{len(reasons)} of {total} pictures cannot be used"
        super().__init__(f"{folder}: {what}: {'; '.join([*first, *more])}; {advice}")


def write_pack(
    folder: Path,
    pairs: Sequence[Pair],
    out: Path,
    *,
    scale: int,
    min_side: int = 1,
    work: Path | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> None:
    """Pack the pictures of `folder`: `pairs`, each of a name of its own; nothing, where `out` is a pack.

    The pack appears whole under `out`, or not at all. Until then it grows in `work`, by default a hidden
    sibling of `out`, where the next call finds it. `min_side` is the smallest LR side accepted.

    Raises:
        UnusablePictures: pictures that cannot be read, are too small or do not fit together.
        PackError: `out` is there and is not a pack.
    """
    work = work or out.with_name(f".{out.name}.part")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / "pack.json").exists()):
        raise PackError(f"{out}: is there and is not a pack; name another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(work, lambda done: on_progress(min(done, len(pairs)), len(pairs))):
        if not (out / "pack.json").exists():
            _fill(folder, pairs, work, scale=scale, min_side=min_side, on_progress=on_progress)
            os.replace(work, out)
        # Gone only now: a journal beside a pack does no harm, a work folder without one is made anew.
        (out / JOURNAL).unlink(missing_ok=True)


def _fill(
    folder: Path, pairs: Sequence[Pair], work: Path, *, scale: int, min_side: int, on_progress: OnProgress
) -> None:
    """Everything between an empty or half-filled work folder and a whole pack in it."""
    stamps = {pair.name: stamp(pair) for pair in pairs}
    journal = Journal(work, {"format": FORMAT, "scale": scale}, stamps, scale)
    failed: dict[str, str] = {}

    def load(pair: Pair) -> Pixels | EnlcaError:
        try:
            return load_pair(pair, scale)
        except EnlcaError as error:
            return error

    try:
        missing = [pair for pair in pairs if pair.name not in journal.done]
        already = len(pairs) - len(missing)
        on_progress(already, len(pairs))
        for done, (pair, result) in enumerate(prefetch(load, missing), already + 1):
            if isinstance(result, EnlcaError):
                failed[pair.name] = str(result)
            else:
                journal.append(pair.name, stamps[pair.name], *result)
            on_progress(done, len(pairs))
        journal.sync()
    finally:
        journal.close()
    shapes = {name: (entry.height, entry.width) for name, entry in journal.done.items()}
    failed |= too_small(shapes, scale, min_side)
    if failed:
        raise UnusablePictures(
            folder,
            [failed[pair.name] for pair in pairs if pair.name in failed],
            len(pairs),
            f"see `enlca data check {folder} --scale {scale} --patch {min_side}`",
        )
    index = {
        "format": FORMAT,
        "scale": scale,
        "lr_bytes": journal.end,
        "pictures": [{"name": pair.name, **vars(journal.done[pair.name])} for pair in pairs],
    }
    (work / "pack.json").write_text(json.dumps(index, indent=0) + "\n")


def too_small(shapes: Mapping[str, tuple[int, int]], scale: int, min_side: int) -> dict[str, str]:
    """Which LR pictures (name to height and width) are smaller than `min_side`, and the reason as a line."""
    return {
        name: f"{name}: {scale * width}x{scale * height} is too small, training needs at least"
        f" {min_side * scale} pixels a side (LR patch {min_side} times scale {scale})"
        for name, (height, width) in shapes.items()
        if min(height, width) < min_side
    }


def stamp(pair: Pair) -> Stamp:
    """Size and time of the pair's files, by which a changed one is noticed."""
    files = [path.stat() for path in (pair.hr, pair.lr) if path is not None]
    return [number for file in files for number in (file.st_size, file.st_mtime_ns)]
