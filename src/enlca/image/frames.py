"""Files that hold several pictures: the pages of a TIFF, the frames of a GIF or a WebP.

Letters:  H height   W width   L layers: channels, then alpha
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from enlca.image import codecs, files
from enlca.image.codecs import Format
from enlca.image.picture import MAX_PIXELS, Picture, PictureError, check_pixels

FRAMES = ("auto", "first", "all")
_GIF = Format("GIF", holds=(), longest_side=65535)
# What can be written with several pictures in it.
SEVERAL_WRITABLE = {suffix: files.WRITABLE[suffix] for suffix in (".webp", ".tif", ".tiff")} | {".gif": _GIF}


@dataclass(frozen=True, eq=False)
class Frames:
    """Pictures in their order.

    Attributes:
        pictures: at least one.
        delays: how long each is shown, in milliseconds; empty for pages.
        loop: how many times the animation is shown; 0 is for ever.

    Raises:
        ValueError: no pictures, or another number of delays.
    """

    pictures: tuple[Picture, ...]
    delays: tuple[int, ...] = ()
    loop: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be shown."""
        if not self.pictures:
            raise ValueError("frames must be at least one picture")
        if self.delays and len(self.delays) != len(self.pictures):
            raise ValueError(f"{len(self.pictures)} frames need as many delays, got {len(self.delays)}")

    @property
    def remarks(self) -> tuple[str, ...]:
        """Those of all pictures, each once."""
        return tuple(dict.fromkeys(remark for picture in self.pictures for remark in picture.remarks))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first picture, in pixels."""
        return self.pictures[0].size

    def map(self, change: Callable[[Picture], Picture]) -> "Frames":
        """The same frames, each changed."""
        return replace(self, pictures=tuple(change(picture) for picture in self.pictures))

    def save(self, path: str | os.PathLike[str], *, quality: int = 95) -> tuple[str, ...]:
        """Write all pictures into one file; see `write_frames`."""
        return write_frames(path, self, quality=quality)


def read_frames(path: str | os.PathLike[str], *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> Frames:
    """Read all pages or frames of a file; of most formats that is the one picture it holds.

    Raises:
        PictureError: as `files.read_image`; `max_pixels` is for all pictures together.
    """
    path = Path(path)
    kind = files.format_of(path)
    limits = {"max_bits": max_bits, "max_pixels": max_pixels}
    if kind not in ("tiff", "gif", "webp") or (n_frames := codecs.count_frames(path)) == 1:
        return Frames((files.read_image(path, **limits),))
    if kind != "tiff":
        return _animation(path, n_frames, max_pixels)
    pages = []
    for page in range(n_frames):
        pages.append(codecs.decode_with_vips(path, page=page, **limits))
        width, height = pages[-1].size
        limits["max_pixels"] -= width * height
    return Frames(tuple(pages))


def _animation(path: Path, n_frames: int, max_pixels: int) -> Frames:
    """The frames, each whole: what a frame leaves out is taken from those before it."""
    first = codecs.open_with_vips(path)
    check_pixels(path, first.width, first.height * n_frames, max_pixels)
    # In one go, one below the other, since each frame is made from the one before.
    tall = codecs.decode_with_vips(path, n=-1, max_pixels=max_pixels)
    alphas = [None] * n_frames if tall.alpha is None else np.split(tall.alpha, n_frames)
    pictures = (
        replace(tall, pixels=pixels, alpha=alpha)
        for pixels, alpha in zip(np.split(tall.pixels, n_frames), alphas, strict=True)
    )
    delays = codecs.field_of(first, "delay") or [100] * n_frames
    return Frames(tuple(pictures), tuple(delays), int(codecs.field_of(first, "loop") or 0))


def write_frames(path: str | os.PathLike[str], frames: Frames, *, quality: int = 95) -> tuple[str, ...]:
    """Write all pictures into one TIFF, GIF or WebP file; it appears whole or not at all.

    Returns:
        Remarks, as `files.write_image`; a GIF's 256 colours are one.

    Raises:
        PictureError: as `files.write_image`, and for pictures that differ in size, channels or depth.
        ValueError: `quality` is not in 1 to 100.
    """
    path = Path(path)
    if len(frames.pictures) == 1 and path.suffix.lower() in files.WRITABLE:
        return files.write_image(path, frames.pictures[0], quality=quality)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be from 1 to 100, got {quality}")
    form = check_frames_target(path, frames)
    fits = [codecs.fitted(picture, form) for picture in frames.pictures]
    remarks = [remark for _, said in fits for remark in said]
    if form.name == "GIF":
        remarks.append("GIF holds 256 colours: the rest were rounded to these")
    animation: dict[str, Any] = {} if form.name == "TIFF" else {"loop": frames.loop}
    if frames.delays and form.name != "TIFF":
        animation["delay"] = list(frames.delays)
    data = codecs.encode_with_vips(path, [picture for picture, _ in fits], form, quality=quality, **animation)
    files.replace_file(path, data)
    return tuple(dict.fromkeys(remarks))


def check_frames_target(path: Path, frames: Frames, *, scale: int = 1) -> Format:
    """The format of a file, if these pictures, each `scale` times larger, can be written there together.

    Raises:
        PictureError: as `write_frames`, but for what only the file system knows.
    """
    writable = SEVERAL_WRITABLE if len(frames.pictures) > 1 else SEVERAL_WRITABLE | files.WRITABLE
    for picture in frames.pictures:
        width, height = (scale * side for side in picture.size)
        files.check_target(path, width, height, opaque=picture.opaque, writable=writable)
    kinds = {(p.pixels.shape, p.bits, p.alpha is None) for p in frames.pictures}
    if len(kinds) > 1:
        what = "its pages differ in size, channels or depth, which one file cannot hold here"
        raise PictureError(f"{path}: {what}; enlarge them one by one")
    return writable[path.suffix.lower()]


def read_for(
    source: Path, target: Path, *, scale: int, frames: str = "auto", max_pixels: int = MAX_PIXELS
) -> Picture | Frames:
    """What is to be enlarged into `target`: refused before the work if that could not be written.

    `frames`: "first" takes one picture, saying so in its remarks; "all" takes all; "auto" takes all pages of
    a TIFF that becomes a TIFF, and otherwise the first.

    Raises:
        PictureError: `source` cannot be read, or `target` cannot hold the result.
        ValueError: `frames` is none of these.
    """
    if frames not in FRAMES:
        raise ValueError(f"frames must be one of {', '.join(FRAMES)}; got {frames!r}")
    pages = frames == "auto" and target.suffix.lower() in (".tif", ".tiff")
    if frames == "all" or (pages and files.format_of(source) == "tiff"):
        several = read_frames(source, max_bits=16, max_pixels=max_pixels)
        check_frames_target(target, several, scale=scale)
        first, *more = several.pictures
        alone = not more and target.suffix.lower() in files.WRITABLE
        return first if alone else several
    picture = files.read_image(source, max_bits=16, max_pixels=max_pixels)
    width, height = (scale * side for side in picture.size)
    files.check_target(target, width, height, opaque=picture.opaque)
    return picture
