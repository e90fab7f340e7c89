"""RDN: residual dense blocks (Zhang et al. 2018, CVPR).

Each layer of a block reads the outputs of all layers before it; the block's and the whole network's outputs
are fused by 1 x 1 convolutions.

The paper leaves the range of pixels open: 0..255 without a mean shift is that of the PyTorch code whose names
these are (EDSR-PyTorch).

Letters:  B batch   C channels   H, W height and width of the LR image   S scale
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.network.interface import SRModel
from enlca.network.layers import conv3x3
from enlca.peers.frame import PIXEL_RANGE, check_scale, scale_of_steps
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import Table, check_size, count, length, renamed


class ResidualDenseBlock(nn.Module):
    """x + a fusion of x and of all layers' outputs (Sec. 3.2).

    Args:
        channels: of the input and the output.
        growth: channels that each layer adds.
        layers: convolutions.
    """

    def __init__(self, channels: int, *, growth: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(conv3x3(channels + i * growth, growth) for i in range(layers))
        self.fuse = nn.Conv2d(channels + layers * growth, channels, kernel_size=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        dense = x
        for layer in self.layers:
            dense = torch.cat((dense, layer(dense).relu()), dim=1)
        return x + self.fuse(dense)


class RDN(SRModel):
    """Upscale by residual dense blocks, all of which the last stage reads (Fig. 2).

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps between blocks (the paper's G0).
        blocks: residual dense blocks (D).
        layers: convolutions of a block (C).
        growth: channels that each of them adds (G).

    Raises:
        ValueError: another scale.
    """

    # Without a mean shift 0..255 goes in and comes out of convolutions, which 16 bits round to whole levels.
    half_safe = False

    def __init__(
        self, *, scale: int = 4, channels: int = 64, blocks: int = 16, layers: int = 8, growth: int = 64
    ):
        super().__init__()
        check_scale(scale)
        self.scale = scale
        self.first = conv3x3(3, channels)
        self.second = conv3x3(channels, channels)
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(channels, growth=growth, layers=layers) for _ in range(blocks)
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(blocks * channels, channels, kernel_size=1), conv3x3(channels, channels)
        )
        steps = [2, 2] if scale == 4 else [scale]
        widths = [channels, *(growth for _ in steps)]
        upscale = (
            layer
            for step, width in zip(steps, widths, strict=False)
            for layer in (conv3x3(width, step * step * growth), nn.PixelShuffle(step))
        )
        self.upsampler = nn.Sequential(*upscale, conv3x3(growth, 3))

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images."""
        first = self.first(PIXEL_RANGE * lr)
        x, outputs = self.second(first), []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return self.upsampler(first + self.fuse(torch.cat(outputs, dim=1))) / PIXEL_RANGE


NAMES: Table = [
    (r"first\.(\w+)", r"SFENet1.\1"),
    (r"second\.(\w+)", r"SFENet2.\1"),
    (r"blocks\.(\d+)\.layers\.(\d+)\.(\w+)", r"RDBs.\1.convs.\2.conv.0.\3"),
    (r"blocks\.(\d+)\.fuse\.(\w+)", r"RDBs.\1.LFF.\2"),
    (r"fuse\.(.+)", r"GFF.\1"),
    (r"upsampler\.(.+)", r"UPNet.\1"),
]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published RDN; raise ValueError if it is none."""
    growth = length(shapes, "RDBs.0.convs.0.conv.0.weight")
    blocks, layers = count(shapes, "RDBs.#.LFF.weight"), count(shapes, "RDBs.0.convs.#.conv.0.weight")
    check_size(shapes, blocks * layers)
    return {
        "scale": scale_of_steps(shapes, first="UPNet.0.weight", second="UPNet.4.weight", channels=growth),
        "channels": length(shapes, "SFENet1.weight"),
        "blocks": blocks,
        "layers": layers,
        "growth": growth,
    }


PEER = Peer(
    name="RDN",
    reference="Zhang et al. 2018, CVPR",
    build=RDN,
    deduce=deduce,
    published=partial(renamed, table=NAMES),
)
