"""Files that hold several pictures: the pages of a TIFF, the frames of a GIF or a WebP.

Both become rows below one another. A page is a picture of its own; a frame is made from those before it, so
an animation is decoded in one go.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from enlca.errors import PictureError
from enlca.image import decoding
from enlca.image.picture import check_pixels
from enlca.image.rows import PictureRows


def open_frames(path: Path, n_frames: int, *, max_bits: int, max_pixels: int) -> PictureRows:
    """All `n_frames` pages or frames of a file, not decoded yet.

    Raises:
        PictureError: as `files.open_image`; and pages that differ in size, channels or depth.
    """
    first = decoding.open_with_vips(path)
    check_pixels(path, first.width, first.height * n_frames, max_pixels)
    if str(decoding.field_of(first, "vips-loader")).startswith("tiff"):
        return _pages(path, n_frames, max_bits, max_pixels)
    tall = decoding.rows_with_vips(path, max_bits=max_bits, max_pixels=max_pixels, pages=n_frames, n=-1)
    delays = decoding.field_of(first, "delay") or [100] * n_frames
    return replace(tall, delays=tuple(delays), loop=int(decoding.field_of(first, "loop") or 0))


def _pages(path: Path, n_pages: int, max_bits: int, max_pixels: int) -> PictureRows:
    pages = []
    for page in range(n_pages):
        pages.append(decoding.rows_with_vips(path, max_bits=max_bits, max_pixels=max_pixels, page=page))
        max_pixels -= pages[-1].width * pages[-1].height
    if len({(page.size, page.channels, page.has_alpha, page.bits) for page in pages}) > 1:
        what = "its pages differ in size, channels or depth, which one file cannot hold here"
        raise PictureError(f"{path}: {what}; split it, or take the first with --frames first")

    def bands() -> Iterator[np.ndarray]:
        for page in pages:
            yield from page.bands

    remarks = dict.fromkeys(remark for page in pages for remark in page.remarks)
    return replace(pages[0], bands=bands(), remarks=tuple(remarks), pages=n_pages)
