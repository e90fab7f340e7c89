"""RDN against its definition, written with the published names."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters, conv
from torch.nn.functional import conv2d, pixel_shuffle

from enlca.peers.rdn import PEER, RDN, ResidualDenseBlock

H, W, C, GROWTH, BLOCKS, LAYERS = 7, 5, 11, 6, 3, 2
SIZES = {"channels": C, "growth": GROWTH, "blocks": BLOCKS, "layers": LAYERS}


def published(tensors, lr, scale):
    """Compute RDN from a published state dict, of which nothing may be left."""
    tensors, outputs = {name: tensor.double() for name, tensor in tensors.items()}, []
    first = conv(tensors, "SFENet1", 255 * lr)
    x = conv(tensors, "SFENet2", first)
    for block in range(BLOCKS):
        dense = [x]
        for layer in range(LAYERS):
            name = f"RDBs.{block}.convs.{layer}.conv.0"
            dense.append(conv(tensors, name, torch.cat(dense, dim=1)).relu())
        x = x + conv(tensors, f"RDBs.{block}.LFF", torch.cat(dense, dim=1))
        outputs.append(x)
    x = first + conv(tensors, "GFF.1", conv(tensors, "GFF.0", torch.cat(outputs, dim=1)))
    steps = [2, 2] if scale == 4 else [scale]
    for i, step in enumerate(steps):
        x = pixel_shuffle(conv(tensors, f"UPNet.{2 * i}", x), step)
    sr = conv(tensors, f"UPNet.{2 * len(steps)}", x) / 255
    assert not tensors
    return sr


@pytest.mark.parametrize(("scale", "number"), [(2, 22_123_395), (3, 22_308_035), (4, 22_271_107)])
def test_it_has_the_published_number_of_parameters(scale, number):
    assert_parameters(PEER, lambda: RDN(scale=scale), number)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_published_file_gives_what_its_definition_says(scale):
    torch.manual_seed(scale)
    tensors = PEER.write(RDN(scale=scale, **SIZES))
    assert_is_its_definition(PEER, tensors, published, name="RDN", scale=scale, size=(H, W))


def test_a_dense_block_is_one_convolution_of_all_outputs_and_so_the_sum_of_convolutions_of_each():
    block, x = ResidualDenseBlock(C, growth=GROWTH, layers=LAYERS), torch.randn(2, C, H, W)
    outputs = [x]
    for layer in block.layers:
        parts = layer.weight.split([part.shape[1] for part in outputs], dim=1)
        summed = sum(conv2d(x, part, padding=1) for x, part in zip(outputs, parts, strict=True))
        outputs.append((summed + layer.bias.view(-1, 1, 1)).relu())
    parts = block.fuse.weight.split([part.shape[1] for part in outputs], dim=1)
    fused = sum(conv2d(x, part) for x, part in zip(outputs, parts, strict=True))
    torch.testing.assert_close(block(x), x + fused + block.fuse.bias.view(-1, 1, 1))
