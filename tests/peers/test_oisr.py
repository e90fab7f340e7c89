"""OISR-RK3 against its definition, written with the published names, and the differential equation."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters, conv, edsr_tail
from torch.nn.functional import prelu

from enlca.peers.oisr import OISR, PEER, RungeKuttaBlock

H, W, C, BLOCKS = 7, 5, 11, 3


def published(tensors, lr, scale):
    """Compute OISR from a published state dict, of which nothing may be left."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    y = head = conv(tensors, "head.0", conv(tensors, "sub_mean", 255 * lr))
    for block in range(BLOCKS):
        name = f"body.{block}"
        half, two, minus, four, sixth = (tensors.pop(f"{name}.scale{i}") for i in range(1, 6))
        k1 = conv(tensors, f"{name}.conv1", prelu(y, tensors.pop(f"{name}.relu1.weight")))
        k2 = conv(tensors, f"{name}.conv2", prelu(y + half * k1, tensors.pop(f"{name}.relu2.weight")))
        inner = y + two * k2 + minus * k1
        k3 = conv(tensors, f"{name}.conv3", prelu(inner, tensors.pop(f"{name}.relu3.weight")))
        y = y + sixth * (k3 + four * k2 + k1)
    x = head + conv(tensors, f"body.{BLOCKS}", y)
    return edsr_tail(tensors, x, scale)


@pytest.mark.parametrize(("scale", "number"), [(2, 41_926_793), (3, 44_877_193), (4, 44_287_113)])
def test_it_has_the_published_number_of_parameters(scale, number):
    assert_parameters(PEER, lambda: OISR(scale=scale), number)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_published_file_gives_what_its_definition_says(scale):
    torch.manual_seed(scale)
    network = OISR(scale=scale, channels=C, blocks=BLOCKS)
    for name, parameter in network.named_parameters():
        if "coefficients" in name or ".0." in name:
            torch.nn.init.normal_(parameter)
    tensors = PEER.write(network)
    assert_is_its_definition(PEER, tensors, published, name="OISR", scale=scale, size=(H, W))


def linear_block(rate):
    """A block whose three functions are all G(y) = rate * y."""
    block = RungeKuttaBlock(1)
    for function in block.functions:
        torch.nn.init.ones_(function[0].weight)
        torch.nn.init.dirac_(function[1].weight)
        torch.nn.init.zeros_(function[1].bias)
        function[1].weight.data *= rate
    return block.double()


def test_a_new_block_steps_a_linear_equation_as_its_taylor_series_to_third_order():
    y = torch.randn(1, 1, H, W, dtype=torch.float64)
    for rate in (-1.5, 0.25, 2.0):
        expected = y * (1 + rate + rate**2 / 2 + rate**3 / 6)
        # The sixth is a float32 number.
        torch.testing.assert_close(linear_block(rate)(y), expected, rtol=1e-6, atol=1e-6)


def test_the_error_of_a_step_is_of_fourth_order():
    y = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    rates = torch.tensor([0.4, 0.2], dtype=torch.float64)
    coarse, fine = (abs(linear_block(rate)(y) - rate.exp()).item() for rate in rates)
    assert coarse / fine == pytest.approx(2**4, rel=0.1)


def test_coefficients_start_from_kuttas():
    expected = [0.5, 2.0, -1.0, 4.0, 1 / 6]
    tensors = PEER.write(OISR(channels=2, blocks=1))
    assert [float(tensors[f"body.0.scale{i}"]) for i in range(1, 6)] == pytest.approx(expected)
    assert set(tensors["body.0.relu1.weight"].tolist()) == {0.25}
