"""What the tests of every published method assert, and the parts that their definitions share."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pixel_shuffle

from enlca.network.interface import SRModel
from enlca.peers.layout import Peer


def assert_parameters(peer: Peer, build: Callable[[], SRModel], number: int) -> None:
    """A model, and its published file, have so many parameters."""
    with torch.device("meta"):
        network = build()
    assert sum(x.numel() for x in network.parameters()) == number
    assert sum(x.numel() for x in peer.write(network).values()) == number


def assert_written_as_read(peer: Peer, read: SRModel, tensors: Mapping[str, Tensor]) -> None:
    """A model writes exactly the tensors that it was read from."""
    again = peer.write(read)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name].double(), tensor.double()) for name, tensor in tensors.items())


def assert_is_its_definition(
    peer: Peer,
    tensors: Mapping[str, Tensor],
    published: Callable[[Mapping[str, Tensor], Tensor, int], Tensor],
    *,
    name: str,
    scale: int,
    size: tuple[int, int],
) -> None:
    """A published file gives what `published` computes from it, and is written as it was read."""
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    read = peer.read(tensors)
    torch.testing.assert_close(read.double()(lr), published(tensors, lr, scale))
    assert (read.scale, read.name) == (scale, name)
    assert_written_as_read(peer, read, tensors)


def conv(tensors: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Convolve with a published layer, which is used up."""
    weight = tensors.pop(f"{name}.weight")
    return conv2d(x, weight, tensors.pop(f"{name}.bias"), padding=weight.shape[-1] // 2)


def edsr_tail(tensors: dict[str, Tensor], x: Tensor, scale: int) -> Tensor:
    """EDSR's upsampler, convolution to RGB and mean shift; nothing else may be left."""
    for step, name in {2: [(2, 0)], 3: [(3, 0)], 4: [(2, 0), (2, 2)]}[scale]:
        x = pixel_shuffle(conv(tensors, f"tail.0.{name}", x), step)
    sr = conv(tensors, "add_mean", conv(tensors, "tail.1", x)) / 255
    assert not tensors
    return sr
