import re

import pytest
import torch
from torch import nn

from enlca.errors import CheckpointError
from enlca.network.interface import SRModel
from enlca.peers.layout import Peer


class Enlarge(SRModel):
    """A convolution and a pixel shuffle on pictures less 0.5."""

    def __init__(self, scale=2, channels=5):
        super().__init__()
        self.scale = scale
        self.register_buffer("shift", torch.tensor([0.5]), persistent=False)
        self.widen = nn.Conv2d(3, channels, 3, padding=1)
        self.shrink = nn.Conv2d(channels, 3 * scale**2, 1)

    def forward(self, lr):
        x = self.shrink(self.widen(lr - self.shift))
        return nn.functional.pixel_shuffle(x, self.scale) + self.shift


def deduce(shapes):
    if "last.weight" not in shapes:
        raise ValueError("it lacks last.weight")
    rows, channels = shapes["last.weight"][:2]
    return {"scale": int((rows / 3) ** 0.5), "channels": channels}


def published(model):
    return {name: re.sub("shrink", "last", name) for name in model.state_dict()}


PEER = Peer(
    name="Enlarge",
    reference="Doe 2026",
    build=Enlarge,
    deduce=deduce,
    published=published,
    constants=lambda model: {"sub.bias": -model.shift},
)


def test_a_model_comes_back_through_its_published_layout():
    model = Enlarge(3, channels=7).eval()
    tensors = PEER.write(model)
    assert set(tensors) == {"widen.weight", "widen.bias", "last.weight", "last.bias", "sub.bias"}
    again, lr = PEER.read(tensors), torch.rand(2, 3, 5, 7)
    assert torch.equal(again(lr), model(lr))
    assert again.scale == 3
    assert not again.training


def test_halves_are_read_as_float32():
    tensors = {name: tensor.half() for name, tensor in PEER.write(Enlarge()).items()}
    assert {x.dtype for x in PEER.read(tensors).state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widen.bias": None}, "lacks widen.bias"),
        ({"more": torch.zeros(1)}, "has an unexpected more"),
        ({"widen.bias": torch.zeros(1)}, r"widen.bias of shape \[1\] instead of \[5\]"),
        ({"sub.bias": None}, "lacks sub.bias"),
        ({"sub.bias": torch.tensor([-0.6])}, r"sub.bias is \(-0.6\) instead of \(-0.5\)"),
        ({"last.weight": None}, "not Enlarge: it lacks last.weight"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    tensors = {
        name: tensor for name, tensor in (PEER.write(Enlarge()) | change).items() if tensor is not None
    }
    with pytest.raises(CheckpointError, match=message):
        PEER.read(tensors)


def test_another_scale_is_refused():
    with pytest.raises(CheckpointError, match="upscales x2, not x3"):
        PEER.read(PEER.write(Enlarge()), scale=3)


def test_reading_leaves_the_global_generator_alone():
    tensors = PEER.write(Enlarge())
    before = torch.get_rng_state()
    PEER.read(tensors)
    assert torch.equal(torch.get_rng_state(), before)
