"""D-DBPN against its definition, written with the published names, and the law of back-projection."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters
from torch.nn.functional import conv2d, conv_transpose2d, interpolate, prelu

from enlca.errors import CheckpointError
from enlca.peers.dbpn import DBPN, PEER, BackProjection

H, W, C, FIRST, STAGES = 7, 5, 3, 11, 4
GEOMETRY = {2: (2, 2), 4: (4, 2), 8: (8, 2)}


def model(scale):
    torch.manual_seed(scale)
    made = DBPN(scale=scale, channels=C, first_channels=FIRST, stages=STAGES).eval()
    for name, parameter in made.named_parameters():
        if parameter.shape == (1,) and name.endswith("1.weight"):
            torch.nn.init.normal_(parameter)
    return made


def published(tensors, lr, scale):
    """Compute D-DBPN from a published state dict, of which nothing may be left."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    stride, padding = GEOMETRY[scale]

    def layer(name, x, *, kind, **geometry):
        weight, bias = tensors.pop(f"{name}.{kind}.weight"), tensors.pop(f"{name}.{kind}.bias")
        x = {"conv": conv2d, "deconv": conv_transpose2d}[kind](x, weight, bias, **geometry)
        return prelu(x, tensors.pop(f"{name}.act.weight"))

    def unit(name, x):
        way = name[:-1]
        there, back = ("deconv", "conv") if way == "up" else ("conv", "deconv")
        if f"{name}.conv.conv.weight" in tensors:
            x = layer(f"{name}.conv", x, kind="conv")
        geometry = {"stride": stride, "padding": padding}
        y = layer(f"{name}.{way}_conv1", x, kind=there, **geometry)
        error = layer(f"{name}.{way}_conv2", y, kind=back, **geometry) - x
        return y + layer(f"{name}.{way}_conv3", error, kind=there, **geometry)

    x = layer("feat1", layer("feat0", lr, kind="conv", padding=1), kind="conv")
    h1 = unit("up1", x)
    l1 = unit("down1", h1)
    h2 = unit("up2", l1)
    l2 = unit("down2", torch.cat([h2, h1], 1))
    h3 = unit("up3", torch.cat([l2, l1], 1))
    l3 = unit("down3", torch.cat([h3, h2, h1], 1))
    h4 = unit("up4", torch.cat([l3, l2, l1], 1))
    weight, bias = tensors.pop("output_conv.conv.weight"), tensors.pop("output_conv.conv.bias")
    assert not tensors
    return conv2d(torch.cat([h4, h3, h2, h1], 1), weight, bias, padding=1)


@pytest.mark.parametrize(("scale", "number"), [(2, 5_953_526), (4, 10_426_358)])
def test_it_has_the_published_number_of_parameters(scale, number):
    assert_parameters(PEER, lambda: DBPN(scale=scale), number)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_published_file_gives_what_its_definition_says(scale):
    tensors = PEER.write(model(scale))
    assert_is_its_definition(PEER, tensors, published, name="DBPN", scale=scale, size=(H, W))


@pytest.mark.parametrize("share", [1.0, 0.75, -0.5])
@pytest.mark.parametrize(("scale", "up"), [(2, True), (2, False), (4, True)])
def test_a_unit_corrects_by_the_error_of_its_way_back(scale, up, share):
    """Repeating and averaging undo each other; a way back that keeps a share of x leaves (share - 1) x."""
    unit = BackProjection(1, scale, up=up, reads=1)
    inner = slice(2, 2 + scale)
    for part in (unit.project, unit.back, unit.correct):
        for parameter in part.parameters():
            torch.nn.init.zeros_(parameter)
        part[0].weight.data[..., inner, inner] = (
            1 if isinstance(part[0], torch.nn.ConvTranspose2d) else scale**-2
        )
        torch.nn.init.ones_(part[1].weight)
    unit.back[0].weight.data *= share
    x = torch.randn(2, 1, 3, 5)
    small = x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    result = unit([x if up else small])
    torch.testing.assert_close(result, share * (small if up else x))
    assert up or torch.allclose(interpolate(small, scale_factor=1 / scale, mode="area"), x)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"up1.up_conv1.deconv.weight": (C, C, 7, 7)}, "projections are 7 pixels wide"),
        ({"up99999999.up_conv1.deconv.weight": (C, C, 8, 8)}, "unexpected up99999999"),
        ({"up0.up_conv1.deconv.weight": (C, C, 8, 8)}, "unexpected up0"),
        ({"up2.conv.conv.weight": (C, C, 1, 1)}, "unexpected up2.conv.conv.weight"),
    ],
)
def test_what_does_not_fit_is_named(changed, message):
    tensors = PEER.write(model(4)) | {name: torch.zeros(shape) for name, shape in changed.items()}
    with pytest.raises(CheckpointError, match=message):
        PEER.read(tensors)


def test_there_is_none_for_3():
    with pytest.raises(ValueError, match="one of 2, 4, 8; got 3"):
        DBPN(scale=3)
