"""The pixels that a part of the SR picture depends on: enough of them, and no more than a few."""

import pytest
import torch

from enlca.inference.reach import pixels_needed
from enlca.inference.tiles import Region, crop
from enlca.network.sr import SRConfig, SRNetwork

WHOLE = Region(0, 0, 53, 67)
PARTS = [Region(0, 0, 4, 4), Region(23, 29, 27, 31), Region(50, 61, 53, 67), WHOLE]


def network(attention: str, **settings: object) -> SRNetwork:
    small = {"channels": 7, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 5, "n_features": 11}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = SRConfig(scale=3, attention=attention, attention_scale=1.0, **small, **settings)
        return SRNetwork(config).eval().double()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("attention", "settings"),
    [("none", {}), ("window", {"window": 5, "halo": 3, "embed_kernel": 3}), ("linear", {}), ("exact", {})],
)
@torch.no_grad()
def test_the_pixels_needed_give_the_picture_of_all_pixels(attention, settings, part):
    net, lr = network(attention, **settings), torch.rand(1, 3, 53, 67, dtype=torch.float64)
    pixels = pixels_needed(net, part, WHOLE)
    found = crop(net(crop(lr, pixels, WHOLE)), part.times(3), pixels.times(3))
    torch.testing.assert_close(found, crop(net(lr), part.times(3), WHOLE.times(3)), rtol=0, atol=1e-12)


def test_sums_over_the_picture_need_all_of_it_and_neighbours_do_not():
    part = Region(23, 29, 27, 31)
    assert pixels_needed(network("linear"), part, WHOLE) == WHOLE
    assert pixels_needed(torch.nn.Identity(), part, WHOLE) == WHOLE
    # Four convolutions in blocks, one each of head and fusion, and of the upsampler two at LR size.
    reach = pixels_needed(network("none", window=1), part, WHOLE)
    assert reach == part.grown(reach.bottom - part.bottom, WHOLE)
    assert 6 < reach.bottom - part.bottom <= 8
