"""SRVGGNetCompact against its definition, written with the published names, and on the published weights."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters
from torch.nn.functional import conv2d, pixel_shuffle, prelu

from enlca.checkpoint.store import load_model
from enlca.errors import CheckpointError
from enlca.peers.compact import PEER, SRVGGNetCompact

H, W, C, DEPTH = 7, 5, 11, 3


def model(scale):
    torch.manual_seed(scale)
    network = SRVGGNetCompact(scale=scale, channels=C, depth=DEPTH).eval()
    for layer in network.body:
        if isinstance(layer, torch.nn.PReLU):
            torch.nn.init.uniform_(layer.weight, -0.5, 0.5)
    return network


def published(tensors, lr, scale):
    """Compute the network from a published state dict, of which nothing may be left."""
    tensors, x = {name: tensor.double() for name, tensor in tensors.items()}, lr
    for layer in range(DEPTH + 2):
        name = f"body.{2 * layer}"
        x = conv2d(x, tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.bias"), padding=1)
        if layer < DEPTH + 1:
            x = prelu(x, tensors.pop(f"body.{2 * layer + 1}.weight"))
    assert not tensors
    return pixel_shuffle(x, scale) + lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def test_it_has_the_published_number_of_parameters():
    assert_parameters(PEER, SRVGGNetCompact, 1_213_296)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_published_file_gives_what_its_definition_says(scale):
    tensors = PEER.write(model(scale))
    assert_is_its_definition(PEER, tensors, published, name="SRVGGNetCompact", scale=scale, size=(H, W))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("body.0.weight", (C, 1, 3, 3), "reads 1 channels instead of 3"),
        ("body.1.weight", (C, C, 3, 3), "its second layer is no PReLU"),
        ("body.8.weight", (3, C, 3, 3), r"its last convolution, body\.8, makes 3 maps"),
        ("body.9.weight", (12,), r"its last convolution, body\.9, makes 12 maps"),
        ("body.99999999.weight", (12, C, 3, 3), r"unexpected body\.99999999\.weight"),
    ],
)
def test_other_networks_of_convolutions_are_refused(name, shape, message):
    with pytest.raises(CheckpointError, match=message):
        PEER.read(PEER.write(model(2)) | {name: torch.zeros(shape)})


@pytest.mark.data
def test_the_published_file_is_a_model_that_keeps_a_colour(peers_data):
    loaded = load_model(peers_data / "RealESRGAN/realesr-general-x4v3.bin")
    assert loaded.kind == "SRVGGNetCompact (Wang et al. 2021, ICCVW), ncnn file in its published layout"
    assert loaded.model.scale == 4
    colour = torch.tensor([0.2, 0.5, 0.7])
    with torch.no_grad():
        sr = loaded.model(colour.view(1, 3, 1, 1).expand(-1, -1, 48, 48))
    torch.testing.assert_close(sr[0, :, 96, 96], colour, atol=0.02, rtol=0)
