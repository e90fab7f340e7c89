"""Bicubic resizing of tensors against the one of pictures, and what a luma-only method does with colour."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr

from enlca.image.resize import imresize
from enlca.peers.luma import LumaModel, luma, resize

H, W = 12, 20


@pytest.mark.parametrize(
    "scale", [Fraction(2), Fraction(3), Fraction(4), Fraction(1, 4), Fraction(3, 4)], ids=str
)
@pytest.mark.parametrize(("height", "width"), [(H, W), (4, 8)])
def test_tensors_are_resized_as_pictures_are_that_are_not_rounded(scale, height, width):
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    for tensor, resized in zip(x.flatten(0, 1), resize(x, scale).flatten(0, 1), strict=True):
        np.testing.assert_allclose(resized.numpy(), imresize(tensor.numpy(), scale), atol=1e-12)


def test_a_single_pixel_is_repeated():
    torch.testing.assert_close(
        resize(torch.tensor([[[[0.25]]]]), Fraction(3)), torch.full((1, 1, 3, 3), 0.25)
    )


def test_a_size_that_gives_no_whole_number_of_pixels_is_refused():
    with pytest.raises(ValueError, match="multiples of 4 to resize by 3/4, got 8 x 6"):
        resize(torch.rand(1, 1, 8, 6), Fraction(3, 4))


def test_resizing_is_exact_even_where_convolutions_run_in_16_bits():
    x = torch.rand(1, 2, H, W)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halves = resize(x, Fraction(2))
    assert torch.equal(halves, resize(x, Fraction(2)))


class Darker(LumaModel):
    """Luma that has nothing to do with the picture's."""

    scale = 3

    def upscale_luma(self, lr, bicubic):
        self.lr = lr
        return 0.3 * bicubic + 0.1


def test_luma_is_the_methods_and_colour_is_bicubic():
    lr = torch.rand(1, 3, H, W, dtype=torch.float64)
    bicubic = resize(lr, Fraction(3))
    model = Darker()
    sr = model(lr)
    ycbcr, smooth = (rgb2ycbcr(x[0].permute(1, 2, 0).numpy()) for x in (sr, bicubic))
    # Their Y is 16..235 of 255, and their coefficients of Cb and Cr have three digits after the point.
    np.testing.assert_allclose(ycbcr[..., 0], 0.3 * smooth[..., 0] + 25.5, atol=1e-6)
    np.testing.assert_allclose(ycbcr[..., 1:], smooth[..., 1:], atol=1e-6)
    np.testing.assert_allclose(
        model.lr[0, 0].numpy(), rgb2ycbcr(lr[0].permute(1, 2, 0).numpy())[..., 0] / 255
    )
    torch.testing.assert_close(luma(torch.ones(1, 3, 2, 2)), torch.full((1, 1, 2, 2), 235 / 255))
