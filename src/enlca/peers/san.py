"""SAN: channel attention by covariances, and a non-local block in quarters (Dai et al. 2019, CVPR).

RCAN weights a channel by what the means of all channels say, SAN by what their covariances say. The matrix
of covariances enters by its square root, which evens out the large differences between its eigenvalues.

Published files hold tensors that take no part in the result: a convolution after the groups, a channel
attention in the non-local block and a scalar in each group. They are kept, to be written as they were read.

Letters:  B batch   C channels   H, W height and width of the LR image   N positions
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.exact import ExactAttend
from enlca.attention.ops import autocast_disabled
from enlca.network.layers import conv3x3
from enlca.peers.frame import FRAME, EDSRFrame, Residual, check_pixel_range, scale_of_frame
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import Table, check_size, count, length, renamed
from enlca.peers.rcan import ChannelGate

# Of Newton and Schulz.
STEPS = 5
# NOTE(published): statistics are those of the middle of larger pictures; not in the paper. Where a side is
# exactly this long and the other shorter, the published slice wraps; ours is the whole picture.
LARGEST_SIDE = 1000
# Of the channel attention that is not used.
UNUSED_REDUCTION = 8


def covariance(x: Float[Tensor, "B C N"]) -> Float[Tensor, "B C C"]:
    """Compute the channels' covariances over all positions (Sec. 3.3)."""
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred @ centred.mT / x.shape[-1]


def square_root(matrix: Float[Tensor, "B C C"], *, steps: int = STEPS) -> Float[Tensor, "B C C"]:
    """Approximate the square roots of positive semi-definite matrices by Newton and Schulz (Sec. 3.3).

    With the trace divided out all eigenvalues are in [0, 1], where the iteration converges: y to the root and
    z to its inverse. Small eigenvalues are far from it after few steps; the networks were trained so.

    Args:
        matrix: positive semi-definite.
        steps: at least 1.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[:, None, None]
    # A matrix of zeros is its own root.
    y, z = matrix / trace.clamp_min(torch.finfo(matrix.dtype).tiny), identity.expand_as(matrix)
    for _ in range(steps):
        correction = (3 * identity - z @ y) / 2
        y, z = y @ correction, correction @ z
    return y * trace.sqrt()


def middle(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Cut out the middle of pictures with more than LARGEST_SIDE rows or columns."""
    height, width = (min(side, LARGEST_SIDE) for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


class SecondOrderAttention(nn.Module):
    """Weight each channel by a gate that reads the channels' covariances (Sec. 3.3)."""

    def __init__(self, channels: int, *, reduction: int):
        super().__init__()
        self.gate = ChannelGate(channels, reduction=reduction)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        with autocast_disabled(x):
            wide = middle(x).to(torch.promote_types(x.dtype, torch.float32))
            statistics = square_root(covariance(wide.flatten(2))).mean(dim=1)
        return x * self.gate(statistics[:, :, None, None].to(x.dtype))


class NonLocal(nn.Module):
    """x + attention from each position to the largest keys and values of each 2 x 2 positions (Sec. 3.2).

    Args:
        channels: of the features.
        embed_channels: of queries, keys and values.
    """

    def __init__(self, channels: int, *, embed_channels: int):
        super().__init__()
        self.query, self.key, self.value = (
            nn.Conv2d(channels, embed_channels, kernel_size=1) for _ in range(3)
        )
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.attend = ExactAttend()
        self.out = nn.Conv2d(embed_channels, channels, kernel_size=1)
        # It starts as the identity.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape; H and W are at least 2."""
        q = self.query(x).flatten(2)
        k, v = (self.pool(embed(x)).flatten(2) for embed in (self.key, self.value))
        return x + self.out(self.attend(q, k, v).unflatten(2, x.shape[-2:]))


def in_quarters(block: nn.Module, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Apply a block to each quarter of pictures; odd rows and columns belong to the last ones."""
    rows = x.tensor_split((x.shape[-2] // 2,), dim=-2)
    return torch.cat(
        [
            torch.cat([block(part) for part in row.tensor_split((x.shape[-1] // 2,), dim=-1)], dim=-1)
            for row in rows
        ],
        dim=-2,
    )


class AttentionGroup(nn.Module):
    """x + residual blocks, second-order attention and a convolution: the paper's LSRAG (Sec. 3.2).

    Args:
        channels: of the features.
        blocks: residual blocks.
        reduction: of the attention.
    """

    def __init__(self, channels: int, *, blocks: int, reduction: int):
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                Residual(conv3x3(channels, channels), nn.ReLU(inplace=True), conv3x3(channels, channels))
                for _ in range(blocks)
            )
        )
        self.attention = SecondOrderAttention(channels, reduction=reduction)
        self.fuse = conv3x3(channels, channels)
        self.unused_scale = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        return x + self.fuse(self.attention(self.blocks(x)))


class SANBody(nn.Module):
    """Groups between two passes of one non-local block; a share of the first pass is added to each group."""

    def __init__(self, channels: int, *, groups: int, blocks: int, reduction: int, embed_channels: int):
        super().__init__()
        self.non_local = NonLocal(channels, embed_channels=embed_channels)
        self.groups = nn.ModuleList(
            AttentionGroup(channels, blocks=blocks, reduction=reduction) for _ in range(groups)
        )
        self.share = nn.Parameter(torch.zeros(1))
        self.unused_fuse = conv3x3(channels, channels).requires_grad_(False)
        self.unused_gate = ChannelGate(channels, reduction=UNUSED_REDUCTION).requires_grad_(False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        source = x = in_quarters(self.non_local, x)
        for group in self.groups:
            x = group(x) + self.share * source
        return in_quarters(self.non_local, x)


class SAN(EDSRFrame):
    """Upscale by groups with second-order channel attention, in EDSR's frame.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps, at least 8.
        groups: residual groups with attention.
        blocks: residual blocks of a group.
        reduction: of the channel attention.
        embed_channels: of the non-local block.

    Raises:
        ValueError: for invalid values.
    """

    # A quarter has at least 2 x 2 positions, the largest of which are taken.
    smallest_input = 4

    def __init__(
        self,
        *,
        scale: int = 4,
        channels: int = 64,
        groups: int = 20,
        blocks: int = 10,
        reduction: int = 16,
        embed_channels: int = 8,
    ):
        if not max(1, reduction, UNUSED_REDUCTION) <= channels or reduction < 1:
            raise ValueError(
                f"channels must be at least {UNUSED_REDUCTION} and reduction 1 to {channels} (channels),"
                f" got {channels} and {reduction}"
            )
        body = SANBody(
            channels, groups=groups, blocks=blocks, reduction=reduction, embed_channels=embed_channels
        )
        super().__init__(body, scale=scale, channels=channels)


NAMES: Table = [
    (r"body\.non_local\.query\.(\w+)", r"non_local.non_local.theta.\1"),
    (r"body\.non_local\.key\.(\w+)", r"non_local.non_local.phi.0.\1"),
    (r"body\.non_local\.value\.(\w+)", r"non_local.non_local.g.0.\1"),
    (r"body\.non_local\.out\.(\w+)", r"non_local.non_local.W.\1"),
    (r"body\.unused_gate\.(.+)", r"non_local.soca.conv_du.\1"),
    (r"body\.unused_fuse\.(\w+)", r"conv_last.\1"),
    (r"body\.share", r"gamma"),
    (r"body\.groups\.(\d+)\.blocks\.(\d+)\.(\d+)\.(\w+)", r"RG.\1.rcab.\2.conv_first.\3.\4"),
    (r"body\.groups\.(\d+)\.attention\.gate\.(.+)", r"RG.\1.soca.conv_du.\2"),
    (r"body\.groups\.(\d+)\.fuse\.(\w+)", r"RG.\1.conv_last.\2"),
    (r"body\.groups\.(\d+)\.unused_scale", r"RG.\1.gamma"),
    *FRAME,
]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published SAN; raise ValueError if it is none."""
    channels = length(shapes, "head.0.weight")
    groups, blocks = count(shapes, "RG.#.conv_last.weight"), count(shapes, "RG.0.rcab.#.conv_first.0.weight")
    check_size(shapes, groups * blocks)
    return {
        "scale": scale_of_frame(shapes, channels),
        "channels": channels,
        "groups": groups,
        "blocks": blocks,
        "reduction": channels // length(shapes, "RG.0.soca.conv_du.0.weight"),
        "embed_channels": length(shapes, "non_local.non_local.theta.weight"),
    }


PEER = Peer(
    name="SAN",
    reference="Dai et al. 2019, CVPR",
    build=SAN,
    deduce=deduce,
    published=partial(renamed, table=NAMES),
    check=check_pixel_range,
)
