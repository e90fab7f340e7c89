from fractions import Fraction

import numpy as np
import pytest

from enlca.data.degradations import gaussian_blur, softened_patch
from enlca.image.resize import imresize


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("place", [(0, 0), (3, 5), (6, 4)])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.7])
def test_a_softened_patch_is_that_of_the_whole_picture_blurred_and_degraded(scale, place, sigma):
    top, left = place
    patch = 7
    hr, teacher = (picture(13 * scale, 12 * scale, seed) for seed in (1, 2))
    made = softened_patch([hr, teacher], top=top, left=left, patch=patch, scale=scale, sigma=sigma)
    blurred = [gaussian_blur(side, sigma) for side in (hr, teacher)]
    lr = imresize(blurred[0], Fraction(1, scale))
    np.testing.assert_array_equal(made[0], lr[top : top + patch, left : left + patch])
    rows = slice(scale * top, scale * (top + patch))
    columns = slice(scale * left, scale * (left + patch))
    for side, wanted in zip(made[1:], blurred, strict=True):
        np.testing.assert_array_equal(side, wanted[rows, columns])


def test_the_blur_is_that_of_an_independent_library():
    filters = pytest.importorskip("skimage.filters")
    pixels = picture(31, 29)
    wanted = filters.gaussian(
        pixels.astype(float), sigma=1.3, mode="reflect", truncate=4 / 1.3, channel_axis=-1
    )
    assert np.abs(gaussian_blur(pixels, 1.3) - wanted).max() <= 0.51


def test_a_constant_picture_stays_as_it_is_and_sigma_0_changes_nothing():
    flat = np.full((17, 19, 3), 200, dtype=np.uint8)
    np.testing.assert_array_equal(gaussian_blur(flat, 2.0), flat)
    pixels = picture(11, 13)
    assert gaussian_blur(pixels, 0.0) is pixels
