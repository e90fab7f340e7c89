"""SRFBN: one block applied again and again, which sees its own last output (Li et al. 2019, CVPR).

The feedback block goes up to HR size and down again, `groups` times, each time from all features of the same
size before. All pixels are 0..255 inside, less DIV2K's mean, and the network adds to the bilinearly upscaled
input.

Letters:  B batch   C channels   H, W height and width of the LR image   S scale
"""

from functools import partial
from itertools import count as counted
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from enlca.network.interface import SRModel
from enlca.network.layers import conv3x3
from enlca.peers.frame import PIXEL_RANGE, MeanShift, check_pixel_range, check_scale
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import Table, count, length, renamed

# The convolutions between LR and HR size have kernels of S + 4, steps of S and 2 zeros on each side.
MARGIN = 2
SLOPE = 0.2


def rectified(layer: nn.Module) -> nn.Sequential:
    """Put a PReLU with one slope for all channels behind a layer."""
    return nn.Sequential(layer, nn.PReLU(init=SLOPE))


def pointwise(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build a rectified 1 x 1 convolution."""
    return rectified(nn.Conv2d(in_channels, out_channels, kernel_size=1))


def going_up(channels: int, scale: int) -> nn.Sequential:
    """Build a rectified transposed convolution from LR to HR size."""
    layer = nn.ConvTranspose2d(channels, channels, scale + 2 * MARGIN, stride=scale, padding=MARGIN)
    return rectified(layer)


def going_down(channels: int, scale: int) -> nn.Sequential:
    """Build a rectified convolution from HR to LR size."""
    return rectified(nn.Conv2d(channels, channels, scale + 2 * MARGIN, stride=scale, padding=MARGIN))


class FeedbackBlock(nn.Module):
    """Refine features by projections to HR size and back, densely connected (Sec. 3.2).

    Args:
        channels: of the features.
        groups: projections up and down.
        scale: between LR and HR size.
    """

    def __init__(self, channels: int, *, groups: int, scale: int):
        super().__init__()
        self.compress_in = pointwise(2 * channels, channels)
        self.up = nn.ModuleList(going_up(channels, scale) for _ in range(groups))
        self.down = nn.ModuleList(going_down(channels, scale) for _ in range(groups))
        # The first group has one input, and nothing to compress.
        several = range(2, groups + 1)
        self.compress_lr = nn.ModuleList(pointwise(n * channels, channels) for n in several)
        self.compress_hr = nn.ModuleList(pointwise(n * channels, channels) for n in several)
        self.compress_out = pointwise(groups * channels, channels)

    def forward(
        self, x: Float[Tensor, "B C H W"], feedback: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        """Return refined features of the input and the block's last output; they are the next feedback."""
        lr, hr = [self.compress_in(torch.cat((x, feedback), dim=1))], []
        for group, up, down in zip(counted(), self.up, self.down, strict=False):
            hr.append(up(self.compress_lr[group - 1](torch.cat(lr, dim=1)) if group else lr[0]))
            lr.append(down(self.compress_hr[group - 1](torch.cat(hr, dim=1)) if group else hr[0]))
        return self.compress_out(torch.cat(lr[1:], dim=1))


class SRFBN(SRModel):
    """Upscale by a feedback block in a loop.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        groups: of the feedback block (the paper's G).
        steps: of the loop (T). Files do not say.

    Raises:
        ValueError: for invalid values.
    """

    def __init__(self, *, scale: int = 4, channels: int = 64, groups: int = 6, steps: int = 4):
        super().__init__()
        check_scale(scale)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.scale, self.steps = scale, steps
        self.sub_mean = MeanShift(-1)
        self.head = nn.Sequential(rectified(conv3x3(3, 4 * channels)), pointwise(4 * channels, channels))
        self.block = FeedbackBlock(channels, groups=groups, scale=scale)
        self.upsampler = going_up(channels, scale)
        self.to_rgb = conv3x3(channels, 3)
        self.add_mean = MeanShift(1)

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images of the last step."""
        shifted = self.sub_mean(PIXEL_RANGE * lr)
        # In the first step the features are their own feedback.
        features = feedback = self.head(shifted)
        for _ in range(self.steps):
            feedback = self.block(features, feedback)
        upscaled = interpolate(shifted, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
        return self.add_mean(upscaled + self.to_rgb(self.upsampler(feedback))) / PIXEL_RANGE


# SRFBN-S, of the same paper.
SMALL = {"channels": 32, "groups": 3}

NAMES: Table = [
    (r"head\.0\.(.+)", r"conv_in.\1"),
    (r"head\.1\.(.+)", r"feat_in.\1"),
    (r"block\.up\.(.+)", r"block.upBlocks.\1"),
    (r"block\.down\.(.+)", r"block.downBlocks.\1"),
    (r"block\.compress_lr\.(.+)", r"block.uptranBlocks.\1"),
    (r"block\.compress_hr\.(.+)", r"block.downtranBlocks.\1"),
    (r"upsampler\.(.+)", r"out.\1"),
    (r"to_rgb\.(\w+)", r"conv_out.0.\1"),
]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published SRFBN; raise ValueError if it is none."""
    return {
        "scale": length(shapes, "out.0.weight", axis=2) - 2 * MARGIN,
        "channels": length(shapes, "feat_in.0.weight"),
        "groups": count(shapes, "block.upBlocks.#.0.weight"),
    }


PEER = Peer(
    name="SRFBN",
    reference="Li et al. 2019, CVPR",
    build=SRFBN,
    deduce=deduce,
    published=partial(renamed, table=NAMES),
    check=check_pixel_range,
)
