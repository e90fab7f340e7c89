"""RNAN: masks for features, from half their size and from all positions (Zhang et al. 2019, ICLR).

    group:  block, then a convolution
    block:  x + trunk(x) * mask(x), between residual blocks

The first and the last group are non-local: their mask branch begins with attention over all positions.

Letters:  B batch   C channels   H, W height and width of the LR image   N = H W positions   E embedded
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.ops import autocast_disabled
from enlca.network.layers import conv3x3
from enlca.peers.frame import FRAME, EDSRFrame, Residual, check_pixel_range, scale_of_frame
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import Table, check_size, count, length, renamed

# Elements of a chunk of the N x N weights: few beside the features of the image that memory is measured on.
CHUNK_ELEMENTS = 1 << 20


def attention_over_queries(
    q: Float[Tensor, "B N E"], k: Float[Tensor, "B N E"], v: Float[Tensor, "B N E"]
) -> Float[Tensor, "B N E"]:
    """Sum values with weights that add up to 1 over the queries of each key, not over the keys of a query.

    NOTE(paper): Eq. 7 normalises over keys; the released code over the first axis of its N x N matrix, which
    is that of the queries. So the columns of a chunk of keys are complete, and chunks add up to the result.
    """
    total = torch.zeros_like(v)
    keys = max(1, CHUNK_ELEMENTS // (q.shape[0] * q.shape[1]))
    for some_keys, some_values in zip(k.split(keys, dim=1), v.split(keys, dim=1), strict=True):
        total = total + (q @ some_keys.mT).softmax(dim=1) @ some_values
    return total


class NonLocal(nn.Module):
    """x + a projection of attention over all positions (Sec. 3.3)."""

    def __init__(self, channels: int):
        super().__init__()
        embedded = channels // 2
        self.query, self.key, self.value = (nn.Conv2d(channels, embedded, kernel_size=1) for _ in range(3))
        self.project = nn.Conv2d(embedded, channels, kernel_size=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        q, k, v = (embed(x).flatten(2).mT for embed in (self.query, self.key, self.value))
        with autocast_disabled(x):
            attended = attention_over_queries(q.to(x.dtype), k.to(x.dtype), v.to(x.dtype))
        return x + self.project(attended.mT.unflatten(2, x.shape[2:]))


def residual(channels: int) -> Residual:
    """Build a residual block without normalisation, as EDSR's."""
    return Residual(conv3x3(channels, channels), nn.ReLU(inplace=True), conv3x3(channels, channels))


class MaskBranch(nn.Module):
    """Numbers in (0, 1) for all features, by residual blocks at half size and at full size (Sec. 3.2).

    Args:
        channels: of the features.
        non_local: begin with attention over all positions.
    """

    def __init__(self, channels: int, *, non_local: bool):
        super().__init__()
        before = [NonLocal(channels)] if non_local else []
        self.before = nn.Sequential(*before, residual(channels))
        self.downscale = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)
        self.inside = nn.Sequential(residual(channels), residual(channels))
        self.upscale = nn.ConvTranspose2d(channels, channels, kernel_size=6, stride=2, padding=2)
        self.after = residual(channels)
        self.fuse = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return a mask of the same shape; H and W must be even."""
        x = self.before(x)
        return self.fuse(self.after(x + self.upscale(self.inside(self.downscale(x))))).sigmoid()


class AttentionBlock(nn.Module):
    """x + trunk(x) * mask(x) after one residual block and before two (Eq. 5)."""

    def __init__(self, channels: int, *, non_local: bool):
        super().__init__()
        self.first = residual(channels)
        self.trunk = nn.Sequential(residual(channels), residual(channels))
        self.mask = MaskBranch(channels, non_local=non_local)
        self.last = nn.Sequential(residual(channels), residual(channels))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        x = self.first(x)
        return self.last(x + self.trunk(x) * self.mask(x))


class RNAN(EDSRFrame):
    """Upscale by attention groups, with a skip connection around all of them.

    Pixels are 0..255 inside, as in the other methods that were published in EDSR's code.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        groups: number of groups, the two non-local ones included.

    Raises:
        ValueError: for invalid values.
    """

    # The mask branch halves the size.
    input_multiple = 2
    half_safe = False
    workspace_elements = 3 * CHUNK_ELEMENTS

    def __init__(self, *, scale: int = 4, channels: int = 64, groups: int = 10):
        if groups < 2 or channels < 2:
            raise ValueError(f"groups and channels must be at least 2, got {groups} and {channels}")

        def group(*, non_local: bool) -> nn.Sequential:
            return nn.Sequential(AttentionBlock(channels, non_local=non_local), conv3x3(channels, channels))

        body = nn.Sequential()
        body.add_module("low", group(non_local=True))
        local = (group(non_local=False) for _ in range(groups - 2))
        body.add_module("middle", nn.Sequential(*local, conv3x3(channels, channels)))
        body.add_module("high", group(non_local=True))
        super().__init__(body, scale=scale, channels=channels)


# Where a block is, and where a convolution is in a block. The published mask branch, its up- and downscaling
# and so on are lists of one entry.
PLACES: Table = [
    (r"body\.(low|high)\.0", r"body_nl_\1.0.body.0"),
    (r"body\.middle\.(\d+)\.0", r"body.\1.body.0"),
]
PARTS: Table = [
    (r"first\.(\d)", r"RA_RB1.0.body.\2"),
    (r"trunk\.(\d)\.(\d)", r"RA_TB.0.body.\2.body.\3"),
    (r"last\.(\d)\.(\d)", r"RA_tail.\2.body.\3"),
    (r"mask\.before\.0\.query", r"RA_MB.0.MB_RB1.0.theta"),
    (r"mask\.before\.0\.key", r"RA_MB.0.MB_RB1.0.phi"),
    (r"mask\.before\.0\.value", r"RA_MB.0.MB_RB1.0.g"),
    (r"mask\.before\.0\.project", r"RA_MB.0.MB_RB1.0.W"),
    (r"mask\.before\.(\d)\.(\d)", r"RA_MB.0.MB_RB1.\2.body.\3"),
    (r"mask\.downscale", r"RA_MB.0.MB_Down.0"),
    (r"mask\.inside\.(\d)\.(\d)", r"RA_MB.0.MB_RB2.\2.body.\3"),
    (r"mask\.upscale", r"RA_MB.0.MB_Up.0"),
    (r"mask\.after\.(\d)", r"RA_MB.0.MB_RB3.0.body.\2"),
    (r"mask\.fuse", r"RA_MB.0.MB_1x1conv.0"),
]
NAMES: Table = [
    *(
        (rf"{ours}\.{part}\.(?P<kind>\w+)", rf"{theirs}.{published}.\g<kind>")
        for ours, theirs in PLACES
        for part, published in PARTS
    ),
    (r"body\.(low|high)\.1\.(\w+)", r"body_nl_\1.0.body.1.\2"),
    (r"body\.middle\.(\d+)\.1\.(\w+)", r"body.\1.body.1.\2"),
    (r"body\.middle\.(\d+)\.(\w+)", r"body.\1.\2"),
    *FRAME,
]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published RNAN; raise ValueError if it is none."""
    channels = length(shapes, "head.0.weight")
    length(shapes, "body_nl_low.0.body.0.RA_MB.0.MB_RB1.0.theta.weight")
    local = count(shapes, "body.#.body.0.RA_RB1.0.body.0.weight")
    check_size(shapes, local)
    return {"scale": scale_of_frame(shapes, channels), "channels": channels, "groups": local + 2}


PEER = Peer(
    name="RNAN",
    reference="Zhang et al. 2019, ICLR",
    build=RNAN,
    deduce=deduce,
    published=partial(renamed, table=NAMES),
    check=check_pixel_range,
)
