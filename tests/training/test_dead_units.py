import dataclasses

import pytest
import torch
from lightning.fabric import Fabric
from torch import nn

from enlca.checkpoint.file import save
from enlca.network.layers import residual_blocks
from enlca.network.sr import SRConfig, SRNetwork
from enlca.training.dead_units import firing_units
from enlca.training.fit import fit
from enlca.training.parse import read_config
from enlca.training.validation import ValidationSet


@pytest.fixture
def network():
    torch.manual_seed(5)
    config = SRConfig(
        scale=2, channels=7, n_blocks=3, blocks_per_stage=1, attention="none", upsampler="direct"
    )
    return SRNetwork(config)


def blocks_of(network):
    return list(residual_blocks(network).values())


def switch_off(network, *, block, units):
    """Give units of a block a bias that no input makes up for."""
    with torch.no_grad():
        blocks_of(network)[block].first.bias[units] = -1e6


def test_no_gradient_reaches_a_dead_unit_and_one_reaches_all_others(network):
    switch_off(network, block=1, units=[0, 3])
    pictures = torch.rand(2, 3, 23, 19)
    with firing_units(network) as fired:
        network(pictures).square().sum().backward()
    assert [units.tolist() for units in fired][1] == [False, True, True, False, True, True, True]
    for block, units in zip(blocks_of(network), fired, strict=True):
        learns = [
            block.first.weight.grad.abs().sum((1, 2, 3)) > 0,
            block.second.weight.grad.abs().sum((0, 2, 3)) > 0,
        ]
        assert all(torch.equal(units, reached) for reached in learns)


def test_a_unit_has_fired_if_it_did_at_one_position_of_one_picture(network):
    with torch.no_grad():
        first = blocks_of(network)[0].first
        first.weight.zero_()
        first.weight[2, :, 1, 1] = 1.0
        head = network.head
        head.weight.zero_()
        head.bias.zero_()
        head.weight[:, :, 1, 1] = 1.0
        # Only where the input is above its mean by more than any grey is.
        first.bias.fill_(-7 * 3 * 0.5)
    dark, spot = torch.zeros(1, 3, 13, 11), torch.zeros(1, 3, 13, 11)
    spot[..., 7, 5] = 1.0
    with firing_units(network) as fired:
        network(dark)
        assert not fired[0].any()
        network(spot)
        network(dark)
        assert fired[0].tolist() == [unit == 2 for unit in range(7)]
    before = fired[0].clone()
    network(torch.rand(1, 3, 13, 11) * 1e6)
    assert torch.equal(fired[0], before), "watched beyond its context"


def test_a_network_without_residual_blocks_has_no_units():
    with firing_units(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())) as fired:
        assert fired == []


def test_a_validation_tells_the_share_of_dead_units(home, network):
    pictures, fabric = ValidationSet(home / "Val", 2), Fabric(accelerator="cpu", devices=1)
    alive = pictures.score(network, fabric)
    for block, units in ((0, [1]), (2, [0, 1, 2, 3, 4, 5, 6])):
        switch_off(network, block=block, units=units)
    assert alive.dead_units == 0
    assert pictures.score(network, fabric).dead_units == pytest.approx(8 / 21)


def test_a_run_says_once_that_most_units_are_dead(home, rows):
    config, text = read_config(home / "tiny.yaml")
    network = SRNetwork(config.network)
    for block, units in ((0, range(8)), (1, [6])):
        switch_off(network, block=block, units=list(units))
    save(network, home / "dead.safetensors")
    run = dataclasses.replace(config.run, steps=24, start_from=home / "dead.safetensors")
    remarks = []
    fit(dataclasses.replace(config, run=run), text, say=remarks.append)
    assert [row["dead_units"] for row in rows("run") if row["psnr"]] == ["0.5625"] * 3
    assert [remark.split(" (")[0] for remark in remarks] == [
        "56% of the units of the residual blocks are dead"
    ]
