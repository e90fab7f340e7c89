"""Rows that come once can be read anywhere, from memory and from an unnamed file."""

import errno
from functools import partial

import numpy as np
import pytest

from enlca.errors import StoreError
from enlca.image.picture import Picture, rows_of
from enlca.inference import pixel_source
from enlca.inference.pixel_source import Raster, single_colour, spool_to_disk

H, W = 131, 17
materialize = partial(pixel_source.materialize, always_in_memory=0)


def noise(*shape, dtype="uint8"):
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("limit", [None, 0])
def test_any_rectangle_is_that_of_the_picture(tmp_path, dtype, layers, limit):
    pixels = noise(H, W, layers, dtype=dtype)
    colours, alpha = (pixels[..., :-1], pixels[..., -1]) if layers in (2, 4) else (pixels, None)
    picture = materialize(rows_of(Picture(colours, alpha)), limit=limit, folder=tmp_path)
    raster = picture.bands
    assert isinstance(raster, Raster)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(raster.where, np.ndarray) == (limit is None)
    for where in ((slice(0, H), slice(0, W)), (slice(5, 67), slice(3, 4)), (slice(130, 131), slice(0, 2))):
        np.testing.assert_array_equal(raster[where], pixels[where])
    np.testing.assert_array_equal(np.concatenate(list(raster)), pixels)
    assert materialize(picture) is picture


def test_a_page_is_the_picture_that_was_put_there():
    pages = [Picture(noise(H, W + 0, 3)), Picture(noise(H, W, 3) // 2)]
    raster = materialize(rows_of(*pages), limit=0).bands
    assert isinstance(raster, Raster)
    for number, page in enumerate(pages):
        np.testing.assert_array_equal(raster.page(number, H)[7:99, 2:11], page.pixels[7:99, 2:11])


@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize(("lowest", "hides"), [(255, False), (254, True)])
def test_a_picture_that_was_read_knows_whether_alpha_hides_anything(limit, lowest, hides):
    alpha = np.full((H, W), 255, np.uint8)
    alpha[-1, -1] = lowest
    assert materialize(rows_of(Picture(noise(H, W, 1), alpha)), limit=limit).alpha_is_visible == hides


def test_rows_of_unknown_number_become_a_picture(tmp_path):
    pixels = noise(H, W, 3)
    raster = spool_to_disk((pixels[top : top + 3] for top in range(0, H, 3)), folder=tmp_path)
    assert raster.shape == pixels.shape
    np.testing.assert_array_equal(raster[0:H, 0:W], pixels)
    with pytest.raises(ValueError, match=r"alike: first 17 x 3 uint8, then \(16, 3\) uint8"):
        spool_to_disk([pixels, pixels[:, 1:]])
    with pytest.raises(ValueError, match=r"alike: first 17 x 3 uint8, then .* uint16"):
        spool_to_disk([pixels, pixels.astype(np.uint16)])
    with pytest.raises(ValueError, match="at least one row"):
        spool_to_disk([])


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path):
    def rows():
        yield noise(2, W, 3)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match=r"no room for the picture \(No space left on device\); set TMPDIR"):
        spool_to_disk(rows(), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_one_colour_is_seen_as_one():
    pixels = np.full((H, W, 4), 7, np.uint8)
    pixels[-1, -1, 3] = 8
    assert single_colour(pixels) is None
    np.testing.assert_array_equal(single_colour(pixels, slice(0, 3)), [7, 7, 7])
