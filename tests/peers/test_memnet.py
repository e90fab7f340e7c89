"""MemNet against its definition, written with the names of its files."""

from fractions import Fraction

import pytest
import torch
from layouts import assert_written_as_read
from torch.nn.functional import batch_norm, conv2d

from enlca.peers.luma import luma, resize
from enlca.peers.memnet import PEER, MemNet
from enlca.peers.norm import Norm

H, W, C, BLOCKS, RECURSIONS = 5, 7, 3, 3, 2


def randomised(model):
    """Draw every tensor, statistics of batch normalisation too."""
    generator = torch.Generator().manual_seed(11)
    for name, tensor in model.state_dict().items():
        tensor.copy_(
            torch.rand(tensor.shape, generator=generator) - (0.4 if "variance" not in name else -0.5)
        )
    return model.eval()


def model(scale):
    return randomised(MemNet(scale=scale, channels=C, blocks=BLOCKS, recursions=RECURSIONS))


def activated(tensors, name, x):
    statistics = [tensors.pop(f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")]
    return batch_norm(x, *statistics).relu()


def conv(tensors, name, x):
    weight = tensors[f"{name}.weight"]
    return conv2d(x, weight, tensors[f"{name}.bias"], padding=weight.shape[-1] // 2)


def from_file(tensors, y):
    """Compute SR luma from bicubic luma; all statistics of batch normalisation are used once."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    memory = [conv(tensors, "input", activated(tensors, "input_norm", y))]
    outputs = []
    for m in range(BLOCKS):
        x, recent = memory[-1], []
        for r in range(RECURSIONS):
            inner = conv(tensors, f"blocks.{m}.first", activated(tensors, f"blocks.{m}.first_norms.{r}", x))
            x = x + conv(
                tensors, f"blocks.{m}.second", activated(tensors, f"blocks.{m}.second_norms.{r}", inner)
            )
            recent.append(x)
        everything = torch.cat(recent + memory, dim=1)
        memory.append(
            conv(tensors, f"blocks.{m}.gate", activated(tensors, f"blocks.{m}.gate_norm", everything))
        )
        outputs.append(y + conv(tensors, "output", activated(tensors, f"output_norms.{m}", memory[-1])))
    assert not any("norm" in name for name in tensors)
    return sum(weight * output for weight, output in zip(tensors["output_weights"], outputs, strict=True))


def test_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = MemNet()
    norms = [layer for layer in network.modules() if isinstance(layer, Norm)]
    of_norms = sum(x.numel() for layer in norms for x in layer.parameters())
    assert of_norms == 17_282
    assert sum(x.numel() for x in network.parameters()) == 678_215 + of_norms


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_file_gives_what_its_definition_says_at_every_scale(scale):
    tensors, lr = PEER.write(model(2)), torch.rand(2, 3, H, W, dtype=torch.float64)
    read = PEER.read(tensors, scale=scale)
    bicubic = resize(luma(lr), Fraction(scale))
    torch.testing.assert_close(luma(read.double()(lr)), from_file(tensors, bicubic))
    assert (read.scale, read.name) == (scale, "MemNet")
    assert_written_as_read(PEER, read, tensors)


def test_recursions_share_their_convolutions_and_not_their_statistics():
    count = {r: PEER.write(MemNet(channels=C, blocks=1, recursions=r)) for r in (2, 5)}
    more = count[5].keys() - count[2].keys()
    assert more == {
        f"blocks.0.{which}_norms.{r}.{part}"
        for which in ("first", "second")
        for r in (2, 3, 4)
        for part in ("weight", "bias", "running_mean", "running_var")
    }


def test_a_network_whose_heads_are_zero_returns_bicubic_luma():
    made, lr = MemNet(scale=3, channels=C, blocks=BLOCKS, recursions=1).eval(), torch.rand(1, 3, H, W)
    for parameter in made.output.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(made(lr), resize(lr, Fraction(3)))


def test_normalisation_is_that_of_pytorch_in_training_and_evaluation():
    ours, theirs = Norm(C, eps=1e-3), torch.nn.BatchNorm2d(C, eps=1e-3)
    for _ in range(3):
        x = torch.randn(2, C, H, W) * 3 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
