"""D-DBPN: up- and downscaling in turn, each corrected by its own error (Haris et al. 2018, CVPR).

A unit scales features, scales them back, and adds the scaled difference to its input. All units read the
outputs of all units of the other size before them; the SR image is read from all features of SR size.

Letters:  B batch   C channels   H, W height and width of the LR image   S scale   N tensors that a unit reads
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.network.interface import SRModel
from enlca.network.layers import conv3x3
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import Table, count, length, renamed

# Kernel, stride and padding of the projections of each scale (Sec. 4.1).
PROJECTIONS = {2: (6, 2, 2), 4: (8, 4, 2), 8: (12, 8, 2)}


def with_prelu(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """Append a PReLU of one slope for all channels."""
    return nn.Sequential(layer, nn.PReLU())


class BackProjection(nn.Module):
    """An up- or down-projection unit (Sec. 3.2, 3.3).

    Args:
        channels: C.
        scale: of the network.
        up: upscale; otherwise downscale.
        reads: N; more than one tensor is reduced to C channels first.
    """

    def __init__(self, channels: int, scale: int, *, up: bool, reads: int):
        super().__init__()
        kernel, stride, padding = PROJECTIONS[scale]

        def projection(up: bool) -> nn.Sequential:
            layer = nn.ConvTranspose2d if up else nn.Conv2d
            return with_prelu(layer(channels, channels, kernel, stride=stride, padding=padding))

        self.reduce = with_prelu(nn.Conv2d(reads * channels, channels, 1)) if reads > 1 else nn.Identity()
        self.project, self.back, self.correct = projection(up), projection(not up), projection(up)

    def forward(self, features: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B C _ _"]:
        """Return features of the other size from the N tensors of one size."""
        x = self.reduce(torch.cat(list(features), dim=1))
        projected = self.project(x)
        return projected + self.correct(self.back(projected) - x)


class DBPN(SRModel):
    """Upscale by dense back-projection.

    Args:
        scale: upscaling factor: 2, 4 or 8.
        channels: C, of the features between units.
        first_channels: of the first convolution.
        stages: T, the number of up-projection units; there is one down-projection less.

    Raises:
        ValueError: for invalid values.
    """

    tile_overlap = 24
    # The last convolution makes the image: there is no skip connection.
    half_safe = False

    def __init__(self, *, scale: int = 4, channels: int = 64, first_channels: int = 256, stages: int = 7):
        super().__init__()
        if scale not in PROJECTIONS:
            raise ValueError(f"scale must be one of {', '.join(map(str, PROJECTIONS))}; got {scale!r}")
        if stages < 2:
            raise ValueError(f"stages must be at least 2, got {stages}")
        self.scale = scale
        self.first = with_prelu(conv3x3(3, first_channels))
        self.second = with_prelu(nn.Conv2d(first_channels, channels, kernel_size=1))
        # Named from 1 as in the paper. The second up-projection reads one tensor as the first one does.
        self.up = nn.ModuleDict(
            {
                str(t): BackProjection(channels, scale, up=True, reads=max(1, t - 1))
                for t in range(1, stages + 1)
            }
        )
        self.down = nn.ModuleDict(
            {str(t): BackProjection(channels, scale, up=False, reads=t) for t in range(1, stages)}
        )
        self.to_rgb = conv3x3(stages * channels, 3)

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images."""
        # The newest comes first, in both lists.
        large, small = [self.up["1"]([self.second(self.first(lr))])], []
        for t in range(1, len(self.up)):
            small.insert(0, self.down[str(t)](large))
            large.insert(0, self.up[str(t + 1)](small))
        return self.to_rgb(torch.cat(large, dim=1))


NAMES: Table = [
    (r"first\.0\.(\w+)", r"feat0.conv.\1"),
    (r"first\.1\.(\w+)", r"feat0.act.\1"),
    (r"second\.0\.(\w+)", r"feat1.conv.\1"),
    (r"second\.1\.(\w+)", r"feat1.act.\1"),
    (r"(up|down)\.(\d+)\.reduce\.0\.(\w+)", r"\1\2.conv.conv.\3"),
    (r"(up|down)\.(\d+)\.reduce\.1\.(\w+)", r"\1\2.conv.act.\3"),
    (r"up\.(\d+)\.project\.0\.(\w+)", r"up\1.up_conv1.deconv.\2"),
    (r"up\.(\d+)\.back\.0\.(\w+)", r"up\1.up_conv2.conv.\2"),
    (r"up\.(\d+)\.correct\.0\.(\w+)", r"up\1.up_conv3.deconv.\2"),
    (r"down\.(\d+)\.project\.0\.(\w+)", r"down\1.down_conv1.conv.\2"),
    (r"down\.(\d+)\.back\.0\.(\w+)", r"down\1.down_conv2.deconv.\2"),
    (r"down\.(\d+)\.correct\.0\.(\w+)", r"down\1.down_conv3.conv.\2"),
    (r"(up|down)\.(\d+)\.project\.1\.(\w+)", r"\1\2.\1_conv1.act.\3"),
    (r"(up|down)\.(\d+)\.back\.1\.(\w+)", r"\1\2.\1_conv2.act.\3"),
    (r"(up|down)\.(\d+)\.correct\.1\.(\w+)", r"\1\2.\1_conv3.act.\3"),
    (r"to_rgb\.(\w+)", r"output_conv.conv.\1"),
]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published D-DBPN; raise ValueError if it is none."""
    kernel = length(shapes, "up1.up_conv1.deconv.weight", axis=2)
    scale = next((scale for scale, (side, *_) in PROJECTIONS.items() if side == kernel), None)
    if scale is None:
        raise ValueError(f"its projections are {kernel} pixels wide")
    return {
        "scale": scale,
        "channels": length(shapes, "feat1.conv.weight"),
        "first_channels": length(shapes, "feat0.conv.weight"),
        # The numbers of units begin with 1.
        "stages": count(shapes, "up#.up_conv1.deconv.weight") - 1,
    }


PEER = Peer(
    name="DBPN",
    reference="Haris et al. 2018, CVPR",
    build=DBPN,
    deduce=deduce,
    published=partial(renamed, table=NAMES),
)
