"""RCAN: residual groups with channel attention (Zhang et al. 2018, ECCV).

A channel is weighted by a number that depends on the means of all channels over the whole picture.

Letters:  B batch   C channels   H, W height and width of the LR image
"""

from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from enlca.network.layers import conv3x3
from enlca.peers.frame import FRAME, EDSRFrame, Residual, check_pixel_range, scale_of_frame
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import Table, check_size, count, length, renamed


class ChannelGate(nn.Sequential):
    """One number in (0, 1) for each channel from one statistic of each: squeeze, rectify, expand, sigmoid.

    Args:
        channels: of the features.
        reduction: the squeezed statistics are `channels // reduction`.
    """

    def __init__(self, channels: int, *, reduction: int):
        squeezed = channels // reduction
        super().__init__(
            nn.Conv2d(channels, squeezed, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, kernel_size=1),
            nn.Sigmoid(),
        )


class ChannelAttention(nn.Module):
    """Weight each channel by a gate that reads the means of all (Sec. 3.3)."""

    def __init__(self, channels: int, *, reduction: int):
        super().__init__()
        self.gate = ChannelGate(channels, reduction=reduction)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        return x * self.gate(x.mean(dim=(-2, -1), keepdim=True))


class RCAN(EDSRFrame):
    """Upscale by groups of residual blocks, with skip connections around blocks, groups and all of them.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        groups: residual groups.
        blocks: residual blocks of a group.
        reduction: of the channel attention; see `ChannelGate`.

    Raises:
        ValueError: for invalid values.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        channels: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
    ):
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction must be 1 to {channels} (channels), got {reduction}")

        def block() -> Residual:
            return Residual(
                conv3x3(channels, channels),
                nn.ReLU(inplace=True),
                conv3x3(channels, channels),
                ChannelAttention(channels, reduction=reduction),
            )

        def group() -> Residual:
            return Residual(*(block() for _ in range(blocks)), conv3x3(channels, channels))

        body = nn.Sequential(*(group() for _ in range(groups)), conv3x3(channels, channels))
        super().__init__(body, scale=scale, channels=channels)


NAMES: Table = [
    (r"body\.(\d+)\.(\d+)\.3\.gate\.(.+)", r"body.\1.body.\2.body.3.conv_du.\3"),
    (r"body\.(\d+)\.(\d+)\.(\d+)\.(\w+)", r"body.\1.body.\2.body.\3.\4"),
    (r"body\.(\d+)\.(\d+)\.(\w+)", r"body.\1.body.\2.\3"),
    *FRAME,
]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published RCAN; raise ValueError if it is none."""
    channels = length(shapes, "head.0.weight")
    groups = count(shapes, "body.#.body.0.body.0.weight")
    blocks = count(shapes, "body.0.body.#.body.0.weight")
    check_size(shapes, groups * blocks)
    return {
        "scale": scale_of_frame(shapes, channels),
        "channels": channels,
        "groups": groups,
        "blocks": blocks,
        "reduction": channels // length(shapes, "body.0.body.0.body.3.conv_du.0.weight"),
    }


PEER = Peer(
    name="RCAN",
    reference="Zhang et al. 2018, ECCV",
    build=RCAN,
    deduce=deduce,
    published=partial(renamed, table=NAMES),
    check=check_pixel_range,
)
