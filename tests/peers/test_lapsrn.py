"""LapSRN against its definition, written with the published names, and on the published weights."""

from fractions import Fraction

import pytest
import torch
from layouts import assert_parameters, assert_written_as_read
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from enlca.errors import CheckpointError
from enlca.peers.lapsrn import PEER, LapSRN
from enlca.peers.luma import SWING, luma, resize
from enlca.peers.matconvnet import read_matconvnet

H, W, C, DEPTH = 7, 5, 11, 3


def model(scale, **sizes):
    torch.manual_seed(scale)
    return LapSRN(scale=scale, channels=C, depth=DEPTH, **sizes).eval()


def published(tensors, lr, levels):
    """Compute SR luma from a published state dict, of which nothing may be left."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}

    def conv(name, x):
        return conv2d(x, tensors.pop(f"{name}_f"), tensors.pop(f"{name}_b"), padding=1)

    image, x = lr, leaky_relu(conv("input_conv", lr), 0.2)
    for level in range(levels, 0, -1):
        name = f"level{level}"
        for i in range(1, DEPTH + 1):
            x = leaky_relu(conv(f"{name}_conv{i}", x), 0.2)
        full = conv_transpose2d(x, tensors.pop(f"{name}_upconv_f"), tensors.pop(f"{name}_upconv_b"), stride=2)
        # MatConvNet's crop: top 0, bottom 1, left 0, right 1; of the image 1 on each side.
        x = leaky_relu(full[..., 0:-1, 0:-1], 0.2)
        image = conv_transpose2d(image, tensors.pop(f"{name}_img_up_f"), stride=2)[..., 1:-1, 1:-1]
        image = image + conv(f"{name}_residual_conv", x)
    assert not tensors
    return image


@pytest.mark.parametrize(("scale", "number"), [(2, 407_441), (3, 814_242), (4, 814_242)])
def test_it_has_the_published_number_of_parameters(scale, number):
    assert_parameters(PEER, lambda: LapSRN(scale=scale), number)


@pytest.mark.parametrize(("scale", "levels"), [(2, 1), (4, 2), (8, 3)])
def test_a_published_file_gives_what_its_definition_says(scale, levels):
    tensors = PEER.write(model(scale))
    read, lr = PEER.read(tensors), torch.rand(2, 3, H, W, dtype=torch.float64)
    sr, bicubic = read.double()(lr), resize(lr, Fraction(scale))
    torch.testing.assert_close(luma(sr), published(tensors, luma(lr), levels))
    torch.testing.assert_close(sr - bicubic, ((luma(sr) - luma(bicubic)) / SWING).expand_as(sr))
    assert (read.scale, read.name) == (scale, "LapSRN")
    assert_written_as_read(PEER, read, tensors)


def test_the_file_for_4_serves_3_and_no_other_scale():
    tensors, lr = PEER.write(model(4)), torch.rand(1, 3, H, W)
    four, three = PEER.read(tensors), PEER.read(tensors, scale=3)
    assert (four.scale, three.scale) == (4, 3)
    torch.testing.assert_close(luma(three(lr)), resize(luma(four(lr)), Fraction(3, 4)), atol=1e-5, rtol=0)
    with pytest.raises(CheckpointError, match="x2 doubles the size 1 times, not 2"):
        PEER.read(tensors, scale=2)
    with pytest.raises(CheckpointError, match="upscales x2, not x3"):
        PEER.read(PEER.write(model(2)), scale=3)


@pytest.mark.parametrize("name", ["level1_conv2_f", "level2_img_up_f", "input_conv_b"])
def test_what_a_file_lacks_is_named(name):
    tensors = PEER.write(model(4))
    del tensors[name]
    with pytest.raises(CheckpointError, match="not LapSRN: it "):
        PEER.read(tensors)


@pytest.mark.data
@pytest.mark.parametrize(("scale", "number"), [(2, 407_441), (4, 814_242), (8, 667_123)])
def test_the_authors_files_are_read(peers_data, scale, number):
    read = PEER.read(read_matconvnet(peers_data / f"LapSRN/LapSRN_x{scale}.mat"))
    assert read.scale == scale
    assert sum(x.numel() for x in read.parameters()) == number
    # A picture of one colour keeps it, up to what the edges do.
    flat = torch.full((1, 3, 24, 24), 0.5)
    with torch.no_grad():
        sr = read(flat)
    assert abs(float(sr[..., 11 * scale, 11 * scale].mean()) - 0.5) < 0.02


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("scale", "rounded", "expected"),
    [(2, True, 37.485), (4, True, 31.529), (2, False, 37.517), (4, False, 31.539)],
)
def test_the_authors_weights_reach_their_scores_on_set5(peers_data, set5, scale, rounded, expected):
    read = PEER.read(read_matconvnet(peers_data / f"LapSRN/LapSRN_x{scale}.mat"))
    assert set5(read, rounded=rounded) == pytest.approx(expected, abs=0.01)
