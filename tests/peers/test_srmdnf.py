"""SRMDNF against its definition, written with the published names, and on the published weights."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters
from torch.nn.functional import conv2d, pixel_shuffle

from enlca.errors import CheckpointError
from enlca.peers.ncnn import read_ncnn
from enlca.peers.srmdnf import NO_BLUR, PEER, SRMDNF

H, W, C, DEPTH = 7, 5, 11, 4


def model(scale):
    torch.manual_seed(scale)
    return SRMDNF(scale=scale, channels=C, depth=DEPTH).eval()


def published(tensors, lr, scale):
    """Compute SRMDNF from a published state dict, of which nothing may be left."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    kernel = torch.tensor(NO_BLUR).double()[None, :, None, None]
    x = torch.cat([lr, kernel * torch.ones(2, 1, H, W, dtype=torch.float64)], dim=1)
    for layer in range(DEPTH):
        name = f"model.{2 * layer}"
        x = conv2d(x, tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.bias"), padding=1)
        x = x if layer == DEPTH - 1 else x.relu()
    assert not tensors
    return pixel_shuffle(x, scale)


@pytest.mark.parametrize(("scale", "number"), [(2, 1_510_540), (3, 1_527_835), (4, 1_552_048)])
def test_it_has_the_published_number_of_parameters(scale, number):
    assert_parameters(PEER, lambda: SRMDNF(scale=scale), number)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_published_file_gives_what_its_definition_says(scale):
    tensors = PEER.write(model(scale))
    assert_is_its_definition(PEER, tensors, published, name="SRMDNF", scale=scale, size=(H, W))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.0.weight", (C, 19, 3, 3), "reads 19 maps instead of 18"),
        ("model.6.weight", (13, C, 3, 3), "makes 13 maps"),
        ("model.99999999.weight", (12, C, 3, 3), "unexpected model.99999999.weight"),
    ],
)
def test_other_networks_of_convolutions_are_refused(name, shape, message):
    with pytest.raises(CheckpointError, match=message):
        PEER.read(PEER.write(model(2)) | {name: torch.zeros(shape)})


@pytest.mark.data
def test_the_map_of_no_blur_is_the_authors(peers_data):
    from scipy.io import loadmat

    components = loadmat(peers_data / "SRMDNF/srmd_pca_matlab.mat")["P"]
    torch.testing.assert_close(torch.tensor(NO_BLUR), torch.from_numpy(components[:, 15 * 7 + 7].copy()))


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_published_files_are_read(peers_data, scale):
    read = PEER.read(read_ncnn(peers_data / f"SRMDNF/srmdnf_x{scale}.bin"))
    assert read.scale == scale
    # A picture of one colour keeps it, up to what the edges do.
    colour = torch.tensor([0.2, 0.5, 0.7])
    sr = read(colour.view(1, 3, 1, 1).expand(-1, -1, 28, 28))
    torch.testing.assert_close(sr[0, :, 14 * scale, 14 * scale], colour, atol=0.02, rtol=0)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("scale", "expected"), [(2, 37.689), (3, 34.077), (4, 31.926)])
def test_the_published_weights_reach_their_scores_on_set5(peers_data, set5, scale, expected):
    read = PEER.read(read_ncnn(peers_data / f"SRMDNF/srmdnf_x{scale}.bin"))
    assert set5(read, rounded=True) == pytest.approx(expected, abs=0.02)
