import jaxtyping
import numpy as np
import pytest

from enlca.metrics import luma

H, W = 13, 7


def noise(*shape):
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def test_luma_is_scikit_images_bt601_in_the_right_channel_order():
    from skimage.color import rgb2ycbcr

    picture = noise(H, W, 3)
    np.testing.assert_allclose(luma(picture), rgb2ycbcr(picture)[:, :, 0], rtol=0, atol=1e-10)


def test_luma_runs_from_16_to_235_and_is_not_rounded():
    black_grey_white = luma(np.array([[0, 100, 255]], dtype=np.uint8))
    np.testing.assert_allclose(black_grey_white, [[16.0, 16 + 219 * 100 / 255, 235.0]], rtol=1e-14)


def test_grey_counts_as_rgb_with_equal_channels():
    grey = noise(H, W)
    as_rgb = luma(np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(luma(grey), as_rgb)
    np.testing.assert_array_equal(luma(grey[:, :, None]), as_rgb)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(channels):
    with pytest.raises(ValueError, match="H W 3"):
        luma(noise(H, W, channels))


def test_floats_are_refused():
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
        luma(np.zeros((H, W, 3)))
