"""Files that hold several pictures: pages of a TIFF, frames of an animation."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from enlca.errors import PictureError
from enlca.image.decoding import rows_with_vips
from enlca.image.rows import PictureRows, check_pixels
from enlca.image.source import Source, field_of, open_with_vips


def count_frames(source: Source) -> int:
    """Return the number of pages, frames or pictures by the file's header. Raises PictureError."""
    return int(field_of(open_with_vips(source), "n-pages") or 1)


def open_frames(
    source: Source, n_frames: int, *, max_bits: int, max_pixels: int, salvage: bool = False
) -> PictureRows:
    """Open all `n_frames` pages of a TIFF or frames of an animation, one below the other.

    A page is a picture of its own; a frame builds on those before it, so an animation is decoded in one go.

    Raises:
        PictureError: as `files.open_image`; and pages that differ in size, channels or depth.
    """
    first = open_with_vips(source)
    check_pixels(source, first.width, first.height * n_frames, max_pixels)
    if str(field_of(first, "vips-loader")).startswith("tiff"):
        return _open_pages(source, n_frames, max_bits, max_pixels, salvage)
    limits = {"max_bits": max_bits, "max_pixels": max_pixels}
    tall = rows_with_vips(source, pages=n_frames, n=-1, salvage=salvage, **limits)
    delays = field_of(first, "delay") or [100] * n_frames
    return replace(tall, delays=tuple(delays), loop=int(field_of(first, "loop") or 0))


def _open_pages(source: Source, n_pages: int, max_bits: int, max_pixels: int, salvage: bool) -> PictureRows:
    pages = []
    for page in range(n_pages):
        limits = {"max_bits": max_bits, "max_pixels": max_pixels}
        pages.append(rows_with_vips(source, page=page, salvage=salvage, **limits))
        max_pixels -= pages[-1].width * pages[-1].height
    if len({(page.size, page.channels, page.has_alpha, page.bits) for page in pages}) > 1:
        what = "its pages differ in size, channels or depth, which one file cannot hold here"
        raise PictureError(f"{source}: {what}; split it, or take the first with --frames first")

    def bands() -> Iterator[np.ndarray]:
        for page in pages:
            yield from page.bands

    remarks = dict.fromkeys(remark for page in pages for remark in page.remarks)
    return replace(pages[0], bands=bands(), remarks=tuple(remarks), pages=n_pages)
