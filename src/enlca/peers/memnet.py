"""MemNet: memory blocks, each of which reads the outputs of all before it (Tai et al. 2017, ICCV).

A block applies one residual unit again and again, each time with batch normalisation of its own. Its gate, a
1 x 1 convolution, chooses from what the recursions gave (short-term memory) and from what all blocks before
gave (long-term memory). Every block's output makes an SR image; the result is their weighted sum.

The published weights are in Caffe's format, which is not read here. Tensor names in a file are our own.

Letters:  B batch   C channels   H, W height and width of the SR image   M blocks   R recursions
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

from enlca.network.layers import conv3x3
from enlca.peers.layout import Peer, Shapes
from enlca.peers.luma import LumaModel
from enlca.peers.naming import check_size, count, length, renamed
from enlca.peers.norm import STATISTICS, Norm, activated


class MemoryBlock(nn.Module):
    """Recursions of a residual unit, then a gate over them and all earlier blocks (Sec. 3.2).

    Args:
        channels: of the features.
        recursions: R.
        earlier: tensors of long-term memory.
    """

    def __init__(self, channels: int, recursions: int, *, earlier: int):
        super().__init__()
        self.first, self.second = conv3x3(channels, channels), conv3x3(channels, channels)
        self.first_norms = nn.ModuleList(Norm(channels) for _ in range(recursions))
        self.second_norms = nn.ModuleList(Norm(channels) for _ in range(recursions))
        gated = (recursions + earlier) * channels
        self.gate_norm, self.gate = Norm(gated), nn.Conv2d(gated, channels, kernel_size=1)

    def forward(self, memory: Sequence[Float[Tensor, "B C H W"]]) -> Float[Tensor, "B C H W"]:
        """Return the block's output from those of all before it, the last one of which is its input."""
        x, output = memory[-1], None
        for index, norms in enumerate(zip(self.first_norms, self.second_norms, strict=True)):
            first_norm, second_norm = norms
            x = x + self.second(activated(second_norm, self.first(activated(first_norm, x))))
            output = self._gated(x, index, output)
        for index, earlier in enumerate(memory, start=len(self.first_norms)):
            output = self._gated(earlier, index, output)
        assert output is not None
        return output

    def _gated(self, x: Tensor, index: int, output: Tensor | None) -> Tensor:
        """Add to `output` what the gate makes of the tensor at `index` among those that it reads.

        All of them side by side would be the largest tensor of the network.
        """
        channels = slice(index * x.shape[1], (index + 1) * x.shape[1])
        rectified = relu(self.gate_norm(x, channels), inplace=True)
        bias = self.gate.bias if output is None else None
        part = conv2d(rectified, self.gate.weight[:, channels], bias)
        return part if output is None else output + part


class MemNet(LumaModel):
    """Improve bicubic luma; one network serves all scales.

    NOTE(paper): the published M6R6 network normalises each of its M outputs by itself, and shares their
    convolution; so its number of weights says.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        blocks: M.
        recursions: R, of each block.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, *, scale: int = 4, channels: int = 64, blocks: int = 6, recursions: int = 6):
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"scale must be one of 2, 3, 4; got {scale!r}")
        self.scale = scale
        # The 3 x 3 convolutions see this far, in SR pixels.
        self.tile_overlap = -(-(2 + 2 * blocks * recursions) // scale) + 2
        self.input_norm, self.input = Norm(1), conv3x3(1, channels)
        self.blocks = nn.ModuleList(
            MemoryBlock(channels, recursions, earlier=1 + index) for index in range(blocks)
        )
        self.output_norms = nn.ModuleList(Norm(channels) for _ in range(blocks))
        self.output = conv3x3(channels, 1)
        self.output_weights = nn.Parameter(torch.full((blocks,), 1 / blocks))

    def upscale_luma(
        self, lr: Float[Tensor, "B 1 h w"], bicubic: Float[Tensor, "B 1 H W"]
    ) -> Float[Tensor, "B 1 H W"]:
        """Return the SR luma."""
        memory = [self.input(activated(self.input_norm, bicubic))]
        sr = torch.zeros_like(bicubic)
        for block, norm, weight in zip(self.blocks, self.output_norms, self.output_weights, strict=True):
            memory.append(block(memory))
            sr = sr + weight * (bicubic + self.output(activated(norm, memory[-1])))
        return sr


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a MemNet, which serves any scale; raise ValueError if it is none."""
    blocks = count(shapes, "blocks.#.gate.weight")
    recursions = count(shapes, "blocks.0.first_norms.#.weight")
    check_size(shapes, blocks * recursions)
    return {"channels": length(shapes, "input.weight"), "blocks": blocks, "recursions": recursions}


PEER = Peer(
    name="MemNet",
    reference="Tai et al. 2017, ICCV",
    build=MemNet,
    deduce=deduce,
    published=partial(renamed, table=STATISTICS),
)
