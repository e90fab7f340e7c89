"""Check a folder of pictures or a pack for everything that would make training fail, by reading all of it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enlca.data.packed import damaged_pictures, open_pack
from enlca.data.packing import is_pack, too_small
from enlca.data.pairs import Part, find_parts
from enlca.errors import EnlcaError, PackError
from enlca.image.picture import read_image
from enlca.runtime.concurrency import prefetch

Size = tuple[int, int]


@dataclass(frozen=True)
class Contents:
    """HR pictures that belong together.

    Attributes:
        layout: where HR and LR are.
        scale: the only scale that they serve; None for any.
        pictures: their number; all other numbers count those that can be read.
        megapixels: of HR together.
        smallest, median, largest: width and height, by area; None if none can be read.
        modes: number of pictures of each kind.
    """

    layout: str
    scale: int | None
    pictures: int
    megapixels: float
    smallest: Size | None
    median: Size | None
    largest: Size | None
    modes: dict[str, int]


@dataclass(frozen=True)
class Findings:
    """The contents of a folder, and a line for each problem."""

    folder: str
    contents: list[Contents]
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    """A file that was read: its size and kind, and a digest of its pixels; or why it cannot be read."""

    height: int = 0
    width: int = 0
    mode: str = ""
    digest: bytes = b""
    fault: str | None = None


def check_folder(
    folder: Path,
    *,
    scale: int | None = None,
    patch: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Findings:
    """Read every picture of a folder or a pack; return its contents and problems.

    `scale` restricts it to one scale; without it, each that the folder has LR pictures of is checked. `patch`
    is the side of an LR patch that must fit into every picture.

    Raises:
        PictureError: there are no pictures.
        PackError: it is a pack that cannot be opened, or of another scale.
    """
    if is_pack(folder):
        return _check_pack(folder, scale, patch or 1, on_progress)
    parts = find_parts(folder, scale)
    files = list(dict.fromkeys(path for part in parts for path in _files(part)))
    seen: dict[Path, _Seen] = {}
    on_progress(0, len(files))
    for done, (path, what) in enumerate(prefetch(_look, files), 1):
        seen[path] = what
        on_progress(done, len(files))
    problems = [what.fault for what in seen.values() if what.fault]
    for part in parts:
        problems += _problems_of(part, part.scale or scale, patch or 1, seen)
    problems += _duplicates(parts, seen)
    described = [_describe(folder, part, seen) for part in parts]
    # The same HR pictures may come with LR ones of several scales.
    return Findings(str(folder), described, list(dict.fromkeys(problems)))


def _files(part: Part) -> Iterator[Path]:
    for pair in part.pairs:
        yield pair.hr
        if pair.lr:
            yield pair.lr


def _look(path: Path) -> _Seen:
    try:
        picture = read_image(path)
    except EnlcaError as error:
        return _Seen(fault=str(error))
    height, width, channels = picture.pixels.shape
    mode = ("grey" if channels == 1 else "RGB") + (" with transparency" if picture.alpha is not None else "")
    digest = hashlib.blake2b(f"{height}x{width} ".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture.rgb).data)
    return _Seen(height, width, mode, digest.digest())


def _problems_of(part: Part, scale: int | None, patch: int, seen: dict[Path, _Seen]) -> Iterator[str]:
    """Yield pairs that do not fit, LR pictures without HR, pictures too small for a patch."""
    yield from (pair.fault for pair in part.pairs if pair.fault)
    yield from (f"{path}: an LR picture that belongs to no HR picture" for path in part.orphans)
    if scale is None:
        return
    shapes = {}
    for pair in part.pairs:
        hr = seen[pair.hr]
        if hr.fault:
            continue
        shapes[str(pair.hr)] = hr.height // scale, hr.width // scale
        lr = seen[pair.lr] if pair.lr else None
        if lr and not lr.fault and (lr.height, lr.width) != shapes[str(pair.hr)]:
            yield (
                f"{pair.lr}: {lr.width}x{lr.height} times {scale} is not the size of {pair.hr}"
                f" ({hr.width}x{hr.height})"
            )
    yield from too_small(shapes, scale, patch).values()


def _duplicates(parts: Sequence[Part], seen: dict[Path, _Seen]) -> Iterator[str]:
    """Yield HR pictures with the same pixels: they count twice, or leak from training into validation."""
    # The folders HR_x2, HR_x3, HR_x4 may hold the same picture, one for each scale.
    for scale in dict.fromkeys(part.scale for part in parts):
        first: dict[bytes, Path] = {}
        pairs = [pair for part in parts if part.scale in (scale, None) for pair in part.pairs]
        for path in dict.fromkeys(pair.hr for pair in pairs if not seen[pair.hr].fault):
            if (other := first.setdefault(seen[path].digest, path)) != path:
                yield f"{path}: the same picture as {other}"


def _describe(folder: Path, part: Part, seen: dict[Path, _Seen]) -> Contents:
    good = [what for pair in part.pairs if not (what := seen[pair.hr]).fault]
    hr = "this folder" if part.hr == folder else part.hr.relative_to(folder).as_posix()
    lr = f"in {part.lr.relative_to(folder).as_posix()}" if part.lr else "is made from it"
    sizes = [(what.width, what.height) for what in good]
    modes = dict(Counter(what.mode for what in good).most_common())
    layout = f"HR in {hr}, LR {lr}"
    return _contents(layout, part.scale, len(part.pairs), sizes, modes)


def _contents(
    layout: str, scale: int | None, pictures: int, sizes: list[Size], modes: dict[str, int]
) -> Contents:
    sizes = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    places = (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else (None, None, None)
    megapixels = round(sum(width * height for width, height in sizes) / 1e6, 3)
    return Contents(layout, scale, pictures, megapixels, *places, modes)


def _check_pack(
    folder: Path, scale: int | None, patch: int, on_progress: Callable[[int, int], None]
) -> Findings:
    packed = open_pack(folder)
    if scale not in (None, packed.scale):
        raise PackError(f"{folder}: a pack for x{packed.scale}, not for x{scale}")
    shapes = dict(zip(packed.names, packed.shapes, strict=True))
    problems = [f"{folder}: {line}" for line in too_small(shapes, packed.scale, patch).values()]
    for name in damaged_pictures(folder, on_progress):
        problems.append(f"{folder}: {name}: its bytes are not those that were packed; delete the pack")
    sizes = [(width * packed.scale, height * packed.scale) for height, width in packed.shapes]
    contents = _contents("pack", packed.scale, len(packed), sizes, {"RGB": len(packed)})
    return Findings(str(folder), [contents], problems)
