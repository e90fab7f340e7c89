"""RCAN against its definition, written with the published names."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters, conv, edsr_tail

from enlca.errors import CheckpointError
from enlca.network.sr import DIV2K_MEAN
from enlca.peers.rcan import PEER, RCAN, ChannelAttention

H, W, C, GROUPS, BLOCKS, REDUCTION = 7, 5, 11, 3, 2, 5
SIZES = {"channels": C, "groups": GROUPS, "blocks": BLOCKS, "reduction": REDUCTION}


def model(scale):
    torch.manual_seed(scale)
    return RCAN(scale=scale, **SIZES).eval()


def published(tensors, lr, scale):
    """Compute RCAN from a published state dict, of which nothing may be left."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    x = head = conv(tensors, "head.0", conv(tensors, "sub_mean", 255 * lr))
    for g in range(GROUPS):
        group = x
        for b in range(BLOCKS):
            name = f"body.{g}.body.{b}.body"
            y = conv(tensors, f"{name}.2", conv(tensors, f"{name}.0", x).relu())
            means = y.flatten(2).mean(dim=2)[:, :, None, None]
            gate = conv(tensors, f"{name}.3.conv_du.2", conv(tensors, f"{name}.3.conv_du.0", means).relu())
            x = x + y * gate.sigmoid()
        x = group + conv(tensors, f"body.{g}.body.{BLOCKS}", x)
    x = head + conv(tensors, f"body.{GROUPS}", x)
    return edsr_tail(tensors, x, scale)


@pytest.mark.parametrize(("scale", "number"), [(2, 15_444_667), (3, 15_629_307), (4, 15_592_379)])
def test_it_has_the_published_number_of_parameters(scale, number):
    assert_parameters(PEER, lambda: RCAN(scale=scale), number)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_published_file_gives_what_its_definition_says(scale):
    tensors = PEER.write(model(scale))
    assert_is_its_definition(PEER, tensors, published, name="RCAN", scale=scale, size=(H, W))


def test_pixels_are_0_to_255_less_the_mean_of_div2k():
    tensors = PEER.write(model(2))
    mean = torch.tensor(DIV2K_MEAN)
    torch.testing.assert_close(tensors["sub_mean.bias"], -255 * mean)
    torch.testing.assert_close(tensors["add_mean.bias"], 255 * mean)


def test_a_gate_that_is_open_leaves_the_features_and_a_constant_weight_multiplies_them():
    attention, x = ChannelAttention(C, reduction=REDUCTION), torch.randn(2, C, H, W)
    last = attention.gate[2]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 100.0)
    torch.testing.assert_close(attention(x), x)
    torch.nn.init.zeros_(last.bias)
    torch.testing.assert_close(attention(x), x / 2)


def test_names_of_more_blocks_than_tensors_are_refused():
    tensors = PEER.write(model(2))
    many = {f"body.{g}.body.0.body.0.weight": torch.zeros(1) for g in range(100)}
    many |= {f"body.0.body.{b}.body.0.weight": torch.zeros(1) for b in range(100)}
    with pytest.raises(CheckpointError, match="10000 blocks, and it has"):
        PEER.read(tensors | many)
