"""The local parts of EDSR (Lim et al. 2017): residual blocks and upsamplers.

Letters:  B batch   C channels   H, W height and width   S scale
"""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Build a 3 x 3 convolution that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


class ResBlock(nn.Module):
    """x + res_scale * conv(relu(conv(x))): EDSR's residual block, without normalisation."""

    def __init__(self, channels: int, *, res_scale: float):
        super().__init__()
        self.res_scale = res_scale
        self.first = conv3x3(channels, channels)
        self.relu = nn.ReLU(inplace=True)
        self.second = conv3x3(channels, channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        residual = self.second(self.relu(self.first(x)))
        return torch.add(x, residual, alpha=self.res_scale)


def residual_blocks(network: nn.Module) -> dict[str, ResBlock]:
    """Return the residual blocks of a network, in order, by their names in it."""
    return {name: module for name, module in network.named_modules() if isinstance(module, ResBlock)}


def stepwise_upsampler(scale: int, channels: int) -> nn.Sequential:
    """Build EDSR's upsampler: two steps of 2 for x4, one step for x2 and x3, then a convolution to RGB.

    B C H W -> B 3 SH SW. Most of its operations are at HR size.
    """
    steps = {2: [2], 3: [3], 4: [2, 2]}[scale]
    upscale = [
        layer
        for step in steps
        for layer in (conv3x3(channels, step * step * channels), nn.PixelShuffle(step))
    ]
    return nn.Sequential(*upscale, conv3x3(channels, 3))


def direct_upsampler(scale: int, channels: int) -> nn.Sequential:
    """Build one convolution to the S x S output pixels of each input pixel, at LR size (Shi et al. 2016).

    B C H W -> B 3 SH SW. Cheap: for small networks.
    """
    return nn.Sequential(conv3x3(channels, 3 * scale * scale), nn.PixelShuffle(scale))


UPSAMPLERS = {"stepwise": stepwise_upsampler, "direct": direct_upsampler}


def widest_elements(upsampler: nn.Sequential) -> int:
    """Return the tensor elements alive in the widest layer of an upsampler for each LR pixel.

    Input and output of a layer are counted, both twice in a convolution.
    """
    widest, area = 0, 1
    for layer in upsampler:
        if isinstance(layer, nn.Conv2d):
            widest = max(widest, 2 * area * (layer.in_channels + layer.out_channels))
        elif isinstance(layer, nn.PixelShuffle):
            area *= layer.upscale_factor**2
    return widest


def with_fast_convolutions(network: Network, device: torch.device) -> Network:
    """Return the network on the device, with the channels of its weights, and so of its features, last.

    Convolutions reorder their input and output otherwise, each by itself: on a processor with AVX-512 a
    network is 1.25 times as fast without, in bfloat16 1.4 to 2.5 times (benchmarks/NOTES.md).
    """
    network.to(device)
    for tensor in (*network.parameters(), *network.buffers()):
        # Weights of other dimensions, such as those of 3d convolutions, have no such order.
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network
