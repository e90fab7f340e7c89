"""Attributions add up, stay where the network can see, turn with the picture, and can be stopped."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from skimage.filters import gaussian
from torch import Tensor, nn
from torch.nn.functional import interpolate

from enlca.analysis.attribution import Attribution, blurred, detail, gini, lam
from enlca.checkpoint.store import load
from enlca.inference.reach import pixels_needed
from enlca.inference.tiles import Region
from enlca.network.zoo import enlcn_tiny

H, W = 13, 11


def picture(height: int = H, width: int = W) -> Tensor:
    """Noise, not too rough."""
    return blurred(torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2)), 0.5)


def twice(x: Tensor) -> Tensor:
    """The simplest upscaling: each pixel becomes four."""
    return interpolate(x, scale_factor=2.0, mode="nearest")


@pytest.mark.parametrize("name", ["enlcn-tiny", "edsr-tiny"])
def test_the_map_sums_to_the_detail_that_blur_took_away(name):
    found = lam(load(name, scale=4), picture(), top=8, left=12, side=17)
    assert found.completeness <= 0.01
    assert float(found.map.sum()) == pytest.approx(found.change, rel=0.011)
    assert found.map.shape == (H, W)


def test_pixels_outside_the_receptive_field_contribute_nothing():
    lr = picture()
    found = lam(twice, lr, top=8, left=4, side=6)
    inside = torch.zeros(H, W, dtype=torch.bool)
    inside[4:7, 2:5] = True
    assert bool((found.map[~inside] == 0).all())
    assert bool((found.map[inside] != 0).any())


def test_attention_sees_everything_and_convolutions_their_neighbours():
    small = {"channels": 8, "n_blocks": 1, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 11}
    maps = {}
    for attention in ("linear", "none"):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            network = enlcn_tiny(2, attention=attention, skip="none", **small).eval()
        maps[attention] = lam(network, picture(19, 17), top=0, left=0, side=4, most_steps=32).map
    # Five convolutions of 3 x 3 one after the other, from the two LR pixels beneath the square.
    assert bool((maps["none"][2 + 5 :] == 0).all())
    assert bool((maps["linear"] != 0).all())


@pytest.mark.parametrize("attention", ["window", "none"])
def test_the_pixels_that_are_needed_have_the_map_of_the_whole_picture(attention):
    small = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 4, "window": 3, "halo": 1}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = enlcn_tiny(2, attention=attention, attention_scale=1.0, **small).eval().double()
    lr, square = picture(43, 61).double(), Region(17, 37, 20, 40)
    within = pixels_needed(network, square, Region(0, 0, 43, 61))
    assert within.height * within.width < 43 * 61
    of_square = partial(lam, network, lr, top=34, left=74, side=6, steps=3, most_steps=3)
    found, expected = of_square(within=within), of_square()
    torch.testing.assert_close(found.map, expected.map, rtol=0, atol=1e-12)
    assert found.change == pytest.approx(expected.change, abs=1e-12)


def test_the_map_rotates_with_the_image():
    lr = picture()
    straight = lam(twice, lr, top=2, left=6, side=7)
    turned = lam(twice, lr.mT.contiguous(), top=6, left=2, side=7)
    torch.testing.assert_close(turned.map, straight.map.mT, atol=1e-6, rtol=1e-4)


def test_the_map_is_the_integral_of_gradients_along_the_path():
    # Written out for one step: the gradient half way, times the whole way.
    lr, sigma = picture(), 1.2
    found = lam(twice, lr, top=4, left=4, side=10, sigma=sigma, steps=1, most_steps=1)
    middle = blurred(lr, sigma / 2).requires_grad_()
    detail(twice(middle)[:, :, 4:14, 4:14]).backward()
    assert middle.grad is not None
    expected = (middle.grad * (lr - blurred(lr, sigma))).sum(dim=1)[0]
    torch.testing.assert_close(found.map, expected, atol=1e-6, rtol=1e-5)


def test_steps_are_doubled_until_the_map_is_complete_or_there_are_enough():
    asked = partial(lam, twice, picture(), top=0, left=0, side=20, steps=1)
    assert asked(tolerance=1.0).steps == 1
    good = asked()
    assert good.completeness <= 0.01
    assert good.steps > 1
    enough = asked(most_steps=5, tolerance=0.0)
    assert enough.steps == 4
    assert enough.completeness > 0


def test_a_flat_picture_has_no_detail_to_attribute():
    found = lam(twice, torch.full((1, 3, H, W), 0.4), top=0, left=0, side=20, steps=3)
    assert found.change == pytest.approx(0, abs=1e-5)
    assert found.steps == 3
    assert float(found.absolute.max()) < 1e-6


@pytest.mark.parametrize(
    ("square", "words"),
    [
        (
            {"top": -1, "left": 0, "side": 4},
            "row -1, column 0 leaves the SR image of 26 rows and 22 columns",
        ),
        ({"top": 0, "left": 19, "side": 4}, "a square of 4 at row 0, column 19 leaves"),
        ({"top": 0, "left": 0, "side": 23}, "a square of 23 at row 0, column 0 leaves"),
        ({"top": 0, "left": 0, "side": 1}, "side must be at least 2"),
        ({"top": 0, "left": 0, "side": 4, "sigma": 0.0}, "sigma must be positive"),
        ({"top": 0, "left": 0, "side": 4, "steps": 0}, "steps from 1 to 512"),
        ({"top": 0, "left": 0, "side": 4, "steps": 9, "most_steps": 8}, "steps from 1 to 8"),
    ],
)
def test_squares_and_settings_that_make_no_sense_are_refused_in_one_line(square, words):
    with pytest.raises(ValueError, match=words) as refused:
        lam(twice, picture(), **square)
    assert "\n" not in str(refused.value)


def test_progress_counts_the_steps_and_may_cancel():
    class Stop(Exception):
        pass

    seen = []

    def on_step(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        lam(twice, picture(), top=0, left=0, side=4, steps=3, on_step=on_step)
    assert seen == [(1, 3), (2, 3)]


def test_the_network_keeps_no_gradients():
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Upsample(scale_factor=2))
    lam(network, picture(), top=0, left=0, side=4, steps=3, most_steps=3)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("sigma", [0.2, 0.7, 1.2, 2.9])
def test_the_blur_is_the_gaussian_of_scikit_image(sigma):
    lr = picture()
    radius = math.ceil(4 * sigma)
    expected = gaussian(lr[0].numpy(), sigma, mode="nearest", truncate=radius / sigma, channel_axis=0)
    np.testing.assert_allclose(blurred(lr, sigma)[0].numpy(), expected, atol=1e-6)


def test_no_blur_is_the_picture_and_blur_keeps_what_is_flat():
    assert torch.equal(blurred(picture(), 0.0), picture())
    flat = torch.full((1, 3, 2, 1), 0.7)
    torch.testing.assert_close(blurred(flat, 3.0), flat)


def test_detail_is_the_length_of_the_gradient():
    # A ramp that rises by 3 a row and 4 a column, so by 5 in all.
    ramp = 3 * torch.arange(5.0)[:, None] + 4 * torch.arange(7.0)
    assert float(detail(ramp.expand(1, 3, 5, 7))) == pytest.approx(3 * 4 * 6 * 5)


def test_gini_is_half_the_mean_difference_by_the_mean():
    values = torch.rand(97, generator=torch.Generator().manual_seed(1))
    difference = (values[:, None] - values).abs().double().mean()
    assert gini(values) == pytest.approx(float(difference / (2 * values.double().mean())))


def test_diffusion_is_100_where_all_pixels_matter_alike_and_small_where_one_does():
    one = torch.zeros(H, W)
    one[3, 4] = -2.0
    alike = torch.ones(H, W)
    alike[::2] = -1.0
    found = [Attribution(m, 1.0, 0.0, 1).diffusion_index for m in (alike, one, torch.zeros(H, W))]
    assert found == pytest.approx([100.0, 100 / (H * W), 100.0])
