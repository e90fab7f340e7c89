"""What RCAN, OISR and SAN have in common, and the helpers of their layouts."""

import pytest
import torch

from enlca.errors import CheckpointError
from enlca.network.sr import DIV2K_MEAN
from enlca.peers import oisr, rcan, san, srfbn
from enlca.peers.frame import EDSRFrame, MeanShift
from enlca.peers.naming import check_size, count, length

SHAPES = {
    "a.0.w": torch.Size([5, 3]),
    "a.2.w": torch.Size([7, 3]),
    "b.wide": torch.Size([0]),
    "b.0": torch.Size([]),
}
SMALL = {
    rcan.PEER: {"channels": 8, "groups": 1, "blocks": 1, "reduction": 4},
    oisr.PEER: {"channels": 4, "blocks": 1},
    san.PEER: {"channels": 8, "groups": 1, "blocks": 1, "reduction": 4, "embed_channels": 2},
    srfbn.PEER: {"channels": 3, "groups": 1},
}


def test_numbers_in_names_are_counted_from_0():
    assert count(SHAPES, "a.#.w") == 3
    assert length(SHAPES, "a.2.w") == 7
    assert length(SHAPES, "a.2.w", axis=1) == 3


@pytest.mark.parametrize(
    ("look_up", "message"),
    [
        (lambda: count(SHAPES, "c.#.w"), "it lacks c.0.w"),
        (lambda: count(SHAPES | {"a.99999999.w": torch.Size()}, "a.#.w"), "unexpected a.99999999.w"),
        (lambda: length(SHAPES, "c"), "it lacks c"),
        (lambda: length(SHAPES, "b.wide"), r"b.wide of shape \[0\]"),
        (lambda: length(SHAPES, "b.0"), r"b.0 of shape \[\]"),
        (lambda: length(SHAPES, "a.0.w", axis=2), r"a.0.w of shape \[5, 3\]"),
        (lambda: check_size(SHAPES, 5), "5 blocks, and it has 4 tensors"),
    ],
)
def test_a_file_that_cannot_be_whole_is_refused_before_anything_is_built(look_up, message):
    with pytest.raises(ValueError, match=message):
        look_up()


def test_a_network_without_weights_returns_the_mean_colour():
    frame = EDSRFrame(torch.nn.Identity(), scale=3, channels=5)
    for layer in (frame.head, frame.to_rgb):
        torch.nn.init.zeros_(layer.bias)
    torch.nn.init.zeros_(frame.to_rgb.weight)
    mean = torch.tensor(DIV2K_MEAN).view(3, 1, 1).expand(2, 3, 21, 15)
    torch.testing.assert_close(frame(torch.rand(2, 3, 7, 5)), mean)


def test_the_two_mean_shifts_cancel_even_where_convolutions_run_in_16_bits():
    pixels = 255 * torch.rand(1, 3, 5, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(MeanShift(1)(MeanShift(-1)(pixels)), pixels, atol=1e-4, rtol=0)


@pytest.mark.parametrize("peer", SMALL, ids=lambda peer: peer.name)
def test_a_scale_that_it_has_not_is_refused(peer):
    with pytest.raises(ValueError, match="scale must be one of 2, 3, 4; got 5"):
        peer.build(**SMALL[peer], scale=5)


@pytest.mark.parametrize("peer", SMALL, ids=lambda peer: peer.name)
def test_another_mean_is_used_and_a_model_for_pixels_up_to_1_is_refused(peer):
    tensors = peer.write(peer.build(**SMALL[peer]))
    lr, shift = torch.rand(1, 3, 6, 5), torch.tensor([1.0, 2.0, 3.0])
    moved = peer.read(tensors | {"add_mean.bias": tensors["add_mean.bias"] + shift})
    expected = peer.read(tensors)(lr) + shift.view(3, 1, 1) / 255
    torch.testing.assert_close(moved(lr), expected)
    with pytest.raises(CheckpointError, match=rf"not {peer.name}: sub_mean.bias \(-0.4488, .* takes 0..255"):
        peer.read(tensors | {"sub_mean.bias": tensors["sub_mean.bias"] / 255})


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("peer", SMALL, ids=lambda peer: peer.name)
def test_an_upsampler_of_no_known_scale_is_refused(peer, scale):
    tensors = peer.write(peer.build(**SMALL[peer], scale=scale))
    name = "out.0.weight" if peer is srfbn.PEER else "tail.0.0.weight"
    with pytest.raises(CheckpointError, match=f"{peer.name}"):
        peer.read(tensors | {name: torch.zeros(35, 8, 35, 35)})
