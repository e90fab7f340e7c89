"""What a folder of pictures is: large ones alone, pairs in one of the usual layouts, or DIV2K's own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from enlca.data.benchmark import LAYOUTS, TRAIN_LAYOUT, Pair, find_layout, match
from enlca.errors import PictureError
from enlca.image.files import find_pictures

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class Part:
    """Pictures of a folder that belong together.

    Attributes:
        large, small: the folders they are in; `small` is None where small pictures are made.
        scale: what they are for; None where that can be any.
        pairs: each named by its large picture's path inside the folder.
        orphans: small pictures that belong to no large one.
    """

    large: Path
    small: Path | None
    scale: int | None
    pairs: list[Pair]
    orphans: list[Path]


def training_pairs(folder: Path, scale: int) -> list[Pair]:
    """What training takes of a folder: pairs in a known layout, else all large pictures, sub-folders too.

    Of DIV2K's own folder that is the training half.

    Raises:
        PictureError: there are no pictures, or only those of another scale.
    """
    train = _part(folder, scale, (TRAIN_LAYOUT,))
    return (train or _part(folder, scale, LAYOUTS) or _flat(folder, scale)).pairs


def find_parts(folder: Path, scale: int | None) -> list[Part]:
    """All that a folder holds, for one scale or for each that it has small pictures of.

    Raises:
        PictureError: there are no pictures, or only those of another scale.
    """
    scales = SCALES if scale is None else (scale,)
    sets = ((TRAIN_LAYOUT,), LAYOUTS)
    found = [part for s in scales for layouts in sets if (part := _part(folder, s, layouts))]
    # Large pictures with small ones at some scale are not also large ones alone.
    paired = {part.large for part in found if part.small}
    parts = {(part.large, part.small): part for part in found if part.small or part.large not in paired}
    return list(parts.values()) or [_flat(folder, scale)]


def _part(folder: Path, scale: int, layouts: Sequence[tuple[str, str]]) -> Part | None:
    sides = find_layout(folder, scale, layouts)
    if sides is None:
        return None
    large, small = sides
    if small is None:
        only = scale if large.name.endswith(f"x{scale}") else None
        return Part(large, None, only, _named(folder, _alone(find_pictures(large))), [])
    made = find_pictures(small)
    pairs = match(find_pictures(large), made)
    claimed = {pair.lr for pair in pairs}
    return Part(large, small, scale, _named(folder, pairs), [path for path in made if path not in claimed])


def _flat(folder: Path, scale: int | None) -> Part:
    """Every picture under the folder; but small ones of another scale must not pass for large ones."""
    others = [other for other in SCALES if other != scale and find_layout(folder, other)]
    if others:
        have = " and ".join(f"x{other}" for other in others)
        large, _ = find_layout(folder, others[0]) or (folder, None)
        raise PictureError(
            f"{folder}: holds pictures for {have}, none for x{scale};"
            f" name {large} to have the small ones made of these"
        )
    return Part(folder, None, None, _named(folder, _alone(find_pictures(folder, recursive=True))), [])


def _alone(files: Sequence[Path]) -> list[Pair]:
    return [Pair(path.stem, path) for path in files]


def _named(folder: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs by their path inside the folder: names that no two of them share."""
    return [replace(pair, name=pair.hr.relative_to(folder).as_posix()) for pair in pairs]
