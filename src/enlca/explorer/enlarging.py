"""A visitor's picture enlarged: the file to be fetched, and two pictures to be compared.

Letters:  H, W height and width   L layers: channels, then alpha
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from enlca.image.picture import Picture, collect, rows_of, write_image
from enlca.image.resize import imresize
from enlca.image.rows import to_8_bits
from enlca.inference.upscaler import Upscaler
from enlca.runtime.concurrency import Progress


@dataclass(frozen=True)
class Enlarged:
    """What came of it.

    Attributes:
        file: the enlarged picture as a PNG, with profile and metadata of the original.
        before, after: bicubic and the network's, as they are shown: without transparency.
        size: width and height.
        remarks: what was done otherwise than one might think.
    """

    file: Path
    before: Path
    after: Path
    size: tuple[int, int]
    remarks: tuple[str, ...]


def enlarge(upscaler: Upscaler, picture: Picture, folder: Path, stem: str, *, progress: Progress) -> Enlarged:
    """Enlarge a picture into files of a folder; `progress` may raise to end it."""
    notes: list[str] = []
    large = collect(upscaler.rows(rows_of(picture), progress=progress, note=notes.append))
    file = folder / f"{stem}_x{upscaler.scale}.png"
    notes += write_image(file, large)
    before, after = folder / "before.png", file
    write_image(before, Picture(imresize(shown(picture).pixels, Fraction(upscaler.scale)), icc=picture.icc))
    if large.alpha is not None:
        after = folder / "after.png"
        write_image(after, shown(large))
    return Enlarged(file, before, after, large.size, (*large.remarks, *notes))


def shown(picture: Picture) -> Picture:
    """The picture in 8 bits over white, so that nothing shines through."""
    pixels = to_8_bits(picture.pixels)
    if picture.alpha is None:
        return Picture(pixels, icc=picture.icc)
    alpha = to_8_bits(picture.alpha)[:, :, None].astype(np.uint32)
    flat: UInt8[np.ndarray, "H W L"] = ((pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return Picture(flat, icc=picture.icc)
