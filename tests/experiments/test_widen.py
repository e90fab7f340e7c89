import dataclasses

import pytest
import torch
from experiments.widen import widen

from enlca.network.sr import SRConfig, SRNetwork
from enlca.training.dead_units import firing_units

NARROW = SRConfig(
    scale=3,
    channels=5,
    n_blocks=4,
    blocks_per_stage=4,
    attention="linear",
    embed_channels=3,
    n_features=8,
    res_scale=1.0,
    upsampler="direct",
    skip="bilinear",
)
WIDE = dataclasses.replace(
    NARROW, channels=11, blocks_per_stage=2, attention="window", embed_kernel=3, res_scale=0.1
)


@pytest.fixture
def narrow():
    torch.manual_seed(2)
    network = SRNetwork(NARROW)
    with torch.no_grad():
        for block in network.non_local_blocks:
            block.embed.value.weight.zero_()
            block.embed.value.bias.zero_()
    return network.double()


@pytest.fixture
def pictures():
    return [torch.rand(1, 3, 13, 17, generator=torch.Generator().manual_seed(n)) for n in range(3)]


def test_a_wide_network_computes_what_the_narrow_one_does_without_attention(narrow, pictures):
    wide = widen(narrow, WIDE, pictures).double()
    picture = torch.rand(2, 3, 19, 23, dtype=torch.float64)
    torch.testing.assert_close(wide(picture), narrow(picture), rtol=0, atol=1e-6)


def test_all_that_is_new_learns_within_three_steps(narrow, pictures):
    """What reads a new channel begins with zero, so the channel's own weights have no gradient at first."""
    wide = widen(narrow, WIDE, pictures)
    before = {name: weight.detach().clone() for name, weight in wide.named_parameters()}
    optimizer = torch.optim.SGD(wide.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        (wide(pictures[0]) - 0.5).square().mean().backward()
        optimizer.step()
    still = [name for name, weight in wide.named_parameters() if torch.equal(weight, before[name])]
    assert still == []


def test_the_new_units_of_residual_blocks_fire(narrow, pictures):
    wide = widen(narrow, WIDE, pictures)
    with firing_units(wide) as fired:
        wide(torch.cat(pictures))
    assert all(units[5:].all() for units in fired)


@pytest.mark.parametrize("change", [{"scale": 2}, {"n_blocks": 2}, {"skip": "none"}, {"channels": 3}])
def test_another_kind_of_network_is_refused_by_the_fields_name(narrow, pictures, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        widen(narrow, dataclasses.replace(WIDE, **change), pictures)
