"""A picture that is too large is refused by its header; a small one takes little memory for a long file."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from enlca.errors import PictureError
from enlca.explorer.uploads import read_upload


@contextmanager
def memory() -> Iterator[list[int]]:
    """Gets the bytes that were held at once inside."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_a_picture_past_the_limit_is_refused_before_it_is_decoded(tmp_path):
    side = 4000
    path = tmp_path / "large.pbm"
    path.write_bytes(b"P4\n%d %d\n" % (side, side) + bytes(side * side // 8))
    with (
        memory() as peak,
        pytest.raises(PictureError, match=r"16\.0 megapixels; this page looks into up to 1; .*--max"),
    ):
        read_upload(path, max_megapixels=1.0)
    assert peak[0] < 2 * path.stat().st_size


def test_values_beyond_a_small_picture_take_no_memory_of_their_own(tmp_path):
    path = tmp_path / "small.pgm"
    path.write_bytes(b"P2\n2 1\n65535\n" + b"777 " * 250_000)
    with memory() as peak:
        picture = read_upload(path, max_megapixels=1.0)
    np.testing.assert_array_equal(picture.pixels.ravel(), [777, 777])
    assert peak[0] < 4 * path.stat().st_size
